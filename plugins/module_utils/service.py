# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""HTTP for clients of services that hold secrets: one request, one answer, a server that proved its name, and an end in time.

Standard library only, for guests use it too. Redirections are not followed and proxies of the environment are not asked: a token goes where it was
sent. With pins the key of the server is compared before the first byte of a request leaves.
"""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Callable, ClassVar, Dict, Mapping, Optional, Tuple, Type
from urllib.parse import urlsplit

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.exchange import NoHttp, exchange
from ansible_collections.attested.ai.plugins.module_utils.formats.der import spki_of_certificate
from ansible_collections.attested.ai.plugins.module_utils.formats.strict import quoted

BODY_MAX = 8 << 20
_PATH = re.compile(r"/[A-Za-z0-9._~%/?=&-]*\Z")
_PIN = re.compile(r"sha256:[0-9a-f]{64}\Z")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_NOT_IT = "Something else answers there: compare address and port"


@dataclass(frozen=True)
class Answer:
    """``headers`` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    # The time here, in seconds since 1970, when it came: for comparing clocks.
    at: float = 0.0


@dataclass(frozen=True)
class Service:
    """Where a service is, and how it proves that it is the one. Each kind has a class of its own with its name and its errors.

    ``ca`` is PEM text; the system's authorities count if it is empty. ``server_name`` is the name in its certificate, if it is another than that of the
    address. ``pins`` are sha256:<hexadecimal> of SubjectPublicKeyInfo. HTTP without TLS is for loopback, unless ``allow_http``.
    """

    url: str
    ca: str = ""
    server_name: str = ""
    pins: Tuple[str, ...] = ()
    timeout: float = 20.0
    allow_http: bool = False
    # In messages, in front of codes, and what somebody on the way would read without TLS.
    name: ClassVar[str] = "service"
    codes: ClassVar[str] = "service"
    error: ClassVar[Type[AttestedError]] = AttestedError
    example: ClassVar[str] = "https://service.example.org"
    at_stake: ClassVar[str] = "what is sent"

    def fault(self, what: str, code: str, fix: str = "", where: str = "") -> AttestedError:
        """An error of this kind of service."""
        return self.error(what, where=where or self.url, fix=fix, code="%s-%s" % (self.codes, code))

    def __post_init__(self) -> None:
        parts = self.parts
        if parts[0] == "http":
            if self.pins or self.ca or self.server_name:
                raise self.fault("certificates are of no use without TLS", "url", fix="Use https")
            if parts[1] not in LOOPBACK and not self.allow_http:
                raise self.fault("without TLS anybody on the way reads %s" % self.at_stake, "url",
                                 fix="Use https, or say allow_http for a network that you trust with it")
        for pin in self.pins:
            if not _PIN.match(pin):
                raise self.fault("%s is no sha256:<64 hexadecimal digits>" % quoted(pin), "pin", where="pins")

    @property
    def parts(self) -> Tuple[str, str, int, str]:
        """(scheme, host, port, path before that of a request)."""
        try:
            found = urlsplit(self.url)
            scheme, host, port = found.scheme, found.hostname or "", found.port
        except ValueError:
            scheme, host, port = "", "", None
        if scheme not in ("http", "https") or not host or found.query or found.fragment or found.username is not None:
            # Without what may be a password.
            raise self.fault("it is no address such as %s" % self.example, "url", where=quoted(self.url.rpartition("@")[2]))
        path = found.path.rstrip("/")
        if path and not _PATH.match(path):
            raise self.fault("its path has characters that have no place there", "url", where=quoted(self.url))
        return scheme, host, port or (443 if scheme == "https" else 80), path


# (method, path below the server's address, body, headers) -> Answer. Raises an error of the service where there is none.
Transport = Callable[[str, str, Optional[bytes], Mapping[str, str]], Answer]


def make_transport(server: Service, clock: Callable[[], float] = time.time) -> Transport:
    """The network. Raises an error of the service on settings that cannot be used."""
    scheme, host, port, prefix = server.parts
    context = _context(server) if scheme == "https" else None

    def send(method: str, path: str, body: Optional[bytes], headers: Mapping[str, str]) -> Answer:
        try:
            found = exchange(
                host, port, method, prefix + path, body, _sendable(headers, body, server), timeout=server.timeout, most=BODY_MAX, context=context,
                server_name=server.server_name, prove=lambda channel: _compare_pins(channel, server))  # fmt: skip
        except OSError as error:
            raise _explained(error, server) from None
        if len(found.body) > BODY_MAX:
            raise server.fault("the answer is larger than %d bytes" % BODY_MAX, "answer", fix=_NOT_IT)
        return Answer(*found, clock())

    return send


