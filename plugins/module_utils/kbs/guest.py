# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The guest's side of a KBS: request, challenge, attestation, response; then resources, encrypted to a key that lives for this run.

The evidence is made by a function that is handed in: it gets the challenge and the public key, and binds both.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Mapping, Optional

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.kbs.explain import explain
from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError
from ansible_collections.attested.ai.plugins.module_utils.kbs.protocol import (
    COOKIE,
    NONCE_SIZE,
    PREFIX,
    TEES,
    Resource,
    attest_request,
    auth_request,
    device_nonce,
    report_data,
)
from ansible_collections.attested.ai.plugins.module_utils.kbs.transport import Answer, Transport
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwe
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import AGREEMENT_CURVES, curve_name, curve_object, public_jwk

_JSON = {"Content-Type": "application/json"}
_SESSION = re.compile(COOKIE + r"=([A-Za-z0-9-]{16,128})(?:;|\Z)")
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z")


@dataclass(frozen=True)
class Challenge:
    """What the evidence has to bind: ``report_data`` for the CPU's, ``device_nonce`` for a device's."""

    nonce: str
    jwk: Mapping[str, str]
    algorithm: str = "sha384"

    def report_data(self, additional: str = "") -> bytes:
        return report_data(self.nonce, self.jwk, additional, self.algorithm)

    @property
    def device_nonce(self) -> bytes:
        return device_nonce(self.nonce, self.jwk, self.algorithm)


@dataclass(frozen=True)
class Collected:
    """Evidence in the shapes of the KBS (evidence.py), and the TOML of the init-data that the guest was launched with."""

    primary: Any
    additional: str = ""
    init_data: Optional[str] = None


@dataclass
class GuestClient:
    """One attested session. The private key is made here and never leaves the process."""

    transport: Transport
    where: str
    key: Any = field(default=None, repr=False)
    _session: str = field(default="", repr=False)

    def attest(self, tee: str, collect: Callable[[Challenge], Collected], curve: str = "P-256") -> str:
        """The whole handshake; returns the attestation token. Raises KbsError, and what ``collect`` raises."""
        if tee not in TEES:
            raise KbsError("%s is none of %s" % (strict.quoted(tee), ", ".join(TEES)), where="tee", code="kbs-tee")
        self.key = self.key or _make_key(curve)
        challenge = self._challenge(tee)
        collected = collect(challenge)
        request = attest_request(challenge.nonce, challenge.jwk, collected.primary, collected.additional, collected.init_data)
        answer = self._post("/attest", request, "attest")
        body = _object(answer, "attest", self.where)
        token = body.get("token")
        if not isinstance(token, str) or not _TOKEN.match(token):
            raise _unusable("attest", "there is no token in it", self.where)
        return token

    def resource(self, path: Any) -> bytes:
        """A resource, decrypted. Raises KbsError: with code kbs-policy-denied if the policy refuses this guest."""
        resource = path if isinstance(path, Resource) else Resource.parse(path)
        if self.key is None or not self._session:
            raise KbsError("nothing was attested yet", where=self.where, code="kbs-token-missing")
        doing = "get %s" % resource.path
        answer = self.transport("GET", "%s/resource/%s" % (PREFIX, resource.path), None, {"Cookie": "%s=%s" % (COOKIE, self._session)})
        if answer.status != 200:
            raise explain(answer, doing, self.where)
        return jwe.unwrap_flattened(_object(answer, doing, self.where), self.key, "answer of %s" % self.where)

    def _challenge(self, tee: str) -> Challenge:
        # Without the old cookie: a session is for one handshake, and an attested one would give its old token back.
        self._session = ""
        answer = self._post("/auth", auth_request(tee), "begin the handshake")
        body = _object(answer, "begin the handshake", self.where)
        nonce = body.get("nonce")
        try:
            strict.decode_base64(nonce, "nonce", NONCE_SIZE, 64)
        except AttestedError as error:
            raise _unusable("begin the handshake", error.what, self.where) from None
        if not self._session:
            raise _unusable("begin the handshake", "it sets no cookie %s" % COOKIE, self.where)
        return Challenge(str(nonce), public_jwk(self.key, jwe.ECDH if curve_name(self.key) else jwe.RSA), _selected(body))

    def _post(self, path: str, body: Mapping[str, Any], doing: str) -> Answer:
        headers: Dict[str, str] = dict(_JSON)
        if self._session:
            headers["Cookie"] = "%s=%s" % (COOKIE, self._session)
        answer = self.transport("POST", PREFIX + path, json.dumps(body).encode("utf-8"), headers)
        if answer.status != 200:
            raise explain(answer, doing, self.where)
        match = _SESSION.match(answer.headers.get("set-cookie", ""))
        if match:
            self._session = match.group(1)
        return answer


def _make_key(curve: str) -> Any:
    """An EC key on P-256 or P-521."""
    if curve not in AGREEMENT_CURVES:
        raise KbsError("%s is none of P-256, P-521" % strict.quoted(curve), where="curve", code="kbs-curve")
    group = curve_object(curve)
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(group)


def _selected(body: Mapping[str, Any]) -> str:
    """The hash that the KBS chose; SHA-384 if it does not choose."""
    extra = body.get("extra-params")
    if not isinstance(extra, Mapping):
        return "sha384"
    chosen = extra.get("selected-hash-algorithm", "sha384")
    if chosen not in ("sha256", "sha384", "sha512"):
        raise KbsError("it asks for the hash %s" % strict.quoted(chosen), code="kbs-answer")
    return str(chosen)


def _object(answer: Answer, doing: str, where: str) -> Dict[str, Any]:
    try:
        body = strict.loads(answer.body, "answer")
    except AttestedError as error:
        raise _unusable(doing, error.what, where) from None
    if not isinstance(body, dict):
        raise _unusable(doing, "it is no object", where)
    return body


def _unusable(doing: str, why: str, where: str) -> KbsError:
    return KbsError("cannot %s: the answer is not what a KBS says (%s)" % (doing, why), where=where, fix="Compare the address", code="kbs-answer")
