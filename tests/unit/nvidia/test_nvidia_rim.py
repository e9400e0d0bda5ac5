# SPDX-License-Identifier: GPL-3.0-or-later
"""Manifests: one shape is read, the signed bytes are what counts, the chain must lead to the pinned root."""

from __future__ import annotations

import base64
import re
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nvidia_lab import AT, DRIVER, FIRMWARE_INDICES, NvidiaLab, RimSpec, golden, issue, rim_document, sign_rim

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.rim import RIM_MAX, parse_rim
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia_rim import find_rims, verify_rim

SAME = "http://www.w3.org/2000/09/xmldsig#"


@pytest.fixture(scope="module")
def rim(lab: NvidiaLab) -> bytes:
    return lab.rim()


def replaced(data: bytes, old: str, new: str, count: int = 1) -> bytes:
    assert old.encode() in data
    return data.replace(old.encode(), new.encode(), count)


def test_a_manifest_is_read(lab: NvidiaLab, rim: bytes) -> None:
    parsed = parse_rim(rim)
    assert (parsed.product, parsed.version, parsed.edition, parsed.unread) == ("GH100", DRIVER, "GPU", 0)
    assert {index: list(values) for index, values in parsed.active.items()} == dict(RimSpec().active)
    assert parsed.digest == parsed.digest_value and len(parsed.signature) == 96
    verified = verify_rim(rim, lab.rim_roots)
    assert verified.proven and verified.path is not None and len(verified.path.certificates) == 4


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("<SoftwareIdentity", "<!DOCTYPE x><SoftwareIdentity", "document type"),
        ("<SoftwareIdentity", '<!DOCTYPE x [<!ENTITY e "v">]><SoftwareIdentity', "document type"),
        ("<SoftwareIdentity", "<!-- a --><SoftwareIdentity", "beside"),
        ("</SoftwareIdentity>", "</SoftwareIdentity><?late x?>", "beside"),
        ("<ns0:Payload>", "<ns0:Payload><!-- a -->", "comment"),
        ("<ns0:Payload>", "<ns0:Payload><?pi x?>", "comment"),
        ("<ns0:Payload>", '<ns0:Payload xml:space="preserve">', "xml: attribute"),
        ("<ns0:Payload>", '<ns0:Payload xml:id="x">', "xml: attribute"),
        ("</ns0:Payload>", "</ns0:Payload><ns0:Payload/>", "2 elements Payload"),
        ("<ns0:Payload>", '<ns0:Payload xmlns:odd="relative">', "no canonical form"),
        ("<ds:SignedInfo>", '<ds:SignedInfo xmlns:odd="relative">', "no canonical form"),
        ("<ns0:Payload>", "<ns0:Payload><ns0:Other/>", "payload holds a Other"),
        ('product="GH100"', "", "no usable attribute product"),
        ('colloquialVersion="580.95.05"', "", "no usable attribute colloquialVersion"),
        ('index="14" active="True"', 'index="14" active="true"', "neither active"),
        ('index="14"', 'index="15"', "occurs twice"),
        ('index="14"', 'index="64"', "a number up to 63"),
        ('index="14"', 'index="014"', "a number up to 63"),
        ('alternatives="1"', 'alternatives="2"', "2 alternatives and 1 digests"),
        ('alternatives="1"', 'alternatives="0"', "0 alternatives"),
        ("ns2:Hash0=", "ns2:Hash1=", "1 alternatives"),
        ('ns2:Hash0="0000', 'ns2:Hash0="00', "not 48 bytes"),
        ('ns2:Hash0="0000', 'ns2:Hash0="00zz', "not 48 bytes"),
        ('<ds:Reference URI="">', '<ds:Reference URI="#x">', "whole document"),
        ('<ds:Reference URI="">', '<ds:Reference URI="" Id="x">', "whole document"),
        ("ecdsa-sha384", "ecdsa-sha256", "SignatureMethod"),
        ("xmldsig-more#sha384", "xmlenc#sha256", "DigestMethod"),
        ("#enveloped-signature", "#base64", "Transform"),
        ("<ds:SignatureValue>", "<ds:SignatureValue>AAAA", "canonical base64 of 96"),
        ("<ds:SignatureValue>", "<ds:SignatureValue>!", "not base64"),
        ("<ds:KeyInfo>", "<ds:KeyInfo><ds:KeyName/>", "KeyInfo"),
        ("</ds:X509Data>", "<ds:X509CRL>AAAA</ds:X509CRL></ds:X509Data>", "X509Data"),
        ("</ds:KeyInfo>", "</ds:KeyInfo><ds:Object/>", "Signature"),
        ("<ds:SignedInfo>", "<ds:SignedInfo>text", "holds text"),
    ],
)
def test_any_other_shape_is_refused(rim: bytes, old: str, new: str, match: str) -> None:
    with pytest.raises(FormatError, match=match):
        parse_rim(replaced(rim, old, new))


