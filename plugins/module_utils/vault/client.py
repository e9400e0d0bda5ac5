# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""HashiCorp Vault and OpenBao, spoken to directly: a dozen calls over the HTTP of ``service``, so that no secret passes through another program,
an environment variable or a task's result. The API is the same for both (v1)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.service import Answer, Service, Transport

PREFIX = "/v1/"
_SAID_MAX = 300


class VaultError(AttestedError):
    """A Vault does not answer, refuses, or says what cannot be used. ``status`` is 0 where there was no answer at all."""

    default_code = "vault"

    def __init__(self, what: str, where: str = "", fix: str = "", code: str = "", status: int = 0) -> None:
        super().__init__(what, where, fix, code)
        self.status = status


@dataclass(frozen=True)
class VaultServer(Service):
    """Where it is: see Service."""

    name = "Vault"
    codes = "vault"
    error = VaultError
    example = "https://vault.example.org:8200"
    at_stake = "the token and the keys"


@dataclass
class Vault:
    """One server, one namespace, one token, which ``login`` gets when it is first needed."""

    transport: Transport = field(repr=False)
    where: str
    login: Callable[["Vault"], str] = field(repr=False)
    namespace: str = ""
    _token: str = field(default="", repr=False)

    def read(self, path: str, doing: str) -> Dict[str, Any]:
        return self._data(self._call("GET", path, None, doing), doing)

    def write(self, path: str, body: Mapping[str, Any], doing: str) -> Dict[str, Any]:
        return self._data(self._call("POST", path, body, doing), doing)

    def log_in(self, path: str, body: Mapping[str, Any]) -> str:
        """The token of a login. Sent without one."""
        doing = "log in at %s" % path
        answer = self._send("POST", path, body, "")
        if answer.status == 400 or answer.status == 403:
            raise self._refused(answer, doing, "vault-login",
                                "Compare role, credential and the mount of the login; the credential may have expired or been used up")
        try:
            token = self._object(answer, doing)["auth"]["client_token"]
        except (KeyError, TypeError):
            token = None
        if not isinstance(token, str) or not token:
            raise VaultError("cannot %s: there is no token in the answer" % doing, where=self.where, code="vault-answer")
        return token

    def _call(self, method: str, path: str, body: Optional[Mapping[str, Any]], doing: str) -> Answer:
        self._token = self._token or self.login(self)
        answer = self._send(method, path, body, self._token)
        if answer.status == 403:
            # The same status for a token that is none any more and for one that may not do this. Every token may look at itself.
            if self._send("GET", "auth/token/lookup-self", None, self._token).status == 403:
                raise VaultError("cannot %s: it does not know the token" % doing, where=self.where, code="vault-token", status=403,
                                 fix="It has expired, was revoked, or is of another server or namespace: get a new one. (One without the policy default "
                                     "looks the same if it may not do this)")
            raise VaultError("cannot %s: the token may not do that, or there is no such mount" % doing, where=self.where, code="vault-denied",
                             status=403, fix="Allow %s on %s in its policy" % ("read" if method == "GET" else "create and update", path))
        return answer

    def _send(self, method: str, path: str, body: Optional[Mapping[str, Any]], token: str) -> Answer:
        headers = {"X-Vault-Request": "true"}
        if token:
            headers["X-Vault-Token"] = token
        if self.namespace:
            headers["X-Vault-Namespace"] = self.namespace
        data = None if body is None else json.dumps(body).encode("utf-8")
        if data is not None:
            headers["Content-Type"] = "application/json"
        return self.transport(method, PREFIX + path, data, headers)

    def _data(self, answer: Answer, doing: str) -> Dict[str, Any]:
        if answer.status == 204:
            return {}
        found = self._object(answer, doing).get("data")
        return found if isinstance(found, dict) else {}

    def _object(self, answer: Answer, doing: str) -> Dict[str, Any]:
        if answer.status in (200, 204):
            try:
                found = strict.loads(answer.body, "answer")
            except AttestedError:
                found = None
            if isinstance(found, dict):
                return found
            raise VaultError("cannot %s: the answer is not what a Vault says" % doing, where=self.where, fix="Compare address and port", code="vault-answer")
        raise self._refused(answer, doing)

    def _refused(self, answer: Answer, doing: str, code: str = "", fix: str = "") -> VaultError:
        said = _errors(answer)
        known, meaning = _meaning(answer, said)
        text = "cannot %s: %s" % (doing, " ".join(said)[:_SAID_MAX] if said else "the answer is %d" % answer.status)
        return VaultError(text, where=self.where, fix=fix or meaning, code=code or known, status=answer.status)


def _errors(answer: Answer) -> Tuple[str, ...]:
    """What it says, printable and in one line: it ends on the terminal of the user."""
    try:
        found = json.loads(answer.body.decode("utf-8"))["errors"]
        lines = [" ".join(str(line).split()) for line in found]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()
    return tuple("".join(letter for letter in line.encode("ascii", "replace").decode("ascii") if letter.isprintable()) for line in lines)


def _deleted(answer: Answer) -> bool:
    """A version that was deleted or destroyed is told by its metadata alone."""
    try:
        metadata = json.loads(answer.body.decode("utf-8"))["data"]["metadata"]
        return bool(metadata["deletion_time"] or metadata["destroyed"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


# Part of what it says -> code and next step.
_SAID: Tuple[Tuple[str, str, str], ...] = (
    ("is sealed", "vault-sealed", "Unseal it"),
    ("check-and-set", "vault-cas", "Somebody else changed it meanwhile: run it again"),
    ("no handler for route", "vault-mount", "Nothing is mounted there: compare mount and namespace"),
    ("encryption key not found", "vault-missing", "Make the key, or correct its name"),
    ("message authentication failed", "vault-wrong-key", "It was wrapped by another key, or was changed"),
    ("too old", "vault-version-withdrawn", "That version of the key was withdrawn (min_decryption_version): lower it for once and wrap anew"),
    ("too new", "vault-wrong-key", "The key has no such version: it is another one, or was restored from an older backup"),
    ("no such key version", "vault-wrong-key", "The key has no such version any more"),
)


def _meaning(answer: Answer, said: Tuple[str, ...]) -> Tuple[str, str]:
    text = " ".join(said)
    for part, code, fix in _SAID:
        if part in text:
            return code, fix
    if answer.status == 404 and _deleted(answer):
        return "vault-deleted", "Undelete that version, or write it anew where that is right"
    if answer.status == 404:
        return "vault-missing", "Compare mount and path"
    if 300 <= answer.status < 400:
        return "vault-redirect", "It points to %s: give that address if it is the right one" % strict.quoted(answer.headers.get("location", ""))
    if answer.status in (429, 472, 473, 501, 502, 503, 504):
        return "vault-unavailable", "See whether it runs, is initialized and active"
    return ("vault-refused", "See its audit log") if said else ("vault-foreign", "Something else answers in its place, or the address is wrong")
