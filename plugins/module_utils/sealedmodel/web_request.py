# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Single requests to a server that is not trusted, over connections that are kept. Standard library only."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Tuple
from urllib.parse import SplitResult, quote, urljoin, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

from ansible_collections.attested.ai.plugins.module_utils.errors import ModelError

_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 5
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})\Z")
# First byte, byte after the last, size of the whole file.
Span = Tuple[int, int, int]


class Cut(Exception):
    """The server is gone or cannot answer just now: worth another attempt."""


@dataclass(frozen=True)
class Web:
    """Where and how. ``urls`` replaces addresses below ``base`` by path, ``headers`` go to the host of ``base`` alone; ``timeout`` in seconds is for one
    answer or piece of it, ``minimum_rate`` in bytes per second counts over that time. ``guard`` answers the host of ``base`` when it asks who is there."""

    base: str
    urls: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    redirect_hosts: Tuple[str, ...] = ()
    ca_path: Optional[str] = None
    allow_http: bool = False
    timeout: int = 30
    minimum_rate: int = 16384
    guard: Any = field(default=None, repr=False)


class Requests:
    """Opens, keeps and reuses connections. Safe for threads."""

    def __init__(self, web: Web) -> None:
        self._web = web
        self._lock = threading.Lock()
        self._idle: Dict[Tuple[str, str], List[Any]] = {}
        try:
            self._tls = ssl.create_default_context(cafile=web.ca_path)
        except (OSError, ssl.SSLError) as error:
            raise ModelError("the certificates cannot be read (%s)" % (error.strerror or error), where=str(web.ca_path), code="model-remote") from None
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._home = self._check(web.base, web.base)
        for text in (*web.headers, *web.headers.values()):
            if not isinstance(text, str) or not text.isprintable():
                raise ModelError("a header holds what no header can", where="headers", code="model-remote")

    def name(self, path: str) -> str:
        """Without what may be secret in an address: its query."""
        return _shown(self._url(path))

    def get(self, path: str, span: Optional[Span], validators: Mapping[str, str]) -> Answer:
        """Ask for a file, or for a part of it. Raises ModelError where asking again is no use, Cut, OSError or HTTPException where it may be."""
        url, where = self._url(path), self.name(path)
        headers = {"Accept-Encoding": "identity", "User-Agent": "attested.ai"}
        if span is not None:
            headers["Range"] = "bytes=%d-%d" % (span[0], span[1] - 1)
        if validators.get("ETag", "W/").startswith('"'):
            headers["If-Match"] = validators["ETag"]
        asked = False
        for _hop in range(_MAX_REDIRECTS + 1):
            parts = self._check(url, where)
            at_home = (parts.scheme, parts.netloc) == (self._home.scheme, self._home.netloc)
            own = self._own() if at_home else {}
            connection, response = self._send(parts, {**headers, **own})
            if response.status == 401 and at_home and self._web.guard is not None and not asked:
                # Once for each request: a token that has expired meanwhile is renewed.
                asked = True
                connection.close()
                self._web.guard.answer(response.getheader("WWW-Authenticate") or "", own.get("Authorization", ""))
                continue
            if response.status not in _REDIRECTS:
                return Answer(self, (parts.scheme, parts.netloc), connection, response, where, span, self._web)
            target = response.getheader("Location") or ""
            connection.close()
            url = self._follow(url, target, where)
        raise ModelError("the server redirects more than %d times" % _MAX_REDIRECTS, where=where, code="model-remote-redirect")

    def _own(self) -> Dict[str, str]:
        shown = self._web.guard.current if self._web.guard is not None else ""
        return {**self._web.headers, **({"Authorization": shown} if shown else {})}

    def give_back(self, key: Tuple[str, str], connection: Any) -> None:
        with self._lock:
            self._idle.setdefault(key, []).append(connection)

    def close(self) -> None:
        with self._lock:
            for connections in self._idle.values():
                for connection in connections:
                    connection.close()
            self._idle.clear()

    def _url(self, path: str) -> str:
        given = self._web.urls.get(path)
        return str(given) if given is not None else self._web.base.rstrip("/") + "/" + quote(path)

    def _check(self, url: str, where: str) -> SplitResult:
        """The parts of an address that may be asked. Raises ModelError."""
        where = _shown(where)
        try:
            parts = urlsplit(url)
            host, _port = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host or parts.username or parts.password or not url.isascii() or not url.isprintable() or " " in url:
            raise ModelError("it is no usable address: https://host/path, without a user in it", where=where, code="model-remote")
        if parts.scheme != "https" and not (parts.scheme == "http" and self._web.allow_http):
            fix = "Use https://, or set allow_http: the content is authenticated in any case, but everybody on the way sees what is fetched"
            raise ModelError("it is not https", where=where, fix=fix, code="model-remote")
        return parts

    def _follow(self, url: str, target: str, where: str) -> str:
        wanted = urljoin(url, target)
        here, there = self._check(url, where), self._check(wanted, where)
        if here.scheme == "https" and there.scheme != "https":
            raise ModelError("the server redirects from https to http", where=where, code="model-remote-redirect")
        hosts = {self._home.hostname, here.hostname, *(host.lower() for host in self._web.redirect_hosts)}
        if there.hostname not in hosts:
            fix = "If that host is meant, add it to redirect_hosts"
            raise ModelError("the server redirects to %s" % ascii(there.hostname), where=where, fix=fix, code="model-remote-redirect")
        return wanted

    def _send(self, parts: SplitResult, headers: Mapping[str, str]) -> Tuple[Any, Any]:
        key = (parts.scheme, parts.netloc)
        with self._lock:
            kept = self._idle.get(key)
            connection = kept.pop() if kept else None
        reused = connection is not None
        connection = connection or self._connect(parts)
        path = urlunsplit(("", "", parts.path or "/", parts.query, ""))
        # The time-out of a socket begins again with each byte: a head that drips would never end.
        timer = threading.Timer(self._web.timeout, _hang_up, [connection])
        timer.daemon = True
        timer.start()
        try:
            connection.request("GET", path, headers=dict(headers))
            return connection, connection.getresponse()
        except ssl.SSLCertVerificationError as error:
            connection.close()
            fix = "Set ca_path to the authority that signed it"
            raise ModelError("its certificate is not accepted (%s)" % error.verify_message, where=parts.netloc, fix=fix, code="model-remote-tls") from None
        except (OSError, http.client.HTTPException):
            connection.close()
            if reused:
                # The server had closed it meanwhile: no failure, and others may be as old.
                self.close()
                return self._send(parts, headers)
            raise
        finally:
            timer.cancel()

    def _connect(self, parts: SplitResult) -> Any:
        if parts.scheme == "http":
            return http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=self._web.timeout)
        proxy = getproxies().get("https")
        if proxy and not proxy_bypass(str(parts.hostname)):
            through = urlsplit(proxy if "://" in proxy else "http://" + proxy)
            connection = _Tls(str(through.hostname), through.port, self._web.timeout, self._tls, str(parts.hostname))
            connection.set_tunnel(str(parts.hostname), parts.port or 443)
            return connection
        return _Tls(str(parts.hostname), parts.port or 443, self._web.timeout, self._tls, str(parts.hostname))