def test_entities_are_not_resolved(rim: bytes) -> None:
    with pytest.raises(FormatError):
        parse_rim(replaced(rim, "<ns0:Payload>", "<ns0:Payload>&e;"))


def test_one_signature_one_reference(lab: NvidiaLab, rim: bytes) -> None:
    text = rim.decode()
    signature = text[text.index("<ds:Signature"):text.index("</ds:Signature>") + len("</ds:Signature>")]
    reference = text[text.index("<ds:Reference"):text.index("</ds:Reference>") + len("</ds:Reference>")]
    with pytest.raises(FormatError, match="2 elements Signature"):
        parse_rim(text.replace(signature, signature * 2).encode())
    with pytest.raises(FormatError, match="SignedInfo does not hold"):
        parse_rim(text.replace(reference, reference * 2).encode())
    with pytest.raises(FormatError, match="0 elements Signature"):
        parse_rim(text.replace(signature, "").encode())
    with pytest.raises(FormatError, match="not a child"):
        parse_rim(text.replace(signature, "").replace("</ns0:Payload>", signature + "</ns0:Payload>").encode())
    # Wrapped: the genuine document inside of another one.
    with pytest.raises(FormatError):
        opened = '<SoftwareIdentity xmlns="http://standards.iso.org/iso/19770/-2/2015/schema.xsd">'
        parse_rim((opened + text + "</SoftwareIdentity>").encode())


@pytest.mark.parametrize("data", [b"", b"<a/>", b"\xff\xfe<\0a\0/\0>\0", b"<a", b"\0" * 8, b'<?xml version="1.0" encoding="utf-16"?><a/>'])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        parse_rim(data)


def test_a_manifest_has_a_largest_size(rim: bytes) -> None:
    with pytest.raises(FormatError, match="at most"):
        parse_rim(rim + b" " * RIM_MAX)


def test_an_inactive_manifest_is_none(lab: NvidiaLab) -> None:
    with pytest.raises(FormatError, match="no measurement is active"):
        parse_rim(lab.rim(active={}))


def test_a_measurement_without_any_good_value_is_refused(lab: NvidiaLab) -> None:
    with pytest.raises(FormatError, match="0 alternatives and 0 digests"):
        parse_rim(lab.rim(extra='<ns0:Resource type="Measurement" index="63" active="True" alternatives="0"/>', size=63))


def test_records_that_hold_numbers_are_counted(lab: NvidiaLab) -> None:
    namespace = "https://docs.nvidia.com/attestation/specs/latest/opaque-data.html"
    floor = '<ns0:Resource xmlns:ns3="' + namespace + '" type="Measurement" index="64" active="%s" ns3:Minimum="3"/>'
    assert parse_rim(lab.rim(extra=floor % "True")).unread == 1
    assert parse_rim(lab.rim(extra=floor % "False")).unread == 0
    assert parse_rim(lab.rim(extra='<ns0:Resource type="Other" active="True"/>')).unread == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('product="GH100"', 'product="GB100"'),
        ('index="14" active="True"', 'index="14" active="False"'),
        ("<ns0:Payload>", "<ns0:Payload> "),
        ('revision="r1"', ""),
    ],
)
def test_a_changed_document_is_not_the_signed_one(lab: NvidiaLab, rim: bytes, old: str, new: str) -> None:
    verified = verify_rim(replaced(rim, old, new), lab.rim_roots)
    assert "not the one that was signed" in verified.signature_offence and not verified.proven


def test_a_changed_digest_breaks_the_signature(lab: NvidiaLab, rim: bytes) -> None:
    changed = replaced(rim, 'product="GH100"', 'product="GB100"')
    digest = base64.b64encode(parse_rim(changed).digest).decode()
    forged = re.sub(rb"<ds:DigestValue>[^<]*", b"<ds:DigestValue>" + digest.encode(), changed)
    assert parse_rim(forged).digest == parse_rim(forged).digest_value
    assert "the signature is not one of" in verify_rim(forged, lab.rim_roots).signature_offence


def test_every_digit_of_the_signature_counts(lab: NvidiaLab, rim: bytes) -> None:
    start = rim.index(b"<ds:SignatureValue>") + len(b"<ds:SignatureValue>")
    for place in range(start, start + 128, 3):
        changed = rim[:place] + (b"A" if rim[place:place + 1] != b"A" else b"B") + rim[place + 1:]
        assert not verify_rim(changed, lab.rim_roots).proven


def test_another_authority_with_the_same_names_is_refused(lab: NvidiaLab, attacker: NvidiaLab) -> None:
    verified = verify_rim(attacker.rim(), lab.rim_roots)
    assert "none of the pinned roots'" in verified.chain_offence
    assert not verify_rim(lab.rim(), lab.roots).proven, "the root of devices does not vouch for manifests"


def test_the_pinned_key_does_not_make_a_path(lab: NvidiaLab, attacker: NvidiaLab) -> None:
    """The genuine root is appended to a foreign path."""
    data = attacker.rim().decode()
    roots = [base64.b64encode(one.rim_root.der).decode() for one in (attacker, lab)]
    assert "signature of" in verify_rim(data.replace(*roots).encode(), lab.rim_roots).chain_offence


