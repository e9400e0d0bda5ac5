# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

"""Start, status, stop, crash, and what is said when something is missing."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from softtee_kit import TOOLS, Soft, write
from softtee import daemon, mounting
from softtee.errors import SoftTeeError


def test_serve_returns_when_the_mount_answers_and_stop_is_idempotent(idle):
    assert idle.run("status", check=False).returncode == 3
    pidfile = idle.state.parent / "pid"
    done = idle.serve("--product", "turin", "--key", "vlek", "--pidfile", str(pidfile))
    assert done.stdout == "%s\n" % idle.tsm
    assert idle.tsm.is_dir()
    told = json.loads(idle.run("status").stdout)
    assert told["running"] and told["tsm_path"] == str(idle.tsm) and told["product"] == "turin" and told["key"] == "vlek"
    assert int(pidfile.read_text()) == told["pid"]
    assert idle.run("stop").stdout == "stopped\n"
    assert not mounting.is_mounted(idle.mount) and daemon.start_time(told["pid"]) is None
    assert not pidfile.exists() and not (idle.state / "server.json").exists()
    assert idle.run("stop").stdout == "nothing was running\n"
    assert idle.run("status", check=False).returncode == 3


def test_a_mount_point_may_be_named_through_a_symbolic_link(idle):
    link = idle.state.parent / "link"
    link.symlink_to(idle.mount.parent, target_is_directory=True)
    done = idle.run("serve", "--daemon", "--mount", str(link / idle.mount.name))
    assert done.stdout == "%s\n" % idle.tsm
    assert idle.run("stop").stdout == "stopped\n"
    assert not mounting.is_mounted(idle.mount)


def test_keys_and_root_survive_a_restart(idle):
    idle.serve()
    root, record = idle.run("roots").stdout, idle.run("status").stdout
    chip = report(idle)[0x1A0:0x1E0]
    idle.run("stop")
    idle.serve()
    assert idle.run("roots").stdout == root
    assert report(idle)[0x1A0:0x1E0] == chip
    assert json.loads(idle.run("status").stdout)["pid"] != json.loads(record)["pid"]


def report(soft):
    path = soft.entry("r", bytes(64))
    try:
        return (path / "outblob").read_bytes()
    finally:
        path.rmdir()


def test_everything_in_the_state_directory_is_private(idle):
    idle.serve()
    assert stat.S_IMODE(idle.state.stat().st_mode) == 0o700
    for path in idle.state.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_crashed_server_is_cleared_away(idle):
    idle.serve()
    pid = json.loads(idle.run("status").stdout)["pid"]
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while not mounting.is_stale(idle.mount) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert mounting.is_stale(idle.mount)
    assert json.loads(idle.run("status", check=False).stdout)["running"] is False
    idle.serve()
    assert len(report(idle)) == 1184


def test_stop_clears_away_a_crashed_server(idle):
    idle.serve()
    os.kill(json.loads(idle.run("status").stdout)["pid"], signal.SIGKILL)
    deadline = time.monotonic() + 10
    while not mounting.is_stale(idle.mount) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert idle.run("stop").stdout == "stopped\n"
    assert not mounting.is_mounted(idle.mount) and list(idle.mount.iterdir()) == []


def test_stop_while_a_file_is_open(idle):
    idle.serve()
    path = idle.entry("held", bytes(64))
    descriptor = os.open(path / "outblob", os.O_RDONLY)
    pid = json.loads(idle.run("status").stdout)["pid"]
    assert idle.run("stop").stdout == "stopped\n"
    assert not mounting.is_mounted(idle.mount) and daemon.start_time(pid) is None
    with pytest.raises(OSError, match="not connected"):
        os.close(descriptor)


def test_a_signal_ends_it_cleanly(idle):
    idle.serve()
    pid = json.loads(idle.run("status").stdout)["pid"]
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 10
    while daemon.start_time(pid) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert daemon.start_time(pid) is None and not mounting.is_mounted(idle.mount)
    assert not (idle.state / "server.json").exists()


def test_a_second_server_is_refused(idle):
    idle.serve()
    done = idle.run("serve", "--daemon", "--mount", str(idle.mount) + "2", check=False)
    assert done.returncode == 1
    assert done.stderr == "softtee: a soft TEE serves from %s already on %s: stop it first\n" % (idle.state, idle.mount)
    assert len(report(idle)) == 1184, "the first one is unharmed"


def test_a_full_mount_point_is_refused(idle):
    idle.mount.mkdir()
    (idle.mount / "file").write_text("x")
    done = idle.run("serve", "--daemon", "--mount", str(idle.mount), check=False)
    assert done.returncode == 1 and "is not empty" in done.stderr


def test_an_open_state_directory_is_refused(idle):
    idle.state.chmod(0o755)
    done = idle.run("roots", check=False)
    assert done.returncode == 1 and "chmod 700" in done.stderr


def test_no_provider_at_start(idle):
    idle.serve("--provider", "none")
    with pytest.raises(OSError, match="No such device or address"):
        idle.entry("x")


def test_the_pid_of_somebody_else_is_never_ended(idle):
    """A record whose process number was used again names a process that started at another time."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as other:
        try:
            idle.run("roots")
            record = {"pid": other.pid, "started": 1, "mount": str(idle.mount), "product": "genoa", "key": "vcek"}
            (idle.state / "server.json").write_text(json.dumps(record))
            assert idle.run("stop").stdout == "nothing was running\n"
            assert other.poll() is None
        finally:
            other.kill()


