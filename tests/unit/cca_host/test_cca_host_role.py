# SPDX-License-Identifier: GPL-3.0-or-later
"""The role in real runs over recorded machines: what it writes, what it takes back, and when it refuses or fails."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.costly
HOST = {
    "schema": "attested.ai/tee-recording/1",
    "kernel": "6.18.0",
    "architecture": "aarch64",
    "files": {
        "/proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\n",
        "/proc/self/limits": "Max locked memory         unlimited",
        "/sys/module/kvm/parameters/kvm_cap_arm_rmi": "251\n",
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


def realm():
    document = copy.deepcopy(HOST)
    document["kernel_log"]["lines"] = ["RME: Using RSI version 1.0"]
    document["exists"].update({"/sys/module/arm_cca_guest": True, "/sys/kernel/config/tsm/report": True})
    return document


def silent():
    """A host whose kernel does not tell the number of the capability."""
    document = copy.deepcopy(HOST)
    del document["files"]["/sys/module/kvm/parameters/kvm_cap_arm_rmi"]
    document["kvm"]["249"] = 1
    return document


def broken():
    document = copy.deepcopy(HOST)
    document["kernel_log"]["lines"][-1] = "kvm [1]: Unsupported RMI ABI (v2.0 - v2.0) we want v1.0"
    document["kvm"]["251"] = 0
    return document


WAIVED = {"cca.firmware-rmm": "tried by hand", "cca.kvm-realms": "tried by hand"}
GOOD = {
    "host": (HOST, {"cca_host_memlock_users": ["vmm", "alice", "vmm"]}),
    "realm-builtin": (realm(), {"answer": "builtin arm_cca_guest"}),
    "realm-module": (realm(), {"answer": "insmod /lib/modules/6.18.0/kernel/drivers/virt/coco/arm-cca-guest/arm-cca-guest.ko"}),
    "silent": (silent(), {"cca_host_kvm_capability": 249}),
    "waived": (broken(), {"cca_host_waivers": WAIVED}),
    "unasked": (broken(), {"cca_host_verify": False}),
}
BAD = {
    "broken": (broken(), {}),
    "x86": ({**HOST, "architecture": "x86_64"}, {"cca_host_memlock_users": ["vmm"]}),
    "no-realm": (HOST, {"cca_host_scope": "guest", "cca_host_memlock_users": ["vmm"]}),
    "silent": (silent(), {}),
}


def play(directory, machines, *options, **variables):
    """The role over recordings, all in one play. Each machine's files and its modprobe are stand-ins in a folder of its own."""
    inventory = {}
    for name, (document, given) in machines.items():
        own = directory / name
        (own / "bin").mkdir(parents=True, exist_ok=True)
        (own / "recording.json").write_text(json.dumps(document))
        (own / "bin" / "modprobe").write_text('#!/bin/sh\necho "$*" >> %s/log\ncase "$*" in *--dry-run*) echo "%s" ;; esac\n' % (own, given.get("answer", "")))
        (own / "bin" / "modprobe").chmod(0o755)
        inventory[name] = {
            "cca_host_recording": "{{ lookup('ansible.builtin.file', '%s/recording.json') | ansible.builtin.from_json }}" % own,
            "where": str(own),
            **{key: value for key, value in given.items() if key != "answer"},
        }
    shared = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "cca_host_become": False}
    (directory / "inventory.json").write_text(json.dumps({"all": {"hosts": inventory, "vars": shared}}))
    environment = {"PATH": "{{ where }}/bin:" + os.environ["PATH"]}
    plays = [{"name": "Test", "hosts": "all", "gather_facts": False, "environment": environment, "roles": [{"role": "attested.ai.cca_host"}]}]
    (directory / "play.json").write_text(json.dumps(plays))
    # Variables of a role are only overridden from the command line.
    given = {"__cca_host_limits": "{{ where }}/limits.conf", "__cca_host_modules": "{{ where }}/modules.conf", **variables}
    program = shutil.which("ansible-playbook") or os.path.join(os.path.dirname(sys.executable), "ansible-playbook")
    command = [program, "-i", str(directory / "inventory.json"), str(directory / "play.json"), "-e", json.dumps(given), *options]
    settings = dict(os.environ, COLUMNS="200", ANSIBLE_HOME=str(directory / "home"), ANSIBLE_LOCALHOST_WARNING="0")
    done = subprocess.run(command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False)
    recap = done.stdout.rpartition("PLAY RECAP")[2]
    counts = {line.split()[0]: dict(pair.split("=") for pair in line.split(":", 1)[1].split()) for line in recap.splitlines() if " : ok=" in line}
    return done, {name: {key: int(value) for key, value in count.items()} for name, count in counts.items()}