def test_a_signer_must_be_a_signer_and_an_authority_one(lab: NvidiaLab) -> None:
    authority = lab.new_rim_signer(ca=True)
    assert "it is an authority" in verify_rim(lab.rim(authority), lab.rim_roots).chain_offence
    below = issue("HCC RIM L5", lab.rim_signer, ca=False)
    assert "may not issue" in verify_rim(lab.rim(below), lab.rim_roots).chain_offence
    deeper = issue("HCC RIM L5", issue("HCC RIM L4 CA", lab.rim_intermediate), ca=False)
    assert "authorities below it" in verify_rim(lab.rim(deeper), lab.rim_roots).chain_offence
    unusable = lab.new_rim_signer(usage="sign-certificates")
    assert "may not sign data" in verify_rim(lab.rim(unusable), lab.rim_roots).chain_offence


def test_a_responder_does_not_sign_manifests(lab: NvidiaLab) -> None:
    assert "for something else" in verify_rim(lab.rim(lab.responder(lab.rim_intermediate)), lab.rim_roots).chain_offence


def test_one_certificate_is_no_path(lab: NvidiaLab) -> None:
    lone = issue("NVIDIA CoRIM signing Root CA", None)
    assert "no path" in verify_rim(sign_rim(rim_document(RimSpec()), lone), lab.rim_roots).chain_offence


def test_certificates_that_cannot_be_read_are_told(lab: NvidiaLab, rim: bytes) -> None:
    verified = verify_rim(re.sub(rb"<ds:X509Certificate>[^<]*", b"<ds:X509Certificate>AAAA", rim), lab.rim_roots)
    assert "cannot be read" in verified.format_offence


def test_the_best_manifest_for_a_version_is_taken(lab: NvidiaLab, attacker: NvidiaLab) -> None:
    def found(*rims: bytes) -> list[str]:
        return [one.verified.sha256 for one in find_rims(rims, "gpu", DRIVER, frozenset(("GH100",)), lab.rim_roots, AT, None)]

    good = lab.rim()
    digest = verify_rim(good, lab.rim_roots).sha256
    expired = lab.rim(lab.new_rim_signer(not_after=AT - timedelta(days=1)))
    others = [attacker.rim(), lab.rim(product="GB100"), expired, lab.rim(version="1.2"), good.replace(b"<ns0:Payload>", b"<ns0:Payload> ")]
    assert found(*others, good) == [digest] == found(good, *others)
    assert found(expired, others[0]) == [verify_rim(expired, lab.rim_roots).sha256]
    assert found(others[3]) == []
    twin = lab.rim(active=golden(FIRMWARE_INDICES))
    assert len(found(good, twin)) == 2, "boards may share a version; the report decides"


def test_a_version_only_in_the_text_does_not_count(lab: NvidiaLab) -> None:
    document = rim_document(RimSpec(version="1.2")).replace('role="softwareCreator', 'colloquialVersion="%s" role="softwareCreator' % DRIVER)
    assert parse_rim(sign_rim(document, lab.rim_signer)).version == "1.2"
    assert find_rims([sign_rim(document, lab.rim_signer)], "gpu", DRIVER, frozenset(("GH100",)), lab.rim_roots, AT, None) == []


def test_only_success_is_remembered(lab: NvidiaLab, attacker: NvidiaLab) -> None:
    cache = VerificationCache()
    good, bad = lab.rim(), attacker.rim()
    for _again in range(2):
        assert verify_rim(good, lab.rim_roots, cache).proven
        assert not verify_rim(bad, lab.rim_roots, cache).proven
    assert cache.counters()["stored"] == 1 and cache.counters()["hits"] == 1
    assert verify_rim(bad, attacker.rim_roots, cache).proven
    assert not verify_rim(good, attacker.rim_roots, cache).proven, "other roots are another question"


@settings(max_examples=200)
@given(st.data())
def test_no_change_of_bytes_crashes_or_is_accepted(lab: NvidiaLab, data: st.DataObject) -> None:
    rim = _CACHED.setdefault("rim", lab.rim())
    place = data.draw(st.integers(0, len(rim) - 1))
    changed = rim[:place] + bytes([data.draw(st.integers(0, 255))]) + rim[place + 1:]
    verified = verify_rim(changed, lab.rim_roots)
    if verified.proven and changed != rim:
        # Space between elements of the unsigned parts of the signature, or a spelling that is canonically the same.
        assert parse_rim(changed).active == parse_rim(rim).active
        assert parse_rim(changed).digest == parse_rim(rim).digest


_CACHED: dict[str, bytes] = {}


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_manifest_parser(data: bytes) -> None:
    for candidate in (data, b"<SoftwareIdentity>" + data + b"</SoftwareIdentity>"):
        try:
            parse_rim(candidate)
        except FormatError:
            pass
