# SPDX-License-Identifier: GPL-3.0-or-later
"""Both modules in real plays on made-up machines: a mount namespace in which the machine's sysfs, its /proc and its records lie where they belong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from ansible_collections.attested.ai.plugins.module_utils.target.gpu import models
from gpu_lab import SoftMachine

NAMESPACE = ["unshare", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc"]
PLACES = ("sys/bus/pci/devices", "sys/kernel/iommu_groups")


def able() -> bool:
    return bool(shutil.which("unshare")) and subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0


pytestmark = [pytest.mark.costly, pytest.mark.skipif(not able(), reason="unprivileged mount and process namespaces are not allowed here (unshare)")]


def play(machine: SoftMachine, *tasks: tuple[str, dict], words: tuple[str, ...] = ()) -> tuple[list[dict], str]:
    """The results of the tasks on ``machine``, and what was printed."""
    folder, listed = machine.folder, []
    for number, (name, options) in enumerate(tasks):
        arguments = {**({"tool": str(machine.tool), "tool_sha256": machine.sha256} if "recording" not in options else {}), **options}
        listed.append({
            "name": f"{number} {name}", f"attested.ai.{name}": {key: value for key, value in arguments.items() if value is not None},
            "register": f"found{number}", "ignore_errors": True,
        })  # fmt: skip
    names = ", ".join(f"found{number}" for number in range(len(tasks)))
    keep = {"content": "{{ [%s] | to_json }}" % names, "dest": str(folder / "found.json")}
    listed.append({"name": "keep", "ansible.builtin.copy": keep, "check_mode": False})
    (folder / "play.json").write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": listed}]))
    (folder / "lib").mkdir(exist_ok=True)
    binds = "".join(f"mount --bind {machine.root / place} /{place}\n" for place in PLACES) + f"mount --bind {folder / 'lib'} /var/lib\n"
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-c", "local", str(folder / "play.json"), *words]
    command += ["-e", json.dumps({"ansible_python_interpreter": sys.executable})]
    environment = dict(os.environ, ANSIBLE_LOCALHOST_WARNING="false", ANSIBLE_NOCOLOR="true", ANSIBLE_LOCAL_TEMP=str(folder / "local"))
    environment["ANSIBLE_REMOTE_TEMP"] = str(folder / "remote")
    environment.setdefault("ANSIBLE_COLLECTIONS_PATH", os.pathsep.join(sys.path))
    script = f"set -e\n{binds}exec \"$@\""
    whole = [*NAMESPACE, "sh", "-c", script, "sh", *command]
    done = subprocess.run(whole, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in done.stdout
    return json.loads((folder / "found.json").read_text()), done.stdout


def test_a_machine_from_off_to_on_and_back(machine):
    one = machine("h100")
    info, first, second, again, recorded, bad, missing = play(
        one, ("gpu_cc_info", {}), ("gpu_cc_mode", {"mode": "on"}), ("gpu_cc_mode", {"mode": "on"}), ("gpu_cc_info", {"record": True}),
        ("gpu_cc_info", {"recording": {"schema": "attested.ai/tee-recording/1", "kernel": "x", "architecture": "x86_64"}}),
        ("gpu_cc_mode", {"mode": "off", "tool_sha256": "0" * 64}), ("gpu_cc_mode", {"mode": "off", "tool": str(one.folder / "nothing")}),
    )[0]  # fmt: skip
    assert info["mode"] == "off" and info["devices"][0]["model"] == "H100" and info["users"] == []
    assert (first["changed"], first["state"], first["devices"][0]["after"], first["reboot_advised"]) == (True, "switched", "on", True)
    assert first["diff"]["before"] == "0000:3a:00.0 H100: off\n" and first["diff"]["after"] == "0000:3a:00.0 H100: on\n"
    assert "96.00.5E or later is needed" in first["warnings"][0]
    assert (second["changed"], second["state"]) == (False, "as-wanted")
    assert again["mode"] == "on" and again["record"]["state"] == "settled" and again["recording"]["gpu"]["tool"]
    assert recorded["devices"] == [] and recorded["verdict"] == "not-ready"
    assert bad["failed"] and bad["code"] == "gpu-tool-checksum" and bad["state"] == "refused"
    assert missing["failed"] and missing["code"] == "gpu-tool-missing"
    assert set(one.modes().values()) == {"on"}


def test_check_mode_tells_the_truth_and_changes_nothing(machine):
    pair = machine("rtx")
    (found, refused), printed = play(pair, ("gpu_cc_mode", {"mode": "on"}), ("gpu_cc_mode", {"mode": "ppcie"}), words=("--check", "--diff"))
    assert found["changed"] and found["state"] == "switched" and set(pair.modes().values()) == {"off"} and not any((pair.folder / "lib").iterdir())
    assert "+0000:19:00.0 RTX PRO 6000 Server: on" in printed
    assert refused["failed"] and refused["code"] == "gpu-mode-unsupported"


def test_a_failure_says_what_each_device_is_in(machine):
    pair = machine("rtx")
    pair.fault("0000:2a:00.0", "set", "fsp")
    (found,), _printed = play(pair, ("gpu_cc_mode", {"mode": "on"}))
    assert (found["failed"], found["state"], found["code"]) == (True, "rolled-back", "gpu-firmware-refused")
    assert [row["after"] for row in found["devices"]] == ["off"] * 2 and "All devices are as they were" in found["msg"]


def test_releases_that_are_known_have_a_commit_and_a_digest():
    assert all(len(commit) == 40 and len(digest) == 64 for commit, digest in models.TOOL_RELEASES.values())
