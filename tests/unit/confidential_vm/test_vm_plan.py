# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a guest may start: each thing that stands against it has a name and a step, and nothing else is refused."""

from __future__ import annotations

import copy
import hashlib
import json
import sys
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.vm.policy import snp_policy, weaknesses
from ansible_collections.attested.ai.plugins.plugin_utils.vm_plan import vm_plan
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent))

from vm_lab import CCA, DIGESTS, FIRMWARE, GPU, NONE, QGS, SNP, description, host  # noqa: E402


def ids(*spoiled, **changes) -> list[str]:
    """The ids of the refusals of a good guest in which these things were changed; on a host in which these were."""
    machine = host()
    for path, value in spoiled:
        place = machine
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value
    options = {name: changes.pop(name) for name in ("digests", "running", "debug_confirm", "driver", "coming") if name in changes}
    options.setdefault("digests", DIGESTS)
    return [refusal["id"] for refusal in vm_plan(description(**changes), machine, **options)["refusals"]]


@pytest.mark.parametrize("changes", [{}, SNP, {**CCA, "driver": "qemu"}, NONE])
def test_a_good_guest_on_a_good_host_is_not_refused(changes):
    assert ids(**changes) == []


BROKEN = {"exists": True, "driver": "vfio-pci", "group": "41", "members": [], "holders": []}


@pytest.mark.parametrize(
    ("expected", "spoiled", "changes"),
    [
        ("debug", [], {"policy": 1 << 28 | 1}),
        ("debug", [], {**SNP, "policy": 0xB0000}),
        ("migration", [], {"policy": 1 << 28 | 1 << 29}),
        ("migration", [], {**SNP, "policy": 0x70000}),
        ("policy", [], {"policy": 0}),
        ("policy", [], {"policy": 1 << 28 | 1 << 40}),
        ("policy", [], {**SNP, "policy": 0x10000}),
        ("kernel-unmeasured", [], {**SNP, "kernel_hashes": False}),
        ("kvm", [(("features", "kvm"), False)], {}),
        ("kvm", [], {"accelerator": "tcg"}),
        ("tee-unavailable", [(("features", "tdx"), False)], {}),
        ("tee-unavailable", [(("features", "snp"), False)], SNP),
        ("vsock", [(("features", "vhost_vsock"), False)], {}),
        ("vsock", [(("vsock_cids", "5"), "other")], {}),
        ("firmware-missing", [(("files", FIRMWARE), {"kind": "missing"})], {}),
        ("kernel-missing", [(("files", "/vm/vmlinuz"), {"kind": "missing"})], {}),
        ("kernel-missing", [(("files", "/vm/vmlinuz"), {"kind": "unreadable"})], {}),
        ("disk-missing", [(("files", "/vm/image.raw"), {"kind": "other"})], {}),
        ("emulator-missing", [(("files", "/usr/bin/qemu-system-x86_64"), {"kind": "missing"})], {}),
        ("kernel-differs", [(("files", "/vm/vmlinuz", "sha256"), "00" * 32)], {}),
        ("firmware-differs", [(("files", FIRMWARE, "sha256"), "")], {}),
        ("firmware-untrusted", [], {"digests": {}}),
        ("qgs", [(("files", QGS), {"kind": "missing"})], {}),
        ("memory", [], {"memory_mib": 70000}),
        ("memory", [(("memory", "available_kib"), 4 << 20)], {}),
        ("hugepages", [], {"hugepage_kib": 2048}),
        ("iommufd", [(("features", "iommufd"), False)], {}),
        ("device-missing", [(("devices", GPU, "exists"), False)], {}),
        ("device-missing", [(("devices",), {})], {}),
        ("device-driver", [(("devices", GPU, "driver"), "nvidia")], {}),
        ("device-driver", [(("devices", GPU, "driver"), "")], {}),
        ("device-group", [(("devices", GPU, "group"), "")], {}),
        ("device-group", [(("devices", GPU, "members"), [{"bdf": "0000:17:00.1", "driver": "snd_hda_intel", "bridge": False}])], {}),
        ("device-in-use", [(("devices", GPU, "holders"), [{"pid": 7, "name": "qemu", "vm": "other"}])], {}),
        ("device-in-use", [(("devices", GPU, "holders"), [{"pid": 7, "name": "python3", "vm": ""}])], {}),
        ("port-in-use", [(("listening",), [{"address": "*", "port": 2222}])], {}),
        ("port-in-use", [(("listening",), [{"address": "127.0.0.1", "port": 2222}])], {}),
    ],
)
def test_each_thing_that_stands_against_it_has_its_name(expected, spoiled, changes):
    assert ids(*spoiled, **changes) == [expected]


