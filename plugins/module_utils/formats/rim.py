# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""NVIDIA's reference integrity manifests (RIM): SWID tags with an enveloped XML signature.

Source: ISO/IEC 19770-2:2015, TCG Reference Integrity Manifest, W3C XML Signature and Canonical XML 1.1. Only the one shape that
NVIDIA signs is read: one Signature, one Reference to the whole document, no DTD, no entity, no comment, nothing from a network.
What the manifest says is read from the canonical bytes that the digest is taken of, never from the document as received.
Nothing here decides about trust. Needs lxml, which is loaded on first use.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import importlib
import re
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Dict, List, Mapping, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import DependencyError, FormatError

RIM_MAX = 1024 * 1024
DIGEST_SIZE = 48
SIGNATURE_SIZE = 96
INDEX_MAX = 63
CERTIFICATES_MAX = 8
_ALTERNATIVES_MAX = 64

SWID = "{http://standards.iso.org/iso/19770/-2/2015/schema.xsd}"
SIGNATURE_NAMESPACE = "{http://www.w3.org/2000/09/xmldsig#}"
HASH_NAMESPACE = "{http://www.w3.org/2001/04/xmlenc#sha384}"
# Records whose attributes are of this namespace hold numbers, for example a least SVN. Their layout is not known here.
NUMERIC_NAMESPACE = "{https://docs.nvidia.com/attestation/specs/latest/opaque-data.html}"
_XML_NAMESPACE = "{http://www.w3.org/XML/1998/namespace}"
ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
# Without xml:* attributes both give the same bytes.
CANONICAL = ("http://www.w3.org/2006/12/xml-c14n11", "http://www.w3.org/TR/2001/REC-xml-c14n-20010315")
ECDSA_SHA384 = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"
SHA384 = "http://www.w3.org/2001/04/xmldsig-more#sha384"
_HASH_NAME = re.compile(r"Hash(0|[1-9][0-9]?)\Z")
_NUMBER = re.compile(r"(?:0|[1-9][0-9]{0,3})\Z")
_DIGEST = re.compile(r"[0-9a-fA-F]{%d}\Z" % (2 * DIGEST_SIZE))


@dataclass(frozen=True)
class Rim:
    """One manifest. ``product`` ("GH100", "LS10"), ``version`` (colloquialVersion: of the driver or of the firmware) and ``edition``
    come from Meta. ``active`` maps the index of an active measurement (0 to 63) to the digests that are good. ``unread`` counts
    the active records that hold no digest. ``digest`` is SHA-384 of the canonical document, ``digest_value`` the one that
    ``signed_info`` (canonical) holds; ``signature`` is r and s (96 bytes) over that; ``certificates`` are DER, signer first."""

    product: str
    version: str
    edition: str
    tag_id: str
    active: Mapping[int, Tuple[bytes, ...]]
    unread: int
    digest: bytes
    digest_value: bytes
    signed_info: bytes
    signature: bytes
    certificates: Tuple[bytes, ...]


def _bad(what: str) -> FormatError:
    return FormatError(what, where="RIM")


@functools.lru_cache(maxsize=1)
def _library() -> SimpleNamespace:
    try:
        etree = importlib.import_module("lxml.etree")
    except ImportError:
        raise DependencyError(
            "the Python library lxml is missing; reference integrity manifests cannot be read without it",
            fix="Install it: python3-lxml from the distribution, or 'pip install lxml'.", code="lxml-missing",
        ) from None  # fmt: skip
    return SimpleNamespace(etree=etree)


