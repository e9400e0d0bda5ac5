# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guides show can be pasted: every task in them has options that exist, in a form that is taken."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.attested.ai.plugins.plugin_utils.key_source import _MEMBERS
from ansible_collections.attested.ai.plugins.plugin_utils.vault_server import _LOGINS, _NETWORK

DOCS = Path(__file__).resolve().parents[3] / "docs"
SERVER = {"url", *_NETWORK, *_LOGINS, "role_id", "auth_role", "auth_mount"}


def tasks(guide: str) -> list[dict]:
    """The tasks of all blocks, with what their play defines put in."""
    found = []
    for block in re.findall(r"^```yaml\n(.*?)^```", (DOCS / guide).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        document = yaml.safe_load(block)
        for entry in document if isinstance(document, list) else []:
            found += entry.get("tasks", [entry])
    return [task for task in found if any(name.startswith("attested.ai.") for name in task)]


@pytest.mark.parametrize("guide", ["key-sources.md", "key-release.md"])
def test_tasks_of_the_guide_are_taken(guide):
    shown = tasks(guide)
    assert len(shown) >= 2
    for task in shown:
        (name,) = (name for name in task if name.startswith("attested.ai."))
        short = name.rpartition(".")[2]
        package = "ansible_collections.attested.ai.plugins"
        kind = "modules" if short in ("model_open", "guest_key_pull") else "action"
        spec = importlib.import_module(f"{package}.{kind}.{short}").ARGUMENT_SPEC
        assert ArgumentSpecValidator(spec).validate(task[name]).error_messages == [], task


def test_sources_and_servers_of_the_guide_are_taken():
    text = (DOCS / "key-sources.md").read_text(encoding="utf-8")
    play = next(yaml.safe_load(block)[0] for block in re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE) if "hosts:" in block)
    assert set(play["vars"]["vault"]) <= SERVER
    required, optional = _MEMBERS[play["vars"]["kek"]["source"]]
    assert set(play["vars"]["kek"]) - {"source", "server"} <= {*required, *optional}
    for name in sorted(SERVER):
        assert f"`{name}`" in text, f"{name} is not in the guide"
