# SPDX-License-Identifier: GPL-3.0-or-later
"""Reference integrity manifests in NVIDIA's form: a SWID tag with an enveloped XML signature (ECDSA P-384, SHA-384).

The text is written in canonical form to begin with (inclusive Canonical XML 1.1), so no XML library is needed to sign it.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Mapping, Sequence

from cryptography.hazmat.primitives.asymmetric import ec

from softtee.nvidia_report import raw_signature

_SWID = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
_HASH = "http://www.w3.org/2001/04/xmlenc#sha384"
_DSIG = "http://www.w3.org/2000/09/xmldsig#"
_C14N = "http://www.w3.org/2006/12/xml-c14n11"
_ECDSA = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"
_SHA384 = "http://www.w3.org/2001/04/xmldsig-more#sha384"
_END = "</SoftwareIdentity>"


def document(*, product: str, version: str, edition: str, active: Mapping[int, Sequence[bytes]], rows: int) -> str:
    """The manifest without its signature. ``edition`` is GPU or SWITCH; every index below ``rows`` has a record, ``active`` those that count."""
    tag = hashlib.sha256(("%s %s %s" % (product, edition, version)).encode("ascii")).hexdigest()
    lines = []
    for index in range(rows):
        digests = active.get(index) or (bytes(48),)
        hashes = "".join(' ns2:Hash%d="%s"' % (number, digest.hex()) for number, digest in enumerate(digests))
        lines.append(
            '<Resource active="%s" alternatives="%d" index="%d" name="Measurement_%d" size="48" type="Measurement"%s></Resource>'
            % (index in active, len(digests), index, index, hashes)
        )
    return (
        '<SoftwareIdentity xmlns="%s" xmlns:ns2="%s" corpus="false" name="Soft %s" patch="false" supplemental="false" tagId="%s" version="1.0">\n'
        '<Entity name="Soft authority" role="softwareCreator tagCreator"></Entity>\n'
        '<Meta colloquialVersion="%s" edition="%s" product="%s" revision="1"></Meta>\n<Payload>\n%s\n</Payload>\n%s'
    ) % (_SWID, _HASH, product, tag, version, edition, product, "\n".join(lines), _END)


def sign(text: str, key: ec.EllipticCurvePrivateKey, certificates: Sequence[bytes]) -> bytes:
    """Put the enveloped signature before the end tag. ``certificates`` are DER, the signer's first."""
    digest = base64.b64encode(hashlib.sha384(text.encode("ascii")).digest()).decode("ascii")
    # What is signed is SignedInfo in canonical form: as the apex of a subset it repeats every namespace that is in scope.
    body = _signed_info(digest)
    apex = '<ds:SignedInfo xmlns="%s" xmlns:ds="%s" xmlns:ns2="%s">' % (_SWID, _DSIG, _HASH)
    value = base64.b64encode(raw_signature(key, (apex + body).encode("ascii"))).decode("ascii")
    chain = "".join("<ds:X509Certificate>%s</ds:X509Certificate>" % base64.b64encode(one).decode("ascii") for one in certificates)
    signature = (
        '<ds:Signature xmlns:ds="%s"><ds:SignedInfo>%s<ds:SignatureValue>%s</ds:SignatureValue>'
        "<ds:KeyInfo><ds:X509Data>%s</ds:X509Data></ds:KeyInfo></ds:Signature>"
    ) % (_DSIG, body, value, chain)
    return (text[: -len(_END)] + signature + _END).encode("ascii")


def _signed_info(digest: str) -> str:
    """Content and end tag of SignedInfo."""
    return (
        '<ds:CanonicalizationMethod Algorithm="%(c14n)s"></ds:CanonicalizationMethod>'
        '<ds:SignatureMethod Algorithm="%(ecdsa)s"></ds:SignatureMethod>'
        '<ds:Reference URI=""><ds:Transforms><ds:Transform Algorithm="%(dsig)senveloped-signature"></ds:Transform>'
        '<ds:Transform Algorithm="%(c14n)s"></ds:Transform></ds:Transforms>'
        '<ds:DigestMethod Algorithm="%(sha384)s"></ds:DigestMethod><ds:DigestValue>%(digest)s</ds:DigestValue></ds:Reference></ds:SignedInfo>'
    ) % {"c14n": _C14N, "ecdsa": _ECDSA, "dsig": _DSIG, "sha384": _SHA384, "digest": digest}
