# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters of the policy that says which images guests let in."""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt import signature_policy
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import plain
from ansible_collections.attested.ai.plugins.plugin_utils.filter_guard import guarded


@guarded
def image_security_policy(value: t.Any) -> dict[str, t.Any]:
    if isinstance(value, str):
        return signature_policy.check(strict.loads(str(value), "image policy"))
    given = plain(value, "image_security_policy")
    return signature_policy.generate(given) if isinstance(given, list) else signature_policy.check(given)


@guarded
def image_security_policy_keys(value: t.Any) -> list[str]:
    return list(signature_policy.keys(image_security_policy(value)))


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"image_security_policy": image_security_policy, "image_security_policy_keys": image_security_policy_keys}
