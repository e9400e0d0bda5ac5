# SPDX-License-Identifier: GPL-3.0-or-later
"""What the KBS answers: one method per call, the errors by name. No network here.

Written after trustee v0.21.0 (kbs/src/api_server.rs, error.rs, admin/, attestation/, plugins/implementations/resource/).
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwe
from cryptography.hazmat.primitives.asymmetric import ec

from . import jwt, rego
from .attestation import AttestationFailed, AttestationService

ERRORS = "https://github.com/confidential-containers/kbs/errors/"
DEFAULT_POLICY = """package policy

default allow = false

allow if {
  data.plugin == "resource"
  not input["submods"]["cpu0"]["ear.veraison.annotated-evidence"]["sample"]
}
"""
_SEGMENT = r"[a-zA-Z0-9_\-]+[a-zA-Z0-9_\-.]*"
_RESOURCE = re.compile(rf"{_SEGMENT}/{_SEGMENT}/{_SEGMENT}\Z")
_KEY = re.compile(r"[A-Za-z0-9._/-]*\Z")
_NOT_FOUND = ("InvalidRequestPath", "PluginNotFound")
BODY_MAX = 2 << 20


class Refused(Exception):
    """An error of the KBS: its name and its text."""

    def __init__(self, variant: str, detail: str, log: str = "") -> None:
        super().__init__(detail)
        self.variant, self.detail, self.log = variant, detail, log


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Admin:
    """[admin]: AuthenticatedAuthorization with one identity provider and rules, InsecureAllowAll or DenyAll."""

    mode: str = "AuthenticatedAuthorization"
    key: Any = None
    issuer: str | None = None
    audience: str | None = None
    acls: tuple[tuple[str, str], ...] = (("admin", "^/kbs/.+$"),)


class Kbs:
    """The whole state, in memory. ``clock`` is that of the KBS."""

    def __init__(self, admin: Admin, clock: Callable[[], float] = time.time, session_minutes: float = 5, token_minutes: float = 5) -> None:
        self.admin, self.clock, self._minutes = admin, clock, session_minutes
        self._signer = ec.generate_private_key(ec.SECP256R1())
        self.attestation = AttestationService(self._sign, clock, token_minutes)
        self.resources: dict[str, bytes] = {}
        self.policy = DEFAULT_POLICY
        self.sessions: dict[str, dict[str, Any]] = {}
        self.log: list[str] = []

    def lose_everything(self) -> None:
        """What a restart does to a KBS without a volume."""
        self.__init__(self.admin, self.clock, self._minutes)  # type: ignore[misc]

    def answer(self, method: str, target: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        path, _mark, query = target.partition("?")
        if path == "/healthz":
            return Reply(200)
        if path == "/metrics":
            return Reply(200, b"# TYPE http_requests_total counter\nhttp_requests_total %d\n" % len(self.log))
        if not path.startswith("/kbs/v0/"):
            return Reply(404)
        if len(body) > BODY_MAX:
            return Reply(413, b"A payload reached size limit.")
        try:
            return self._call(method, path[len("/kbs/v0/"):].split("/"), query, body, headers, target)
        except Refused as refused:
            self.log.append(f"{refused.variant}: {refused.log or refused.detail}")
            error = {"type": ERRORS + refused.variant, "detail": refused.detail}
            return Reply(404 if refused.variant in _NOT_FOUND else 401, json.dumps(error).encode("utf-8"))

    def _call(self, method: str, parts: list[str], query: str, body: bytes, headers: Mapping[str, str], target: str) -> Reply:
        name = parts[0]
        if (method, name) == ("POST", "auth"):
            return self._auth(body)
        if (method, name) == ("POST", "attest"):
            return self._attest(body, headers)
        admin = {
            ("POST", "attestation-policy"): self._set_attestation_policy, ("POST", "resource-policy"): self._set_resource_policy,
            ("GET", "resource-policy"): lambda _body, _rest: Reply(200, b'["resource-policy"]'),
            ("POST", "reference-value"): self._set_reference, ("GET", "reference-value"): self._get_reference,
        }.get((method, name))  # fmt: skip
        if admin is not None:
            self._admit(headers, target, "AdminAuthAccess", f"admin access denied for endpoint {name}: ")
            return admin(body, parts[1:])
        if name != "resource":
            raise Refused("PluginNotFound", f"Plugin {name} not found")
        if method in ("POST", "DELETE"):
            self._admit(headers, target, "AdminAuthInitialization", "failed to initialize [admin] configuration: ")
            return self._change(method, "/".join(parts[1:]), body)
        return self._give(parts[1:], query, headers)

    # -- admin --------------------------------------------------------------------------------------------------------

    def _admit(self, headers: Mapping[str, str], target: str, variant: str, begin: str) -> None:
        def deny(reason: str, text: str = "Admin access denied: ") -> Refused:
            return Refused(variant, begin + text + reason)

        if self.admin.mode == "InsecureAllowAll":
            return
        if self.admin.mode == "DenyAll":
            raise deny("Admin access denied as DenyAll authorization_mode is enabled")
        scheme, _blank, token = headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            raise deny("", "Failed to parse HTTP Auth Bearer header")
        try:
            claims = jwt.verify(token, self.admin.key, self.clock())
        except jwt.JwtError:
            raise deny("Cannot verify token with any of the issuers") from None
        if not isinstance(claims.get("role"), str):
            raise deny('Failed to parse claims from token: AdminAccessDenied { reason: "Missing required `role` claim in JWT" }')
        audiences = claims.get("aud", [])
        if (self.admin.issuer not in (None, claims.get("iss", "")) or
                self.admin.audience is not None and self.admin.audience not in ([audiences] if isinstance(audiences, str) else audiences)):
            raise deny("Cannot verify token with any of the issuers")
        if not any(role == claims["role"] and re.search(pattern, target) for role, pattern in self.admin.acls):
            raise deny(f"Role {claims['role']} not allowed for path {target}")

    def _set_resource_policy(self, body: bytes, _rest: list[str]) -> Reply:
        try:
            policy = json.loads(body)["policy"]
            # As v0.21: stored as it is, and looked at when it is needed.
            self.policy = base64.urlsafe_b64decode(_unpadded(policy)).decode("utf-8")
        except (ValueError, KeyError, TypeError) as error:
            raise Refused("ParsePolicyError", f"Failed to parse policy: {error}") from None
        return Reply(200)

    def _set_attestation_policy(self, body: bytes, _rest: list[str]) -> Reply:
        try:
            given = json.loads(body)
            self.attestation.policies[given["policy_id"]] = base64.urlsafe_b64decode(_unpadded(given["policy"])).decode("utf-8")
        except (ValueError, KeyError, TypeError) as error:
            raise Refused("AttestationError", "Attestation error: Set Attestation Policy failed", str(error)) from None
        return Reply(200)

    def _set_reference(self, body: bytes, _rest: list[str]) -> Reply:
        try:
            self.attestation.register(body.decode("utf-8"))
        except (ValueError, KeyError, TypeError) as error:
            raise Refused("RvpsError", f"RVPS configuration failed: Failed to register reference value: {error}") from None
        return Reply(200, headers={"Content-Type": "application/json"})

    def _get_reference(self, _body: bytes, rest: list[str]) -> Reply:
        name = "/".join(rest)
        if name not in self.attestation.references:
            raise Refused("RvpsError", "RVPS configuration failed: Failed to get reference_values: No reference value found for the given id: " + name)
        return Reply(200, json.dumps(self.attestation.references[name]).encode("utf-8"), {"Content-Type": "application/json"})

    def _change(self, method: str, path: str, body: bytes) -> Reply:
        if not _RESOURCE.match(path):
            raise Refused("PluginInternalError", "Plugin internal error", "illegal ResourceDesc format.")
        if method == "POST":
            self.resources[path] = body
        elif self.resources.pop(path, None) is None:
            raise Refused("PluginInternalError", "Plugin internal error", f"resource not found: {path}")
        return Reply(200, headers={"Content-Type": "text/xml"})

    # -- guests -------------------------------------------------------------------------------------------------------

    def _auth(self, body: bytes) -> Reply:
        begin = "Attestation error: RCAR handshake Auth failed: "
        try:
            request = json.loads(body)
            version, tee = request["version"], request["tee"]
        except (ValueError, KeyError, TypeError):
            raise Refused("AttestationError", begin + "deserialize Request") from None
        if version != "0.4.0":
            raise Refused("AttestationError", f"{begin}KBS Client Protocol Version Mismatch: expect =0.4.0 while the request is {version}")
        session, nonce = secrets.token_hex(16), base64.b64encode(secrets.token_bytes(32)).decode("ascii")
        self.sessions[session] = {"tee": tee, "nonce": nonce, "end": self.clock() + 60 * self._minutes, "token": None}
        return Reply(200, json.dumps({"nonce": nonce, "extra-params": ""}).encode("utf-8"), {"Set-Cookie": f"kbs-session-id={session}"})

    def _attest(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        def fail(log: str) -> Refused:
            return Refused("AttestationError", "Attestation error: RCAR handshake Attest failed", log)

        name = _cookie(headers)
        if name is None:
            raise fail("cookie not found")
        session = self._session(name)
        if session is None:
            raise fail("session not found")
        if session["token"] is None:
            try:
                request = json.loads(body)
                runtime, evidence = request["runtime-data"], request["tee-evidence"]
                if runtime["nonce"] != session["nonce"]:
                    raise fail("the nonce in the handshake session is different")
                bound = {"nonce": session["nonce"], "tee-pubkey": runtime["tee-pubkey"]}
                session["token"] = self.attestation.evaluate(session["tee"], evidence, bound, request["init-data"])
            except (AttestationFailed, AttestedError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise fail(f"{type(error).__name__}: {error}") from None
        answer = json.dumps({"token": session["token"]}).encode("utf-8")
        return Reply(200, answer, {"Set-Cookie": f"kbs-session-id={name}", "Content-Type": "application/json"})

    def _give(self, path: list[str], query: str, headers: Mapping[str, str]) -> Reply:
        session = self._session(_cookie(headers) or "")
        token = session["token"] if session else None
        if token is None:
            scheme, _blank, token = headers.get("authorization", "").partition(" ")
            if scheme != "Bearer":
                raise Refused("TokenNotFound", "Attestation Token not found")
        try:
            claims = jwt.verify(token, self._signer.public_key(), self.clock())
        except jwt.JwtError as error:
            raise Refused("TokenVerifierError", "Token Verifier error", str(error)) from None
        data = {"plugin": "resource", "resource-path": path, "query": dict(pair.split("=", 1) for pair in query.split("&") if "=" in pair)}
        try:
            allowed = rego.parse(self.policy).evaluate("allow", claims, data)
        except rego.RegoError as error:
            raise Refused("PolicyEngineError", f"Policy engine error: Failed to load policy: {error}") from None
        if allowed is not True:
            raise Refused("PolicyDeny", "Access denied by policy")
        found = self.resources.get("/".join(path))
        if found is None:
            raise Refused("PluginInternalError", "Plugin internal error", f"resource not found: {'/'.join(path)}")
        try:
            jwk = claims["submods"]["cpu0"]["ear.veraison.annotated-evidence"]["runtime_data_claims"]["tee-pubkey"]
            return Reply(200, json.dumps(jwe.wrap_flattened(found, jwk)).encode("utf-8"), {"Content-Type": "application/json"})
        except (AttestedError, KeyError) as error:
            raise Refused("JweError", "JWE failed", str(error)) from None

    def _session(self, name: str) -> dict[str, Any] | None:
        session = self.sessions.get(name)
        if session is not None and session["end"] < self.clock():
            del self.sessions[name]
            return None
        return session

    def _jwk(self) -> dict[str, Any]:
        numbers = self._signer.public_key().public_numbers()
        x, y = (jwt.encode(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
        return {"alg": "ES256", "kty": "EC", "crv": "P-256", "x": x, "y": y}

    def _sign(self, claims: dict[str, Any]) -> str:
        return jwt.sign_es256({"typ": "JWT", "alg": "ES256", "jwk": self._jwk()}, claims, self._signer)


def _cookie(headers: Mapping[str, str]) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get("kbs-session-id")
    except CookieError:
        return None
    return None if found is None else found.value


def _unpadded(text: str) -> str:
    """base64url without padding; with padding the KBS refuses it."""
    if not re.fullmatch(r"[A-Za-z0-9_-]*", text):
        raise ValueError("Failed to decode policy: Invalid byte")
    return text + "=" * (-len(text) % 4)
