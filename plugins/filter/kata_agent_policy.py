# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters of the policy of Kata's agent: refuse one that is open, and tell what one lets in."""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.module_utils.kbs import agent_policy as core
from ansible_collections.attested.ai.plugins.plugin_utils.filter_guard import guarded


@guarded
def kata_agent_policy(value: str, allow: t.Sequence[str] = ()) -> str:
    return core.closed(str(value), [str(name) for name in allow])


@guarded
def kata_agent_policy_info(value: str) -> dict[str, t.Any]:
    return core.look(str(value)).to_dict()


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"kata_agent_policy": kata_agent_policy, "kata_agent_policy_info": kata_agent_policy_info}
