# SPDX-License-Identifier: GPL-3.0-or-later
"""One wrong thing at a time: each check must fail with its own code, and nothing may be authentic."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from softtee import der as make
from softtee.snp_authority import ca_name, pem, sign_tbs, signature_algorithm, subject
from softtee.snp_authority import build_certificate as build_ca
from softtee.snp_report import DEFAULT_TCB, build_report, default_chip_id
from verify_lab import AT, LEAF_FROM

from ansible_collections.attested.ai.plugins.module_utils.checks import FAIL, NOT_CHECKED, PASS
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import trust_roots
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats.der import parse_certificate
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_report import parse_report
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.primitives import P384_ORDER
from ansible_collections.attested.ai.plugins.module_utils.verify.snp import UNCHECKED, verify_snp

ALL_IDS = {
    "format", "version-unsupported", "unsigned", "signature-algorithm", "host-requested-report", "product-unknown", "product-mismatch",
    "root-not-pinned", "chain", "vek-signature", "key-role", "vek-profile", "vek-key-type", "vek-expired", "crl-signature", "crl-expired",
    "ask-revoked", "report-signature", "vek-tcb-mismatch", "vek-hwid-mismatch", "chip-id-masked", "tcb-inconsistent", "report-data-mismatch",
}  # fmt: skip
AMD = "1.3.6.1.4.1.3704.1"


def outcome(result, check_id):
    return {check.id: check.outcome for check in result.checks}[check_id]


def refused(result, code, *others):
    """The evidence is not authentic for exactly these reasons."""
    assert result.authentic is False
    assert result.code == code
    assert set(result.failed) == {code} | set(others)


def tcb_plus(product, **changes):
    tcb = dict(DEFAULT_TCB[product])
    for name, change in changes.items():
        tcb[name] += change
    return tcb


# --- the baseline, so that each refusal below has one cause ---------------------------------------------------------------


@pytest.mark.parametrize("role", ["vcek", "vlek"])
@pytest.mark.parametrize("product,version", [("milan", 2), ("milan", 3), ("milan", 4), ("genoa", 3), ("genoa", 5), ("turin", 3), ("turin", 5)])
def test_baseline(lab, product, version, role):
    result = lab.verify(product, role, version=version, report_data=b"n" * 64, expected=b"n" * 64)
    assert result.authentic is True and result.code == "ok" and result.anchor == "nonvendor"
    ids = [check.id for check in result.checks]
    assert set(ids) == ALL_IDS and len(ids) == len(ALL_IDS)
    assert result.claims.product == product and result.claims.key_role == role
    assert result.not_after == LEAF_FROM + timedelta(days=7 * 365 if role == "vcek" else 365)


def test_refused_evidence_reports_every_check_too(lab):
    result = lab.verify(vmpl=0xFFFFFFFF, report_data=b"a" * 64, expected=b"b" * 64)
    ids = [check.id for check in result.checks]
    assert set(ids) == ALL_IDS and len(ids) == len(ALL_IDS)
    assert result.failed == ("host-requested-report", "report-data-mismatch")


# --- 1-3 format, version, reserved regions --------------------------------------------------------------------------------

MBZ_ALWAYS = [0x49, 0x4A, 0x4B, 0x4C, 0x4F, 0x1EB, 0x1EF]
MBZ_V2 = [0x188, 0x189, 0x18A, 0x18B, 0x19F, 0x1F8, 0x207, 0x208, 0x29F]
MBZ_V3 = [0x18B, 0x19F, 0x1F8, 0x200, 0x207, 0x208, 0x29F]
MBZ_V5 = [0x18B, 0x19F, 0x208, 0x220, 0x29F]
MBZ = [("milan", 2, o) for o in MBZ_ALWAYS + MBZ_V2] + [("milan", 3, o) for o in MBZ_ALWAYS + MBZ_V3]
MBZ += [("milan", 4, o) for o in (0x1F8, 0x29F)] + [("turin", 5, o) for o in MBZ_ALWAYS + MBZ_V5]


@pytest.mark.parametrize("product,version,offset", MBZ)
def test_signed_reserved_byte(lab, product, version, offset):
    refused(lab.verify(product, version=version, patch={offset: b"\x01"}), "format")


@pytest.mark.parametrize("bit", [5, 6, 7])
def test_reserved_bit_of_the_key_information(lab, bit):
    refused(lab.verify(key_info=1 << bit), "format")


@pytest.mark.parametrize("offset", [0x2D0, 0x2E7, 0x318, 0x32F, 0x330, 0x49F])
def test_unsigned_reserved_byte(lab, offset):
    key, vek = lab.plain_leaf("milan", "vcek")
    report = bytearray(lab.report(key))
    report[offset] = 1
    refused(lab.verify(report=bytes(report)), "format")


def test_policy_bit_17_must_be_one(lab):
    refused(lab.verify(policy=1 << 16), "format")


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("offset", [0x38, 0x180, 0x1E0, 0x1F0])
@pytest.mark.parametrize("byte", [2, 3, 4, 5])
def test_reserved_tcb_byte_milan(lab, version, offset, byte):
    result = lab.verify(version=version, patch={offset + byte: b"\x01"})
    assert result.authentic is False and result.code == "format"


@pytest.mark.parametrize("offset", [0x38, 0x180, 0x1E0, 0x1F0])
@pytest.mark.parametrize("byte", [4, 5, 6])
def test_reserved_tcb_byte_turin(lab, offset, byte):
    refused(lab.verify("turin", patch={offset + byte: b"\x01"}), "format")


@pytest.mark.parametrize("version", [0, 1, 6, 7, 0x02000000])
def test_version(lab, version):
    refused(lab.verify(patch={0: version.to_bytes(4, "little")}), "version-unsupported")


# --- 4-6 algorithm, key, requester ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", [0, 2, 0x100])
def test_signature_algorithm(lab, algorithm):
    refused(lab.verify(signature_algo=algorithm), "signature-algorithm")


@pytest.mark.parametrize("offset", [0x2A0, 0x2E8])
@pytest.mark.parametrize("value", [0, P384_ORDER, P384_ORDER + 1, (1 << 384) - 1])
def test_signature_number_out_of_range(lab, offset, value):
    key, _vek = lab.plain_leaf("milan", "vcek")
    report = bytearray(lab.report(key))
    report[offset:offset + 48] = value.to_bytes(48, "little")
    refused(lab.verify(report=bytes(report)), "signature-algorithm", "report-signature")


@pytest.mark.parametrize("signing_key", [2, 3, 6, 7])
def test_signing_key(lab, signing_key):
    refused(lab.verify(signing_key=signing_key), "unsigned", "key-role")


def test_masked_chip_key(lab):
    refused(lab.verify(mask_chip_key=True), "unsigned")
    # As the firmware writes it: the signature is zeros.
    report = bytes(build_report("milan", mask_chip_key=True))
    refused(lab.verify(report=report), "unsigned", "signature-algorithm", "report-signature")


@pytest.mark.parametrize("vmpl", [4, 0xFFFFFFFF])
def test_report_for_the_host(lab, vmpl):
    refused(lab.verify(vmpl=vmpl), "host-requested-report")


@pytest.mark.parametrize("vmpl", [1, 3])
def test_other_vmpl_is_for_policy(lab, vmpl):
    assert lab.verify(vmpl=vmpl).authentic is True


# --- 7 product ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cpuid", [(0x17, 0x31, 0), (0x19, 0x20, 0), (0x19, 0x9F, 0), (0x19, 0xB0, 0), (0x1A, 0x12, 0), (0x1B, 0, 0)])
def test_unknown_cpuid(lab, cpuid):
    result = lab.verify(cpuid=cpuid)
    assert result.authentic is False and result.code == "product-unknown"
    assert result.claims.tcb is None


@pytest.mark.parametrize("cpuid", [(0x19, 0x0F, 0), (0x19, 0x00, 2)])
def test_milan_models(lab, cpuid):
    assert lab.verify(cpuid=cpuid).authentic is True


@pytest.mark.parametrize("cpuid", [(0x19, 0x10, 0), (0x19, 0x1F, 0), (0x19, 0xA0, 0), (0x19, 0xAF, 0)])
def test_genoa_models(lab, cpuid):
    assert lab.verify("genoa", cpuid=cpuid).authentic is True


def test_report_of_another_product(lab):
    refused(lab.verify(cpuid=(0x19, 0x11, 1)), "product-mismatch")


def test_turin_report_under_a_milan_chain(lab):
    leaf = lab.leaf("milan", chip_id=hwid_of("turin"), tcb=DEFAULT_TCB["milan"])
    result = lab.verify("turin", leaf=leaf, chain=lab.chain("milan"))
    assert result.authentic is False and "product-mismatch" in result.failed


def hwid_of(product):
    return default_chip_id(product).ljust(64, b"\0")


@pytest.mark.parametrize("name", ["Genoa", "Turin", "milan", "MILAN-B0", "Milan2", "-", "B0-Milan"])
@pytest.mark.parametrize("version", [2, 3])
def test_product_name_of_the_leaf(lab, name, version):
    result = lab.verify(leaf=lab.leaf(product_name=name), version=version)
    assert result.authentic is False
    assert {"product-unknown", "product-mismatch"} & set(result.failed)


@pytest.mark.parametrize("name", ["Milan", "Milan-B1"])
def test_stepping_in_the_product_name_does_not_matter(lab, name):
    assert lab.verify(leaf=lab.leaf(product_name=name)).authentic is True


# --- 8 chain to a pinned root ---------------------------------------------------------------------------------------------


def test_attacker_with_amds_names(lab, attacker):
    chain = (attacker.authority.intermediate_der("milan", "ask"), attacker.authority.ark_der("milan"))
    result = lab.verify(leaf=attacker.leaf(), chain=chain)
    refused(result, "root-not-pinned", "chain")
    assert result.anchor == "none" and result.evidence_id is None and result.claims.hwid is None and result.not_after is None
    for check_id in ("key-role", "vek-profile", "vek-expired", "report-signature", "vek-tcb-mismatch", "vek-hwid-mismatch"):
        assert outcome(result, check_id) == NOT_CHECKED, check_id


def test_attacker_against_amd(attacker, vendor_roots):
    chain = (attacker.authority.intermediate_der("milan", "ask"), attacker.authority.ark_der("milan"))
    refused(attacker.verify(chain=chain, roots=vendor_roots), "root-not-pinned", "chain")
    result = attacker.verify(chain=(), roots=vendor_roots)
    assert result.authentic is False and result.code == "vek-signature"


def test_an_unproven_leaf_does_not_name_the_product(lab, attacker):
    """Version 2 says no product itself, and what an attacker's certificate says counts for nothing."""
    chain = (attacker.authority.intermediate_der("milan", "ask"),)
    result = lab.verify(leaf=attacker.leaf(), chain=chain, version=2)
    assert result.authentic is False and result.claims.product is None and result.claims.tcb is None
    assert outcome(result, "product-unknown") == NOT_CHECKED and outcome(result, "product-mismatch") == NOT_CHECKED


