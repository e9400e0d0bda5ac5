# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where QGS listens, and one question to it."""

from __future__ import annotations

import socket
import time
from typing import Tuple, Union

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.quoting import qgs_protocol
from ansible_collections.attested.ai.plugins.module_utils.target.quoting.qgs_conf import SOCKET, QgsConf

# VMADDR_CID_LOCAL: the machine itself, through the kernel module vsock_loopback, which QGS's own start script loads.
_LOCAL_CID = 1


def address_of(conf: QgsConf) -> str:
    return "unix:%s" % SOCKET if conf.port is None else "vsock:%d:%d" % (_LOCAL_CID, conf.port)


def exchange(address: str, data: bytes, timeout: float = 20.0) -> bytes:
    """The whole answer to ``data``, its length in front. Raises OSError where nobody answers, FormatError for a length that no answer has."""
    family, place = _place(address)
    end = time.monotonic() + timeout
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        connection.connect(place)
        connection.sendall(data)
        head = _read(connection, 4, end)
        return head + _read(connection, qgs_protocol.length_of(head), end)


def _place(address: str) -> "Tuple[socket.AddressFamily, Union[str, Tuple[int, int]]]":
    kind, _sign, rest = address.partition(":")
    cid, _sign, port = rest.partition(":")
    if kind == "unix" and rest:
        return socket.AF_UNIX, rest
    if kind == "vsock" and cid.isascii() and cid.isdigit() and port.isascii() and port.isdigit():
        return socket.AF_VSOCK, (int(cid), int(port))
    raise HostError("%s is no address" % ascii(address)[:100], where="qgs", fix="Write unix:/path or vsock:1:4050", code="qgs-address")


def _read(connection: socket.socket, size: int, end: float) -> bytes:
    data = b""
    while len(data) < size:
        left = end - time.monotonic()
        if left <= 0:
            raise OSError("no whole answer in time")
        connection.settimeout(left)
        part = connection.recv(size - len(data))
        if not part:
            raise OSError("the connection was closed after %d bytes: QGS could not answer" % len(data))
        data += part
    return data
