# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters of the report: from runs to what the page and the file beside it show."""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.plugin_utils import report_fleet as fleet_core
from ansible_collections.attested.ai.plugins.plugin_utils import report_view as core
from ansible_collections.attested.ai.plugins.plugin_utils.filter_guard import guarded, unlazy


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
