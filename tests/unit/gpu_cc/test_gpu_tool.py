# SPDX-License-Identifier: GPL-3.0-or-later
"""The admin tool: what its recorded answers mean, how it is pinned, and how the real one answers where it is at hand (GPU_ADMIN_TOOLS)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.gpu import models, pin, tool
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.inventory import GPU, Device
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.machine import LocalBench
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.modes import read
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.tool import Run
from hypothesis import given
from hypothesis import strategies as st

RECORDED = Path(__file__).parent / "recorded"
BDF = "0000:3a:00.0"
REAL = os.environ.get("GPU_ADMIN_TOOLS", "")


def recorded(name: str) -> str:
    """Without the first line, which tells where it is from."""
    return (RECORDED / name).read_text().split("\n", 1)[1]


def device(architecture="hopper", kind=GPU):
    return Device(BDF, kind, 0x2321, "H100", "GH100", architecture, "vfio-pci", "", "40", (), "vfio0", "0", False, False, "")


def test_a_recorded_query_is_read():
    text = recorded("query-off.txt")
    assert tool.modes(text, BDF) == {"CC": "off"} and tool.modes(text, "0000:3b:00.0") == {} and tool.trouble(Run(0, text)) is None


def test_a_recorded_switch_is_no_answer_to_a_query():
    text = recorded("set-off.txt")
    assert tool.modes(text, "0000:43:00.0") == {} and tool.trouble(Run(0, text)) is None


def test_a_warning_about_a_mode_is_no_answer():
    text = "2025-09-16,12:34:15.925 WARNING  GPU 0000:3a:00.0 H100 0x2321 BAR0 0x7e042000000 has CC mode on, some functionality may not work\n"
    assert tool.modes(text, BDF) == {}


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("lockdown.txt", "gpu-lockdown", "refuses access"), ("state-0x2.txt", "gpu-tool-failed", "Unexpected CC state 0x2"),
        ("poll-timeout.txt", "gpu-no-answer", "Timed out polling"), ("bar0-broken.txt", "gpu-broken", "does not answer"),
    ],
)  # fmt: skip
def test_recorded_failures_have_their_names(name, code, words):
    wrong = tool.trouble(Run(1, recorded(name)))
    assert wrong is not None and wrong.code == code and words in wrong.what and wrong.fix


def test_the_state_of_an_interrupted_tool_is_an_answer_of_old_releases_too():
    text = recorded("state-0x2.txt")
    reading = read(lambda args: Run(1, text) if "--query-cc-mode" in args else Run(1, ""), device("blackwell"), pending=False)
    assert reading.mode == "invalid"
    line = "2025-09-16,12:34:15.925 INFO     GPU 0000:3a:00.0 H100 0x2321 BAR0 0x7e042000000 CC mode is invalid-devtools-only-fix-by-setting-cc-mode\n"
    assert tool.modes(line, BDF) == {"CC": "invalid"}


NO_ANSWERS = [Run(0, ""), Run(0, recorded("query-off.txt").replace("3a:00.0", "3b:00.0")), Run(1, ""), Run(2, "usage: x\nx: error: no"), Run(-1, "", True)]


@pytest.mark.parametrize("run", NO_ANSWERS)
def test_no_answer_is_never_an_answer(run):
    reading = read(lambda args: run, device("blackwell"), limit=20)
    assert not reading.known and reading.trouble is not None and reading.trouble.fix


def test_an_answer_with_half_of_what_was_asked_is_none():
    text = recorded("query-off.txt")
    assert not read(lambda args: Run(0, text), device("hopper"), pending=False).known, "PPCIe was asked, and not told"
    assert read(lambda args: Run(0, text), device("blackwell"), pending=False).mode == "off"


def test_settings_are_what_comes_after_the_next_reset():
    text = recorded("settings-on.txt")
    assert tool.settings(text, BDF) == {"CC": {
        "enable": 1, "enable-devtools": 0, "enable-bar0-filter": 2, "enable-allow-inband-control": 1, "enable-devtools-allow-inband-control": 1,
        "enable-bar0-filter-allow-inband-control": 1,
    }}  # fmt: skip
    assert tool.settings(text, "0000:3b:00.0") == {}


@given(st.text(alphabet="GPU 0123456789abcdef:.-,INFO\n\rCCmodeisnwg=x?", max_size=300), st.integers(-2, 3))
def test_no_text_makes_a_mode_that_is_none(text, rc):
    run = Run(rc, recorded("query-off.txt")[:200] + text)
    assert set(tool.modes(run.text, BDF).values()) <= {"off", "on", "devtools", "invalid"}
    tool.trouble(run)
    tool.settings(run.text, BDF)


# pinned


def folder(tmp_path):
    place = tmp_path / "tool"
    (place / "cli").mkdir(parents=True)
    (place / "nvidia_gpu_tools.py").write_text("print()\n")
    (place / "cli" / "main.py").write_text("x = 1\n")
    for path in (place, *place.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return place


def test_the_digest_is_that_of_git_and_sha256sum(tmp_path):
    place = folder(tmp_path)
    script = "find . -type f | sed 's,^./,,' | LC_ALL=C sort | xargs sha256sum | sha256sum"
    shown = subprocess.run(["sh", "-c", script], cwd=place, capture_output=True, check=True)
    assert pin.digest(str(place)) == shown.stdout.decode().split()[0]
    (place / ".git").mkdir()
    (place / ".git" / "config").write_text("x")
    assert pin.digest(str(place)) == shown.stdout.decode().split()[0]


@pytest.mark.parametrize("harm", ["byte", "extra", "link", "writable", "other", "pyc", "fifo"])
def test_what_was_changed_does_not_run(tmp_path, harm):
    place = folder(tmp_path)
    good = pin.digest(str(place))
    assert pin.check(str(place), good) == (good, "")
    main = place / "cli" / "main.py"
    if harm == "byte":
        main.write_text("x = 2\n")
    elif harm == "extra":
        (place / "cli" / "plugins.py").write_text("evil = 1\n")
    elif harm == "link":
        (place / "cli" / "more.py").symlink_to("/etc/passwd")
    elif harm == "writable":
        main.chmod(0o666)
    elif harm == "pyc":
        (place / "__pycache__").mkdir()
        (place / "__pycache__" / "x.pyc").write_bytes(b"x")
    elif harm == "fifo":
        os.mkfifo(place / "pipe")
    else:
        good = "0" * 64
    with pytest.raises(HostError) as raised:
        pin.check(str(place), good)
    assert raised.value.code == "gpu-tool-checksum" and raised.value.fix


def test_a_digest_that_nobody_named_must_be_known(tmp_path):
    with pytest.raises(HostError, match="tool_sha256"):
        pin.check(str(folder(tmp_path)), "")
    with pytest.raises(HostError) as raised:
        pin.check(str(tmp_path / "none"), "")
    assert raised.value.code == "gpu-tool-missing"


# the real tool


def real(*words: str) -> Run:
    done = subprocess.run([sys.executable, "-sEB", os.path.join(REAL, tool.PROGRAM), *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return Run(done.returncode, done.stdout.decode())


needs_real = pytest.mark.skipif(not REAL, reason="GPU_ADMIN_TOOLS names no checkout of NVIDIA/gpu-admin-tools")


@needs_real
@pytest.mark.parametrize(
    "args",
    [
        tool.query(BDF, "--query-cc-mode"), tool.query(BDF, "--query-cc-mode", "--query-ppcie-mode"), tool.query(BDF, "--query-cc-settings"),
        tool.query(BDF, "--query-ppcie-settings"), *(tool.set_cc(BDF, mode) for mode in ("off", "on", "devtools")), tool.set_ppcie(BDF, "on"),
        tool.set_ppcie(BDF, "off"),
    ],
)  # fmt: skip
def test_the_real_tool_knows_what_it_is_asked(args):
    """Its own parser takes the words; then it finds no such device here, which must have that name."""
    wrong = tool.trouble(real(*args))
    assert wrong is not None and wrong.code == "gpu-vanished", wrong


@needs_real
def test_the_real_tool_ends_well_without_a_selector_and_tells_nothing():
    run = real("--query-cc-mode")
    assert run.rc == 0 and tool.modes(run.text, BDF) == {}
    assert not read(lambda args: run, device("blackwell")).known


@needs_real
def test_words_that_the_real_tool_does_not_know_are_named():
    wrong = tool.trouble(real(*tool.query(BDF, "--set-cc-mode=ppcie")))
    assert wrong is not None and wrong.code == "gpu-tool-version" and "invalid choice" in wrong.what


@needs_real
def test_the_real_tool_is_one_of_the_releases_that_are_known(tmp_path):
    place = tmp_path / "real"
    shutil.copytree(REAL, place, ignore=shutil.ignore_patterns(".git", "__pycache__"))
    for path in (place, *place.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o022)
    digest, commit = pin.check(str(place), "")
    assert (commit, digest) in models.TOOL_RELEASES.values()
    bench = LocalBench(str(place), 60)
    wrong = tool.trouble(bench.ask(tool.query(BDF, "--query-cc-mode")))
    assert wrong is not None and wrong.code == "gpu-vanished"
    assert pin.digest(str(place)) == digest, "running it leaves no byte code beside it"


@needs_real
def test_the_double_parses_like_the_real_tool():
    """Each option of the double is one of the real tool, with the same choices."""
    double = Path(__file__).resolve().parents[3] / "tools" / "softgpu" / "tool" / "nvidia_gpu_tools.py"
    known = real("--help").text
    for word in set(re.findall(r'"(--[a-z-]+)"', double.read_text())):
        assert word in known
