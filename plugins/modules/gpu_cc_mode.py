#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_cc_mode
short_description: Set the confidential mode of a host's GPUs and NVSwitches, all or none
version_added: 0.1.0
description:
  - Brings GPUs and NVSwitches into one mode of confidential computing with NVIDIA's gpu-admin-tools, verifies it by a second reading, and takes
    everything back if a device fails.
  - What is to be done is planned whole before anything is done. It is refused while somebody uses a device, while a driver of the host holds one, with GPUs
    of several generations, with an HGX baseboard that is not whole, for a mode that the devices do not have, under kernel lockdown, and where NVIDIA's GPU
    Operator owns the mode.
  - Directly before each device is set it is looked once more whether somebody uses it, and VFIO groups are held open
      meanwhile, so that no machine can take them.
  - A run that was killed leaves a record on the host. The next run knows it and repairs what was left, states as V(invalid) included.
  - Where neither the old nor the new mode can be reached for all devices, the host is quarantined, and later runs refuse until O(clear_quarantine).
  - In the mode V(on) each Hopper GPU goes to a machine of its own; eight of them in one machine take V(ppcie), with their NVSwitches. Several Blackwell GPUs
    in one machine take V(on).
author:
  - attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
attributes:
  check_mode:
    support: full
    details: Devices are read, and nothing is set. What would be refused is refused.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  mode:
    description:
      - The mode that the GPUs shall be in. NVSwitches go along. They are on with V(ppcie), and off with all others.
      - V(devtools) lets developers profile and debug, so nothing confidential may be on such a GPU.
    type: str
    required: true
    choices: ["off", "on", devtools, ppcie]
  devices:
    description:
      - PCI addresses of the devices to set, such as V(0000:3a:00.0). All devices of the host by default.
      - NVIDIA supports no host of which only some GPUs are in a confidential mode, so the others must be in this mode already.
    type: list
    elements: str
    default: []
  allow_partial:
    description: Set O(devices) even if the other devices of the host are in another mode.
    type: bool
    default: false
  tool:
    description:
      - Folder of NVIDIA's gpu-admin-tools on the host, as the role C(gpu_cc_host) installs it. It runs as root, so its files are compared with a
        digest first, and must not be writable by others.
    type: path
    required: true
  tool_sha256:
    description:
      - Digest of the files in O(tool). In a checkout of the commit that you trust, C(git ls-files | LC_ALL=C sort | xargs sha256sum | sha256sum) tells it.
      - Not needed for the releases that the collection knows, v2025.07.21 and v2025.10.20.
    type: str
    default: ""
  expect_gpus:
    description: Number of GPUs that the host must have. One that fell off the bus is noticed by that.
    type: int
  expect_switches:
    description: Number of NVSwitches that the host must have.
    type: int
  hgx_firmware:
    description: Version of the firmware of the HGX baseboard, as its management controller tells it. V(ppcie) is refused if it is too old.
    type: str
    default: ""
  architectures:
    description: Architectures of devices that the collection does not know yet, as a dictionary of PCI device ids, such as C({"0x2bb5":blackwell}).
    type: dict
    default: {}
  clear_quarantine:
    description: Go on although the host is quarantined. Cut its power and start it before.
    type: bool
    default: false
  timeout:
    description: Seconds for one run of the tool. One that takes longer is ended and counts as failed.
    type: int
    default: 120
notes:
  - Run it as root (C(become)). Python's standard library is enough on the host.
  - It was run against a double of the tool that keeps state per device, and the parser of the tool's arguments against the real one; never against a real GPU.
  - Switching on, off and on again can leave a measurement that only a reboot of the host mends (index 52, seen with RTX PRO 6000). RV(reboot_advised) is true
    after each switch.
seealso:
  - module: attested.ai.gpu_cc_info
"""

EXAMPLES = r"""
- name: One GPU
  attested.ai.gpu_cc_mode:
    mode: "on"
    tool: /opt/attested-ai/gpu-admin-tools
  become: true

- name: Eight H100 and their NVSwitches for one machine
  attested.ai.gpu_cc_mode:
    mode: ppcie
    tool: /opt/attested-ai/gpu-admin-tools
    expect_gpus: 8
    expect_switches: 4
    hgx_firmware: 1.8.0
  become: true