def parse_rim(data: bytes) -> Rim:
    """Parse one manifest of at most 1 MiB. Raises FormatError, and DependencyError if lxml is missing."""
    data = bytes(data)
    if len(data) > RIM_MAX:
        raise _bad("it is %d bytes, at most %d are read" % (len(data), RIM_MAX))
    etree = _library().etree
    root = _parse(etree, data)
    if root.tag != SWID + "SoftwareIdentity":
        raise _bad("it is a %s, not a SoftwareIdentity" % _name(root.tag))
    _refuse_oddities(etree, root)
    signature = _only(list(root.iter(SIGNATURE_NAMESPACE + "Signature")), "Signature")
    if signature.getparent() is not root:
        raise _bad("the signature is not a child of the SoftwareIdentity")
    signed_info, digest_value, value, certificates = _read_signature(etree, signature)
    _detach(signature)
    canonical = _canonical(etree, root)
    signed = _parse(etree, canonical)
    meta = _only(signed.findall(SWID + "Meta"), "Meta")
    active, unread = _resources(_only(signed.findall(SWID + "Payload"), "Payload"))
    return Rim(
        product=_attribute(meta, "product"),
        version=_attribute(meta, "colloquialVersion"),
        edition=_attribute(meta, "edition"),
        tag_id=_attribute(signed, "tagId"),
        active=active,
        unread=unread,
        digest=hashlib.sha384(canonical).digest(),
        digest_value=digest_value,
        signed_info=signed_info,
        signature=value,
        certificates=certificates,
    )


def _parse(etree: Any, data: bytes) -> Any:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        raise _bad("it is not UTF-8 text") from None
    parser = etree.XMLParser(
        encoding="utf-8", resolve_entities=False, load_dtd=False, dtd_validation=False, attribute_defaults=False, no_network=True,
        huge_tree=False, recover=False,
    )  # fmt: skip
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise _bad("it is not XML (%s)" % ascii(str(error))[:120]) from None
    if root is None or b"<!DOCTYPE" in data or root.getroottree().docinfo.internalDTD is not None:
        raise _bad("it has a document type, which no manifest needs")
    return root


def _canonical(etree: Any, element: Any) -> bytes:
    """Inclusive canonical XML without comments. It is not defined for relative namespace URIs."""
    try:
        return bytes(etree.tostring(element, method="c14n", exclusive=False, with_comments=False, with_tail=False))
    except etree.LxmlError as error:
        raise _bad("it has no canonical form (%s)" % ascii(str(error))[:100]) from None


def _refuse_oddities(etree: Any, root: Any) -> None:
    """Comments and processing instructions can split text where readers differ; xml:* attributes change what is canonical."""
    if root.getprevious() is not None or root.getnext() is not None:
        raise _bad("something stands beside the SoftwareIdentity")
    for element in root.iter():
        if not isinstance(element.tag, str):
            raise _bad("it holds a comment, an entity or a processing instruction")
        if any(name.startswith(_XML_NAMESPACE) for name in element.attrib):
            raise _bad("it holds an xml: attribute")


def _only(found: List[Any], what: str) -> Any:
    if len(found) != 1:
        raise _bad("%d elements %s, there must be one" % (len(found), what))
    return found[0]


def _name(tag: Any) -> str:
    return ascii(str(tag).rsplit("}", 1)[-1])[1:-1][:66]


def _attribute(element: Any, name: str) -> str:
    value = element.get(name)
    if not value or len(value) > 128:
        raise _bad("%s has no usable attribute %s" % (_name(element.tag), name))
    return str(value)


def _children(element: Any, *names: str) -> List[Any]:
    """The children of an element of the signature, which must be exactly these, with nothing but space between them."""
    found = list(element)
    if [child.tag for child in found] != [SIGNATURE_NAMESPACE + name for name in names]:
        raise _bad("%s does not hold exactly %s" % (_name(element.tag), ", ".join(names)))
    if (element.text or "").strip() or any((child.tail or "").strip() for child in found):
        raise _bad("%s holds text" % _name(element.tag))
    return found


def _algorithm(element: Any, *allowed: str) -> None:
    if len(element) or (element.text or "").strip() or dict(element.attrib) not in [{"Algorithm": name} for name in allowed]:
        raise _bad("%s is not %s" % (_name(element.tag), " or ".join(allowed)))


def _base64(element: Any, size: int = 0) -> bytes:
    if len(element) or element.attrib:
        raise _bad("%s holds more than text" % _name(element.tag))
    text = "".join((element.text or "").split())
    try:
        value = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        raise _bad("%s is not base64" % _name(element.tag)) from None
    if not value or size and len(value) != size or base64.b64encode(value).decode("ascii") != text:
        raise _bad("%s is not canonical base64 of %s bytes" % (_name(element.tag), size or "some"))
    return value


