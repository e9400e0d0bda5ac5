# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Checks that the appraisal of every kind of evidence makes alike."""

from __future__ import annotations

from typing import Container, Mapping, Optional

from ansible_collections.attested.ai.plugins.module_utils.checks import FAIL, Check, failed, not_checked, passed


def check_replay(evidence_id: Optional[str], seen: Optional[Container[str]]) -> Check:
    """Whether this evidence was accepted before. ``evidence_id`` is None where nothing is proven, ``seen`` where nobody keeps a record."""
    if seen is None or evidence_id is None:
        return not_checked("replay", "no record of earlier evidence was given; the nonce is what keeps old evidence out")
    if evidence_id in seen:
        return failed("replay", "this evidence (%s) was used before; attest again with a new nonce" % evidence_id)
    return passed("replay", "this evidence was not seen before")


def with_next_step(check: Check, steps: Mapping[str, str]) -> Check:
    """A failed check with what to do about it. The verifier says what it saw; only the appraisal knows how things are given."""
    if check.outcome == FAIL and check.id in steps:
        return failed(check.id, "%s; %s" % (check.detail, steps[check.id]))
    return check
