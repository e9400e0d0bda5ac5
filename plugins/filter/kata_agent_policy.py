# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters of the policy of Kata's agent: refuse one that is open, and tell what one lets in."""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.module_utils.kbs import agent_policy as core
from ansible_collections.attested.ai.plugins.plugin_utils.filter_guard import guarded

DOCUMENTATION = r"""
name: kata_agent_policy
short_description: Refuse a policy of Kata's agent that opens the guest to the host
version_added: 0.1.0
author: attested.ai contributors (@attested-ai)
description:
  - Takes the text of a policy, as genpolicy makes it from a pod, and returns it unchanged if it is closed. Fails if it allows, without a condition, what
    gives the guest to the host, such as commands in containers or any container at all.
  - It sees what is allowed without a condition. Whether the conditions are the right ones is what genpolicy is for, run in a trusted place.
positional: _input, allow
options:
  _input:
    description: The policy.
    type: str
    required: true
  allow:
    description: Requests that may be open, by name, such as V(ReadStreamRequest) for logs.
    type: list
    elements: str
    default: []
seealso:
  - plugin: attested.ai.kata_agent_policy_info
    plugin_type: filter
  - plugin: attested.ai.initdata
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Take the policy that genpolicy made, logs allowed
  ansible.builtin.set_fact:
    policy: "{{ lookup('file', 'agent-policy.rego', rstrip=false) | attested.ai.kata_agent_policy(allow=['ReadStreamRequest']) }}"
"""

RETURN = r"""
_value:
  description: The policy, unchanged.
  type: str
"""


@guarded
def kata_agent_policy(value: str, allow: t.Sequence[str] = ()) -> str:
    return core.closed(str(value), [str(name) for name in allow])


@guarded
def kata_agent_policy_info(value: str) -> dict[str, t.Any]:
    return core.look(str(value)).to_dict()


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"kata_agent_policy": kata_agent_policy, "kata_agent_policy_info": kata_agent_policy_info}
