# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Admin tokens: short-lived JWTs that we mint ourselves, or one that somebody else issued.

Trustee 0.21 and later want a bearer JWT with a claim ``role``; it looks at ``iss`` and ``aud`` where they are configured, and at ``exp`` always.
The key stays in this process: it is in no argument list, no environment and no message.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Tuple

from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.secretfile import read_secret

LIFETIME = 120
LIFETIME_MAX = 3600
_WHAT = "admin key"
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z")
# What the KBS forgives at exp is more than what a clock should be off.
_SOON = 5


@dataclass(frozen=True)
class AdminKey:
    """The private key of the admin and what its tokens say."""

    key: Any = field(repr=False)
    issuer: str
    audience: str = "KBS"
    subject: str = "admin"
    role: str = "admin"
    lifetime: int = LIFETIME
    clock: Callable[[], float] = time.time

    def token(self) -> str:
        """A fresh one. Raises KbsError for a kind of key that a KBS does not take."""
        now = int(self.clock())
        header, sign = _signer(self.key)
        claims = {"iss": self.issuer, "sub": self.subject, "aud": [self.audience], "role": self.role, "iat": now, "exp": now + self.lifetime}
        text = "%s.%s" % tuple(strict.encode_base64url(jcs.canonicalize(part)) for part in (header, claims))
        return "%s.%s" % (text, strict.encode_base64url(sign(text.encode("ascii"))))


def load_admin_key(path: str) -> Any:
    """The private key of a PEM file that only its owner may read: Ed25519, EC P-256, or RSA of 2048 bits and more. Raises KeyReleaseError, KbsError."""
    pem = read_secret(path, _WHAT)
    require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KbsError("it holds no unencrypted private key in PEM form", where=path, fix="Make one: openssl genpkey -algorithm ed25519",
                       code="kbs-admin-key") from None
    _signer(key, path)
    return key


def load_token(path: str, clock: Callable[[], float] = time.time) -> str:
    """A token that somebody else issued, from a file of its owner's. One that has expired is refused here: the KBS would not say why."""
    return checked_token(read_secret(path, "admin token"), path, clock)


def checked_token(data: bytes, path: str, clock: Callable[[], float] = time.time) -> str:
    """The same of bytes; ``path`` names them in errors."""
    text = data.decode("ascii", "replace").strip()
    if not _TOKEN.match(text):
        raise KbsError("it holds no JWT", where=path, code="kbs-admin-token")
    try:
        claims = strict.loads(strict.decode_base64url(text.split(".")[1], "claims"), "claims")
        expires = claims["exp"]
        if isinstance(expires, bool) or not 0 <= expires <= jcs.MAX_INTEGER:
            raise ValueError
        left = expires - clock()
    except (AttestedError, KeyError, TypeError, ValueError):
        raise KbsError("its claims hold no time of expiry (exp)", where=path, fix="A KBS asks for one", code="kbs-admin-token") from None
    if left < _SOON:
        raise KbsError("the admin token has expired %d seconds ago" % max(0, -left), where=path, fix="Have a new one issued; or give admin_key, which mints "
                       "one for each run", code="kbs-admin-token-expired")
    if not isinstance(claims.get("role"), str):
        raise KbsError("the admin token has no claim role", where=path, fix="KBS 0.21 and later need one", code="kbs-admin-token")
    return text


def _signer(key: Any, where: str = _WHAT) -> Tuple[Any, Callable[[bytes], bytes]]:
    """(header, function that signs)."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    if isinstance(key, ed25519.Ed25519PrivateKey):
        return {"alg": "EdDSA", "typ": "JWT"}, key.sign
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp256r1":

        def raw(data: bytes) -> bytes:
            r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(32, "big") + s.to_bytes(32, "big")

        return {"alg": "ES256", "typ": "JWT"}, raw
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048:
        return {"alg": "RS256", "typ": "JWT"}, lambda data: key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    raise KbsError("a KBS takes Ed25519, EC P-256 or RSA of 2048 bits and more, this is none of them", where=where,
                   fix="Make one: openssl genpkey -algorithm ed25519", code="kbs-admin-key")
