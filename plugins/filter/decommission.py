# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters of the playbook decommission: what its steps may say, and whether the run is a success."""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.module_utils.fleet import decommission as core
from ansible_collections.attested.ai.plugins.plugin_utils.filter_guard import guarded, unlazy


@guarded
def decommission_unknown(names: t.Any) -> list[str]:
    return core.unknown(unlazy(list(names)))


@guarded
def decommission_earlier(text: t.Any, where: t.Any) -> list[dict[str, t.Any]]:
    return core.earlier(str(text), str(where))


@guarded
def decommission_rows(found: t.Any, host: t.Any, step: t.Any, **told: t.Any) -> list[dict[str, t.Any]]:
    return core.rows(unlazy(found), str(host), str(step), unlazy(told))


@guarded
def decommission_judged(rows: t.Any, steps: t.Any, asked: t.Any, hosts: t.Any, before: t.Any = ()) -> dict[str, t.Any]:
    return core.judged(unlazy(rows), unlazy(steps), bool(asked), unlazy(hosts), "localhost", unlazy(before))


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        names = (decommission_unknown, decommission_earlier, decommission_rows, decommission_judged)
        return {function.__name__: function for function in names}
