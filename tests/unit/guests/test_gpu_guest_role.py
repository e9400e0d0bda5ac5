# SPDX-License-Identifier: GPL-3.0-or-later
"""The role in real runs over a made-up guest: files below a folder, doubles of its programs, and real evidence and appraisal of the Soft TEE.

What is to be proven is the order: nothing touches a GPU before nvidia-persistenced holds it, and no GPU takes work before it was attested.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.costly
REPO = pathlib.Path(__file__).resolve().parents[3]
DOUBLES = pathlib.Path(__file__).resolve().parent / "gpu_doubles.py"
PROGRAMS = ("modprobe", "nvidia-smi", "systemctl", "journalctl", "update-initramfs")
H100, SWITCH = ("0x2330", "0x030200"), ("0x22a3", "0x068000")
PERSISTENCED, FABRIC = "nvidia-persistenced.service", "nvidia-fabricmanager.service"


def softtee(*words):
    environment = {**os.environ, "PYTHONPATH": str(REPO / "tools" / "softtee")}
    done = subprocess.run([sys.executable, "-m", "softtee", *words], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def soft(tmp_path_factory):
    """A Soft TEE with one H100, and what a relying party needs."""
    base = tmp_path_factory.mktemp("soft")
    state = str(base / "state")
    told = json.loads(
        softtee("serve", "--daemon", "--state", state, "--mount", str(base / "tsm"), "--handover", str(base / "handover"), "--tee=sev-snp", "--gpus=1")
    )
    try:
        told["state"] = state
        yield told
    finally:
        softtee("stop", "--state", state)


class Guest:
    def __init__(self, base, name, devices=(H100,), fabric="not-found", **state):
        self.name, self.place = name, base / name
        self.root = self.place / "root"
        for number, (device, kind) in enumerate(devices):
            folder = self.root / "sys/bus/pci/devices" / ("0000:%02x:00.0" % (number + 1))
            folder.mkdir(parents=True)
            for key, value in (("vendor", "0x10de"), ("device", device), ("class", kind)):
                (folder / key).write_text(value + "\n")
        (self.root / "proc").mkdir(parents=True)
        (self.root / "proc/cmdline").write_text("ro\n")
        (self.place / "bin").mkdir()
        for program in PROGRAMS:
            path = self.place / "bin" / program
            path.write_text("#!%s\n%s" % (sys.executable, DOUBLES.read_text()))
            path.chmod(0o755)
        units = {
            PERSISTENCED: {"load": "loaded", "active": "inactive", "file": "disabled"},
            FABRIC: {"load": fabric, "active": "inactive", "file": "disabled" if fabric == "loaded" else ""},
        }
        self.write({"crypto": ["ecdh_generic", "ecdsa_generic"], "mode": "on", "ready": False, "units": units, "kernel_log": [], **state})

    def write(self, state):
        (self.place / "state.json").write_text(json.dumps(state))

    @property
    def state(self):
        return json.loads((self.place / "state.json").read_text())

    @property
    def log(self):
        path = self.place / "log"
        return path.read_text().splitlines() if path.exists() else []

    def forget(self):
        (self.place / "log").unlink(missing_ok=True)

    @property
    def options(self):
        path = self.root / "etc/modprobe.d/attested-ai-gpu-cc-guest.conf"
        return path.read_text() if path.exists() else None


def play(base, guests, soft, *arguments, **variables):
    hosts = {guest.name: {"where": str(guest.place)} for guest in guests}
    shared = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "gpu_cc_guest_install": False,
        "tee_guest_known_hosts": str(base / "known"),
        "gpu_cc_guest_attestation": {key: soft[key] for key in ("policy", "reference_values", "collateral", "tsm_path")} | {"nvml_library": soft["nvml"]},
    }
    (base / "inventory.json").write_text(json.dumps({"all": {"hosts": hosts, "vars": shared}}))
    environment = {"PATH": "{{ where }}/bin:" + os.environ["PATH"]}
    plays = [{"name": "Test", "hosts": "all", "gather_facts": False, "environment": environment, "roles": [{"role": "attested.ai.gpu_cc_guest"}]}]
    (base / "play.json").write_text(json.dumps(plays))
    # Variables of a role are only overridden from the command line.
    given = {"__gpu_cc_guest_root": "{{ where }}/root", **variables}
    program = shutil.which("ansible-playbook") or os.path.join(os.path.dirname(sys.executable), "ansible-playbook")
    command = [program, "-i", str(base / "inventory.json"), str(base / "play.json"), "-e", json.dumps(given), *arguments]
    settings = dict(os.environ, COLUMNS="200", ANSIBLE_HOME=str(base / "home"), ANSIBLE_LOCALHOST_WARNING="0", ANSIBLE_NOCOLOR="1", ANSIBLE_PIPELINING="1")
    done = subprocess.run(command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1800, check=False)
    recap = done.stdout.rpartition("PLAY RECAP")[2]
    counts = {line.split()[0]: dict(pair.split("=") for pair in line.split(":", 1)[1].split()) for line in recap.splitlines() if " : ok=" in line}
    return done, {name: {key: int(value) for key, value in count.items()} for name, count in counts.items()}


def loaded(guest, version, active="active"):
    """The driver of ``version`` runs already, without the options of the role."""
    folder = guest.root / "proc/driver/nvidia"
    folder.mkdir(parents=True)
    (folder / "version").write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  %s  Release Build\n" % version)
    (folder / "params").write_text('NvLinkDisable: 0\nRegistryDwords: ""\n')
    state = guest.state
    state["units"][PERSISTENCED]["active"] = active
    guest.write(state)
    return guest


def others(base):
    """Guests that fail or wait, each with the words that say why; and two that do not."""
    running = {PERSISTENCED: {"load": "loaded", "active": "active", "file": "enabled"}, FABRIC: {"load": "loaded", "active": "active", "file": "enabled"}}
    return {
        "two": (Guest(base, "two", [H100, H100]), "neither one GPU nor a whole board"),
        "nocrypto": (Guest(base, "nocrypto", crypto=["ecdsa_generic"]), "needs ECDH and ECDSA"),
        # Two faults at once, and both are told. That each is one by itself is tested with gpu_guest_info.
        "faults": (Guest(base, "faults", mode="off", kernel_log=["NVRM: libspdm expects LKCA but found stubs!"]), "gpu-guest.mode: off"),
        # Its evidence is that of one GPU without switches.
        "board": (Guest(base, "board", [H100] * 8 + [SWITCH] * 4, fabric="loaded", mode="ppcie"), "The GPUs take no work"),
        "old": (loaded(Guest(base, "old"), "550.54.15"), "550.54.15, and 570.86.15 is the least"),
        "waits": (loaded(Guest(base, "waits"), "580.95.05"), ""),
        # It took work from an earlier run, and somebody started fabric manager where it does not belong.
        "stray": (Guest(base, "stray", units=running, ready=True), ""),
    }


def test_a_gpu_takes_work_after_its_attestation_and_not_before(tmp_path, soft):
    one, rest = Guest(tmp_path, "one"), others(tmp_path)
    done, counts = play(tmp_path, [one], soft, "--check", "--diff")
    assert done.returncode == 0 and "+softdep nvidia pre: ecdh_generic ecdsa_generic" in done.stdout, done.stdout
    assert one.log == [] and one.options is None and not one.state["ready"]

    done, counts = play(tmp_path, [one] + [guest for guest, _words in rest.values()], soft, "--forks=4")
    text = " ".join(done.stdout.split())
    assert done.returncode == 2 and counts["one"]["failed"] == 0, done.stdout
    assert one.log == [
        "update-initramfs -u",
        "modprobe nvidia",
        "systemctl enable " + PERSISTENCED,
        "systemctl start " + PERSISTENCED,
        "nvidia-smi conf-compute -srs 1",
    ]
    assert one.state["ready"] and not one.state.get("lost")
    assert one.options.splitlines()[-4:] == [
        "softdep nvidia pre: ecdh_generic ecdsa_generic",
        "blacklist nouveau",
        "options nouveau modeset=0",
        "options nvidia NVreg_NvLinkDisable=1",
    ]
    drop_in = (one.root / "etc/systemd/system/nvidia-persistenced.service.d/attested-ai.conf").read_text()
    assert "--uvm-persistence-mode" in drop_in and "TimeoutStartSec=600" in drop_in and "[Unit]" not in drop_in

    for name, (guest, words) in rest.items():
        assert words in text, (name, done.stdout)
        assert counts[name]["failed"] == (1 if words else 0), (name, done.stdout)
        assert "nvidia-smi conf-compute -srs 1" not in guest.log and not guest.state.get("lost"), name
    assert "gpu-guest.lkca: NVRM: libspdm expects LKCA" in text and "lkca-stubs: " in text, done.stdout
    board, stray, waits = (rest[name][0] for name in ("board", "stray", "waits"))
    assert board.log.index("systemctl start " + PERSISTENCED) < board.log.index("systemctl start " + FABRIC) and not board.state["ready"]
    assert 'options nvidia NVreg_RegistryDwords="RmEnableProtectedPcie=0x1"' in board.options
    assert "systemctl stop " + FABRIC in stray.log and stray.state["ready"] and stray.state["units"][FABRIC]["active"] == "inactive"
    assert "waits needs a reboot" in text and not any("srs" in line or "modprobe" in line for line in waits.log + rest["old"][0].log)

    one.forget()
    done, counts = play(tmp_path, [one], soft)
    assert done.returncode == 0 and counts["one"]["changed"] == 0 and one.log == [], done.stdout

    # A GPU that takes work is stopped when it is no longer what it was.
    softtee("misbehave", "--state", soft["state"], "gpu-debug")
    try:
        done, counts = play(tmp_path, [one], soft)
    finally:
        softtee("misbehave", "--state", soft["state"], "none")
    assert done.returncode == 2 and "The GPUs take no work" in done.stdout and "measurement-mismatch" in done.stdout, done.stdout
    assert one.log == ["nvidia-smi conf-compute -srs 0"] and not one.state["ready"]

    one.forget()
    done, counts = play(tmp_path, [one], soft, gpu_cc_guest_state="absent")
    assert done.returncode == 0 and one.options is None and one.log == ["update-initramfs -u"] and counts["one"]["changed"] == 2, done.stdout
