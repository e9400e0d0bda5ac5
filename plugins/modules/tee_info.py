#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: tee_info
short_description: Tell whether a machine is a working TEE host or guest, and if not, why not and what to do
version_added: 0.1.0
description:
  - Looks at CPU, BIOS settings, kernel, IOMMU, firmware and services, and answers one question per probe, with what was seen, what was
    expected, where, and the step that helps.
  - What cannot be read is V(unknown), with the reason. It is never guessed from the model of the CPU.
  - Nothing is changed on the machine. No module of the kernel is loaded, no service is started, and none is talked to but libvirt where it runs,
    unless O(online=true).
  - It runs C(systemctl show), C(systemd-detect-virt), C(journalctl), C(qemu-system -object help), C(virsh domcapabilities) and C(snphost ok) where they
    are installed. All of them only read.
  - All answers are claims of the machine about itself. They help to set it up, and prove nothing; evidence does,
    see M(attested.ai.attest).
author:
  - attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
attributes:
  check_mode:
    support: full
    details: Nothing is changed, so it does the same in check mode.
  diff_mode:
    support: N/A
    details: Nothing is changed.
  idempotent:
    support: N/A
    details: Nothing is changed.
options:
  scope:
    description:
      - Whether to look at a machine that shall run confidential guests, or at one that shall be a confidential guest.
      - V(auto) is V(guest) in a virtual machine, and V(host) elsewhere.
    type: str
    choices: [auto, host, guest]
    default: auto
  tee:
    description:
      - The TEE that a host shall have. Guests tell by themselves.
      - V(auto) follows the CPU. It is V(tdx) on Intel, V(snp) on AMD, V(cca) on Arm.
      - V(cca) is experimental, because no released kernel has KVM for it.
    type: str
    choices: [auto, tdx, snp, cca]
    default: auto
  areas:
    description: Only probes of these areas. Without it, all.
    type: list
    elements: str
    choices: [bios, cpu, firmware, guest, iommu, kernel, module, quoting, sgx, vmm]
    default: []
  kvm_capability:
    description:
      - The number under which the running kernel knows KVM's capability for realms, C(KVM_CAP_ARM_RMI) in its C(include/uapi/linux/kvm.h).
      - Only for CCA hosts whose kernel neither shows it as a parameter of C(kvm) nor has its headers installed. It differs between
        series of the patches, so there is no default.
    type: int
  online:
    description:
      - Whether services are asked, too. On TDX hosts QGS is asked who the platform is, and the PCCS that QCNL is told for Intel's root revocation list and for
        this platform's certificate, as QCNL itself does for each quote.
      - A PCCS in its LAZY mode asks Intel for what it does not have.
    type: bool
    default: false
  record:
    description:
      - Return a recording of all that was read, too, so that it can be judged elsewhere with O(recording) or sent with a report.
      - It holds the kernel command line, the lines of the kernel log that concern TEEs, and some files under C(/etc) and C(/var/log).
    type: bool
    default: false
  recording:
    description: Judge this recording instead of the machine.
    type: dict
notes:
  - Run it as root (C(become)), with the kernel modules C(msr) and C(cpuid) loaded. Otherwise much is V(unknown).
  - Python's standard library is enough on the machine.
seealso:
  - plugin: attested.ai.tee_checks
    plugin_type: filter
  - name: Role attested.ai.preflight
    description: The same for many hosts, as a table and as files, and as a gate.
    link: https://github.com/attested-ai/attested.ai
"""

EXAMPLES = r"""
- name: Look at the machine
  attested.ai.tee_info:
  become: true
  register: tee

- name: Stop unless it is a working TDX host
  ansible.builtin.assert:
    that: tee.verdict == 'ready'

- name: Look only at what the BIOS decides
  attested.ai.tee_info:
    scope: host
    tee: snp
    areas: [cpu, bios, iommu]
  become: true

- name: Ask a CCA host whose kernel does not tell the number of the capability
  attested.ai.tee_info:
    scope: host
    tee: cca
    kvm_capability: 251
  become: true

- name: Judge a recording from somewhere else
  attested.ai.tee_info:
    recording: "{{ lookup('ansible.builtin.file', 'host1.json') | ansible.builtin.from_json }}"
    scope: host
"""

RETURN = r"""
scope:
  description: V(host) or V(guest), as asked for or found.
  returned: success
  type: str
  sample: host
tee:
  description: The TEE that was looked for on a host (V(tdx), V(snp), V(cca)), or that a guest claims to run in (also V(sev-snp), V(sev), V(none), V(unknown)).
  returned: success
  type: str
  sample: tdx
