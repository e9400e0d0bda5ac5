# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""HTTP for the KBS clients: one request, one answer, a server that proved its name, and an end in time.

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
from typing import Callable, Dict, Mapping, Optional, Tuple
from urllib.parse import urlsplit

from ansible_collections.attested.ai.plugins.module_utils.exchange import NoHttp, exchange
from ansible_collections.attested.ai.plugins.module_utils.formats.der import spki_of_certificate
from ansible_collections.attested.ai.plugins.module_utils.formats.strict import quoted
from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError

BODY_MAX = 8 << 20
_PATH = re.compile(r"/[A-Za-z0-9._~%/?=&-]*\Z")
_PIN = re.compile(r"sha256:[0-9a-f]{64}\Z")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_NOT_KBS = "Something else answers there: compare address and port"


@dataclass(frozen=True)
class Answer:
    """``headers`` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    # The time here, in seconds since 1970, when it came: for comparing clocks.
    at: float = 0.0


@dataclass(frozen=True)
class Server:
    """Where a KBS is, and how it proves that it is the one.

    ``ca`` is PEM text; the system's authorities count if it is empty. ``server_name`` is the name in its certificate, if it is another than that of the
    address. ``pins`` are sha256:<hexadecimal> of SubjectPublicKeyInfo. HTTP without TLS is for loopback, unless ``allow_http``.
    """

    url: str
    ca: str = ""
    server_name: str = ""
    pins: Tuple[str, ...] = ()
    timeout: float = 20.0
    allow_http: bool = False

    def __post_init__(self) -> None:
        parts = self.parts
        if parts[0] == "http":
            if self.pins or self.ca or self.server_name:
                raise KbsError("certificates are of no use without TLS", where=self.url, fix="Use https", code="kbs-url")
            if parts[1] not in LOOPBACK and not self.allow_http:
                raise KbsError("without TLS anybody on the way reads the admin token and what is stored", where=self.url,
                               fix="Use https, or say allow_http for a network that you trust with it", code="kbs-url")
        for pin in self.pins:
            if not _PIN.match(pin):
                raise KbsError("%s is no sha256:<64 hexadecimal digits>" % quoted(pin), where="pins", code="kbs-pin")

    @property
    def parts(self) -> Tuple[str, str, int, str]:
        """(scheme, host, port, path before /kbs)."""
        try:
            found = urlsplit(self.url)
            scheme, host, port = found.scheme, found.hostname or "", found.port
        except ValueError:
            scheme, host, port = "", "", None
        if scheme not in ("http", "https") or not host or found.query or found.fragment or found.username is not None:
            # Without what may be a password.
            raise KbsError("it is no address such as https://kbs.example.org:8080", where=quoted(self.url.rpartition("@")[2]), code="kbs-url")
        path = found.path.rstrip("/")
        if path and not _PATH.match(path):
            raise KbsError("its path has characters that have no place there", where=quoted(self.url), code="kbs-url")
        return scheme, host, port or (443 if scheme == "https" else 80), path


# (method, path below the server's address, body, headers) -> Answer. Raises KbsError where there is none.
Transport = Callable[[str, str, Optional[bytes], Mapping[str, str]], Answer]


def make_transport(server: Server, clock: Callable[[], float] = time.time) -> Transport:
    """The network. Raises KbsError on settings that cannot be used."""
    scheme, host, port, prefix = server.parts
    context = _context(server) if scheme == "https" else None

    def send(method: str, path: str, body: Optional[bytes], headers: Mapping[str, str]) -> Answer:
        try:
            found = exchange(
                host, port, method, prefix + path, body, _sendable(headers, body), timeout=server.timeout, most=BODY_MAX, context=context,
                server_name=server.server_name, prove=lambda channel: _compare_pins(channel, server))  # fmt: skip
        except OSError as error:
            raise _explained(error, server) from None
        if len(found.body) > BODY_MAX:
            raise KbsError("the answer is larger than %d bytes" % BODY_MAX, where=server.url, fix=_NOT_KBS, code="kbs-answer")
        return Answer(*found, clock())

    return send


@dataclass(frozen=True)
class Patience:
    """How often to try where there is no answer, or one that says "later"."""

    attempts: int = 3
    pause: float = 1.0


TRANSIENT = (429, 502, 503, 504)
# Worth another try: nothing was sent, or what was sent may be sent again, because every call of the protocol but /auth sets the same state twice.
_AGAIN = ("kbs-unreachable", "kbs-slow", "kbs-broken-off")


def patient(transport: Transport, patience: Patience, sleep: Callable[[float], None] = time.sleep) -> Transport:
    def send(method: str, path: str, body: Optional[bytes], headers: Mapping[str, str]) -> Answer:
        for attempt in range(1, patience.attempts + 1):
            last = attempt == patience.attempts
            try:
                answer = transport(method, path, body, headers)
                if answer.status not in TRANSIENT or last:
                    return answer
            except KbsError as error:
                if error.code not in _AGAIN or last:
                    raise
            sleep(patience.pause * attempt)
        raise KbsError("no attempt was allowed", code="kbs-unreachable")

    return send


def _compare_pins(channel: ssl.SSLSocket, server: Server) -> None:
    if server.pins:
        pin = "sha256:" + hashlib.sha256(spki_of_certificate(channel.getpeercert(binary_form=True) or b"")).hexdigest()
        if pin not in server.pins:
            raise KbsError("the key of the server is %s, which is not pinned" % pin, where=server.url,
                           fix="If it was renewed on purpose, pin the new one; else somebody stands in between", code="kbs-pin")


def _context(server: Server) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=server.ca or None)
    except (ssl.SSLError, ValueError) as error:
        raise KbsError("it holds no certificates that can be read (%s)" % _short(error), where="ca", fix="Give PEM", code="kbs-ca") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _sendable(headers: Mapping[str, str], body: Optional[bytes]) -> Dict[str, str]:
    for name, value in headers.items():
        # http.client would quote the value, which may be a token.
        if any(ord(character) < 32 or ord(character) > 126 for character in value):
            raise KbsError("the header %s has characters that HTTP cannot carry" % name, code="kbs-header")
    length = {} if body is None else {"Content-Length": str(len(body))}
    return {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "attested.ai", **length, **headers}


def _explained(error: OSError, server: Server) -> KbsError:
    if isinstance(error, (socket.timeout, TimeoutError)):
        return KbsError("no whole answer within %g seconds" % server.timeout, where=server.url, fix="See whether it is busy, or raise timeout",
                        code="kbs-slow")
    if isinstance(error, ssl.SSLCertVerificationError):
        return _untrusted(error, server)
    if isinstance(error, ssl.SSLError):
        return KbsError("TLS does not come about (%s)" % _short(error), where=server.url,
                        fix="Perhaps it speaks HTTP without TLS, or no version from 1.2 on", code="kbs-tls")
    if isinstance(error, socket.gaierror):
        return KbsError("its name is not known here", where=server.url, fix="Correct the address or the name service", code="kbs-name")
    if isinstance(error, ConnectionRefusedError):
        return KbsError("nothing listens there", where=server.url, fix="Start the KBS, or correct address and port", code="kbs-unreachable")
    if isinstance(error, NoHttp):
        tls = " (a KBS with TLS answers HTTP like this)" if server.url.startswith("http:") else ""
        return KbsError("%s%s" % (error, tls), where=server.url, fix=_NOT_KBS, code="kbs-broken-off")
    if isinstance(error, (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)):
        return KbsError("it hangs up (%s)" % _short(error), where=server.url, fix="See its log; perhaps it takes TLS only, or no bodies as large as this",
                        code="kbs-broken-off")
    return KbsError("it cannot be reached (%s)" % _short(error), where=server.url, code="kbs-unreachable")


def _untrusted(error: ssl.SSLCertVerificationError, server: Server) -> KbsError:
    reason = str(getattr(error, "verify_message", "") or error)
    name = server.server_name or server.parts[1]
    if "mismatch" in reason.lower() or "not valid for" in reason:
        return KbsError("its certificate is for another name than %s" % name, where=server.url,
                        fix="Use the name that the certificate holds as address or as server_name", code="kbs-tls-name")
    if "expired" in reason or "not yet valid" in reason:
        return KbsError("its certificate is out of its time (%s)" % reason, where=server.url, fix="Renew it, and compare the clocks", code="kbs-tls-time")
    return KbsError("its certificate is not trusted (%s)" % reason, where=server.url, fix="Give the authority that issued it as ca_path", code="kbs-tls-trust")


def _short(error: Exception) -> str:
    return " ".join(str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error).split())[:120]
