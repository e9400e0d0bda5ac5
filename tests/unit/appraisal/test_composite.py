# SPDX-License-Identifier: GPL-3.0-or-later
"""What several items must be together: enough of each, bound by the CPU, none twice."""

from __future__ import annotations

import sys
import types

import pytest
from ansible_collections.attested.ai.plugins.module_utils.appraisal import composite
from ansible_collections.attested.ai.plugins.module_utils.appraisal.composite import binds, check_composite, kind_of
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import SCHEMA, load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.result import ItemResult
from ansible_collections.attested.ai.plugins.module_utils.checks import failed, passed
from ansible_collections.attested.ai.plugins.module_utils.errors import PolicyError

CPU = ItemResult("sev-snp", True, (passed("report-data-mismatch", "as expected"),))


def gpu(name, **changes):
    values = {"tee": "nvidia-gpu", "authentic": True, "checks": (passed("nonce-mismatch", "ours"),), "claims": {"device": name}, **changes}
    return ItemResult(**values)


def policy(**require):
    return load_policy({"schema": SCHEMA, "id": "test", "require": require})


@pytest.fixture(autouse=True)
def no_topology(monkeypatch):
    """These results carry no topology; what is said about that is tested where it is written."""
    name = "ansible_collections.attested.ai.plugins.module_utils.appraisal.nvidia_topology"
    module = types.ModuleType(name)
    module.check_topology = lambda items, policy: []
    monkeypatch.setitem(sys.modules, name, module)


def outcomes(items, made, single=False):
    return {check.id: check.outcome for check in check_composite(items, made, single)}


def test_kinds_follow_the_names():
    assert [kind_of(name) for name in ("cpu0", "gpu12", "switch3", "unknown0")] == ["cpu", "gpu", "switch", "unknown"]
    assert list(composite.devices({"cpu0": CPU, "gpu0": gpu("a"), "switch0": gpu("b"), "unknown0": CPU})) == ["gpu0", "switch0"]


def test_one_cpu_is_enough_by_default():
    assert outcomes({"cpu0": CPU}, policy()) == {"required-evidence": "pass"}


def test_evidence_of_the_cpu_alone_is_refused_for_a_gpu_workload():
    (check,) = check_composite({"cpu0": CPU}, policy(gpu=1), False)
    assert (check.id, check.outcome) == ("required-evidence", "fail") and "0 of 1 gpu" in check.detail and "gpus" in check.detail


@pytest.mark.parametrize(("require", "count", "outcome"), [
    ({"gpu": 2}, 1, "fail"), ({"gpu": 2}, 2, "pass"), ({"gpu": 1, "switch": 1}, 2, "fail"), ({}, 3, "pass"),
])
def test_counts(require, count, outcome):
    items = {"cpu0": CPU, **{"gpu%d" % n: gpu("device %d" % n) for n in range(count)}}
    assert outcomes(items, policy(**require)) == {"required-evidence": outcome, "device-binding": "pass", "duplicate-device": "pass"}


def test_one_item_may_speak_for_several_devices():
    assert outcomes({"cpu0": CPU, "gpu0": gpu("all", devices=8)}, policy(gpu=8))["required-evidence"] == "pass"
    assert outcomes({"cpu0": CPU, "gpu0": gpu("all", devices=7)}, policy(gpu=8))["required-evidence"] == "fail"


def test_devices_without_a_cpu_are_refused():
    assert outcomes({"gpu0": gpu("a")}, policy()) == {"required-evidence": "fail", "device-binding": "fail", "duplicate-device": "pass"}


@pytest.mark.parametrize("cpu", [
    ItemResult("sev-snp", False, CPU.checks),
    ItemResult("sev-snp", None, CPU.checks),
    ItemResult("sev-snp", True, (failed("report-data-mismatch", "another"),)),
    ItemResult("sev-snp", True, ()),
])
def test_only_an_authentic_cpu_that_answers_vouches_for_devices(cpu):
    assert outcomes({"cpu0": cpu, "gpu0": gpu("a")}, policy())["device-binding"] == "fail"
    assert not binds("cpu0", cpu)


def test_a_nonce_is_no_report_data_and_the_reverse():
    assert not binds("gpu0", CPU) and not binds("cpu0", gpu("a")) and binds("cpu0", CPU) and binds("gpu0", gpu("a"))


def test_one_device_counts_once():
    items = {"cpu0": CPU, "gpu0": gpu("a"), "gpu1": gpu("a")}
    (check,) = [check for check in check_composite(items, policy(), False) if check.id == "duplicate-device"]
    assert check.outcome == "fail" and "gpu0" in check.detail and "gpu1" in check.detail


def cpu(identity, machine):
    return ItemResult("sev-snp", True, CPU.checks, claims={"machine": machine}, identity=identity)


@pytest.mark.parametrize(("first", "second", "outcome"), [
    (("a", "m"), ("b", "m"), "pass"),
    (("a", "m"), ("a", "m"), "fail"),
    (("a", "m"), ("b", "n"), "fail"),
    (("a", "m"), ("b", None), "fail"),
    (("a", None), ("b", None), "fail"),
    (("a", "m"), (None, "m"), "fail"),
])
def test_evidence_of_several_cpus_is_of_one_machine_and_counts_once(first, second, outcome):
    assert outcomes({"cpu0": cpu(*first), "cpu1": cpu(*second)}, policy(cpu=2))["cpu-evidence"] == outcome


def test_a_device_without_a_name_cannot_be_told_from_another():
    assert outcomes({"cpu0": CPU, "gpu0": gpu("a", claims={})}, policy())["duplicate-device"] == "fail"


def test_a_bare_device_report_is_judged_and_marked():
    assert outcomes({"gpu0": gpu("a")}, policy(), single=True) == {
        "required-evidence": "pass", "device-binding": "not_checked", "duplicate-device": "pass", "ppcie-members": "not_checked",
    }  # fmt: skip


def test_a_bare_cpu_report_is_no_answer_to_a_policy_that_wants_gpus():
    assert outcomes({"cpu0": CPU}, policy(gpu=1), single=True) == {"required-evidence": "fail"}


@pytest.mark.parametrize("require", [{"cpu": 0}, {"gpu": -1}, {"gpu": 17}, {"gpus": 1}, {"gpu": "1"}, {"gpu": True}, []])
def test_unusable_requirements_are_refused(require):
    with pytest.raises(PolicyError):
        load_policy({"schema": SCHEMA, "id": "test", "require": require})
