# SPDX-License-Identifier: GPL-3.0-or-later
"""The planner alone: stages per vendor, closed attributes, pending values, and what holds for any registry."""

from __future__ import annotations

import pytest
from ansible_collections.attested.ai.plugins.module_utils.redfish import maps
from ansible_collections.attested.ai.plugins.module_utils.redfish.planner import effective, plan
from ansible_collections.attested.ai.plugins.module_utils.redfish.registry import closed_by, parse_registry, same
from ansible_collections.attested.ai.plugins.module_utils.redfish.resolve import Want, resolve
from bmc.machine import Machine
from bmc.models import MODELS
from bmc_support import REBOOTS, desired, state_of
from hypothesis import given
from hypothesis import strategies as st

STAGES = {
    "asrock-snp": [
        {
            "CbsCmnCpuSmee": "CbsCmnCpuSmeeEnabled",
            "CbsCmnCpuSevAsidSpaceCtrl": "CbsCmnCpuSevAsidSpaceCtrlManual",
            "CbsCmnCpuSevAsidCount": "CbsCmnCpuSevAsidCount509ASIDs",
        },
        {"CbsCmnCpuSevAsidSpaceLimit": 100, "CbsSevSnpSupport": "CbsSevSnpSupportEnable"},
        {"CbsDbgCpuSnpMemCover": "CbsDbgCpuSnpMemCoverEnabled"},
    ],
    "cisco-snp": [{"CbsCmnCpuSmee": "Enabled", "CbsCmnCpuSevAsidSpaceLimit": 100}, {"CbsSevSnpSupport": "Enabled"}, {"CbsDbgCpuSnpMemCover": "Enabled"}],
    "cisco-tdx": [
        {"CpuPaLimit": "Disabled", "EnableTme": "Enabled"},
        {"EnableMktme": "Enabled", "EnableSgx": "Enabled"},
        {"EnableTdx": "Enabled"},
        {"EnableTdxSeamldr": "Enabled"},
    ],
    "dell-snp": [{"Sme": "Enabled"}, {"CpuMinSevAsid": 100, "Snp": "Enabled"}, {"Rmp": "Enabled"}],
    # Its registry has no rules: what comes after the first reboot is a guess.
    "dell-tdx": [
        {"CpuPaLimit": "Disabled", "ProcX2Apic": "Enabled", "NodeInterleave": "Disabled", "MemoryEncryption": "MultipleKeys"},
        {
            "GlbMemIntegrity": "Disabled",
            "EnableTdx": "Enabled",
            "EnableTdxSeamldr": "Enabled",
            "KeySplit": "1",
            "IntelSgx": "On",
            "PrmrrSize": "2G",
            "SgxPackageInfoInBandAccess": "On",
        },
    ],
    "hpe-snp": [{"AmdSecureMemoryEncryption": "Enabled", "MinimumSevAsid": 100}, {"AmdSecureNestedPaging": "Enabled"}],
    "hpe-tdx": [{"ExampleTme": "Enabled"}, {"ExampleTmeMt": "Enabled", "ExampleSgx": "Enabled"}, {"ExampleTdx": "Enabled"}, {"ExampleSeamLoader": "Enabled"}],
    "lenovo-snp": [
        {"Memory_SMEE": "Enabled", "Memory_SEV_ESASIDSpaceLimit": 100},
        {"Processors_SEV_SNPSupport": "Enabled"},
        {"Processors_SNPMemoryRMPTableCoverage": "Enabled"},
    ],
    "lenovo-tdx": [
        {"Processors_LimitCPUPAto46bits": "Disabled", "Processors_APICMode": "x2APIC", "Processors_TotalMemoryEncryption": "Enabled"},
        {"Processors_MultikeyTotalMemoryEncryption": "Enabled", "Processors_SWGuardExtensions": "Enabled"},
        {"Processors_TrustDomainExtensionTDX": "Enabled"},
        {"Processors_TDXSecureArbitrationModeLoaderSEAMLoader": "Enabled", "Processors_TME_MTTDXkeysplit": 1},
    ],
    "nvidia-tdx": [
        {"EnableTme": "Enabled"},
        {"EnableMktme": "Enabled", "EnableSgx": "Enabled"},
        {"EnableTdx": "Enabled"},
        {"EnableTdxSeamldr": "Enabled", "KeySplit": 1},
    ],
    "supermicro-snp": [
        {"IOMMU_F319": "Enabled", "SMEE_F319": "Enabled"},
        {"SEV-ESASIDSpaceLimit_F319": 100, "SEV-SNPSupport_F319": "Enabled"},
        {"SNPMemory(RMPTable)Coverage_F319": "Enabled"},
    ],
    "supermicro-tdx": [
        {"LimitCPUPAto46bits#3C38": "Disabled", "MemoryEncryption_TME_#3C38": "Enabled"},
        {"TotalMemoryEncryptionMulti_Tenant_TME_MT_#3C38": "Enabled"},
        {"TrustDomainExtension_TDX_#3C38": "Enabled"},
        {"TDXSecureArbitrationModeLoader_SEAMLoader_#3C38": "Enabled", "TME_MT_TDXKeySplit#3C38": 1},
        {"SWGuardExtensions_SGX_#3C38": "Enabled"},
    ],
}