@dataclass(frozen=True)
class Patience:
    """How often to try where there is no answer, or one that says "later"."""

    attempts: int = 3
    pause: float = 1.0


TRANSIENT = (429, 502, 503, 504)
# Ends of codes. Worth another try: nothing was sent, or what was sent may be sent again, because it sets the same state twice.
_AGAIN = ("-unreachable", "-slow", "-broken-off")


def patient(transport: Transport, patience: Patience, sleep: Callable[[float], None] = time.sleep) -> Transport:
    def send(method: str, path: str, body: Optional[bytes], headers: Mapping[str, str]) -> Answer:
        for attempt in range(1, patience.attempts):
            try:
                answer = transport(method, path, body, headers)
                if answer.status not in TRANSIENT:
                    return answer
            except AttestedError as error:
                if not error.code.endswith(_AGAIN):
                    raise
            sleep(patience.pause * attempt)
        return transport(method, path, body, headers)

    return send


def _compare_pins(channel: ssl.SSLSocket, server: Service) -> None:
    if server.pins:
        pin = "sha256:" + hashlib.sha256(spki_of_certificate(channel.getpeercert(binary_form=True) or b"")).hexdigest()
        if pin not in server.pins:
            raise server.fault("the key of the server is %s, which is not pinned" % pin, "pin",
                               fix="If it was renewed on purpose, pin the new one; else somebody stands in between")


def _context(server: Service) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=server.ca or None)
    except (ssl.SSLError, ValueError) as error:
        raise server.fault("it holds no certificates that can be read (%s)" % _short(error), "ca", fix="Give PEM", where="ca") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _sendable(headers: Mapping[str, str], body: Optional[bytes], server: Service) -> Dict[str, str]:
    for name, value in headers.items():
        # http.client would quote the value, which may be a token.
        if any(ord(character) < 32 or ord(character) > 126 for character in value):
            raise server.fault("the header %s has characters that HTTP cannot carry" % name, "header")
    length = {} if body is None else {"Content-Length": str(len(body))}
    return {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "attested.ai", **length, **headers}


def _explained(error: OSError, server: Service) -> AttestedError:
    if isinstance(error, (socket.timeout, TimeoutError)):
        return server.fault("no whole answer within %g seconds" % server.timeout, "slow", fix="See whether it is busy, or raise timeout")
    if isinstance(error, ssl.SSLCertVerificationError):
        return _untrusted(error, server)
    if isinstance(error, ssl.SSLError):
        return server.fault("TLS does not come about (%s)" % _short(error), "tls", fix="Perhaps it speaks HTTP without TLS, or no version from 1.2 on")
    if isinstance(error, socket.gaierror):
        return server.fault("its name is not known here", "name", fix="Correct the address or the name service")
    if isinstance(error, ConnectionRefusedError):
        return server.fault("nothing listens there", "unreachable", fix="Start the %s, or correct address and port" % server.name)
    if isinstance(error, NoHttp):
        tls = " (a %s with TLS answers HTTP like this)" % server.name if server.url.startswith("http:") else ""
        return server.fault("%s%s" % (error, tls), "broken-off", fix=_NOT_IT)
    if isinstance(error, (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)):
        return server.fault("it hangs up (%s)" % _short(error), "broken-off", fix="See its log; perhaps it takes TLS only, or no bodies as large as this")
    return server.fault("it cannot be reached (%s)" % _short(error), "unreachable")


def _untrusted(error: ssl.SSLCertVerificationError, server: Service) -> AttestedError:
    reason = str(getattr(error, "verify_message", "") or error)
    name = server.server_name or server.parts[1]
    if "mismatch" in reason.lower() or "not valid for" in reason:
        return server.fault("its certificate is for another name than %s" % name, "tls-name",
                            fix="Use the name that the certificate holds as address or as server_name")
    if "expired" in reason or "not yet valid" in reason:
        return server.fault("its certificate is out of its time (%s)" % reason, "tls-time", fix="Renew it, and compare the clocks")
    return server.fault("its certificate is not trusted (%s)" % reason, "tls-trust", fix="Give the authority that issued it as ca_path")


def _short(error: Exception) -> str:
    return " ".join(str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error).split())[:120]
