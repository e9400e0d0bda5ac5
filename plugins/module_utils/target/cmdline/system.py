# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a boot loader's back end may do to a machine. The module gives the real one, tests another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError


@dataclass(frozen=True)
class System:
    """``read`` gives None for a file that is not there. ``write`` replaces a file whole. ``find`` gives the path of a program or None."""

    read: Callable[[str], Optional[str]]
    listdir: Callable[[str], Tuple[str, ...]]
    write: Callable[[str, str], None]
    remove: Callable[[str], None]
    run: Callable[[Sequence[str]], Tuple[int, str, str]]
    find: Callable[[str], Optional[str]]

    def must_run(self, argv: Sequence[str]) -> str:
        """Standard output. Raises HostError with the program's last words."""
        rc, out, err = self.run(argv)
        if rc != 0:
            said = " ".join((err.strip() or out.strip()).splitlines()[-3:])[-400:]
            raise HostError(
                "%s ended with %d: %s" % (argv[0], rc, said or "it said nothing"), code="boot-loader-failed",
                fix="Run it by hand, mend what it names, and run the task again",
            )  # fmt: skip
        return out


@dataclass(frozen=True)
class Change:
    """What is to be done. ``before`` and ``after`` are what a person wants to see of it. ``next_kernel`` is the release that the boot loader starts
    by itself, '' where that cannot be told; ``reboot_required`` is about the command line alone."""

    loader: str
    needed: bool
    before: str
    after: str
    reboot_required: bool
    next_kernel: str
