# SPDX-License-Identifier: GPL-3.0-or-later
"""Google's launch endorsements: the reader, the verifier, and what they are worth in an appraisal."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from cloud_lab import AT, AzureLab, GoogleLab, blob, integer, tag, varint
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.attested.ai.plugins.module_utils.appraisal import launch_endorsement
from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import UNCHECKED, Endorsements, appraise_report
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValue, ReferenceValues, load_reference_values
from ansible_collections.attested.ai.plugins.module_utils.endorsements import gce as gce_pins
from ansible_collections.attested.ai.plugins.module_utils.endorsements import shipped
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import trust_roots
from ansible_collections.attested.ai.plugins.module_utils.errors import EndorsementError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.gce_endorsement import parse_gce_endorsement
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_certtable import CertificateTable, build_certtable
from ansible_collections.attested.ai.plugins.module_utils.verify import gce_endorsement as verifier
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.gce_endorsement import verify_gce_endorsement

MEASUREMENT = b"\x5c" * 48
GOOGLE = trust_roots((), kind="gce")


def verify(google: GoogleLab, data: bytes, at=AT, roots=None, cache=None):
    return verify_gce_endorsement(data, google.roots if roots is None else roots, at, cache)


def test_the_shape_that_google_publishes(google):
    parsed = parse_gce_endorsement(google.endorsement(MEASUREMENT))
    assert parsed.snp.measurements == {4: MEASUREMENT} and parsed.snp.svn == parsed.svn("sev-snp") == 7 and parsed.tdx is None
    assert parsed.lists("sev-snp", MEASUREMENT) and not parsed.lists("tdx", MEASUREMENT) and not parsed.lists("sev-snp", bytes(48))
    tdx = parse_gce_endorsement(google.endorsement(MEASUREMENT, tee="tdx"))
    assert tdx.tdx.mrtds == ((16, False, MEASUREMENT),) and tdx.lists("tdx", MEASUREMENT) and not tdx.lists("sev-snp", MEASUREMENT)
    payload = blob(4, google.leaf) + blob(5, bytes(48)) + blob(7, integer(1, 2) + blob(7, MEASUREMENT))
    assert parse_gce_endorsement(google.sign(payload)).lists("sev-snp", MEASUREMENT)


def test_fields_that_google_may_add_are_passed_over_inside_only(google):
    assert verify(google, google.endorsement(MEASUREMENT, more=blob(99, b"new") + tag(98, 5) + bytes(4) + tag(97, 1) + bytes(8))).authentic is True
    with pytest.raises(FormatError):
        parse_gce_endorsement(google.endorsement(MEASUREMENT) + blob(3, b"new"))


@pytest.mark.parametrize("data", [
    b"", b"\x0a", b"\x0a\x05abc", blob(1, b"x"), blob(2, b"x"), blob(1, b"") + blob(2, b"s"), integer(1, 5) + blob(2, b"x"), b"\x0b", b"\x00",
    blob(1, b"\xff" * 11) + blob(2, b"s"), blob(1, tag(1, 3)) + blob(2, b"s"), b"\x8a\x00\x00" + blob(2, b"s"), b"x" * (256 * 1024 + 1),
    blob(1, b"\x80" * 9 + b"\x02") + blob(2, b"s"), blob(1, blob(4, b"c") + blob(5, bytes(47))) + blob(2, b"s"), blob(1, blob(5, bytes(48))) + blob(2, b"s"),
])
def test_what_is_no_endorsement(google, data):
    with pytest.raises(FormatError):
        parse_gce_endorsement(data)
    assert verify(google, data).authentic is False


@pytest.mark.parametrize("golden", [
    blob(7, blob(2, integer(1, 1) + blob(2, bytes(47)))), blob(7, blob(2, integer(1, 1) + blob(2, bytes(48))) * 2), blob(7, blob(7, bytes(5))),
    blob(7, b"") * 2, blob(7, blob(1, b"1")), blob(8, integer(2, 5)), blob(8, blob(2, blob(3, b""))), integer(7, 1), blob(7, integer(1, 1) * 2),
    blob(7, blob(2, integer(1, 1) + blob(2, bytes(48)) + blob(2, bytes(48)))),
])
def test_goldens_that_are_ambiguous_or_misshapen(google, golden):
    payload = blob(4, google.leaf) + blob(5, bytes(48)) + golden
    with pytest.raises(FormatError):
        parse_gce_endorsement(google.sign(payload))


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_with_our_own_exception(data):
    try:
        parse_gce_endorsement(blob(1, data) + blob(2, b"s"))
    except FormatError:
        pass


def test_an_endorsement_under_a_root_of_the_operator(google):
    result = verify(google, google.endorsement(MEASUREMENT))
    assert result.authentic is True and result.anchor == "nonvendor" and result.not_after == AT + timedelta(days=900)
    assert result.claims.to_dict()["svn"] == {"sev-snp": 7, "tdx": None}


def test_no_root_comes_with_an_endorsement(google):
    """The names are Google's, the keys are not; whatever the bundle holds, only what is pinned is a root."""
    for bundle in (google.root_pem.encode(), b"", b"\xff"):
        result = verify(google, google.endorsement(MEASUREMENT, bundle=bundle), roots=GOOGLE)
        assert result.authentic is False and result.code in ("endorsement-root", "endorsement-chain") and result.anchor == "none"
        assert verify(google, google.endorsement(MEASUREMENT, bundle=bundle)).authentic is True
    attacker = GoogleLab()
    assert verify(google, attacker.endorsement(MEASUREMENT)).code == "endorsement-chain"


