# SPDX-License-Identifier: GPL-3.0-or-later
"""--limit leaves the controller out, and with it the play that asks for a confirmation, or that tells who was refused: then nothing may happen at all."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys

import pytest
import yaml

REPO = pathlib.Path(__file__).resolve().parents[2]
# Those that ask, judge or tell on the controller after, or before, they work on hosts. Others have no play on the controller, or one that stands for itself.
ASKED = ("attest", "collateral", "decommission", "dossier", "monitor", "site")
ALONE = {"awx_setup", "demo", "demo_train", "deploy_model", "overhead_benchmark", "plan", "runtimes"}


def test_every_playbook_with_a_play_on_the_controller_was_thought_of():
    books = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in (REPO / "playbooks").glob("*.yml")}
    assert {name for name, plays in books.items() if any(play.get("hosts") == "localhost" for play in plays)} == ALONE | set(ASKED)
    for name in ASKED:
        assert books[name][0]["ansible.builtin.import_playbook"] == "shared/controller.yml", name


@pytest.mark.parametrize("book", ASKED)
def test_nothing_happens_without_the_controller(book, tmp_path):
    hosts = {name: {"ansible_connection": "local", "decommission_services": ["none.service"]} for name in ("h1", "h2")}
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"children": {"guests": {"hosts": hosts}, "model_servers": {"hosts": hosts}}}}))
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "hosts.json", f"attested.ai.{book}", "--limit", "h1"]
    given = {"attest_policy": "none.yml", "model_server_policy": "none.yml", "dossier_key": "none.pem", **({} if book == "site" else {"target": "h1"})}
    done = subprocess.run([*command, "-e", json.dumps(given)], capture_output=True, text=True, check=False, cwd=tmp_path, stdin=subprocess.DEVNULL)
    assert done.returncode == 2 and "--limit h1,localhost" in done.stdout + done.stderr, done.stdout
    assert re.findall(r"^TASK \[(.*)\]", done.stdout, re.MULTILINE) == ["Stop where --limit leaves it out"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hosts.json"]
