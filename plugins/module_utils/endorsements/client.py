# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ask the vendors' services politely: few at a time, patient when they say "too many", and never beyond a deadline.

AMD's key distribution service answers 429 after a few requests. A whole fleet behind one controller therefore shares what one request
learnt: the pause that a service asks for holds for every thread and every process that uses the same directory ``gates``.

The network itself is a function that is handed in (``Opener``); without one nothing is reached.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import random
import re
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Callable, Iterator, Mapping, Optional, Sequence, Tuple
from urllib.parse import urlsplit

from ansible_collections.attested.ai.plugins.module_utils.errors import EndorsementError
from ansible_collections.attested.ai.plugins.module_utils.formats.strict import quoted

BODY_MAX = 8 << 20
# Worth another try: the service is busy, or something between us and it is.
TRANSIENT = frozenset((408, 425, 429, 500, 502, 503, 504))
_POLL = 0.05
# Not str.isdigit, which counts superscripts as digits.
_DIGITS = re.compile(r"[0-9]{1,18}\Z", re.ASCII)


@dataclass(frozen=True)
class Request:
    """``data`` makes it a POST. ``accept`` lists the content types that the answer may have, all if empty."""

    url: str
    data: Optional[bytes] = None
    headers: Mapping[str, str] = field(default_factory=dict)
    accept: Tuple[str, ...] = ()
    timeout: float = 20.0


@dataclass(frozen=True)
class Response:
    """``headers`` have lower-case names. ``body`` is at most BODY_MAX + 1 bytes."""

    status: int
    headers: Mapping[str, str]
    body: bytes


# Sends one request. Raises OSError where there is no answer; statuses of 400 and above are answers, redirections are not followed.
Opener = Callable[[Request], Response]


@dataclass(frozen=True)
class Patience:
    """``attempts`` for one request, the longest single wait ``max_wait``, the ``timeout`` of one answer, and the ``deadline`` for
    everything, all in seconds. ``parallel`` requests at once to one service."""

    attempts: int = 6
    max_wait: float = 60.0
    timeout: float = 20.0
    deadline: float = 600.0
    parallel: int = 4


class Client:
    """``gates`` is a directory that all users of one store share. ``tell`` is called with a line before each wait that a person would notice."""

    def __init__(
        self,
        opener: Opener,
        patience: Patience,
        gates: str,
        tell: Callable[[str], None] = lambda line: None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._opener = opener
        self._patience = patience
        self._gates = gates
        self._tell = tell
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self.started = clock()
        self._end = self.started + patience.deadline
        self._lock = threading.Lock()
        self.requests = 0

    def now(self) -> datetime:
        """The time by this client's clock (aware)."""
        return datetime.fromtimestamp(self._clock(), timezone.utc)

    def get(self, url: str, headers: Optional[Mapping[str, str]] = None, accept: Sequence[str] = ()) -> Response:
        """The answer with status 200 to a GET. Raises EndorsementError, with a code that says why there is none."""
        return self.send(Request(url, None, dict(headers or {}), tuple(accept), self._patience.timeout))

    def post(self, url: str, data: bytes, headers: Mapping[str, str], accept: Sequence[str] = ()) -> Response:
        return self.send(Request(url, data, dict(headers), tuple(accept), self._patience.timeout))

    def send(self, request: Request) -> Response:
        host = _host_of(request.url)
        response, problem = None, ""
        for attempt in range(1, self._patience.attempts + 1):
            self._await_gate(host, request.url)
            try:
                with self._slot(host, request.url):
                    response = self._once(request)
                problem, pause = _problem(response), _retry_after(response, self._clock())
            except OSError as error:
                response, problem, pause = None, "no answer (%s)" % _reason(error), None
            if response is not None and not problem:
                return _accepted(response, request)
            if response is not None and response.status not in TRANSIENT and response.status != 200:
                raise _refusal(response, request.url)
            if attempt < self._patience.attempts:
                self._back_off(host, request.url, problem, pause, attempt, response is not None and response.status in (429, 503))
        throttled = response is not None and response.status == 429
        raise EndorsementError(
            "%s, %d times" % (problem, self._patience.attempts), where=request.url,
            fix="Run it again later: what was fetched is kept" if throttled else "See that the service can be reached from here, or give another address",
            code="collateral-throttled" if throttled else "collateral-unreachable",
        )  # fmt: skip

    def hold(self, path: str, what: str) -> contextlib.AbstractContextManager[object]:
        """Wait, within the deadline, for the lock of one thing that others may be fetching as well."""
        return self._locked([path], what)

    def _once(self, request: Request) -> Response:
        with self._lock:
            self.requests += 1
        left = self._end - self._clock()
        return self._opener(Request(request.url, request.data, request.headers, request.accept, max(0.1, min(request.timeout, left))))

    def _back_off(self, host: str, url: str, problem: str, pause: Optional[float], attempt: int, shared: bool) -> None:
        if pause is None:
            # Half fixed, half drawn, so that many who failed together do not come back together.
            pause = min(self._patience.max_wait, 0.5 * 2 ** (attempt - 1)) * (0.5 + 0.5 * self._jitter())
        elif pause > self._patience.max_wait:
            raise EndorsementError(
                "%s, and asks for a pause of %d seconds, more than the %d that are allowed" % (problem, pause, self._patience.max_wait), where=url,
                fix="Run it again after that, or raise max_wait", code="collateral-throttled",
            )  # fmt: skip
        until = self._clock() + pause
        if until > self._end:
            raise self._too_late(url, problem)
        if shared:
            _write_gate(self._gate(host), until)
        self._wait(pause, "%s: %s, next try in %d s" % (host, problem, round(pause)))

    def _await_gate(self, host: str, url: str) -> None:
        while True:
            until = _read_gate(self._gate(host), self._clock() + self._patience.max_wait)
            pause = until - self._clock()
            if pause <= 0:
                return
            if until > self._end:
                raise self._too_late(url, "the service asked for a pause")
            self._wait(pause, "%s asked for a pause, next try in %d s" % (host, round(pause)))

    def _wait(self, seconds: float, line: str) -> None:
        if seconds >= 1:
            self._tell(line)
        self._sleep(seconds)

    def _too_late(self, where: str, problem: str) -> EndorsementError:
        return EndorsementError(
            "%s, and the deadline of %d seconds leaves no time for another try" % (problem, self._patience.deadline), where=where,
            fix="Run it again, what was fetched is kept; or raise deadline", code="collateral-deadline",
        )  # fmt: skip

    def _gate(self, host: str) -> str:
        return os.path.join(self._gates, "gate-" + _digest(host))

    def _slot(self, host: str, url: str) -> contextlib.AbstractContextManager[object]:
        return self._locked([os.path.join(self._gates, "slot-%s-%d" % (_digest(host), number)) for number in range(self._patience.parallel)], url)

    @contextlib.contextmanager
    def _locked(self, paths: Sequence[str], what: str) -> Iterator[object]:
        """Hold any one of these locks."""
        with contextlib.ExitStack() as stack:
            descriptors = []
            try:
                os.makedirs(self._gates, exist_ok=True)
                for path in paths:
                    descriptors.append(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644))
                    stack.callback(os.close, descriptors[-1])
            except OSError as error:
                raise EndorsementError("it cannot be written (%s)" % (error.strerror or error), where=self._gates,
                                       fix="Give a directory of your own", code="store-unwritable") from None
            while not any(_try_lock(descriptor) for descriptor in descriptors):
                if self._clock() > self._end:
                    raise self._too_late(what, "others are still at it")
                self._sleep(_POLL)
            yield None


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _host_of(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2].lower()
    except ValueError:
        host = ""
    if not host or parts.scheme not in ("http", "https"):
        raise EndorsementError("it is no http or https address", where=quoted(url), code="collateral-url")
    return host


