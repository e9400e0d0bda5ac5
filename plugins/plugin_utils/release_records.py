# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The controller's memory of releases: the ledger, its key, and the lowest release of each model, in one directory."""

from __future__ import annotations

import os
import typing as t
from contextlib import suppress

from ansible_collections.attested.ai.plugins.module_utils.errors import KeyReleaseError, LedgerError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import ledger
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.counter import Counter, Counters, CounterStore
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import public_jwk
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.secretfile import replace_file
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.signingkey import create_signing_key, load_signing_key

LEDGER, KEY, PUBLIC, COUNTERS = "ledger.jsonl", "ledger.key.pem", "ledger.pub.jwk", "minimum-releases.json"


class ReleaseRecords:
    """Opened by every release. What is missing is made on the first one, and missed ever after."""

    def __init__(self, directory: str, key_path: str | None = None, besides: Counter | None = None) -> None:
        self._path = os.path.join(directory, LEDGER)
        begun = os.path.exists(self._path)
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
        except OSError as error:
            raise LedgerError("it cannot be made: %s" % (error.strerror or error), where=directory) from None
        self._key = self._signing_key(key_path or os.path.join(directory, KEY))
        store = counters_of(directory)
        if not begun:
            store.begin()
        self.counters = all_counters(store, besides)
        public = os.path.join(directory, PUBLIC)
        if not os.path.exists(public):
            replace_file(public, jcs.canonicalize(public_jwk(self._key)) + b"\n")

    def append(self, entry: ledger.Entry) -> dict[str, t.Any]:
        """Write one entry, durably; return what a task may show of it."""
        head = ledger.append(self._path, self._key, entry)
        return {"seq": head.seq, "hash": head.hash, "decision": entry.decision}

    def _signing_key(self, path: str) -> t.Any:
        if os.path.exists(path):
            return load_signing_key(path)
        if os.path.exists(self._path):
            raise KeyReleaseError(
                "the ledger is there, but its key is not", where=path, fix="Restore the key, or begin a new ledger directory", code="ledger-key"
            )
        # Another fork may be faster: then its key is the key.
        with suppress(KeyReleaseError):
            return create_signing_key(path)
        return load_signing_key(path)


def counters_of(directory: str) -> CounterStore:
    """The minimum releases beside a ledger. Where there is a ledger they must be there, too: lost, they would let every old release pass."""
    path = os.path.join(directory, COUNTERS)
    if os.path.exists(os.path.join(directory, LEDGER)) and not os.path.exists(path):
        fix = "Restore it from a backup, or begin a new ledger directory and give minimum_release"
        raise KeyReleaseError("the ledger is there, but its minimum releases are not", where=path, fix=fix, code="counter-missing")
    return CounterStore(path)


def all_counters(store: CounterStore, besides: Counter | None) -> Counters:
    """Those beside the ledger and, if there is one, the counter elsewhere, which is asked first and written first."""
    return Counters([store] if besides is None else [besides, store])