def test_attackers_leaf_under_the_real_intermediate(lab, attacker):
    refused(lab.verify(leaf=attacker.leaf()), "vek-signature")


def test_no_issuer(lab):
    refused(lab.verify(chain=()), "root-not-pinned", "chain")


def test_chain_of_another_product(lab):
    refused(lab.verify(chain=lab.chain("turin")), "root-not-pinned", "chain")


def test_no_roots_at_all(lab):
    refused(lab.verify(roots=trust_roots(vendor=False), chain=(*lab.chain(), lab.authority.ark_der("milan"))), "root-not-pinned")


def test_flipped_signature_of_the_intermediate(lab):
    ask = bytearray(lab.authority.intermediate_der("milan", "ask"))
    ask[-1] ^= 1
    refused(lab.verify(chain=(bytes(ask),)), "root-not-pinned", "chain")


def test_unreadable_path_material_does_no_harm(lab):
    assert lab.verify(chain=(b"", b"\x30\x80", b"x" * 20000, *lab.chain())).authentic is True


def test_certificates_of_others_do_not_crowd_out_the_path(lab):
    assert lab.verify(chain=[lab.authority.ark_der("milan")] * 9 + list(lab.chain())).authentic is True


def test_a_list_in_any_buffer_is_read(lab):
    assert lab.verify(crl=bytearray(crl(lab)), cache=VerificationCache()).authentic is True


