# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
"""The role in a real run: hostile values stay text, nothing is fetched, a second run changes nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

pytestmark = pytest.mark.costly
HOSTILE = "<script>alert(1)</script>\"'&{{ 7 * 7 }}"
VOID = {"meta", "br", "use", "path", "rect", "circle"}


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.open, self.wrong = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src", "action", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID and (not self.open or self.open.pop() != tag):
            self.wrong.append(tag)


def play(directory):
    runs = [{"name": HOSTILE, "host": HOSTILE, "workload": HOSTILE, "ok": False, "detail": HOSTILE}]
    change = {"kind": "machine", "item": HOSTILE, "what": HOSTILE, "before": HOSTILE, "after": HOSTILE}
    fleet = [{"host": HOSTILE, "state": "contraindicated", "why": HOSTILE, "anchor": HOSTILE, "condition": "failing", "changes": [change], "tees": [HOSTILE],
              "evaluated_at": "2026-11-28T12:00:00Z", "policy": HOSTILE}, {"host": "fine", "state": "affirming", "condition": "ok"}]  # fmt: skip
    history = [{"at": "2026-11-28T12:00:00Z", "host": HOSTILE, "event": HOSTILE, "detail": HOSTILE, "changes": [change]}]
    event = {"guest": HOSTILE, "item": HOSTILE, "code": HOSTILE, "at": None, "days": None, "because": HOSTILE, "detail": HOSTILE}
    forecast = {"forecast": [event], "msg": HOSTILE, "recoveries": [{"number": 20, "refused": [HOSTILE], "unknown": ["x"], "guests": 2}]}
    tables = [{"title": HOSTILE, "text": HOSTILE, "columns": [{"key": "a", "title": HOSTILE}], "rows": [{"a": HOSTILE}]}]
    variables = {"report_runs": runs, "report_tables": tables, "report_title": HOSTILE, "report_directory": str(directory / "out"),
                 "report_fleet": fleet, "report_history": history, "report_forecast": forecast}  # fmt: skip
    (directory / "vars.json").write_text(json.dumps(variables).replace("{{ 7 * 7 }}", "{% raw %}{{ 7 * 7 }}{% endraw %}"), encoding="utf-8")
    command = [sys.executable, "-m", "ansible", "adhoc", "localhost", "-m", "ansible.builtin.include_role", "-a", "name=attested.ai.report"]
    command += ["-e", "@vars.json", "-e", f"ansible_python_interpreter={sys.executable}", "-e", f"playbook_dir={directory}"]
    found = subprocess.run(command, cwd=directory, env={**os.environ}, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    directory = tmp_path_factory.mktemp("report")
    first, second = play(directory), play(directory)
    return first, second, (directory / "out" / "report.html").read_text(encoding="utf-8")


def test_hostile_values_stay_text(ran):
    page = Page(ran[2])
    assert "script" not in page.tags and ran[2].count("&lt;script&gt;alert(1)") >= 25
    assert "49" not in re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", ran[2], flags=re.S)
    assert page.wrong == [] and page.open == []


def test_the_fleet_its_history_and_its_outlook_are_there(ran):
    for heading in ("The fleet", "Drift and what was done", "What will be refused, and when", "States of the data by workload"):
        assert heading in ran[2]
    assert "If TCB recovery 20 became mandatory today: 1 of 2 TDX guests would be refused" in ran[2] and "Affirming (1)" in ran[2]


def test_nothing_is_fetched(ran):
    assert all(link.startswith("#") for link in Page(ran[2]).links)
    assert "url(" not in ran[2] and "@import" not in ran[2]


def test_a_second_run_changes_nothing(ran):
    assert "CHANGED" in ran[0] and "CHANGED" not in ran[1]
