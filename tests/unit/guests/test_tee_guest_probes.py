# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest's operating system gives away, over recorded guests: the good one, and one for each fault."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from ansible_collections.attested.ai.plugins.module_utils.dossier.guest import told
from ansible_collections.attested.ai.plugins.module_utils.target.guest_os import ssh
from ansible_collections.attested.ai.plugins.module_utils.target.guest_os.look import look
from ansible_collections.attested.ai.plugins.module_utils.target.guest_os.plain_memory import fstab_swaps
from ansible_collections.attested.ai.plugins.module_utils.target.guest_os.sources import time_sources
from ansible_collections.attested.ai.plugins.module_utils.target.probes.recording import RecordedHost

from .guests_lab import GUEST, guest

MEMORY = ssh.Ssh("memory", ("ssh-ed25519 AAAA",), ("/run/attested_hostkeys/ed25519_key.pub",), "")


def probe(found, name):
    return next(one for one in found["probes"] if one["id"] == "guest-os." + name)


def test_a_guest_that_keeps_everything():
    found = look(guest(), MEMORY)
    assert found["verdict"] == "ready" and found["counts"]["pass"] == 11, found["probes"]
    assert (found["tee"], found["cloud"], found["agents"], found["told"]) == ("tdx", "kvm", [], [])
    assert found["driver"] == {"module": "tdx-guest", "available": "module"} and found["time_service"] == "chrony.service"


FAULTS = [
    ("swap", {"files": {"/proc/swaps": "Filename Type Size Used Priority\n/dev/vda2 partition 1 0 -2\n"}}, "/dev/vda2"),
    (
        "swap",
        {"files": {"/proc/swaps": "Filename Type Size Used Priority\n/dev/zram0 partition 1 0 -2\n", "/sys/block/zram0/backing_dev": "/dev/vdb\n"}},
        "writes back to '/dev/vdb'",
    ),
    ("swap-at-boot", {"files": {"/etc/fstab": "/swap none swap sw 0 0\n"}, "units": {"swap.target": "loaded active static"}}, "'/swap'"),
    ("core-dumps", {"files": {"/proc/sys/kernel/core_pattern": "|/usr/lib/systemd/systemd-coredump %P\n"}}, "systemd-coredump"),
    ("core-dumps", {"files": {"/proc/sys/fs/suid_dumpable": "2\n"}}, "suid_dumpable '2'"),
    ("crash-kernel", {"files": {"/sys/kernel/kexec_crash_loaded": "1\n"}}, "is loaded"),
    (
        "crash-kernel",
        {"files": {"/proc/cmdline": "ro crashkernel=256M\n"}, "units": {"kdump-tools.service": "loaded inactive enabled"}},
        "kdump-tools.service is enabled",
    ),
    ("entropy-cpu", {"files": {"/proc/cpuinfo": "vendor_id\t: GenuineIntel\nflags\t\t: fpu hypervisor tdx_guest\n"}}, "neither RDRAND nor RNDR"),
    ("entropy-cpu", {"files": {"/proc/cmdline": "ro random.trust_cpu=off\n"}}, "told not to trust"),
    ("entropy-ready", {"files": {"/proc/sys/kernel/random/entropy_avail": "12\n"}}, "12 bits"),
    ("time", {"units": {"chrony.service": "loaded inactive disabled"}}, "what the host says"),
    ("time", {"files": {"/etc/chrony/chrony.conf": "refclock PHC /dev/ptp_hyperv poll 3\n"}}, "PHC /dev/ptp_hyperv"),
    ("time", {"files": {"/etc/chrony/chrony.conf": "server 169.254.169.123 prefer iburst\n"}}, "169.254.169.123"),
    ("driver", {"exists": {"/dev/tdx_guest": False}}, "none of /dev/tdx_guest"),
    ("driver-at-boot", {"directories": {"/etc/modules-load.d": []}}, "no file under"),
    ("driver-at-boot", {"commands": {"modprobe --show-depends tdx-guest": {"rc": 1, "out": ""}}}, "is not among the modules"),
    ("configfs", {"files": {"/proc/mounts": "sysfs /sys sysfs rw 0 0\n"}}, "it is not"),
]


