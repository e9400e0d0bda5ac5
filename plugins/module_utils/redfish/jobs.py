# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The job queue of controllers that apply BIOS settings by a job only."""

from __future__ import annotations

from typing import Optional, Set

from ansible_collections.attested.ai.plugins.module_utils.redfish.client import Client
from ansible_collections.attested.ai.plugins.module_utils.redfish.machine import Target, collected

_ENDED = ("Completed", "CompletedWithErrors", "Failed", "RebootCompleted", "RebootFailed")
_AT_WORK = "Running"


def bios_job(client: Client, target: Target, ended: Optional[Set[str]] = None) -> str:
    """The state of the job that has still to apply BIOS settings, empty without one. A queue keeps hundreds of old jobs: those that ``ended`` are
    noted there, and asked only once."""
    ended = set() if ended is None else ended
    found = ""
    for path in collected(client, target.jobs):
        if path in ended:
            continue
        job = client.find(path)
        state = "" if job is None else str(job.body.get("JobState"))
        if job is None or state in _ENDED:
            ended.add(path)
        elif job.body.get("JobType") == "BIOSConfiguration":
            found = _AT_WORK if _AT_WORK in (state, found) else state
    return found


def at_work(state: str) -> bool:
    """Whether the machine is just applying settings, so that a reset would come in the middle of it."""
    return state == _AT_WORK
