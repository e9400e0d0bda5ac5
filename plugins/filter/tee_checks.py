# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter of the preflight: from what tee_info found to what the table, the page and the gate need."""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.plugin_utils import preflight_view
from ansible_collections.attested.ai.plugins.plugin_utils.filter_guard import guarded, unlazy

DOCUMENTATION = r"""
name: tee_checks
short_description: Bring the findings of tee_info on many hosts together
version_added: 0.1.0
author: attested.ai contributors (@attested-ai)
description:
  - Takes C(hostvars), and returns the findings of each host with the worst first, rows for M(attested.ai.summary_table), and whether all are ready.
  - A host without a result, such as one that was not reached, is not ready. It is never left out.
positional: _input, hosts, variable
options:
  _input:
    description: The variable C(hostvars).
    type: dict
    required: true
  hosts:
    description: Names of the hosts, usually C(ansible_play_hosts_all).
    type: list
    elements: str
    required: true
  variable:
    description: Name of the variable that M(attested.ai.tee_info) registered.
    type: str
    required: true
  waivers:
    description: Probes that may fail or stay unknown, as a dictionary of their ids and the reasons. They are shown as V(waived).
    type: dict
    default: {}
seealso:
  - module: attested.ai.tee_info
  - module: attested.ai.summary_table
"""

EXAMPLES = r"""
- name: Look at the machines
  attested.ai.tee_info:
  become: true
  register: tee

- name: Show what does not work
  attested.ai.summary_table:
    columns:
      - {key: host, title: Host}
      - {key: outcome, title: Outcome}
      - {key: check, title: Check}
      - {key: found, title: Found and what helps}
    outcome: outcome
    rows: "{{ (hostvars | attested.ai.tee_checks(ansible_play_hosts_all, 'tee')).rows }}"
"""

RETURN = r"""
_value:
  description:
    - C(schema), C(ready) (whether all hosts are), C(hosts), C(rows) and C(unused_waivers).
    - Each host has C(host), C(scope), C(tee), C(verdict), C(reason), C(machine), C(identity), C(checks) and C(counts).
  type: dict
"""


@guarded
def tee_checks(hostvars: t.Any, hosts: t.Sequence[str], variable: str, waivers: t.Any = None) -> dict[str, t.Any]:
    names = [str(host) for host in hosts]
    # Only what is needed is taken out of hostvars, which holds everything that is known of all hosts.
    found = {name: {variable: unlazy(hostvars[name].get(variable))} for name in names if name in hostvars}
    return preflight_view.view(found, names, variable, unlazy(waivers or {}))


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"tee_checks": tee_checks}
