# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The firmware's event log of a confidential guest (ACPI table CCEL), as the kernel shows it."""

from __future__ import annotations

from typing import Optional

from ansible_collections.attested.ai.plugins.module_utils.errors import CollectError

DEFAULT_PATH = "/sys/firmware/acpi/tables/data/CCEL"
LOG_MAX = 1024 * 1024
FILLING_KEPT = 64


def read(path: str = DEFAULT_PATH, required: bool = False) -> Optional[bytes]:
    """The log, or None if there is none. Raises CollectError where it is ``required``, or unreadable.

    The area behind the last event is filled with 0xFF. Most of that is cut off; where the events end only a reader of them knows.
    """
    try:
        with open(path, "rb") as stream:
            data = stream.read(LOG_MAX + 1)
    except FileNotFoundError:
        if not required:
            return None
        raise CollectError("there is no event log", where=path, fix="Use firmware that writes one, or set event_log to auto", code="no-event-log") from None
    except OSError as error:
        raise CollectError("the event log cannot be read (%s)" % error.strerror, where=path, fix="Run as root (become: true)", code="no-permission") from None
    if len(data) > LOG_MAX:
        raise CollectError("the event log has more than %d bytes" % LOG_MAX, where=path, code="too-large")
    # An event may end with such bytes itself.
    return data[:len(data.rstrip(b"\xff")) + FILLING_KEPT] if data else None
