# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows from the GPUs that a guest was given, and the whole look at it, over trees of sysfs."""

from __future__ import annotations

import pytest

from ansible_collections.attested.ai.plugins.module_utils.target.gpu.inventory import read_inventory
from ansible_collections.attested.ai.plugins.module_utils.target.gpu_guest.look import look
from ansible_collections.attested.ai.plugins.module_utils.target.gpu_guest.topology import expected_mode, topology
from ansible_collections.attested.ai.plugins.module_utils.target.probes.recording import RecordedHost

from .guests_lab import GRS_NOT_READY, LOGS, OPEN, PROPRIETARY, SMI_PPCIE, SMI_WAITS

SWITCH = "switch"
H100, H100_PCIE, H200, B200, RTX, A100 = 0x2330, 0x2331, 0x2335, 0x2901, 0x2BB5, 0x20B0
UNIT = "Id=%s\nLoadState=loaded\nActiveState=%s\nUnitFileState=enabled\n"


def machine(devices, persistenced="active", fabric="inactive", lost=(), **given):
    files, names = {"/proc/cmdline": "ro\n"}, []
    for number, device in enumerate(devices):
        bdf = "0000:%02x:00.0" % (number + 1)
        names.append(bdf)
        base = "/sys/bus/pci/devices/%s/" % bdf
        files[base + "vendor"] = "0x10de\n"
        files[base + "device"] = "0x22a3\n" if device == SWITCH else "0x%04x\n" % device
        files[base + "class"] = "0x068000\n" if device == SWITCH else "0x030200\n"
        if number in lost:
            files[base + "config"] = {"hex": "ffffffff"}
    dwords = "RmEnableProtectedPcie=0x1" if SWITCH in devices else ""
    files["/proc/driver/nvidia/params"] = 'EnableMSI: 1\nNvLinkDisable: %d\nRegistryDwords: "%s"\n' % (len(devices) == 1 and devices[0] in (H100, B200), dwords)
    files.update(given.pop("files", {}))
    shown = UNIT % ("nvidia-persistenced.service", persistenced) + "\n" + UNIT % ("nvidia-fabricmanager.service", fabric)
    commands = {
        "systemctl show --property=Id,LoadState,ActiveState,UnitFileState nvidia-persistenced.service nvidia-fabricmanager.service": {"rc": 0, "out": shown}
    }
    for module in ("ecdh_generic", "ecdsa_generic"):
        commands["modprobe --show-depends " + module] = {"rc": 0, "out": "insmod /lib/modules/x/%s.ko\n" % module}
    commands.update(given.pop("commands", {}))
    return RecordedHost({
        "schema": "attested.ai/tee-recording/1", "kernel": "6.17", "architecture": "x86_64", "files": files, "directories": {"/sys/bus/pci/devices": names},
        "commands": {key: value for key, value in commands.items() if value is not None},
        "kernel_log": {"lines": list(given.pop("log", ())), "complete": True, "source": "/dev/kmsg"},
    })  # fmt: skip


@pytest.mark.parametrize(
    ("devices", "kind", "options", "fabric"),
    [
        ([H100], "single", ("NVreg_NvLinkDisable=1",), False),
        ([H100_PCIE], "single", (), False),
        ([H200] * 8 + [SWITCH] * 4, "ppcie", ('NVreg_RegistryDwords="RmEnableProtectedPcie=0x1"',), True),
        ([B200], "single", ("NVreg_NvLinkDisable=1",), False),
        ([B200] * 8, "multi", (), False),
        ([B200] * 2, "multi", (), False),
        ([RTX], "single", (), False),
    ],
)
def test_options_follow_from_the_topology(devices, kind, options, fabric):
    found = topology(read_inventory(machine(devices)))
    assert (found.kind, found.options, found.fabric_manager, found.problem) == (kind, options, fabric, "")
    assert expected_mode(kind) == ("ppcie" if kind == "ppcie" else "on")


@pytest.mark.parametrize(
    ("devices", "lost", "words"),
    [
        ([], (), "no NVIDIA GPU"),
        ([H100, B200], (), "of blackwell and hopper are mixed"),
        ([H100] * 2, (), "2 GPUs and 0 switches of Hopper"),
        ([H100] * 8, (), "8 GPUs and 0 switches"),
        ([H100] * 8 + [SWITCH] * 3, (), "8 GPUs and 3 switches"),
        ([H100] + [SWITCH] * 4, (), "1 GPUs and 4 switches"),
        ([B200] * 8 + [SWITCH], (), "switches beside B200"),
        ([A100], (), "does no confidential computing"),
        ([H100] * 8 + [SWITCH] * 4, (3,), "0000:04:00.0 fell off the bus"),
    ],
)
def test_what_cannot_work_is_refused_with_a_step(devices, lost, words):
    found = topology(read_inventory(machine(devices, lost=lost)))
    assert found.kind == "none" and words in found.problem and found.fix and expected_mode(found.kind) is None


