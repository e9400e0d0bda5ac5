# SPDX-License-Identifier: GPL-3.0-or-later
"""The execution environment has what its own templates run: the collections of others that roles and playbooks call, and the programs behind them."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

REPO = Path(__file__).resolve().parents[3]
OURS = ("ansible.builtin", "attested.ai")
# namespace.collection.name as the key of a task, the name of a lookup or test, or behind a pipe.
_TASK = re.compile(r"""^\s*-?\s*["']?([a-z_0-9]+\.[a-z_0-9]+)\.[a-z_0-9]+["']?:(?:\s|$)""", re.MULTILINE)
_CALLED = re.compile(r"""(?:\|\s*|\b(?:lookup|query|q)\(\s*["']|\bis (?:not )?)([a-z_0-9]+\.[a-z_0-9]+)\.[a-z_0-9]+""")
# What a node or a cluster has, in manifests and labels; no collection is called so.
_LABELS = re.compile(r"\.(?:io|com|org|dev|k8s)$")


def called():
    """{collection: [file]} of those that are not ours."""
    found: dict[str, list[str]] = {}
    for folder in ("roles", "playbooks"):
        for path in sorted((REPO / folder).rglob("*.y*ml")):
            text = path.read_text(encoding="utf-8")
            # Elsewhere a key may be the name of a file.
            tasks = _TASK.findall(text) if folder == "playbooks" or path.parent.name in ("tasks", "handlers") else []
            for name in {*tasks, *_CALLED.findall(text)}:
                if name not in OURS and not _LABELS.search(name):
                    found.setdefault(name, []).append(str(path.relative_to(REPO)))
    return found


def test_each_collection_that_a_task_calls_is_in_the_image_and_no_other():
    environment = yaml.safe_load((REPO / "execution-environment.yml").read_text(encoding="utf-8"))
    declared = {one["name"] for one in environment["dependencies"]["galaxy"]["collections"] if one.get("type") != "file"}
    assert declared == set(called()), called()
    # The image is Fedora's, for which these are declared.
    assert environment["images"]["base_image"]["name"].startswith("fedora:")
    listed = (REPO / "meta" / "ee-bindep.txt").read_text(encoding="utf-8")
    assert {"helm [platform:fedora]", "skopeo"} <= set(listed.splitlines())


def test_a_call_of_another_collection_is_seen(tmp_path, monkeypatch):
    (tmp_path / "roles" / "x" / "tasks").mkdir(parents=True)
    calls = "- community.general.ini_file:\n    a: \"{{ b | community.crypto.x }} {{ lookup('ansible.utils.y', c) }}\"\n  nvidia.com/gpu: 1\n"
    (tmp_path / "roles" / "x" / "tasks" / "main.yml").write_text(calls)
    monkeypatch.setitem(globals(), "REPO", tmp_path)
    assert set(called()) == {"community.general", "community.crypto", "ansible.utils"}
