# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One HTTP request on a connection of its own, and its whole answer within one time; for services of the user's that get secrets.

No redirection is followed and no proxy of the environment is asked: what is sent goes to the address that was named. (Services of vendors are asked in the
ways of Ansible and of Python, which know proxies.) Standard library only, for guests use it too.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Union


class Exchanged(NamedTuple):
    """``headers`` have lower-case names. ``body`` is at most one byte longer than was asked for."""

    status: int
    headers: Dict[str, str]
    body: bytes


class NoHttp(OSError):
    """What answers is no HTTP. No text of the library: it may quote a header, and headers carry tokens."""


def exchange(
    host: str, port: int, method: str, target: str, body: Optional[bytes], headers: Mapping[str, str], *, timeout: float, most: int,
    context: Optional[ssl.SSLContext] = None, server_name: str = "", prove: Optional[Callable[[ssl.SSLSocket], None]] = None,
) -> Exchanged:  # fmt: skip
    """With a ``context`` over TLS, expecting a certificate for ``server_name`` or else ``host``; ``prove`` may object before anything is sent. The body is
    read up to ``most`` bytes and one more. Raises OSError where there is no whole answer: TimeoutError if it was too slow, NoHttp, ssl.SSLError."""
    connection: Union[http.client.HTTPConnection, http.client.HTTPSConnection]
    if context is None:
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
    else:
        connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
    # The timeout of a socket starts again with each byte; this ends a server that sends one now and then.
    late = threading.Event()
    # Not asked of the connection: it forgets its socket where the server will close, while the answer is still read from it.
    sockets: List[socket.socket] = []
    guard = threading.Timer(timeout, hang_up, (sockets, late))
    guard.daemon = True
    try:
        plain = socket.create_connection((host, port), timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sock = plain
        sockets.append(plain)
        guard.start()
        if context is not None:
            channel = context.wrap_socket(plain, server_hostname=server_name or host, do_handshake_on_connect=False)
            connection.sock = channel
            sockets.append(channel)
            channel.do_handshake()
            if prove is not None:
                prove(channel)
        connection.request(method, target, body=body, headers=dict(headers))
        answer = connection.getresponse()
        data = answer.read(most + 1)
        if answer.length and len(data) <= most:
            raise ConnectionAbortedError("the answer broke off after %d bytes" % len(data))
        if late.is_set():
            raise TimeoutError
        return Exchanged(answer.status, {name.lower(): value for name, value in answer.getheaders()}, data)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if late.is_set():
            raise TimeoutError("the answer took longer than %g seconds" % timeout) from None
        # Errors of TLS are a ValueError, too, and a connection that is dropped is an OSError and one of HTTP.
        if isinstance(error, http.client.HTTPException) or not isinstance(error, OSError):
            raise NoHttp("%s: the connection was dropped or the answer is no HTTP" % type(error).__name__) from None
        raise
    finally:
        guard.cancel()
        connection.close()


def hang_up(sockets: Sequence[socket.socket], late: threading.Event) -> None:
    """End what is going on on a connection, from another thread. The last socket is the one in use; a TLS socket takes the plain one's place."""
    late.set()
    try:
        # Not the method of an SSL socket: it ends TLS first, and what is being sent would go on in the clear.
        socket.socket.shutdown(sockets[-1], socket.SHUT_RDWR)
    except (OSError, ValueError):
        pass
