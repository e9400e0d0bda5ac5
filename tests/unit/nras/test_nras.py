# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens of the attestation service: what is accepted, every check broken once, and no byte that can change."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import appraise_report
from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import Endorsements
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValues
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.nras_token import parse_bundle, parse_jwks
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.nras import IDS, UNCHECKED, verify_nras
from hypothesis import given, settings
from hypothesis import strategies as st
from nras_lab import AT, ISSUER, KID, NONCE

SKEW = timedelta(seconds=60)


def verify(service, data, *, jwks=None, pins=None, at=AT, nonce=NONCE, issuer=ISSUER, cache=None, vendor=()):
    return verify_nras(data, [service.jwks()] if jwks is None else jwks, [service.pin] if pins is None else pins, vendor, at, nonce, issuer, SKEW, cache)


def test_a_token_that_is_good(service):
    found = verify(service, service.bundle())
    assert found.authentic is True and found.failed == () and found.anchor == "nonvendor"
    assert [check.id for check in found.checks] == list(IDS)
    assert found.not_after == AT + timedelta(seconds=3540) and len(found.evidence_id) == 64
    claims = found.claims.to_dict()
    assert claims["source"] == "nras" and claims["nonce"] == NONCE.hex() and claims["ueids"] == ["1000"]
    assert claims["devices"][0]["architecture"] == "hopper" and claims["signer_sha256"] == service.pin
    assert verify(service, service.bundle(), vendor=[service.pin]).anchor == "vendor"


def test_eight_devices_and_the_cache(service):
    cache, data = VerificationCache(), service.bundle(service.devices(8))
    jwks = [service.jwks()]
    first, second = (verify(service, data, jwks=jwks, cache=cache) for _time in range(2))
    assert first == second and first.authentic is True and len(first.claims.devices) == 8 and cache.hits >= 2


BREAKERS = {
    "token-algorithm": [
        lambda s, a: s.bundle(header={"alg": "none"}),
        lambda s, a: s.bundle(header={"alg": "HS256"}),
        lambda s, a: s.bundle(header={"alg": "ES256"}),
        lambda s, a: s.bundle(s.devices(header={"alg": "none"})),
    ],
    "token-signature": [
        lambda s, a: s.bundle(key=a.key),
        lambda s, a: s.bundle(s.devices(key=a.key)),
    ],
    "submod-digest": [
        lambda s, a: s.bundle(submods={"GPU-0": ["DIGEST", ["SHA-256", "00" * 32]]}),
    ],
    "device-count": [
        lambda s, a: json.dumps([json.loads(s.bundle(s.devices(2)))[0], s.devices(1)]).encode(),
        lambda s, a: s.bundle(submods={"GPU-1": ["DIGEST", ["SHA-256", "00" * 32]]}),
    ],
    "token-issuer": [
        lambda s, a: s.bundle(iss="https://nras.example"),
        lambda s, a: s.bundle(s.devices(iss="NVAT-LOCAL-VERIFIER")),
    ],
    "token-expired": [
        lambda s, a: s.bundle(exp=int(AT.timestamp()) - 61),
        lambda s, a: s.bundle(s.devices(exp=int(AT.timestamp()) - 61)),
        lambda s, a: s.bundle(iat=int(AT.timestamp()) + 61),
        lambda s, a: s.bundle(nbf=int(AT.timestamp()) + 61),
        lambda s, a: s.bundle(nbf="soon"),
        lambda s, a: s.bundle(exp=int(AT.timestamp()) + 90000),
        lambda s, a: s.bundle(exp=int(AT.timestamp()) - 59),
    ],
    "nonce-mismatch": [
        lambda s, a: s.bundle(eat_nonce="11" * 32),
        lambda s, a: s.bundle(s.devices(eat_nonce="11" * 32)),
        lambda s, a: s.bundle(s.devices(eat_nonce=...)),
        lambda s, a: s.bundle(s.devices(eat_nonce="11" * 32), eat_nonce="11" * 32),
    ],
    "overall-result": [
        lambda s, a: s.bundle(**{"x-nvidia-overall-att-result": False}),
        lambda s, a: s.bundle(**{"x-nvidia-overall-att-result": "true"}),
        lambda s, a: s.bundle(**{"x-nvidia-overall-att-result": ...}),
    ],
    "device-result": [
        lambda s, a: s.bundle(s.devices(measres="fail")),
        lambda s, a: s.bundle(s.devices(**{"x-nvidia-error-details": {"code": 4010, "message": "NONCE_NOT_MATCHING"}})),
        lambda s, a: s.bundle(s.devices(secboot=False)),
        lambda s, a: s.bundle(s.devices(secboot=...)),
        lambda s, a: s.bundle(s.devices(dbgstat="enabled")),
        lambda s, a: s.bundle(s.devices(**{"x-nvidia-gpu-vbios-rim-signature-verified": False})),
        lambda s, a: s.bundle(s.devices(**{"x-nvidia-gpu-attestation-report-nonce-match": ...})),
        lambda s, a: s.bundle(s.devices(**{"x-nvidia-gpu-attestation-report-signature-verified": ...})),
        lambda s, a: s.bundle(s.devices(**{"x-nvidia-mismatch-measurement-records": [{"index": 9}]})),
        lambda s, a: s.bundle(
            s.devices(**{"x-nvidia-gpu-attestation-report-cert-chain": {"x-nvidia-cert-status": "valid", "x-nvidia-cert-ocsp-status": "revoked"}})
        ),
    ],
}