def test_the_root_that_is_shipped():
    ((role, root),) = gce_pins.load_gce_roots()
    assert (role, root.common_name) == ("gce", "GCE-cc-tcb-root") and root.is_ca and root.issuer == root.subject
    assert hashlib.sha256(root.der).hexdigest() == "e876bc6978bf4f3da445f98a0a82363c8c0bae5a1fc033c6df65846a6cb0f18c"
    assert verifier.pss_sha256_verifies(root.spki, root.signature, root.tbs) and root.signature_algorithm in verifier.RSA_PSS_SHA256
    assert [found.anchor for found in GOOGLE.roots] == ["vendor"]


def test_a_damaged_file_of_roots(monkeypatch):
    good = shipped.pkgutil.get_data(gce_pins.__name__, gce_pins.WHERE)
    for raw in (None, b'{"schema": "other"}', good.replace(b'"sha256": "e8', b'"sha256": "e9'), good.replace(b'"name": "GCE', b'"name": "GCF')):
        gce_pins.load_gce_roots.cache_clear()
        monkeypatch.setattr(shipped.pkgutil, "get_data", lambda *_arguments, raw=raw: raw)
        with pytest.raises(EndorsementError):
            gce_pins.load_gce_roots()
    gce_pins.load_gce_roots.cache_clear()


def leaf(google, **change):
    by = change.pop("by", google.root_key)
    return google.certificate("GCE-uefi-signing-key", change.pop("issuer", "GCE-cc-tcb-root"), change.pop("key", google.key), by, **change)


@pytest.mark.parametrize(("change", "code"), [
    ({"ca": True}, "endorsement-chain"), ({"usage": False}, "endorsement-chain"), ({"pss": False}, "endorsement-chain"), ({"salt": 20}, "endorsement-chain"),
    ({"critical": True}, "endorsement-chain"), ({"issuer": "Somebody"}, "endorsement-root"), ({"days": 1}, "endorsement-expired"),
    ({"start": AT + timedelta(days=1)}, "endorsement-expired"),
], ids=str)
def test_signers_that_the_root_did_not_mean(google, change, code):
    assert verify(google, google.endorsement(MEASUREMENT, leaf=leaf(google, **change))).code == code


def test_a_signer_that_another_root_issued(google):
    attacker = GoogleLab()
    assert verify(google, google.endorsement(MEASUREMENT, leaf=leaf(google, by=attacker.root_key))).code == "endorsement-chain"


def test_a_root_that_is_no_authority(google):
    weak = google.certificate("GCE-cc-tcb-root", "GCE-cc-tcb-root", google.root_key, google.root_key, ca=False)
    parsed = verifier.der.parse_certificate(weak)
    roots = google.roots
    result = verify_gce_endorsement(google.endorsement(MEASUREMENT), replace(roots, roots=(replace(roots.roots[0], certificate=parsed),)), AT)
    assert result.code == "endorsement-chain"


def test_signature_of_the_payload(google):
    payload = google.payload(MEASUREMENT)
    assert verify(google, google.sign(payload, salt=20)).code == "endorsement-signature"
    assert verify(google, google.sign(payload, key=google.root_key)).code == "endorsement-signature"
    other = google.sign(payload).replace(MEASUREMENT, b"\x5d" * 48)
    assert verify(google, other).code == "endorsement-signature"


def test_times(google):
    data = google.endorsement(MEASUREMENT)
    for at in (AT - timedelta(days=101), AT + timedelta(days=901)):
        assert verify(google, data, at=at).code == "endorsement-expired"
    late = google.endorsement(MEASUREMENT, timestamp=int(AT.timestamp()) + 1)
    assert verify(google, late).code == "endorsement-expired"


def test_a_cache_keeps_proofs_but_not_times(google):
    cache, data = VerificationCache(), google.endorsement(MEASUREMENT)
    first = verify(google, data, cache=cache)
    assert verify(google, data, cache=cache) == first and cache.hits == 1
    assert verify(google, data, at=AT + timedelta(days=901), cache=cache).code == "endorsement-expired"
    bad = google.sign(google.payload(MEASUREMENT), salt=20)
    assert verify(google, bad, cache=cache).authentic is verify(google, bad, cache=cache).authentic is False
    assert cache.stored == 1


def test_every_single_byte_of_an_endorsement_counts(google):
    data = google.endorsement(MEASUREMENT)
    cache = VerificationCache()
    accepted = []
    for position in range(len(data)):
        broken = bytearray(data)
        broken[position] ^= 1 << position % 8
        if verify(google, bytes(broken), cache=cache).authentic is not False:
            accepted.append(position)
    assert accepted == []


# In an appraisal.


