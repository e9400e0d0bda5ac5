# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The model server behind the front: HTTP over a Unix socket, whose name leads to the instance that serves now."""

from __future__ import annotations

import http.client
import socket
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple, Union

# Meant for one connection only (RFC 9110 section 7.6.1), or written anew for each.
HOP_BY_HOP = frozenset((
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    "content-length", "host", "expect", "server", "date",
))  # fmt: skip
CONNECT_SECONDS = 5.0


class UnixConnection(http.client.HTTPConnection):
    """HTTP to a Unix socket. Which instance answers is decided when it connects, and stays so to the end of the answer."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.settimeout(CONNECT_SECONDS)
            made.connect(self._path)
            made.settimeout(self.timeout)
        except OSError:
            made.close()
            raise
        self.sock = made


def forwarded(headers: Iterable[Tuple[str, str]], drop: Iterable[str] = ()) -> List[Tuple[str, str]]:
    """What goes on to the other side: nothing that is meant for this connection alone, also where the Connection header names it, and nothing that goes on
    in the next line."""
    listed = list(headers)
    named = {word.strip().lower() for name, value in listed if name.lower() == "connection" for word in value.split(",")}
    left_out = HOP_BY_HOP | named | {name.lower() for name in drop}
    return [(name, value) for name, value in listed if name.lower() not in left_out and "\n" not in value and "\r" not in value]


def ask(
    path: str, timeout: float, method: str, target: str, headers: Iterable[Tuple[str, str]], body: Union[bytes, bytearray, None]
) -> Tuple[UnixConnection, http.client.HTTPResponse]:
    """Send one request; the caller reads the answer and closes the connection. Raises OSError, http.client.HTTPException."""
    connection = UnixConnection(path, timeout)
    try:
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", "localhost")
        for name, value in headers:
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        return connection, connection.getresponse()
    except BaseException:
        connection.close()
        raise


def fetch(
    path: str, timeout: float, method: str, target: str, headers: Mapping[str, str], body: Optional[bytes], most: int
) -> Tuple[int, Dict[str, str], bytes]:
    """One request and its whole answer, of which at most one byte more than ``most`` is read."""
    connection, answer = ask(path, timeout, method, target, headers.items(), body)
    try:
        data: Any = answer.read(most + 1)
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, data
    finally:
        connection.close()


def connects(path: str) -> bool:
    """Whether somebody listens there."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(CONNECT_SECONDS)
            probe.connect(path)
        return True
    except OSError:
        return False