def test_what_is_missing_is_named(monkeypatch):
    exists, which = os.path.exists, shutil.which
    monkeypatch.setattr(mounting.os.path, "exists", lambda path: path != "/dev/fuse" and exists(path))
    with pytest.raises(SoftTeeError, match="/dev/fuse is missing.*modprobe fuse"):
        mounting.require_fuse()
    monkeypatch.setattr(mounting.os.path, "exists", lambda path: True)
    monkeypatch.setattr(mounting.os, "access", lambda path, mode: True)
    monkeypatch.setattr(mounting.shutil, "which", lambda name: None)
    with pytest.raises(SoftTeeError, match="fusermount3 is missing.*apt install fuse3"):
        mounting.require_fuse()
    monkeypatch.setattr(mounting.shutil, "which", lambda name: "/bin/" + name)
    monkeypatch.setitem(sys.modules, "mfusepy", None)
    with pytest.raises(SoftTeeError, match="pip install mfusepy"):
        mounting.require_fuse()
    monkeypatch.delitem(sys.modules, "mfusepy")

    class NoLibrary:
        def find_spec(self, name, path=None, target=None):
            if name == "mfusepy":
                raise OSError("Unable to find libfuse")

    monkeypatch.setattr(sys, "meta_path", [NoLibrary(), *sys.meta_path])
    with pytest.raises(SoftTeeError, match="apt install libfuse3-3"):
        mounting.require_fuse()
    assert which and exists


def test_it_works_without_privileges(tmp_path):
    """As nobody, who owns the state and the mount point, and nobody else may look in."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv to become nobody")
    base = Path("/tmp") / ("softtee-nobody-%d" % os.getpid())
    base.mkdir(mode=0o700)
    os.chown(base, 65534, 65534)
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    softtee = ["env", "PYTHONPATH=%s" % TOOLS, sys.executable, "-m", "softtee"]
    if subprocess.run([*nobody, *softtee, "--help"], capture_output=True, check=False).returncode:
        # This Python or checkout lies where only root may read: reading is allowed then, and nothing else (mounting least of all).
        nobody += ["--inh-caps", "-all,+dac_read_search", "--ambient-caps", "+dac_read_search", "--bounding-set", "-all,+dac_read_search,+sys_admin,+setuid"]
        if subprocess.run([*nobody, *softtee, "--help"], capture_output=True, check=False).returncode:
            pytest.skip("nobody may not read the checkout or the Python of this run")
    become = [*nobody, *softtee]
    try:
        done = subprocess.run(
            [*become, "serve", "--daemon", "--state", str(base / "s"), "--mount", str(base / "m")], capture_output=True, text=True, check=False, timeout=60
        )
        if "could not mount" in done.stderr:
            pytest.skip("an unprivileged mount is not allowed here: " + done.stderr)
        assert done.returncode == 0, done.stderr
        script = "cd %s/m/report && mkdir a && head -c 64 /dev/zero > a/inblob && wc -c < a/outblob && rmdir a" % base
        read = subprocess.run([*nobody, "sh", "-c", script], capture_output=True, text=True, check=False)
        assert read.stdout.strip() == "1184", read.stderr
        # Without allow_other not even root sees into it.
        with pytest.raises(PermissionError):
            os.listdir(base / "m")
        stopped = subprocess.run([*become, "stop", "--state", str(base / "s")], capture_output=True, text=True, check=False)
        assert stopped.stdout == "stopped\n", stopped.stderr
        assert not mounting.is_mounted(base / "m")
    finally:
        if mounting.is_mounted(base / "m"):
            mounting.unmount(base / "m", lazy=True)
        shutil.rmtree(base, ignore_errors=True)


def test_two_soft_tees_side_by_side(tmp_path, idle):
    other = Soft(tmp_path / "other")
    (tmp_path / "other").mkdir()
    idle.serve()
    try:
        other.serve()
        assert idle.run("roots").stdout != other.run("roots").stdout
        write(idle.entry("x") / "inblob", bytes(64))
        assert list(other.tsm.iterdir()) == []
    finally:
        other.run("stop")
