# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The wire to a management controller: HTTP over verified TLS with the standard library, one address, no redirection, no proxy."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
import zlib
from dataclasses import dataclass, field
from typing import Callable, Mapping, Optional, Union
from urllib.parse import urlsplit

from ansible_collections.attested.ai.plugins.module_utils.errors import RedfishError
from ansible_collections.attested.ai.plugins.module_utils.formats.strict import quoted

BODY_MAX = 16 << 20
_PART = 1 << 16


@dataclass(frozen=True)
class Request:
    """``path`` begins with a slash: which host it goes to is not for a request to say."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Optional[bytes] = None


@dataclass(frozen=True)
class Response:
    """``headers`` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


# Sends one request and returns the whole answer, whatever its status. Raises OSError where there is none.
Opener = Callable[[Request], Response]


@dataclass(frozen=True)
class Address:
    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return "%s://%s:%d" % (self.scheme, "[%s]" % self.host if ":" in self.host else self.host, self.port)


def parse_address(text: str, verified: bool = True) -> Address:
    """The controller's address: a name, name:port, or a https address without a path. Raises RedfishError."""
    try:
        parts = urlsplit(text if "://" in text else "https://" + text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if (
        not host
        or parts.scheme not in ("http", "https")
        or parts.path.strip("/") not in ("", "redfish/v1")
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
    ):
        raise RedfishError(
            "it is no address of a management controller",
            where="baseuri %s" % quoted(text.rpartition("@")[2]),
            fix="Give a host name or address, such as bmc7.example.com; credentials have options of their own",
            code="redfish-address",
        )
    if parts.scheme == "http" and verified:
        raise RedfishError(
            "it would send the password in the clear", where="baseuri", fix="Use https, or set validate_certs to false if you mean it", code="redfish-address"
        )
    return Address(parts.scheme, host, port or (443 if parts.scheme == "https" else 80))


def tls_context(validate: bool, ca_path: str = "") -> ssl.SSLContext:
    """Verified by the system's authorities, or by those in the file or folder ``ca_path`` instead."""
    try:
        if not validate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context
        context = ssl.create_default_context() if not ca_path else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if ca_path:
            try:
                context.load_verify_locations(cafile=ca_path)
            except IsADirectoryError:
                context.load_verify_locations(capath=ca_path)
        return context
    except (OSError, ssl.SSLError) as error:
        raise RedfishError(
            "it cannot be read as certificates (%s)" % (error.strerror or error),
            where="ca_path %s" % ca_path,
            fix="Give a file with certificates in PEM form",
            code="redfish-ca",
        ) from None


def make_opener(address: Address, context: Optional[ssl.SSLContext], timeout: float, clock: Callable[[], float] = time.monotonic) -> Opener:
    """An opener for one controller. Each request has a connection of its own: one that the other side closed while it was idle would leave open
    whether a request had arrived."""

    def open_request(request: Request) -> Response:
        end = clock() + timeout
        connection: Union[http.client.HTTPConnection, http.client.HTTPSConnection]
        if address.scheme == "https":
            connection = http.client.HTTPSConnection(address.host, address.port, timeout=timeout, context=context)
        else:
            connection = http.client.HTTPConnection(address.host, address.port, timeout=timeout)
        # The timeout of a socket is one for each byte that comes, be it of a handshake or of a header.
        watch = threading.Timer(timeout, _hang_up, (connection,))
        watch.daemon = True
        try:
            plain = socket.create_connection((address.host, address.port), timeout)
            watch.start()
            connection.sock = plain
            if address.scheme == "https" and context is not None:
                connection.sock = context.wrap_socket(plain, server_hostname=address.host, do_handshake_on_connect=False)
                connection.sock.do_handshake()
            connection.request(
                request.method, request.path, body=request.body, headers={"Connection": "close", "Accept-Encoding": "identity", **request.headers}
            )
            answer = connection.getresponse()
            body = _body(answer, end, clock)
            headers = {name.lower(): value for name, value in answer.getheaders()}
            if headers.get("content-encoding", "").strip().lower() in ("gzip", "x-gzip"):
                body = _unpacked(body)
            return Response(answer.status, headers, body)
        except ssl.SSLError:
            # Some of them are a ValueError, too.
            raise
        except (http.client.HTTPException, ValueError) as error:
            raise OSError("%s: the connection was dropped or the answer is no HTTP" % type(error).__name__) from None
        finally:
            watch.cancel()
            connection.close()

    return open_request


def _hang_up(connection: http.client.HTTPConnection) -> None:
    try:
        if connection.sock is not None:
            # Not that of an SSL socket, which would go on in the clear.
            socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)
    except (OSError, ValueError):
        pass


def _body(answer: http.client.HTTPResponse, end: float, clock: Callable[[], float]) -> bytes:
    """At most BODY_MAX + 1 bytes. The limit of time is one for the whole answer: a slow trickle is no answer."""
    parts = []
    size = 0
    while size <= BODY_MAX:
        part = answer.read1(_PART)
        if clock() > end:
            raise OSError("the answer took too long")
        if not part:
            if answer.length:
                raise OSError("the answer broke off")
            break
        parts.append(part)
        size += len(part)
    return b"".join(parts)[: BODY_MAX + 1]


def _unpacked(body: bytes) -> bytes:
    """Some controllers compress registries unasked. Never unpacks more than BODY_MAX + 1 bytes."""
    try:
        return zlib.decompressobj(wbits=31).decompress(body, BODY_MAX + 1)
    except zlib.error:
        raise OSError("the answer is no gzip") from None
