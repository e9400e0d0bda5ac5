# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and values: found as exact, suffixed, spelled otherwise or by display name; and the data files themselves."""

from __future__ import annotations

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import RedfishError
from ansible_collections.attested.ai.plugins.module_utils.redfish import maps
from ansible_collections.attested.ai.plugins.module_utils.redfish.registry import parse_registry
from ansible_collections.attested.ai.plugins.module_utils.redfish.resolve import Goal, choose_value, find_attribute, resolve
from bmc_support import desired


def registry(*entries: dict):
    return parse_registry(
        {
            "RegistryEntries": {
                "Attributes": [{"Type": "Enumeration", "Value": [{"ValueName": "Disabled"}, {"ValueName": "Enabled"}], **entry} for entry in entries]
            }
        },
        "here",
    )


def name(text: str, title: str = "", **more: object) -> dict:
    return {"AttributeName": text, "DisplayName": title, **more}


SUPERMICRO = maps.load_vendor("supermicro")
LENOVO = maps.load_vendor("lenovo")


@pytest.mark.parametrize("end", ["#3C38", "#700C", "_F319"])
def test_suffixes_of_boards(end):
    known = registry(name("SMEE" + end), name("SMEE" + end + "X"), name("SMEEVariant"))
    assert find_attribute(known, SUPERMICRO, ("SMEE",), ()) == (("SMEE" + end,), "suffixed")
    assert find_attribute(known, LENOVO, ("SMEE",), ()) == ((), "display")


def test_exact_wins_over_suffixed_and_a_longer_name_is_another_setting():
    known = registry(name("TotalMemoryEncryption#3C38"), name("TotalMemoryEncryption"), name("TotalMemoryEncryptionTMEBypass"))
    assert find_attribute(known, SUPERMICRO, ("TotalMemoryEncryption",), ()) == (("TotalMemoryEncryption",), "exact")
    assert find_attribute(registry(name("TotalMemoryEncryptionTMEBypass")), LENOVO, ("TotalMemoryEncryption",), ()) == ((), "display")


def test_spelling_and_display_name():
    assert find_attribute(registry(name("processors_trust-domain-extension tdx")), LENOVO, ("Processors_TrustDomainExtensionTDX",), ()) == (
        ("processors_trust-domain-extension tdx",),
        "spelling",
    )
    assert find_attribute(registry(name("X17", "SEV-SNP  support")), LENOVO, ("Snp",), ("SEV-SNP Support",)) == (("X17",), "display")


def test_two_that_match_are_for_a_person_to_choose():
    known = registry(name("SMEE#3C38"), name("SMEE#700C"), name("SEV-SNPSupport#3C38"))
    with pytest.raises(RedfishError, match=r"several attributes match.*candidates are SMEE#3C38, SMEE#700C"):
        resolve(known, {}, SUPERMICRO, desired("snp"))
    wants, _missing = resolve(known, {}, SUPERMICRO, desired("snp", names={"smee": "SMEE#700C"}))
    assert [(want.attribute, want.how) for want in wants] == [("SMEE#700C", "given"), ("SEV-SNPSupport#3C38", "suffixed")]


def test_a_missing_setting_that_is_not_required_is_told():
    wants, missing = resolve(registry(name("Memory_SMEE"), name("Processors_SEV_SNPSupport")), {}, LENOVO, desired("snp"))
    assert {want.setting for want in wants} == {"smee", "snp"} and {"rmp", "asid_limit"} <= {item.setting for item in missing}


def attribute(kind: str, *values: str, **more: object):
    entry = {"AttributeName": "Cbs", "Type": kind, "Value": [{"ValueName": value, "ValueDisplayName": "shown " + value} for value in values], **more}
    return registry(entry).attributes["Cbs"]


@pytest.mark.parametrize(
    ("kind", "values", "goal", "now", "expected"),
    [
        ("Enumeration", ("CbsAuto", "CbsEnabled"), Goal(("Enabled",)), "CbsAuto", "CbsEnabled"),
        ("Enumeration", ("Disable", "Enable"), Goal(("Enable", "Enabled")), None, "Enable"),
        ("Enumeration", ("0", "1"), Goal(("shown 1",)), None, "1"),
        ("Enumeration", ("off", "ENABLED"), Goal(("Enabled",)), None, "ENABLED"),
        ("Enumeration", ("1", "253", "509"), Goal(at_least="100"), "1", "253"),
        ("Enumeration", ("1", "253", "509"), Goal(at_least="100"), "509", "509"),
        ("Enumeration", ("Auto", "128M", "2G", "64G"), Goal(at_least="2G"), "Auto", "2G"),
        ("Enumeration", ("Auto", "128M", "2G", "64G"), Goal(at_least="2G"), "64G", "64G"),
        ("Integer", (), Goal(at_least="100"), 1, 100),
        ("Integer", (), Goal(at_least="100"), 509, 509),
        ("Integer", (), Goal(("7",)), None, 7),
        ("Boolean", (), Goal(("Enabled",)), None, True),
        ("String", (), Goal(("text",)), None, "text"),
    ],
)
def test_values_in_the_attributes_own_spelling(kind, values, goal, now, expected):
    assert choose_value(attribute(kind, *values), goal, now) == (expected, "")


