# SPDX-License-Identifier: GPL-3.0-or-later
"""CCA by the kernel's interfaces: the number of the capability comes from the running kernel, and KVM has the last word."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.target.probes import local
from ansible_collections.attested.ai.plugins.module_utils.target.probes.cca_host import KVM_PARAMETER
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import Unreadable
from ansible_collections.attested.ai.plugins.module_utils.target.probes.local import LocalHost
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import FAIL, PASS, SKIPPED, UNKNOWN
from ansible_collections.attested.ai.plugins.module_utils.target.probes.recording import RecordedHost, Recorder
from ansible_collections.attested.ai.plugins.module_utils.target.probes.survey import survey

HEADER = "/lib/modules/6.18.0/build/include/uapi/linux/kvm.h"
HOST = {
    "schema": "attested.ai/tee-recording/1",
    "kernel": "6.18.0",
    "architecture": "aarch64",
    "files": {
        "/proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\n",
        "/proc/self/limits": "Max locked memory         unlimited",
        KVM_PARAMETER: "251\n",
    },
    "exists": {"/dev/kvm": True, "/sys/firmware/efi": True},
    "directories": {"/sys/kernel/iommu_groups": ["0"]},
    "kvm": {"version": 12, "251": 1},
    "kernel_log": {
        "lines": ["Linux version 6.18.0", "CPU: All CPU(s) started at EL2", "kvm [1]: RMI ABI version 1.0"],
        "complete": True,
        "source": "/dev/kmsg",
    },
}


def document(**changes):
    return {**copy.deepcopy(HOST), **changes}


def asked(made, **options):
    found = survey(RecordedHost(made), **options)
    return found, {probe.id: probe for probe in found.probes}


def test_a_host_that_can_start_realms_is_ready():
    found, probes = asked(document())
    assert (found.scope, found.tee) == ("host", "cca") and probes["cca.kvm-realms"].outcome == PASS
    assert found.identity == {"rmi": "1.0", "kvm_capability": 251, "kvm_capability_source": KVM_PARAMETER}
    assert found.verdict == "ready" and probes["common.bare-metal"].outcome == SKIPPED


def test_realms_start_without_uefi_and_iommu():
    found, probes = asked(document(exists={"/dev/kvm": True}, directories={}))
    assert found.verdict == "ready" and {probes[name].outcome for name in ("common.uefi", "common.iommu")} == {SKIPPED}
    assert asked(document(exists={"/dev/kvm": False}))[1]["common.kvm"].outcome == FAIL


def test_a_recorded_host_is_ready_once_the_number_is_known():
    recorded = json.loads((Path(__file__).parent / "recorded" / "cca-host.json").read_text())
    found, probes = asked(recorded, kvm_capability=300)
    assert found.verdict == "ready" and probes["cca.kvm-realms"].observed == "KVM answers 1 to capability 300 (kvm_capability)"
    assert found.identity["rmi"] == "1.0" and probes["cca.kernel-el2"].outcome == probes["cca.firmware-rmm"].outcome == PASS
    found, probes = asked(recorded)
    assert found.verdict == "unknown" and probes["cca.kvm-realms"].outcome == UNKNOWN


def test_a_recorded_realm_is_ready():
    found, probes = asked(json.loads((Path(__file__).parent / "recorded" / "cca-realm.json").read_text()))
    assert (found.scope, found.tee, found.verdict) == ("guest", "cca", "ready")
    assert "part of the kernel" in probes["guest.provider"].observed


def test_the_parameter_is_a_number_to_ask_with_and_no_answer():
    probes = asked(document(kvm={"251": 0}))[1]
    assert probes["cca.kvm-realms"].outcome == FAIL and "251" in probes["cca.kvm-realms"].observed


@pytest.mark.parametrize("name", ["KVM_CAP_ARM_RMI", "KVM_CAP_ARM_RME"])
def test_the_headers_of_the_kernel_name_the_number_too(name):
    files = {**HOST["files"], HEADER: "#define KVM_CAP_S390_KEYOP 247\n#define %s 300 /* later */\n#define KVM_CAP_ARM_RME_CONFIG 0\n" % name}
    del files[KVM_PARAMETER]
    found, probes = asked(document(files=files, kvm={"300": 1}))
    assert probes["cca.kvm-realms"].outcome == PASS and found.identity["kvm_capability"] == 300
    recorder = Recorder(RecordedHost(document(files=files, kvm={"300": 1})))
    survey(recorder)
    assert "S390" not in recorder.document()["files"][HEADER]


@pytest.mark.parametrize("text", ["", "Y", "-1", "0", "99999999999", "9999", "\u0661"])
def test_a_strange_parameter_is_not_asked_with(text):
    probes = asked(document(files={**HOST["files"], KVM_PARAMETER: text}))[1]
    assert probes["cca.kvm-realms"].outcome == UNKNOWN and "kvm_capability" in probes["cca.kvm-realms"].fix


def test_a_given_number_wins():
    found, probes = asked(document(kvm={"249": 1}), kvm_capability=249)
    assert probes["cca.kvm-realms"].outcome == PASS and found.identity["kvm_capability_source"] == "kvm_capability"


def log(*lines, complete=True):
    return {"lines": ["Linux version 6.18.0", *lines], "complete": complete, "source": "/dev/kmsg"}


@pytest.mark.parametrize(
    ("kernel_log", "el2", "rmm"),
    [
        (log("CPU: All CPU(s) started at EL1"), FAIL, UNKNOWN),
        (log("CPU: All CPU(s) started at EL2", "kvm [1]: Unsupported RMI ABI (v2.0 - v2.0) we want v1.0"), PASS, FAIL),
        (log(complete=False), UNKNOWN, UNKNOWN),
    ],
)
def test_what_the_kernel_says_of_level_and_monitor(kernel_log, el2, rmm):
    probes = asked(document(kernel_log=kernel_log))[1]
    assert (probes["cca.kernel-el2"].outcome, probes["cca.firmware-rmm"].outcome) == (el2, rmm)
    assert all(probe.fix for probe in probes.values() if probe.outcome in (FAIL, UNKNOWN))


def test_another_architecture_fails_once():
    found, probes = asked(document(architecture="x86_64"), scope="host", tee="cca")
    assert probes["cca.cpu-architecture"].outcome == FAIL
    assert {probes[name].outcome for name in ("cca.kernel-el2", "cca.firmware-rmm", "cca.kvm-realms")} == {SKIPPED} and found.verdict == "not-ready"


def test_a_realm_is_a_guest():
    realm = document(kernel_log=log("RME: Using RSI version 1.0"))
    found, probes = asked(realm)
    assert (found.scope, found.tee) == ("guest", "cca") and probes["guest.provider"].outcome == UNKNOWN
    realm["exists"].update({"/sys/module/arm_cca_guest": True, "/sys/kernel/config/tsm/report": True})
    found, probes = asked(realm)
    assert found.verdict == "ready" and probes["guest.provider"].outcome == PASS


def test_a_driver_that_is_part_of_the_kernel_is_found_in_its_list():
    realm = document(kernel_log=log("RME: Using RSI version 1.0"))
    realm["exists"]["/sys/kernel/config/tsm/report"] = True
    path = "/lib/modules/6.18.0/modules.builtin"
    realm["files"][path] = "kernel/fs/ext4/ext4.ko\nkernel/drivers/virt/coco/arm-cca-guest/arm-cca-guest.ko\n"
    found, probes = asked(realm)
    assert found.verdict == "ready" and "part of the kernel" in probes["guest.provider"].observed
    recorder = Recorder(RecordedHost(realm))
    survey(recorder)
    assert recorder.document()["files"][path] == "kernel/drivers/virt/coco/arm-cca-guest/arm-cca-guest.ko"


def test_a_provider_of_another_tee_is_a_fault():
    realm = document(kernel_log=log("RME: Using RSI version 1.0"))
    realm["exists"]["/sys/kernel/config/tsm/report"] = True
    realm["directories"]["/sys/kernel/config/tsm/report"] = ["mine"]
    realm["files"]["/sys/kernel/config/tsm/report/mine/provider"] = "arm_cca_guest\n"
    found, probes = asked(realm)
    assert probes["guest.provider"].outcome == PASS and found.identity["provider"] == "arm_cca_guest"
    realm["files"]["/sys/kernel/config/tsm/report/mine/provider"] = "sev_guest\n"
    assert asked(realm)[1]["guest.provider"].outcome == FAIL


def test_kvm_is_asked_without_starting_a_machine(tmp_path):
    assert {local.KVM_GET_API_VERSION, local.KVM_CHECK_EXTENSION} == {0xAE00, 0xAE03}
    host = LocalHost(root=str(tmp_path))
    assert isinstance(host.kvm(), Unreadable) and host.kvm().kind == "absent"
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "kvm").write_bytes(b"")
    assert isinstance(host.kvm(), Unreadable) and isinstance(host.kvm(1 << 70), Unreadable)
