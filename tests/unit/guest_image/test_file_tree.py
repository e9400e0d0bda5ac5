# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder that holds exactly some files: written, removed, told in check mode, and refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.file_tree import change_of, digest_of, present_tree, wanted_tree
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.costly
PATHS = st.sampled_from(["a", "b/c", "b/d", "e/f/g", ".h"])
TREES = st.dictionaries(PATHS, st.fixed_dictionaries({"content": st.text(max_size=20), "mode": st.sampled_from(["0644", "0755"])}), max_size=5)


def run(path: Path, files: dict, *words: str) -> dict:
    """The module in a real play; returns its result."""
    play = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [{"attested.ai.file_tree": {"path": str(path), "files": files}}]}]
    (path.parent / "play.yml").write_text(json.dumps(play))
    program = Path(sys.executable).with_name("ansible-playbook")
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1"}
    command = [program, "-i", "localhost,", "play.yml", "-v", *words]
    done = subprocess.run(command, cwd=path.parent, env=environment, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stdout + done.stderr
    return {"rc": done.returncode, "out": done.stdout + done.stderr}


def state(root: Path) -> dict:
    return {str(path.relative_to(root)): (path.read_text(), oct(path.stat().st_mode & 0o777)) for path in root.rglob("*") if path.is_file()}


def test_a_folder_becomes_exactly_what_is_wanted_and_stays(tmp_path):
    root = tmp_path / "tree"
    root.mkdir()
    (root / "old").write_text("x")
    (root / "was-file").write_text("x")
    (root / "link").symlink_to("/etc/hostname")
    files = {"a": {"content": "1\n"}, "was-file/b": {"content": "2", "mode": "0755"}, "link": {"content": "3"}}
    checked = run(root, files, "--check", "--diff")
    assert checked["rc"] == 0 and "changed=1" in checked["out"] and "==> old" in checked["out"] and sorted(os.listdir(root)) == ["link", "old", "was-file"]
    assert "changed=1" in run(root, files)["out"]
    assert state(root) == {"a": ("1\n", "0o644"), "was-file/b": ("2", "0o755"), "link": ("3", "0o644")} and not (root / "link").is_symlink()
    assert "changed=0" in run(root, files)["out"]
    os.chmod(root / "a", 0o600)
    assert "changed=1" in run(root, files)["out"] and state(root)["a"][1] == "0o644"


def test_a_folder_can_become_a_file(tmp_path):
    root = tmp_path / "tree"
    run(root, {"a/b/c": {"content": "1"}})
    assert "changed=1" in run(root, {"a": {"content": "2"}})["out"] and state(root) == {"a": ("2", "0o644")}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"../x": {"content": ""}}, "no path inside"),
        ({"/x": {"content": ""}}, "no path inside"),
        ({"a/../b": {"content": ""}}, "no path inside"),
        ({"a": {"content": "", "mode": "420"}, "a/b": {"content": ""}}, "at once"),
        ({"a": {"content": "", "mode": "999"}}, "no mode"),
        ({"a": {"contents": ""}}, "needs content"),
        ({"a": "text"}, "needs content"),
        ({"a": {"content": b""}}, "needs content"),
    ],
)
def test_what_is_no_tree_is_refused(files, words):
    with pytest.raises(HostError, match=words):
        wanted_tree(files)


@given(TREES, TREES)
def test_a_change_leads_from_one_to_the_other(before, after):
    one, two = wanted_tree(before), wanted_tree(after)
    change = change_of(one, two)
    result = {path: entry for path, entry in one.items() if path not in change.remove}
    result.update(change.write)
    assert result == two and change.needed == (one != two)
    assert (digest_of(one) == digest_of(two)) == (one == two)


def test_what_others_keep_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_text("")
    (tmp_path / "y").write_text("")
    assert list(present_tree(str(tmp_path), ("mine",))) == ["y"]
