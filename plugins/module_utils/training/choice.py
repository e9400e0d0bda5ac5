# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which of the checkpoints that lie there. The folder's names are the host's word; number and run are under the owner's tag.

A host that leaves newer checkpoints out cannot be told from a job that did not come to them. So an owner who knows of one says from which number on.
"""

from __future__ import annotations

import contextlib
import os
from typing import Callable, List, Optional

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.training import kept
from ansible_collections.attested.ai.plugins.module_utils.training.failure import TrainingError
from ansible_collections.attested.ai.plugins.module_utils.training.result import Statement

# The statement of a checkpoint, after its tag was verified.
Load = Callable[[int], Statement]


def choose(folder: str, wanted: Optional[int], minimum: int, load: Load) -> int:
    """The number that was asked for, or else the highest. Raises AttestedError."""
    try:
        found = kept.numbers(os.listdir(folder))
    except OSError as error:
        raise TrainingError("it cannot be read (%s)" % error.strerror, where=folder, fix="Fetch the checkpoints", code="result-checkpoint") from None
    number = wanted if wanted is not None else max(found, default=0)
    if number not in found:
        there = ", ".join(map(str, found[-10:])) or "none"
        raise TrainingError("checkpoint %s is not there, but %s" % (number or "of any number", there), where=folder, fix="Fetch it, or name another",
                            code="result-checkpoint")  # fmt: skip
    if number < minimum:
        raise TrainingError("checkpoint %d is older than %d, which is the least" % (number, minimum), where=folder,
                            fix="Ask who runs the guest for the newer ones", code="result-checkpoint-old")  # fmt: skip
    run = _run(load, number)
    if wanted is None:
        _one_run(folder, found, number, run, load)
    return number


def _run(load: Load, number: int) -> str:
    checkpoint = load(number).checkpoint
    if checkpoint is None or checkpoint.number != number:
        raise TrainingError("what lies there as checkpoint %d is %s" % (number, checkpoint.number if checkpoint else "none"), where=str(number),
                            fix="Do not use it", code="result-other")  # fmt: skip
    return checkpoint.run


def _one_run(folder: str, found: List[int], newest: int, run: str, load: Load) -> None:
    """The highest number is the newest only among those of one run."""
    for number in found:
        # What cannot be verified is not opened, and says nothing.
        with contextlib.suppress(AttestedError, OSError):
            other = load(number).checkpoint
            if other is not None and other.run != run:
                break
    else:
        return
    raise TrainingError("checkpoints %d and %d are of two runs of the program" % (number, newest), where=folder,
                        fix="Say by its number which one is meant, and look at made_at", code="result-checkpoint-runs")  # fmt: skip