@pytest.mark.parametrize("code, number", [(code, number) for code, makers in BREAKERS.items() for number in range(len(makers))])
def test_every_check_of_a_token_can_fail(service, attacker, code, number):
    found = verify(service, BREAKERS[code][number](service, attacker))
    if (code, number) == ("token-expired", 6):
        assert found.authentic is True and found.failed == (), "one that ended less than the skew ago is accepted"
    else:
        assert code in found.failed
    if code in ("token-algorithm", "token-signature", "submod-digest", "device-count"):
        assert found.authentic is False and found.evidence_id is None and found.anchor == "none"


@pytest.mark.parametrize(
    "code, jwks",
    [
        ("signer-not-pinned", lambda s, a: a.jwks(key=s.key, chain=[s.leaf, a.issuer])),
        ("signer-chain", lambda s, a: s.jwks(a.leaf)),
        ("signer-chain", lambda s, a: s.jwks(s.signer(key=a.key))),
        ("signer-chain", lambda s, a: s.jwks(s.signer(signer=a.issuer_key))),
        ("signer-chain", lambda s, a: s.jwks(s.signer(issuer_name="Another"))),
        ("signer-chain", lambda s, a: s.jwks(s.signer(may=False))),
        ("signer-chain", lambda s, a: s.jwks(s.signer(ca=True))),
        ("signer-chain", lambda s, a: s.jwks(s.signer(critical="1.2.3.4"))),
        ("signer-expired", lambda s, a: s.jwks(s.signer(start=AT - timedelta(days=3)))),
        ("signer-expired", lambda s, a: s.jwks(s.signer(start=AT + timedelta(days=1)))),
        ("token-signature", lambda s, a: s.jwks(s.signer(key=a.key), key=a.key)),
    ],
)
def test_every_check_of_a_signer_can_fail(service, attacker, code, jwks):
    found = verify(service, service.bundle(), jwks=[jwks(service, attacker)])
    assert code in found.failed and found.authentic is False


def test_signers_issued_with_sha512_are_not_what_the_service_has(service):
    from cryptography.hazmat.primitives import hashes

    assert "signer-chain" in verify(service, service.bundle(), jwks=[service.jwks(service.signer(digest=hashes.SHA512()))]).failed
    assert verify(service, service.bundle(), jwks=[service.jwks(service.signer(digest=hashes.SHA384()))]).authentic is True


def test_a_pin_of_another_issuer(service, attacker):
    assert "signer-not-pinned" in verify(service, service.bundle(), pins=[attacker.pin]).failed
    assert "signer-not-pinned" in verify(service, service.bundle(), pins=[]).failed


@pytest.mark.parametrize(
    "jwks",
    [
        lambda s: [],
        lambda s: [s.jwks(kid="another")],
        lambda s: [b"{}"],
        lambda s: [b"\xff"],
        lambda s: [s.jwks(chain=[s.leaf])],
        lambda s: [s.jwks(x5c=["MAA="] * 2)],
    ],
)
def test_without_the_key_nothing_is_known(service, jwks):
    found = verify(service, service.bundle(), jwks=jwks(service))
    assert found.authentic is None and found.evidence_id is None and "signer-unknown" not in found.failed
    assert next(check.outcome for check in found.checks if check.id == "signer-unknown") == "not_checked"