def _read_signature(etree: Any, signature: Any) -> Tuple[bytes, bytes, bytes, Tuple[bytes, ...]]:
    """(canonical SignedInfo, DigestValue, SignatureValue, certificates). Must come before the signature is detached."""
    info, value, key_info = _children(signature, "SignedInfo", "SignatureValue", "KeyInfo")
    canonicalization, method, reference = _children(info, "CanonicalizationMethod", "SignatureMethod", "Reference")
    _algorithm(canonicalization, *CANONICAL)
    _algorithm(method, ECDSA_SHA384)
    if dict(reference.attrib) != {"URI": ""}:
        raise _bad("the reference is not to the whole document")
    transforms, digest_method, digest_value = _children(reference, "Transforms", "DigestMethod", "DigestValue")
    enveloped, canonical = _children(transforms, "Transform", "Transform")
    _algorithm(enveloped, ENVELOPED)
    _algorithm(canonical, *CANONICAL)
    _algorithm(digest_method, SHA384)
    (x509,) = _children(key_info, "X509Data")
    certificates = list(x509)
    if not 1 <= len(certificates) <= CERTIFICATES_MAX:
        raise _bad("%d certificates, 1 to %d are read" % (len(certificates), CERTIFICATES_MAX))
    _children(x509, *(["X509Certificate"] * len(certificates)))
    return _canonical(etree, info), _base64(digest_value, DIGEST_SIZE), _base64(value, SIGNATURE_SIZE), tuple([_base64(element) for element in certificates])


def _detach(signature: Any) -> None:
    """Remove the signature, as the enveloped transform does; the text after it stays."""
    parent, before, tail = signature.getparent(), signature.getprevious(), signature.tail or ""
    if before is not None:
        before.tail = (before.tail or "") + tail
    else:
        parent.text = (parent.text or "") + tail
    signature.tail = None
    parent.remove(signature)


def _resources(payload: Any) -> Tuple[Dict[int, Tuple[bytes, ...]], int]:
    active: Dict[int, Tuple[bytes, ...]] = {}
    seen = set()
    unread = 0
    for element in payload:
        if element.tag != SWID + "Resource":
            raise _bad("the payload holds a %s" % _name(element.tag))
        is_active = _flag(element)
        if element.get("type") != "Measurement" or any(name.startswith(NUMERIC_NAMESPACE) for name in element.attrib):
            unread += is_active
            continue
        index = _number(element, "index", INDEX_MAX)
        if index in seen:
            raise _bad("measurement %d occurs twice" % index)
        seen.add(index)
        digests = _digests(element, index)
        if is_active:
            active[index] = digests
    if not active:
        raise _bad("no measurement is active")
    return active, unread


def _flag(element: Any) -> bool:
    value = element.get("active")
    if value not in ("True", "False"):
        raise _bad("a resource is neither active nor inactive")
    return bool(value == "True")


def _number(element: Any, name: str, maximum: int) -> int:
    text = element.get(name) or ""
    if not _NUMBER.match(text) or int(text) > maximum:
        raise _bad("a resource has %s=%s, a number up to %d was expected" % (name, ascii(text)[:20], maximum))
    return int(text)


def _digests(element: Any, index: int) -> Tuple[bytes, ...]:
    """Hash0 to HashN of one resource, as many as ``alternatives`` says."""
    count = _number(element, "alternatives", _ALTERNATIVES_MAX)
    named = {name[len(HASH_NAMESPACE):]: value for name, value in element.attrib.items() if name.startswith(HASH_NAMESPACE)}
    if not count or set(named) != {"Hash%d" % number for number in range(count)}:
        raise _bad("measurement %d has %d alternatives and %d digests" % (index, count, len(named)))
    if any(not _DIGEST.match(value) for value in named.values()):
        raise _bad("measurement %d has a digest that is not %d bytes in hexadecimal" % (index, DIGEST_SIZE))
    return tuple([bytes.fromhex(named["Hash%d" % number]) for number in range(count)])
