# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the core refuses is an error of the template that asked for it, in one line."""

from __future__ import annotations

import functools
import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError


def guarded(function: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
    @functools.wraps(function)
    def call(*values: t.Any, **options: t.Any) -> t.Any:
        try:
            return function(*values, **options)
        except AttestedError as error:
            raise AnsibleFilterError(str(error)) from None

    return call