def test_an_endless_chain_is_not_followed(lab):
    junk = b"junk" + subject(ca_name("milan", "ask"))
    assert lab.verify(chain=(junk,) * 8 + lab.chain()).authentic is False
    assert lab.verify(chain=(junk,) * 7 + lab.chain()).authentic is True


def make_ask(lab, *, name=None, ca=True, usage=b"\x04", unused=2, extra=(), constraints=True, key_usage=True, key=None, **options):
    authority = lab.authority
    signer = options.pop("signer", None) or authority.key("milan", "ark")
    extensions = list(extra)
    if constraints:
        extensions.append(make.extension("2.5.29.19", make.sequence(make.boolean(True)) if ca else make.sequence(), True))
    if key_usage:
        extensions.append(make.extension("2.5.29.15", make.bits(usage, unused), True))
    return build_ca(
        serial=7,
        issuer=options.pop("issuer", subject(ca_name("milan", "ark"))),
        subject_name=subject(name or ca_name("milan", "ask")),
        public_key=(key or authority.key("milan", "ask")).public_key(),
        not_before=options.pop("not_before", datetime(2020, 1, 1, tzinfo=timezone.utc)),
        not_after=options.pop("not_after", datetime(2045, 1, 1, tzinfo=timezone.utc)),
        extensions=extensions,
        signer=signer,
        **options,
    )


def test_own_intermediate_baseline(lab):
    assert lab.verify(chain=(make_ask(lab),)).authentic is True


@pytest.mark.parametrize(
    "options",
    [
        {"ca": False},
        {"constraints": False},
        {"key_usage": False},
        {"usage": b"\x02", "unused": 1},  # cRLSign only
        {"usage": b"\x80", "unused": 7},  # digitalSignature only
        {"extra": (make.extension("2.5.29.36", make.sequence(), True),)},
    ],
    ids=["cA-false", "no-basic-constraints", "no-key-usage", "crl-sign-only", "digital-signature-only", "unknown-critical"],
)
def test_profile_of_the_intermediate(lab, options):
    refused(lab.verify(chain=(make_ask(lab, **options),)), "chain")


@pytest.mark.parametrize(
    "options", [{"scheme": "pkcs1v15"}, {"digest": "sha256"}, {"salt": 32}, {"salt": 0}], ids=["pkcs1v15", "sha256", "salt-32", "salt-0"]
)  # fmt: skip
def test_signature_scheme_of_the_intermediate(lab, options):
    refused(lab.verify(chain=(make_ask(lab, **options),)), "root-not-pinned", "chain")


PKCS1_SHA384 = make.sequence(make.oid("1.2.840.113549.1.1.12"), make.null())


def relabelled(certificate, key, algorithm=PKCS1_SHA384):
    """The same certificate, naming another algorithm inside and outside, with a proper PSS signature over it all."""
    parsed = parse_certificate(certificate)
    tbs = parsed.tbs.replace(parsed.signature_algorithm, algorithm)
    length = len(tbs) - 4
    tbs = tbs[:2] + length.to_bytes(2, "big") + tbs[4:]
    signature = key.sign(tbs, padding.PSS(padding.MGF1(hashes.SHA384()), 48), hashes.SHA384())
    return make.sequence(tbs, algorithm, make.bits(signature))


def test_the_named_algorithm_counts_not_the_one_that_fits(lab):
    """A PSS signature under the label of PKCS#1 v1.5 must not verify: the label is signed and is part of the profile."""
    ask, ark = lab.authority.key("milan", "ask"), lab.authority.key("milan", "ark")
    key, vek = lab.plain_leaf("milan", "vcek")
    pss = parse_certificate(vek).signature_algorithm
    assert lab.verify(leaf=(key, relabelled(vek, ask, pss))).authentic is True
    refused(lab.verify(leaf=(key, relabelled(vek, ask))), "vek-signature")
    refused(lab.verify(chain=(relabelled(lab.authority.intermediate_der("milan", "ask"), ark),)), "root-not-pinned", "chain")
    refused(lab.verify(roots=trust_roots([pem(relabelled(lab.authority.ark_der("milan"), ark))], True, vendor=False)), "chain")