def appraise(azure: AzureLab, google: GoogleLab, gcp, table=None, endorsements=(), values=None, **top):
    report = azure.report(b"", report_data=bytes(64), measurement=MEASUREMENT)
    policy = load_policy({
        "schema": "attested.ai/policy/1", "id": "gcp", "allow_nonvendor_roots": True, "roots": azure.roots_pem + [google.root_pem],
        "sev_snp": {"min_tcb": {}, "min_launch_tcb": {}}, "gcp": gcp, **top,
    })  # fmt: skip
    entries = [("vcek", azure.vcek)] + ([("gce-firmware", table)] if table is not None else [])
    return appraise_report(
        report, policy=policy, reference_values=values or ReferenceValues(), expected_report_data=UNCHECKED, at=AT,
        endorsements=Endorsements(certificates=azure.path + (azure.vcek,), launch_endorsements=tuple(endorsements)),
        **({} if table is None else {"auxiliary": {"certificates": build_certtable(CertificateTable(tuple(entries)))}}),
    )  # fmt: skip


def outcomes(result):
    return {check.id: check.outcome for check in result.items["cpu0"].checks}


def test_an_endorsement_counts_only_where_the_policy_says_so(azure, google):
    data = google.endorsement(MEASUREMENT)
    off = appraise(azure, google, {}, endorsements=[data])
    assert not off.accepted and "launch-endorsement" not in outcomes(off) and outcomes(off)["measurement-mismatch"] == "fail"
    for mode in ("accepted", "required"):
        result = appraise(azure, google, {"launch_endorsement": mode}, endorsements=[b"\xff", google.endorsement(bytes(48)), data])
        assert result.accepted, result.explain()
        assert result.items["cpu0"].reaches == "launch"
        (measured,) = [check.detail for check in result.items["cpu0"].checks if check.id == "measurement-mismatch"]
        assert measured.endswith("(gce-nonvendor)") and result.anchor == "nonvendor"


def test_the_host_hands_it_over_in_its_table(azure, google):
    result = appraise(azure, google, {"launch_endorsement": "required"}, table=google.endorsement(MEASUREMENT))
    assert result.accepted, result.explain()
    assert outcomes(appraise(azure, google, {"launch_endorsement": "required"}, table=b"junk"))["launch-endorsement"] == "fail"


def test_without_an_endorsement(azure, google):
    accepted, required = (appraise(azure, google, {"launch_endorsement": mode}) for mode in ("accepted", "required"))
    assert outcomes(accepted)["launch-endorsement"] == "not_checked" and outcomes(accepted)["measurement-mismatch"] == "fail"
    assert outcomes(required)["launch-endorsement"] == "fail"


def test_an_endorsement_that_does_not_hold_is_a_failure(azure, google):
    data = google.endorsement(MEASUREMENT)
    wrong_tee = google.endorsement(MEASUREMENT, tee="tdx")
    old = google.endorsement(MEASUREMENT, leaf=leaf(google, days=1))
    for bad in (data.replace(b"\x11" * 48, b"\x12" * 48), wrong_tee, old):
        assert outcomes(appraise(azure, google, {"launch_endorsement": "accepted"}, endorsements=[bad]))["launch-endorsement"] == "fail"
        assert appraise(azure, google, {"launch_endorsement": "accepted"}, endorsements=[bad, data]).accepted


def test_the_least_security_version(azure, google):
    data = google.endorsement(MEASUREMENT)
    assert appraise(azure, google, {"launch_endorsement": "required", "min_svn": 7}, endorsements=[data]).accepted
    assert outcomes(appraise(azure, google, {"launch_endorsement": "required", "min_svn": 8}, endorsements=[data]))["launch-endorsement"] == "fail"


def test_a_value_of_our_own_speaks_first_and_reaches_further(azure, google):
    own = load_reference_values({"schema": "attested.ai/reference-values/1", "values": [{
        "tee": "sev-snp", "measurement": MEASUREMENT.hex(), "covers": "service", "image": "mine", "source": "us", "not_after": "2027-01-01T00:00:00Z"}]})
    result = appraise(azure, google, {"launch_endorsement": "accepted"}, endorsements=[google.endorsement(MEASUREMENT)], values=own)
    assert result.accepted and result.items["cpu0"].reaches == "service"
    assert result.expires_at == datetime(2027, 1, 1, tzinfo=timezone.utc)


def test_a_word_under_a_root_of_the_operator_is_no_vendors():
    value = ReferenceValue(tee="sev-snp", measurement=MEASUREMENT.hex(), covers="launch", image="i", source=launch_endorsement.SOURCE, not_after=AT)
    own = replace(value, source=launch_endorsement.SOURCE_NONVENDOR)
    found = [launch_endorsement.anchor_with(*pair) for pair in (("vendor", None), ("vendor", value), ("vendor", own), ("none", own), ("nonvendor", value))]
    assert found == ["vendor", "vendor", "nonvendor", "none", "nonvendor"]


def test_lengths_beyond_the_end():
    with pytest.raises(FormatError):
        parse_gce_endorsement(tag(1, 2) + varint(2**40) + b"x")