@pytest.mark.parametrize(
    ("kind", "values", "more", "goal", "reason"),
    [
        ("Enumeration", ("A", "B"), {}, Goal(("C",)), "it has no value 'C', it knows A, B"),
        ("Enumeration", ("1", "8"), {}, Goal(at_least="100"), "no value of at least 100"),
        ("Integer", (), {"UpperBound": 50}, Goal(at_least="100"), "100 is not within"),
        ("Integer", (), {"LowerBound": 0, "ScalarIncrement": 8}, Goal(("100",)), "no multiple of 8"),
        ("Integer", (), {}, Goal(("many",)), "it takes an integer"),
        ("Boolean", (), {}, Goal(("perhaps",)), "it takes true or false"),
        ("Password", (), {}, Goal(("x",)), "it is a password"),
    ],
)
def test_values_that_there_are_not(kind, values, more, goal, reason):
    value, found = choose_value(attribute(kind, *values, **more), goal, None)
    assert value is None and reason in found


def test_overrides_win_and_null_leaves_alone():
    known = registry(name("Memory_SMEE"), name("Processors_SEV_SNPSupport"), name("Memory_SEV_ESASIDSpaceLimit", Type="Integer"))
    wants, _missing = resolve(known, {}, LENOVO, desired("snp", overrides={"asid_limit": 509, "smee": None}))
    assert {want.setting: want.value for want in wants} == {"snp": "Enabled", "asid_limit": 509}
    wants, _missing = resolve(known, {}, LENOVO, desired("snp", attributes={"Memory_SMEE": "Disabled"}))
    assert {want.attribute: want.value for want in wants}["Memory_SMEE"] == "Disabled"


@pytest.mark.parametrize(
    ("claims", "key"),
    [
        (["Dell Inc."], "dell"), (["HPE"], "hpe"), (["Hewlett Packard Enterprise", "HPE"], "hpe"), (["Lenovo"], "lenovo"), (["Supermicro"], "supermicro"),
        (["Cisco Systems Inc"], "cisco"), (["ASRockRack", "AMI"], "asrock"), (["NVIDIA", "AMI"], "nvidia"), (["To be filled", "AMI"], "asrock"),
        (["Gigabyte", "American Megatrends International"], "asrock"),
    ],
)  # fmt: skip
def test_whose_names_to_use(claims, key):
    assert maps.vendor_of(claims).key == key


def test_an_unknown_vendor_is_for_the_user_to_say():
    with pytest.raises(RedfishError, match="nothing is known of this vendor .*Miami.*Set vendor"):
        maps.vendor_of(["Miami Servers", ""])


def test_the_data_are_whole():
    settings = maps.load_settings()
    states = {state: maps.load_state(state) for state in maps.STATES}
    for steps in states.values():
        assert {step.setting for step in steps} <= set(settings)
    for key in maps.VENDORS:
        vendor = maps.load_vendor(key)
        assert vendor.key == key and vendor.match and set(vendor.settings) <= set(settings)
        for setting, names in vendor.settings.items():
            assert names.names and names.mark in maps.MARKS and names.source and set(names.goals) <= set(maps.STATES), (key, setting)
            # What is named is spoken of by a state, or nobody could ever set it.
            assert any(step.setting == setting for steps in states.values() for step in steps), (key, setting)
    for name, setting in settings.items():
        assert setting.mark in maps.MARKS and setting.source and setting.about, name
    # Where sources contradict each other nothing is done unasked.
    assert not [step for steps in states.values() for step in steps if step.goal and settings[step.setting].mark == "conflict"]
    # Seen in public repositories, and invented.
    named = {name for key in maps.VENDORS for names in maps.load_vendor(key).settings.values() for name in names.names}
    assert not named & {"IntelTdx", "TdxSeamLoader", "TmeMtTdxKeySplit", "MemEncryption"}
