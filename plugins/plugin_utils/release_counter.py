# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where a task keeps the minimum releases besides the ledger: option ``counter``."""

from __future__ import annotations

import typing as t

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.attested.ai.plugins.module_utils.errors import KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.kbs.counter import KbsCounter
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.counter import Counter
from ansible_collections.attested.ai.plugins.module_utils.vault.counter import VaultCounter
from ansible_collections.attested.ai.plugins.module_utils.vault.engines import Secrets, check_path
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import plain
from ansible_collections.attested.ai.plugins.plugin_utils.kbs_task import ADMIN_SPEC, ONE_ADMIN, SERVER_SPEC, WITH_ADMIN, brokers, refuse_open
from ansible_collections.attested.ai.plugins.plugin_utils.vault_server import vault_of

VAULT, KBS = "vault_kv", "kbs"


def counter_of(action: t.Any, value: t.Any, where: str = "counter") -> Counter | None:
    """None if the task names none. Raises AttestedError."""
    if value is None:
        return None
    given = plain(value, where)
    source = given.get("source") if isinstance(given, dict) else None
    if source == VAULT:
        strict.members(given, ("source", "server", "path"), ("mount",), where=where)
        secrets = Secrets(vault_of(action, given["server"], where + " server"), check_path(given.get("mount", "secret"), where + " mount"))
        return VaultCounter(secrets, check_path(given["path"], where + " path"))
    if source == KBS:
        strict.members(given, ("source", "server"), where=where)
        # The options of the kbs_* modules, with the same defaults.
        checked = ArgumentSpecValidator({**SERVER_SPEC, **ADMIN_SPEC}, required_one_of=ONE_ADMIN, mutually_exclusive=ONE_ADMIN, required_by=WITH_ADMIN
                                        ).validate(given["server"] if isinstance(given["server"], dict) else {})  # fmt: skip
        if checked.error_messages:
            raise KeyReleaseError("; ".join(checked.error_messages)[:500], where=where + " server", code="counter-source")
        found = brokers(action, checked.validated_parameters)
        if len(found) != 1:
            raise KeyReleaseError("one KBS is needed, %d are given" % len(found), where=where + " server url", code="counter-source")
        refuse_open(found, checked.validated_parameters["allow_open_admin"])
        return KbsCounter(found[0].as_admin)
    raise KeyReleaseError("it is no dictionary with source %s or %s" % (VAULT, KBS), where=where, code="counter-source")
