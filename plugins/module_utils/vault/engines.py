# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keys and counters in a Vault: KV version 2 holds what is read, Transit holds what is only used."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Dict, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwe_keys import Failed, RemoteKey
from ansible_collections.attested.ai.plugins.module_utils.vault.client import Vault, VaultError

_NAME = re.compile(r"[A-Za-z0-9_-]([A-Za-z0-9_. -]{0,126}[A-Za-z0-9_-])?\Z")
_VERSION_MAX = 2**31
TYPE = "aes256-gcm96"


def check_path(value: Any, where: str) -> str:
    """A mount or a path of names between slashes, as it stands in an address. Raises VaultError."""
    text = str(value).strip("/")
    if not all(_NAME.match(part) and " " not in part for part in text.split("/")):
        raise VaultError("%s is no path of letters, digits, dots, _ and -" % strict.quoted(value), where=where, code="vault-path")
    return text


@dataclass(frozen=True)
class Secrets:
    """A mount of KV version 2."""

    vault: Vault
    mount: str = "secret"

    def read(self, path: str, version: Optional[int] = None) -> Tuple[Dict[str, Any], int]:
        """(data, version). Raises VaultError: vault-missing if there is none, or it was deleted."""
        query = "" if version is None else "?version=%d" % version
        found = self.vault.read("%s/data/%s%s" % (self.mount, path, query), "read %s/%s" % (self.mount, path))
        data, metadata = found.get("data"), found.get("metadata")
        number = metadata.get("version") if isinstance(metadata, dict) else None
        if not isinstance(data, dict) or isinstance(number, bool) or not isinstance(number, int):
            raise VaultError("there is no secret of KV version 2", where="%s %s/%s" % (self.vault.where, self.mount, path),
                             fix="Compare mount and path; version 1 keeps no versions and is not used", code="vault-answer")
        return data, number

    def write(self, path: str, data: Dict[str, Any], replaces: int) -> None:
        """Write if version ``replaces`` is the last one, 0 for none. Raises VaultError: vault-cas if it is not."""
        self.vault.write("%s/data/%s" % (self.mount, path), {"options": {"cas": replaces}, "data": data}, "write %s/%s" % (self.mount, path))


@dataclass
class TransitKey(RemoteKey):
    """A key of Transit that never leaves the server. Its ciphertexts are AES-256-GCM with nonce in front and tag behind, so that they are A256GCMKW of JOSE."""

    vault: Vault
    name: str
    mount: str = "transit"
    _version: int = field(default=0, repr=False)

    @property
    def prefix(self) -> str:
        return "vault-transit:%s/%s:v" % (self.mount, self.name)

    @property
    def kid(self) -> str:  # type: ignore[override]
        """The name and version that wraps now. Asks the server once."""
        if not self._version:
            self._version = self._latest()
        return "%s%d" % (self.prefix, self._version)

    def fits(self, kid: str) -> bool:
        return kid.startswith(self.prefix) and kid[len(self.prefix):].isdigit()

    def wrap(self, cek: bytes) -> Tuple[bytes, bytes, bytes]:
        # Not sent before the key was seen: where the policy allows it, an unknown name makes a new key.
        version = int(self.kid[len(self.prefix):])
        body = {"plaintext": strict.encode_base64(cek), "key_version": version}
        found = self.vault.write("%s/encrypt/%s" % (self.mount, self.name), body, self._doing("wrap"))
        text, begin = found.get("ciphertext"), "vault:v%d:" % version
        if not isinstance(text, str) or not text.startswith(begin):
            raise VaultError("cannot %s: the answer is no ciphertext of version %d" % (self._doing("wrap"), version), where=self.vault.where,
                             code="vault-answer")
        sealed = strict.decode_base64(text[len(begin):], "ciphertext of %s" % self.vault.where, 12 + len(cek) + 16, 12 + len(cek) + 16)
        return sealed[12:-16], sealed[:12], sealed[-16:]

    def unwrap(self, kid: str, encrypted_key: bytes, nonce: bytes, tag: bytes) -> bytes:
        text = "vault:v%s:%s" % (kid[len(self.prefix):], strict.encode_base64(nonce + encrypted_key + tag))
        try:
            found = self.vault.write("%s/decrypt/%s" % (self.mount, self.name), {"ciphertext": text}, self._doing("unwrap"))
        except VaultError as error:
            if error.code == "vault-wrong-key" and "authentication" in error.what:
                raise Failed("it was wrapped for another key, or was changed") from None
            raise
        try:
            return strict.decode_base64(found.get("plaintext"), "answer", 32, 32)
        except AttestedError:
            # No text of the error: it may quote.
            raise VaultError("cannot %s: the answer is no key" % self._doing("unwrap"), where=self.vault.where, code="vault-answer") from None

    def _latest(self) -> int:
        found = self.vault.read("%s/keys/%s" % (self.mount, self.name), "look at the key %s/%s" % (self.mount, self.name))
        kind, version, least = found.get("type"), found.get("latest_version"), found.get("min_encryption_version")
        if kind != TYPE or found.get("derived") is not False:
            derived = " (derived)" if found.get("derived") else ""
            raise VaultError("it is of the type %s%s, %s without derivation is needed" % (strict.quoted(kind), derived, TYPE),
                             where="%s %s/%s" % (self.vault.where, self.mount, self.name), fix="Make one of that type", code="vault-key-type")
        if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version < _VERSION_MAX or least is not None and not isinstance(least, int):
            raise VaultError("the answer tells no version of the key", where=self.vault.where, code="vault-answer")
        return version

    def _doing(self, verb: str) -> str:
        return "%s a key by %s/%s" % (verb, self.mount, self.name)
