#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_cc_info
short_description: Tell which GPUs a host has, which confidential mode they are in, and what keeps them from a confidential machine
version_added: 0.1.0
description:
  - Finds NVIDIA GPUs and NVSwitches in sysfs and tells of each the model, architecture, driver, IOMMU group, VFIO node, who uses it, and the
    mode of confidential computing that it is in now and after its next reset.
  - Answers one question per probe about the host, such as whether a driver of its own holds a GPU, whether kernel lockdown hides the registers, and
    whether an HGX baseboard is whole; each with what was seen, where, and the step that helps.
  - Modes are read by NVIDIA's gpu-admin-tools, where O(tool) names it, and are V(unknown) otherwise. A device that somebody uses is never asked, because
    the tool powers it up and talks to its processors; of such a device the mode that M(attested.ai.gpu_cc_mode) verified last is told.
  - All answers are claims of the host about itself. Whether a GPU really is in a mode is proven by its evidence, see M(attested.ai.attest).
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
  tool:
    description: Folder of NVIDIA's gpu-admin-tools on the host, as the role C(gpu_cc_host) installs it.
    type: path
  tool_sha256:
    description: Digest of the files in O(tool), see M(attested.ai.gpu_cc_mode). Not needed for releases that the collection knows.
    type: str
    default: ""
  devices:
    description: PCI addresses that must be there, such as V(0000:3a:00.0). One that is not is told as missing.
    type: list
    elements: str
    default: []
  architectures:
    description: Architectures of devices that the collection does not know yet, as a dictionary of PCI device ids, such as C({"0x2bb5":blackwell}).
    type: dict
    default: {}
  hgx_firmware:
    description: Version of the firmware of the HGX baseboard, as its management controller tells it. The host itself cannot read it.
    type: str
    default: ""
  timeout:
    description: Seconds for one run of the tool.
    type: int
    default: 120
  record:
    description: Return a recording of all that was read, too, so that it can be judged elsewhere with O(recording).
    type: bool
    default: false
  recording:
    description: Judge this recording instead of the host.
    type: dict
notes:
  - Run it as root (C(become)). Otherwise it cannot be told who uses the GPUs, and nothing is asked of them.
  - Python's standard library is enough on the host.
seealso:
  - module: attested.ai.gpu_cc_mode
  - module: attested.ai.tee_info
"""

EXAMPLES = r"""
- name: Look at the GPUs
  attested.ai.gpu_cc_info:
    tool: /opt/attested-ai/gpu-admin-tools
  become: true
  register: gpu

- name: Show them
  attested.ai.summary_table:
    title: GPUs
    columns: [{key: device}, {key: model}, {key: driver}, {key: group, title: IOMMU group}, {key: mode}, {key: outcome}, {key: found}]
    outcome: outcome
    rows: "{{ gpu.rows }}"

- name: Stop unless all GPUs are in Protected PCIe mode
  ansible.builtin.assert:
    that: gpu.mode == 'ppcie'
"""

RETURN = r"""
verdict:
  description: V(ready) if no probe failed and none is unknown, V(not-ready) if one failed, otherwise V(unknown).
  returned: success
  type: str
  sample: ready
mode:
  description: The mode of all GPUs, V(mixed) where they differ, V(unknown) where one is not known.
  returned: success
  type: str
  sample: ppcie
supported:
  description: The mode that NVIDIA supports for these models with one GPU in a machine and with several, and where that is said. Empty where it is none.
  returned: success
  type: dict
  sample: {single: "on", multi: ppcie, source: NVIDIA Confidential Containers Reference Architecture 1.1.0}
devices:
  description: GPUs and NVSwitches, by address.
  returned: success
  type: list
  elements: dict
  contains:
    address:
      description: PCI address.
      type: str
    kind:
      description: V(gpu) or V(switch).
      type: str
    model:
      description: Name of the model.
      type: str
    architecture:
      description: Such as V(hopper). V(unknown) for a device that the collection does not know.
      type: str
    driver:
      description: Driver that it is bound to. Empty for none.
      type: str
    iommu_group:
      description: Number of its IOMMU group. Empty for none.
      type: str
    vfio:
      description: Its node under C(/dev/vfio/devices). Empty for none.
      type: str
    mode:
      description: V(off), V(on), V(devtools), V(ppcie), V(invalid) after an interrupted switch, or V(unknown).
      type: str
    pending:
      description: The mode after the next reset.
      type: str
    mode_source:
      description: V(read), V(remembered) from the last verification, or V(not asked).
      type: str
    users:
      description: Who uses it.
      type: list
      elements: str
    trouble:
      description: Why its mode could not be read.
      type: str
    code:
      description: A stable word for that reason.
      type: str
  sample:
    - {address: "0000:3a:00.0", kind: gpu, model: H100, architecture: hopper, driver: vfio-pci, iommu_group: "40", vfio: vfio0, mode: "on", pending: "on",
       mode_source: read, users: [], trouble: "", code: ""}
