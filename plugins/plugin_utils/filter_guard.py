# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Between templates and the core: what the core refuses is an error of the template that asked for it, in one line, and it gets containers of its own."""

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


def unlazy(value: t.Any) -> t.Any:
    """Containers from a template are lazy in ansible-core 2.19 and later; the core goes over them several times."""
    if isinstance(value, t.Mapping):
        return {str(key): unlazy(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [unlazy(item) for item in value]
    return str(value) if isinstance(value, str) else value
