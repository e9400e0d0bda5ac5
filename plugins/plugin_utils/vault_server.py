# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A Vault (or OpenBao) as a task names it: address, proof of its key, and how to get a token. Credentials are files; none is an argument."""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.secretfile import read_secret
from ansible_collections.attested.ai.plugins.module_utils.service import Patience, make_transport, patient
from ansible_collections.attested.ai.plugins.module_utils.vault.client import Vault, VaultError, VaultServer
from ansible_collections.attested.ai.plugins.module_utils.vault.engines import check_path
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import Inputs
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import local_path

_NETWORK = ("ca_path", "server_name", "pins", "namespace", "timeout", "attempts", "allow_http")
# Member that names the file of a credential -> what goes with it.
_LOGINS: dict[str, tuple[str, ...]] = {"token_file": (), "secret_id_file": ("role_id", "auth_mount"), "jwt_file": ("auth_role", "auth_mount")}
_CREDENTIAL_MAX = 16384


def vault_of(action: t.Any, value: t.Any, where: str) -> Vault:
    """A client. Nothing is sent yet. Raises AttestedError."""
    server = strict.members(value, ("url",), (*_NETWORK, *_LOGINS, "role_id", "auth_role", "auth_mount"), where=where)
    given = [name for name in _LOGINS if server.get(name)]
    if len(given) != 1:
        raise VaultError("one of %s is needed" % ", ".join(_LOGINS), where=where, code="vault-login")
    strange = [name for name in ("role_id", "auth_role", "auth_mount") if name in server and name not in _LOGINS[given[0]]]
    if strange:
        raise VaultError("%s does not go with %s" % (strange[0], given[0]), where=where, code="vault-login")
    ca = ""
    if server.get("ca_path"):
        ca = Inputs.of_action(action).read_text(_text(server, "ca_path", where), where + " ca_path")
        if not ca.strip():
            raise VaultError("it is empty", where=where + " ca_path", fix="Give PEM", code="vault-ca")
    pins = server.get("pins", [])
    if not isinstance(pins, (list, tuple)):
        raise VaultError("it is no list", where=where + " pins", code="vault-pin")
    allow_http = server.get("allow_http", False)
    if not isinstance(allow_http, bool):
        raise VaultError("it is neither true nor false", where=where + " allow_http", code="vault-options")
    address = VaultServer(_text(server, "url", where).rstrip("/"), ca, _text(server, "server_name", where), tuple(str(pin) for pin in pins),
                          float(_number(server, "timeout", 20, 600, where)), allow_http)
    transport = patient(make_transport(address), Patience(_number(server, "attempts", 3, 10, where)))
    path = local_path(action, _text(server, given[0], where))
    # Looked at now: what is wrong here is told before anything is sent.
    _credential(path)
    return Vault(transport, address.url, _login(given[0], path, server, where), _namespace(server, where))


def _login(kind: str, path: str, server: t.Mapping[str, t.Any], where: str) -> t.Callable[[Vault], str]:
    if kind == "token_file":
        return lambda vault: _credential(path)
    if kind == "secret_id_file":
        role, mount = _needed(server, "role_id", where), check_path(server.get("auth_mount", "approle"), where + " auth_mount")
        return lambda vault: vault.log_in(f"auth/{mount}/login", {"role_id": role, "secret_id": _credential(path)})
    role, mount = _needed(server, "auth_role", where), check_path(server.get("auth_mount", "jwt"), where + " auth_mount")
    return lambda vault: vault.log_in(f"auth/{mount}/login", {"role": role, "jwt": _credential(path)})


def _credential(path: str) -> str:
    text = read_secret(path, "credential for Vault", _CREDENTIAL_MAX).decode("ascii", "replace").strip()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise VaultError("it holds no token or credential", where=path, code="vault-credential")
    return text


def _namespace(server: t.Mapping[str, t.Any], where: str) -> str:
    text = _text(server, "namespace", where)
    return check_path(text, where + " namespace") if text else ""


def _needed(server: t.Mapping[str, t.Any], name: str, where: str) -> str:
    found = _text(server, name, where)
    if not found:
        raise VaultError("%s is needed" % name, where=where, code="vault-login")
    return found


def _text(server: t.Mapping[str, t.Any], name: str, where: str) -> str:
    value = server.get(name)
    return "" if value is None else strict.text_of(value, f"{where} {name}", 2048)


def _number(server: t.Mapping[str, t.Any], name: str, default: int, most: int, where: str) -> int:
    value = server.get(name, default)
    try:
        # A template gives a number as text.
        number = int(value) if not isinstance(value, bool) else 0
    except (TypeError, ValueError):
        number = 0
    if not 1 <= number <= most:
        raise AttestedError("%s is no number from 1 to %d" % (strict.quoted(value), most), where=f"{where} {name}", code="vault-options")
    return number
