# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Replay an event log into RTMRs. Not one word of a log is believed unless the replay gives the registers of a verified quote."""

from __future__ import annotations

import hashlib
from typing import Iterable, List, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.checks import Check, failed, passed
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.ccel import DIGEST_SIZE, Event, EventLog, parse_ccel

CODE = "eventlog-mismatch"
RTMRS = 4


class Replayed(NamedTuple):
    """``log`` is None unless the check passed: nobody can use by accident what nothing vouches for."""

    check: Check
    log: Optional[EventLog]


def replay(events: Iterable[Event]) -> Tuple[bytes, bytes, bytes, bytes]:
    """RTMR0 to RTMR3 (48 bytes each) after all events: each extends its register, SHA-384(old value || digest). Register 0 of a log is
    MRTD, so RTMR n is register n + 1 (UEFI 2.10, section 38.4.1)."""
    registers: List[bytes] = [bytes(DIGEST_SIZE)] * RTMRS
    for event in events:
        if event.extends:
            registers[event.index - 1] = hashlib.sha384(registers[event.index - 1] + event.digest).digest()
    return registers[0], registers[1], registers[2], registers[3]


def check_eventlog(data: bytes, rtmrs: Sequence[bytes]) -> Replayed:
    """Whether the log in ``data`` (CCEL) gives exactly ``rtmrs``, those of a quote whose signature was verified. Never raises."""
    try:
        log = parse_ccel(data)
    except FormatError as error:
        return Replayed(failed(CODE, "%s; collect the evidence again, or leave the event log away" % error), None)
    found = replay(log.events)
    offences = [
        "RTMR%d is %s, the log gives %s" % (number, seen.hex(), replayed.hex())
        for number, (seen, replayed) in enumerate(zip(rtmrs, found)) if seen != replayed
    ]  # fmt: skip
    if offences:
        detail = "%s; nothing in the log is believed: collect log and quote at one time, with everything that was extended after boot in it"
        return Replayed(failed(CODE, detail % "; ".join(offences)), None)
    return Replayed(passed(CODE, "the %d events of the log give RTMR0 to RTMR3" % len(log.events)), log)
