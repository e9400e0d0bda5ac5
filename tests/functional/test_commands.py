# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of the documentation, typed as a reader types them: those that tests/unit/guides/commands.yml says are run, page by page, in their order.

Guests are this machine with the Soft TEE before it, over local connections. Nothing is changed outside of temporary folders.
"""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from pathlib import Path

import pytest
import yaml

from .commands_lab import PREPARE, REPO, Sandbox

REGISTER = yaml.safe_load((REPO / "tests" / "unit" / "guides" / "commands.yml").read_text(encoding="utf-8"))["pages"]
PAGES = {page: [entry for entry in entries if "run" in entry] for page, entries in REGISTER.items() if any("run" in entry for entry in entries)}


@pytest.fixture
def sandbox():
    # Short: some of the programs make sockets in it.
    home = Path(tempfile.mkdtemp(prefix="at-", dir="/tmp"))
    made = Sandbox.make(home)
    yield made
    # Where a page was left in the middle.
    if os.path.ismount(home / "soft-mnt"):
        made.script(["PYTHONPATH=tools/softtee python -m softtee stop --state ~/soft"])
    shutil.rmtree(home)


def exchanged(entry):
    command = entry["command"]
    for old, new in entry["run"].get("instead", {}).items():
        assert old in command, entry
        command = command.replace(old, new)
    return command


def judge(entry, done):
    expected = entry["run"].get("status", 0)
    assert done.status in (expected if isinstance(expected, list) else [expected]), f"{entry['command']} ended with {done.status}:\n{done.output}"
    # Tables are as wide as their content.
    said = " ".join(done.output.split())
    missing = [word for word in entry["run"].get("says", ()) if " ".join(str(word).split()) not in said]
    assert not missing and "Traceback" not in said, f"{entry['command']} did not say {missing}:\n{done.output}"


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_do_what_it_says(page, sandbox, request):
    if page in PREPARE:
        PREPARE[page](sandbox, lambda: request.getfixturevalue("soft_guest"))
    in_turn = [entry for entry in PAGES[page] if not entry["run"].get("serves")]
    for entry, done in zip(in_turn, sandbox.script([exchanged(entry) for entry in in_turn]), strict=True):
        judge(entry, done)
    for entry in PAGES[page]:
        if entry["run"].get("serves"):
            judge(entry, sandbox.serve(exchanged(entry), entry["run"]["says"]))


def test_every_playbook_that_a_page_names_has_its_syntax(sandbox):
    words = {word for entries in REGISTER.values() for entry in entries for word in shlex.split(entry["command"])}
    named = sorted(word for word in words if word.startswith("attested.ai.") and (REPO / "playbooks" / (word.rpartition(".")[2] + ".yml")).is_file())
    assert len(named) > 12
    (done,) = sandbox.script(["ansible-playbook --syntax-check " + " ".join(named)])
    assert done.status == 0 and done.output.count("playbook: ") == len(named), done.output


def test_a_command_that_fails_or_says_nothing_is_found(sandbox):
    failed, silent, folder = sandbox.script(["echo said; (exit 3)", "cd tools", "pwd"])
    entry = {"command": "x", "run": {"says": ["said"]}}
    for done in (failed, silent):
        with pytest.raises(AssertionError):
            judge(entry, done)
    assert folder.output.endswith("tools\n") and sandbox.serve("sh -c 'echo other; exit 4'", ["said"]).status == 4
