# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a server answers."""

from __future__ import annotations

import http.client
import socket


def answers(host: str, port: int, path: str, timeout: float = 5.0) -> bool:
    """It answers a GET of ``path`` with a status below 400; without a path it takes a connection."""
    try:
        if not path:
            with socket.create_connection((host, port), timeout):
                return True
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
        try:
            connection.request("GET", path)
            return connection.getresponse().status < 400
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return False