@pytest.mark.parametrize(("name", "changes", "words"), FAULTS)
def test_each_fault_is_found_alone_and_has_a_step(name, changes, words):
    found = look(guest(**changes), MEMORY)
    failed = [one["id"] for one in found["probes"] if one["outcome"] == "fail"]
    assert failed == ["guest-os." + name] and found["verdict"] == "not-ready"
    assert words in probe(found, name)["observed"] and probe(found, name)["fix"]


def test_what_cannot_be_read_is_unknown_and_never_good():
    hidden = {"unreadable": "may not be read", "kind": "denied"}
    for path, name in (
        ("/proc/swaps", "swap"),
        ("/proc/sys/kernel/core_pattern", "core-dumps"),
        ("/proc/cmdline", "entropy-cpu"),
        ("/proc/mounts", "configfs"),
        ("/proc/sys/kernel/random/entropy_avail", "entropy-ready"),
        ("/sys/kernel/kexec_crash_loaded", "crash-kernel"),
    ):
        found = look(guest(files={path: hidden}), MEMORY)
        assert probe(found, name)["outcome"] == "unknown" and probe(found, name)["fix"], name
        assert found["verdict"] == "unknown"
    silent = look(guest(commands={key: None for key in GUEST["commands"] if key.startswith("systemctl")}), MEMORY)
    assert probe(silent, "time")["outcome"] == "unknown" and silent["agents"] is None
    assert "systemd does not tell" in silent["told"][0]["can"]


def test_swap_in_memory_is_let_be():
    found = look(
        guest(files={"/proc/swaps": "Filename Type Size Used Priority\n/dev/zram0 partition 1 0 100\n", "/sys/block/zram0/backing_dev": "none\n"}), MEMORY
    )
    assert found["verdict"] == "ready" and found["swaps"] == ["/dev/zram0"]


@pytest.mark.parametrize(("backing", "layers"), [(None, ["zram"]), ("none\n", ["zram"]), ("/dev/vdb\n", ["zram", "written-back"])])
def test_zram_with_a_disk_behind_it_is_not_told_as_memory(backing, layers):
    files = {"/proc/swaps": "Filename Type Size Used Priority\n/dev/zram0 partition 1 0 100\n", "/sys/block/zram0/dev": "252:0\n"}
    found = look(guest(files={**files, "/sys/block/zram0/backing_dev": backing}, directories={"/sys/block": ["zram0"], "/sys/block/zram0": []}), MEMORY)
    assert found["storage"]["swaps"] == [{"name": "/dev/zram0", "layers": layers}]


