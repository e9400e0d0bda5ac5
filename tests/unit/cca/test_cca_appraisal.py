# SPDX-License-Identifier: GPL-3.0-or-later
"""CCA tokens held against policy and reference values: each check with what fails it, lines 9 to 12 of the checklist among them."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timezone

import pytest
from cca_lab import AT, CHALLENGE, CcaPlatform, collection, default_components, measurement

from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import UNCHECKED, Endorsements, appraise, appraise_report
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import load_reference_values
from ansible_collections.attested.ai.plugins.module_utils.formats import cbor
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import Binding, EvidenceDocument, EvidenceItem
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache

END = "2027-06-01T00:00:00Z"


def references(values):
    return load_reference_values({"schema": "attested.ai/reference-values/1", "values": values})


def policy(cca=None, **top):
    return load_policy({"schema": "attested.ai/policy/1", "id": "test", "allow_nonvendor_roots": True, "cca": cca or {}, **top})


@pytest.fixture
def judge(lab):
    """Appraise a token made with the options of CcaPlatform.token, under the default policy and with the platform's reference values."""

    def run(token=None, *, cca=None, top=None, values=None, endorsements=None, expected=CHALLENGE, at=AT, seen=None, cache=None, profile="2024", **options):
        known = lab.platform.reference_values(END) if values is None else values
        return appraise_report(
            lab.token(profile, **options) if token is None else token,
            tee="cca",
            policy=policy(cca, **(top or {})),
            reference_values=references(known),
            endorsements=Endorsements(cca=tuple([lab.endorsement] if endorsements is None else endorsements)),
            expected_report_data=expected,
            at=at,
            seen=seen,
            cache=cache,
        )

    return run


def reasons(result):
    return [check.id for check in result.reasons]


def checks(result):
    return {check.id: check for check in result.items["cpu0"].checks}


def test_a_known_realm_on_a_known_platform(judge, lab):
    result = judge()
    item = result.items["cpu0"]
    assert (result.accepted, result.authentic, item.status, item.anchor, item.reaches) == (True, True, "affirming", "nonvendor", "service")
    assert item.expires_at == datetime(2027, 6, 1, tzinfo=timezone.utc)
    assert item.claims["measurement"] == measurement().hex()
    assert item.claims["machine"] == hashlib.sha256(lab.platform.instance_id).hexdigest()
    assert checks(result)["report-data-mismatch"].outcome == "pass"
    assert item.vector == {"hardware": 2, "configuration": 2, "runtime-opaque": 2, "executables": 3, "file-system": 2}
    assert json.loads(json.dumps(result.to_dict()))


@pytest.mark.parametrize("profile", ["legacy", "2023", "2024", "2026"])
def test_profiles_by_policy(judge, profile):
    result = judge(profile=profile)
    assert reasons(result) == (["policy-profile"] if profile == "2026" else [])
    assert result.authentic is True
    assert judge(profile=profile, cca={"profiles": [profile]}).accepted
    other = "2023" if profile != "2023" else "2024"
    assert reasons(judge(profile=profile, cca={"profiles": [other]})) == ["policy-profile"]


# ---- line 9

def test_the_challenge_is_the_report_data(judge):
    result = judge(expected=bytes(64))
    assert reasons(result) == ["challenge-mismatch", "report-data-mismatch"]
    assert result.authentic is True and not result.accepted
    result = judge(expected=UNCHECKED)
    assert checks(result)["report-data-mismatch"].outcome == checks(result)["challenge-mismatch"].outcome == "not_checked"


# ---- line 10

@pytest.mark.parametrize("value,name", [
    (0x0000, "unknown"), (0x00FF, "unknown"), (0x1000, "assembly-and-test"), (0x2000, "provisioning"), (0x4000, "non-platform-debug"),
    (0x40FF, "non-platform-debug"), (0x5000, "recoverable-platform-debug"), (0x6000, "decommissioned"), (0x60FF, "decommissioned"),
])  # fmt: skip
def test_every_other_lifecycle_is_refused(judge, value, name):
    result = judge(lifecycle=value)
    assert (reasons(result), result.authentic) == (["lifecycle"], True)
    allowed = judge(lifecycle=value, cca={"allow_lifecycle": [name]})
    assert allowed.accepted
    # Accepted on request, and still not affirmed.
    assert allowed.status == "contraindicated"
    assert reasons(judge(cca={"allow_lifecycle": [name]})) == ["lifecycle"], "secured is not on the list then"


