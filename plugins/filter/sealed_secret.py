# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters of sealed secrets: make one, read one, give the public key that guests check them with."""

from __future__ import annotations

import os
import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.attested.ai.plugins.module_utils.kbs import sealed
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.signingkey import load_signing_key
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import plain
from ansible_collections.attested.ai.plugins.plugin_utils.filter_guard import guarded


def _key(path: str) -> t.Any:
    return load_signing_key(os.path.expanduser(str(path)))


@guarded
def sealed_secret(value: t.Any, signing_key: str, kid: str = "kbs:///default/signing-key/sealed-secret", previous: str | None = "") -> str:
    if isinstance(value, str):
        payload = sealed.vault(str(value))
    else:
        given = plain(value, "sealed_secret")
        if not isinstance(given, dict):
            raise AnsibleFilterError("sealed_secret takes the URI of a resource or the dictionary of an envelope")
        try:
            payload = sealed.envelope(
                given.pop("provider"), given.pop("key_id"), given.pop("encrypted_key"), given.pop("encrypted_data"), given.pop("iv"),
                given.pop("provider_settings", None), given.pop("annotations", None))  # fmt: skip
        except KeyError as error:
            raise AnsibleFilterError(f"the envelope lacks {error.args[0]}") from None
        if given:
            raise AnsibleFilterError(f"the envelope has the unknown member {sorted(given)[0]}")
    return sealed.seal(payload, _key(signing_key), str(kid), str(previous or ""))


@guarded
def sealed_secret_jwk(signing_key: str, kid: str = "") -> dict[str, str]:
    return sealed.public_key(_key(signing_key), str(kid))


@guarded
def sealed_secret_payload(value: str, public_key: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    found = sealed.verify(str(value), plain(public_key, "public_key"))
    return {"kid": found.kid, **found.payload}


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"sealed_secret": sealed_secret, "sealed_secret_jwk": sealed_secret_jwk, "sealed_secret_payload": sealed_secret_payload}
