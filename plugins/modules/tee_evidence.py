#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: tee_evidence
short_description: Collect attestation evidence in a confidential guest
version_added: 0.1.0
description:
  - Asks the TEE of the machine that it runs on for a report over a nonce and over the keys to bind, and returns it as an evidence document.
  - The report comes from the kernel's C(configfs-tsm) interface (Linux 6.7), or from the ioctls of C(/dev/sev-guest) on older SEV-SNP guests.
  - What is returned is evidence, not a verdict. Nothing on the guest judges it; appraise it on the controller
    with M(attested.ai.evidence_verify), or do both in one task with M(attested.ai.attest).
author:
  - attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
attributes:
  check_mode:
    support: full
    details: Collecting changes nothing, so it is done in check mode too.
  diff_mode:
    support: N/A
    details: Nothing is changed.
  idempotent:
    support: N/A
    details: Nothing is changed. Each report is a new one.
options:
  nonce:
    description:
      - What makes the evidence fresh. Standard base64 of 16 to 64 bytes.
      - The verifier makes it with a random generator, keeps it, and uses it once.
    type: str
    required: true
  profile:
    description:
      - How nonce and bound keys become the report data.
      - V(attested/1) is for the controller and for clients. It binds what the options below name.
      - V(kbs) is what Trustee's key broker rebuilds. It binds exactly O(tee_pubkey), which it needs.
    type: str
    choices: [attested/1, kbs]
    default: attested/1
  method:
    description:
      - Which interface of the kernel to use.
      - V(auto) uses V(configfs), and V(ioctl) where the kernel has no C(configfs-tsm) and O(device) exists.
        Where neither exists, but O(tpm_device) does, it tries V(azure).
      - V(azure) is for confidential guests under Azure's paravisor, which have a virtual TPM in the place of both.
    type: str
    choices: [auto, configfs, ioctl, azure]
    default: auto
  tsm_path:
    description: Directory in which C(configfs-tsm) makes report entries.
    type: path
    default: /sys/kernel/config/tsm/report
  device:
    description: Device of the SEV-SNP guest driver, for O(method=ioctl).
    type: path
    default: /dev/sev-guest
  tpm_device:
    description: The TPM, for O(method=azure).
    type: path
    default: /dev/tpmrm0
  privlevel:
    description:
      - Privilege level (VMPL) to ask a report for. SEV-SNP only.
      - Without it, the most privileged level that this guest may ask for.
    type: int
    choices: [0, 1, 2, 3]
  tee_pubkey:
    description:
      - Public key (JWK) to bind, for instance the one from M(attested.ai.guest_key). Secrets can then be wrapped to it.
      - EC on C(P-256) or C(P-521) with C(alg=ECDH-ES+A256KW), or RSA with C(alg=RSA-OAEP-256). Private members are refused.
    type: dict
  bind_ssh_host_keys:
    description:
      - Bind the fingerprints of the SSH host keys, so that the verifier can tell that its connection ends inside this TEE.
      - Whether the private keys lie in memory or on a disk is reported as an observation.
    type: bool
    default: false
  ssh_dir:
    description: Directory of C(sshd_config) and the host keys.
    type: path
    default: /etc/ssh
  tls_certificate:
    description: Certificate (PEM or DER) whose public key is bound, as SHA-256 of its SubjectPublicKeyInfo.
    type: path
  gpus:
    description:
      - Whether to collect evidence of the NVIDIA GPUs of the guest, over the same nonce and before that of the CPU, which then covers it.
      - V(none) does not look for GPUs. It is the default, so that loading NVIDIA's library is a decision.
      - V(auto) collects from all of them, unless there is no driver, or confidential computing is off.
      - V(required) fails in these cases. A GPU that gives no report fails both.
    type: str
    choices: [none, auto, required]
    default: none
  switches:
    description:
      - Whether to collect evidence of the NVSwitches of the guest, too. It needs O(gpus).
      - V(auto) does it if the GPUs are in protected PCIe mode, where nothing else protects the links between them.
    type: str
    choices: [none, auto, required]
    default: auto
  nvml_library:
    description: NVIDIA's management library on the guest, a name or a path. It comes with the driver.
    type: str
    default: libnvidia-ml.so.1
  nscq_library:
    description: NVIDIA's library for switches on the guest, a name or a path. It must be of the driver's version.
    type: str
    default: libnvidia-nscq.so.2
  event_log:
    description:
      - Whether to send the event log of the firmware along. TDX only, where the log explains the runtime measurement registers.
      - V(auto) sends it if there is one, V(required) fails if there is none.
    type: str
    choices: [none, auto, required]
    default: auto
  event_log_path:
    description: File with the event log on the guest.
    type: path
    default: /sys/firmware/acpi/tables/data/CCEL
notes:
  - Needs root, because the kernel lets nobody else make report entries.
  - Python's standard library is enough on the guest.
  - Evidence of GPUs and switches alone proves nothing about this guest, because it answers a nonce that can be relayed. The CPU's evidence
    covers it, so both belong into one document.
seealso:
  - module: attested.ai.attest
  - module: attested.ai.evidence_verify
  - module: attested.ai.guest_key
"""

EXAMPLES = r"""
- name: Make a nonce on the controller and keep it
  ansible.builtin.set_fact:
    nonce: "{{ lookup('ansible.builtin.pipe', 'openssl rand -base64 32') }}"

