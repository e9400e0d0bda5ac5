# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.attested.ai.plugins.module_utils.appraisal import schema
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import SCHEMA, SECTION_KEYS, TOP_KEYS, Policy, load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.providers import PROVIDERS
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import (
    SCHEMA as REFERENCE_SCHEMA,
    load_reference_values,
    merge_reference_values,
)
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError, PolicyError

PEM = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"


def policy(**keys):
    return load_policy(dict({"schema": SCHEMA, "id": "test"}, **keys))


def snp(**keys):
    return policy(sev_snp=keys).sev_snp


def test_the_defaults_are_strict():
    made = policy()
    assert (made.allow_nonvendor_roots, made.roots, made.revocation, made.ssh_binding, made.ssh_keys_in_memory) == (False, (), "not_required", "auto", False)
    assert (made.chain_of_trust.must_reach, made.chain_of_trust.waiver, made.measurements_required) == ("service", None, True)
    assert made.sev_snp.products == ("genoa", "turin")
    assert made.sev_snp.vmpl == (0,)
    allowed = {name: getattr(made.sev_snp, name) for name in SECTION_KEYS["sev_snp"] if name.startswith("allow_")}
    assert allowed == {
        "allow_debug": False, "allow_migration_agent": False, "allow_smt": True, "allow_provisional_firmware": False,
        "allow_masked_chip_id": False, "allow_unknown_policy_bits": False,
    }
    assert made.sev_snp.min_tcb.shipped and made.sev_snp.min_launch_tcb.shipped
    assert made.sev_snp.require_platform_info == ("alias_check_complete",)
    assert made.sev_snp.signing_keys == ("vcek", "vlek")


@pytest.mark.parametrize(
    ("obj", "words"),
    [
        ({"sev_snp": {"min_tbc": {}}}, ["policy, sev_snp:", "'min_tbc'", "'min_tcb'"]),
        ({"polcy": 1}, ["'polcy'"]),
        ({"sev_snp": {"min_tcb": {"microcod": 1}}}, ["sev_snp.min_tcb", "'microcod'", "'microcode'"]),
        ({"sev_snp": {"min_tcb": {"0x19-0x10..0x1f": {"ucode": 1}}}}, ["sev_snp.min_tcb.0x19-0x10..0x1f", "'ucode'"]),
        ({"chain_of_trust": {"must_reech": "service"}}, ["chain_of_trust", "'must_reach'"]),
        ({"machines": {"alow": []}}, ["machines", "'allow'"]),
        ({"sev_snp": {"min_abi": {"major": 1, "minr": 2}}}, ["sev_snp.min_abi", "'minor'"]),
        ({"sev_snp": {"required_mitigations": {"lunch": 1}}}, ["required_mitigations", "'launch'"]),
        ({1: 2}, ["unknown key 1"]),
    ],
)
def test_an_unknown_key_is_refused_with_its_path_and_the_nearest_key(obj, words):
    with pytest.raises(PolicyError) as caught:
        load_policy(dict({"schema": SCHEMA, "id": "test"}, **{key: value for key, value in obj.items() if isinstance(key, str)}) if 1 not in obj
                    else {"schema": SCHEMA, "id": "test", 1: 2})
    assert caught.value.code == "policy-unknown-key"
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "keys",
    [
        {"id": ""}, {"id": 5}, {"id": "x" * 200}, {"schema": "attested.ai/policy/2"}, {"measurements_required": "yes"}, {"measurements_required": 1},
        {"ssh_binding": True}, {"ssh_binding": "on"}, {"revocation": None}, {"roots": PEM}, {"roots": ["hello"]}, {"roots": [PEM]}, {"provider": "oracle"},
        {"machines": []}, {"machines": {"allow": ["AB" * 32]}}, {"machines": {"allow": ["ab" * 31]}}, {"machines": {"allow": [int("12" * 16)]}},
        {"machines": {"allow": ["ab" * 32, "ab" * 32]}}, {"chain_of_trust": {"must_reach": "moon"}}, {"chain_of_trust": {"waiver": ""}},
        {"sev_snp": None}, {"sev_snp": {"products": []}}, {"sev_snp": {"products": "genoa"}}, {"sev_snp": {"products": ["rome"]}},
        {"sev_snp": {"vmpl": [4]}}, {"sev_snp": {"vmpl": [True]}}, {"sev_snp": {"vmpl": [-1]}}, {"sev_snp": {"vmpl": 0}}, {"sev_snp": {"vmpl": [0.0]}},
        {"sev_snp": {"min_tcb": None}}, {"sev_snp": {"min_tcb": "none"}}, {"sev_snp": {"min_tcb": {"snp": 256}}}, {"sev_snp": {"min_tcb": {"snp": "23"}}},
        {"sev_snp": {"min_tcb": {"0x19-0x1f..0x10": {"snp": 1}}}}, {"sev_snp": {"min_tcb": {"0x19-0x10": {}}}},
        {"sev_snp": {"min_tcb": {"0x19-0x10..0x1f": {"snp": 1}, "0x19-0x1f": {"snp": 1}}}}, {"sev_snp": {"min_tcb": {"0x19-0x10": {"snp": 1}, "snp": 1}}},
        {"sev_snp": {"min_abi": {}}}, {"sev_snp": {"min_abi": {"major": 256}}}, {"sev_snp": {"required_mitigations": {"launch": -1}}},
        {"sev_snp": {"required_mitigations": {"launch": "0xZZ"}}}, {"sev_snp": {"host_data": []}}, {"sev_snp": {"host_data": ["00"]}},
        {"sev_snp": {"require_platform_info": ["tsmee"]}}, {"sev_snp": {"signing_keys": ["none"]}}, {"sev_snp": {"allow_debug": None}},
    ],
)
def test_values_of_a_wrong_kind_are_refused(keys):
    with pytest.raises(PolicyError) as caught:
        load_policy(dict({"schema": SCHEMA, "id": "test"}, **keys))
    assert caught.value.where.startswith("policy")