def planned(model: str):
    machine = Machine(MODELS[model])
    registry = parse_registry(machine.registry("r"), "r")
    vendor = maps.vendor_of([MODELS[model].manufacturer, MODELS[model].vendor])
    wants, _missing = resolve(registry, machine.shown(), vendor, desired(state_of(model)))
    return plan(registry, machine.shown(), machine.waiting(), wants)


@pytest.mark.parametrize("model", sorted(STAGES))
def test_the_stages_of_each_vendor(model):
    found = planned(model)
    assert [dict(stage.changes) for stage in found.stages] == STAGES[model] and not found.blocked
    assert [stage.guess for stage in found.stages] == ([False, True] if model == "dell-tdx" else [False] * REBOOTS[model])
    assert all(stage.patch == stage.changes for stage in found.stages)


def rule(name: str, prop: str, *terms: dict) -> dict:
    return {"DependencyFor": name, "Type": "Map", "Dependency": {"MapFrom": list(terms), "MapToAttribute": name, "MapToProperty": prop, "MapToValue": True}}


def term(parent: str, condition: str, value: object, joint: str = "", prop: str = "CurrentValue") -> dict:
    return {"MapFromAttribute": parent, "MapFromProperty": prop, "MapFromCondition": condition, "MapFromValue": value, "MapTerms": joint}


def document(attributes: list[dict], *rules: dict) -> dict:
    return {"RegistryEntries": {"Attributes": attributes, "Dependencies": list(rules)}}


def registry(*rules: tuple[str, str, str, str, object], flags: dict[str, dict] | None = None):
    """Rules are (attribute, property, parent, condition, value)."""
    values = [{"ValueName": value} for value in ("Disabled", "Enabled")]
    attributes = [{"AttributeName": name, "Type": "Enumeration", "Value": values, **(flags or {}).get(name, {})} for name in "ABCD"]
    return parse_registry(document(attributes, *(rule(name, prop, term(*rest)) for name, prop, *rest in rules)), "here")


def on(*names: str) -> tuple[Want, ...]:
    return tuple(Want(name, "Enabled") for name in names)


OFF = dict.fromkeys("ABCD", "Disabled")


def test_a_ring_of_dependencies_is_blocked_with_its_reason():
    found = plan(registry(("A", "ReadOnly", "B", "NEQ", "Enabled"), ("B", "GrayOut", "A", "NEQ", "Enabled")), OFF, {}, on("A", "B"))
    assert found.blocked == {"A": "read-only while B is not 'Enabled'", "B": "grayed out while A is not 'Enabled'"} and not found.stages


def test_what_a_rule_surely_keeps_closed_is_said_before_anything_is_written():
    found = plan(registry(("B", "ReadOnly", "C", "EQU", "Disabled")), OFF, {}, on("A", "B"))
    assert found.blocked == {"B": "read-only while C is 'Disabled'"}


def test_a_parent_that_the_user_adds_opens_it():
    found = plan(registry(("B", "ReadOnly", "C", "EQU", "Disabled")), OFF, {}, on("A", "B", "C"))
    assert [dict(stage.changes) for stage in found.stages] == [{"A": "Enabled", "C": "Enabled"}, {"B": "Enabled"}]


def test_somebody_elses_pending_value_opens_one_too():
    found = plan(registry(("B", "ReadOnly", "C", "EQU", "Disabled")), OFF, {"C": "Enabled"}, on("A", "B"))
    assert [dict(stage.changes) for stage in found.stages] == [{"A": "Enabled"}, {"B": "Enabled"}] and found.foreign == {"C": "Enabled"}