- name: Collect evidence over the nonce and the SSH host keys
  attested.ai.tee_evidence:
    nonce: "{{ nonce }}"
    bind_ssh_host_keys: true
  become: true
  register: collected

- name: Collect evidence for a Trustee key broker
  attested.ai.tee_evidence:
    nonce: "{{ kbs_challenge.nonce }}"
    profile: kbs
    tee_pubkey: "{{ guest_key.jwk }}"
  become: true

- name: Bind the key of the service that clients will talk to
  attested.ai.tee_evidence:
    nonce: "{{ nonce }}"
    tls_certificate: /etc/ssl/certs/inference.pem
  become: true

- name: Collect evidence of the CPU and of all GPUs
  attested.ai.tee_evidence:
    nonce: "{{ nonce }}"
    gpus: required
  become: true
"""

RETURN = r"""
evidence:
  description:
    - The evidence document, of the schema C(attested.ai/evidence/1).
    - C(binding) holds C(tee-pubkey), C(ssh-host-keys) and C(tls-spki), as far as they were asked for.
    - C(items) has one entry per attester, with the raw evidence and auxiliary blobs as base64, shortened in the sample.
      In templates write C(evidence['items']), because C(evidence.items) is a method of dictionaries.
    - C(observations) are claims of the guest. Nothing but a person may rely on them.
  returned: success
  type: dict
  sample:
    schema: attested.ai/evidence/1
    profile: attested/1
    nonce: yUvXa2RVMByXy20LrodwcvHBLCve9F+nn72CUWgmxNc=
    binding:
      ssh-host-keys:
        - SHA256:AkoryTwvN6ZHExv1DGkXqALDHWRSzcteTVyGBoJE9pY
        - SHA256:b7C3aQ1HPkfqMt0V285obM07hFXUcmOFIKBb4kpX7Z0
        - SHA256:t8BKcoMrEaTYUJVE3WZe8lhPP231Epw0QufwO/iv73Q
    items:
      - type: sev-snp
        provider: sev_guest
        evidence: BQAAAAAAAAAAAAMAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
        auxiliary:
          certificates: Y9p1jeZkRWStxfS5O+iszWAAAAAJBQAASrezebusT+Sg
    observations:
      collected_with: configfs-tsm
      generation: 1
      privlevel_floor: 0
      ssh_host_key_storage: disk
devices:
  description:
    - What NVIDIA's libraries say of the devices in the document, in its order. As the guest's word it is for people;
      what is proven stands in the reports.
  returned: success
  type: list
  elements: dict
  sample:
    - type: nvidia-gpu
      index: 0
      uuid: GPU-5f7b2c1e-8d4a-5b6c-9e0f-1a2b3c4d5e6f
      architecture: hopper
      vbios: 96.00.9F.00.01
      driver: 580.95.05
digest:
  description: SHA-256 of the canonical JSON of the document, the name of this evidence in results and ledgers.
  returned: success
  type: str
  sample: 52fea888026db7a147131ea33bcc06cfe4d669bf19edcd9891aa7b00d9ce6d2c
code:
  description:
    - A stable word for the reason of a failure, for instance V(not-a-tee), V(no-configfs), V(no-permission), V(provider-busy),
      V(torn-read), V(empty-report), V(gpu-no-library), V(gpu-cc-off), V(gpu-lost) or V(gpu-timeout).
  returned: failure
  type: str
  sample: not-a-tee
"""

from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.target.collect import Request, collect_all
from ansible_collections.attested.ai.plugins.module_utils.target.signals import signals_as_errors

ARGUMENT_SPEC = {
    "nonce": {"type": "str", "required": True},
    "profile": {"type": "str", "choices": ["attested/1", "kbs"], "default": "attested/1"},
    "method": {"type": "str", "choices": ["auto", "configfs", "ioctl", "azure"], "default": "auto"},
    "tsm_path": {"type": "path", "default": "/sys/kernel/config/tsm/report"},
    "device": {"type": "path", "default": "/dev/sev-guest"},
    "tpm_device": {"type": "path", "default": "/dev/tpmrm0"},
    "privlevel": {"type": "int", "choices": [0, 1, 2, 3]},
    "tee_pubkey": {"type": "dict", "no_log": False},
    "bind_ssh_host_keys": {"type": "bool", "default": False, "no_log": False},
    "ssh_dir": {"type": "path", "default": "/etc/ssh"},
    "tls_certificate": {"type": "path"},
    "gpus": {"type": "str", "choices": ["none", "auto", "required"], "default": "none"},
    "switches": {"type": "str", "choices": ["none", "auto", "required"], "default": "auto"},
    "nvml_library": {"type": "str", "default": "libnvidia-ml.so.1"},
    "nscq_library": {"type": "str", "default": "libnvidia-nscq.so.2"},
    "event_log": {"type": "str", "choices": ["none", "auto", "required"], "default": "auto"},
    "event_log_path": {"type": "path", "default": "/sys/firmware/acpi/tables/data/CCEL"},
}


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    try:
        with signals_as_errors():
            found = collect_all(Request(**module.params))
        document = found.document
        module.exit_json(changed=False, evidence=document.to_dict(), digest=document.digest(), devices=list(found.devices))
    except AttestedError as error:
        module.fail_json(msg=str(error), code=error.code)


if __name__ == "__main__":
    main()
