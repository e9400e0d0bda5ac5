# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A process that sweeps a session at its deadline, whatever became of those who should have."""

from __future__ import annotations

import os
import time

from ansible_collections.attested.ai.plugins.module_utils.target.memory import wipe_tree

# Short, so that no process lingers for long after a session that was used.
_POLL_SECONDS = 0.5
_DESCRIPTORS_MAX = 65536


def start_watchdog(path: str, lifetime: float) -> None:
    """Start it as a daemon (forked twice, own session, no open files). It ends by itself once ``path`` is gone.

    The deadline is measured by the monotonic clock: a host that turns the wall clock back gains nothing.
    """
    deadline = time.monotonic() + lifetime
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork() == 0:
            _watch(path, deadline)
    finally:
        # Never return into the caller's code a second time, nor run its exit handlers.
        os._exit(0)


def _watch(path: str, deadline: float) -> None:
    os.chdir("/")
    os.closerange(0, min(os.sysconf("SC_OPEN_MAX"), _DESCRIPTORS_MAX))
    while os.path.lexists(path):
        left = deadline - time.monotonic()
        if left <= 0:
            wipe_tree(path)
            return
        time.sleep(min(left, _POLL_SECONDS))