def test_explicit_trailer_field_is_accepted(lab):
    """As in AMD's older certificates; any other value of it is not."""
    ask = lab.authority.key("milan", "ask")
    key, vek = lab.plain_leaf("milan", "vcek")
    pss = bytearray(parse_certificate(vek).signature_algorithm)
    pss[1] += 5
    pss[14] += 5
    for value in (1, 2):
        result = lab.verify(leaf=(key, relabelled(vek, ask, bytes(pss) + b"\xa3\x03\x02\x01" + bytes([value]))))
        assert result.authentic is (value == 1)


@pytest.mark.parametrize("exponent,bits,good", [(65537, 2048, True), (3, 2048, False), (65537, 1024, False)])
def test_rsa_keys_of_other_shapes(lab, exponent, bits, good):
    weak = rsa.generate_private_key(exponent, bits)
    chain = (make_ask(lab, key=weak),)
    result = lab.verify(leaf=lab.leaf(signer=weak), chain=chain)
    assert result.authentic is good


def test_name_of_the_intermediate(lab):
    leaf = lab.leaf(issuer_name=subject("SEV-Other"))
    result = lab.verify(leaf=leaf, chain=(make_ask(lab, name="SEV-Other"),))
    assert result.authentic is False and "chain" in result.failed and "key-role" in result.failed


def test_name_of_the_root(lab):
    """A root under another name, even one that was given explicitly, stands for no product."""
    ark = lab.authority.key("milan", "ark")
    root = make_ask(lab, name="ARK-Other", issuer=subject("ARK-Other"), key=ark, usage=b"\x06", unused=1)
    result = lab.verify(roots=trust_roots([pem(root)], True, vendor=False), chain=(make_ask(lab, issuer=subject("ARK-Other")),))
    refused(result, "product-mismatch", "chain")


def test_a_leaf_is_no_intermediate(lab):
    """A certificate below the ASK must not issue leaves, whatever it calls itself."""
    fake = make_ask(lab, issuer=subject("SEV-Milan"), signer=lab.authority.key("milan", "ask"))
    result = lab.verify(chain=(fake,))
    assert result.authentic is False


def test_a_root_must_be_a_ca(lab):
    ark = make_ask(lab, name="ARK-Milan", ca=False, key=lab.authority.key("milan", "ark"))
    refused(lab.verify(roots=trust_roots([pem(ark)], True, vendor=False)), "chain")


def test_vendor_anchored_keys_have_4096_bits(lab):
    roots = lab.roots
    pretended = type(roots)(tuple(replace(root, anchor="vendor") for root in roots.roots))
    refused(lab.verify(roots=pretended), "chain")


# --- 9-11 leaf ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{"scheme": "pkcs1v15"}, {"digest": "sha256"}, {"salt": 32}, {"salt": 47}], ids=["pkcs1v15", "sha256", "salt-32", "salt-47"]
)  # fmt: skip
def test_signature_scheme_of_the_leaf(lab, options):
    refused(lab.verify(leaf=lab.leaf(**options)), "vek-signature")


def test_leaf_signed_by_the_root_directly(lab):
    refused(lab.verify(leaf=lab.leaf(signer=lab.authority.key("milan", "ark"))), "vek-signature")
    result = lab.verify(leaf=lab.leaf(issuer="ark"), chain=(*lab.chain(), lab.authority.ark_der("milan")))
    assert result.authentic is False and "chain" in result.failed


def test_vlek_for_a_vcek_report(lab):
    result = lab.verify(leaf=lab.plain_leaf("milan", "vlek"), signing_key="vcek")
    assert result.authentic is False and result.code == "key-role" and "vek-hwid-mismatch" in result.failed


def test_vcek_for_a_vlek_report(lab):
    refused(lab.verify(leaf=lab.plain_leaf("milan", "vcek"), signing_key="vlek"), "key-role")


def test_vcek_under_the_asvk(lab):
    refused(lab.verify(leaf=lab.leaf(issuer="asvk")), "key-role")


def test_vlek_under_the_ask(lab):
    refused(lab.verify(role="vlek", leaf=lab.leaf(role="vlek", issuer="ask")), "key-role")


def test_both_extensions(lab):
    refused(lab.verify(leaf=lab.leaf(both_extensions=True)), "vek-profile")
    refused(lab.verify(role="vlek", leaf=lab.leaf(role="vlek", both_extensions=True)), "vek-profile")


def test_the_wrong_extension(lab):
    refused(lab.verify(leaf=lab.leaf(omit=("4",))), "vek-profile", "vek-hwid-mismatch")
    refused(lab.verify(role="vlek", leaf=lab.leaf(role="vlek", omit=("5",))), "vek-profile")
    result = lab.verify(leaf=lab.leaf(role="vlek", cn="SEV-VCEK", issuer="ask"), signing_key="vcek")
    assert result.authentic is False and "vek-profile" in result.failed


@pytest.mark.parametrize("name", ["SEV-VCEK2", "sev-vcek", "SEV-VLEK", "ARK-Milan"])
def test_name_of_the_leaf(lab, name):
    result = lab.verify(leaf=lab.leaf(cn=name))
    assert result.authentic is False and "key-role" in result.failed


@pytest.mark.parametrize(
    "values",
    [
        {"1": make.integer(1)}, {"1": b"\x02\x02\x00\x00"}, {"1": b""}, {"2": make.tlv(0x0C, b"Milan")}, {"2": make.ia5("")},
        {"2": b"\x16\x05Mil\xe4n"}, {"3.1": b"\x02\x01"}, {"3.8": b"\x02\x01\xdb"}, {"3.8": b"\x02\x03\x00\x00\xdb"},
        {"3.8": b"\x02\x02\x00\xdb\x00"}, {"4": b"\x04\x81\x40" + bytes(64)}, {"4": bytes(32)}, {"4": b""},
    ],
)  # fmt: skip
def test_malformed_extension(lab, values):
    result = lab.verify(leaf=lab.leaf(replace=values))
    assert result.authentic is False and "vek-profile" in result.failed


