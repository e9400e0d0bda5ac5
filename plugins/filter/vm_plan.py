# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters for confidential VMs: the plan of a guest on a host, and the guest policy of SEV-SNP as a number."""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.module_utils.vm import policy
from ansible_collections.attested.ai.plugins.plugin_utils import vm_plan as core
from ansible_collections.attested.ai.plugins.plugin_utils.filter_guard import guarded, unlazy

DOCUMENTATION = r"""
name: vm_plan
short_description: Decide whether a confidential VM may start on a host, and make its definition
version_added: 0.1.0
author: attested.ai contributors (@attested-ai)
description:
  - Takes the description of a guest and what M(attested.ai.vm_host_info) found on the host. Returns every reason against starting it, the definition for
    libvirt or for QEMU and systemd, and what the configuration field of the report will hold.
  - It reads and changes nothing. The role P(attested.ai.confidential_vm#role) uses it.
positional: _input, host
options:
  _input:
    description:
      - The description, with C(name), C(tee), C(vcpus), C(memory_mib), C(cpu), C(firmware), C(boot), C(kernel), C(initrd), C(cmdline), C(disks), C(network) and
        so on, see the collection's C(docs/confidential-vms.md). Unknown members are errors.
    type: dict
    required: true
  host:
    description: What M(attested.ai.vm_host_info) returned.
    type: dict
    required: true
  driver:
    description: Who runs the guest.
    type: str
    choices: [libvirt, qemu]
    default: libvirt
  digests:
    description: SHA-256 digests that files on the host must have, by path.
    type: dict
    default: {}
  config:
    description: Settings of yours that the report shall vouch for. A dictionary.
    type: dict
    default: {}
  init_data:
    description: Text whose digest the report carries in the place of the description and O(config), such as init-data of Confidential Containers.
    type: str
  debug_confirm:
    description: Equal to the guest's name, a policy that allows debugging is not refused.
    type: str
    default: ""
  running:
    description: Whether this very guest runs already, so that its own ports and memory are not in the way.
    type: bool
    default: false
  coming:
    description: Files that the caller brings before the start, so that it does not matter that they are not there yet.
    type: list
    elements: str
    default: []
  runner:
    description: User that the unit of systemd runs QEMU as.
    type: str
    default: root
seealso:
  - module: attested.ai.vm_host_info
"""

EXAMPLES = r"""
- name: What would stand against it?
  ansible.builtin.debug:
    msg: "{{ (description | attested.ai.vm_plan(host)).refusals }}"
"""

RETURN = r"""
_value:
  description:
    - C(refusals), each with C(id), C(what) and C(fix). C(notes). C(protection) is V(tdx), V(sev-snp), V(cca) or V(unprotected), C(chain_end) says how
      far a measurement that fits vouches.
    - C(definition) is the text, C(digest) what tells it from others, C(config_document) and C(config) what the report carries.
  type: dict
"""


@guarded
def vm_plan(*values: t.Any, **options: t.Any) -> dict[str, t.Any]:
    return core.vm_plan(*unlazy(values), **unlazy(options))


@guarded
def snp_policy(flags: t.Any) -> int:
    return policy.snp_policy(unlazy(flags))


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"vm_plan": vm_plan, "snp_policy": snp_policy}
