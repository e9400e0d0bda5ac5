# SPDX-License-Identifier: GPL-3.0-or-later
"""OCSP responses as files: who may sign, which certificate, when, and what revocation and hold mean."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.ocsp import OCSPResponseBuilder, OCSPResponseStatus
from hypothesis import given
from hypothesis import strategies as st
from nvidia_lab import AT, NvidiaLab, Signer, issue, key

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.der import parse_certificate
from ansible_collections.attested.ai.plugins.module_utils.formats.ocsp import RESPONSE_MAX, parse_ocsp
from ansible_collections.attested.ai.plugins.module_utils.verify import nvidia_ocsp
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia_ocsp import Status, certificate_status, nonce_matches

HOLD = x509.ReasonFlags.certificate_hold
DAY = timedelta(days=1)
EKU = ((x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.OCSP_SIGNING]), False),)


def forged(response: bytes) -> bytes:
    """The response with one bit of its signature changed."""
    place = response.index(parse_ocsp(response).signature) + 20
    return response[:place] + bytes([response[place] ^ 1]) + response[place + 1:]


def status(subject: Signer, *responses: bytes, at: datetime = AT, cache: VerificationCache | None = None) -> Status:
    assert subject.issuer is not None
    return certificate_status(parse_certificate(subject.der), parse_certificate(subject.issuer.der), responses, at, cache)


@pytest.fixture(scope="module")
def subject(lab: NvidiaLab) -> Signer:
    return lab.device().chain[1]


@pytest.mark.parametrize("delegated", [True, False])
def test_a_good_answer_counts(lab: NvidiaLab, subject: Signer, delegated: bool) -> None:
    found = status(subject, lab.ocsp(subject, delegated=delegated, nonce=b"n" * 16))
    assert (found.kind, found.until, found.nonce) == ("good", AT + timedelta(hours=23), b"n" * 16)


def test_other_hashes_in_the_certificate_id_are_read(lab: NvidiaLab, subject: Signer) -> None:
    assert status(subject, lab.ocsp(subject, digest=hashes.SHA384())).kind == "good"


def test_responses_of_a_fleet_are_read_once_and_found_by_number(lab: NvidiaLab, monkeypatch: pytest.MonkeyPatch) -> None:
    subjects = [lab.device("GH100", 20 + number).chain[1] for number in range(4)]
    responses, cache, read = (*(lab.ocsp(one) for one in subjects), b"\x30\x00"), VerificationCache(), []
    monkeypatch.setattr(nvidia_ocsp, "parse_ocsp", lambda data: read.append(data) or parse_ocsp(data))
    assert [status(one, *responses, cache=cache).kind for one in subjects] == ["good"] * 4
    # Once for the index, and once more where the signature is proven.
    assert sorted(map(read.count, responses)) == [1, 2, 2, 2, 2] and cache.stored == 1 + len(subjects)


def test_without_an_answer_the_status_is_unknown(lab: NvidiaLab, subject: Signer) -> None:
    assert status(subject).detail.endswith("no response is about it")
    other = lab.device("GH100", 2).chain[1]
    assert status(subject, lab.ocsp(other)).kind == "unknown"
    assert status(subject, lab.ocsp(subject, status="unknown")).detail.endswith("does not know it")


@pytest.mark.parametrize("shift", [-DAY, DAY])
def test_an_answer_of_another_time_does_not_count(lab: NvidiaLab, subject: Signer, shift: timedelta) -> None:
    response = lab.ocsp(subject)
    assert status(subject, response).kind == "good"
    found = status(subject, response, at=AT + shift)
    assert found.kind == "unknown" and "holds from" in found.detail


def test_an_answer_without_an_end_does_not_count(lab: NvidiaLab, subject: Signer) -> None:
    assert "until when" in status(subject, lab.ocsp(subject, until=None)).detail


def test_a_responder_has_its_time_too(lab: NvidiaLab, subject: Signer) -> None:
    old = lab.responder(subject.issuer, not_after=AT - timedelta(minutes=1))
    assert "responder's certificate" in status(subject, lab.ocsp(subject, responder=old)).detail


def test_who_may_sign(lab: NvidiaLab, attacker: NvidiaLab, subject: Signer) -> None:
    assert subject.issuer is not None
    plain = issue("OCSP responder", subject.issuer, ca=False)
    authority = lab.responder(subject.issuer, ca=True)
    signing_authority = lab.responder(subject.issuer, ca=True, usage="sign-data")
    # Issued with the right key, under another name.
    renamed = Signer(issue("Another name", None, signing_key=subject.issuer.key).certificate, subject.issuer.key)
    elsewhere_named = lab.responder(renamed)
    elsewhere = lab.responder(lab.families["GB100"])
    foreign = attacker.responder(attacker.provisioners["GH100"])
    muted = lab.responder(subject.issuer, usage="sign-certificates")
    odd = lab.responder(subject.issuer, extensions=(
        (x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.OCSP_SIGNING]), False),
        (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True),
    ))  # fmt: skip
    for responder in (plain, authority, signing_authority, elsewhere_named, elsewhere, foreign, muted, odd):
        found = status(subject, lab.ocsp(subject, responder=responder))
        assert found.kind == "unknown" and "neither the issuer" in found.detail, responder.certificate.subject
    # Our own responder's certificate, another one's signature.
    twin = lab.responder(subject.issuer)
    mixed = lab.ocsp(subject, responder=foreign).replace(foreign.der, twin.der)
    assert status(subject, mixed).kind == "unknown"
    for delegated in (True, False):
        assert status(subject, forged(lab.ocsp(subject, delegated=delegated))).kind == "unknown"


def test_the_responder_is_the_one_that_the_response_names(lab: NvidiaLab, subject: Signer) -> None:
    """Two certificates for one key: the response names the first, the second comes along."""
    first = lab.responder(subject.issuer)
    second = lab.responder(subject.issuer, signing_key=key())
    assert status(subject, lab.ocsp(subject, responder=first, shown=second)).kind == "unknown"
    twin = issue("Another responder", subject.issuer, ca=False, signing_key=first.key, extensions=EKU)
    by_name = lab.ocsp(subject, responder=first, shown=twin, by_name=True)
    assert status(subject, by_name).kind == "unknown"
    assert status(subject, lab.ocsp(subject, responder=first, by_name=True)).kind == "good"


def test_the_certificate_id_names_issuer_and_key(lab: NvidiaLab, subject: Signer) -> None:
    assert subject.issuer is not None
    name = "NVIDIA GH100 Provisioner ICA 1"
    other_name = Signer(issue("Another name", None, signing_key=subject.issuer.key).certificate, subject.issuer.key)
    other_key = Signer(issue(name, None).certificate, subject.issuer.key)
    for named in (other_name, other_key):
        assert "no response is about it" in status(subject, lab.ocsp(subject, named=named)).detail
    assert status(subject, lab.ocsp(subject, named=subject.issuer)).kind == "good"


def test_only_ecdsa_with_sha384(lab: NvidiaLab, subject: Signer) -> None:
    responder = lab.responder(subject.issuer, signing_key=rsa.generate_private_key(65537, 2048))
    assert "ECDSA" in status(subject, lab.ocsp(subject, responder=responder)).detail


def test_a_final_revocation_counts_however_old(lab: NvidiaLab, subject: Signer) -> None:
    old = lab.ocsp(subject, status="revoked", reason=x509.ReasonFlags.key_compromise, this=AT - 300 * DAY, until=AT - 299 * DAY)
    found = status(subject, lab.ocsp(subject), old)
    assert found.kind == "revoked" and "keyCompromise" in found.detail
    assert status(subject, lab.ocsp(subject, status="revoked")).kind == "revoked"


def test_a_hold_is_as_good_as_its_newest_answer(lab: NvidiaLab, subject: Signer) -> None:
    hold = lab.ocsp(subject, status="revoked", reason=HOLD, this=AT - timedelta(hours=3))
    assert status(subject, hold).kind == "hold"
    assert status(subject, hold, lab.ocsp(subject)).kind == "good", "lifted since"
    assert status(subject, hold, lab.ocsp(subject, this=AT - timedelta(hours=4))).kind == "hold"
    same = lab.ocsp(subject, this=AT - timedelta(hours=3))
    assert status(subject, same, hold).kind == status(subject, hold, same).kind == "hold"


def test_the_nonce_is_a_question_of_its_own(lab: NvidiaLab, subject: Signer) -> None:
    response = lab.ocsp(subject, nonce=b"a" * 32)
    assert nonce_matches(response, b"a" * 32) and not nonce_matches(response, b"b" * 32)
    assert not nonce_matches(lab.ocsp(subject), b"a" * 32)


def test_proven_answers_are_remembered_and_judged_anew(lab: NvidiaLab, subject: Signer) -> None:
    cache = VerificationCache()
    response, other = lab.ocsp(subject), lab.ocsp(subject, this=AT - timedelta(hours=2))
    for _again in range(2):
        assert status(subject, response, cache=cache).kind == "good"
        assert status(subject, forged(other), cache=cache).kind == "unknown"
    assert [key[1] for key in cache._entries if key[0] == "nvidia-ocsp"] == [response]
    assert status(subject, response, at=AT + DAY, cache=cache).kind == "unknown"


def test_errors_of_a_responder_are_no_answers() -> None:
    data = OCSPResponseBuilder.build_unsuccessful(OCSPResponseStatus.UNAUTHORIZED).public_bytes(Encoding.DER)
    with pytest.raises(FormatError, match="unauthorized"):
        parse_ocsp(data)
    with pytest.raises(FormatError, match="at most"):
        parse_ocsp(bytes(RESPONSE_MAX + 1))


def test_no_byte_of_an_answer_may_change(lab: NvidiaLab, subject: Signer) -> None:
    """Positions that stay good belong to the unsigned wrapping: the status, or bits of the responder's certificate that nothing reads."""
    assert subject.issuer is not None
    response = lab.ocsp(subject, delegated=False)
    kept = []
    for place in range(len(response)):
        changed = response[:place] + bytes([response[place] ^ 1 << place % 8]) + response[place + 1:]
        if status(subject, changed).kind == "good":
            kept.append(place)
    assert kept == []


@given(st.binary(max_size=300))
def test_no_bytes_crash_the_response_parser(data: bytes) -> None:
    try:
        parse_ocsp(data)
    except FormatError:
        pass


@given(st.data())
def test_no_change_crashes_the_response_parser(lab: NvidiaLab, subject: Signer, data: st.DataObject) -> None:
    response = bytearray(_CACHED.setdefault("response", lab.ocsp(subject)))
    for _change in range(data.draw(st.integers(1, 4))):
        response[data.draw(st.integers(0, len(response) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse_ocsp(bytes(response))
    except FormatError:
        pass


_CACHED: dict[str, bytes] = {}