@pytest.mark.parametrize("missing", ["schema", "id"])
def test_schema_and_id_must_be_there(missing):
    obj = {"schema": SCHEMA, "id": "test"}
    del obj[missing]
    with pytest.raises(PolicyError, match=missing):
        load_policy(obj)


def test_yaml_reads_the_word_off_as_false_and_so_do_we():
    assert policy(ssh_binding=False).ssh_binding == "off"


def test_foreign_roots_need_the_word_that_marks_every_result():
    with pytest.raises(PolicyError, match="allow_nonvendor_roots"):
        policy(roots=[PEM])
    assert policy(roots=[PEM], allow_nonvendor_roots=True).roots == (PEM,)


def test_a_provider_changes_defaults_and_what_is_written_wins():
    aws = load_policy({"schema": SCHEMA, "id": "t", "provider": "aws"}).sev_snp
    assert aws.vmpl == (0, 1) and aws.allow_provisional_firmware and "vlek" in aws.signing_keys
    assert not aws.allow_debug and aws.products == ("genoa", "turin")
    own = load_policy({"schema": SCHEMA, "id": "t", "provider": "aws", "sev_snp": {"vmpl": [1]}}).sev_snp
    assert own.vmpl == (1,) and own.allow_provisional_firmware


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_the_normalised_policy_reads_back_to_itself(provider):
    made = load_policy({
        "schema": SCHEMA, "id": "t", "provider": provider, "machines": {"allow": ["ab" * 32], "csp_ids": ["CN=x"]},
        "sev_snp": {
            "min_tcb": {"0x1a-0x00..0x11": {"snp": 2}, "0x19-0x11": {"microcode": 84}}, "min_launch_tcb": {}, "min_abi": {"major": 1, "minor": 55},
            "required_mitigations": {"launch": 2**64 - 1}, "host_data": ["00" * 32], "require_guest_policy": ["smt_disabled", "ciphertext_hiding"],
        },
    })
    assert load_policy(json.loads(json.dumps(made.to_dict()))) == made
    assert made.sev_snp.min_tcb.for_silicon(0x19, 0x11) == {"microcode": 84}
    assert made.sev_snp.min_tcb.for_silicon(0x19, 0x12) is None


def test_the_digest_follows_the_meaning_and_nothing_else():
    one = policy(sev_snp={"vmpl": [1, 0], "allow_debug": False})
    assert one.digest == policy(sev_snp={"vmpl": [0, 1]}, ssh_binding="auto").digest
    assert one.digest != policy(sev_snp={"vmpl": [0]}).digest
    assert len(one.digest) == 64


