# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Every TDX case of the shared vectors through the whole appraisal: accepted or refused under the default policy, and for which reason."""

from __future__ import annotations

import base64
import json
import os
from datetime import datetime
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import UNCHECKED, Endorsements, appraise_report
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import SCHEMA, load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValues
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache

FOLDER = Path(os.environ.get("ATTESTED_VECTORS", Path(__file__).resolve().parents[3] / "shared" / "vectors")) / "tdx"
THERE = (FOLDER / "cases.json").exists()
CASES = json.loads((FOLDER / "cases.json").read_text(encoding="utf-8"))["cases"] if THERE else []
CACHE = VerificationCache()
# A case without collateral of its time: parsing and the signatures over the quote are all that can be judged.
PARSE_ONLY = "parse-only"

pytestmark = pytest.mark.skipif(not THERE and os.environ.get("CI", "") == "", reason="no test vectors: set ATTESTED_VECTORS")


def judge(case, cache, **policy):
    keys = {"schema": SCHEMA, "id": "vectors", "measurements_required": False, **policy}
    if case["root"] == "synth-root-ca.der":
        body = base64.encodebytes((FOLDER / case["root"]).read_bytes()).decode("ascii")
        keys.update(allow_nonvendor_roots=True, roots=["-----BEGIN CERTIFICATE-----\n%s-----END CERTIFICATE-----\n" % body])
    return appraise_report(
        (FOLDER / case["evidence"]).read_bytes(),
        tee="tdx",
        policy=load_policy(keys),
        reference_values=ReferenceValues(),
        endorsements=Endorsements(tdx=((FOLDER / case["collateral"]).read_bytes(),) if case.get("collateral") else ()),
        expected_report_data=bytes.fromhex(case["expected_report_data"]) if case.get("expected_report_data") else UNCHECKED,
        at=datetime.fromisoformat(case["at"].replace("Z", "+00:00")),
        cache=cache,
    )


def test_there_are_cases():
    assert len(CASES) >= 27


@pytest.mark.parametrize("cache", [None, CACHE, CACHE], ids=["cold", "first", "warm"])
@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_verdict(case, cache):
    result, expect = judge(case, cache), case["expect"]
    item = result.items["cpu0"]
    assert result.accepted is bool(expect["accept_default_policy"])
    assert item.authentic is expect["authentic"]
    reasons = [check.id for check in result.reasons]
    if expect["code"] == PARSE_ONLY:
        assert "collateral-missing" in reasons
    else:
        assert (reasons or ["ok"])[0] == expect["code"]
    # The one status that the table has before the rule of relaunch is applied (TDX reference, section 3 step 7).
    wanted = "TDRelaunchAdvised" if expect["code"] == "td-relaunch-advised" else expect["tcb_status"]
    assert item.claims.get("tcb_status") == wanted
    assert item.anchor == ("none" if item.authentic is False else "nonvendor" if case["root"].startswith("synth") else "vendor") or item.authentic is not True


@pytest.mark.parametrize(("name", "policy"), [
    ("syn-swhardening", {"statuses": ["UpToDate", "SWHardeningNeeded"], "allow_advisories": None}),
    ("syn-relaunch-advised", {"allow_relaunch_advised": True, "allow_advisories": None}),
    ("syn-sept-ve-clear", {"require_sept_ve_disable": False}),
    ("syn-debug", {"allow_debug": True}),
])
def test_what_a_policy_allows_by_name_is_accepted_and_never_affirming_if_it_weakens(name, policy):
    (case,) = [case for case in CASES if case["id"] == name]
    if "allow_advisories" in policy:
        policy = {**policy, "allow_advisories": judge(case, None).items["cpu0"].claims["advisory_ids"]}
    result = judge(case, None, tdx=policy)
    assert [check.id for check in result.reasons] == [] and result.accepted
    assert result.status in ("warning", "contraindicated")