@pytest.mark.parametrize("value", [0x3000, 0x3003, 0x30FF])
def test_secured(judge, value):
    assert judge(lifecycle=value).accepted


@pytest.mark.parametrize("value", [0x0100, 0x2FFF, 0x3100, 0x3F00, 0x7000, 0xFFFF])
def test_no_policy_allows_a_lifecycle_without_a_meaning(judge, value):
    names = ["unknown", "assembly-and-test", "provisioning", "secured", "non-platform-debug", "recoverable-platform-debug", "decommissioned"]
    assert reasons(judge(lifecycle=value, cca={"allow_lifecycle": names})) == ["lifecycle"]


# ---- line 11

def spoilt(**changes):
    parts = default_components()
    parts[1] = {**parts[1], **{{"measurement": 2, "version": 4, "signer": 5}[name]: value for name, value in changes.items()}}
    return parts


@pytest.mark.parametrize("changes", [{"measurement": bytes(32)}, {"signer": bytes(32)}, {"version": "2.12.0"}, {"measurement": bytes(64)}])
def test_an_unknown_component(judge, changes):
    result = judge(components=spoilt(**changes))
    assert reasons(result) == ["platform-reference-values"]
    assert "AP_BL31" in checks(result)["platform-reference-values"].detail
    assert reasons(judge(components=spoilt(**changes), cca={"require_platform_references": False})) == ["platform-reference-values"]


def test_an_additional_component(judge):
    more = default_components() + [{2: bytes(32), 5: default_components()[0][5]}]
    assert reasons(judge(components=more)) == ["platform-reference-values"]
    # Fewer are no offence: the maker's list may hold parts that this machine does not have.
    assert judge(components=default_components()[:1]).accepted


def test_components_without_a_version(judge, lab):
    values = lab.platform.reference_values(END)
    for part in values[0]["components"]:
        del part["version"]
    assert judge(values=values).accepted
    assert judge(values=values, components=spoilt(version="anything")).accepted
    stated = lab.platform.reference_values(END)
    parts = default_components()
    del parts[0][4]
    assert reasons(judge(values=stated, components=parts)) == ["platform-reference-values"]


def test_without_reference_values_of_this_implementation(judge, lab):
    realm = lab.platform.reference_values(END)[1:]
    assert reasons(judge(values=realm)) == ["platform-reference-values"]
    other = CcaPlatform.open().reference_values(END)
    assert reasons(judge(values=other)) == ["platform-reference-values"]
    result = judge(values=realm, cca={"require_platform_references": False})
    assert result.accepted
    assert (checks(result)["platform-reference-values"].outcome, result.status) == ("not_checked", "warning")


def test_expired_platform_values(judge, lab):
    values = lab.platform.reference_values(END)
    values[0]["not_after"] = "2026-11-01T00:00:00Z"
    assert reasons(judge(values=values)) == ["platform-reference-values"]
    assert "expired" in checks(judge(values=values))["platform-reference-values"].detail
    # A second value that is still good takes its place, and its end counts.
    renewed = values + [{**values[0], "not_after": "2027-01-01T00:00:00Z"}]
    result = judge(values=renewed)
    assert result.accepted
    assert result.items["cpu0"].expires_at == datetime(2027, 1, 1, tzinfo=timezone.utc)


# ---- line 12

