# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import base64
import copy
import hashlib
import json
import os

import pytest
import rfc8785
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import evidence
from hypothesis import given
from hypothesis import strategies as st

VECTORS = os.environ.get("ATTESTED_VECTORS", os.path.join(os.path.dirname(__file__), "../../../../shared/vectors"))
RUNTIME_DATA = os.path.join(VECTORS, "coco/generated/hash/jcs-runtime-data.json")

EC_KEY = {
    "kty": "EC",
    "crv": "P-256",
    "alg": "ECDH-ES+A256KW",
    "x": "QT3_slJmispaOwnAo6hxebXGLRuiveFuRCLpS4j4S4k",
    "y": "jcDn4N4nRBQ-a7_D3qjqtb6hwOAXh_ve1wvibPSi1G0",
}
EC521_KEY = dict(EC_KEY, crv="P-521", x=base64.urlsafe_b64encode(b"\1" * 66).decode(), y=base64.urlsafe_b64encode(b"\2" * 66).decode())
RSA_KEY = {"kty": "RSA", "alg": "RSA-OAEP-256", "n": base64.urlsafe_b64encode(b"\x91" * 384).decode(), "e": "AQAB"}
NONCE = base64.b64encode(bytes(range(32))).decode()
FIRST = "SHA256:" + base64.b64encode(b"\x01" * 32).decode().rstrip("=")
SECOND = "SHA256:" + base64.b64encode(b"\x02" * 32).decode().rstrip("=")
SPKI = "sha256:" + "ab" * 32


def document():
    return {
        "schema": "attested.ai/evidence/1",
        "profile": "attested/1",
        "nonce": NONCE,
        "binding": {"tee-pubkey": dict(EC_KEY), "ssh-host-keys": [FIRST, SECOND], "tls-spki": SPKI},
        "items": [
            {"type": "sev-snp", "provider": "sev_guest", "evidence": "cmVwb3J0", "auxiliary": {"certificates": "dGFibGU="}},
            {"type": "tdx", "provider": "tdx_guest", "evidence": "cXVvdGU=", "auxiliary": {}},
        ],
        "observations": {"ssh_host_key_storage": "memory", "collected_with": "configfs-tsm", "generation": 1, "privlevel": 0, "privlevel_floor": 0},
    }


def test_reads_and_writes_the_same_document():
    parsed = evidence.EvidenceDocument.parse(document())
    assert parsed.to_dict() == document()
    assert parsed.nonce == bytes(range(32))
    assert parsed.items[0].evidence == b"report" and parsed.items[0].auxiliary == {"certificates": b"table"}
    assert parsed.digest() == hashlib.sha256(rfc8785.dumps(document())).hexdigest()
    assert evidence.EvidenceDocument.from_json(json.dumps(document())) == parsed


def test_is_frozen():
    parsed = evidence.EvidenceDocument.parse(document())
    with pytest.raises(AttributeError):
        parsed.nonce = b""


def test_the_digest_covers_every_part():
    seen = {evidence.EvidenceDocument.parse(document()).digest()}
    for path, value in (
        (("nonce",), base64.b64encode(b"n" * 32).decode()),
        (("binding",), {}),
        (("items", 0, "evidence"), "AAAA"),
        (("items", 0, "auxiliary"), {}),
        (("items", 1, "type"), "cca"),
        (("observations",), {}),
    ):
        seen.add(evidence.EvidenceDocument.parse(changed(path, value)).digest())
    assert len(seen) == 7


def changed(path, value):
    result = document()
    target = result
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    return result


def without(path):
    result = document()
    target = result
    for step in path[:-1]:
        target = target[step]
    del target[path[-1]]
    return result