@pytest.mark.parametrize("suffix", ["1", "3.3", "3.5", "3.9"])
@pytest.mark.parametrize("bits", [40, 300, 60000])
def test_numbers_of_any_size_are_refused_never_raised(lab, attacker, suffix, bits):
    values = {suffix: make.integer(1 << bits)}
    for maker in (lab, attacker):
        assert lab.verify(leaf=maker.leaf(replace=values)).authentic is False


@pytest.mark.parametrize("missing", ["1", "2"])
def test_missing_extension(lab, missing):
    result = lab.verify(leaf=lab.leaf(omit=(missing,)))
    assert result.authentic is False and "vek-profile" in result.failed


def test_extension_twice(lab):
    extra = (make.extension(AMD + ".3.8", make.integer(255)),)
    result = lab.verify(leaf=lab.leaf(extra_extensions=extra))
    assert result.authentic is False and "vek-profile" in result.failed


def test_leaf_that_is_a_ca(lab):
    extra = (make.extension("2.5.29.19", make.sequence(make.boolean(True)), True),)
    refused(lab.verify(leaf=lab.leaf(extra_extensions=extra)), "vek-profile")


def test_unknown_critical_extension(lab):
    refused(lab.verify(leaf=lab.leaf(extra_extensions=(make.extension("1.2.3", b"\x05\x00", True),))), "vek-profile")
    assert lab.verify(leaf=lab.leaf(extra_extensions=(make.extension("1.2.3", b"\x05\x00"),))).authentic is True


def test_wrapped_hwid_is_accepted(lab):
    assert lab.verify(leaf=lab.leaf(wrap_hwid=True)).authentic is True
    assert lab.verify("turin", leaf=lab.leaf("turin", wrap_hwid=True)).authentic is True


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP521R1()], ids=["P-256", "P-521"])
def test_key_on_another_curve(lab, curve):
    # Its signature numbers do not all fit, so the report is signed with a key that the certificate does not have.
    _key, vek = lab.leaf(curve=curve)
    refused(lab.verify(leaf=(lab.plain_leaf("milan", "vcek")[0], vek)), "vek-key-type", "report-signature")


@pytest.mark.parametrize("at", [LEAF_FROM, LEAF_FROM + timedelta(days=365)])
def test_validity_includes_both_ends(lab, at):
    assert lab.verify(role="vlek", at=at).authentic is True


@pytest.mark.parametrize("at", [LEAF_FROM - timedelta(seconds=1), LEAF_FROM + timedelta(days=365, seconds=1)])
def test_leaf_out_of_its_validity(lab, at):
    refused(lab.verify(role="vlek", at=at), "vek-expired")


@pytest.mark.parametrize("expected", [UNCHECKED, b"\0" * 64])
def test_time_zone_of_the_evaluation_time_counts(lab, expected):
    zone = timezone(timedelta(hours=5))
    end = LEAF_FROM + timedelta(days=365)
    assert lab.verify(role="vlek", at=end.astimezone(zone), expected=expected).authentic is True
    late = lab.verify(role="vlek", at=(end + timedelta(seconds=1)).astimezone(zone), expected=expected)
    refused(late, "vek-expired")
    assert "+00:00" in [check.detail for check in lab.verify(at=AT.astimezone(zone), expected=expected).checks if check.id == "vek-expired"][0]


@pytest.mark.parametrize("days", [-1, 1])
def test_intermediate_out_of_its_validity(lab, days):
    edge = {"not_after": AT - timedelta(days=1)} if days < 0 else {"not_before": AT + timedelta(days=1)}
    refused(lab.verify(chain=(make_ask(lab, **edge),)), "vek-expired")


def test_root_out_of_its_validity(lab):
    ark = make_ask(lab, name="ARK-Milan", key=lab.authority.key("milan", "ark"), not_after=AT - timedelta(days=1))
    refused(lab.verify(roots=trust_roots([pem(ark)], True, vendor=False)), "vek-expired")


# --- 12 revocation --------------------------------------------------------------------------------------------------------


def crl(lab, revoked=(), product="milan", **options):
    options.setdefault("this_update", AT - timedelta(days=1))
    return lab.authority.crl(product, revoked, **options)


def test_current_list(lab):
    result = lab.verify(crl=crl(lab, [0x99999]))
    assert result.authentic is True
    assert [outcome(result, i) for i in ("crl-signature", "crl-expired", "ask-revoked")] == [PASS] * 3
    assert result.not_after == AT + timedelta(days=89)


def test_no_list_shows_as_not_checked(lab):
    result = lab.verify()
    assert [outcome(result, i) for i in ("crl-signature", "crl-expired", "ask-revoked")] == [NOT_CHECKED] * 3


@pytest.mark.parametrize("role,kind", [("vcek", "ask"), ("vlek", "asvk"), ("vcek", "ark")])
def test_revoked_authority(lab, role, kind):
    refused(lab.verify(role=role, crl=crl(lab, [kind])), "ask-revoked")


@pytest.mark.parametrize("role,kind", [("vcek", "asvk"), ("vlek", "ask")])
def test_the_other_authority_is_revoked(lab, role, kind):
    assert lab.verify(role=role, crl=crl(lab, [kind])).authentic is True


