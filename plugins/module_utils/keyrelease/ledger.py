# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The ledger of key releases: a signed chain (keyrelease.chain) whose entries are decisions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Mapping, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import LedgerError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import chain
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.chain import LINE_MAX, ZERO, Head, LedgerReport

__all__ = ("DECISIONS", "LINE_MAX", "RELEASES", "ZERO", "Entry", "Head", "LedgerReport", "append", "settle", "verify")

DECISIONS = ("released", "refused")
_TEXTS = ("at", "who", "key_id", "model_id", "evidence_digest", "policy_id", "policy_digest", "guest_key_thumbprint", "decision", "host", "anchor")


@dataclass(frozen=True)
class Entry:
    """One decision. ``at`` is RFC 3339 UTC, digests are SHA-256 in hex, ``reasons`` are the codes and details of a refusal,
    ``host`` is the inventory name of the guest, ``anchor`` what its evidence rests on: vendor or nonvendor."""

    at: str
    who: str
    key_id: str
    model_id: str
    release: int
    evidence_digest: str
    policy_id: str
    policy_digest: str
    guest_key_thumbprint: str
    decision: str
    reasons: Tuple[str, ...] = ()
    host: str = ""
    anchor: str = ""

    def __post_init__(self) -> None:
        for name in _TEXTS:
            strict.text_of(getattr(self, name), "ledger entry %s" % name, 4096)
        if isinstance(self.release, bool) or not isinstance(self.release, int) or self.release < 0:
            raise LedgerError("the release is no whole number", where="ledger entry", code="ledger-entry")
        if self.decision not in DECISIONS:
            raise LedgerError("the decision is not one of %s" % ", ".join(DECISIONS), where="ledger entry", code="ledger-entry")
        object.__setattr__(self, "reasons", tuple(strict.text_of(reason, "ledger entry reason", 4096) for reason in self.reasons))


RELEASES = chain.Kind(
    "attested.ai/ledger-entry/1", "attested.ai/ledger-head/1", _TEXTS + ("release", "reasons"), lambda payload: Entry(**payload), "no key was released for it"
)  # fmt: skip


def append(path: str, signing_key: Any, entry: Entry) -> Head:
    """Add one entry and make it durable before returning. Raises LedgerError if the ledger is damaged; it is never repaired silently."""
    return chain.append(path, signing_key, dict(asdict(entry), reasons=list(entry.reasons)), RELEASES)


def settle(path: str, signing_key: Any) -> None:
    """Take the one entry into the head that a writer left behind who stopped between line and head. Raises LedgerError for all other damage."""
    chain.settle(path, signing_key, RELEASES)


def verify(path: str, public_jwk: Mapping[str, Any], known_head: str = "") -> LedgerReport:
    """Check every line, the chain and the head. With ``known_head`` (hash of an earlier run) that line must be there. Raises LedgerError."""
    return chain.verify(path, public_jwk, RELEASES, known_head)
