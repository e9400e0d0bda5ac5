# SPDX-License-Identifier: GPL-3.0-or-later
"""The tools that make test machines: what they end, what they make anew, and what they tell."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(REPO / "tools/vm"), str(REPO / "molecule/guest_image/files")]

import containers  # noqa: E402
import image  # noqa: E402
import interruptions  # noqa: E402
import lab  # noqa: E402
import machine  # noqa: E402
import nspawn  # noqa: E402


@pytest.fixture
def sleeper():
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def test_only_the_process_that_runs_from_the_disk_is_ended(sleeper):
    assert not machine.end(sleeper.pid, "/some/disk.qcow2") and sleeper.poll() is None


def test_a_process_that_is_gone_is_no_trouble():
    done = subprocess.Popen(["true"])
    done.wait()
    assert not machine.end(done.pid, "true")


def test_down_keeps_the_consoles_and_nothing_else_that_is_large(tmp_path, monkeypatch, sleeper):
    monkeypatch.setattr(lab, "CACHE", tmp_path)
    place = tmp_path / "labs" / "x"
    place.mkdir(parents=True)
    for name in ("one.console", "one.qcow2"):
        (place / name).write_text("x")
    # Numbers of processes are given again: these two belong to something else by now.
    (place / "state.json").write_text(json.dumps({"machines": {"one": {"pid": sleeper.pid, "disk": "/no/such/disk"}}, "cache": {"pid": sleeper.pid}}))
    lab.down(place)
    assert not place.exists() and (tmp_path / "last/x/one.console").exists() and not (tmp_path / "last/x/one.qcow2").exists()
    assert sleeper.poll() is None


def test_the_cache_of_packages_ends_with_its_lab(tmp_path, monkeypatch):
    monkeypatch.setattr(lab, "CACHE", tmp_path)
    place = tmp_path / "labs" / "x"
    place.mkdir(parents=True)
    pid, port = lab.start_cache(place)
    with socket.create_connection(("127.0.0.1", port), timeout=10):
        pass
    # By hand, and not by `down`.
    shutil.rmtree(place)
    ended, _status = os.waitpid(pid, os.WNOHANG)
    for _attempt in range(100):
        if ended:
            break
        time.sleep(0.1)
        ended, _status = os.waitpid(pid, os.WNOHANG)
    assert ended == pid


def test_each_machine_has_its_own_way_in():
    facts = {"one": {"port": 1, "key": "k"}, "two": {"port": 2, "key": "k"}}
    hosts = lab.inventory(facts)["all"]["hosts"]
    assert {name: host["ansible_port"] for name, host in hosts.items()} == {"one": 1, "two": 2}


def test_an_unknown_release_is_told_with_those_that_are_known(tmp_path):
    with pytest.raises(image.LabError, match="no recipe for sarge; there are trixie, bookworm"):
        image.image("sarge", tmp_path)


def test_an_image_is_made_once(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(image, "_make", lambda release, place: made.append(place))
    cache = tmp_path / "images"
    for name in ("trixie-older", "trixie-used"):
        (cache / name).mkdir(parents=True)
    (tmp_path / "labs/x").mkdir(parents=True)
    (tmp_path / "labs/x/state.json").write_text(json.dumps({"machines": {"one": {"key": str(cache / "trixie-used/key")}}}))
    first = image.image("trixie", cache)
    assert first == image.image("trixie", cache) and len(made) == 1
    # What a machine runs from stays.
    assert not (cache / "trixie-older").exists() and (cache / "trixie-used").exists()
    # One that was not finished is made anew.
    (first / "done").unlink()
    image.image("trixie", cache)
    assert len(made) == 2


def test_the_image_of_containers_changes_with_its_recipe_and_the_kernel(monkeypatch):
    before = containers.digest()
    assert before == containers.digest()
    monkeypatch.setattr(containers.platform, "release", lambda: "6.99-other")
    assert containers.digest() != before


def test_without_root_containers_are_skipped_with_the_reason(monkeypatch, capsys):
    monkeypatch.setattr(containers.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["containers.py", "check"])
    assert containers.main() == containers.SKIPPED == 77
    assert "need root" in capsys.readouterr().err


def test_what_is_missing_for_containers_is_named(monkeypatch):
    monkeypatch.setattr(containers.os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(containers.shutil, "which", lambda name, path: None if name == "podman" else name)
    assert containers.unable() == "podman not found. Run tools/dev/system_packages.sh vm"


def test_without_root_or_sudo_the_container_of_guests_is_skipped_with_the_reason(monkeypatch, capsys):
    monkeypatch.setattr(nspawn, "ROOT", ["false"])
    monkeypatch.setattr(nspawn.shutil, "which", lambda name: name)
    monkeypatch.setattr(sys, "argv", ["nspawn.py", "check"])
    assert nspawn.main() == nspawn.SKIPPED == 77
    assert "needs root, or sudo" in capsys.readouterr().err


def test_its_tree_is_made_once(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(nspawn, "CACHE", tmp_path)
    monkeypatch.setattr(nspawn, "source", lambda release, components: [f"deb http://mirror.example.org {release} {components}"])
    monkeypatch.setattr(nspawn, "run", lambda *words: made.append(words) or (Path(words[-1]).touch() if words[0] == "mv" else None))
    assert nspawn.base() == nspawn.base() and [words[0] for words in made] == ["mmdebstrap", "mv"]
    assert made[0][-1] == "deb http://mirror.example.org trixie main"


def test_a_moment_is_never_found_in_the_script_that_looks_for_it():
    """pgrep -f and pkill -f read the command line of the shell that runs them, too."""
    for cut in interruptions.CUTS:
        if cut.held:
            script = f"if {{ {cut.when}; }}; then pkill -STOP -f {cut.held}; pkill -KILL -f {cut.held}; fi"
            assert subprocess.run(["grep", "-qE", cut.held.strip("'")], input=script, text=True, check=False).returncode == 1, cut.held


def test_each_kind_of_interruption_is_there_for_both_ways():
    assert {(cut.state, cut.act) for cut in interruptions.CUTS} == {(state, act) for state in ("present", "absent") for act in ("play", "power", "programs")}