@pytest.mark.parametrize("start,end", [(-20, -1), (1, 20)])
def test_list_that_is_not_current(lab, start, end):
    data = crl(lab, this_update=AT + timedelta(days=start), next_update=AT + timedelta(days=end))
    result = lab.verify(crl=data)
    assert result.authentic is None and result.failed == ("crl-expired",)
    assert outcome(result, "ask-revoked") == NOT_CHECKED


def test_old_list_still_proves_a_revocation(lab):
    data = crl(lab, ["ask"], this_update=AT - timedelta(days=20), next_update=AT - timedelta(days=1))
    refused(lab.verify(crl=data), "crl-expired", "ask-revoked")


@pytest.mark.parametrize(
    "options", [{"signer": "ask"}, {"issuer": "ask"}, {"scheme": "pkcs1v15"}, {"digest": "sha256"}, {"salt": 20}, {"product": "turin"}],
    ids=["signed-by-ask", "named-ask", "pkcs1v15", "sha256", "salt-20", "other-product"],
)  # fmt: skip
def test_forged_list(lab, options):
    result = lab.verify(crl=crl(lab, **options))
    assert result.authentic is None and result.failed == ("crl-signature",)


def test_forged_list_of_an_attacker(lab, attacker):
    result = lab.verify(crl=crl(attacker))
    assert result.authentic is None and result.failed == ("crl-signature",)


@pytest.mark.parametrize("data", [b"", b"\x30\x00", b"no list"])
def test_unreadable_list(lab, data):
    result = lab.verify(crl=data)
    assert result.authentic is None and result.failed == ("crl-signature",)


def test_flipped_list(lab):
    data = bytearray(crl(lab))
    data[-1] ^= 1
    assert lab.verify(crl=bytes(data)).failed == ("crl-signature",)


def test_root_that_may_not_sign_lists(lab):
    ark = make_ask(lab, name="ARK-Milan", key=lab.authority.key("milan", "ark"))
    result = lab.verify(roots=trust_roots([pem(ark)], True, vendor=False), crl=crl(lab))
    assert result.authentic is None and result.failed == ("crl-signature",)


def odd_crl(lab, *, next_update=True, entry_extension=None, extension=None):
    """A list that is properly signed by the ARK, with one odd thing in it."""
    entry = [make.integer(0x99999), make.time(AT - timedelta(days=9))]
    if entry_extension:
        entry.append(make.sequence(entry_extension))
    tbs = make.sequence(
        make.integer(1),
        signature_algorithm("pss", "sha384", 48),
        subject(ca_name("milan", "ark")),
        make.time(AT - timedelta(days=1)),
        make.time(AT + timedelta(days=1)) if next_update else b"",
        make.sequence(make.sequence(*entry)),
        make.tlv(0xA0, make.sequence(extension)) if extension else b"",
    )
    return sign_tbs(tbs, lab.authority.key("milan", "ark"), "pss", "sha384", 48)


def test_own_list_baseline(lab):
    assert lab.verify(crl=odd_crl(lab)).authentic is True
    reason = make.extension("2.5.29.21", b"\x0a\x01\x01")
    assert lab.verify(crl=odd_crl(lab, entry_extension=reason, extension=make.extension("2.5.29.20", make.integer(9)))).authentic is True


@pytest.mark.parametrize(
    "odd",
    [
        {"entry_extension": make.extension("2.5.29.29", make.sequence(), True)},  # certificateIssuer: an indirect list
        {"extension": make.extension("2.5.29.28", make.sequence(), True)},  # issuingDistributionPoint
        {"extension": make.extension("2.5.29.28", make.sequence())},
        {"extension": make.extension("2.5.29.27", make.integer(1), True)},  # a delta list
        {"extension": make.extension("2.5.29.27", make.integer(1))},
    ],
    ids=["indirect", "distribution-point", "distribution-point-not-critical", "delta", "delta-not-critical"],
)
def test_list_of_limited_meaning(lab, odd):
    result = lab.verify(crl=odd_crl(lab, **odd))
    assert result.authentic is None and result.failed == ("crl-signature",)


def test_list_without_an_end(lab):
    result = lab.verify(crl=odd_crl(lab, next_update=False))
    assert result.authentic is None and result.failed == ("crl-expired",)


def test_a_broken_list_does_not_hide_a_forgery(lab, attacker):
    assert lab.verify(leaf=attacker.leaf(), crl=b"").authentic is False


# --- 13-17 report ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "offset", [0x04, 0x08, 0x10, 0x20, 0x40, 0x50, 0x8F, 0x90, 0xBF, 0xC0, 0xE0, 0x110, 0x140, 0x160, 0x1E8, 0x1F8, 0x200, 0x2A0, 0x2E8]
)  # fmt: skip
def test_report_changed_after_signing(lab, offset):
    key, _vek = lab.plain_leaf("turin", "vcek")
    report = bytearray(lab.report(key, "turin"))
    report[offset] ^= 1
    refused(lab.verify("turin", report=bytes(report)), "report-signature")


def test_report_signed_with_another_key(lab):
    report = lab.report(ec.generate_private_key(ec.SECP384R1()))
    refused(lab.verify(report=report), "report-signature")


def test_big_endian_signature(lab):
    key, _vek = lab.plain_leaf("milan", "vcek")
    report = bytearray(lab.report(key))
    for offset in (0x2A0, 0x2E8):
        report[offset:offset + 48] = report[offset:offset + 48][::-1]
    assert lab.verify(report=bytes(report)).authentic is False


