# SPDX-License-Identifier: GPL-3.0-or-later
"""A failure is a result: only then ansible-core looks at until, failed_when and what a loop registers."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.errors import AnsibleActionFail

from ansible_collections.attested.ai.plugins.plugin_utils.action_failure import failure_as_result

ACTIONS = sorted(path.stem for path in (Path(__file__).parents[3] / "plugins" / "action").glob("*.py"))
PLAY = [
    {
        "hosts": "localhost",
        "gather_facts": False,
        "tasks": [
            {
                "attested.ai.key_ledger": {"path": "/none/{{ item }}", "public_key": "/none/key.pem"},
                "register": "found",
                "until": "found.code == 'ledger-key' and found.attempts == 2",
                "failed_when": False,
                "retries": 3,
                "delay": 0,
                "loop": ["a", "b"],
            },
            {"ansible.builtin.debug": {"msg": "{{ found.results | map(attribute='attempts') | list | to_json }} {{ found.results.0.code }}"}},
        ],
    }
]


@pytest.mark.parametrize("name", ACTIONS)
def test_no_action_raises_its_failure(name):
    action = importlib.import_module(f"ansible_collections.attested.ai.plugins.action.{name}").ActionModule
    assert hasattr(action.run, "__wrapped__"), name


def test_what_is_raised_is_returned_with_all_that_it_says():
    @failure_as_result
    def run(self, tmp=None, task_vars=None):
        raise AnsibleActionFail("no key", result={"code": "ledger-key", "changed": True})

    assert run(None) == {"changed": True, "code": "ledger-key", "failed": True, "msg": "no key"}


def test_retries_and_loops_see_it(tmp_path):
    (tmp_path / "play.json").write_text(json.dumps(PLAY))
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-c", "local", str(tmp_path / "play.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "ANSIBLE_NOCOLOR": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[2, 2] ledger-key" in done.stdout, done.stdout
