# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A client that talks to one attested key only. It needs no Ansible: give it an address and a function that judges evidence.

    server = AttestedServer("https://model.example.org:8443", judge)
    server.verify()                                          # a nonce of its own, evidence, the key of this very connection
    server.request("POST", "/v1/embeddings", body)           # to that key, and to no other
    server.request_encrypted("POST", "/v1/embeddings", body) # and encrypted from here into the TEE, whatever lies between

``judge(document, nonce)`` appraises an EvidenceDocument and raises AttestedError unless it accepts it.
"""

from __future__ import annotations

import json
import secrets
import ssl
import urllib.parse
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional

from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.exchange import Exchanged, exchange
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import EvidenceDocument
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwk as keys
from ansible_collections.attested.ai.plugins.module_utils.modelserver import envelope
from ansible_collections.attested.ai.plugins.module_utils.modelserver.envelope import Answer, Request
from ansible_collections.attested.ai.plugins.module_utils.modelserver.failure import ServingError
from ansible_collections.attested.ai.plugins.module_utils.modelserver.identity import client_context, spki_digest

WELL_KNOWN = "/.well-known/attested-ai/"
SERVED = "attested.ai/served/1"
EVIDENCE_MAX = 32 << 20
ANSWER_MAX = 256 << 20

Judge = Callable[[EvidenceDocument, bytes], Any]


@dataclass(frozen=True)
class Verified:
    """What was found: the key of the connection, the key to encrypt to, and what the server says of its model. ``verdict`` is the judge's answer."""

    spki: str
    jwk: Mapping[str, str]
    served: Optional[Mapping[str, Any]]
    evidence: EvidenceDocument
    verdict: Any


class AttestedServer:
    """One server. ``verify`` comes first; until then nothing of a request leaves."""

    def __init__(self, url: str, judge: Judge, *, token: str = "", timeout: float = 600.0) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "https" or not parts.hostname or parts.path not in ("", "/") or parts.query or parts.username:
            raise ServingError("an address like https://model.example.org:8443 was expected", where="url", code="url")
        try:
            self._host, self._port = parts.hostname, parts.port or 443
        except ValueError:
            raise ServingError("its port is no number from 0 to 65535", where="url", code="url") from None
        self._url, self._judge, self._token, self._timeout = url.rstrip("/"), judge, token, timeout
        self.verified: Optional[Verified] = None

    def verify(self) -> Verified:
        """Ask for evidence over a fresh nonce and have it judged; it must bind the key of this connection. Raises AttestedError."""
        nonce = secrets.token_bytes(32)
        shown: List[str] = []
        target = "%sevidence?nonce=%s" % (WELL_KNOWN, strict.encode_base64url(nonce))
        answer = self._exchange("GET", target, None, {}, lambda channel: shown.append(key_of(channel)), EVIDENCE_MAX)
        where = "evidence of %s" % self._url
        if answer.status != 200:
            raise ServingError("it gives no evidence: %s" % said(answer), where=self._url, fix="See the server's units, or ask again later", code="no-evidence")
        obj = strict.members(strict.loads(answer.body, where), ("schema", "evidence", "served", "lifetime"), where=where)
        if obj["schema"] != SERVED:
            raise ServingError("it is no %s" % SERVED, where=where, code="no-evidence")
        document = EvidenceDocument.parse(obj["evidence"], where)
        verdict = self._judge(document, nonce)
        # The judge has proven what the document binds; only now it means anything that the two are the same.
        if document.binding.tls_spki is None or not shown or document.binding.tls_spki != shown[0]:
            raise ServingError(
                "it shows another key (%s) than the one that its evidence binds (%s)" % (shown[0] if shown else "none", document.binding.tls_spki or "none"),
                where=self._url, fix="Something is between you and the TEE, or answers in its place. Nothing was sent", code="key-unattested",
            )  # fmt: skip
        jwk = document.binding.tee_pubkey
        if jwk is None:
            raise ServingError("its evidence binds no key to encrypt to", where=self._url, fix="Do not trust this server", code="key-unattested")
        served = obj["served"]
        if served is not None:
            strict.members(served, ("model_id", "release", "manifest_sha256"), where=where + " served")
        self.verified = Verified(shown[0], jwk, served, document, verdict)
        return self.verified

    def request(self, method: str, target: str, body: Optional[bytes] = None, content_type: str = "application/json") -> Exchanged:
        """One request over TLS to the attested key; the connection is dropped before the first byte if another key is shown."""
        headers = {"Content-Type": content_type} if body is not None else {}
        return self._exchange(method, envelope.check_target(target), body, headers, self._prove, ANSWER_MAX)

    def request_encrypted(self, method: str, target: str, body: bytes = b"", content_type: str = "application/json") -> Answer:
        """The same, encrypted to the attested key from here into the TEE, and the answer back to a key that is made for it."""
        sealed = Sealed.make(self._known().jwk, method, target, body, content_type)
        return sealed.open(self.carry(sealed.jwe))

    def carry(self, sealed: Mapping[str, Any], anywhere: bool = False) -> Dict[str, Any]:
        """Post an encrypted request, which may have been made elsewhere, and return the encrypted answer. With ``anywhere`` the key of the connection is not
        looked at: the request opens in the attested TEE and nowhere else."""
        if anywhere and self._token:
            # It would be shown to whoever answers.
            raise ServingError("a token is sent to an attested key only", where=self._url, fix="Give the policy, too", code="not-verified")
        raw = json.dumps(dict(sealed)).encode("ascii")
        prove = send_anywhere if anywhere else self._prove
        answer = self._exchange("POST", WELL_KNOWN + "encrypted", raw, {"Content-Type": "application/jose+json"}, prove, envelope.ENCODED_MAX)
        if answer.status != 200:
            raise ServingError("it refused the encrypted request: %s" % said(answer), where=self._url, code="request-refused")
        found = strict.loads(answer.body, "answer of %s" % self._url)
        if not isinstance(found, dict):
            raise ServingError("it is no encrypted answer", where="answer of %s" % self._url, code="answer-form")
        return found

    def _known(self) -> Verified:
        if self.verified is None:
            raise ServingError("the server was not verified", where=self._url, fix="Call verify first", code="not-verified")
        return self.verified

    def _prove(self, channel: ssl.SSLSocket) -> None:
        expected, found = self._known().spki, key_of(channel)
        if found != expected:
            raise ServingError("it shows the key %s, attested is %s" % (found, expected), where=self._url,
                               fix="The server was started anew or another one answers: verify it again. Nothing was sent", code="key-other")  # fmt: skip

    def _exchange(
        self, method: str, target: str, body: Optional[bytes], headers: Dict[str, str], prove: Callable[[ssl.SSLSocket], None], most: int
    ) -> Exchanged:
        if self._token and prove == self._prove:
            headers = dict(headers, Authorization="Bearer %s" % self._token)
        try:
            found = exchange(self._host, self._port, method, target, body, headers, timeout=self._timeout, most=most, context=client_context(), prove=prove)
        except OSError as error:
            raise ServingError("it gives no answer (%s)" % (error.strerror or error), where=self._url, fix="See whether the server runs and can be reached",
                               code="unreachable") from None  # fmt: skip
        if len(found.body) > most:
            raise ServingError("its answer is longer than %d bytes" % most, where=self._url, code="answer-size")
        return found