@pytest.mark.parametrize("change", [1, -1])
@pytest.mark.parametrize(
    "product,component",
    [("milan", "bootloader"), ("milan", "snp"), ("milan", "microcode"), ("genoa", "snp"), ("turin", "fmc"), ("turin", "bootloader"),
     ("turin", "snp"), ("turin", "microcode")],
)  # fmt: skip
def test_certificate_for_another_tcb(lab, product, component, change):
    leaf = lab.leaf(product, tcb=tcb_plus(product, **{component: change}))
    refused(lab.verify(product, leaf=leaf), "vek-tcb-mismatch")


def test_certificate_for_another_tee_version(lab):
    refused(lab.verify(leaf=lab.leaf(tcb=tcb_plus("milan", tee=1))), "vek-tcb-mismatch")


@pytest.mark.parametrize(
    "product,suffix", [("milan", s) for s in ("3.1", "3.2", "3.3", "3.8")] + [("turin", s) for s in ("3.1", "3.2", "3.3", "3.8", "3.9")]
)  # fmt: skip
def test_certificate_without_a_component(lab, product, suffix):
    refused(lab.verify(product, leaf=lab.leaf(product, omit=(suffix,))), "vek-tcb-mismatch")


def test_component_beyond_a_byte(lab):
    refused(lab.verify(leaf=lab.leaf(replace={"3.8": make.integer(219 + 256)})), "vek-tcb-mismatch")


@pytest.mark.parametrize("suffix", ["3.4", "3.5", "3.6", "3.7"])
def test_reserved_component(lab, suffix):
    refused(lab.verify(leaf=lab.leaf(replace={suffix: make.integer(1)})), "vek-tcb-mismatch")


def test_fmc_before_turin(lab):
    refused(lab.verify(leaf=lab.leaf(replace={"3.9": make.integer(1)})), "vek-tcb-mismatch")


@pytest.mark.parametrize("product", ["milan", "turin"])
def test_another_chip(lab, product):
    size = 8 if product == "turin" else 64
    refused(lab.verify(product, chip_id=b"\x11" * size), "vek-hwid-mismatch")
    refused(lab.verify(product, leaf=lab.leaf(product, chip_id=b"\x11" * size)), "vek-hwid-mismatch")


@pytest.mark.parametrize("position", [8, 63])
def test_turin_chip_id_is_padded_with_zeros(lab, position):
    refused(lab.verify("turin", patch={0x1A0 + position: b"\x01"}), "vek-hwid-mismatch")


def test_hwid_size_follows_the_product(lab):
    result = lab.verify("turin", leaf=lab.leaf("turin", chip_id=hwid_of("turin")))
    assert result.authentic is False and "vek-profile" in result.failed
    result = lab.verify("milan", leaf=lab.leaf("milan", chip_id=b"\x11" * 8), chip_id=b"\x11" * 8)
    assert result.authentic is False and "vek-profile" in result.failed


@pytest.mark.parametrize("product", ["milan", "turin"])
def test_masked_chip_id(lab, product):
    result = lab.verify(product, chip_id=b"")
    assert result.authentic is True and result.failed == ("chip-id-masked",)
    assert outcome(result, "vek-hwid-mismatch") == NOT_CHECKED and result.claims.chip_id_sha256 is None


def test_masked_chip_id_is_normal_under_a_vlek(lab):
    result = lab.verify(role="vlek")
    assert result.code == "ok" and outcome(result, "chip-id-masked") == NOT_CHECKED
    assert result.claims.csp_id == "CN=soft-tee.invalid"


