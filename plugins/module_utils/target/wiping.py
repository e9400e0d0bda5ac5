# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Remove a tree that a program made, which may nest folders without end and exchange what lies there meanwhile.

So this does not recurse, holds a few folders open however deep it is, and looks at nothing by a path. Up it goes by "..", if that is where it came from.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import List, Tuple

ZEROS = bytes(1 << 20)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# To go through a folder that is not listed, which may be forbidden. Only Linux has it.
_PASS = _FOLDER | getattr(os, "O_PATH", 0)
# Levels in a message.
_SHOWN = 32


@dataclass
class _Level:
    """A folder on the way down: its name in the one above, which one it is, and the names in it whose turn has not come."""

    name: str
    identity: Tuple[int, int]
    names: List[str]


class Wiping:
    """One walk. ``left`` counts what could not be wiped, ``first`` names the first of it."""

    def __init__(self, overwrite: bool) -> None:
        self.left, self.first = 0, ""
        self._overwrite = overwrite
        self._levels: List[_Level] = []
        self._top = self._here = -1

    def run(self, path: str) -> None:
        """All that can be wiped of ``path``. Raises nothing of the file system."""
        parent, name = os.path.split(path.rstrip("/"))
        try:
            # Links above it are whoever's that gave the path.
            self._top = os.open(parent or ".", _PASS & ~os.O_NOFOLLOW)
            self._here = os.dup(self._top)
            self._levels.append(_Level(parent, _identity(self._top), [name]))
            self._walk()
        except FileNotFoundError:
            pass
        except OSError as error:
            self._missed(path, error)
        finally:
            for descriptor in (self._top, self._here):
                if descriptor >= 0:
                    os.close(descriptor)

    def _walk(self) -> None:
        while self._levels[-1].names or len(self._levels) > 1:
            if self._levels[-1].names:
                self._entry(self._levels[-1].names.pop())
            else:
                self._up()

    def _entry(self, name: str) -> None:
        """What another process removes meanwhile is as good as wiped."""
        try:
            mode = os.stat(name, dir_fd=self._here, follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                self._down(name)
                return
            if self._overwrite and stat.S_ISREG(mode):
                try:
                    _overwrite(name, self._here)
                except FileNotFoundError:
                    pass
                except OSError as error:
                    # It is removed all the same, but the caller learns that the content may still be there.
                    self._missed(name, error)
            os.unlink(name, dir_fd=self._here)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._missed(name, error)

    def _down(self, name: str) -> None:
        below = os.open(name, _FOLDER, dir_fd=self._here)
        try:
            level = _Level(name, _identity(below), os.listdir(below))
        except BaseException:
            os.close(below)
            raise
        self._go(below)
        self._levels.append(level)

    def _up(self) -> None:
        done = self._levels.pop()
        try:
            self._go(os.open("..", _PASS, dir_fd=self._here))
            there = _identity(self._here) == self._levels[-1].identity
        except OSError:
            there = False
        if not there and not self._return():
            return
        try:
            os.rmdir(done.name, dir_fd=self._here)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._missed(done.name, error)

    def _return(self) -> bool:
        """From the top to the last level. Where one is not what it was, the walk goes on in the one above it, and this is False."""
        whole = True
        while not self._reach():
            whole = False
        return whole

    def _reach(self) -> bool:
        self._go(os.dup(self._top))
        for depth, level in enumerate(self._levels[1:], 1):
            try:
                self._go(os.open(level.name, _PASS, dir_fd=self._here))
                if _identity(self._here) != level.identity:
                    raise OSError(errno.ESTALE, "it was exchanged")
            except OSError as error:
                del self._levels[depth:]
                self._missed(level.name, error)
                return False
        return True

    def _go(self, descriptor: int) -> None:
        before, self._here = self._here, descriptor
        os.close(before)

    def _missed(self, name: str, error: OSError) -> None:
        self.left += 1
        if not self.first:
            self.first = "%s (%s)" % (os.path.join(*[level.name for level in self._levels[:_SHOWN]], name), error.strerror)


def _identity(descriptor: int) -> Tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _overwrite(name: str, folder: int) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        remaining = os.fstat(descriptor).st_size
        while remaining > 0:
            remaining -= os.write(descriptor, ZEROS[: min(remaining, len(ZEROS))])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