@pytest.mark.parametrize(
    ("spoiled", "changes"),
    [
        ([(("devices", GPU, "holders"), [{"pid": 7, "name": "qemu", "vm": "guest"}])], {"running": True}),
        ([(("devices", GPU, "members"), [{"bdf": "0000:16:00.0", "driver": "pcieport", "bridge": True}])], {}),
        ([(("devices", GPU, "members"), [{"bdf": "0000:17:00.1", "driver": "vfio-pci", "bridge": False}])], {}),
        ([(("listening",), [{"address": "127.0.0.1", "port": 2222}]), (("memory", "available_kib"), 0)], {"running": True}),
        ([(("listening",), [{"address": "192.0.2.1", "port": 2222}])], {}),
        ([(("vsock_cids", "5"), "guest")], {}),
        ([(("files", "/vm/vmlinuz"), {"kind": "missing"})], {"coming": ["/vm/vmlinuz"]}),
        ([], {"policy": 1 << 28 | 1, "debug_confirm": "guest"}),
    ],
)
def test_what_is_its_own_or_was_agreed_to_is_not_in_its_way(spoiled, changes):
    assert ids(*spoiled, **changes) == []


def test_a_confirmation_is_for_one_guest_and_for_debugging_alone():
    assert ids(policy=1 << 28 | 1, debug_confirm="other") == ["debug"]
    assert ids(policy=1 << 28 | 1 << 29, debug_confirm="guest") == ["migration"]


def test_everything_is_said_at_once_with_a_step_for_each():
    machine = host(features={"kvm": False, "iommufd": False, "vhost_vsock": False, "tdx": False, "snp": False, "cca": False})
    found = vm_plan(description(memory_mib=10**6), machine)["refusals"]
    assert {item["id"] for item in found} >= {"kvm", "tee-unavailable", "vsock", "memory", "iommufd", "firmware-untrusted"}
    assert all(item["what"] and item["fix"] for item in found)


@pytest.mark.parametrize(
    ("changes", "protection", "end"),
    [
        ({}, "tdx", "root-fs"),
        (SNP, "sev-snp", "root-fs"),
        ({**SNP, "cmdline": "ro root=/dev/vda1"}, "sev-snp", "kernel"),
        ({**SNP, "cmdline": "ro root=/dev/vda1 usrhash=" + "cd" * 32}, "sev-snp", "kernel"),
        ({**SNP, "kernel_hashes": False}, "sev-snp", "launch"),
        ({"boot": "uefi", "kernel": None, "initrd": None, "cmdline": None}, "tdx", "launch"),
        (NONE, "unprotected", "none"),
    ],
)
def test_how_far_the_measurement_vouches_is_said(changes, protection, end):
    found = vm_plan(description(**changes), host(), digests=DIGESTS)
    assert (found["protection"], found["chain_end"], found["protected"]) == (protection, end, protection != "unprotected")
    assert protection in found["definition"]
    assert (end == "root-fs") == (not any("released" in note or "unprotected" in note for note in found["notes"]))


def test_an_ordinary_guest_is_never_called_protected():
    found = vm_plan(description(**NONE), host())
    assert found["protected"] is False and found["config"] == "" and found["notes"][0].startswith("unprotected")
    for driver in ("libvirt", "qemu"):
        text = vm_plan(description(**NONE), host(), driver=driver)["definition"]
        assert "unprotected" in text and "launchSecurity" not in text and "confidential-guest-support" not in text


@pytest.mark.parametrize(("changes", "algorithm"), [({}, "sha384"), (SNP, "sha256"), ({**CCA}, "sha512")])
def test_the_configuration_is_in_the_report(changes, algorithm):
    driver = "qemu" if changes.get("tee") == "cca" else "libvirt"
    found = vm_plan(description(**changes), host(), driver=driver, digests=DIGESTS, config={"model": "m1"})
    assert found["config"] == hashlib.new(algorithm, found["config_document"].encode()).hexdigest()
    document = json.loads(found["config_document"])
    assert document["config"] == {"model": "m1"} and document["files"]["vmlinuz"] == DIGESTS["/vm/vmlinuz"] and document["cmdline"].startswith("ro ")
    other = vm_plan(description(**changes), host(), driver=driver, digests=DIGESTS, config={"model": "m2"})
    assert other["config"] != found["config"] and other["digest"] != found["digest"]
    given_text = vm_plan(description(**changes), host(), driver=driver, digests=DIGESTS, init_data="version = 1\n")
    assert given_text["config"] == hashlib.new(algorithm, b"version = 1\n").hexdigest()
    # As a training agreement has it: SHA-256, and zeros behind it.
    short = vm_plan(description(**changes), host(), driver=driver, digests=DIGESTS, init_data="version = 1\n", init_data_algorithm="sha256")
    assert short["config"] == hashlib.sha256(b"version = 1\n").hexdigest().ljust(len(given_text["config"]), "0") and short["config_algorithm"] == "sha256"
    for wrong in ({"init_data_algorithm": "sha256"}, {"init_data": "x", "init_data_algorithm": "md5"}):
        with pytest.raises(FormatError):
            vm_plan(description(**changes), host(), driver=driver, digests=DIGESTS, **wrong)