def test_closed_for_good_without_a_rule_is_blocked_if_nothing_else_is_left_to_do():
    closed = registry(flags={"A": {"ReadOnly": True}})
    assert plan(closed, OFF, {}, on("A")).blocked == {"A": "read-only, the registry does not say until when"}
    assert [stage.guess for stage in plan(closed, OFF, {}, on("A", "B")).stages] == [False, True]
    assert plan(closed, {**OFF, "A": "Enabled"}, {}, on("A")).done


def test_a_registry_that_states_what_is_so_now_and_has_rules_as_well():
    both = registry(("B", "Hidden", "A", "NEQ", "Enabled"), flags={"B": {"Hidden": True}})
    found = plan(both, {"A": "Disabled"}, {}, on("A", "B"))
    assert [(dict(stage.changes), stage.guess) for stage in found.stages] == [({"A": "Enabled"}, False), ({"B": "Enabled"}, False)]


def test_pending_already_is_not_written_again_and_the_wrong_value_is():
    found = plan(registry(), OFF, {"A": "Enabled", "B": "Disabled"}, on("A", "B"))
    assert dict(found.stages[0].changes) == {"A": "Enabled", "B": "Enabled"} and dict(found.stages[0].patch) == {"B": "Enabled"}


def test_terms_are_joined_from_left_to_right():
    terms = [term("A", "EQU", "Enabled"), term("B", "EQU", "Enabled", "AND"), term("C", "EQU", "Enabled", "OR")]
    found = parse_registry(document([{"AttributeName": name} for name in "ABCD"], rule("D", "ReadOnly", *terms)), "here")
    assert closed_by(found, "D", {"A": "Enabled", "B": "Enabled", "C": "Disabled"}) == "read-only while A is 'Enabled' and B is 'Enabled' or C is 'Enabled'"
    assert closed_by(found, "D", {"A": "Enabled", "B": "Disabled", "C": "Disabled"}) == ""
    assert closed_by(found, "D", {"A": "Disabled", "B": "Disabled", "C": "Enabled"}) != ""


@pytest.mark.parametrize(
    ("condition", "value", "closed"),
    [("GTR", 4, True), ("GTR", 5, False), ("GEQ", 5, True), ("LSS", 6, True), ("LEQ", 4, False), ("EQU", "5", True), ("LIKE", 5, False), ("GTR", "x", False)],
)
def test_conditions_on_numbers(condition, value, closed):
    assert bool(closed_by(registry(("B", "ReadOnly", "A", condition, value)), "B", {"A": 5, "B": 1})) is closed


def test_a_flag_of_another_attribute_may_close_one():
    attributes = [{"AttributeName": "A", "Hidden": True}, {"AttributeName": "B"}]
    found = parse_registry(document(attributes, rule("B", "GrayOut", term("A", "EQU", True, prop="Hidden"))), "here")
    assert closed_by(found, "B", {}) == "grayed out while Hidden of A is 'True'"


def test_values_are_compared_as_services_do():
    assert same(1, "1") and same(True, "True") and same("a", "a") and same(2.0, 2) and not same(None, "") and not same("On", "Off") and same(None, None)
    assert effective({"A": 1, "B": "x"}, {"A": "1", "B": "y", "C": None}) == {"B": "y"}


CHAINS = st.lists(
    st.tuples(
        st.sampled_from("ABCD"),
        st.sampled_from(["ReadOnly", "Hidden", "GrayOut"]),
        st.sampled_from("ABCD"),
        st.sampled_from(["EQU", "NEQ"]),
        st.sampled_from(["Enabled", "Disabled"]),
    ),
    max_size=6,
)


@given(CHAINS, st.sets(st.sampled_from("ABCD"), min_size=1), st.dictionaries(st.sampled_from("ABCD"), st.sampled_from(["Enabled", "Disabled"])))
def test_any_plan_writes_each_attribute_once_and_only_while_it_is_open(rules, names, pending):
    known = registry(*rules)
    found = plan(known, OFF, pending, on(*sorted(names)))
    values = dict(OFF)
    written = []
    for number, stage in enumerate(found.stages):
        if stage.guess:
            break
        for name in stage.patch:
            assert not closed_by(known, name, values)
        written += list(stage.changes)
        values.update(found.foreign if number == 0 else {})
        values.update(stage.changes)
    assert len(written) == len(set(written)) and not set(written) & set(found.blocked)
    assert set(written) | set(found.blocked) | {name for stage in found.stages if stage.guess for name in stage.changes} == names
    # From where the stages lead nothing is left but what is blocked.
    again = plan(known, values, {}, on(*sorted(names)))
    assert not again.stages and set(again.blocked) >= set(found.blocked) or found.foreign
