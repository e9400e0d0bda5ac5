# SPDX-License-Identifier: GPL-3.0-or-later
"""A QGS that answers who the platform is, on a Unix socket or a vsock port. It makes no quotes."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

from .platform import Platform

PLATFORM_INFO = 4
FAULTS = ("", "error", "close", "garbage", "cut", "silent")


def answer(platform: Platform, request: bytes, fault: str = "") -> bytes:
    """With its length in front; b"" closes the connection, as QGS does with what it does not understand."""
    if fault == "garbage":
        return b"HTTP/1.1 400 Bad Request\r\n\r\n"
    length = int.from_bytes(request[:4], "big")
    if fault == "close" or len(request) != length + 4 or length < 16:
        return b""
    major, _minor, kind, size, error = struct.unpack("<HHIII", request[4:20])
    if (major, kind, size, error) != (1, PLATFORM_INFO, length, 0):
        return b""
    if fault == "error":
        body = struct.pack("<HHIII", 1, 1, kind + 1, 16, 0x12001)
    else:
        # Intel's own library leaves four bytes of zero at the end.
        data = struct.pack("<HHII", 5, 13, 16, 16) + platform.qe_id + platform.cpu_svn + bytes(4)
        body = struct.pack("<HHIII", 1, 1, kind + 1, 16 + len(data), 0) + data
    whole = len(body).to_bytes(4, "big") + body
    return whole[:-9] if fault == "cut" else whole


@contextlib.contextmanager
def running(platform: Platform, address: str, fault: str = "") -> Iterator[None]:
    """``address`` is a path, or vsock:PORT."""
    if address.startswith("vsock:"):
        server = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        server.bind((socket.VMADDR_CID_ANY, int(address[6:])))
    else:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.bind(address)
    server.listen()
    # Not every kind of socket ends a waiting accept when it is shut down.
    server.settimeout(0.1)
    stopped = threading.Event()

    def serve() -> None:
        while not stopped.is_set():
            try:
                connection, _peer = server.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                with contextlib.suppress(OSError):
                    request = connection.recv(4096)
                    if fault == "silent":
                        stopped.wait(5)
                    connection.sendall(answer(platform, request, fault))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(6)
        server.close()