@pytest.mark.parametrize(
    "path,value",
    [
        (("extra",), 1),
        (("schema",), "attested.ai/evidence/2"),
        (("profile",), "attested/2"),
        (("profile",), None),
        (("nonce",), base64.b64encode(b"n" * 15).decode()),
        (("nonce",), base64.b64encode(b"n" * 65).decode()),
        (("nonce",), NONCE.rstrip("=")),
        (("nonce",), NONCE + "\n"),
        (("nonce",), bytes(32)),
        (("binding",), None),
        (("binding", "further"), "x"),
        (("binding", "tee-pubkey"), None),
        (("binding", "tee-pubkey", "d"), "c2VjcmV0"),
        (("binding", "tee-pubkey", "kid"), "1"),
        (("binding", "tee-pubkey", "alg"), "ECDH-ES"),
        (("binding", "tee-pubkey", "crv"), "P-384"),
        (("binding", "tee-pubkey", "crv"), "P-521"),
        (("binding", "tee-pubkey", "x"), EC_KEY["x"] + "="),
        (("binding", "tee-pubkey", "x"), EC_KEY["x"][:-2]),
        (("binding", "tee-pubkey", "kty"), "OKP"),
        (("binding", "ssh-host-keys"), []),
        (("binding", "ssh-host-keys"), FIRST),
        (("binding", "ssh-host-keys"), [SECOND, FIRST]),
        (("binding", "ssh-host-keys"), [FIRST, FIRST]),
        (("binding", "ssh-host-keys"), [FIRST + "="]),
        (("binding", "ssh-host-keys"), ["MD5:" + FIRST[7:]]),
        (("binding", "ssh-host-keys"), [FIRST[:-1]]),
        (("binding", "ssh-host-keys"), ["SHA256:%043d" % n for n in range(17)]),
        (("binding", "tls-spki"), SPKI.upper()),
        (("binding", "tls-spki"), "ab" * 32),
        (("binding", "tls-spki"), SPKI[:-1]),
        (("items",), []),
        (("items",), {}),
        (("items",), [document()["items"][0]] * 17),
        (("items", 0), "x"),
        (("items", 0, "type"), "sgx"),
        (("items", 0, "provider"), ""),
        (("items", 0, "provider"), "a\nb"),
        (("items", 0, "provider"), "x" * 65),
        (("items", 0, "evidence"), ""),
        (("items", 0, "evidence"), "cmVwb3J1"[:-1]),
        (("items", 0, "evidence"), base64.b64encode(bytes(64 * 1024 + 1)).decode()),
        (("items", 0, "auxiliary"), None),
        (("items", 0, "auxiliary"), {"ark": "AAAA"}),
        (("items", 0, "auxiliary"), {"certificates": ""}),
        (("items", 0, "auxiliary"), {"certificates": base64.b64encode(bytes(1024 * 1024 + 1)).decode()}),
        (("items", 0, "further"), 1),
        (("observations",), []),
        (("observations", "verified"), True),
        (("observations", "ssh_host_key_storage"), "Memory"),
        (("observations", "collected_with"), "magic"),
        (("observations", "generation"), -1),
        (("observations", "generation"), True),
        (("observations", "generation"), "1"),
        (("observations", "generation"), 2**53),
    ],
)
def test_refuses_what_is_not_of_the_schema(path, value):
    with pytest.raises(FormatError) as caught:
        evidence.EvidenceDocument.parse(changed(path, value))
    assert str(caught.value).startswith("evidence")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "path", [(name,) for name in document()] + [("items", 0, name) for name in document()["items"][0]] + [("binding", "tee-pubkey", name) for name in EC_KEY]
)
def test_refuses_missing_members(path):
    with pytest.raises(FormatError):
        evidence.EvidenceDocument.parse(without(path))


def test_the_largest_sizes_are_allowed():
    large = changed(("items", 0, "evidence"), base64.b64encode(bytes(64 * 1024)).decode())
    large["items"][0]["auxiliary"]["certificates"] = base64.b64encode(bytes(1024 * 1024)).decode()
    assert evidence.EvidenceDocument.parse(large).to_dict() == large


def test_duplicate_members_in_text_are_refused():
    text = json.dumps(document()).replace('"profile": "attested/1"', '"profile": "kbs", "profile": "attested/1"')
    with pytest.raises(FormatError):
        evidence.EvidenceDocument.from_json(text)


def test_a_private_key_is_refused_and_not_shown():
    with pytest.raises(FormatError) as caught:
        evidence.parse_public_jwk(dict(EC_KEY, d="VerySecret"))
    assert caught.value.code == "private-key" and "VerySecret" not in str(caught.value)


@pytest.mark.parametrize("key", [EC_KEY, EC521_KEY, RSA_KEY])
def test_public_keys(key):
    assert evidence.parse_public_jwk(key) == key


@pytest.mark.parametrize("change", [{"n": "AAEC"}, {"n": base64.urlsafe_b64encode(b"\0" * 384).decode()}, {"e": ""}, {"alg": "RSA1_5"}, {"alg": "RSA-OAEP"}])
def test_refused_rsa_keys(change):
    with pytest.raises(FormatError):
        evidence.parse_public_jwk(dict(RSA_KEY, **change))


