# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""While the program runs: what it names {out}/checkpoints/<number> is taken out of its reach, encrypted, kept, and wiped.

The program makes the folder under another name and renames it when it is whole. It is another user, and may do what it likes meanwhile: so nothing is
followed that it could put there, and nothing is read where it could still exchange a folder for a link.
"""

from __future__ import annotations

import os
import stat
import threading
from typing import Any, Callable, List, Optional

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.target import memory
from ansible_collections.attested.ai.plugins.module_utils.training import kept
from ansible_collections.attested.ai.plugins.module_utils.training.failure import TrainingError

# Seconds between two looks at one folder.
PAUSE = 2.0
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Watch:
    """``shared`` is the program's folder, ``taken`` a new one of ours on the same file system. ``seal`` writes checkpoint ``number`` of a folder into
    another one; ``end`` ends the program at once. Within the block checkpoints are kept as they come. At its end, however the program ended, so are those
    that were left. If one could not be kept, ``failure`` says so then; where the block raises, it is raised in its place.
    """

    def __init__(
        self, shared: str, taken: str, store: Any, keep: int, seal: Callable[[int, str, str], None], end: Callable[[], None],
    ) -> None:  # fmt: skip
        self._shared, self._taken, self._store, self.keep, self._seal, self._end = shared, taken, store, keep, seal, end
        self.sealed: List[int] = []
        self._stop = threading.Event()
        self.failure: Optional[TrainingError] = None
        self._mistake: Optional[Exception] = None
        self._thread = threading.Thread(target=self._watch, name="checkpoints", daemon=True)

    def __enter__(self) -> Watch:
        os.mkdir(self._taken, 0o700)
        self._thread.start()
        return self

    def __exit__(self, _kind: Any, error: Any, _trace: Any) -> None:
        self._stop.set()
        try:
            self._thread.join()
        except BaseException:
            # The first signal; later ones are ignored. What works with keys has to be at its end before they are wiped.
            self._thread.join()
            raise
        if self._mistake is not None:
            raise self._mistake
        if self.failure is None and (error is None or isinstance(error, TrainingError)):
            try:
                self._sweep()
            except TrainingError as failure:
                self.failure = failure
        if self.failure is not None and error is not None:
            raise self.failure

    def _watch(self) -> None:
        while not self._stop.wait(PAUSE):
            try:
                self._sweep()
            except TrainingError as failure:
                self.failure = failure
            except Exception as error:  # pylint: disable=broad-except
                self._mistake = error
            else:
                continue
            # For the thread that waits for the program, which would otherwise run on with nothing kept.
            self._end()
            return

    def _sweep(self) -> None:
        number = 0
        try:
            for number in self._take():
                place = os.path.join(self._taken, str(number))
                self._store.put(number, lambda dest, number=number, place=place: self._seal(number, place, dest))
                self.sealed.append(number)
                memory.wipe_tree(place, overwrite=False)
        except (OSError, AttestedError) as error:
            what = error.what if isinstance(error, AttestedError) else "%s" % error.strerror
            raise TrainingError("checkpoint %s cannot be kept: %s" % (number or "", what), where=self._shared,
                                fix="Earlier ones are kept. See what the program leaves there, and the room for them",
                                code="training-checkpoint") from None  # fmt: skip

    def _take(self) -> List[int]:
        """Those that wait, out of the program's reach. Of more than are kept, the older ones are wiped."""
        shared = os.open(self._shared, _FOLDER)
        try:
            found = kept.numbers(os.listdir(shared))
            taken = os.open(self._taken, _FOLDER)
            try:
                for number in found:
                    self._check(number)
                    os.rename(str(number), str(number), src_dir_fd=shared, dst_dir_fd=taken)
                    if not stat.S_ISDIR(os.stat(str(number), dir_fd=taken, follow_symlinks=False).st_mode):
                        raise TrainingError("%d is no folder" % number, where=self._shared)
            finally:
                os.close(taken)
        finally:
            os.close(shared)
        for number in found[: -self.keep]:
            memory.wipe_tree(os.path.join(self._taken, str(number)), overwrite=False)
        return found[-self.keep:]

    def _check(self, number: int) -> None:
        if self.sealed and number <= self.sealed[-1]:
            raise TrainingError("%d comes after %d: numbers only rise" % (number, self.sealed[-1]), where=self._shared)
