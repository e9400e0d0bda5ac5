# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

"""The collection's verifier meets the soft TEE's evidence: two implementations that share no code."""

import os
from datetime import datetime, timedelta, timezone

import pytest

pytest.importorskip("ansible_collections.attested.ai.plugins.module_utils.endorsements.amd")
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import trust_roots
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_certtable import parse_certtable
from ansible_collections.attested.ai.plugins.module_utils.verify.snp import verify_snp
from softtee.machine import Machine

pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")


class _Shared(Machine):
    """A machine of the session's authority: no RSA keys of its own."""

    def __init__(self, state, product, key, authority):
        super().__init__(state, product, key, os.urandom(8 if product == "turin" else 64))
        self.authority = authority
        self.prepare()


def judge(machine, evidence, asked, **more):
    table = parse_certtable(evidence.table)
    roots = more.pop("roots", None) or trust_roots([machine.authority.ark_pem(machine.product)], allow_nonvendor_roots=True)
    at = more.pop("at", datetime.now(timezone.utc))
    try:
        return verify_snp(evidence.report, table.get(machine.key_kind), [table.get("ask"), table.get("ark")], roots, at, asked, **more)
    except NotImplementedError:
        pytest.skip("the verifier is still a skeleton")


@pytest.fixture(params=[(product, key) for product in ("milan", "genoa", "turin") for key in ("vcek", "vlek")], ids="-".join)
def machine(request, tmp_path, authority):
    return _Shared(tmp_path, *request.param, authority)


@pytest.fixture
def genoa(tmp_path, authority):
    return _Shared(tmp_path, "genoa", "vcek", authority)


def test_honest_evidence_is_authentic(machine):
    asked = os.urandom(64)
    result = judge(machine, machine.evidence(asked, 0, "none"), asked)
    assert result.authentic is True and result.failed == (), result.checks
    assert result.anchor == "nonvendor" and result.claims.product == machine.product and result.claims.key_role == machine.key_kind


def test_amds_roots_alone_refuse_it(machine):
    asked = os.urandom(64)
    result = judge(machine, machine.evidence(asked, 0, "none"), asked, roots=trust_roots())
    assert result.authentic is False and result.failed


@pytest.mark.parametrize("behaviour", ["debug", "wrong-measurement", "old-tcb", "vmpl1", "other-machine"])
def test_some_misbehaviours_are_authentic_and_left_to_the_policy(genoa, behaviour):
    asked = os.urandom(64)
    assert judge(genoa, genoa.evidence(asked, 0, behaviour), asked).authentic is True


@pytest.mark.parametrize("behaviour", ["bad-signature", "foreign-chip"])
def test_some_are_not_authentic(genoa, behaviour):
    asked = os.urandom(64)
    result = judge(genoa, genoa.evidence(asked, 0, behaviour), asked)
    assert result.authentic is False and "report-signature" in result.failed


def test_a_replay_shows_in_the_report_data(genoa):
    asked = os.urandom(64)
    assert "report-data-mismatch" in judge(genoa, genoa.evidence(asked, 0, "replay"), asked).failed


def test_a_revoked_intermediate(genoa):
    asked = os.urandom(64)
    evidence = genoa.evidence(asked, 0, "none")
    assert judge(genoa, evidence, asked, crl=genoa.authority.crl("genoa")).authentic is True
    assert "ask-revoked" in judge(genoa, evidence, asked, crl=genoa.authority.crl("genoa", ["ask"])).failed


def test_it_was_not_valid_the_day_before_yesterday(genoa):
    asked = os.urandom(64)
    at = datetime.now(timezone.utc) - timedelta(days=2)
    assert judge(genoa, genoa.evidence(asked, 0, "none"), asked, at=at).authentic is False
