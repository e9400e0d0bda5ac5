# SPDX-License-Identifier: GPL-3.0-or-later
"""The doctor's whole table for three recorded hosts: every check, its outcome and what was found, as docs/preflight.md shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.target.probes.recording import RecordedHost
from ansible_collections.attested.ai.plugins.module_utils.target.probes.survey import survey
from ansible_collections.attested.ai.plugins.plugin_utils import preflight_view

HERE = Path(__file__).parent
DOCS = HERE.parents[2] / "docs" / "preflight.md"
VERDICTS = {"tdx-good": "ready", "tdx-broken": "not-ready", "snp-broken": "not-ready"}


def table(name):
    found = survey(RecordedHost(json.loads((HERE / "recorded" / (name + ".json")).read_text())))
    rows = ["%-7s  %-24s  %s" % (probe.outcome, probe.id, probe.observed) for probe in found.probes]
    return found, "%s: %s\n%s\n" % (name, found.verdict, "\n".join(rows))


@pytest.mark.parametrize("name", sorted(VERDICTS))
def test_the_whole_table_is_as_documented(name):
    found, shown = table(name)
    assert found.verdict == VERDICTS[name]
    assert "```text\n%s```\n" % shown in DOCS.read_text()


def test_broken_hosts_get_cause_and_step_for_each_finding():
    for name in ("tdx-broken", "snp-broken"):
        result = table(name)[0].to_dict()
        rows = preflight_view.view({name: {"v": result}}, [name], "v", {})["rows"]
        assert len(rows) == result["counts"]["fail"] + result["counts"]["unknown"]
        text = DOCS.read_text()
        # The page shows each step once, in the rows that the play prints.
        assert [row["check"] for row in rows if "| `%s` | %s |" % (row["check"], row["found"]) not in text] == []


def test_every_check_is_in_the_table_of_checks():
    text = DOCS.read_text()
    for path in sorted((HERE / "recorded").glob("*.json")):
        for probe in survey(RecordedHost(json.loads(path.read_text()))).probes:
            assert "| `%s` | %s |" % (probe.id, probe.area) in text
