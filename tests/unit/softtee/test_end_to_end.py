# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

"""The whole path: the collection's collector on the mount, its appraisal with the printed policy and reference values."""

import hashlib
import json
import os
from datetime import datetime, timezone

import pytest
import yaml

appraise = pytest.importorskip("ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise")
from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import Endorsements
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import load_reference_values
from ansible_collections.attested.ai.plugins.module_utils.errors import CollectError
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_certtable import parse_certtable
from ansible_collections.attested.ai.plugins.module_utils.target import tsm

# What must be among the failed checks; authentic or not.
REFUSED = {
    "debug": ("policy-debug", True),
    "wrong-measurement": ("measurement-mismatch", True),
    "old-tcb": ("policy-tcb-floor", True),
    "vmpl1": ("policy-vmpl", True),
    "bad-signature": ("report-signature", False),
    "foreign-chip": ("vek-hwid-mismatch", False),
    "replay": ("report-data-mismatch", None),
}
# The collector itself must notice these, with this code.
NOT_COLLECTED = {"torn": "torn-read", "stale-generation": "torn-read", "empty": "empty-report", "no-provider": "not-a-tee"}


@pytest.fixture(scope="module")
def relying_party(soft):
    return load_policy(yaml.safe_load(soft.run("policy").stdout)), load_reference_values(json.loads(soft.run("reference-values").stdout))


@pytest.fixture(autouse=True)
def well_behaved(soft):
    soft.misbehave("none")


def collect(soft, asked):
    return tsm.collect(asked, str(soft.tsm), sleep=lambda seconds: None)


def judge(soft, relying_party, policy=None):
    asked = os.urandom(64)
    report = collect(soft, asked)
    table = parse_certtable(report.auxblob)
    return appraise.appraise_report(
        report.outblob,
        policy=policy or relying_party[0],
        reference_values=relying_party[1],
        endorsements=Endorsements(certificates=(table.get("vcek"), table.get("ask"))),
        expected_report_data=asked,
        at=datetime.now(timezone.utc),
    )


def failed(result):
    told = result.to_dict()
    checks = [*told["checks"], *(check for item in told["submods"].values() for check in item["checks"])]
    return {check["id"] for check in checks if check["outcome"] == "fail"}, {check["id"] for check in checks}


def test_good_behaviour_is_accepted_and_marked(soft, relying_party):
    told = judge(soft, relying_party).to_dict()
    assert told["accepted"] is True, told["reasons"]
    assert told["authentic"] is True and told["anchor"] == "nonvendor" and told["chain_of_trust"]["waived"] is True


@pytest.mark.parametrize("behaviour", sorted(REFUSED))
def test_each_misbehaviour_is_refused_for_its_own_reason(soft, relying_party, behaviour):
    soft.misbehave(behaviour)
    result = judge(soft, relying_party)
    code, authentic = REFUSED[behaviour]
    told = result.to_dict()
    assert told["accepted"] is False
    assert code in failed(result)[0], told["reasons"]
    if authentic is not None:
        assert told["authentic"] is authentic


def test_another_machine_needs_the_allow_list(soft, relying_party):
    chip = json.loads((soft.state / "machine.json").read_text())["chips"]["genoa"]
    text = soft.run("policy").stdout + "machines: {allow: [%s]}\n" % hashlib.sha256(bytes.fromhex(chip)).hexdigest()
    bound = load_policy(yaml.safe_load(text))
    assert judge(soft, relying_party, bound).to_dict()["accepted"] is True
    soft.misbehave("other-machine")
    assert judge(soft, relying_party).to_dict()["accepted"] is True
    assert "machine-not-allowed" in failed(judge(soft, relying_party, bound))[0]


@pytest.mark.parametrize("behaviour", sorted(NOT_COLLECTED))
def test_the_collector_notices(soft, behaviour):
    soft.misbehave(behaviour)
    with pytest.raises(CollectError) as caught:
        collect(soft, os.urandom(64))
    assert caught.value.code == NOT_COLLECTED[behaviour]
    assert list(soft.tsm.iterdir()) == [], "no entry is left"


def test_the_collector_outlasts_a_busy_provider_and_a_single_tear(soft):
    for behaviour, count in (("busy", "3"), ("torn", "1")):
        soft.misbehave(behaviour, count)
        asked = os.urandom(64)
        assert collect(soft, asked).outblob[0x50:0x90] == asked