class _Tls(http.client.HTTPConnection):
    """TLS over a connection or a tunnel, with the handshake apart: only then there is a socket that can be hung up while it goes on."""

    def __init__(self, host: str, port: Optional[int], timeout: int, context: ssl.SSLContext, name: str) -> None:
        super().__init__(host, port, timeout=timeout)
        self._tls, self._name = context, name

    def connect(self) -> None:
        super().connect()
        sealed = self._tls.wrap_socket(self.sock, server_hostname=self._name, do_handshake_on_connect=False)
        self.sock = sealed
        sealed.do_handshake()


def _hang_up(connection: Any) -> None:
    try:
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        # Gone already.
        pass


class Answer:
    """One answer whose head was checked: exactly the range that was asked for, or a whole small file."""

    def __init__(self, requests: Requests, key: Tuple[str, str], connection: Any, response: Any, where: str, span: Optional[Span], web: Web) -> None:
        self._requests, self._key, self._connection, self._response, self._where = requests, key, connection, response, where
        self._web = web
        self._begin, self._counted = time.monotonic(), 0
        try:
            _check_status(response.status, where)
            self.validators = {name: value for name, value in ((name, response.getheader(name)) for name in ("ETag", "Last-Modified")) if value}
            if response.getheader("Content-Encoding", "identity") != "identity":
                raise ModelError("the server changes the content: Content-Encoding", where=where, code="model-remote-range")
            if span is not None:
                self._check_range(span)
        except BaseException:
            self.close()
            raise

    def _check_range(self, span: Span) -> None:
        first, end, size = span
        status, length = self._response.status, self._response.getheader("Content-Length")
        if status == 200 and (first, end) == (0, size):
            found: Tuple[int, ...] = (0, size - 1, int(length) if length and length.isdigit() else -1)
        elif status == 206:
            match = _CONTENT_RANGE.match(self._response.getheader("Content-Range") or "")
            found = tuple(int(number) for number in match.groups()) if match else ()
        else:
            what = "the server sends whole files only, where parts were asked for (status %d)" % status
            raise ModelError(what, where=self._where, fix="Use a server that knows ranges", code="model-remote-range")
        if found and found[2] != size:
            what = "it is %d bytes long, %d expected" % (found[2], size)
            raise ModelError(what, where=self._where, fix="Publish the model again", code="model-file-size")
        if found != (first, end - 1, size) or length != str(end - first) or self._response.getheader("Transfer-Encoding"):
            raise ModelError("the server sends another part than was asked for", where=self._where, code="model-remote-range")

    def read_into(self, buffer: memoryview) -> int:
        """As much as is there, at least one byte. The caller asks for no more than the range holds. Raises Cut at an early end."""
        count = self._response.fp.readinto1(buffer) if self._response.fp is not None else 0
        if not count:
            raise Cut("the connection was cut")
        self._count(count)
        return int(count)

    def read_all(self, limit: int) -> bytes:
        """Everything, or ``limit`` + 1 bytes of it."""
        parts, length = [], 0
        while length <= limit:
            part = self._response.read1(min(1 << 16, limit + 1 - length))
            if not part:
                expected = self._response.getheader("Content-Length")
                if expected is not None and expected != str(length):
                    raise Cut("the connection was cut")
                break
            parts.append(part)
            length += len(part)
            self._count(len(part))
        return b"".join(parts)

    def _count(self, count: int) -> None:
        """Raise ModelError if too little came for too long."""
        self._counted += count
        seconds = time.monotonic() - self._begin
        if seconds >= self._web.timeout:
            if self._counted < self._web.minimum_rate * seconds:
                what = "only %d bytes came in %d seconds" % (self._counted, seconds)
                raise ModelError(what, where=self._where, fix="Use a faster server, or lower minimum_rate", code="model-remote-slow")
            self._begin, self._counted = time.monotonic(), 0

    def close(self, complete: bool = False) -> None:
        """Give the connection back if all of the range was read and the server keeps it."""
        keeps = complete and not self._response.will_close
        # What is left in it are the bytes that were read past its back.
        self._response.close()
        if keeps:
            self._requests.give_back(self._key, self._connection)
        else:
            self._connection.close()


def _check_status(status: int, where: str) -> None:
    if status in (408, 425, 429) or status >= 500:
        raise Cut("status %d" % status)
    if status == 412:
        raise ModelError("the file was replaced while it was read", where=where, fix="Run this again", code="model-source-changed")
    if status == 416:
        raise ModelError("it is shorter than the manifest says", where=where, fix="Publish the model again", code="model-file-size")
    if status in (404, 410):
        raise ModelError("there is no such file (status %d)" % status, where=where, fix="Publish the model again", code="model-file-missing")
    if status in (401, 403):
        fix = "Renew the presigned addresses, or check headers or auth_file"
        raise ModelError("the server refuses (status %d)" % status, where=where, fix=fix, code="model-remote-denied")
    if status not in (200, 206):
        raise ModelError("the server answers with status %d" % status, where=where, code="model-remote")


def _shown(url: str) -> str:
    """Without query, fragment and user."""
    plain = url.partition("?")[0].partition("#")[0]
    scheme, mark, rest = plain.partition("://")
    return ascii(scheme + mark + rest.rpartition("@")[2])[1:-1]
