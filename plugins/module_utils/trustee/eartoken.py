# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Look at an attestation token of a key broker: by which key it is signed, when it ends, and what it says of each submodule."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any, Dict, Mapping

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.trustee import certificates as x
from ansible_collections.attested.ai.plugins.module_utils.trustee.problem import TrusteeError

_MAX = 1 << 20


@dataclass(frozen=True)
class Token:
    """``leaf`` is the certificate of the key that signed it, ``statuses`` are those of its submodules."""

    leaf: Any
    issued: int
    expires: int
    statuses: Mapping[str, str]


def verify(token: str, authority: str, now: datetime.datetime) -> Token:
    """The token, if its ES256 signature is one of a certificate of this authority (PEM) that is valid now. Raises TrusteeError."""
    try:
        parts = token.split(".")
        header, claims, signature = (strict.decode_base64url(part, "token", 2, _MAX) for part in parts)
        head, body = strict.loads(header, "token header"), strict.loads(claims, "token claims")
    except (AttestedError, ValueError) as error:
        raise _bad(str(error)) from None
    if not isinstance(head, dict) or not isinstance(body, dict) or head.get("alg") != "ES256":
        raise _bad("it is not signed with ES256")
    leaf = _leaf(head, authority, now)
    _signature(leaf, ("%s.%s" % (parts[0], parts[1])).encode("ascii"), signature)
    return Token(leaf, _moment(body, "iat"), _moment(body, "exp"), _statuses(body))


def _leaf(head: Dict[str, Any], authority: str, now: datetime.datetime) -> Any:
    from cryptography import x509

    # Inside the key, where Trustee puts it and where its KBS alone looks.
    jwk = head.get("jwk")
    chain = jwk.get("x5c") if isinstance(jwk, dict) else None
    if not isinstance(chain, list) or not chain:
        raise _bad("no certificate is in its header's key, so the KBS cannot verify it", "Give the signer of tokens its key and its certificate")
    try:
        leaf = x509.load_der_x509_certificate(strict.decode_base64(chain[0], "x5c", 64, 1 << 16))
    except (AttestedError, ValueError) as error:
        raise _bad("the certificate in its header cannot be read (%s)" % error) from None
    ca = x.load_chain(authority.encode("ascii"), "token authority")[0]
    if not x.signed_by(leaf, ca):
        raise _bad("its certificate is of another authority than the one for tokens", "See which key the attestation service was given")
    if not x.begins(leaf) <= now <= x.ends(leaf):
        raise _bad("its certificate is out of its time (until %s)" % x.ends(leaf), "Renew it; and compare the clocks")
    if not _same_key(leaf, jwk):
        raise _bad(
            "its header's key is none of its certificate, so the KBS refuses it", "Give the signer of tokens a key and a certificate that belong together"
        )
    return leaf


def _same_key(leaf: Any, jwk: Any) -> bool:
    from cryptography.hazmat.primitives.asymmetric import ec

    public = leaf.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey):
        return False
    numbers = public.public_numbers()
    return [jwk.get("x"), jwk.get("y")] == [strict.encode_base64url(number.to_bytes((public.key_size + 7) // 8, "big")) for number in (numbers.x, numbers.y)]


def _signature(leaf: Any, signed: bytes, signature: bytes) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    public = leaf.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name != "secp256r1" or len(signature) != 64:
        raise _bad("its key is none of EC P-256")
    try:
        public.verify(encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")), signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise _bad("its signature is none of its certificate's key") from None


def _moment(body: Mapping[str, Any], name: str) -> int:
    value = body.get(name)
    if not strict.is_integer(value):
        raise _bad("it has no %s" % name)
    return int(value)  # type: ignore[arg-type]


def _statuses(body: Mapping[str, Any]) -> Dict[str, str]:
    found = body.get("submods")
    if not isinstance(found, dict) or not found or not all(isinstance(one, dict) for one in found.values()):
        raise _bad("it holds no submodules")
    return {strict.quoted(name).strip("'"): str(one.get("ear.status"))[:40] for name, one in sorted(found.items())}


def _bad(what: str, fix: str = "See the log of the attestation service") -> TrusteeError:
    return TrusteeError(what, where="attestation token", fix=fix, code="trustee-token")
