# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters of the role awx: from what is described to what AWX shall hold."""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.module_utils.awx import export, pack
from ansible_collections.attested.ai.plugins.plugin_utils.filter_guard import guarded, unlazy


@guarded
def awx_pack(data: t.Any, settings: t.Any, specifications: t.Any) -> dict[str, t.Any]:
    return pack.pack(unlazy(data), unlazy(settings), unlazy(specifications))


@guarded
def awx_export(objects: t.Any) -> str:
    return export.export(unlazy(objects))


class FilterModule:
    """Filters of the role awx."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"awx_pack": awx_pack, "awx_export": awx_export}
