# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Sealed secrets of Confidential Containers: sealed.<header>.<payload>.<signature>, ES256, always signed.

A vault secret names a resource of a KBS; an envelope holds a secret that a cloud's key service encrypted. Neither shows the secret: Kubernetes may keep it.
Source: guest-components, confidential-data-hub/docs/SEALED_SECRET.md.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError
from ansible_collections.attested.ai.plugins.module_utils.kbs.protocol import Resource
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import load_public_ec, public_jwk

PREFIX = "sealed."
VERSION = "0.1.0"
VAULT, ENVELOPE = "vault", "envelope"
# Key services whose envelopes the guest opens.
PROVIDERS = ("aliyun", "aws")
SECRET_MAX = 1 << 20
_FILE_KID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_COMMON = ("version", "type", "provider", "provider_settings", "annotations")
_MEMBERS = {VAULT: (*_COMMON, "name"), ENVELOPE: (*_COMMON, "key_id", "encrypted_key", "encrypted_data", "wrap_type", "iv")}


@dataclass(frozen=True)
class Sealed:
    """What a sealed secret says. ``kid`` names the public key in the KBS."""

    kid: str
    payload: Mapping[str, Any]


def vault(resource: str) -> Dict[str, Any]:
    """The payload for a resource of the KBS."""
    return {"version": VERSION, "type": VAULT, "name": Resource.parse(resource, "sealed secret").uri, "provider": "kbs", "provider_settings": {},
            "annotations": {}}  # fmt: skip


def envelope(provider: str, key_id: str, encrypted_key: str, encrypted_data: str, iv: str, settings: Optional[Mapping[str, Any]] = None,
             annotations: Optional[Mapping[str, Any]] = None) -> Dict[str, Any]:  # fmt: skip
    """The payload for a secret under a data key that a cloud's key service wrapped. The guest opens it with that service's credentials."""
    return {"version": VERSION, "type": ENVELOPE, "provider": provider, "key_id": key_id, "encrypted_key": encrypted_key, "encrypted_data": encrypted_data,
            "wrap_type": "A256GCM", "iv": iv, "provider_settings": dict(settings or {}), "annotations": dict(annotations or {})}  # fmt: skip


def seal(payload: Mapping[str, Any], key: Any, kid: str, previous: str = "") -> str:
    """Sign it with an EC P-256 private key. A ``previous`` sealed secret that says the same and holds by this key is returned as it is: signatures differ
    each time, and what did not change should not look changed."""
    check_payload(payload)
    header = {"b64": True, "alg": "ES256", "kid": check_kid(kid)}
    if previous and _same(previous, payload, key, kid):
        return previous
    text = "%s.%s" % tuple(strict.encode_base64url(json.dumps(part, separators=(",", ":")).encode("utf-8")) for part in (header, payload))
    return "%s%s.%s" % (PREFIX, text, strict.encode_base64url(_signature(key, text.encode("ascii"))))


def verify(text: Any, jwk: Any) -> Sealed:
    """What a sealed secret says, if this key (JWK or key object) signed it. Raises KbsError, FormatError."""
    where = "sealed secret"
    header, payload, signature, signed = _parts(text, where)
    public = load_public_ec(jwk, ("P-256",), "key of the sealed secret") if isinstance(jwk, Mapping) else jwk
    require_cryptography()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        public.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise KbsError("it was changed, or another key signed it", where=where, code="sealed-secret-signature") from None
    check_payload(payload)
    return Sealed(str(header["kid"]), payload)


def public_key(key: Any, kid: str = "") -> Dict[str, str]:
    """The JWK that lies in the KBS under the kid: the guest checks sealed secrets with it."""
    jwk = dict(public_jwk(key, "ES256"), use="sig")
    return dict(jwk, kid=kid) if kid else jwk


def check_kid(kid: str) -> str:
    """A resource of the KBS, or a file that the guest has."""
    if isinstance(kid, str) and kid.startswith("kbs:"):
        return Resource.parse(kid, "kid").uri
    if not isinstance(kid, str) or not _FILE_KID.match(kid):
        raise KbsError("%s is neither kbs:///repository/type/tag nor the name of a file" % strict.quoted(kid), where="kid", code="sealed-secret-kid")
    return kid


def check_payload(payload: Any) -> None:
    """Raises FormatError or KbsError unless a guest can read it."""
    where = "payload of the sealed secret"
    kind = payload.get("type") if isinstance(payload, Mapping) else None
    if kind not in _MEMBERS:
        raise KbsError("its type is %s, not vault or envelope" % strict.quoted(kind), where=where, code="sealed-secret-form")
    strict.members(payload, _MEMBERS[kind], where=where)
    if payload["version"] != VERSION:
        raise KbsError("its version is %s, not %s" % (strict.quoted(payload["version"]), VERSION), where=where, code="sealed-secret-form")
    for name in ("provider_settings", "annotations"):
        if not isinstance(payload[name], Mapping):
            raise KbsError("%s is no object" % name, where=where, code="sealed-secret-form")
    for name in _MEMBERS[kind]:
        if name not in ("provider_settings", "annotations") and (not isinstance(payload[name], str) or not payload[name]):
            raise KbsError("%s is no text" % name, where=where, code="sealed-secret-form")
    if kind == VAULT and payload["provider"] == "kbs":
        Resource.parse(payload["name"], where)
    if kind == ENVELOPE and (payload["provider"] not in PROVIDERS or payload["wrap_type"] != "A256GCM"):
        raise KbsError("envelopes are of %s, wrapped by A256GCM" % " or ".join(PROVIDERS), where=where, code="sealed-secret-form")


def _parts(text: Any, where: str) -> Tuple[Mapping[str, Any], Mapping[str, Any], bytes, bytes]:
    value = strict.text_of(text, where, SECRET_MAX)
    if not value.startswith(PREFIX) or value.count(".") != 3:
        blank = " (there is white space around it, which guests refuse)" if value != value.strip() else ""
        raise KbsError("it is not sealed.<header>.<payload>.<signature>%s" % blank, where=where, code="sealed-secret-form")
    if value.startswith(PREFIX + "fakejwsheader"):
        raise KbsError("it is not signed", where=where, fix="Seal it anew: guests of Confidential Containers 0.19 and later refuse it",
                       code="sealed-secret-form")
    head, body, tail = value[len(PREFIX):].split(".")
    header = strict.members(strict.loads(strict.decode_base64url(head, where, 2, 4096), where), ("alg", "kid"), ("b64", "typ"), where=where)
    if header["alg"] != "ES256" or header.get("b64", True) is not True:
        raise KbsError("it is signed by %s, not ES256" % strict.quoted(header["alg"]), where=where, code="sealed-secret-form")
    check_kid(header["kid"])
    payload = strict.loads(strict.decode_base64url(body, where, 2, SECRET_MAX), where)
    return header, payload, strict.decode_base64url(tail, where, 64, 64), ("%s.%s" % (head, body)).encode("ascii")


def _same(previous: str, payload: Mapping[str, Any], key: Any, kid: str) -> bool:
    try:
        found = verify(previous, key.public_key())
    except AttestedError:
        return False
    return found.kid == kid and dict(found.payload) == dict(payload)


def _signature(key: Any, data: bytes) -> bytes:
    require_cryptography()
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")