- name: Back to normal, after the cause of a quarantine was removed
  attested.ai.gpu_cc_mode:
    mode: "off"
    tool: /opt/attested-ai/gpu-admin-tools
    clear_quarantine: true
  become: true
"""

RETURN = r"""
state:
  description:
    - V(as-wanted) if nothing was to be done, V(switched), or V(repaired) after an earlier run that did not end. In check mode it is what would be.
    - On failure V(refused) if nothing was touched, V(rolled-back) if all devices are as they were, V(quarantined) if they are not, V(unrecorded) if all
      are in the mode and the host's disk does not take the record of it.
  returned: always
  type: str
  sample: switched
mode:
  description: The mode that was asked for.
  returned: success
  type: str
  sample: ppcie
devices:
  description: Each device with the mode before and after, and the calls of the tool that bring it there.
  returned: success, and failure after something was touched
  type: list
  elements: dict
  sample:
    - {device: "0000:3a:00.0", kind: gpu, model: H100, before: "off", after: "on", pending: "on", wanted: "on", source: read,
       steps: ["--devices 0000:3a:00.0 --set-cc-mode=on --reset-after-cc-mode-switch"]}
reboot_advised:
  description: Whether a device was reset into another mode, after which a reboot of the host is the only cure for some mismatches of measurements.
  returned: success
  type: bool
  sample: true
tool:
  description: Digest and, where it is known, commit of the tool that was used.
  returned: success
  type: dict
  sample: {sha256: e620427402253d61ced6c7af44cef6b61084b895fefa0b0026cb04886d929d8c, commit: 82422cc1811cf7d04b69733cef3fa46e4144e203}
code:
  description:
    - A stable word for the reason of a failure. V(gpu-none), V(gpu-vanished), V(gpu-lost), V(gpu-unknown), V(gpu-virtual), V(gpu-mixed),
      V(gpu-topology), V(gpu-mode-unsupported), V(gpu-partial), V(gpu-firmware), V(gpu-busy), V(gpu-driver), V(gpu-lockdown), V(gpu-owned),
      V(gpu-out-of-band), V(gpu-quarantined), V(gpu-locked), V(gpu-state-file), V(gpu-denied), V(gpu-address).
    - Of the tool V(gpu-tool-missing), V(gpu-tool-checksum), V(gpu-tool-version), V(gpu-tool-hung), V(gpu-tool-failed), V(gpu-broken),
      V(gpu-firmware-refused), V(gpu-not-switched), V(gpu-reset-failed), V(gpu-no-answer).
  returned: failure
  type: str
  sample: gpu-busy
"""

from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.target.gpu import pin, switch, work
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.machine import LocalBench
from ansible_collections.attested.ai.plugins.module_utils.target.probes.local import LocalHost

ARGUMENT_SPEC = {
    "mode": {"type": "str", "required": True, "choices": ["off", "on", "devtools", "ppcie"]},
    "devices": {"type": "list", "elements": "str", "default": []},
    "allow_partial": {"type": "bool", "default": False},
    "tool": {"type": "path", "required": True},
    "tool_sha256": {"type": "str", "default": ""},
    "expect_gpus": {"type": "int"},
    "expect_switches": {"type": "int"},
    "hgx_firmware": {"type": "str", "default": ""},
    "architectures": {"type": "dict", "default": {}},
    "clear_quarantine": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 120},
}


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    options = module.params
    try:
        sha256, commit = pin.check(options["tool"], options["tool_sha256"])
        bench = LocalBench(options["tool"], options["timeout"])
        with bench.alone(create=not module.check_mode):
            plan = work.prepare(LocalHost(), bench.ask, bench.holders, bench.load(), work.wish(options), options["timeout"])
            change = plan.change
            outcome = switch.planned(change) if module.check_mode else switch.apply(bench, change)
        for warning in plan.warnings:
            module.warn(warning)
        module.exit_json(
            changed=change.needed or change.repair, state=outcome.state, mode=options["mode"], devices=list(outcome.devices), reboot_advised=change.needed,
            tool={"sha256": sha256, "commit": commit}, diff={"before": change.text(False), "after": change.text(True)},
        )  # fmt: skip
    except AttestedError as error:
        module.fail_json(msg=str(error), code=error.code, state=getattr(error, "state", switch.REFUSED), devices=getattr(error, "devices", []))


if __name__ == "__main__":
    main()
