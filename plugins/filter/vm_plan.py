# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters for confidential VMs: the plan of a guest on a host, and the guest policy of SEV-SNP as a number."""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.module_utils.vm import policy
from ansible_collections.attested.ai.plugins.plugin_utils import vm_plan as core
from ansible_collections.attested.ai.plugins.plugin_utils.filter_guard import guarded, unlazy


@guarded
def vm_plan(*values: t.Any, **options: t.Any) -> dict[str, t.Any]:
    return core.vm_plan(*unlazy(values), **unlazy(options))


@guarded
def snp_policy(flags: t.Any) -> int:
    return policy.snp_policy(unlazy(flags))


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"vm_plan": vm_plan, "snp_policy": snp_policy}
