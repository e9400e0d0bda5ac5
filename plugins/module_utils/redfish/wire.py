# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The wire to a management controller: HTTP over verified TLS with the standard library, one address, no redirection, no proxy."""

from __future__ import annotations

import ssl
import zlib
from dataclasses import dataclass, field
from typing import Callable, Mapping, Optional
from urllib.parse import urlsplit

from ansible_collections.attested.ai.plugins.module_utils.errors import RedfishError
from ansible_collections.attested.ai.plugins.module_utils.exchange import exchange
from ansible_collections.attested.ai.plugins.module_utils.formats.strict import quoted

BODY_MAX = 16 << 20


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


def make_opener(address: Address, context: Optional[ssl.SSLContext], timeout: float) -> Opener:
    """An opener for one controller. Each request has a connection of its own: one that the other side closed while it was idle would leave open
    whether a request had arrived."""
    if address.scheme == "https" and context is None:
        context = tls_context(True)

    def open_request(request: Request) -> Response:
        headers = {"Connection": "close", "Accept-Encoding": "identity", **request.headers}
        answer = exchange(
            address.host, address.port, request.method, request.path, request.body, headers, timeout=timeout, most=BODY_MAX,
            context=context if address.scheme == "https" else None)  # fmt: skip
        body = answer.body
        if answer.headers.get("content-encoding", "").strip().lower() in ("gzip", "x-gzip"):
            body = _unpacked(body)
        return Response(answer.status, answer.headers, body)

    return open_request


def _unpacked(body: bytes) -> bytes:
    """Some controllers compress registries unasked. Never unpacks more than BODY_MAX + 1 bytes."""
    try:
        return zlib.decompressobj(wbits=31).decompress(body, BODY_MAX + 1)
    except zlib.error:
        raise OSError("the answer is no gzip") from None