@pytest.mark.parametrize(
    "product,fields",
    [
        ("milan", {"reported_tcb": 0, "committed_tcb": -1}), ("milan", {"committed_tcb": 1}), ("milan", {"launch_tcb": 1}),
        ("turin", {"reported_tcb": 0, "committed_tcb": -1}), ("turin", {"launch_tcb": 1}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("component", ["bootloader", "snp", "microcode"])
def test_contradicting_tcbs(lab, product, fields, component):
    values = {name: tcb_plus(product, **{component: change}) for name, change in fields.items()}
    refused(lab.verify(product, **values), "tcb-inconsistent")


def test_contradicting_fmc(lab):
    refused(lab.verify("turin", launch_tcb=tcb_plus("turin", fmc=1)), "tcb-inconsistent")


def test_components_are_compared_one_by_one(lab):
    """As one integer the launch TCB here is far below the current one."""
    refused(lab.verify(launch_tcb=tcb_plus("milan", microcode=-100, bootloader=1)), "tcb-inconsistent")


def test_provisional_firmware_is_for_policy(lab):
    older = tcb_plus("milan", microcode=-1)
    result = lab.verify(committed_tcb=older, reported_tcb=older, leaf=lab.leaf(tcb=older))
    assert result.authentic is True and result.claims.report.provisional_firmware


@pytest.mark.parametrize("expected", [b"b" * 64, b"a" * 63, b"a" * 63 + b"b", b"a" * 32, b"\0"])
def test_other_report_data(lab, expected):
    result = lab.verify(report_data=b"a" * 64, expected=expected)
    assert result.authentic is True and result.failed == ("report-data-mismatch",)


def test_short_expectation_is_padded(lab):
    assert lab.verify(report_data=b"a" * 32, expected=b"a" * 32).code == "ok"
    assert lab.verify(report_data=b"a" * 32 + b"b", expected=b"a" * 32).failed == ("report-data-mismatch",)


def test_opting_out_of_freshness_shows(lab):
    assert outcome(lab.verify(expected=UNCHECKED), "report-data-mismatch") == NOT_CHECKED


# --- 26 one piece of evidence, two signatures -----------------------------------------------------------------------------


def test_malleated_signature_is_the_same_evidence(lab):
    key, _vek = lab.plain_leaf("milan", "vcek")
    report = lab.report(key, report_data=b"n" * 64)
    twin = bytearray(report)
    twin[0x2E8:0x330] = (P384_ORDER - parse_report(report).signature_s).to_bytes(72, "little")
    cache = VerificationCache()
    first = lab.verify(report=report, expected=b"n" * 64, cache=cache)
    second = lab.verify(report=bytes(twin), expected=b"n" * 64, cache=cache)
    assert bytes(twin) != report
    assert first.authentic is True and second.authentic is True
    assert first.evidence_id == second.evidence_id
    resigned = lab.verify(report=lab.report(key, report_data=b"n" * 64))
    assert resigned.evidence_id == first.evidence_id
    assert lab.verify(report=lab.report(key, report_data=b"m" * 64)).evidence_id != first.evidence_id


def test_the_key_belongs_to_the_identity(lab):
    one, two = lab.leaf(), lab.leaf()
    assert lab.verify(leaf=one).evidence_id != lab.verify(leaf=two).evidence_id


# --- endorsements that are missing, and wrong calls -----------------------------------------------------------------------


def test_without_a_leaf_nothing_can_be_judged(lab):
    key, _vek = lab.plain_leaf("milan", "vcek")
    result = verify_snp(lab.report(key), None, lab.chain(), lab.roots, AT, UNCHECKED)
    assert result.authentic is None and result.failed == ("vek-missing",) and result.anchor == "none"
    assert outcome(result, "report-signature") == NOT_CHECKED
    bad = verify_snp(lab.report(key, vmpl=4), None, lab.chain(), lab.roots, AT, UNCHECKED)
    assert bad.authentic is False
    old = verify_snp(lab.report(key, version=2), None, lab.chain(), lab.roots, AT, UNCHECKED)
    assert old.authentic is None and old.claims.product is None


@pytest.mark.parametrize("expected", [None, b"", b"x" * 65, "text", False])
def test_expected_report_data_is_mandatory(lab, expected):
    with pytest.raises(AttestedError) as caught:
        lab.verify(expected=expected)
    assert caught.value.code == "argument"


@pytest.mark.parametrize("at", [datetime(2026, 11, 1), "2026-11-01", None])
def test_time_must_be_aware(lab, at):
    with pytest.raises(AttestedError) as caught:
        lab.verify(at=at)
    assert caught.value.code == "argument"


# --- the cache ------------------------------------------------------------------------------------------------------------


def test_cached_and_uncached_agree(lab):
    cache = VerificationCache()
    for product in ("milan", "turin"):
        key, vek = lab.plain_leaf(product, "vcek")
        report = lab.report(key, product)
        for _round in range(2):
            warm = lab.verify(product, report=report, cache=cache, crl=crl(lab, product=product))
        cold = lab.verify(product, report=report)
        assert warm.authentic is cold.authentic is True
        warm = lab.verify(product, report=report, cache=cache)
        again = lab.verify(product, report=report, cache=cache)
        assert warm == cold == again
    assert cache.counters()["hits"] >= 2


def test_time_is_judged_again_on_a_hit(lab):
    cache = VerificationCache()
    key, _vek = lab.plain_leaf("milan", "vlek")
    report = lab.report(key, signing_key="vlek")
    assert lab.verify(role="vlek", report=report, cache=cache).authentic is True
    refused(lab.verify(role="vlek", report=report, cache=cache, at=LEAF_FROM + timedelta(days=366)), "vek-expired")
    assert cache.counters()["hits"] == 1


def test_list_is_judged_again_on_a_hit(lab):
    cache, data = VerificationCache(), crl(lab)
    assert lab.verify(crl=data, cache=cache).authentic is True
    assert lab.verify(crl=data, cache=cache, at=AT + timedelta(days=100)).failed == ("crl-expired",)
    assert cache.counters()["hits"] == 1


def test_other_list_or_roots_are_no_hit(lab, attacker):
    cache = VerificationCache()
    assert lab.verify(cache=cache).authentic is True
    refused(lab.verify(cache=cache, crl=crl(lab, ["ask"])), "ask-revoked")
    refused(lab.verify(cache=cache, roots=attacker.roots), "root-not-pinned", "chain")
    assert cache.counters() == {"entries": 1, "hits": 0, "misses": 3, "stored": 1, "evicted": 0}


def test_failures_are_never_cached(lab, attacker):
    cache = VerificationCache()
    lab.verify(leaf=attacker.leaf(), cache=cache)
    lab.verify(leaf=lab.leaf(both_extensions=True), cache=cache)
    lab.verify(crl=b"", cache=cache)
    assert cache.counters()["stored"] == 0


def test_cache_is_bounded(lab):
    cache = VerificationCache(max_entries=2)
    leaves = [lab.leaf() for _leaf in range(3)]
    for leaf in leaves:
        lab.verify(leaf=leaf, cache=cache)
    assert cache.counters()["entries"] == 2 and cache.counters()["evicted"] == 1
    lab.verify(leaf=leaves[0], cache=cache)
    assert cache.counters()["hits"] == 0


def test_the_least_recently_used_chain_goes_first():
    cache = VerificationCache(max_entries=2)
    for name in ("a", "b"):
        cache.put(name, name)
    assert cache.get("a") == "a"
    cache.put("c", "c")
    assert cache.get("a") == "a" and cache.get("b") is None


def test_every_failure_has_a_detail(lab, attacker):
    for result in (lab.verify(leaf=attacker.leaf(), vmpl=9, crl=b""), lab.verify(chip_id=b"\1" * 64, expected=b"x")):
        assert all(check.detail for check in result.checks)
        assert any(check.outcome == FAIL for check in result.checks)