def files(directory):
    return sorted("%s/%s" % (path.parent.name, path.name) for path in directory.glob("*/*.conf"))


def asked_of_modprobe(directory, name):
    log = directory / name / "log"
    return [line for line in log.read_text().splitlines() if "--dry-run" not in line] if log.exists() else None


def test_machines_are_set_up_once_and_taken_back(tmp_path):
    writing = ("host", "realm-builtin", "realm-module")
    done, counts = play(tmp_path, {name: GOOD[name] for name in writing}, "--check", "--diff")
    assert done.returncode == 0 and "+vmm - memlock unlimited" in done.stdout, done.stdout
    assert files(tmp_path) == [] and asked_of_modprobe(tmp_path, "realm-module") == []

    done, counts = play(tmp_path, GOOD)
    assert done.returncode == 0, done.stdout
    assert {name: count["changed"] for name, count in counts.items()} == {
        "host": 1,
        "realm-builtin": 1,
        "realm-module": 2,
        "silent": 0,
        "waived": 0,
        "unasked": 0,
    }
    assert files(tmp_path) == ["host/limits.conf", "realm-builtin/modules.conf", "realm-module/modules.conf"]
    assert (tmp_path / "host" / "limits.conf").read_text().splitlines()[-2:] == ["alice - memlock unlimited", "vmm - memlock unlimited"]
    assert (tmp_path / "realm-module" / "modules.conf").read_text().endswith("\narm-cca-guest\n")
    # Only a driver that can be loaded is loaded, and a host is not asked for one.
    assert asked_of_modprobe(tmp_path, "realm-module") == ["arm-cca-guest"]
    assert asked_of_modprobe(tmp_path, "realm-builtin") == [] and asked_of_modprobe(tmp_path, "host") is None

    loaded = {name: (document, {key: value for key, value in given.items() if key != "answer"}) for name, (document, given) in GOOD.items() if name in writing}
    done, counts = play(tmp_path, loaded)
    assert done.returncode == 0 and {count["changed"] for count in counts.values()} == {0}, done.stdout

    done, counts = play(tmp_path, loaded, cca_host_state="absent")
    assert done.returncode == 0 and files(tmp_path) == [], done.stdout
    assert sum(count["changed"] for count in counts.values()) == 3


def test_a_reboot_that_an_earlier_run_left_out_is_noticed(tmp_path):
    # A package that is there already: nothing is installed in this run.
    named = {"cca_host_packages": ["bash"], "__cca_host_boot": "{{ where }}/boot"}
    machines = {name: (broken(), named) for name in ("newer", "older")} | {"allowed": (broken(), {**named, "cca_host_reboot_ok": True})}
    for name in machines:
        (tmp_path / name / "boot").mkdir(parents=True)
        kernel = tmp_path / name / "boot" / "vmlinuz-7.0.0-cca"
        kernel.write_text("")
        if name == "older":
            os.utime(kernel, (0, 0))
    done, counts = play(tmp_path, machines, __cca_host_boot="{{ where }}/boot")
    # The old kernel is not judged where a newer one waits; where none does, the doctor is asked.
    assert done.returncode == 2 and counts["newer"]["failed"] == 0 and counts["older"]["failed"] == counts["allowed"]["failed"] == 1, done.stdout
    assert "newer has packages that count from the next boot on" in done.stdout and "older has packages" not in done.stdout
    assert "Running ansible.builtin.reboot with local connection would reboot the control node" in done.stdout


def test_what_cannot_be_a_cca_machine_fails_with_cause_and_step(tmp_path):
    done, counts = play(tmp_path, BAD)
    assert done.returncode == 2 and {count["failed"] for count in counts.values()} == {1}, done.stdout
    assert "cca.firmware-rmm" in done.stdout and "kvm_capability" in done.stdout
    assert "This is x86_64, seen as host" in done.stdout and "This is aarch64, seen as guest" in done.stdout
    # Those who are refused are refused before anything is written.
    assert files(tmp_path) == [] and asked_of_modprobe(tmp_path, "no-realm") is None