def test_unknown_and_expired_measurements(judge, lab):
    assert reasons(judge(rim=bytes(32), rems=[bytes(32)] * 4)) == ["measurement-mismatch"]
    platform = lab.platform.reference_values(END)[:1]
    assert reasons(judge(values=platform)) == ["measurement-mismatch"]
    result = judge(values=platform, top={"measurements_required": False})
    assert result.accepted and result.items["cpu0"].reaches is None
    assert result.status == "warning"
    values = lab.platform.reference_values(END)
    values[1]["not_after"] = "2026-11-01T00:00:00Z"
    assert reasons(judge(values=values)) == ["measurement-mismatch"]
    # A value for another TEE with the same digits is none for CCA: it could not even be one.
    assert judge().items["cpu0"].reaches == "service"


def with_realm(lab, **changes):
    values = lab.platform.reference_values(END)
    values[1].update(changes)
    return values


@pytest.mark.parametrize("index", range(4))
def test_each_rem(judge, lab, index):
    rems = [bytes([number]) * 32 for number in range(4)]
    stated = {str(number): rem.hex() for number, rem in enumerate(rems)}
    assert judge(values=with_realm(lab, rem=stated), rems=rems).accepted
    wrong = list(rems)
    wrong[index] = b"\xee" * 32
    result = judge(values=with_realm(lab, rem=stated), rems=wrong)
    assert reasons(result) == ["measurement-mismatch"]
    assert "REM %d" % index in checks(result)["measurement-mismatch"].detail
    only = {str(index): rems[index].hex()}
    assert judge(values=with_realm(lab, rem=only), rems=rems).accepted
    assert reasons(judge(values=with_realm(lab, rem=only), rems=wrong)) == ["measurement-mismatch"]
    # A value that is stated must hold even where measurements need not be known.
    assert reasons(judge(values=with_realm(lab, rem=only), rems=wrong, top={"measurements_required": False})) == ["measurement-mismatch"]


def test_rpv(judge, lab):
    rpv = b"init data digest".ljust(64, b"\0")
    assert judge(rpv=rpv).accepted
    assert checks(judge(rpv=rpv))["rpv-mismatch"].outcome == "not_checked"
    assert judge(rpv=rpv, cca={"rpv": [rpv.hex()]}).accepted
    assert reasons(judge(cca={"rpv": [rpv.hex()]})) == ["rpv-mismatch"]
    assert judge(rpv=rpv, values=with_realm(lab, rpv=rpv.hex())).accepted
    result = judge(values=with_realm(lab, rpv=rpv.hex()))
    assert reasons(result) == ["rpv-mismatch"]
    assert result.items["cpu0"].reaches is None
    # Two values of one measurement: the one that fits counts.
    both = with_realm(lab, rpv=rpv.hex()) + [{**with_realm(lab)[1], "covers": "kernel"}]
    assert judge(values=both).items["cpu0"].reaches == "kernel"
    assert judge(values=both, rpv=rpv).items["cpu0"].reaches == "service"


def test_configuration(judge):
    assert checks(judge())["configuration-mismatch"].outcome == "not_checked"
    assert judge(cca={"configurations": ["cfcfcfcf", "00"]}).accepted
    assert reasons(judge(cca={"configurations": ["00"]})) == ["configuration-mismatch"]


def test_mec(judge):
    assert judge(mec=0).accepted
    assert checks(judge(mec=0))["policy-mec"].outcome == "not_checked"
    assert judge(mec=1, cca={"mec_policy": "private"}).accepted
    assert judge(mec="private", cca={"mec_policy": "private"}).accepted
    assert reasons(judge(mec=0, cca={"mec_policy": "private"})) == ["policy-mec"]
    assert reasons(judge(mec="shared", cca={"mec_policy": "private"})) == ["policy-mec"]
    assert reasons(judge(profile="2023", cca={"mec_policy": "private"})) == ["policy-mec"]


# ---- what else a policy asks

def test_implementation_ids(judge, lab):
    assert checks(judge())["policy-implementation"].outcome == "not_checked"
    assert judge(cca={"implementation_ids": [lab.platform.implementation_id.hex()]}).accepted
    assert reasons(judge(cca={"implementation_ids": ["00" * 32]})) == ["policy-implementation"]
    bare = [json.dumps(lab.platform.jwk()).encode()]
    assert reasons(judge(endorsements=bare, cca={"implementation_ids": [lab.platform.implementation_id.hex()]})) == ["policy-implementation"]


