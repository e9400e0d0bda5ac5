# SPDX-License-Identifier: GPL-3.0-or-later
"""Each line of the TDX checklist with what breaks it: the check that must fail, and what that does to authenticity."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta

import pytest
import tdx_lab as t
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from tdx_lab import AT, Lab, lab

from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import trust_roots
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.tdx import UNCHECKED, verify_tdx


def judge(quote=None, collateral=None, of=None, at=AT, expected=UNCHECKED, roots=None, cache=None):
    of = of or lab()
    collateral = [of.collateral()] if collateral is None else [collateral] if isinstance(collateral, bytes) else collateral
    return verify_tdx(of.quote() if quote is None else quote, collateral, of.roots() if roots is None else roots, at, expected, cache)


def outcome(found, check_id):
    return next(check.outcome for check in found.checks if check.id == check_id)


@pytest.mark.parametrize("ca", ["platform", "processor"])
@pytest.mark.parametrize(("version", "body"), [(4, t.td_report()), (5, t.td_report()), (5, t.td_report(svn_2=bytes((8, 1, 6)) + bytes(13)))])
def test_good(ca, version, body):
    of = lab(ca)
    found = judge(of.quote(body, version), of=of, expected=b"\x5a" * 64)
    assert (found.authentic, found.code, found.claims.tcb_status, found.claims.ca) == (True, "ok", "UpToDate", ca)
    assert {check.outcome for check in found.checks} == {"pass"}
    assert found.anchor == "nonvendor" and found.not_after == t.UNTIL
    claims = json.loads(json.dumps(found.claims.to_dict()))
    assert claims["measurement"] == "11" * 48 and claims["pck"]["smt_enabled"] is (True if ca == "platform" else None)
    assert len({check.id for check in found.checks}) == len(found.checks)


# 1: format
@pytest.mark.parametrize(("code", "options"), [
    ("version", {"version": 3}), ("version", {"version": 6}), ("ak-type", {"ak_type": 3}), ("tee-type", {"tee_type": 0}), ("qe-vendor", {"vendor": bytes(16)}),
    ("body-type", {"version": 5, "body_type": 1}), ("body-type", {"version": 5, "body_type": 4, "body": bytes(885)}),
    ("body-size", {"version": 5, "body_type": 3}), ("body-size", {"version": 5, "size": 585}), ("cert-type", {"outer_type": 5}),
    ("cert-type", {"inner_type": 6}), ("cert-type", {"inner_type": 4}), ("trailing-data", {"padding": bytes(7) + b"\1"}), ("format", {"chain": "x" * 70000}),
])  # fmt: skip
def test_format(code, options):
    found = judge(lab().quote(**options))
    assert (found.code, found.authentic, found.claims) == (code, False, None)


def test_zeros_after_the_end_are_padding():
    for size in (0, 39, 3065):
        assert judge(lab().quote(padding=bytes(size))).authentic is True


def test_every_truncation_is_refused():
    quote = lab().quote()
    for size in range(0, len(quote), 7):
        assert judge(quote[:size]).authentic is False


# 2: PCK chain
def test_another_root():
    stranger = Lab()
    found = judge(stranger.quote(), stranger.collateral(), roots=lab().roots())
    assert found.authentic is False and found.code == "root-not-pinned" and found.claims.machine is None and found.anchor == "none" and not found.evidence_id
    assert outcome(found, "quote-signature") == outcome(found, "pck-revoked") == "not_checked"
    assert judge(roots=trust_roots(kind="intel")).code == "root-not-pinned"


def leaf_of_leaf(of):
    return t.pem(of.leaf(issuer="Intel SGX PCK Certificate", issuer_key=of.pck_key), of.pck, of.root)


CHAINS = {
    "issued by a leaf": leaf_of_leaf,
    "issued by the TCB signer": lambda of: t.pem(of.leaf(issuer="Intel SGX TCB Signing", issuer_key=of.signer_key), of.signer, of.root),
    "two certificates": lambda of: t.pem(of.pck, of.ca_certificate),
    "four certificates": lambda of: t.pem(of.pck, of.ca_certificate, of.root, of.root),
    "order": lambda of: t.pem(of.ca_certificate, of.pck, of.root),
    "forged leaf": lambda of: t.pem(of.leaf(issuer_key=t.new_key()), of.ca_certificate, of.root),
    "another name": lambda of: t.pem(of.leaf(subject="Intel SGX PCK"), of.ca_certificate, of.root),
    "no extension": lambda of: t.pem(of.leaf(extension=None), of.ca_certificate, of.root),
    "bad extension": lambda of: t.pem(of.leaf(extension=b"\x30\x00"), of.ca_certificate, of.root),
    "leaf is an authority": lambda of: t.pem(of.leaf(ca=True), of.ca_certificate, of.root),
    "leaf may not sign": lambda of: t.pem(of.leaf(usage={"key_agreement": True}), of.ca_certificate, of.root),
    "SHA-384": lambda of: t.pem(of.leaf(hash_=hashes.SHA384()), of.ca_certificate, of.root),
    "empty": lambda of: "",
    "text between": lambda of: of.chain().replace("-----END CERTIFICATE-----\n", "-----END CERTIFICATE-----\n#\n", 1),
    "no authority": lambda of: t.pem(of.pck, t.certificate(of.ca_name, of.ca_key, of.root_name, of.root_key, 7), of.root),
    "authority forged": lambda of: t.pem(of.pck, t.certificate(of.ca_name, of.ca_key, of.root_name, t.new_key(), 7, ca=True, pathlen=0), of.root),
    "authority by another name": lambda of: t.pem(
        of.leaf(issuer="Intel SGX PCK Other CA"), t.certificate("Intel SGX PCK Other CA", of.ca_key, of.root_name, of.root_key, 7, ca=True, pathlen=0), of.root
    ),
    "authority may not issue": lambda of: t.pem(
        of.pck, t.certificate(of.ca_name, of.ca_key, of.root_name, of.root_key, 7, ca=True, pathlen=0, usage={"crl_sign": True}), of.root
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CHAINS)
def test_chain(case):
    found = judge(lab().quote(chain=CHAINS[case](lab())))
    assert found.authentic is False and "pck-chain" in found.failed and found.evidence_id is None and found.claims.tcb_status is None


def test_a_root_with_the_pinned_key_must_prove_itself():
    of = lab()
    again = t.certificate(of.root_name, of.root_key, of.root_name, of.root_key, 2, ca=True, pathlen=1)
    assert judge(of.quote(chain=t.pem(of.pck, of.ca_certificate, again))).authentic is True
    forged = t.certificate(of.root_name, of.root_key, of.root_name, t.new_key(), 2, ca=True, pathlen=1)
    assert judge(of.quote(chain=t.pem(of.pck, of.ca_certificate, forged))).code == "root-not-pinned"


def test_root_without_room_for_an_authority():
    of = Lab()
    of.root = t.certificate(of.root_name, of.root_key, of.root_name, of.root_key, 1, ca=True, pathlen=0)
    assert judge(of=of).code == "pck-chain"


def test_pck_validity():
    of = Lab()
    for window in ({"end": AT - t.DAY}, {"start": AT + t.DAY}):
        of.pck = of.leaf(**window)
        found = judge(of=of)
        assert found.failed == ("pck-validity",) and found.authentic is False
    of.pck = of.leaf()
    of.ca_certificate = t.certificate(of.ca_name, of.ca_key, of.root_name, of.root_key, 7, ca=True, pathlen=0, end=AT - t.DAY)
    assert set(judge(of=of).failed) == {"pck-validity", "collateral-expired"}


# 3, 4: revocation
def test_revocation():
    of = lab()

    def root_crl(serial):
        return t.crl(of.root_name, of.root_key, (serial,)).hex()

    for code, changes in (
        ("pck-revoked", {"pck_crl": t.crl(of.ca_name, of.ca_key, (3, 0x2001)).hex()}),
        ("pck-ca-revoked", {"root_ca_crl": root_crl(0x1001)}),
        ("tcb-signer-revoked", {"root_ca_crl": root_crl(0x1002)}),
    ):
        found = judge(collateral=of.collateral(**changes))
        assert (found.failed, found.authentic, found.claims.tcb_status) == ((code,), None, None)
    assert judge(collateral=of.collateral(root_ca_crl=root_crl(1))).failed == ("tcb-signer-revoked", "pck-ca-revoked")
    # A list that is too old still proves that a certificate was revoked.
    old = t.crl(of.ca_name, of.ca_key, (0x2001,), t.LONG_AGO, AT - t.DAY).hex()
    assert set(judge(collateral=of.collateral(pck_crl=old)).failed) == {"collateral-expired", "pck-revoked"}


def test_revocation_lists_that_cannot_be_used():
    of, processor = lab(), lab("processor")
    critical = ((x509.DeltaCRLIndicator(1), True),)
    for code, changes in (
        ("crl-signature", {"root_ca_crl": t.crl(of.root_name, t.new_key()).hex()}),
        ("crl-signature", {"pck_crl": t.crl(of.ca_name, t.new_key()).hex()}),
        ("crl-signature", {"pck_crl": t.crl(of.ca_name, of.ca_key, extensions=critical).hex()}),
        ("crl-signature", {"pck_crl": "3000"}),
        ("crl-issuer", {"pck_crl": t.crl(of.root_name, of.root_key).hex()}),
        ("crl-issuer", {"root_ca_crl": t.crl(of.ca_name, of.ca_key).hex()}),
        ("crl-issuer", {"pck_crl_issuer_chain": t.pem(processor.ca_certificate, processor.root)}),
        ("crl-issuer", {"pck_crl_issuer_chain": t.pem(of.root)}),
        ("crl-issuer", {"pck_crl_issuer_chain": t.pem(of.signer, of.root), "pck_crl": t.crl("Intel SGX TCB Signing", of.signer_key).hex()}),
    ):
        found = judge(collateral=of.collateral(**changes))
        assert (found.code, found.authentic, found.claims.tcb_status) == (code, None, None), changes.keys()


def test_list_of_another_authority():
    """A list of the Processor CA, proven under the same root, says nothing about a leaf of the Platform CA."""
    of = lab()
    key = t.new_key()
    for subject in ("Intel SGX PCK Processor CA", of.ca_name):
        other = t.certificate(subject, key, of.root_name, of.root_key, 0x1009, ca=True, pathlen=0)
        found = judge(collateral=of.collateral(pck_crl_issuer_chain=t.pem(other, of.root), pck_crl=t.crl(subject, key).hex()))
        assert (found.failed, found.authentic) == (("crl-issuer",), None)


# 5: who signed
def test_signed_members():
    of = lab()
    for prefix, member in (("tcb-info", "tcb_info"), ("qe-identity", "qe_identity")):
        document = json.loads(of.collateral())
        document[member] = document[member].replace("2026-05-14", "2026-05-15", 1)
        found = judge(collateral=json.dumps(document).encode())
        assert (found.failed, found.authentic) == ((prefix + "-signature",), None)
        document = json.loads(of.collateral())
        document[member] = document[member].replace(":", ": ", 1)
        assert judge(collateral=json.dumps(document).encode()).failed == (prefix + "-signature",)


def signed_as(of, key, *chain):
    document = json.loads(of.collateral())
    for member in ("tcb_info", "qe_identity"):
        document[member + "_signature"] = t.raw_signature(key, document[member].encode()).hex()
        document[member + "_issuer_chain"] = t.pem(*chain)
    return json.dumps(document).encode()


def test_signer_role():
    of = lab()

    def as_signer(**options):
        return t.certificate("Intel SGX TCB Signing", of.signer_key, of.root_name, of.root_key, 9, **options)

    for key, chain in (
        (of.ca_key, (of.ca_certificate, of.root)),
        (of.pck_key, (of.pck, of.ca_certificate, of.root)),
        (of.pck_key, (of.pck, of.ca_certificate)),
        (of.pck_key, (of.pck, of.root)),
        (of.root_key, (of.root, of.root)),
        (of.root_key, (of.root,)),
        (of.signer_key, (as_signer(ca=True, pathlen=0), of.root)),
        (of.signer_key, (as_signer(usage={"key_agreement": True}), of.root)),
        (of.signer_key, (as_signer(sgx=t.sgx_extension()), of.root)),
        (of.signer_key, (t.certificate("Intel SGX Other", of.signer_key, of.root_name, of.root_key, 9), of.root)),
        (of.signer_key, (t.certificate("Intel SGX TCB Signing", of.signer_key, of.ca_name, of.ca_key, 9), of.ca_certificate)),
        (lab("processor").signer_key, (lab("processor").signer, lab("processor").root)),
    ):
        found = judge(collateral=signed_as(of, key, *chain))
        assert (found.failed, found.authentic, found.claims.tcb_status) == (("tcb-signer-role",), None, None), [part.subject for part in chain]


# 6: time
@pytest.mark.parametrize(("member", "make"), [("info", t.tcb_info), ("identity", t.qe_identity)])
def test_windows_of_signed_members(member, make):
    for code, changes in (
        ("collateral-expired", {"nextUpdate": t.stamp(AT - timedelta(seconds=1))}),
        ("collateral-not-yet-valid", {"issueDate": t.stamp(AT + timedelta(seconds=1))}),
    ):  # fmt: skip
        found = judge(collateral=lab().collateral(**{member: make(**changes)}))
        assert (found.failed, found.authentic, found.claims.tcb_status) == ((code,), None, None)
    for changes in ({"nextUpdate": t.stamp(AT)}, {"issueDate": t.stamp(AT)}):
        assert judge(collateral=lab().collateral(**{member: make(**changes)})).authentic is True


def test_windows_of_lists_and_signer():
    of = lab()
    for start, end, code in ((t.LONG_AGO, AT - t.DAY, "collateral-expired"), (AT + t.DAY, t.FAR, "collateral-not-yet-valid")):
        signer = t.certificate("Intel SGX TCB Signing", of.signer_key, of.root_name, of.root_key, 9, start=start, end=end)
        for changes in (
            {"root_ca_crl": t.crl(of.root_name, of.root_key, (), start, end).hex()}, {"pck_crl": t.crl(of.ca_name, of.ca_key, (), start, end).hex()},
            {"tcb_info_issuer_chain": t.pem(signer, of.root)}, {"qe_identity_issuer_chain": t.pem(signer, of.root)},
        ):  # fmt: skip
            found = judge(collateral=of.collateral(**changes))
            assert (found.failed, found.authentic, found.claims.tcb_status) == ((code,), None, None)


# 7: for whom
def test_identity_of_the_collateral():
    of = lab()
    for code, options in (
        ("tcb-info-id", {"info": t.tcb_info(id="SGX")}), ("tcb-info-id", {"info": t.tcb_info(version=2)}), ("tcb-info-id", {"info": t.tcb_info(id=None)}),
        ("qe-identity-id", {"identity": t.qe_identity(id="QE")}), ("qe-identity-id", {"identity": t.qe_identity(version=1)}),
        ("fmspc-mismatch", {"info": t.tcb_info(fmspc="a0b1c2d3e4f6")}), ("pceid-mismatch", {"info": t.tcb_info(pceId="0001")}),
    ):  # fmt: skip
        for cache in (None, VerificationCache()):
            found = judge(collateral=of.collateral(**options), cache=cache)
            assert (found.code, found.authentic, found.claims.tcb_status) == (code, None, None)


def test_missing_and_other_collateral():
    of = lab()
    other = of.collateral(info=t.tcb_info(fmspc="a0b1c2d3e4f6"))
    assert (judge(collateral=[]).failed, judge(collateral=[]).authentic) == (("collateral-missing",), None)
    for cache in (None, VerificationCache()):
        found = judge(collateral=[other, b"{", other + b" "], cache=cache)
        assert (found.failed, found.authentic, found.claims.pck.fmspc) == (("fmspc-mismatch",), None, t.FMSPC)
        assert judge(collateral=[other, b"{", of.collateral(), b""], cache=cache).authentic is True
        assert judge(collateral=[b"{"], cache=cache).failed == ("collateral-format",)


def test_the_best_of_several():
    of = lab()
    old = of.collateral(info=t.tcb_info(tcbEvaluationDataNumber=99, nextUpdate=t.stamp(AT - t.DAY)))
    forged = of.collateral(info=t.tcb_info(tcbEvaluationDataNumber=98), tcb_info_signature="11" * 64)
    newer = of.collateral(info=t.tcb_info(tcbEvaluationDataNumber=21))
    for order in ([old, forged, newer, of.collateral()], [of.collateral(), newer, forged, old]):
        found = judge(collateral=order)
        assert found.authentic is True and found.claims.tcb_evaluation_data_number == 21


@pytest.mark.parametrize("change", [
    lambda d: d.pop("pck_crl"), lambda d: d.update(extra="1"), lambda d: d.update(pck_crl="zz"), lambda d: d.update(pck_crl="30 00"),
    lambda d: d.update(tcb_info_signature="11" * 63), lambda d: d.update(tcb_info={}), lambda d: d.update(tcb_info_issuer_chain="\u00e4"),
])  # fmt: skip
def test_collateral_format(change):
    document = json.loads(lab().collateral())
    change(document)
    found = judge(collateral=json.dumps(document).encode())
    assert (found.failed, found.authentic) == (("collateral-format",), None)


def edit(make, change):
    document = make()
    change(document)
    return document


@pytest.mark.parametrize("change", [
    lambda d: d.update(unknown=1), lambda d: d["tdxModuleIdentities"][0].update(unknown=1), lambda d: d["tcbLevels"][0].update(unknown=1),
    lambda d: d["tcbLevels"][0]["tcb"].update(unknown=1), lambda d: d["tcbLevels"][0]["tcb"]["sgxtcbcomponents"][0].update(unknown=1),
    lambda d: d["tcbLevels"][0]["tcb"]["sgxtcbcomponents"][0].update(category=1), lambda d: d["tcbLevels"][0]["tcb"]["sgxtcbcomponents"].pop(),
    lambda d: d["tcbLevels"][0]["tcb"]["tdxtcbcomponents"][0].update(svn="5"), lambda d: d["tcbLevels"][0]["tcb"]["tdxtcbcomponents"][0].update(svn=True),
    lambda d: d["tcbLevels"][0].update(tcbStatus="Fine"), lambda d: d["tcbLevels"][0].pop("tcbStatus"), lambda d: d["tcbLevels"][0].update(advisoryIDs="x"),
    lambda d: d["tcbLevels"][0].update(tcbDate="2026-13-01T00:00:00Z"), lambda d: d.update(tcbLevels=[]), lambda d: d.pop("tdxModule"),
    lambda d: d.update(fmspc="zz"), lambda d: d.update(tcbType=1), lambda d: d.update(issueDate=5), lambda d: d.update(tcbEvaluationDataNumber="20"),
    lambda d: d["tdxModuleIdentities"].append(d["tdxModuleIdentities"][0]), lambda d: d["tcbLevels"].append(d["tcbLevels"][0]),
])  # fmt: skip
def test_unknown_forms_of_tcb_info(change):
    found = judge(collateral=[lab().collateral(info=edit(t.tcb_info, change)), lab().collateral(info=t.tcb_info(fmspc="000000000000"))])
    assert found.failed in (("collateral-format",), ("fmspc-mismatch",)) and found.authentic is None and found.claims.tcb_status is None


def test_members_that_occur_twice():
    for text in (json.dumps(t.tcb_info())[:-1] + ', "version": 3}', json.dumps(t.tcb_info()).replace('"pcesvn": 13', '"pcesvn": 13, "pcesvn": 1', 1)):
        assert judge(collateral=lab().collateral(info=text)).failed == ("collateral-format",)
    assert judge(collateral=lab().collateral(identity=t.qe_identity(extra=1))).failed == ("collateral-format",)


# 8, 10: signatures
def test_signatures():
    of = lab()

    def digest(tail):
        return hashlib.sha256(t.point(of.ak) + bytes(range(32))).digest() + tail

    for codes, options in (
        (("qe-report-signature",), {"qe_key": t.new_key()}), (("ak-binding",), {"reportdata": digest(bytes(31) + b"\1")}),
        (("ak-binding",), {"reportdata": bytes(64)}),
        (("quote-signature",), {"signed_by": t.new_key()}),
    ):  # fmt: skip
        found = judge(of.quote(**options))
        assert (found.failed, found.authentic, found.evidence_id, found.claims.tcb_status) == (codes, False, None, None)


def test_attestation_key_that_is_no_point():
    of = lab()
    quote = of.quote().replace(t.point(of.ak), b"\x01" * 64)
    assert set(judge(quote).failed) == {"ak-binding", "quote-signature"}


# 9: quoting enclave
@pytest.mark.parametrize("qe", [
    {"mrsigner": bytes(32)}, {"isvprodid": 1}, {"miscselect": 1}, {"attributes": b"\x13" + bytes(15)}, {"attributes": b"\x17" + bytes(15)},
    {"attributes": b"\x15\x01" + bytes(14)}, {"isvsvn": 1},
])  # fmt: skip
def test_quoting_enclave(qe):
    found = judge(lab().quote(qe=qe))
    assert (found.failed, found.authentic, found.claims.tcb_status) == (("qe-identity",), False, None)


def test_a_debug_enclave_is_refused_even_if_the_mask_forgets_it():
    identity = t.qe_identity(attributesMask="00" * 16)
    assert judge(collateral=lab().collateral(identity=identity)).authentic is True
    assert judge(lab().quote(qe={"attributes": b"\x17" + bytes(15)}), lab().collateral(identity=identity)).failed == ("qe-identity",)


def test_miscselect_is_little_endian_in_the_report():
    identity = t.qe_identity(miscselect="00000001")
    assert judge(lab().quote(qe={"miscselect": 1}), lab().collateral(identity=identity)).authentic is True
    assert judge(lab().quote(qe={"miscselect": 1 << 24}), lab().collateral(identity=identity)).failed == ("qe-identity",)


# 11: module
@pytest.mark.parametrize(("code", "body", "authentic"), [
    ("module-identity", {"svn": bytes((8, 9, 6)) + bytes(13)}, None), ("module-mrsigner", {"mrsignerseam": b"\1" + bytes(47)}, False),
    ("module-attributes", {"seamattributes": b"\1" + bytes(7)}, False), ("module-tcb-not-supported", {"svn": bytes((5, 1, 6)) + bytes(13)}, True),
    ("module-mrsigner", {"mrsignerseam": b"\1" + bytes(47), "svn": bytes((8, 0, 6)) + bytes(13)}, False),
])  # fmt: skip
def test_module(code, body, authentic):
    found = judge(lab().quote(t.td_report(**body)))
    assert (found.failed, found.authentic, found.claims.tcb_status) == ((code,), authentic, None)


# 16: report data
def test_report_data():
    assert judge(expected=b"\x5a" * 64).code == "ok"
    found = judge(expected=b"\x5a" * 63)
    assert (found.failed, found.authentic) == (("report-data-mismatch",), True)
    assert outcome(judge(), "report-data-mismatch") == "not_checked"


@pytest.mark.parametrize("arguments", [{"at": datetime(2026, 11, 1)}, {"expected": b""}, {"expected": bytes(65)}, {"expected": "x"}])
def test_a_wrong_call_is_the_callers_fault(arguments):
    with pytest.raises(AttestedError) as caught:
        judge(**arguments)
    assert caught.value.code == "argument"


def test_cache():
    of, cache = lab(), VerificationCache()
    collateral, quote = of.collateral(), of.quote()
    first = judge(quote, collateral, cache=cache)
    assert first.authentic is True
    stored = cache.counters()["stored"]
    assert judge(quote, collateral, cache=cache) == first and cache.counters()["stored"] == stored
    # What was proven under one root is not proven under another; time is judged again; nothing that failed is remembered.
    assert judge(quote, collateral, roots=lab("processor").roots(), cache=cache).code == "root-not-pinned"
    assert "collateral-expired" in judge(quote, collateral, at=AT + 365 * t.DAY, cache=cache).failed
    assert judge(of.quote(signed_by=t.new_key()), collateral, cache=cache).failed == ("quote-signature",)
    stored = cache.counters()["stored"]
    bad = of.collateral(tcb_info_signature="11" * 64)
    for _time in range(2):
        assert judge(quote, [bad], cache=cache).failed == ("tcb-info-signature",)
    assert cache.counters()["stored"] == stored + 1  # the index of what there is