def smi(query, ready=GRS_NOT_READY, rc=0):
    return {"nvidia-smi conf-compute -q": {"rc": rc, "out": query}, "nvidia-smi conf-compute -grs": {"rc": rc, "out": ready}}


def probes(found):
    return {one["id"].partition(".")[2]: one["outcome"] for one in found["probes"]}


def test_a_good_single_gpu_that_waits_for_its_attestation():
    found = look(machine([H100], files={"/proc/driver/nvidia/version": OPEN}, commands=smi(SMI_WAITS)))
    assert set(probes(found).values()) == {"pass"} and found["verdict"] == "ready", found["probes"]
    assert (found["mode"], found["ready"], found["persistence"], found["driver"], found["lkca"]) == (
        "on", False, True, {"version": "580.95.05", "open": True}, ["ecdh_generic", "ecdsa_generic"],
    )  # fmt: skip
    assert found["findings"] == []


def test_a_good_board():
    host = machine([H200] * 8 + [SWITCH] * 4, fabric="active", files={"/proc/driver/nvidia/version": OPEN}, commands=smi(SMI_PPCIE))
    assert set(probes(look(host)).values()) == {"pass"}


def test_without_the_driver_nvidia_smi_is_not_run():
    asked = []
    host = machine([H100])
    inner = host.command
    host.command = lambda argv: (asked.append(argv), inner(argv))[1]
    found = look(host)
    assert not any("conf-compute" in argv for argv in asked)
    assert probes(found)["driver"] == "fail" and probes(found)["mode"] == "unknown" and found["ready"] is None and found["driver"]["version"] == ""


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"files": {"/proc/driver/nvidia/version": PROPRIETARY}}, "driver"),
        ({"files": {"/proc/driver/nvidia/version": OPEN, "/sys/module/nouveau": ""}}, "nouveau"),
        ({"commands": {**smi(SMI_WAITS), "modprobe --show-depends ecdh_generic": {"rc": 1, "out": ""}}}, "lkca"),
        ({"log": LOGS["aleph-vm#1271"]}, "lkca"),
        ({"persistenced": "failed"}, "persistence"),
        ({"files": {"/proc/driver/nvidia/params": 'NvLinkDisable: 0\nRegistryDwords: ""\n'}}, "options"),
        ({"files": {"/proc/driver/nvidia/params": 'NvLinkDisable: 1\nRegistryDwords: "X=1;RmEnableProtectedPcie=0x1"\n'}}, "options"),
        ({"fabric": "active"}, "fabric-manager"),
        ({"commands": smi(SMI_WAITS.replace("CC State                   : ON", "CC State                   : OFF"))}, "mode"),
        ({"files": {"/proc/driver/nvidia/version": OPEN, "/proc/cmdline": "ro nvrc.smi.srs=1\n"}}, "ready-at-boot"),
    ],
)
def test_each_fault_is_found_alone(given, name):
    files = {"/proc/driver/nvidia/version": OPEN, **given.pop("files", {})}
    host = machine([H100], files=files, commands=given.pop("commands", smi(SMI_WAITS)), **given)
    found = look(host)
    failed = [key for key, outcome in probes(found).items() if outcome == "fail"]
    assert failed == [name], found["probes"]
    assert all(one["fix"] for one in found["probes"] if one["outcome"] == "fail")


def test_kernels_with_the_other_name_will_do():
    commands = {
        **smi(SMI_WAITS),
        "modprobe --show-depends ecdh_generic": {"rc": 1, "out": ""},
        "modprobe --show-depends ecdh": {"rc": 0, "out": "builtin ecdh\n"},
    }
    assert look(machine([H100], files={"/proc/driver/nvidia/version": OPEN}, commands=commands))["lkca"] == ["ecdh", "ecdsa_generic"]


def test_a_driver_that_says_nothing_is_unknown_and_named():
    mismatch = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.126\n"
    found = look(machine([H100], files={"/proc/driver/nvidia/version": OPEN}, commands=smi(mismatch, mismatch, 18)), application="CUDA error 802")
    assert probes(found)["mode"] == "unknown" and [one["id"] for one in found["findings"]] == ["version-mismatch", "error-802"]