def test_the_opt_out_of_freshness_is_visible(service):
    found = verify(service, service.bundle(), nonce=UNCHECKED)
    assert next(check.outcome for check in found.checks if check.id == "nonce-mismatch") == "not_checked" and found.authentic is True


@pytest.mark.parametrize("options", [{"nonce": b"short"}, {"nonce": None}, {"at": AT.replace(tzinfo=None)}])
def test_calls_that_are_wrong(service, options):
    with pytest.raises(AttestedError) as caught:
        verify(service, service.bundle(), **options)
    assert caught.value.code == "argument"


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"{}", b"null", b'[["JWT"], {}]', b'[["JWT", 1], {"GPU-0": 1}]', b'[["JWT", "a.b.c"], {}]', b'[["JWT", "a.b"], {"GPU-0": "a.b"}]',
        b'[["CWT", "a.b.c"], {"GPU-0": "a.b.c"}]', b"[" * 4000, b" " * 70000,
    ],
)  # fmt: skip
def test_what_is_no_bundle(service, data):
    with pytest.raises(FormatError):
        parse_bundle(data)
    found = verify(service, data)
    assert found.authentic is False and found.code == "format" and found.claims is None


@pytest.mark.parametrize(
    "changes",
    [
        {"submods": {}}, {"submods": {"GPU-0": "00"}}, {"submods": {"GPU-0": ["DIGEST", ["SHA-1", "00" * 20]]}}, {"sub": "another"}, {"eat_nonce": "11"},
        {"eat_nonce": ...}, {"exp": ...}, {"exp": "never"}, {"iat": True}, {"iss": ...}, {"exp": 1 << 60}, {"header": {"crit": ["exp"]}},
    ],
)  # fmt: skip
def test_tokens_that_lack_what_every_token_has(service, changes):
    assert verify(service, service.bundle(**changes)).code == "format"


def test_names_of_devices(service):
    (text,) = service.devices().values()
    for name in ("GPU-00", "CPU-0", "GPU-0 ", "GPU-1000", ""):
        assert verify(service, service.bundle({name: text})).code == "format"


def test_no_byte_can_change(service):
    """Every position of a whole answer, three values each. Only the order of JSON text around the tokens could stay the same; none does."""
    data, jwks, cache = service.bundle(), [service.jwks()], VerificationCache()
    accepted = []
    for position in range(0, len(data)):
        for change in (0x01, 0x20, 0x80):
            changed = bytearray(data)
            changed[position] ^= change
            found = verify(service, bytes(changed), jwks=jwks, cache=cache)
            if found.authentic is True and not found.failed:
                accepted.append((position, change))
    assert accepted == []


@settings(max_examples=200)
@given(st.binary(max_size=400))
def test_any_bytes(data):
    for parse in (parse_bundle, parse_jwks):
        try:
            parse(data)
        except FormatError:
            pass


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(["iss", "exp", "iat", "nbf", "eat_nonce", "sub", "submods", "ueid", "hwmodel", "x-nvidia-overall-att-result"]), JSON))
def test_any_claims(service, changes):
    devices = service.devices(**{key: value for key, value in changes.items() if key in ("ueid", "hwmodel", "exp", "nbf")})
    found = verify(service, service.bundle(devices, **{key: value for key, value in changes.items() if key not in ("ueid", "hwmodel")}))
    assert [check.id for check in found.checks] == list(IDS)
    json.dumps([found.claims and found.claims.to_dict()])


def judged(service, policy=None, data=None, jwks=None, top=None):
    document = {
        "schema": "attested.ai/policy/1", "id": "nras", "allow_nonvendor_roots": True,
        "nvidia": {"allow_unstated_mode": True, **(policy or {}), "nras": {"accept": True, "certificates": [service.pin], **(policy or {}).get("nras", {})}},
        **(top or {}),
    }  # fmt: skip
    result = appraise_report(
        service.bundle() if data is None else data, tee="nvidia-nras", policy=load_policy(document), reference_values=ReferenceValues(()),
        expected_report_data=NONCE,
        at=AT, endorsements=Endorsements(jwks=(service.jwks() if jwks is None else jwks,)),
    )  # fmt: skip
    return result.items["gpu0"]


