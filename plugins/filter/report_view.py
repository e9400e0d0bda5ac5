# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters of the report: from runs to what the page and the file beside it show."""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.plugin_utils import report_fleet as fleet_core
from ansible_collections.attested.ai.plugins.plugin_utils import report_view as core
from ansible_collections.attested.ai.plugins.plugin_utils.filter_guard import guarded, unlazy

DOCUMENTATION = r"""
name: report_view
short_description: Shape runs into what the attestation report shows
version_added: 0.1.0
author: attested.ai contributors (@attested-ai)
description:
  - Takes a list of runs, as in the variable C(report_runs) of the role P(attested.ai.report#role), and returns what its page shows.
  - Members of a run that are not documented there are left out, so that nothing that was registered by accident reaches the page.
positional: _input
options:
  _input:
    description: The runs.
    type: list
    elements: dict
    required: true
  title:
    description: Title of the page.
    type: str
    default: Attestation report
seealso:
  - plugin: attested.ai.report_document
    plugin_type: filter
  - plugin: attested.ai.report_runs
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Stop unless everything came out as expected
  ansible.builtin.assert:
    that: (report_runs | attested.ai.report_view).status == "ok"
"""

RETURN = r"""
_value:
  description: The data of the page. C(status) is V(ok), V(bad) or V(none), C(as_expected), C(accepted) and C(refused) count runs.
  type: dict
"""


@guarded
def report_view(runs: t.Any, title: str = "Attestation report") -> dict[str, t.Any]:
    return core.report_view(unlazy(runs), str(title))


@guarded
def report_document(runs: t.Any, title: str = "Attestation report") -> dict[str, t.Any]:
    return core.report_document(unlazy(runs), str(title))


@guarded
def report_runs(hostvars: t.Any, hosts: t.Sequence[str], variable: str, step: str = "attest") -> list[dict[str, t.Any]]:
    return core.runs_of_hosts(hostvars, list(hosts), variable, step)


@guarded
def report_fleet(fleet: t.Any, history: t.Any = (), forecast: t.Any = None) -> dict[str, t.Any]:
    return fleet_core.fleet_view(unlazy(fleet), unlazy(history), unlazy(forecast))


@guarded
def report_evidence(hostvars: t.Any, hosts: t.Sequence[str], variable: str) -> dict[str, t.Any]:
    return fleet_core.evidence_of_hosts(hostvars, list(hosts), variable)


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"report_view": report_view, "report_document": report_document, "report_runs": report_runs, "report_fleet": report_fleet,
                "report_evidence": report_evidence}  # fmt: skip
