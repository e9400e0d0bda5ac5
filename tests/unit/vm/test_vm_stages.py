# SPDX-License-Identifier: GPL-3.0-or-later
"""A stage that is interrupted: nothing that it started goes on, and its scenario takes down what outlives its programs."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools/dev"))

import stages  # noqa: E402

MOLECULE = """#!/bin/sh
echo "$@" >>words
[ "$1" = test ] || exit 0
sleep 300 &
echo $! >pid
wait
"""


def state(pid: int) -> str:
    """As /proc has it; nothing or Z for one that has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


@pytest.fixture
def place(tmp_path, monkeypatch):
    for name in (".venv-test/bin", "log"):
        (tmp_path / name).mkdir(parents=True)
    program = tmp_path / ".venv-test/bin/molecule"
    program.write_text(MOLECULE)
    program.chmod(0o755)
    monkeypatch.setattr(stages, "REPO", tmp_path)
    monkeypatch.setattr(stages, "LOGS", tmp_path / "log")
    monkeypatch.delenv("V", raising=False)
    old = signal.signal(signal.SIGALRM, stages.interrupted)
    yield tmp_path
    stages.STOP.clear()
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, old)


@pytest.mark.parametrize("command", [("molecule", "test", "--scenario-name", "x"), ("sh", "-c", "molecule test --scenario-name x")])
def test_an_interruption_leaves_nothing_behind(place, command):
    signal.setitimer(signal.ITIMER_REAL, 3)
    with pytest.raises(KeyboardInterrupt):
        stages.run(stages.Stage("try", "vm", (command, ("touch", "later"))))
    assert (place / "words").read_text().splitlines() == ["test --scenario-name x", "destroy --scenario-name x"]
    assert state(int((place / "pid").read_text())) in ("", "Z") and not (place / "later").exists()


@pytest.mark.parametrize("command", [("no-such-program",), ("false",)])
def test_what_cannot_even_start_is_a_failure(place, command, capsys):
    together = stages.Run(2)
    together.start(stages.Stage("try", "vm", (command,)), "")
    together.start(stages.Stage("well", "vm", (("true",),)), "")
    together.finish()
    assert (together.total.passed, together.total.failed) == (1, 1) and "FAILED   try" in capsys.readouterr().out


def test_stages_share_cores(place):
    """Two that need one core meet; one that needs both has them for itself."""
    meet = ("sh", "-c", "echo >>here; for n in $(seq 100); do [ $(wc -l <here) -eq 2 ] && exit 0; sleep 0.1; done; exit 1")
    together = stages.Run(2)
    for name in ("one", "two"):
        together.start(stages.Stage(name, "vm", (meet,)), "")
    together.start(stages.Stage("both", "vm", (("sh", "-c", "rm here; sleep 0.5; touch both"),), cores=4), "")
    together.start(stages.Stage("after", "vm", (("test", "-e", "both"),)), "")
    together.finish()
    assert (together.total.passed, together.total.failed) == (4, 0)


def test_what_ends_by_itself_is_not_taken_down_twice(place):
    assert stages.run(stages.Stage("try", "vm", (("molecule", "converge"), ("false",), ("touch", "later")))) == 1
    assert (place / "words").read_text() == "converge\n" and not (place / "later").exists()