def test_every_key_of_the_schema_reaches_the_digest():
    """A key that the normalised form forgot could be changed without anybody noticing."""
    assert set(policy().to_dict()) == set(TOP_KEYS)
    assert set(policy().to_dict()["sev_snp"]) == set(SECTION_KEYS["sev_snp"])
    assert {field.name for field in dataclasses.fields(Policy)} == set(TOP_KEYS) - {"schema"}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["default", "genoa", "auto", "off", "ab" * 32, "0x19-0x10"]),
    lambda children: st.lists(children, max_size=4)
    | st.dictionaries(st.sampled_from(TOP_KEYS + SECTION_KEYS["sev_snp"] + ("snp", "allow", "launch", "")) | st.text(max_size=4), children, max_size=5),
    max_leaves=20,
)


@settings(max_examples=400, deadline=None)
@given(obj=JSON)
def test_random_documents_give_a_policy_or_a_policy_error(obj):
    for document in (obj, {"schema": SCHEMA, "id": "t", "sev_snp": obj}, dict(obj, schema=SCHEMA, id="t") if isinstance(obj, dict) else obj):
        try:
            made = load_policy(document)
        except PolicyError as error:
            assert "\n" not in str(error)
        else:
            assert load_policy(made.to_dict()) == made


@settings(max_examples=200, deadline=None)
@given(obj=JSON, key=st.sampled_from(["schema", "values", "tee", "measurement", "covers", "image", "source", "not_after", "host_data"]))
def test_random_reference_values_give_values_or_a_policy_error(obj, key):
    value = dict(REFERENCE, **{key: obj}) if key in REFERENCE or key == "host_data" else REFERENCE
    for document in (obj, {"schema": REFERENCE_SCHEMA, "values": [value]}, {"schema": REFERENCE_SCHEMA, "values": obj}):
        try:
            made = load_reference_values(document)
        except PolicyError:
            continue
        assert load_reference_values(made.to_dict()) == made


REFERENCE = {
    "tee": "sev-snp", "measurement": "ab" * 48, "covers": "service", "image": "inference 1", "source": "our own build", "not_after": "2027-01-01T00:00:00Z",
}


def test_reference_values_are_read_and_found_by_measurement():
    made = load_reference_values({"schema": REFERENCE_SCHEMA, "values": [REFERENCE, dict(REFERENCE, host_data="cd" * 32)]})
    assert [value.host_data for value in made.measured("sev-snp", "ab" * 48)] == [None, "cd" * 32]
    assert made.measured("sev-snp", "00" * 48) == []
    assert made.values[0].not_after == datetime(2027, 1, 1, tzinfo=timezone.utc)
    assert merge_reference_values([made, made]) == made


@pytest.mark.parametrize("missing", sorted(REFERENCE))
def test_a_reference_value_is_complete(missing):
    with pytest.raises(PolicyError, match=missing):
        load_reference_values({"schema": REFERENCE_SCHEMA, "values": [{key: value for key, value in REFERENCE.items() if key != missing}]})


def test_an_error_in_reference_values_names_the_row():
    with pytest.raises(PolicyError, match=r"values\[1\].*did_you|values\[1\]"):
        load_reference_values({"schema": REFERENCE_SCHEMA, "values": [REFERENCE, dict(REFERENCE, covers="all")]})


@pytest.mark.parametrize(
    ("text", "hours"), [("2026-11-01T00:00:00Z", 0), ("2026-11-01t01:30:00+01:30", 0), ("2026-11-01T00:00:00.25Z", 0), ("2026-10-31T22:00:00-02:00", 0)]
)
def test_times_carry_their_offset(text, hours):
    assert schema.parse_time(text, "at").replace(microsecond=0) == datetime(2026, 11, 1, tzinfo=timezone.utc) + timedelta(hours=hours)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-01",
        "2026-11-01T00:00:00",
        "2026-13-01T00:00:00Z",
        "2026-11-01 00:00:00Z",
        "",
        None,
        5,
        "2026-11-01T00:00:00Z\n",
        "٢026-11-01T00:00:00Z",
    ],
)
def test_other_times_are_refused(text):
    with pytest.raises(FormatError, match="at"):
        schema.parse_time(text, "at")