@dataclass(frozen=True)
class Sealed:
    """An encrypted request and what opens its answer."""

    jwe: Dict[str, str]
    identifier: str
    key: Any

    @classmethod
    def make(
        cls, server: Mapping[str, str], method: str, target: str, body: bytes, content_type: str, reply_to: Optional[Mapping[str, str]] = None, **more: Any
    ) -> Sealed:
        """Encrypt to the attested key. Without ``reply_to`` (a public JWK) a key is made for the answer, which this object keeps."""
        key = None
        if reply_to is None:
            require_cryptography()
            from cryptography.hazmat.primitives.asymmetric import ec

            key = ec.generate_private_key(ec.SECP256R1())
            reply_to = keys.public_jwk(key)
        request = Request(method, target, content_type, body, reply_to, envelope.expires(**more))
        return cls(request.seal(server), request.identifier, key)

    def open(self, answer: Mapping[str, Any], key: Any = None) -> Answer:
        """Raises AttestedError, also for the answer to another request."""
        return Answer.open(dict(answer), key or self.key, self.identifier)


def send_anywhere(*_ignored: Any) -> None:
    """The judge, and the proof, of those who carry what they cannot read."""


def key_of(channel: ssl.SSLSocket) -> str:
    """The digest of the key that the other end of a connection has shown it holds."""
    certificate = channel.getpeercert(binary_form=True)
    if not certificate:
        raise ServingError("it shows no certificate", where="TLS", code="key-unattested")
    return spki_digest(certificate)


def said(answer: Exchanged) -> str:
    """The server's reason, or its status. It is somebody else's text: short, and printable."""
    try:
        message = json.loads(answer.body)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return "status %d" % answer.status
    return "%s (status %d)" % (ascii(str(message))[1:300], answer.status)