def test_what_files_and_models_lie_on():
    """A root under dm-verity, state under LVM on dm-crypt, swap beside it, a share of the host, and a model that only its unit sees."""
    line = "%d 1 %s / %s rw - %s source rw%s\n"
    own = "".join((
        line % (20, "253:0", "/", "erofs", ""), line % (21, "253:2", "/srv/my\\040state", "ext4", ""), line % (22, "8:1", "/boot", "vfat", ""),
        line % (23, "0:24", "/run", "tmpfs", ",noswap"), line % (24, "0:25", "/proc", "proc", ""), line % (25, "0:26", "/mnt", "virtiofs", ""),
    ))  # fmt: skip
    secret = "5ec4e7" * 10 + "abcd"
    unit = "attested-model-minilm@0d5c4f3e9f7b1a7f.service"
    document = guest(
        files={
            "/proc/swaps": "Filename Type Size Used Priority\n/dev/dm-1 partition 1 0 -2\n/dev/sda1 partition 1 0 -3\n/swap file 1 0 -4\n",
            "/proc/self/mountinfo": own, "/proc/77/mountinfo": line % (30, "0:60", "/var/lib/attested-model/open", "tmpfs", ",noswap"),
            "/sys/block/sda/dev": "8:0\n", "/sys/block/sda/sda1/dev": "8:1\n", "/sys/block/dm-0/dev": "253:0\n", "/sys/block/dm-1/dev": "253:1\n",
            "/sys/block/dm-2/dev": "253:2\n", "/sys/block/dm-0/dm/name": "root\n", "/sys/block/dm-1/dm/name": "locked\n", "/sys/block/dm-2/dm/name": "state\n",
            "/sys/block/dm-0/dm/uuid": "CRYPT-VERITY-00ff-root\n",
        },
        directories={
            "/sys/block": ["dm-0", "dm-1", "dm-2", "sda"], "/sys/block/sda": ["sda1", "queue"], "/sys/block/dm-0/slaves": ["sda1"],
            "/sys/block/dm-1/slaves": ["sda1"], "/sys/block/dm-2/slaves": ["dm-1"],
        },
        commands={
            "dmsetup table": {"rc": 0, "out": "locked: 0 9 crypt aes-xts-plain64 %s 0 8:1 0\nstate: 0 9 linear 253:1 0\n" % secret},
            "systemctl show --property=Id,MainPID attested-model-*@*.service": {"rc": 0, "out": "MainPID=77\nId=%s\n\nMainPID=0\nId=ended\n" % unit},
        },
    )  # fmt: skip
    found = look(document, MEMORY)["storage"]
    assert {one["path"]: one["layers"] for one in found["mounts"]} == {
        "/": ["verity"], "/srv/my state": ["linear", "crypt"], "/boot": [], "/run": ["memory"], "/mnt": None,
    }  # fmt: skip
    assert {one["name"]: one["layers"] for one in found["swaps"]} == {"/dev/dm-1": ["crypt"], "/dev/sda1": [], "/swap": None}
    assert [(one["name"], one["target"], one["cipher"]) for one in found["devices"]] == [
        ("root", "verity", ""), ("locked", "crypt", "aes-xts-plain64"), ("state", "linear", ""),
    ]  # fmt: skip
    assert found["models"] == [{"unit": unit, "mounts": [{"path": "/var/lib/attested-model/open", "kind": "tmpfs", "layers": ["memory"], "noswap": True}]}]
    assert secret not in str(found)
    # What a dossier makes of it, and of anything else.
    assert told(json.dumps({"storage": found}).encode()).startswith(
        "in the guest's own words, of which no evidence speaks: swap: /dev/dm-1 on crypt, /dev/sda1 on a disk as it is, /swap on what is not told; model: "
        + unit + " /var/lib/attested-model/open tmpfs on memory (noswap); files: / erofs on verity, /srv/my state ext4 on linear on crypt"
    )  # fmt: skip
    for strange in (b"\xff", b"[]", b"{}", b'{"storage": {"swaps": 1, "models": [], "mounts": []}}', b'{"storage": 5}', b"[" * 100_000):
        assert told(strange) == "kept in the guest's own words, of which no evidence speaks"


def test_agents_are_named_with_what_they_can_do():
    units = {
        "walinuxagent.service": "loaded active enabled",
        "waagent.service": "loaded active alias walinuxagent.service",
        "cloud-init.service": "loaded inactive enabled",
        "google-guest-agent.service": "masked inactive masked",
        "amazon-ssm-agent.service": "loaded inactive disabled",
    }
    found = look(guest(units=units, files={"/sys/class/dmi/id/chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77\n"}), MEMORY)
    assert {agent["name"]: agent["state"] for agent in found["agents"]} == {
        "waagent": "runs",
        "google-guest-agent": "masked",
        "amazon-ssm-agent": "off",
        "cloud-init": "runs",
    }
    # An alias cannot be masked.
    assert found["agents"][0]["units"] == ["walinuxagent.service"]
    assert [row["subject"] for row in found["told"]] == ["agent waagent", "agent cloud-init"] and "resets passwords" in found["told"][0]["can"]
    assert found["cloud"] == "azure"


@pytest.mark.parametrize(
    ("field", "value", "cloud"),
    [
        ("sys_vendor", "Google", "gcp"),
        ("product_name", "Google Compute Engine", "gcp"),
        ("sys_vendor", "Amazon EC2", "aws"),
        ("sys_vendor", "Microsoft Corporation", "none"),
    ],
)
def test_clouds_are_told_by_their_tables(field, value, cloud):
    assert look(guest(files={"/sys/class/dmi/id/sys_vendor": None, "/sys/class/dmi/id/" + field: value + "\n"}), MEMORY)["cloud"] == cloud


def test_azure_without_a_visible_tee_needs_the_driver_of_its_tpm():
    files = {
        "/sys/class/dmi/id/chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77\n",
        "/proc/cpuinfo": "vendor_id\t: AuthenticAMD\nflags\t\t: rdrand hypervisor\n",
    }
    document = guest(
        files=files, exists={"/dev/tdx_guest": None, "/dev/tpmrm0": True}, commands={"modprobe --show-depends tpm_crb": {"rc": 0, "out": "builtin tpm_crb\n"}}
    )
    document._document["kernel_log"]["lines"] = ["Linux version 6.17.0-5-generic"]
    found = look(document, MEMORY)
    assert found["driver"] == {"module": "tpm_crb", "available": "builtin"} and probe(found, "driver")["outcome"] == "pass"
    assert "part of the kernel" in probe(found, "driver-at-boot")["observed"]


