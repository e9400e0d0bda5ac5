# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where the key-encryption key of a task comes from. One option, and from here on one kind of object, whatever the place."""

from __future__ import annotations

import hashlib
import os
import typing as t
from contextlib import suppress

from ansible.errors import AnsibleError
from ansible.parsing.vault import is_encrypted

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import keysource
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.keysource import AnyKek, RemoteKek
from ansible_collections.attested.ai.plugins.module_utils.vault.client import VaultError
from ansible_collections.attested.ai.plugins.module_utils.vault.engines import Secrets, TransitKey, check_path
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import plain
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import local_path
from ansible_collections.attested.ai.plugins.plugin_utils.vault_server import vault_of

KV, TRANSIT, EDGE = "vault_kv", "vault_transit", "edge"
_MEMBERS = {KV: (("path",), ("mount", "field", "version")), TRANSIT: (("key",), ("mount",))}
_VAULTED_MAX = 65536


class KekSource:
    """What the option ``kek`` says. Nothing is read before ``load``, ``exists`` or ``create``."""

    def __init__(self, action: t.Any, value: t.Any, where: str = "kek") -> None:
        self._action, self._where = action, where
        # The path of a file, for checks of where it lies.
        self.path = local_path(action, os.path.expandvars(value)) if isinstance(value, str) else None
        self._given: t.Mapping[str, t.Any] = {}
        if self.path is None:
            self._given = self._members(plain(value, where))
            # What is wrong with the address or the credential is told before anything is done.
            self._server = vault_of(action, self._given["server"], where + " server")

    @property
    def name(self) -> str:
        """For people: it names a place, never a key."""
        if self.path is not None:
            return self.path
        return "%s %s %s" % (self._given["source"], self._server.where, self._given.get("key") or self._given.get("path"))

    def load(self, notes: t.Callable[[], bytes] = lambda: b"") -> AnyKek:
        """The key. ``notes`` gives a secret of the controller where the key itself stays away. Raises AttestedError."""
        if self.path is not None:
            return self._of_file(self.path)
        if self._given["source"] == TRANSIT:
            return RemoteKek(self._transit(), hashlib.sha256(b"attested.ai/notes/1\0" + notes()).digest())
        data, _version = self._secrets().read(self._path(), self._version())
        content = data.get(self._field())
        if not isinstance(content, str):
            raise VaultError("it has no field %s with text" % strict.quoted(self._field()), where=self.name, code="kek-form")
        return keysource.parse_kek(content.encode("utf-8"), self.name)

    def exists(self) -> bool:
        if self.path is not None:
            return os.path.lexists(self.path)
        try:
            self.load()
        except VaultError as error:
            if error.code == "vault-missing" and self._given["source"] == KV:
                return False
            raise
        return True

    def create(self) -> AnyKek:
        """Make it; never over one that is there. Raises AttestedError."""
        if self.path is not None:
            return keysource.create_kek(self.path)
        if self._given["source"] != KV or self._version() is not None:
            raise KeyReleaseError("it cannot be made from here", where=self.name, fix="Make it in the Vault: its policy says who may", code="kek-create")
        kek, jwk = keysource.new_kek()
        self._secrets().write(self._path(), {self._field(): jwk.decode("ascii")}, 0)
        return kek

    def _of_file(self, path: str) -> AnyKek:
        """A file that Ansible Vault encrypted may be read by anybody, and is decrypted in memory: Ansible's own way would leave it on a disk for a while."""
        data = b""
        # What is no file, or cannot be read, is told by who looks at it more closely.
        if os.path.isfile(path):
            with suppress(OSError), open(path, "rb") as stream:
                data = stream.read(_VAULTED_MAX + 1)
        if not is_encrypted(data):
            return keysource.load_kek(path)
        try:
            return keysource.parse_kek(self._action._loader._vault.decrypt(data), path)
        except AnsibleError as error:
            raise KeyReleaseError("Ansible Vault does not decrypt it: %s" % " ".join(str(error).split())[:200], where=path,
                                  fix="Give the password it was encrypted with (--vault-id, --vault-password-file)", code="kek-vaulted") from None

    def _members(self, value: t.Any) -> t.Mapping[str, t.Any]:
        source = value.get("source") if isinstance(value, dict) else None
        if source == EDGE:
            raise KeyReleaseError("an edge bundle has keys for releases, and no key-encryption key", where=self._where,
                                  fix="Use it in model_release; everything else is done at the centre", code="kek-source")
        if source not in _MEMBERS:
            raise KeyReleaseError("it is neither the path of a file nor a dictionary with source %s" % " or ".join(_MEMBERS), where=self._where,
                                  code="kek-source")
        required, optional = _MEMBERS[source]
        return strict.members(value, ("source", "server", *required), optional, where=self._where)

    def _transit(self) -> TransitKey:
        key = check_path(self._given["key"], self._where + " key")
        return TransitKey(self._server, key, check_path(self._given.get("mount", "transit"), self._where + " mount"))

    def _secrets(self) -> Secrets:
        return Secrets(self._server, check_path(self._given.get("mount", "secret"), self._where + " mount"))

    def _path(self) -> str:
        return check_path(self._given["path"], self._where + " path")

    def _field(self) -> str:
        return strict.text_of(self._given.get("field", "kek"), self._where + " field", 128)

    def _version(self) -> int | None:
        version = self._given.get("version")
        if version is None:
            return None
        try:
            number = int(version)
        except (TypeError, ValueError):
            number = 0
        if number < 1:
            raise AttestedError("it is no number from 1", where=self._where + " version", code="kek-source")
        return number