def test_a_policy_that_takes_the_services_word(service):
    item = judged(service)
    assert item.accepted and item.status == "affirming" and item.claims["source"] == "nras" and item.devices == 1
    assert judged(service, data=service.bundle(service.devices(3))).devices == 3


@pytest.mark.parametrize(
    "code, policy",
    [
        ("policy-nras", {"nras": {"accept": False}}),
        ("token-issuer", {"nras": {"issuer": "https://nras.example"}}),
        ("signer-not-pinned", {"nras": {"certificates": []}}),
        ("policy-mode", {"allow_unstated_mode": False}),
        ("policy-architecture", {"architectures": ["blackwell"]}),
        ("policy-driver", {"min_driver": "590.1"}),
        ("policy-driver", {"drivers": ["590.1"]}),
        ("policy-vbios", {"min_vbios": {"GH100": "97.00.00.00.00"}}),
        ("policy-vbios", {"min_vbios": {"GB100": "97.00.00.00.00"}}),
        ("policy-vbios", {"vbios": ["97.00.00.00.00"]}),
        ("policy-fsp-svn", {"min_fsp_svn": 1}),
        ("policy-nvle", {"nvle_status": ["01"]}),
        ("device-not-allowed", {"devices": {"allow": ["00" * 32]}}),
        ("device-not-allowed", {"devices": {"deny": ["00" * 32]}}),
    ],
)
def test_what_a_policy_refuses(service, code, policy):
    item = judged(service, policy)
    assert not item.accepted and code in [check.id for check in item.failures]
    assert all(";" in check.detail for check in item.failures), "a failure says what to do"


def test_the_default_takes_no_services_word(service):
    policy = load_policy({"schema": "attested.ai/policy/1", "id": "x"})
    result = appraise_report(
        service.bundle(), tee="nvidia-nras", policy=policy, reference_values=ReferenceValues(()), endorsements=Endorsements(), expected_report_data=NONCE, at=AT
    )
    item = result.items["gpu0"]
    assert {"policy-nras", "signer-unknown"} <= {check.id for check in item.failures} and item.authentic is None


def test_own_pins_need_the_word_of_the_policy(service):
    assert "signer-not-pinned" in [check.id for check in judged(service, top={"allow_nonvendor_roots": False}).failures]


def test_switches_and_devices_without_a_name_do_not_count_as_gpus(service):
    (text,) = service.devices().values()
    assert "device-kind" in [check.id for check in judged(service, data=service.bundle({"SWITCH-0": text})).failures]
    switch = service.bundle(service.devices(hwmodel="LS_10 A01 FSP BROM"))
    assert "device-kind" in [check.id for check in judged(service, data=switch).failures]
    assert "device-not-allowed" in [check.id for check in judged(service, data=service.bundle(service.devices(ueid=...))).failures]
    assert "device-not-allowed" in [check.id for check in judged(service, data=service.bundle(service.devices(2, ueid="7"))).failures]


def test_the_samples_of_the_attestation_sdk_need_their_keys(vectors):
    """Genuine tokens of 2025, whose keys are not published any more: all is read, nothing is believed."""
    folder = vectors / "nvidia" / "attestation-sdk" / "claims"
    data = (folder / "hopperClaimsv3_detached_eat.json").read_bytes()
    found = verify_nras(data, [], [], [], AT, UNCHECKED, ISSUER)
    assert found.authentic is None and found.claims.devices[0].chip == "GH100" and "token-expired" in found.failed
    assert "submod-digest" not in found.failed and "device-result" not in found.failed
    assert KID != parse_bundle(data).overall.kid


def test_a_local_verifiers_token_is_refused(vectors):
    bundle = json.loads((vectors / "nvidia" / "dstack" / "gpu_attestation_h100.json").read_text())["detached_eat"]
    found = verify_nras(json.dumps(bundle).encode(), [], [], [], AT, UNCHECKED, ISSUER)
    assert found.authentic is False and ("token-algorithm" in found.failed or found.code == "format")
