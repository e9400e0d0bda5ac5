#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_guest_info
short_description: Tell what the GPUs of a confidential guest need, and name what keeps them from working
version_added: 0.1.0
description:
  - Looks at the NVIDIA GPUs and NVSwitches that a guest was given, and says what follows from them. That is the mode, the options of the kernel
    module, and whether fabric manager belongs here.
  - Looks at driver, crypto, persistence, mode and ready state, and names known failures by the words in which kernel log, C(nvidia-smi) and CUDA tell of them.
  - Nothing is changed. C(nvidia-smi) is only run where the driver is loaded, because the first program that touches a GPU in
    confidential mode starts its session.
  - All answers are claims of the guest. Only evidence says what a GPU is, see M(attested.ai.attest).
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
  nvidia_smi:
    description: NVIDIA's tool, a name or a path.
    type: str
    default: nvidia-smi
  application_output:
    description: What a program printed that failed on the GPU, to name its reason, too.
    type: str
    default: ""
  root:
    description: Folder that stands for C(/) when files are read, such as that of a mounted image. Programs are run on this machine all the same.
    type: path
    default: /
notes:
  - Run it as root (C(become)). Python's standard library is enough on the machine.
seealso:
  - module: attested.ai.gpu_ready_state
  - module: attested.ai.attest
"""

EXAMPLES = r"""
- name: Look at the GPUs of this guest
  attested.ai.gpu_guest_info:
  become: true
  register: gpus

- name: Name the reason why a program failed
  attested.ai.gpu_guest_info:
    application_output: "{{ engine.stderr }}"
  become: true
  register: why
"""

RETURN = r"""
topology:
  description:
    - C(kind) is V(single), V(ppcie) (a whole Hopper board), V(multi) (several of Blackwell) or V(none), then with C(problem) and C(fix).
    - C(options) are those of the kernel module nvidia, C(fabric_manager) whether it belongs into this guest. Also C(architecture), C(gpus) and C(switches).
  returned: success
  type: dict
  sample: {kind: single, architecture: hopper, gpus: 1, switches: 0, options: [NVreg_NvLinkDisable=1], fabric_manager: false, problem: "", fix: ""}
devices:
  description: C(bdf), C(kind), C(model) and C(driver) of each GPU and switch.
  returned: success
  type: list
  elements: dict
  sample:
    - {bdf: "0000:01:00.0", kind: gpu, model: H100, driver: nvidia}
cloud:
  description: Where the guest runs, as of RV(attested.ai.tee_guest_info#module:cloud).
  returned: success
  type: str
  sample: azure
driver:
  description: C(version) of the kernel module that is loaded, and whether it is the C(open) one. Empty and null without one.
  returned: success
  type: dict
  sample: {version: 580.95.05, open: true}
lkca:
  description: Names under which this kernel has the crypto that the driver needs.
  returned: success
  type: list
  elements: str
  sample: [ecdh_generic, ecdsa_generic]
mode:
  description: V(on), V(devtools), V(ppcie) or V(off), as the driver says. Null where it does not.
  returned: success
  type: str
  sample: "on"
cpu:
  description: What the driver takes the CPU's TEE for.
  returned: success
  type: str
  sample: INTEL TDX
ready:
  description: Whether the GPUs take work. Null where the driver does not say.
  returned: success
  type: bool
  sample: false
persistence:
  description: Whether nvidia-persistenced runs. Null where systemd does not tell.
  returned: success
  type: bool
  sample: true
log_complete:
  description: Whether the kernel log of this boot is whole. If not, a failure that it does not name may have been there.
  returned: success
  type: bool
  sample: true
findings:
  description: Known failures with C(id), C(what), the C(line) that tells and C(where) it stands, the C(fix), the C(source) of the words, and a C(mark).
  returned: success
  type: list
  elements: dict
  sample:
    - id: session-lost
      what: "the GPU was initialised and left again since its last reset: in confidential mode that works once"
      where: kernel log
      line: "NVRM: osInitNvMapping: *** Cannot attach gpu"
      fix: Have nvidia-persistenced start before anything else touches the GPU
      source: nvtrust#128, nvtrust#124, aleph-vm#1271
      mark: ""
verdict:
  description: V(ready) if no probe failed and none is unknown, V(not-ready) if one failed, otherwise V(unknown). The ready state is not part of it.
  returned: success
  type: str
  sample: ready
counts:
  description: Number of probes by outcome.
  returned: success
  type: dict
  sample: {pass: 7, fail: 0, unknown: 0, skipped: 0}
probes:
  description: The probes, in the form of RV(attested.ai.tee_info#module:probes).
  returned: success
  type: list
  elements: dict
  sample:
    - id: gpu-guest.mode
      area: mode
      outcome: pass
      observed: "on, and on is wanted for 1 GPUs"
      expected: all GPUs are in the mode of this topology
      source: nvidia-smi conf-compute -q
      fix: ""
code:
  description: A stable word for the reason of a failure.
  returned: failure
  type: str
  sample: gpu-denied
"""

from typing import NoReturn, Sequence, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.target.gpu_guest.look import look
from ansible_collections.attested.ai.plugins.module_utils.target.probes.local import LocalHost

ARGUMENT_SPEC = {
    "nvidia_smi": {"type": "str", "default": "nvidia-smi"},
    "application_output": {"type": "str", "default": ""},
    "root": {"type": "path", "default": "/"},
}


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    options = module.params
    module.run_command_environ_update = {"LANG": "C", "LC_ALL": "C"}

    def run(argv: Sequence[str]) -> Tuple[int, str]:
        rc, out, err = module.run_command(list(argv), handle_exceptions=False, errors="replace")
        return rc, out + err if argv[0] == options["nvidia_smi"] else out

    try:
        host = LocalHost(run, options["root"].rstrip("/"))
        module.exit_json(changed=False, **look(host, options["nvidia_smi"], options["application_output"]))
    except AttestedError as error:
        module.fail_json(msg=str(error), code=error.code)


if __name__ == "__main__":
    main()
