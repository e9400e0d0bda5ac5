# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a service tells systemd of itself (sd_notify(3)). Without systemd nothing is told."""

from __future__ import annotations

import os
import socket


def tell(*lines: str) -> bool:
    """Send lines such as READY=1 or STATUS=...; returns whether there was somebody to tell."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if not place or place[0] not in "/@":
        return False
    address = "\0" + place[1:] if place[0] == "@" else place
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.connect(address)
            channel.sendall("\n".join(line.replace("\n", " ") for line in lines).encode("utf-8", "replace"))
        return True
    except OSError:
        return False