# --- report data ---


@pytest.mark.skipif(not os.path.exists(RUNTIME_DATA), reason="shared vectors are not here: set ATTESTED_VECTORS")
def test_vector_of_the_kbs_runtime_data():
    with open(RUNTIME_DATA, encoding="utf-8") as stream:
        cases = {case["name"]: case for case in json.load(stream)["cases"]}
    case = cases["kbs-runtime-data-shape"]
    assert evidence.runtime_data_digest(case["value"]).hex() == case["sha384"] + "00" * 16
    # The vector's nonce is shorter than the 16 bytes that we demand, so the public function is compared with its own rule.
    with pytest.raises(FormatError):
        evidence.report_data("kbs", case["value"]["nonce"], {"tee-pubkey": case["value"]["tee-pubkey"]})
    longer = dict(case["value"], nonce=NONCE)
    expected = hashlib.sha384(rfc8785.dumps(longer)).digest() + bytes(16)
    assert evidence.report_data("kbs", NONCE, {"tee-pubkey": longer["tee-pubkey"]}) == expected


@pytest.mark.parametrize(
    "binding",
    [{}, {"tee-pubkey": EC_KEY}, {"ssh-host-keys": [FIRST]}, {"tls-spki": SPKI}, {"tee-pubkey": RSA_KEY, "ssh-host-keys": [FIRST, SECOND], "tls-spki": SPKI}],
)
def test_report_data_of_attested_1(binding):
    expected = hashlib.sha384(rfc8785.dumps(dict(binding, **{"nonce": NONCE, "additional-evidence": ""}))).digest() + bytes(16)
    assert evidence.report_data("attested/1", NONCE, binding) == expected
    assert evidence.report_data("attested/1", bytes(range(32)), evidence.Binding.parse(binding)) == expected


def test_both_profiles_agree_on_the_key_alone():
    binding = {"tee-pubkey": EC_KEY}
    assert evidence.report_data("kbs", NONCE, binding) == evidence.report_data("attested/1", NONCE, binding)


@pytest.mark.parametrize(
    "binding", [{}, {"tee-pubkey": EC_KEY, "ssh-host-keys": [FIRST]}, {"tee-pubkey": EC_KEY, "tls-spki": SPKI}, {"ssh-host-keys": [FIRST]}]
)
def test_kbs_binds_the_key_and_nothing_else(binding):
    with pytest.raises(FormatError):
        evidence.report_data("kbs", NONCE, binding)
    with pytest.raises(FormatError):
        evidence.report_data("kbs", NONCE, evidence.Binding.parse(binding))
    with pytest.raises(FormatError):
        evidence.EvidenceDocument.parse(dict(document(), profile="kbs", binding=binding))


def test_a_kbs_document():
    kbs = dict(document(), profile="kbs", binding={"tee-pubkey": EC_KEY})
    assert evidence.EvidenceDocument.parse(kbs).to_dict() == kbs


@pytest.mark.parametrize("nonce", [b"", bytes(15), bytes(65), "AAAA", 5, None])
def test_report_data_demands_a_nonce_of_16_to_64_bytes(nonce):
    with pytest.raises(FormatError):
        evidence.report_data("attested/1", nonce, {})


def test_report_data_of_an_unknown_profile():
    with pytest.raises(FormatError):
        evidence.report_data("attested", NONCE, {})


def test_everything_that_is_bound_changes_the_report_data():
    base = {"tee-pubkey": EC_KEY, "ssh-host-keys": [FIRST], "tls-spki": SPKI}
    variants = [
        evidence.report_data("attested/1", NONCE, base),
        evidence.report_data("attested/1", bytes(32), base),
        evidence.report_data("attested/1", NONCE, base, "{}"),
        evidence.report_data("attested/1", NONCE, dict(base, **{"tee-pubkey": EC521_KEY})),
        evidence.report_data("attested/1", NONCE, dict(base, **{"ssh-host-keys": [FIRST, SECOND]})),
        evidence.report_data("attested/1", NONCE, dict(base, **{"tls-spki": SPKI.replace("ab", "ac")})),
    ]
    assert len(set(variants)) == len(variants)


def test_the_document_answers_only_the_verifiers_nonce():
    parsed = evidence.EvidenceDocument.parse(document())
    mine = b"m" * 32
    assert parsed.expected_report_data(mine) == evidence.report_data("attested/1", mine, parsed.binding)
    assert parsed.expected_report_data(mine) != parsed.expected_report_data(parsed.nonce)


