# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where checkpoints of a running job lie, as ciphertext: a folder of the guest, in which each appears in one step and outlives whatever happens then."""

from __future__ import annotations

import os
import re
import secrets
from typing import Callable, List

from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.publish import sync_directory
from ansible_collections.attested.ai.plugins.module_utils.target import memory
from ansible_collections.attested.ai.plugins.module_utils.training.failure import TrainingError

# Beginning with a zero a number would have two names. Fifteen digits are whole numbers for each reader of JSON.
_NUMBER = re.compile(r"[1-9][0-9]{0,14}\Z")
_NEW, _OLD = ".new-", ".old-"
# Writes one checkpoint into a new folder of this path.
Seal = Callable[[str], None]


def numbers(names: List[str]) -> List[int]:
    """Those of checkpoints, in order. All other names are work under way."""
    return sorted(int(name) for name in names if _NUMBER.match(name))


class Folder:
    """The newest ``keep`` checkpoints. Whoever looks sees whole ones only."""

    def __init__(self, path: str, keep: int) -> None:
        self.path, self._keep = path, keep

    def look(self) -> None:
        """Raises TrainingError where a run would have to mix its checkpoints with what lies there."""
        if not os.path.lexists(self.path):
            return
        if os.path.islink(self.path) or not os.path.isdir(self.path) or any(not name.startswith((_NEW, _OLD)) for name in os.listdir(self.path)):
            raise TrainingError("checkpoints of an earlier run lie there, or something else, and this run would begin anew", where=self.path,
                                fix="Fetch them and move them away. To go on from one, agree on it as data", code="training-checkpoints")  # fmt: skip

    def prepare(self) -> None:
        """Raises OSError, AttestedError."""
        os.makedirs(self.path, mode=0o755, exist_ok=True)
        self._clean()

    def put(self, number: int, seal: Seal) -> None:
        """The older ones go when this one is safe. Raises OSError, AttestedError; then what was there is there."""
        new = os.path.join(self.path, _NEW + secrets.token_hex(8))
        try:
            seal(new)
            os.rename(new, os.path.join(self.path, str(number)))
            sync_directory(self.path)
        finally:
            # Ciphertext only.
            memory.wipe_tree(new, overwrite=False)
        for old in numbers(os.listdir(self.path))[: -self._keep]:
            # A checkpoint that is half removed has no number any more.
            os.rename(os.path.join(self.path, str(old)), os.path.join(self.path, "%s%d" % (_OLD, old)))
        self._clean()

    def _clean(self) -> None:
        for name in os.listdir(self.path):
            if name.startswith((_NEW, _OLD)):
                memory.wipe_tree(os.path.join(self.path, name), overwrite=False)
