# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Verify a key-release ledger on the controller and return its entries."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, LedgerError
from ansible_collections.attested.ai.plugins.module_utils.formats.strict import loads
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import public_jwk
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.ledger import verify
from ansible_collections.attested.ai.plugins.plugin_utils.action_failure import failure_as_result
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import local_path

ARGUMENT_SPEC = {
    "path": {"type": "path", "required": True},
    "public_key": {"type": "raw", "required": True, "no_log": False},
    "model_id": {"type": "str"},
    "known_head": {"type": "str", "default": ""},
}
_KEY_FILE_MAX = 65536


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    @failure_as_result
    def run(self, tmp: t.Any = None, task_vars: dict | None = None) -> dict:
        super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)
        try:
            key = options["public_key"]
            public = load_public_key(local_path(self, key) if isinstance(key, str) else key)
            report = verify(local_path(self, options["path"]), public, options["known_head"])
        except AttestedError as error:
            raise AnsibleActionFail(str(error), result={"code": error.code}) from None
        wanted = options["model_id"]
        entries = [entry for entry in report.entries if wanted in (None, entry["model_id"])]
        return {"changed": False, "verified": True, "entries": entries, "count": report.count, "head": report.head}


def load_public_key(value: t.Any) -> t.Mapping[str, t.Any]:
    """A JWK given as mapping, or the path of a file with a JWK or a PEM public key. Raises AttestedError."""
    if isinstance(value, t.Mapping):
        return value
    if not isinstance(value, str):
        raise LedgerError("a JWK or the path of a key file was expected", where="public_key", code="ledger-key")
    try:
        with open(value, "rb") as stream:
            content = stream.read(_KEY_FILE_MAX)
    except (OSError, ValueError) as error:
        raise LedgerError(f"it cannot be read ({getattr(error, 'strerror', None) or error})", where=value, code="ledger-key") from None
    if not content.lstrip().startswith(b"-----BEGIN"):
        return loads(content, value)
    require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        return public_jwk(load_pem_public_key(content))
    except (ValueError, AttributeError, UnsupportedAlgorithm):
        raise LedgerError("it is no public key in PEM form", where=value, fix="Make it: openssl pkey -in <signing key> -pubout", code="ledger-key") from None
