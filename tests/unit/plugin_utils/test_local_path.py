# SPDX-License-Identifier: GPL-3.0-or-later
"""Relative paths: at the playbook, but never inside of an installed collection, where nobody keeps files."""

from __future__ import annotations

import os
import types

import pytest

from ansible.errors import AnsibleError
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import find_file, local_path


def action(base, searched=None):
    def needle(_kind, path):
        if searched is None:
            raise AnsibleError(f"could not find {path}")
        return searched

    loader = types.SimpleNamespace(get_basedir=lambda: str(base), get_real_file=lambda path: f"decrypted {path}")
    return types.SimpleNamespace(_loader=loader, _find_needle=needle)


@pytest.mark.parametrize(("below", "started"), [
    ("plays", False), ("ansible_collections/a/b/playbooks", True), ("ansible_collections/a/b/playbooks/tasks", True),
    ("ansible_collections/a/b/roles", False), ("ansible_collections/playbooks", False), ("ansible_collections/a/b/playbooks2", False),
])  # fmt: skip
def test_relative_paths_begin_where_the_user_is(tmp_path, monkeypatch, below, started):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    base = tmp_path / below
    assert local_path(action(base), "ledger") == os.path.realpath((tmp_path / "here" if started else base) / "ledger")
    assert local_path(action(base), "/etc/ledger") == "/etc/ledger"
    (tmp_path / "here" / "policy.yml").write_text("a policy")
    found = find_file(action(base, searched="/searched/policy.yml"), "policy.yml")
    assert found == ("decrypted " + os.path.realpath(tmp_path / "here" / "policy.yml") if started else "decrypted /searched/policy.yml")
    # What is not here is searched for all the same: a role has files of its own.
    assert find_file(action(base, searched="/role/files/x"), "x") == "decrypted /role/files/x"
    with pytest.raises(AttestedError, match="x: it cannot be read"):
        find_file(action(base), "x")
