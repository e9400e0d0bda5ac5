# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
"""The action in a real run: printed once, the lines returned, check mode no different."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PLAY = """
- hosts: all
  gather_facts: false
  connection: local
  tasks:
    - attested.ai.summary_table:
        title: Attestation
        columns: [{key: guest, title: Guest}, {key: outcome, title: Outcome}, {key: reason, title: Reason}]
        outcome: outcome
        rows:
          - {guest: good, outcome: accepted, reason: affirming}
          - {guest: bad, outcome: refused, reason: "policy.debug"}
        notes: ["Report: here"]
      register: table
    - ansible.builtin.copy:
        content: "{{ table | to_json }}"
        dest: "{{ playbook_dir }}/result.json"
        mode: "0600"
      check_mode: false
      run_once: true
"""


def run(directory, *arguments, **environment):
    (directory / "play.yml").write_text(PLAY, encoding="utf-8")
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "one,two,", "-e", f"ansible_python_interpreter={sys.executable}", "play.yml", *arguments]
    found = subprocess.run(command, cwd=directory, env={**os.environ, "COLUMNS": "60", **environment}, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout, json.loads((directory / "result.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("arguments", [[], ["--check"]])
def test_the_table_is_printed_once_for_all_hosts(tmp_path, arguments):
    output, result = run(tmp_path, *arguments)
    assert output.count("good   accepted  affirming") == 1
    assert "\x1b" not in output
    assert result["changed"] is False
    assert [line for line in result["lines"] if set(line) - set("-\u2500")] == [
        "Attestation",
        "Guest  Outcome   Reason",
        "good   accepted  affirming",
        "bad    refused   policy.debug",
        "Report: here",
    ]


def test_rows_are_coloured_by_outcome_where_colours_are_wanted(tmp_path):
    output, result = run(tmp_path, ANSIBLE_FORCE_COLOR="1")
    assert "\x1b[0;32mgood   accepted  affirming\x1b[0m" in output
    assert "\x1b[0;31mbad    refused   policy.debug\x1b[0m" in output
    assert not any("\x1b" in line for line in result["lines"])