users:
  description: Who uses which device. Command lines are not told.
  returned: success
  type: list
  elements: dict
  sample: [{device: "0000:3a:00.0", pid: 4711, kind: virtual machine, name: tenant}]
users_hidden:
  description: Why it cannot be told who uses the devices. Empty if it can.
  returned: success
  type: str
  sample: ""
record:
  description: What the host remembers of switches. Its C(state) is V(settled), V(switching) after an interruption, or V(quarantined).
  returned: success
  type: dict
  sample: {state: settled, desired: "on", since: "2026-11-27T18:00:00Z", reason: "", devices: {"0000:3a:00.0": "on"}}
probes:
  description: The probes, in the form that M(attested.ai.tee_info) has, all of the area C(gpu).
  returned: success
  type: list
  elements: dict
  sample: [{id: gpu.binding, area: gpu, outcome: pass, observed: 12 devices, expected: every device is bound to vfio-pci, source: uevent, fix: ""}]
counts:
  description: Number of probes by outcome.
  returned: success
  type: dict
  sample: {pass: 12, fail: 0, unknown: 1, skipped: 3}
rows:
  description: Rows for M(attested.ai.summary_table), one for each device and one for each probe that failed.
  returned: success
  type: list
  elements: dict
  sample: [{device: "0000:3a:00.0", model: H100, driver: vfio-pci, group: "40", mode: "on", outcome: ok, found: ""}]
recording:
  description: All that was read. A dictionary of the schema C(attested.ai/tee-recording/1) with a section C(gpu).
  returned: when O(record=true)
  type: dict
  sample: {schema: attested.ai/tee-recording/1, kernel: 6.17.0-5-generic, architecture: x86_64, gpu: {tool: {}, holders: []}}
code:
  description: A stable word for the reason of a failure, V(recording-invalid), V(gpu-tool-missing), V(gpu-tool-checksum), V(gpu-address),
    V(gpu-denied), or V(gpu-locked) while a switch is under way.
  returned: failure
  type: str
  sample: gpu-tool-checksum
"""

import contextlib
from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.target.gpu import pin
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.inventory import addresses, architectures
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.machine import LocalBench
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.survey import Kept, recorded, survey
from ansible_collections.attested.ai.plugins.module_utils.target.probes.local import LocalHost
from ansible_collections.attested.ai.plugins.module_utils.target.probes.recording import RecordedHost, Recorder

ARGUMENT_SPEC = {
    "tool": {"type": "path"},
    "tool_sha256": {"type": "str", "default": ""},
    "devices": {"type": "list", "elements": "str", "default": []},
    "architectures": {"type": "dict", "default": {}},
    "hgx_firmware": {"type": "str", "default": ""},
    "timeout": {"type": "int", "default": 120},
    "record": {"type": "bool", "default": False},
    "recording": {"type": "dict"},
}


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    options = module.params
    try:
        recording, bench = options["recording"], LocalBench(options["tool"] or "", options["timeout"])
        if options["tool"] and recording is None:
            pin.check(options["tool"], options["tool_sha256"])
        ask, holders = recorded(recording) if recording is not None else (bench.ask if options["tool"] else None, bench.holders)
        recorder, kept = Recorder(RecordedHost(recording) if recording is not None else LocalHost()), Kept(ask, holders)
        with bench.alone(create=False) if kept.ask and recording is None else contextlib.nullcontext():
            found = survey(
                recorder, kept.ask, kept.holders, architectures(options["architectures"]), addresses(options["devices"]), options["hgx_firmware"],
                options["timeout"],
            )  # fmt: skip
        if options["record"]:
            found["recording"] = dict(recorder.document(), gpu=kept.section())
        module.exit_json(changed=False, **found)
    except AttestedError as error:
        module.fail_json(msg=str(error), code=error.code)


if __name__ == "__main__":
    main()
