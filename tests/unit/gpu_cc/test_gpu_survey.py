# SPDX-License-Identifier: GPL-3.0-or-later
"""The look at a machine's GPUs over recordings: what is found, what is wrong and how it is named, and that nobody who uses a GPU is disturbed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError, HostError
from ansible_collections.attested.ai.plugins.module_utils.target.gpu import holders, inventory, models, rules
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.survey import Kept, recorded, survey
from ansible_collections.attested.ai.plugins.module_utils.target.probes.local import LocalHost
from ansible_collections.attested.ai.plugins.module_utils.target.probes.recording import RecordedHost, Recorder
from gpu_lab import Inside, switched

RECORDED = Path(__file__).parent / "recorded"
NAMES = sorted(path.stem for path in RECORDED.glob("*.json"))


def document(name: str) -> dict:
    return json.loads((RECORDED / f"{name}.json").read_text())


def look(recording: dict, **options) -> dict:
    ask, held = recorded(recording)
    return survey(RecordedHost(recording), ask, held, options.pop("named", {}), **options)


def live(machine, tool=True) -> dict:
    bench = Inside(machine)
    return survey(LocalHost(root=str(machine.root)), bench.ask if tool else None, bench.holders, {})


def wrong(found: dict) -> set[str]:
    return {probe["id"] for probe in found["probes"] if probe["outcome"] in ("fail", "unknown")}


@pytest.mark.parametrize(
    ("name", "gpus", "switches", "model", "mode", "supported"),
    [
        ("h100", 1, 0, "H100", "off", ("on", "ppcie")), ("hgx-h100", 8, 4, "H100", "ppcie", ("on", "ppcie")),
        ("hgx-h200", 8, 4, "H200", "off", ("on", "ppcie")), ("hgx-b200", 8, 0, "B200", "on", ("on", "on")),
        ("rtx", 2, 0, "RTX PRO 6000 Server", "off", ("on", "")),
    ],
)  # fmt: skip
def test_good_machines_are_ready(name, gpus, switches, model, mode, supported):
    found = look(document(name))
    assert found["verdict"] == "ready" and wrong(found) == set()
    kinds = [device["kind"] for device in found["devices"]]
    assert (kinds.count("gpu"), kinds.count("switch")) == (gpus, switches)
    assert {device["model"] for device in found["devices"] if device["kind"] == "gpu"} == {model}
    assert found["mode"] == mode and (found["supported"]["single"], found["supported"]["multi"]) == supported
    assert all(device["iommu_group"] and device["driver"] == "vfio-pci" and device["vfio"] for device in found["devices"])
    assert len(found["rows"]) == gpus + switches and {row["outcome"] for row in found["rows"]} == {"ok"}


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("mixed", {"gpu.generation"}), ("unknown", {"gpu.known", "gpu.matrix"}), ("vanished", {"gpu.present", "gpu.topology", "gpu.mode", "gpu.pending"}),
        ("half", {"gpu.record", "gpu.mode", "gpu.pending"}),
        ("host-driver", {"gpu.driver", "gpu.binding", "gpu.dma-entry-limit", "gpu.mode", "gpu.pending", "gpu.vbios"}),
    ],
)  # fmt: skip
def test_each_fault_is_named_by_its_probe(name, ids):
    found = look(document(name), wanted=("0000:90:00.0",) if name == "vanished" else ())
    assert wrong(found) == ids and found["verdict"] == "not-ready"
    for probe in found["probes"]:
        assert probe["id"].startswith("gpu.") and probe["area"] == "gpu" and (probe["outcome"] not in ("fail", "unknown") or probe["fix"])


def test_a_device_that_a_container_uses_is_not_asked():
    found = look(document("host-driver"))
    assert found["devices"][0]["mode"] == "unknown" and found["devices"][0]["mode_source"] == "not asked"
    assert found["users"] == [{"device": "0000:3a:00.0", "pid": 77, "kind": "container", "name": "python3 in docker 0123456789ab"}]


def test_without_the_tool_modes_are_unknown_and_the_rest_is_told(machine):
    hgx = machine("hgx-h100")
    found = live(hgx, tool=False)
    assert found["mode"] == "unknown" and wrong(found) == {"gpu.mode", "gpu.pending"} and found["verdict"] == "unknown"
    switched(hgx, "ppcie")
    found = live(hgx, tool=False)
    assert found["mode"] == "ppcie" and {device["mode_source"] for device in found["devices"]} == {"remembered"}


def test_where_users_are_hidden_nothing_is_asked(machine, monkeypatch):
    one = machine("h100")

    def hidden(*_args):
        raise HostError("open files are hidden", code="gpu-denied")

    monkeypatch.setattr(holders, "scan", hidden)
    found = live(one)
    assert found["users_hidden"] == "open files are hidden" and found["mode"] == "unknown" and one.calls() == []


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_of_a_recording_judges_the_same(name):
    before = document(name)
    ask, held = recorded(before)
    recorder, kept = Recorder(RecordedHost(before)), Kept(ask, held)
    found = survey(recorder, kept.ask, kept.holders, {})
    assert look(dict(recorder.document(), gpu=kept.section())) == found


@pytest.mark.parametrize("section", [[], 7, "x", {"tool": []}, {"holders": {}}, {"tool": None, "holders": [7]}, {"holders": [{"pid": "x"}]}])
def test_a_section_that_is_none_is_refused(section):
    recording = dict(document("h100"), gpu=section)
    with pytest.raises(FormatError):
        look(recording)


def test_what_was_not_recorded_could_not_be_read():
    recording = document("h100")
    recording["gpu"] = {"tool": {}, "holders": []}
    found = look(recording)
    assert found["mode"] == "unknown" and "gpu.mode" in wrong(found)
    del recording["gpu"]
    assert look(recording)["users_hidden"]


def test_a_machine_without_gpus_is_not_ready(machine):
    found = live(machine("none"))
    assert found["verdict"] == "not-ready" and wrong(found) == {"gpu.present"} and found["devices"] == []


def test_lockdown_and_limits_are_seen(machine):
    one = machine("h100")
    one.put("sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
    (one.root / "dev/iommu").unlink()
    assert wrong(live(one, tool=False)) >= {"gpu.lockdown", "gpu.dma-entry-limit"}
    one.put("sys/module/vfio_iommu_type1/parameters/dma_entry_limit", "1048576\n")
    one.put("sys/kernel/security/lockdown", "[none] integrity confidentiality\n")
    assert not wrong(live(one, tool=False)) & {"gpu.lockdown", "gpu.dma-entry-limit"}


def test_a_neighbour_in_the_group_that_is_driven_is_named(machine):
    one = machine("h100")
    (one.root / "sys/kernel/iommu_groups/40/devices/0000:3b:00.0").mkdir()
    one.put("sys/bus/pci/devices/0000:3b:00.0/vendor", "0x8086\n")
    one.put("sys/bus/pci/devices/0000:3b:00.0/class", "0x010802\n")
    one.put("sys/bus/pci/devices/0000:3b:00.0/uevent", "DRIVER=nvme\n")
    assert wrong(live(one)) == {"gpu.iommu-group"}
    one.put("sys/bus/pci/devices/0000:3b:00.0/class", "0x060400\n")
    assert wrong(live(one)) == set(), "a bridge may be in the group"


def test_a_loaded_driver_is_a_fault_even_if_nothing_is_bound(machine):
    one = machine("h100")
    one.put("sys/module/nouveau/refcnt", "0\n")
    assert wrong(live(one)) == {"gpu.driver"}


# tables


def test_a_switch_is_known_by_its_full_class(machine):
    hgx = machine("hgx-h100")
    hgx.put("sys/bus/pci/devices/0000:03:00.0/class", "0x060400\n")
    found = inventory.read_inventory(LocalHost(root=str(hgx.root)))
    assert len(found.switches) == 3 and len(found.gpus) == 8


@pytest.mark.parametrize(
    ("number", "architecture"),
    [(0x2330, "hopper"), (0x2335, "hopper"), (0x2901, "blackwell"), (0x3182, "blackwell"), (0x2BB5, "blackwell"), (0x20B5, "ampere"), (0x2204, "ampere"),
     (0x26B9, "ada")],
)  # fmt: skip
def test_architectures_by_device_id(number, architecture):
    chip = models.chip_of(number)
    assert chip is not None and chip.architecture == architecture


def test_every_named_model_has_a_chip_and_every_model_of_the_matrix_a_name():
    assert all(models.chip_of(number) for number in models.NAMES)
    assert {model for line in models.MATRIX for model in line.models} <= set(models.NAMES.values())
    assert models.chip_of(0x3FFF) is None


@pytest.mark.parametrize(
    ("version", "least", "older"),
    [("96.00.5E.00.01", "96.00.5E", False), ("96.00.5D.FF", "96.00.5E", True), ("96.00.74.00.1A", "96.00.5E", False), ("1.6.0", "1.7.0", True),
     ("1.7.0", "1.7.0", False), ("1.10.0", "1.7.0", False)],
)  # fmt: skip
def test_versions_are_compared_number_by_number(version, least, older):
    assert rules.older(version, least) is older


@pytest.mark.parametrize("text", ["3a:00", "gpu", "0000:3a:00.8", "", "0000:3a:00.0; rm -rf", "10de:2330"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(HostError) as raised:
        inventory.addresses([text])
    assert raised.value.code == "gpu-address"


# who uses a device


def process(machine, pid, comm="python3", cgroup="0::/user.slice\n", maps="", links=()):
    place = machine.root / f"proc/{pid}"
    (place / "fd").mkdir(parents=True)
    machine.put(f"proc/{pid}/comm", comm + "\n")
    machine.put(f"proc/{pid}/cgroup", cgroup)
    machine.put(f"proc/{pid}/maps", maps)
    for number, target in enumerate(links):
        (place / "fd" / str(number)).symlink_to(target)


def found_users(machine, **options):
    devices = inventory.read_inventory(LocalHost(root=str(machine.root))).devices
    return [(holder.bdf, holder.pid, holder.kind, holder.name) for holder in holders.scan(devices, str(machine.root), **options)]


def test_nodes_are_known_by_their_numbers(machine, monkeypatch):
    import os

    one = machine("h100")
    process(one, 9, "qemu-system-x86", links=("/dev/vfio/devices/vfio0", "/dev/null"))
    process(one, 10, links=("/dev/renderD128",))
    process(one, 11, links=("/dev/null",))
    one.put("sys/bus/pci/devices/0000:3a:00.0/drm/renderD128/dev", "226:128\n")
    real, numbers = os.stat, {"/dev/vfio/devices/vfio0": os.makedev(510, 0), "/dev/renderD128": os.makedev(226, 128), "/dev/null": os.makedev(1, 3)}

    class Status:
        def __init__(self, number):
            self.st_rdev = number

    def stat(path, *args, **options):
        target = os.readlink(path) if os.path.islink(path) else ""
        return Status(numbers[target]) if target in numbers else real(path, *args, **options)

    monkeypatch.setattr(os, "stat", stat)
    assert found_users(one) == [("0000:3a:00.0", 9, "virtual machine", "qemu-system-x86"), ("0000:3a:00.0", 10, "process", "python3")]
    assert found_users(one, own=9) == [("0000:3a:00.0", 10, "process", "python3")]


def test_a_handle_without_a_name_counts_for_all_devices(machine):
    hgx = machine("rtx")
    process(hgx, 9, "cloud-hyperviso", links=("anon_inode:[vfio-device]",))
    assert {bdf for bdf, *_rest in found_users(hgx)} == {"0000:19:00.0", "0000:2a:00.0"}


@pytest.mark.parametrize(
    ("cgroup", "kind"),
    [("0::/system.slice/docker-%s.scope" % ("a" * 64), "container"),
     ("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-%s.scope" % ("b" * 64), "container"),
     ("0::/machine.slice/libpod-%s.scope" % ("c" * 64), "container"), ("0::/user.slice/session-1.scope", "process")],
)  # fmt: skip
def test_containers_are_told_from_processes(machine, cgroup, kind):
    one = machine("h100")
    process(one, 9, cgroup=cgroup + "\n", maps="7f rw-s /sys/devices/pci0000:37/0000:3a:00.0/resource0\n")
    assert [user[2] for user in found_users(one)] == [kind]


def test_hidden_processes_are_no_answer(machine, monkeypatch):
    import os

    one = machine("h100")
    process(one, 9)
    real = os.listdir

    def listdir(path):
        if str(path).endswith("proc/9/fd"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(HostError) as raised:
        found_users(one)
    assert raised.value.code == "gpu-denied" and "become" in raised.value.fix