def _problem(response: Response) -> str:
    """Why an answer cannot be used, empty if it can be looked at."""
    if response.status != 200:
        return "the service answers %d" % response.status
    stated = response.headers.get("content-length", "")
    if _DIGITS.match(stated) and int(stated) != len(response.body) <= BODY_MAX and "content-encoding" not in response.headers:
        return "the answer ended after %d of %s bytes" % (len(response.body), stated)
    return ""


def _accepted(response: Response, request: Request) -> Response:
    if len(response.body) > BODY_MAX:
        raise EndorsementError("the answer is larger than %d bytes" % BODY_MAX, where=request.url, code="collateral-answer")
    found = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.accept and found not in request.accept:
        raise EndorsementError(
            "the answer is of the type %s, %s was expected" % (quoted(found or "(none)"), " or ".join(request.accept)), where=request.url,
            fix="Something between here and the service answers in its place, or the address is wrong", code="collateral-answer",
        )  # fmt: skip
    return response


def _refusal(response: Response, url: str) -> EndorsementError:
    if response.status in (401, 403):
        return EndorsementError("the service answers %d: it wants other credentials" % response.status, where=url,
                                fix="Give its token", code="collateral-denied")
    if 300 <= response.status < 400:
        target = quoted(response.headers.get("location", ""))
        return EndorsementError("the service answers %d and points to %s" % (response.status, target), where=url,
                                fix="Give that address if it is the right one", code="collateral-redirect")
    if response.status == 404:
        return EndorsementError("the service does not have it (404)", where=url, code="collateral-not-found")
    return EndorsementError("the service answers %d" % response.status, where=url, code="collateral-refused")


def _retry_after(response: Response, now: float) -> Optional[float]:
    """Seconds that the service asks us to wait (RFC 9110 section 10.2.3): a number or a date. None if it names none that can be read."""
    text = response.headers.get("retry-after", "").strip()
    if _DIGITS.match(text) and len(text) <= 9:
        return float(text)
    if not text:
        return None
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        return max(0.0, moment.timestamp() - now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _reason(error: OSError) -> str:
    return " ".join(str(getattr(error, "reason", None) or error.strerror or error).split())[:160] or type(error).__name__


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def _read_gate(path: str, latest: float) -> float:
    """The time (seconds since 1970) before which the service is left alone; 0 if none. A clock that jumped must not lock us out."""
    try:
        with open(path, encoding="ascii") as stream:
            until = float(stream.read(64))
    except (OSError, ValueError):
        return 0.0
    return until if until <= latest else 0.0


def _write_gate(path: str, until: float) -> None:
    with contextlib.suppress(OSError), open(path, "w", encoding="ascii") as stream:
        stream.write("%.3f" % until)
