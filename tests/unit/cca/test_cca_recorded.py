# SPDX-License-Identifier: GPL-3.0-or-later
"""A token that a realm's own kernel gave through configfs-tsm, on an emulated machine: it verifies, under a key that proves nothing."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.verify.cca import verify_cca
from cca_lab import REPOSITORY

RECORDED = json.loads((Path(__file__).parent / "recorded" / "realm-token.json").read_text())
TOKEN, CHALLENGE = bytes.fromhex(RECORDED["token"]), bytes.fromhex(RECORDED["challenge"])
KEYS = json.loads((REPOSITORY / "plugins" / "module_utils" / "endorsements" / "data" / "cca.json").read_text())["keys"]
DEMONSTRATION = next(json.dumps(key["key"]).encode() for key in KEYS if key["name"].startswith("TF-A"))
AT = datetime(2026, 11, 23, tzinfo=timezone.utc)


def verified(challenge=CHALLENGE, token=TOKEN, test_keys=True):
    return verify_cca(token, [DEMONSTRATION], challenge, AT, allow_test_keys=test_keys, allow_nonvendor=True)


def test_it_verifies_with_what_the_realm_was_asked():
    found = verified()
    assert found.authentic and found.claims.token.generation == "2023" and found.claims.token.envelope == 399
    assert {check.id: check.outcome for check in found.checks}["challenge-mismatch"] == "pass"
    assert len(found.claims.to_dict()["measurement"]) == 64


def test_another_question_is_noticed_and_the_public_key_refused():
    outcomes = {check.id: check.outcome for check in verified(bytes(64)).checks}
    assert [name for name, outcome in outcomes.items() if outcome == "fail"] == ["challenge-mismatch"]
    assert [check.id for check in verified(test_keys=False).checks if check.outcome == "fail"] == ["test-cpak"]


@pytest.mark.parametrize("place", range(40, len(TOKEN), 149))
def test_a_changed_byte_is_noticed(place):
    changed = TOKEN[:place] + bytes([TOKEN[place] ^ 1]) + TOKEN[place + 1 :]
    found = verified(token=changed)
    assert not found.authentic or any(check.outcome == "fail" for check in found.checks)
