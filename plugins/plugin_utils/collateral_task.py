# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the operations of the action collateral share: their inputs, and how changes of a store are told."""

from __future__ import annotations

import time
import typing as t
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import Policy
from ansible_collections.attested.ai.plugins.module_utils.endorsements.client import Client, Opener, Patience
from ansible_collections.attested.ai.plugins.module_utils.endorsements.fetch import CHANGED, GATES, PLANNED, Outcome
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import TrustRoots, load_roots
from ansible_collections.attested.ai.plugins.module_utils.endorsements.store import Entry, Store, format_time
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import EvidenceDocument
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import Inputs, evaluation_time

PROGRESS_INTERVAL = 2.0


@dataclass(frozen=True)
class Task:
    """One task. ``opener`` is the network; ``tell`` shows a line to the person at the terminal."""

    options: t.Mapping[str, t.Any]
    inputs: Inputs
    store: Store
    policy: Policy
    check: bool
    opener: Opener
    tell: t.Callable[[str], None]

    @property
    def at(self) -> datetime:
        return evaluation_time(self.options["at"])

    @property
    def horizon(self) -> timedelta:
        return timedelta(days=self.options["horizon"])

    def roots_of(self, kind: str) -> TrustRoots:
        return load_roots(self.policy, kind)

    def client(self) -> Client:
        options = self.options
        patience = Patience(options["attempts"], options["max_wait"], options["timeout"], options["deadline"], options["parallelism"])
        return Client(self.opener, patience, f"{self.store.root}/{GATES}", self.tell)

    def documents(self) -> dict[str, EvidenceDocument]:
        """The evidence by name: of a mapping its keys, of files their paths, else numbers."""
        return dict(self._documents(self.options["evidence"]))

    def _documents(self, value: t.Any) -> t.Iterator[tuple[str, EvidenceDocument]]:
        if value is None:
            return
        if isinstance(value, t.Mapping) and "schema" not in value:
            for name, document in value.items():
                yield str(name), self.inputs.evidence(document)
            return
        several = value if isinstance(value, (list, tuple)) else [value]
        for number, document in enumerate(several, 1):
            yield (str(document) if isinstance(document, str) else f"evidence {number}"), self.inputs.evidence(document)


class Progress:
    """Tells how far a long run is, at most once per interval."""

    def __init__(self, tell: t.Callable[[str], None], clock: t.Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._clock = clock
        self._last = clock()

    def __call__(self, done: int, total: int) -> None:
        now = self._clock()
        if now - self._last >= PROGRESS_INTERVAL:
            self._last = now
            self._tell(f"collateral: {done} of {total} fetched")


def check_options(options: t.Mapping[str, t.Any]) -> None:
    """What an argument specification cannot say. Raises AttestedError."""
    for name, least in (("attempts", 1), ("timeout", 1), ("deadline", 1), ("parallelism", 1), ("max_wait", 0), ("horizon", 0), ("refresh_within", 0)):
        if options[name] < least:
            raise AttestedError(f"it must be at least {least}", where=name)
    if options["parallelism"] > 32:
        raise AttestedError("more than 32 requests at once is no way to treat a service", where="parallelism")
    for name in ("kds_url", "pcs_url", "pccs_url", "root_crl_url", "rim_url", "ocsp_url"):
        url = options[name]
        if url is not None and not url.startswith(("https://", "http://")):
            raise AttestedError("it is no http or https address", where=name)
    if options["rim_token_file"] is not None and not options["rim_url"].startswith("https://"):
        raise AttestedError("a token is sent over https only", where="rim_url")


def told(outcomes: t.Sequence[Outcome]) -> dict[str, t.Any]:
    """The part of a result that tells what changed, with a diff."""
    changed = [outcome for outcome in outcomes if outcome.status in (*CHANGED, PLANNED)]
    counts: dict[str, int] = {}
    for outcome in outcomes:
        counts[outcome.status] = counts.get(outcome.status, 0) + 1
    return {
        "changed": bool(changed),
        "pieces": [outcome.to_dict() for outcome in outcomes],
        "counts": counts,
        "diff": {
            "before_header": "collateral",
            "after_header": "collateral",
            "before": "".join(_line(outcome.path, outcome.before) for outcome in changed if outcome.before is not None),
            "after": "".join(_line(outcome.path, outcome.after) for outcome in changed),
        },
    }


def _line(path: str, entry: Entry | None) -> str:
    if entry is None:
        return f"{path} (to be asked for)\n"
    until = "" if entry.expires_at is None else f" until {format_time(entry.expires_at)}"
    return f"{path} sha256:{entry.sha256[:16]}{until}\n"


def now() -> datetime:
    return datetime.now(timezone.utc)
