# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""COSE_Sign1 messages and EC2 COSE_Keys (RFC 9052, RFC 9053), as far as attestation tokens use them. Nothing is verified here.

The algorithm counts only in the protected header. Besides it a key id and a content type may be there: they are hints, and nothing
here relies on them. Every other header parameter is refused, "crit" (2) with them: what we do not understand must not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, NamedTuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import cbor
from ansible_collections.attested.ai.plugins.module_utils.formats.strict import is_integer

TAG_SIGN1 = 18
_ALG, _CONTENT_TYPE, _KEY_ID = 1, 3, 4
_HINTS = (_CONTENT_TYPE, _KEY_ID)
_SIGNATURE1 = b"\x84\x6aSignature1"

# COSE_Key parameters (RFC 9052 section 7, RFC 9053 section 7.1.1).
_KTY, _KEY_KID, _KEY_ALG, _KEY_OPS, _CRV, _X, _Y = 1, 2, 3, 4, -1, -2, -3
_EC2 = 2
_VERIFY = 2


class Algorithm(NamedTuple):
    """An ECDSA algorithm: its COSE number, the one curve that this library takes with it (JWK name), the hash, the signature's size."""

    name: str
    number: int
    curve: str
    hash_name: str
    signature_size: int


ALGORITHMS: Mapping[int, Algorithm] = {
    algorithm.number: algorithm
    for algorithm in (
        Algorithm("ES256", -7, "P-256", "sha256", 64),
        Algorithm("ES384", -35, "P-384", "sha384", 96),
        Algorithm("ES512", -36, "P-521", "sha512", 132),
    )
}
# JWK curve -> bytes of a coordinate.
COORDINATE_SIZE = {"P-256": 32, "P-384": 48, "P-521": 66}
_COSE_CURVES = {1: "P-256", 2: "P-384", 3: "P-521"}


class EcPoint(NamedTuple):
    """A public key as it was received: not checked to lie on its curve. ``x`` and ``y`` are big-endian, of the curve's size."""

    curve: str
    x: bytes
    y: bytes


@dataclass(frozen=True)
class Sign1:
    """A COSE_Sign1. ``protected`` and ``payload`` are the byte strings as received, ``signature`` is r and s, big-endian, one after the other."""

    algorithm: Algorithm
    protected: bytes
    payload: bytes
    signature: bytes

    @property
    def signed(self) -> bytes:
        """The bytes that the signature covers: the Sig_structure with empty external data (RFC 9052 section 4.4)."""
        return b"".join((_SIGNATURE1, cbor.encode_bytes(self.protected), b"\x40", cbor.encode_bytes(self.payload)))


def parse_sign1(data: bytes, where: str) -> Sign1:
    """Read a tagged COSE_Sign1 that takes the whole of ``data``.

    Raises FormatError: "format", "duplicate-claim", or "cose-alg" for a protected header without a known ECDSA algorithm, for an
    algorithm outside of it, and for a signature that has not the algorithm's size.
    """
    message = cbor.decode(data, where)
    if not isinstance(message, cbor.Tagged) or message.tag != TAG_SIGN1:
        raise FormatError("it is no COSE_Sign1 under tag %d" % TAG_SIGN1, where=where)
    parts = message.value
    if not isinstance(parts, tuple) or len(parts) != 4:
        raise FormatError("a COSE_Sign1 has four parts", where=where)
    protected, unprotected, payload, signature = parts
    if not all(isinstance(part, bytes) for part in (protected, payload, signature)) or not isinstance(unprotected, dict):
        raise FormatError("the parts of the COSE_Sign1 have not the types bytes, map, bytes, bytes", where=where)
    algorithm = _algorithm(protected, unprotected, where)
    if len(signature) != algorithm.signature_size:
        raise FormatError(
            "the signature has %d bytes, %s has %d" % (len(signature), algorithm.name, algorithm.signature_size), where=where, code="cose-alg"
        )
    return Sign1(algorithm, protected, payload, signature)


def _algorithm(protected: bytes, unprotected: Mapping[Any, Any], where: str) -> Algorithm:
    header: Any = cbor.decode(protected, where + " protected header") if protected else {}
    if not isinstance(header, dict):
        raise FormatError("the protected header is no map", where=where)
    if _ALG in unprotected:
        raise FormatError("the unprotected header names an algorithm, which anybody could have changed", where=where, code="cose-alg")
    if _ALG not in header:
        raise FormatError("the protected header names no algorithm", where=where, code="cose-alg")
    for label in list(header) + list(unprotected):
        if label not in _HINTS and label != _ALG:
            raise FormatError("unknown header parameter %s" % ascii(label)[:40], where=where)
        # RFC 9052 section 3: a label occurs in one of the two maps only.
        if label in header and label in unprotected:
            raise FormatError("the header parameter %s is both protected and unprotected" % ascii(label)[:40], where=where)
    number = header[_ALG]
    algorithm = ALGORITHMS.get(number) if is_integer(number) else None
    if algorithm is None:
        raise FormatError("the algorithm %s is none of ES256, ES384, ES512" % ascii(number)[:40], where=where, code="cose-alg")
    return algorithm


def parse_ec2_key(data: bytes, where: str) -> EcPoint:
    """Read a COSE_Key of type EC2 with both coordinates in full. Raises FormatError; whether the point is on the curve is not looked at."""
    key = cbor.decode(data, where)
    if not isinstance(key, dict):
        raise FormatError("it is no COSE_Key", where=where)
    for label in key:
        if label not in (_KTY, _KEY_KID, _KEY_ALG, _KEY_OPS, _CRV, _X, _Y):
            raise FormatError("unknown COSE_Key parameter %s" % ascii(label)[:40], where=where)
    kind, curve = key.get(_KTY), _curve(key)
    if not is_integer(kind) or kind != _EC2 or curve is None:
        raise FormatError("it is no EC2 key on P-256, P-384 or P-521", where=where)
    size = COORDINATE_SIZE[curve]
    for label, name in ((_X, "x"), (_Y, "y")):
        if not isinstance(key.get(label), bytes) or len(key[label]) != size:
            raise FormatError("the coordinate %s is not %d bytes" % (name, size), where=where)
    _check_use(key, curve, where)
    return EcPoint(curve, key[_X], key[_Y])


def _curve(key: Dict[Any, Any]) -> Any:
    number = key.get(_CRV)
    return _COSE_CURVES.get(number) if isinstance(number, int) and not isinstance(number, bool) else None


def _check_use(key: Dict[Any, Any], curve: str, where: str) -> None:
    """What the key says of its own use must allow what it is used for."""
    if _KEY_ALG in key:
        number = key[_KEY_ALG]
        algorithm = ALGORITHMS.get(number) if is_integer(number) else None
        if algorithm is None or algorithm.curve != curve:
            raise FormatError("the key is for the algorithm %s, which does not fit %s" % (ascii(number)[:40], curve), where=where)
    if _KEY_OPS in key and (not isinstance(key[_KEY_OPS], tuple) or _VERIFY not in key[_KEY_OPS]):
        raise FormatError("the key is not meant to verify signatures (key_ops)", where=where)


def parse_point(data: bytes, curve: str, where: str) -> EcPoint:
    """Read an uncompressed point (SEC 1 section 2.3.3): 0x04 and both coordinates. Raises FormatError."""
    size = COORDINATE_SIZE[curve]
    if len(data) != 1 + 2 * size or data[0] != 4:
        raise FormatError("it is no uncompressed point of %s (%d bytes, the first one 4)" % (curve, 1 + 2 * size), where=where)
    return EcPoint(curve, data[1 : 1 + size], data[1 + size :])
