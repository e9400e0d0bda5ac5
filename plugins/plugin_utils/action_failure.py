# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How an action fails. Where one raises, ansible-core passes over ``until``, ``failed_when`` and what a loop registers; so a failure is a result."""

from __future__ import annotations

import functools
import typing as t

from ansible.errors import AnsibleActionFail

Run = t.Callable[..., dict]


def failure_as_result(run: Run) -> Run:
    """For ``run`` of an action plugin: what it raises as AnsibleActionFail becomes what it returns."""

    @functools.wraps(run)
    def answering(self: t.Any, tmp: t.Any = None, task_vars: dict | None = None) -> dict:
        try:
            return run(self, tmp, task_vars)
        except AnsibleActionFail as error:
            return {"changed": False, **error.result, "failed": True, "msg": error.message}

    return answering