def test_the_digest_tells_definitions_and_contents_apart_and_nothing_else():
    one = vm_plan(description(), host(), digests=DIGESTS)["digest"]
    assert vm_plan(copy.deepcopy(description()), host(nodes=[], listening=[]), digests=DIGESTS)["digest"] == one
    assert vm_plan(description(), host(), digests={**DIGESTS, "/vm/vmlinuz": "ef" * 32})["digest"] != one
    for change in ({"vcpus": 5}, {"cmdline": "ro"}, {"policy": 1 << 28 | 1 << 30}, {"devices": []}, {"vsock_cid": 6}):
        assert vm_plan(description(**change), host(), digests=DIGESTS)["digest"] != one


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"surprise": 1}, "unknown: 'surprise'"),
        ({"tee": "sgx"}, "none of tdx, snp, cca, none"),
        ({"name": "../x"}, "vm.name"),
        ({"memory_mib": 8}, "not between"),
        ({"memory_mib": True}, "no number"),
        ({"memory_mib": "8 GiB"}, "no number"),
        ({"kernel": "/vm/a b"}, "vm.kernel"),
        ({"kernel": "/vm/../etc/shadow"}, "goes up"),
        ({"kernel": "/vm/a,id=x"}, "vm.kernel"),
        ({"kernel": None}, "vm.kernel"),
        ({"firmware": None}, "starts in firmware"),
        ({"cmdline": "a\nb"}, "vm.cmdline"),
        ({"devices": ["17:00.0"]}, "no address"),
        ({"devices": [GPU, GPU]}, "occurs twice"),
        ({"disks": [{"path": "/a", "serial": "x"}, {"path": "/b", "serial": "x"}]}, "serial occurs twice"),
        ({"disks": [{"path": "/a", "serial": "x", "cache": "none"}]}, "unknown: 'cache'"),
        ({"disks": "x"}, "no list"),
        ({"network": {"kind": "bridge"}}, "vm.network.source"),
        ({"network": {"kind": "bridge", "source": "br0", "forwards": [{"host_port": 1, "guest_port": 1}]}}, "kind user"),
        ({"network": {"kind": "user", "forwards": [{"host_port": 0, "guest_port": 1}]}}, "host_port"),
        ({"network": {"kind": "tap"}}, "none of none, user"),
        ({"vsock_cid": 2}, "host's own"),
        ({**SNP, "quoting": {"path": QGS}}, "only a TD"),
        ({"config": "ab"}, "the field has 48"),
        ({"boot": "uefi"}, "boot: direct"),
        ({"quoting": {"cid": 3, "port": 4050}}, "vm.quoting.cid"),
        ({"cpuset": "0-"}, "vm.cpuset"),
    ],
)
def test_a_description_that_is_none_is_refused(changes, words):
    with pytest.raises(FormatError, match=words):
        vm_plan(description(**changes), host())


def test_options_that_fit_nothing_are_refused():
    with pytest.raises(FormatError, match="vm_host_info"):
        vm_plan(description(), {})
    with pytest.raises(FormatError, match="none of libvirt, qemu"):
        vm_plan(description(), host(), driver="xen")
    with pytest.raises(FormatError, match="no SHA-256"):
        vm_plan(description(), host(), digests={"/vm/vmlinuz": "AB" * 32})
    with pytest.raises(FormatError, match="Use the driver qemu"):
        vm_plan(description(**CCA), host())
    with pytest.raises(FormatError, match="Give quoting.path"):
        vm_plan(description(quoting={"cid": 2}), host())
    with pytest.raises(FormatError, match="no dictionary"):
        vm_plan([], host())


# policy


def test_the_policy_of_flags_is_the_number_of_the_guides():
    assert snp_policy({"smt_allowed": True}) == 0x30000 and snp_policy({}) == 0x20000
    assert snp_policy({"smt_allowed": True, "debug": True, "abi_major": 1, "abi_minor": 51}) == 0xB0000 | 1 << 8 | 51


@pytest.mark.parametrize("given_", [{"smt": True}, {"debug": 1}, {"abi_major": 256}, {"abi_minor": True}, [], None, "0x30000"])
def test_what_is_no_policy_is_refused(given_):
    with pytest.raises(FormatError, match="snp_policy"):
        snp_policy(given_)


@given(st.integers(0, 2**64 - 1))
def test_no_number_is_taken_with_debugging_or_migration(number):
    snp, tdx = ({name for name, _what in weaknesses(tee, number)} for tee in ("snp", "tdx"))
    assert ("debug" in snp) == bool(number >> 19 & 1) and ("migration" in snp) == bool(number >> 18 & 1)
    assert ("debug" in tdx) == bool(number & 0xFF) and ("migration" in tdx) == bool(number >> 29 & 1)
