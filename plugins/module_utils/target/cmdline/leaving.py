# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Words that were taken off the command line and that the running kernel still has. They are noted under /run, which ends with that kernel, so that a
run after one that was cut off knows that a reboot is still missing."""

from __future__ import annotations

from typing import Iterable, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.system import System

FOLDER = "/run/attested-ai/kernel-cmdline"


def path_of(owner: str) -> str:
    return "%s/%s" % (FOLDER, owner)


def noted(system: System, owner: str) -> Tuple[str, ...]:
    return tuple((system.read(path_of(owner)) or "").split())


def note(system: System, owner: str, gone: Iterable[str], running: Sequence[str], wanted: Sequence[str]) -> None:
    """Before the line is changed: ``gone`` leaves it, ``wanted`` is on it again."""
    before = noted(system, owner)
    words = tuple(dict.fromkeys(word for word in (*before, *gone) if word in running and word not in wanted))
    if words:
        system.write(path_of(owner), "\n".join(words) + "\n")
    elif before:
        system.remove(path_of(owner))
