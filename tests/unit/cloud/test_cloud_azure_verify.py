# SPDX-License-Identifier: GPL-3.0-or-later
"""The three links of Azure evidence, each broken in every way that has a check of its own."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import subprocess
from datetime import timedelta

import pytest
from cloud_lab import AT, NONCE, PCRS, AzureLab, build_hcl, build_quote, jwk, runtime_json, sign_quote
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import tpm2
from ansible_collections.attested.ai.plugins.module_utils.formats.azure_evidence import parse_azure_evidence
from ansible_collections.attested.ai.plugins.module_utils.formats.hcl_report import parse_hcl_report
from ansible_collections.attested.ai.plugins.module_utils.verify.azure_vtpm import verify_az_snp
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.result import UNCHECKED
from ansible_collections.attested.ai.plugins.module_utils.verify.tpm_quote import verify_quote

SHA = tpm2.ALG_SHA256


def verify(lab: AzureLab, data: bytes, expected=NONCE, **keys):
    return verify_az_snp(data, keys.pop("path", lab.path), keys.pop("roots", lab.roots), AT, expected, **keys)


def outcome(result, check_id):
    return [check.outcome for check in result.checks if check.id == check_id]


def refused(result, check_id):
    assert result.authentic is False and check_id in result.failed, [check.to_dict() for check in result.checks if check.outcome == "fail"]
    return result


def test_whole_evidence_is_authentic_and_says_that_its_hardware_report_is_old(azure):
    result = verify(azure, azure.evidence())
    assert result.authentic is True and result.failed == () and result.anchor == "nonvendor"
    assert outcome(result, "hardware-freshness") == ["not_checked"] and outcome(result, "report-data-mismatch") == ["pass"]
    claims = result.claims.to_dict()
    assert claims["hardware_report"] == "boot-time" and claims["tpm"]["pcrs"]["4"] == PCRS[4].hex() and claims["tpm"]["ak_bits"] == 2048
    assert claims["measurement"] and claims["machine"] and claims["hcl"]["secure_boot"] is True
    json.dumps(claims)


def test_the_nonce_may_be_quoted_bare_or_padded(azure):
    for quoted in (NONCE[:48], NONCE):
        assert verify(azure, azure.evidence(quoted)).failed == ()


@pytest.mark.parametrize("quoted", [b"", NONCE[:47], NONCE[:48] + b"\x01", b"\xff" * 48], ids=["none", "short", "longer", "other"])
def test_another_nonce_is_stale_but_authentic(azure, quoted):
    result = verify(azure, azure.evidence(quoted))
    assert result.authentic is True and result.failed == ("report-data-mismatch",)


def test_freshness_can_be_left_out_only_visibly(azure):
    result = verify(azure, azure.evidence(b"whatever"), UNCHECKED)
    assert result.authentic is True and outcome(result, "report-data-mismatch") == outcome(result, "hardware-freshness") == ["not_checked"]


@pytest.mark.parametrize("expected", [b"", b"x" * 65, None, "text"])
def test_the_expected_report_data_is_the_callers_duty(azure, expected):
    with pytest.raises(AttestedError) as caught:
        verify(azure, azure.evidence(), expected)
    assert caught.value.code == "argument"


def test_user_data_proves_a_fresh_hardware_report(azure):
    fresh = azure.hcl(runtime_json(azure.ak, NONCE))
    result = verify(azure, azure.evidence(hcl=fresh, version=2))
    assert result.failed == () and outcome(result, "hardware-freshness") == ["pass"] and result.claims.to_dict()["hardware_report"] == "fresh"


def test_version_2_promises_user_data(azure):
    result = verify(azure, azure.evidence(version=2))
    assert result.failed == ("hardware-freshness",)


# Link 1: the hardware report.


def test_the_hardware_report_has_all_its_checks(azure):
    runtime = runtime_json(azure.ak)
    report = bytearray(azure.report(runtime))
    report[0x90] ^= 1
    refused(verify(azure, azure.evidence(hcl=build_hcl(bytes(report), runtime))), "report-signature")
    refused(verify(azure, azure.evidence(), path=()), "root-not-pinned")
    refused(verify(azure, azure.evidence(vcek=azure.path[0])), "vek-profile")
    report = bytearray(azure.report(runtime))
    report[0] = 9
    refused(verify(azure, azure.evidence(hcl=build_hcl(bytes(report), runtime))), "version-unsupported")


def test_a_report_that_the_guest_asked_for_itself(azure):
    refused(verify(azure, azure.evidence(hcl=azure.hcl(vmpl=1))), "hcl-vmpl")


def test_revocation(azure):
    assert verify(azure, azure.evidence(), crl=azure.crl()).failed == ()
    refused(verify(azure, azure.evidence(), crl=azure.crl("ask")), "ask-revoked")
    # Whether an authority was revoked is not known: the evidence cannot be judged, but a broken link still is one.
    result = verify(azure, azure.evidence(), crl=azure.crl(start=AT - timedelta(days=200)))
    assert result.authentic is None and result.failed == ("crl-expired",)
    result = verify(azure, azure.evidence(digest=bytes(32)), crl=azure.crl(start=AT - timedelta(days=200)))
    assert result.authentic is False


# Link 2: the JSON and the key in it.


def test_the_json_must_be_the_one_that_report_data_names(azure):
    good, other = runtime_json(azure.ak), runtime_json(azure.other)
    forged = build_hcl(azure.report(good), other)
    message = build_quote(NONCE[:48])
    result = refused(verify(azure, azure.evidence(hcl=forged, message=message, signature=sign_quote(azure.other, message))), "ak-binding")
    assert result.claims.pcrs == {} and result.evidence_id is None


def test_report_data_holds_nothing_but_the_hash(azure):
    runtime = runtime_json(azure.ak)
    refused(verify(azure, azure.evidence(hcl=azure.hcl(runtime, report_data=hashlib.sha256(runtime).digest() + b"\x01" * 32))), "ak-binding")


def test_a_key_from_elsewhere_signs_in_vain(azure):
    message = build_quote(NONCE[:48])
    refused(verify(azure, azure.evidence(message=message, signature=sign_quote(azure.other, message))), "quote-signature")


@pytest.mark.parametrize("keys", [
    [], None, "text", [1], [{"kid": "HCLEkPub"}], "two", "no-ops", "extra", "weak", "zero", "curve", "kty",
], ids=str)
def test_the_json_names_exactly_one_signing_key(azure, keys):
    one = jwk(azure.ak)
    keys = {
        "two": [one, jwk(azure.other)], "no-ops": [dict(one, key_ops=["sign", "verify"])], "extra": [dict(one, alg="RS256")],
        "weak": [dict(one, n=one["n"][:100])], "zero": [dict(one, n="AA" + one["n"])], "kty": [dict(one, kty="oct")],
        "curve": [{"kid": "HCLAkPub", "key_ops": ["sign"], "kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}],
    }.get(keys, keys) if isinstance(keys, str) else keys
    runtime = runtime_json(None, keys=keys if keys is not None else {"not": "a list"})
    refused(verify(azure, azure.evidence(hcl=azure.hcl(runtime))), "hcl-format")


def test_a_small_exponent_and_a_point_off_the_curve_verify_nothing(azure):
    one = jwk(azure.ak)
    off = jwk(ec.generate_private_key(ec.SECP256R1()))
    for key in (dict(one, e="Aw"), dict(off, x=off["y"])):
        runtime = runtime_json(None, keys=[key])
        refused(verify(azure, azure.evidence(hcl=azure.hcl(runtime))), "quote-signature")


@pytest.mark.parametrize(("offset", "value"), [
    (0, b"HCLB"), (4, b"\3\0\0\0"), (8, b"\0\0\0\0"), (12, b"\1\0\0\0"), (16, b"\1"), (0x1F, b"\1"), (0x4C0, b"\0\0"), (0x4C4, b"\2"), (0x4C8, b"\4"),
    (0x4C8, b"\3"), (0x4CC, b"\2"), (0x4D0, b"\0\0\0\0"), (0x4D0, b"\xff\xff\xff\xff"), (2599, b"\1"),
])
def test_the_hcl_header_has_one_form(azure, offset, value):
    data = bytearray(azure.hcl())
    data[offset:offset + len(value)] = value
    refused(verify(azure, azure.evidence(hcl=bytes(data))), "hcl-format")


@pytest.mark.parametrize("members", [
    {"user-data": "00"}, {"user-data": 1}, {"user-data": "ab" * 64}, {"vm-configuration": []}, {"vm-configuration": {"secure-boot": 1}},
    {"vm-configuration": {"vmUniqueId": "x"}}, {"vm-configuration": {"vmUniqueId": 1}},
], ids=str)
def test_the_json_is_read_strictly(azure, members):
    refused(verify(azure, azure.evidence(hcl=azure.hcl(runtime_json(azure.ak, **members)))), "hcl-format")


def test_json_with_a_member_twice_or_no_json_at_all(azure):
    good = runtime_json(azure.ak)
    for runtime in (good[:-1] + b',"keys":[]}', b"[]", b"nonsense", b"\xff", b"[" * 3000):
        refused(verify(azure, azure.evidence(hcl=azure.hcl(runtime, size=16000))), "hcl-format")


@pytest.mark.parametrize("size", [0, 0x4D4, 17000])
def test_the_size_of_an_hcl_report(azure, size):
    data = azure.hcl()
    refused(verify(azure, azure.evidence(hcl=data[:size] if size < len(data) else data.ljust(size, b"\0"))), "hcl-format")


# Link 3: the quote.


def test_what_no_tpm_made_is_refused(azure):
    for change, code in (({"magic": 0xFF544348}, "quote-magic"), ({"kind": 0x8017}, "quote-type"), ({"safe": 2}, "quote-format")):
        refused(verify(azure, azure.evidence(**change)), code)
    message = build_quote(NONCE[:48])
    for broken in (message + b"\0", message[:-1], b"", message[:60], message * 20):
        refused(verify(azure, azure.evidence(message=broken)), "quote-format")


def test_pcr_values_are_those_that_were_quoted(azure):
    values = (b"\xee" * 32,) + PCRS[1:]
    message = build_quote(NONCE[:48])
    result = refused(verify(azure, azure.evidence(message=message, values=values)), "pcr-digest")
    assert result.claims.pcrs == {}


@pytest.mark.parametrize("change", [
    {"selected": (16, 23)},
    {"selected": tuple(range(23))},
    {"selected": ()},
    {"algorithm": tpm2.ALG_SHA384},
    {"selections": b"\0\0\0\2" + tpm2.pcr_selection(tpm2.ALG_SHA1, (0,))[4:] + tpm2.pcr_selection(SHA, tuple(range(24)))[4:]},
    {"selections": b"\0\0\0\0"},
], ids=["resettable", "one-less", "none", "other-bank", "two-banks", "empty"])
def test_a_place_in_the_list_is_no_pcr_number(azure, change):
    """24 values whose digest the quote has, but over other PCRs than 0 to 23: they must not pass for these."""
    refused(verify(azure, azure.evidence(digest=hashlib.sha256(b"".join(PCRS)).digest(), **change)), "pcr-selection")


@pytest.mark.parametrize("selections", [
    b"\0\0\0\2" + tpm2.pcr_selection(SHA, (16,))[4:] + tpm2.pcr_selection(SHA, (23,))[4:],
    b"\0\0\0\1\0\x0b\0", b"\0\0\0\1\0\x0b\5\0\0\0\0\0", b"\0\0\0\1\0\x0b\4\0\0\0\1", b"\0\0\0\x11", b"\xff\xff\xff\xff",
], ids=["bank-twice", "no-bitmap", "long-bitmap", "pcr-24", "17-selections", "huge"])
def test_selections_that_no_tpm_makes(azure, selections):
    refused(verify(azure, azure.evidence(selections=selections)), "quote-format")


def test_fewer_pcrs_get_their_own_numbers(azure):
    result = verify(azure, azure.evidence(values=(PCRS[4], PCRS[11]), selected=(4, 11)))
    assert result.failed == () and result.claims.pcrs == {4: PCRS[4], 11: PCRS[11]}


def test_all_signature_schemes(azure):
    curve = ec.generate_private_key(ec.SECP384R1())
    for key, scheme, digest, name in (
        (azure.ak, "plain", None, "rsassa-sha256"), (azure.ak, "rsassa", None, "rsassa-sha256"), (azure.ak, "rsapss", None, "rsapss-sha256"),
        (azure.ak, "rsassa", hashes.SHA384(), "rsassa-sha384"), (azure.ak, "rsapss", hashes.SHA384(), "rsapss-sha384"),
        (curve, "ecdsa", None, "ecdsa-sha256"), (curve, "ecdsa", hashes.SHA384(), "ecdsa-sha384"),
    ):
        message = build_quote(NONCE[:48], hash_name=digest.name if digest else "sha256")
        hcl = azure.hcl(runtime_json(key))
        signature = sign_quote(key, message, scheme, digest)
        result = verify(azure, azure.evidence(hcl=hcl, message=message, signature=signature))
        assert result.failed == () and result.claims.algorithm == name
        broken = signature[:-1] + bytes([signature[-1] ^ 1])
        refused(verify(azure, azure.evidence(hcl=hcl, message=message, signature=broken)), "quote-signature")


@pytest.mark.parametrize("signature", [
    b"", b"\0" * 255, b"\0" * 257, struct.pack(">HHH", 0x14, 0x04, 256) + b"\0" * 256, struct.pack(">HHH", 0x99, 0x0B, 256) + b"\0" * 256,
    struct.pack(">HHHH", 0x18, 0x0B, 0, 0), struct.pack(">HHH", 0x14, 0x0B, 255) + b"\0" * 255,
], ids=["empty", "short", "long", "sha1", "scheme", "zero-ecdsa", "inner-short"])
def test_signatures_that_are_none(azure, signature):
    refused(verify(azure, azure.evidence(signature=signature)), "quote-signature")


def test_a_signature_over_the_same_quote_of_another_size_of_key(azure):
    strong = rsa.generate_private_key(65537, 3072)
    hcl = azure.hcl(runtime_json(strong))
    message = build_quote(NONCE[:48])
    assert verify(azure, azure.evidence(hcl=hcl, message=message, signature=sign_quote(strong, message))).failed == ()
    refused(verify(azure, azure.evidence(hcl=hcl, message=message, signature=sign_quote(azure.ak, message))), "quote-signature")


# The envelope.


@pytest.mark.parametrize("change", [
    lambda shape: shape.pop("vcek"), lambda shape: shape.update(more=1), lambda shape: shape.update(version=3), lambda shape: shape.update(version=True),
    lambda shape: shape.update(version=1.0), lambda shape: shape.update(version="1"), lambda shape: shape["tpm_quote"].update(more=1),
    lambda shape: shape["tpm_quote"].update(pcrs=[]), lambda shape: shape["tpm_quote"].update(pcrs=["00"]), lambda shape: shape["tpm_quote"].update(pcrs=[1]),
    lambda shape: shape["tpm_quote"].update(pcrs=["AA" * 32]), lambda shape: shape["tpm_quote"].update(pcrs=["00" * 32] * 25),
    lambda shape: shape["tpm_quote"].update(message="0"), lambda shape: shape["tpm_quote"].update(message="FF"),
    lambda shape: shape["tpm_quote"].update(signature=5), lambda shape: shape.update(vcek="AAA"), lambda shape: shape.update(vcek="AB=="),
    lambda shape: shape.update(vcek="A===") , lambda shape: shape.update(vcek="++++"), lambda shape: shape.update(hcl_report=[1]),
    lambda shape: shape.update(tpm_quote=[]),
])  # fmt: skip
def test_the_envelope_has_one_form(azure, change):
    shape = json.loads(azure.evidence())
    change(shape)
    assert refused(verify(azure, json.dumps(shape).encode()), "format").claims is None


@pytest.mark.parametrize("data", [b"", b"[]", b"1", b"{}", b'{"quote":{},"report":[],"vcek":""}', b"\xff", b'{"version":1,"version":1}'])
def test_what_is_no_evidence_at_all(azure, data):
    refused(verify(azure, data), "format")


def version_0(data: bytes) -> dict:
    from softtee.snp_authority import pem

    evidence = parse_azure_evidence(data, "az-snp-vtpm")
    quote = {"signature": list(evidence.signature), "message": list(evidence.message), "pcrs": [list(value) for value in evidence.pcrs]}
    return {"quote": quote, "report": list(evidence.hcl_report), "vcek": pem(evidence.endorsement)}


def test_the_oldest_shape(azure):
    shape = version_0(azure.evidence())
    assert verify(azure, json.dumps(shape).encode()).failed == ()
    for change in (
        {"report": [256]}, {"report": [True]}, {"report": [-1]}, {"report": "text"}, {"vcek": shape["vcek"] * 2}, {"vcek": 1}, {"vcek": ""},
        {"quote": dict(shape["quote"], pcrs=[[0] * 31])}, {"quote": dict(shape["quote"], pcrs=7)}, {"quote": dict(shape["quote"], more=1)},
    ):  # fmt: skip
        refused(verify(azure, json.dumps(dict(shape, **change)).encode()), "format")


def test_evidence_is_the_same_whatever_its_signature_bytes(azure):
    curve = ec.generate_private_key(ec.SECP256R1())
    hcl, message = azure.hcl(runtime_json(curve)), build_quote(NONCE[:48])
    identities = {verify(azure, azure.evidence(hcl=hcl, message=message, signature=sign_quote(curve, message, "ecdsa"))).evidence_id for _turn in range(3)}
    assert len(identities) == 1 and None not in identities
    assert verify(azure, azure.evidence(b"another nonce")).evidence_id != verify(azure, azure.evidence()).evidence_id


def test_a_cache_changes_nothing(azure):
    cache = VerificationCache()
    for data in (azure.evidence(), azure.evidence(b"x"), azure.evidence(vcek=azure.path[0])):
        first, again, bare = (verify(azure, data, cache=kept) for kept in (cache, cache, None))
        assert first == again == bare
    assert cache.hits


@pytest.mark.skipif(shutil.which("tpm2_checkquote") is None, reason="tpm2-tools are not installed")
def test_a_second_opinion_on_quotes(azure, tmp_path):
    """tpm2-tools, over the same bytes: the right challenge, another one, and another key."""
    message = build_quote(NONCE[:48])
    (tmp_path / "message").write_bytes(message)
    for key, challenge, good in ((azure.ak, NONCE[:48], True), (azure.ak, NONCE[:47], False), (azure.other, NONCE[:48], False)):
        (tmp_path / "signature").write_bytes(sign_quote(key, message, "rsassa"))
        (tmp_path / "ak").write_bytes(azure.ak.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        command = ["tpm2_checkquote", "-u", "ak", "-m", "message", "-s", "signature", "-g", "sha256", "-q", challenge.hex()]
        theirs = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False).returncode == 0
        ours = verify_quote(message, sign_quote(key, message), PCRS, parse_hcl_report(azure.hcl()).ak, challenge)
        assert theirs is good is (ours.proven and not [check for check in ours.checks if check.outcome == "fail"])
