# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From a Unix socket to a port on the loopback of a network of its own: the model server has no other way in, and none out."""

from __future__ import annotations

import os
import selectors
import socket
import threading
from contextlib import suppress
from typing import Tuple

_CHUNK = 64 << 10
CONNECTIONS_MAX = 512
_CONNECT_SECONDS = 5.0


class Relay:
    """Accepts on ``path`` and connects to ``target`` for each. ``active`` counts what is open."""

    def __init__(self, path: str, target: Tuple[str, int], uid: int = -1, gid: int = -1) -> None:
        self._target = target
        self._lock = threading.Lock()
        self.active = 0
        with suppress(FileNotFoundError):
            os.unlink(path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        before = os.umask(0o177)
        try:
            self._listener.bind(path)
        finally:
            os.umask(before)
        if (uid, gid) != (-1, -1):
            os.chown(path, uid, gid)
        self._listener.listen(128)

    def start(self) -> None:
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no new connections. Those that are open go on."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            with self._lock:
                room = self.active < CONNECTIONS_MAX
                self.active += room
            if not room:
                client.close()
                continue
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        try:
            with client, socket.create_connection(self._target, _CONNECT_SECONDS) as server:
                server.settimeout(None)
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                pump(client, server)
        except OSError:
            pass
        finally:
            with self._lock:
                self.active -= 1


def pump(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways. A side that ends its half ends it on the other; both ended, or an error, is the end."""
    with selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        open_ways = 2
        while open_ways:
            for key, _events in selector.select():
                source: socket.socket = key.fileobj  # type: ignore[assignment]
                data = source.recv(_CHUNK)
                if data:
                    key.data.sendall(data)
                    continue
                selector.unregister(source)
                open_ways -= 1
                if source is one:
                    # The front has gone, with or without its answer: the model server shall stop working on it.
                    return
                with suppress(OSError):
                    key.data.shutdown(socket.SHUT_WR)