def test_live_activation(judge, lab):
    for value in (1, "allow"):
        assert reasons(judge(realm_claims={44244: value})) == ["policy-live-activation"]
        assert judge(realm_claims={44244: value}, cca={"allow_live_firmware_activation": True}).accepted
    for value in (0, "disallow"):
        assert judge(realm_claims={44244: value}).accepted
    able = default_components()
    able[2] = {**able[2], 7: True}
    assert reasons(judge(components=able)) == ["policy-live-activation"]
    assert judge(components=able, realm_claims={44244: 0}).accepted


def test_platform_extensions(judge):
    assert reasons(judge(platform_claims={2404: [{1: "sha-256"}]})) == ["platform-extensions"]
    result = judge(platform_claims={2404: [{1: "sha-256"}]}, cca={"allow_platform_extensions": True})
    assert result.accepted and checks(result)["platform-extensions"].outcome == "not_checked"


def test_unknown_claims(judge):
    assert reasons(judge(realm_claims={99: 0})) == ["unknown-claims"]
    result = judge(realm_claims={99: 0}, cca={"allow_unknown_claims": True})
    assert result.accepted and checks(result)["unknown-claims"].outcome == "not_checked"
    assert result.items["cpu0"].claims["unknown_claims"] == ["realm token 99"]


def test_assigned_devices_are_told(judge):
    assert checks(judge())["assigned-devices"].outcome == "pass"
    result = judge(realm_claims={44257: bytes(32)})
    assert result.accepted and checks(result)["assigned-devices"].outcome == "not_checked"


def test_machines(judge, lab):
    machine = hashlib.sha256(lab.platform.instance_id).hexdigest()
    assert checks(judge())["machine-not-allowed"].outcome == "not_checked"
    result = judge(top={"machines": {"allow": [machine]}})
    assert result.accepted and result.items["cpu0"].vector["instance-identity"] == 2
    for machines in ({"allow": ["00" * 32]}, {"deny": [machine]}, {"allow": [machine], "deny": [machine]}, {"csp_ids": ["CN=provider"]}):
        assert reasons(judge(top={"machines": machines})) == ["machine-not-allowed"]
    assert judge(top={"machines": {"deny": ["00" * 32]}}).items["cpu0"].accepted
    # A bare key proves no identity: lists of machines need an endorsement that names the platform.
    bare = [json.dumps(lab.platform.jwk()).encode()]
    assert judge(endorsements=bare).accepted
    for machines in ({"allow": [machine]}, {"deny": ["00" * 32]}):
        assert reasons(judge(endorsements=bare, top={"machines": machines})) == ["machine-not-allowed"]


def test_anchor_by_policy(judge, lab):
    assert reasons(judge(top={"allow_nonvendor_roots": False})) == ["root-not-pinned"]
    document = lab.platform.endorsement("silicon-vendor", "2026-12-24T00:00:00Z")
    named = {"vendor_endorsements": [hashlib.sha256(document).hexdigest()]}
    result = judge(endorsements=[document], cca=named, top={"allow_nonvendor_roots": False})
    assert result.accepted
    assert (result.anchor, result.items["cpu0"].expires_at) == ("vendor", datetime(2026, 12, 24, tzinfo=timezone.utc))
    assert reasons(judge(endorsements=[document], top={"allow_nonvendor_roots": False})) == ["root-not-pinned"]


def test_revocation_is_the_end_of_an_endorsement(judge, lab):
    required = {"revocation": "required"}
    assert reasons(judge(top=required)) == ["cpak-expired"]
    assert judge(top=required, endorsements=[lab.platform.endorsement(not_after="2026-12-24T00:00:00Z")]).accepted
    expired = judge(top=required, endorsements=[lab.platform.endorsement(not_after="2026-11-01T00:00:00Z")])
    assert reasons(expired) == ["cpak-expired"] and expired.authentic is False
    # No endorsement at all is another matter.
    assert "cpak-missing" in reasons(judge(top=required, endorsements=[]))


