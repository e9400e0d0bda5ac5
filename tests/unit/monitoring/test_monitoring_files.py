# SPDX-License-Identifier: GPL-3.0-or-later
"""Alert rules and dashboard: judged by promtool where that is at hand, and every metric in them is one that we export.

promtool comes with Prometheus (Debian's package "prometheus"). PROMTOOL names it if it is not on the PATH.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import pytest
import yaml
from ansible_collections.attested.ai.plugins.module_utils.fleet.metrics import FAMILIES, HostMetrics, render
from ansible_collections.attested.ai.plugins.module_utils.fleet.reaction import Memory

MONITORING = Path(__file__).resolve().parents[3] / "extensions" / "monitoring"
RULES, TESTS = MONITORING / "prometheus" / "attested.rules.yml", MONITORING / "prometheus" / "attested.rules.test.yml"
DASHBOARD = json.loads((MONITORING / "grafana" / "attested.json").read_text())
METRIC = re.compile(r"\battested_[a-z_]+\b")


@pytest.fixture(scope="module")
def promtool():
    found = os.environ.get("PROMTOOL") or shutil.which("promtool")
    if not found:
        pytest.skip("promtool is not at hand: install Debian's package prometheus, or name the program in PROMTOOL")

    def run(*arguments, given=None, where=None):
        done = subprocess.run([found, *map(str, arguments)], input=given, capture_output=True, text=True, check=False, cwd=where)
        return done.returncode, done.stdout + done.stderr

    return run


def expressions():
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def test_the_rules_hold_and_do_what_their_tests_say(promtool):
    assert promtool("check", "rules", RULES)[0] == 0
    status, said = promtool("test", "rules", TESTS.name, where=TESTS.parent)
    assert status == 0 and "SUCCESS" in said, said


def test_a_rule_that_is_broken_is_noticed(promtool, tmp_path):
    """The tests beside the rules can fail."""
    (tmp_path / TESTS.name).write_text(TESTS.read_text())
    (tmp_path / RULES.name).write_text(RULES.read_text().replace("> 0.1", "> 0.9"))
    assert promtool("test", "rules", TESTS.name, where=tmp_path)[0] != 0


def test_each_rule_has_a_test():
    alerts = {rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
    tested = {one["alertname"] for test in yaml.safe_load(TESTS.read_text())["tests"] for one in test["alert_rule_test"] if one["exp_alerts"]}
    assert alerts == tested


def test_rules_and_dashboard_ask_for_what_is_exported():
    asked = set(METRIC.findall(RULES.read_text())) | {name for one in expressions() for name in METRIC.findall(one)}
    assert asked - {"attested_ai"} <= set(FAMILIES), asked - set(FAMILIES)


def test_every_question_of_the_dashboard_is_promql(promtool, tmp_path):
    plain = [one.replace("$__rate_interval", "5m").replace("$host", "a") for one in expressions()]
    rules = {"groups": [{"name": "d", "rules": [{"record": f"d:panel{number}", "expr": one} for number, one in enumerate(plain)]}]}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    status, said = promtool("check", "rules", tmp_path / "rules.yml")
    assert status == 0 and f"{len(plain)} rules found" in said, said


def test_the_exported_file_is_one_that_prometheus_reads(promtool):
    moment = "2026-11-28T00:00:00Z"
    foretold = [{"item": "", "code": "crl-expired", "because": "expiry", "at": moment}] * 2
    one = HostMetrics('a"b\\c', "missing", None, Memory(asked=moment, outcome="missing", foretold=moment), foretold)
    text = render([one], datetime(2026, 11, 28, tzinfo=timezone.utc))
    status, said = promtool("check", "metrics", given=text)
    assert status == 0, said


def test_panels_do_not_lie_upon_each_other():
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
