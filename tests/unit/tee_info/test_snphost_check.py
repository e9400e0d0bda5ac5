# SPDX-License-Identifier: GPL-3.0-or-later
"""snphost as a second opinion: read as 0.7.0 prints it, compared, never believed over our own probes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import FAIL, PASS, SKIPPED, UNKNOWN
from ansible_collections.attested.ai.plugins.module_utils.target.probes.recording import RecordedHost
from ansible_collections.attested.ai.plugins.module_utils.target.probes.snphost import SAME, parse_ok
from ansible_collections.attested.ai.plugins.module_utils.target.probes.survey import survey
from hypothesis import given
from hypothesis import strategies as st

GOOD = json.loads((Path(__file__).parent / "recorded" / "snp-good.json").read_text())
# As virtee/snphost PR 193 shows it.
NOT_ROOT = """
[ FAIL ]     - SME: MSR read failed: Error Reading MSR
[ FAIL ]     - SEV firmware version: Failed to get SEV Platform Status unable to open /dev/sev
[ PASS ]         - Number of VMPLs: 4
[ SKIP ]         - Read RMP tables
[ PASS ]     - Physical address bit reduction: 6
[ PASS ]     - Minimum ASID value for SEV-enabled, SEV-ES disabled guest: 100
[ FAIL ]     - /dev/sev readable: Not readable: Permission denied (os error 13)
"""


def checked(out, rc=0, change=None):
    document = json.loads(json.dumps(GOOD))
    document["commands"]["snphost ok"] = {"rc": rc, "out": out}
    if change:
        change(document)
    found = survey(RecordedHost(document))
    return found, next(probe for probe in found.probes if probe.id == "snp.snphost-agrees")


def test_lines_are_read_with_colours_and_without_the_rest_of_long_messages():
    found = parse_ok("\x1b[32m[ PASS ]\x1b[0m   - Comparing TCB values: TCB versions match\n  Microcode: 219\n" + NOT_ROOT)
    assert found[0] == ("pass", "Comparing TCB values", "TCB versions match") and len(found) == 8
    assert ("skip", "Read RMP tables", "") in found


def test_agreement_passes_and_counts_what_was_compared():
    _found, probe = checked(GOOD["commands"]["snphost ok"]["out"])
    assert probe.outcome == PASS and probe.observed == "%d checks compared" % len(SAME)


def test_a_contradiction_is_shown_and_changes_none_of_our_answers():
    found, probe = checked(GOOD["commands"]["snphost ok"]["out"].replace("[ PASS ]         - Alias check", "[ FAIL ]         - Alias check"), rc=1)
    assert probe.outcome == UNKNOWN and probe.observed == "Alias check: snp.firmware-alias says pass, snphost says fail" and probe.fix
    assert {other.outcome for other in found.probes if other is not probe} == {PASS} and found.verdict == "unknown"


def test_its_praise_does_not_mend_what_we_found_broken():
    found, probe = checked(GOOD["commands"]["snphost ok"]["out"], change=lambda document: document["msr"].update({"0xc0010010": "0x740000"}))
    assert found.verdict == "not-ready" and probe.outcome == UNKNOWN
    assert next(other for other in found.probes if other.id == "snp.bios-snp").outcome == FAIL


def test_what_it_could_not_look_at_is_no_contradiction():
    _found, probe = checked(NOT_ROOT, rc=1)
    assert probe.outcome == SKIPPED and "can be compared" in probe.observed


def test_what_we_could_not_read_is_not_taken_from_it():
    found, probe = checked(GOOD["commands"]["snphost ok"]["out"], change=lambda document: document["msr"].clear())
    assert probe.outcome == PASS
    assert next(other for other in found.probes if other.id == "snp.bios-snp").outcome == UNKNOWN and found.verdict == "unknown"


@given(st.text() | st.text(st.sampled_from("[ PASFILK]-:\n\x1b[0m")))
def test_any_text_is_read_to_its_end(text):
    for outcome, name, _message in parse_ok(text):
        assert outcome in ("pass", "fail", "skip") and name


@given(st.text(st.sampled_from("[ PASFILK]-:\nSME")))
def test_no_text_changes_our_answers(text):
    found, probe = checked(text)
    assert probe.outcome in (PASS, SKIPPED, UNKNOWN) and {other.outcome for other in found.probes if other is not probe} == {PASS}


@pytest.mark.parametrize("out", ["", "error: unrecognized subcommand\n", "[ PASS ] nothing\n", "{"])
def test_what_is_no_answer_decides_nothing(out):
    found, probe = checked(out, rc=2)
    assert probe.outcome == SKIPPED and found.verdict == "ready"


def test_it_need_not_be_installed():
    found, probe = checked("", change=lambda document: document["commands"].pop("snphost ok"))
    assert probe.outcome == SKIPPED and "not needed" in probe.observed and found.verdict == "ready"