def test_what_the_host_decides_is_told():
    found = look(
        guest(
            files={
                "/sys/class/misc/hw_random/rng_current": "virtio_rng.0\n",
                "/sys/class/ptp/ptp0/clock_name": "KVM virtual PTP\n",
                "/sys/devices/system/clocksource/clocksource0/current_clocksource": "kvm-clock\n",
                "/etc/chrony/chrony.conf": "pool time.example.org iburst\nrefclock PHC /dev/ptp0 poll 2\n",
            },
            directories={"/sys/class/ptp": ["ptp0"]},
        ),
        MEMORY,
    )
    assert [row["subject"] for row in found["told"]] == [
        "random generator virtio_rng.0",
        "clock kvm-clock",
        "time device KVM virtual PTP",
        "time source PHC /dev/ptp0",
    ]
    # One source that is not the host's is enough to pass.
    assert probe(found, "time")["outcome"] == "pass"


def test_sources_and_swaps_are_read_as_chrony_and_fstab_mean_them():
    assert time_sources("# server no\n server a iburst\nPOOL b\nrefclock PHC /dev/ptp0 poll 2\npeer c\nserver\n") == ["a", "b", "PHC /dev/ptp0", "c"]
    assert fstab_swaps("UUID=1 none swap sw 0 0\n/dev/zram0 none swap x 0 0\n#/a none swap\n/dev/vda1 /swap ext4 x 0 0\nbroken\n") == ["UUID=1"]


def make_server(folder, keys, config):
    folder.mkdir()
    for name in keys:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "x y", "-f", str(folder / name)], check=True)
    (folder / "sshd_config").write_text(config)
    return str(folder)


def test_host_keys_on_a_disk_and_in_memory(tmp_path):
    place = make_server(tmp_path / "ssh", ["ssh_host_ed25519_key"], "")
    found = ssh.look(place)
    assert found is not None and found.keys == (" ".join((tmp_path / "ssh/ssh_host_ed25519_key.pub").read_text().split()[:2]),)
    answer = ssh.probe_ssh(found)
    expected = {"disk": "fail", "memory": "pass", "unknown": "unknown"}[found.storage]
    assert answer.outcome == expected and place in answer.observed
    assert ssh.probe_ssh(MEMORY).outcome == "pass" and ssh.probe_ssh(None).outcome == "skipped"
    assert ssh.look(str(tmp_path / "nowhere")) is None


def test_a_server_without_keys_is_unknown(tmp_path):
    place = make_server(tmp_path / "ssh", [], "HostKey %s/none\n" % tmp_path)
    found = ssh.look(place)
    assert found is not None and "no public SSH host key" in found.problem and ssh.probe_ssh(found).outcome == "unknown"
    assert os.listdir(place) == ["sshd_config"]


def test_a_guest_without_any_tee_has_no_driver_to_load():
    document = guest(exists={"/dev/tdx_guest": None}, files={"/proc/cpuinfo": "vendor_id\t: GenuineIntel\nflags\t\t: rdrand hypervisor\n"})
    document._document["kernel_log"]["lines"] = ["Linux version 6.17.0-5-generic"]
    found = look(document, MEMORY)
    assert found["tee"] == "none" and found["driver"] is None and probe(found, "driver")["outcome"] == "skipped"
    assert probe(found, "configfs")["outcome"] == "pass"
    document._document["exists"]["/sys/kernel/config"] = False
    assert probe(look(document, MEMORY), "configfs")["outcome"] == "skipped"


def test_nothing_that_systemctl_may_print_stops_it():
    for text in ("", "Id=x\n", "LoadState=loaded\n\n\n\n", "\0\xff"):
        key = next(key for key in GUEST["commands"] if key.startswith("systemctl"))
        found = look(guest(commands={key: {"rc": 0, "out": text}}), MEMORY)
        assert found["agents"] is None and probe(found, "time")["outcome"] == "unknown"
    assert isinstance(look(RecordedHost({"schema": GUEST["schema"], "kernel": "6", "architecture": "aarch64"}), None)["probes"], list)
