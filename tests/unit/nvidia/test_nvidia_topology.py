# SPDX-License-Identifier: GPL-3.0-or-later
"""Protected PCIe: eight GPUs and four switches of one system, each naming the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.attested.ai.plugins.module_utils.appraisal.nvidia_topology import check_topology
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import Policy, load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.result import ItemResult
from ansible_collections.attested.ai.plugins.module_utils.checks import FAIL, NOT_CHECKED

NONCE = "00" * 32
GPUS = ["%016x" % (0x1000 + number) for number in range(8)]
SWITCHES = ["%016x" % (0x2000 + number) for number in range(4)]


def policy_of(**section: Any) -> Policy:
    return load_policy({"schema": "attested.ai/policy/1", "id": "test", "nvidia": section})


def gpu(number: int, **changes: Any) -> ItemResult:
    claims = {"mode": "ppcie", "nonce": NONCE, "pdi": GPUS[number % 8], "switch_pdis": list(SWITCHES), **changes}
    return ItemResult(tee="nvidia-gpu", authentic=True, checks=(), claims=claims)


def switch(number: int, **changes: Any) -> ItemResult:
    claims = {"nonce": NONCE, "own_pdi": SWITCHES[number % 4], "pdi": SWITCHES[number % 4], "gpu_pdis": list(GPUS), **changes}
    return ItemResult(tee="nvidia-switch", authentic=True, checks=(), claims=claims)


def system() -> dict[str, ItemResult]:
    return {**{"gpu%d" % number: gpu(number) for number in range(8)}, **{"switch%d" % number: switch(number) for number in range(4)}}


def failures(items: dict[str, ItemResult], **section: Any) -> list[str]:
    return [check.id for check in check_topology(items, policy_of(**section)) if check.outcome == FAIL]


def test_a_whole_system_is_good() -> None:
    checks = check_topology(system(), policy_of())
    assert [check.id for check in checks] == [
        "device-nonce", "gpu-mode-mixed", "ppcie-members", "ppcie-gpu-links", "ppcie-switch-identity", "ppcie-switch-peers", "ppcie-gpu-identity",
    ]  # fmt: skip
    assert not any(check.outcome in (FAIL, NOT_CHECKED) for check in checks)


def test_without_devices_there_is_nothing_to_say() -> None:
    assert check_topology({}, policy_of()) == []
    assert check_topology({"gpu0": ItemResult(tee="nvidia-nras", authentic=True, checks=())}, policy_of()) == []


@pytest.mark.parametrize("mode", ["spt", "mpt", None])
def test_other_modes_have_no_topology(mode: str | None) -> None:
    items = {"gpu%d" % number: gpu(number, mode=mode) for number in range(2)}
    checks = check_topology(items, policy_of())
    assert [check.outcome for check in checks if check.id == "ppcie-members"] == [NOT_CHECKED]
    assert failures(items) == []
    assert ("not attested" in checks[-1].detail) == (mode == "mpt")


def test_the_policy_can_leave_it_out() -> None:
    items = {"gpu0": gpu(0)}
    assert "ppcie-members" in failures(items)
    assert failures(items, topology="off") == []
    assert failures({**items, "gpu1": gpu(1, mode="spt")}, topology="off") == ["gpu-mode-mixed"], "mixed modes are refused all the same"


def test_other_sizes_are_the_policys() -> None:
    few = {"gpu0": gpu(0, switch_pdis=SWITCHES[:1]), "switch0": switch(0, gpu_pdis=GPUS[:1])}
    assert failures(few, ppcie_gpus=1, ppcie_switches=1) == []


Change = Callable[[dict[str, ItemResult]], None]


def drop(name: str) -> Change:
    return lambda items: items.__delitem__(name)


def put(name: str, item: ItemResult) -> Change:
    return lambda items: items.__setitem__(name, item)


def on_all(prefix: str, **changes: Any) -> Change:
    def apply(items: dict[str, ItemResult]) -> None:
        for name, item in items.items():
            if name.startswith(prefix):
                items[name] = replace(item, claims={**item.claims, **changes})

    return apply


STRANGER = "%016x" % 0x9999


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        (drop("gpu7"), ["ppcie-members", "ppcie-gpu-identity"]),
        (drop("switch3"), ["ppcie-members", "ppcie-switch-identity"]),
        (put("gpu8", gpu(0, pdi=STRANGER)), ["ppcie-members", "ppcie-gpu-identity"]),
        (put("gpu7", gpu(7, nonce="11" * 32)), ["device-nonce"]),
        (put("gpu7", gpu(7, nonce=None)), ["device-nonce"]),
        (put("switch3", switch(3, nonce="11" * 32)), ["device-nonce"]),
        (put("gpu7", gpu(7, mode="spt")), ["gpu-mode-mixed", "ppcie-members"]),
        (on_all("gpu", mode="spt"), ["ppcie-members"]),
        (put("gpu7", gpu(7, switch_pdis=SWITCHES[:3])), ["ppcie-gpu-links"]),
        (put("gpu7", gpu(7, switch_pdis=[*SWITCHES, STRANGER])), ["ppcie-gpu-links"]),
        (put("gpu7", gpu(7, switch_pdis=[*SWITCHES[:3], SWITCHES[0]])), ["ppcie-gpu-links"]),
        (put("gpu7", gpu(7, switch_pdis=[*SWITCHES[:3], "0" * 16])), ["ppcie-gpu-links"]),
        (put("gpu7", gpu(7, switch_pdis=[*SWITCHES[:3], STRANGER])), ["ppcie-gpu-links"]),
        (put("gpu7", gpu(7, switch_pdis=None)), ["ppcie-gpu-links"]),
        (put("gpu7", gpu(7, switch_pdis=[*SWITCHES, SWITCHES[0]])), ["ppcie-gpu-links"]),
        (on_all("gpu", switch_pdis=[*SWITCHES[:3], "0" * 16]), ["ppcie-gpu-links"]),
        (put("switch3", switch(3, own_pdi=STRANGER)), ["ppcie-switch-identity"]),
        (put("switch3", switch(2)), ["ppcie-switch-identity"]),
        (put("switch3", switch(3, own_pdi=None)), ["ppcie-switch-identity"]),
        (put("switch3", switch(3, gpu_pdis=GPUS[:7])), ["ppcie-switch-peers"]),
        (put("switch3", switch(3, gpu_pdis=[*GPUS[:7], GPUS[0]])), ["ppcie-switch-peers"]),
        (put("switch3", switch(3, gpu_pdis=[*GPUS[:7], STRANGER])), ["ppcie-switch-peers"]),
        (put("switch3", switch(3, gpu_pdis=None)), ["ppcie-switch-peers"]),
        (put("gpu7", gpu(7, pdi=STRANGER)), ["ppcie-gpu-identity"]),
        (put("gpu7", gpu(6)), ["ppcie-gpu-identity"]),
        (on_all("switch", gpu_pdis=[*GPUS[:7], STRANGER]), ["ppcie-gpu-identity"]),
    ],
)
def test_a_system_with_a_flaw_is_refused(change: Change, failed: list[str]) -> None:
    items = system()
    change(items)
    assert failures(items) == failed


def test_a_number_that_no_certificate_says_is_not_checked() -> None:
    items = system()
    items["gpu0"] = gpu(0, pdi=None)
    assert [check.id for check in check_topology(items, policy_of()) if check.outcome == NOT_CHECKED] == ["ppcie-gpu-identity"]


def test_reports_of_a_soft_system_fit_together(lab: Any) -> None:
    from nvidia_lab import AT, NONCE as FRESH

    from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia import verify_nvidia

    items: dict[str, ItemResult] = {}
    for kind, devices in zip(("gpu", "switch"), lab.system()):
        for number, (device, report) in enumerate(devices):
            found = verify_nvidia(kind, report, device.pem, [], [], lab.roots, lab.rim_roots, AT, FRESH)
            items["%s%d" % (kind, number)] = ItemResult(tee="nvidia-" + kind, authentic=found.authentic, checks=(), claims=found.claims.to_dict())
    assert failures(items) == []
    items["gpu0"], items["gpu1"] = items["gpu1"], items["gpu1"]
    assert failures(items) == ["ppcie-gpu-identity"]
