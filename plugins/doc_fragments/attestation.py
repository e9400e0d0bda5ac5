# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Options of every action that attests a guest."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  policy:
    description:
      - The appraisal policy, as a dictionary or as the path of a YAML or JSON file on the controller.
      - Unknown keys are errors. See the policy reference in the collection's C(docs/policy-reference.md).
    type: raw
    required: true
  reference_values:
    description:
      - The launch measurements that are good, as a dictionary or as the path of a YAML or JSON file on the controller.
      - Without a match the guest is refused, unless the policy says C(measurements_required=false).
    type: raw
  certificates:
    description:
      - Files on the controller with certificates (PEM or DER) for the path from the evidence to a pinned root, such as the
        chip's VCEK fetched beforehand. Certificates that the guest sends are used as path material too.
      - None of these is trusted for being here. The path must end at a pinned root.
    type: list
    elements: path
    default: []
  crl:
    description: File on the controller with the certificate revocation list (PEM or DER) of the product's root.
    type: path
  collateral:
    description:
      - Collateral on the controller, directories that M(attested.ai.collateral) keeps, signed bundles, or single files.
      - It may hold chip certificates, revocation lists, Intel's TCB information, NVIDIA's manifests and OCSP responses, CPAKs of CCA platforms.
      - Nothing in it is trusted for being here. What an appraisal uses of it must lead to a pinned root.
    type: list
    elements: path
    default: []
  collateral_key:
    description: The public key of the signer of bundles in O(collateral), as JWK or as the path of a file with a JWK or PEM.
    type: raw
  at:
    description:
      - Evaluation time in RFC 3339, for archived evidence and for tests. The default is the controller's clock.
    type: str
  tsm_path:
    description: Directory of the report interface on the guest.
    type: path
    default: /sys/kernel/config/tsm/report
  method:
    description:
      - How the guest collects. V(auto) takes configfs-tsm; where that is missing, the ioctl of O(device); and where that is missing too,
        O(tpm_device) as confidential guests of Azure have it (V(azure)).
    type: str
    choices: [auto, configfs, ioctl, azure]
    default: auto
  device:
    description: Character device for the ioctl on the guest.
    type: path
    default: /dev/sev-guest
  tpm_device:
    description: The TPM of the guest, for O(method=azure).
    type: path
    default: /dev/tpmrm0
  privlevel:
    description: Privilege level (VMPL) to ask the report for. The default leaves it to the provider.
    type: int
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
  ssh_dir:
    description: Directory on the guest with the configuration and the host keys of its SSH server.
    type: path
    default: /etc/ssh
"""
