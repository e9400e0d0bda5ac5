# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One nonce for a whole list: the same evidence must not stand for two guests."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.action.evidence_verify import ARGUMENT_SPEC, verify
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import Binding, EvidenceDocument, EvidenceItem
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import Inputs

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tdx"))

import tdx_lab  # noqa: E402

NONCE = bytes(range(32))


@pytest.fixture
def judged(tmp_path):
    lab = tdx_lab.lab()
    (tmp_path / "collateral.json").write_bytes(lab.collateral())
    policy = {"schema": "attested.ai/policy/1", "id": "t", "allow_nonvendor_roots": True, "roots": [tdx_lab.pem(lab.root)], "measurements_required": False}

    def document(mrtd=b"\x11" * 48):
        template = EvidenceDocument("attested/1", NONCE, Binding(), (), {})
        quote = lab.quote(tdx_lab.td_report(reportdata=template.expected_report_data(NONCE), mrtd=mrtd))
        return EvidenceDocument("attested/1", NONCE, Binding(), (EvidenceItem("tdx", "tdx_guest", quote, {}),), {}).to_dict()

    def run(evidence, **options):
        defaults = {name: spec.get("default") for name, spec in ARGUMENT_SPEC.items()}
        given = {"evidence": evidence, "nonce": base64.b64encode(NONCE).decode(), "policy": policy, "at": "2026-11-01T00:00:00Z", "fail_on_refusal": False}
        return verify({**defaults, **given, "collateral": [str(tmp_path / "collateral.json")], **options}, Inputs())

    return document, run


def test_the_same_evidence_counts_once(judged):
    document, run = judged
    one = document()
    results = run([one, document(b"\x12" * 48), one])["results"]
    assert [result["accepted"] for result in results] == [True, True, False]
    assert [reason["id"] for reason in results[2]["result"]["reasons"]] == ["replay"]


def test_archived_evidence_may_be_listed_twice(judged):
    document, run = judged
    one = document()
    assert run([one, one], nonce=None, freshness="unchecked")["accepted"] is True