# --- properties ---

JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)


def _paths(value, prefix=()):
    yield prefix
    if isinstance(value, dict):
        for name in value:
            yield from _paths(value[name], prefix + (name,))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _paths(inner, prefix + (index,))


PATHS = [path for path in _paths(document()) if path]


@given(st.sampled_from(PATHS), JSON_VALUES)
def test_any_value_anywhere_is_taken_as_it_is_or_refused(path, value):
    candidate = changed(path, copy.deepcopy(value))
    try:
        parsed = evidence.EvidenceDocument.parse(candidate)
    except FormatError:
        return
    assert parsed.to_dict() == candidate
    assert evidence.EvidenceDocument.from_json(json.dumps(parsed.to_dict())) == parsed


@given(JSON_VALUES)
def test_arbitrary_json_is_refused(value):
    with pytest.raises(FormatError):
        evidence.EvidenceDocument.parse(value)


@given(st.text(max_size=60))
def test_arbitrary_text_is_refused(text):
    with pytest.raises(FormatError):
        evidence.EvidenceDocument.from_json(text)


def device(kind="nvidia-gpu", provider="hopper", blob="c3BkbQ==", chain="Y2hhaW4="):
    return {"type": kind, "provider": provider, "evidence": blob, "auxiliary": {"certificates": chain}}


def with_devices(profile, *devices):
    made = document()
    made["profile"] = profile
    if profile == "kbs":
        made["binding"] = {"tee-pubkey": dict(EC_KEY)}
    made["items"] += devices
    return evidence.EvidenceDocument.parse(made)


@pytest.mark.parametrize("profile", evidence.PROFILES)
def test_devices_are_challenged_with_nonce_and_key_only(profile):
    expected = hashlib.sha384(rfc8785.dumps({"nonce": NONCE, "tee-pubkey": EC_KEY})).digest()[:32]
    assert with_devices(profile).expected_device_nonce(bytes(range(32))) == expected
    assert evidence.device_nonce("attested/1", NONCE, {"tls-spki": SPKI}) == hashlib.sha384(rfc8785.dumps({"nonce": NONCE})).digest()[:32]


def test_the_report_data_covers_the_devices():
    parsed = with_devices("attested/1", device(), device("nvidia-switch", "ls10"))
    text = rfc8785.dumps([device(), device("nvidia-switch", "ls10")]).decode()
    members = {**document()["binding"], "nonce": NONCE, "additional-evidence": text}
    assert parsed.expected_report_data(bytes(range(32))) == hashlib.sha384(rfc8785.dumps(members)).digest() + bytes(16)
    others = [with_devices("attested/1"), with_devices("attested/1", device()), with_devices("attested/1", device("nvidia-switch", "ls10"), device()),
              with_devices("attested/1", device(), device("nvidia-switch", "ls10", chain="Y2hhaW5z"))]  # fmt: skip
    assert len({other.expected_report_data(bytes(32)) for other in others} | {parsed.expected_report_data(bytes(32))}) == 5


@pytest.mark.parametrize("profile", evidence.PROFILES)
def test_devices_that_report_data_cannot_cover_are_refused_when_read(profile):
    chain = base64.b64encode(bytes(evidence.AUXILIARY_MAX)).decode()
    with pytest.raises(FormatError, match="additional-evidence"):
        with_devices(profile, *[device(chain=chain) for _number in range(4)])


def test_a_kbs_gets_the_devices_in_its_own_form():
    parsed = with_devices("kbs", device(), device("nvidia-gpu", "blackwell"))
    listed = [{"arch": arch, "evidence": "c3BkbQ==", "certificate": "Y2hhaW4="} for arch in ("HOPPER", "BLACKWELL")]
    assert json.loads(evidence.additional_evidence("kbs", parsed.items)) == {"nvidia": {"device_evidence_list": listed}}
    assert evidence.additional_evidence("kbs", with_devices("kbs").items) == ""


@pytest.mark.parametrize("bad", [device("nvidia-nras"), device(provider="volta"), {**device(), "auxiliary": {}}])
def test_a_device_that_a_kbs_does_not_know_is_refused_on_reading(bad):
    with pytest.raises(FormatError, match="no form that a KBS knows"):
        with_devices("kbs", bad)