verdict:
  description: V(ready) if no probe failed and none is unknown, V(not-ready) if one failed, otherwise V(unknown).
  returned: success
  type: str
  sample: not-ready
counts:
  description: Number of probes by outcome.
  returned: success
  type: dict
  sample: {pass: 20, fail: 1, unknown: 0, skipped: 4}
machine:
  description: Architecture, kernel, CPU, whether it is virtual, kernel lockdown and secure boot. What cannot be read is null.
  returned: success
  type: dict
  sample: {architecture: x86_64, kernel: 6.17.0-5-generic, cpu: INTEL(R) XEON(R) GOLD 6526Y, virtual: false, lockdown: null, secure_boot: false}
identity:
  description:
    - What is there of the TEE. On TDX hosts C(tdx_module) with version, build, date, and MRSEAM and SVN of published modules, and
      C(tdx_platform) with keys and loader. On SEV-SNP hosts C(product), C(snp_cpu), C(snp_firmware), C(snp_kernel), and C(snp_vceks), which is what
      O(attested.ai.collateral#module:amd) takes to fetch the certificates of all sockets. On CCA hosts C(rmi) and C(kvm_capability). In guests C(tee),
      C(provider), C(flags), C(sev_features), C(swiotlb), C(rtmrs) and C(measurements).
  returned: success
  type: dict
  sample:
    tdx_module: {version: 1.5.08, build: 784, date: "20240725", published: true, svn: 7, mrseam: 49b66faa451d19eb}
notes:
  description: Limits of such hosts that no setting lifts. Empty for guests.
  returned: success
  type: list
  elements: str
  sample: [A TDX host neither sleeps (S3) nor hibernates while TDX is on.]
probes:
  description: The probes, in the order in which they depend on one another.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Stable name of the probe.
      type: str
    area:
      description: What it is about, one of the choices of O(areas).
      type: str
    outcome:
      description: V(pass), V(fail), V(unknown) for what could not be read, V(skipped) for what does not apply.
      type: str
    observed:
      description: What was seen, or why nothing was.
      type: str
    expected:
      description: What a working machine has.
      type: str
    source:
      description: Where it was looked up.
      type: str
    fix:
      description: The step that helps. Empty where none is needed.
      type: str
  sample:
    - id: tdx.kernel-nohibernate
      area: kernel
      outcome: fail
      observed: "the kernel gave up: Hibernation support is enabled"
      expected: hibernation is off
      source: /proc/cmdline, /sys/power/state, kernel log
      fix: Add nohibernate to the kernel command line, and reboot
recording:
  description: All that was read. A dictionary of the schema C(attested.ai/tee-recording/1).
  returned: when O(record=true)
  type: dict
  sample: {schema: attested.ai/tee-recording/1, kernel: 6.17.0-5-generic, architecture: x86_64}
code:
  description: A stable word for the reason of a failure, V(recording-invalid).
  returned: failure
  type: str
  sample: recording-invalid
"""

from typing import NoReturn, Sequence, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.target.probes.local import LocalHost
from ansible_collections.attested.ai.plugins.module_utils.target.probes.recording import RecordedHost, Recorder
from ansible_collections.attested.ai.plugins.module_utils.target.probes.survey import survey

ARGUMENT_SPEC = {
    "scope": {"type": "str", "choices": ["auto", "host", "guest"], "default": "auto"},
    "tee": {"type": "str", "choices": ["auto", "tdx", "snp", "cca"], "default": "auto"},
    "areas": {
        "type": "list",
        "elements": "str",
        "choices": ["bios", "cpu", "firmware", "guest", "iommu", "kernel", "module", "quoting", "sgx", "vmm"],
        "default": [],
    },
    "kvm_capability": {"type": "int"},
    "online": {"type": "bool", "default": False},
    "record": {"type": "bool", "default": False},
    "recording": {"type": "dict"},
}


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    options = module.params
    module.run_command_environ_update = {"LANG": "C", "LC_ALL": "C"}

    def run(argv: Sequence[str]) -> Tuple[int, str]:
        rc, out, _err = module.run_command(list(argv), handle_exceptions=False, errors="replace")
        return rc, out

    try:
        host = RecordedHost(options["recording"]) if options["recording"] is not None else LocalHost(run)
        recorder = Recorder(host)
        found = survey(recorder, options["scope"], options["tee"], options["areas"], options["kvm_capability"], options["online"]).to_dict()
        if options["record"]:
            found["recording"] = recorder.document()
        module.exit_json(changed=False, **found)
    except AttestedError as error:
        module.fail_json(msg=str(error), code=error.code)


if __name__ == "__main__":
    main()
