#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: kernel_module_reload
short_description: Tell whether kernel modules have their parameters, and load them anew where nothing uses them
version_added: 0.1.0
description:
  - Compares the parameters that loaded modules of the kernel show with those that they shall have.
  - A module that may be loaded anew and that nothing uses, such as C(kvm_intel) while no virtual machine runs, is removed and loaded again, so that it
    takes what stands in C(/etc/modprobe.d). One that is in use stays.
author:
  - attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
    details: Until a module does not take a parameter. Then it is loaded anew each time.
options:
  modules:
    description: Names of modules, with their parameters as C(name=value). Y, y, 1 and on are the same, as are N, n, 0 and off.
    type: dict
    required: true
  reload:
    description: Which of them may be loaded anew.
    type: list
    elements: str
    default: []
notes:
  - Run it as root (C(become)).
seealso:
  - module: attested.ai.kernel_cmdline
"""

EXAMPLES = r"""
- name: Let KVM take its new parameter, if no virtual machine runs
  attested.ai.kernel_module_reload:
    modules: {kvm_intel: [tdx=1]}
    reload: [kvm_intel]
  become: true
  register: kvm

- name: Otherwise reboot
  ansible.builtin.reboot:
  become: true
  when: not kvm.holds
"""

RETURN = r"""
holds:
  description: Whether all parameters are shown, with these values.
  returned: success
  type: bool
  sample: true
wrong:
  description: Parameters with another value.
  returned: success
  type: list
  elements: str
  sample: [kvm_intel tdx=1]
unknown:
  description: Parameters of modules that are not loaded, or that do not show them.
  returned: success
  type: list
  elements: str
  sample: []
busy:
  description: Modules with a wrong parameter that something uses.
  returned: success
  type: list
  elements: str
  sample: [kvm_intel]
reloaded:
  description: Modules that were loaded anew, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: []
code:
  description: A stable word for the reason of a failure, V(host) or V(module-lost).
  returned: failure
  type: str
  sample: module-lost
"""

from typing import NoReturn, Sequence, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.target.kmod import load_anew, look
from ansible_collections.attested.ai.plugins.module_utils.target.probes.local import LocalHost

ARGUMENT_SPEC = {"modules": {"type": "dict", "required": True}, "reload": {"type": "list", "elements": "str", "default": []}}


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.run_command_environ_update = {"LANG": "C", "LC_ALL": "C"}

    def run(argv: Sequence[str]) -> Tuple[int, str]:
        program = module.get_bin_path(argv[0], opt_dirs=["/usr/sbin", "/sbin"], required=True)
        rc, _out, err = module.run_command([program, *argv[1:]], errors="replace")
        return rc, err

    try:
        host = LocalHost()
        modules = {str(name): [str(value) for value in values] for name, values in module.params["modules"].items()}
        found = look(host, modules)
        able = [name for name in found.idle if name in module.params["reload"]]
        done = able if module.check_mode else [name for name in able if load_anew(run, name)]
        if done and not module.check_mode:
            found = look(host, modules)
        module.exit_json(
            changed=bool(done), holds=found.holds, wrong=list(found.wrong), unknown=list(found.unknown), busy=list(found.busy), reloaded=done,
        )  # fmt: skip
    except AttestedError as error:
        module.fail_json(msg=str(error), code=error.code)


if __name__ == "__main__":
    main()