def test_policy_is_not_judged_for_evidence_that_does_not_hold(judge):
    for result in (judge(bad_signature=["realm"], lifecycle=0x5000), judge(endorsements=[]), judge(b"x")):
        assert not result.accepted
        assert checks(result)["policy"].outcome == "not_checked"
        assert "lifecycle" not in checks(result)
        assert result.items["cpu0"].reaches is None
    assert judge(endorsements=[]).authentic is None


def test_replay(judge, lab):
    token = lab.token()
    first = judge(token)
    identity = first.items["cpu0"].identity
    assert checks(first)["replay"].outcome == "not_checked"
    assert checks(judge(token, seen=set()))["replay"].outcome == "pass"
    assert reasons(judge(token, seen={identity})) == ["replay"]
    # Another envelope around the same tokens is the same evidence.
    outer = cbor.decode(token).value
    again = collection(outer[44234][1], outer[44241][1], 399)
    assert reasons(judge(again, seen={identity})) == ["replay"]


def test_every_failure_says_what_to_do(judge, lab):
    """Seen, expected, and the next step: no detail ends with the bare fact."""
    results = [
        judge(expected=bytes(64)), judge(lifecycle=0x5000), judge(components=spoilt(measurement=bytes(32))), judge(rim=bytes(32), rems=[bytes(32)] * 4),
        judge(endorsements=[]), judge(bad_signature=["platform"]), judge(bad_signature=["realm"]), judge(b"x"), judge(rak_hash="md5"),
        judge(top={"allow_nonvendor_roots": False}), judge(profile="2026"), judge(realm_claims={99: 0}),
    ]  # fmt: skip
    for result in results:
        assert result.reasons
        for check in result.reasons:
            assert len(check.detail) > 40 and (";" in check.detail or ":" in check.detail), check


def test_hostile_texts_stay_printable(judge):
    result = judge(components=[{1: "\x1b[31m\u202e", 2: bytes(32), 4: "\n", 5: bytes(32)}], platform_claims={2400: "\x07"})
    assert reasons(result) == ["platform-reference-values"]
    assert all(check.detail.isprintable() and check.detail.isascii() for check in result.items["cpu0"].checks)
    result = judge(platform_claims={"\x1b]0;x": 1, 265: "\x1b"})
    assert all(check.detail.isprintable() for check in result.items["cpu0"].checks)


def test_a_fleet_shares_a_cache(judge):
    cache = VerificationCache()
    first = judge(cache=cache)
    stored = cache.counters()["stored"]
    assert judge(cache=cache).accepted and first.accepted
    assert cache.counters()["stored"] <= stored + 1


def test_a_whole_document(lab):
    """The nonce and what the guest binds travel in the challenge, which is 64 bytes wide as report data is."""
    nonce = bytes(range(32))
    binding = Binding(tls_spki="sha256:" + "11" * 32)
    draft = EvidenceDocument("attested/1", nonce, binding, (EvidenceItem("cca", "arm_cca_guest", b"-"),))
    token = lab.token(challenge=draft.expected_report_data(nonce))

    def judge(bound, expected):
        document = EvidenceDocument("attested/1", expected, bound, (EvidenceItem("cca", "arm_cca_guest", token),))
        return appraise(
            EvidenceDocument.from_json(json.dumps(document.to_dict())), policy=policy(), reference_values=references(lab.platform.reference_values(END)),
            endorsements=Endorsements(cca=(lab.endorsement,)), expected_nonce=expected, at=AT, connection=None,
        )  # fmt: skip

    result = judge(binding, nonce)
    assert result.accepted, result.explain()
    assert result.binding == {"tls_spki": "sha256:" + "11" * 32}
    assert result.chain_of_trust.reaches == "service"
    assert reasons(judge(Binding(tls_spki="sha256:" + "22" * 32), nonce)) == ["challenge-mismatch", "report-data-mismatch"]
    assert judge(Binding(tls_spki="sha256:" + "22" * 32), nonce).binding == {}
    assert reasons(judge(binding, bytes(32))) == ["challenge-mismatch", "report-data-mismatch"]
