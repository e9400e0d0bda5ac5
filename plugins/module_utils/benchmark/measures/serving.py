# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What clients of a model server wait for: the first token, the next one, and all of them, by the number of requests at once."""

from __future__ import annotations

import http.client
import ssl
import statistics
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence

from ansible_collections.attested.ai.plugins.module_utils.benchmark.failure import BenchmarkError
from ansible_collections.attested.ai.plugins.module_utils.benchmark.measures.measure import Found, Measure

MOST_EVENTS = 100_000
MOST_LINE = 1 << 20


@dataclass(frozen=True)
class Endpoint:
    """``body`` goes by POST as it is, and the answer is a stream of server-sent events, one for each token. ``headers`` may hold secrets."""

    url: str
    body: bytes
    headers: Mapping[str, str]
    ca: Optional[str] = None
    timeout: float = 120.0


def serving(found: Found, endpoint: Endpoint, concurrency: Sequence[int]) -> None:
    _split(endpoint.url)
    found.measures.extend(_measure(endpoint, number) for number in concurrency)


def _measure(endpoint: Endpoint, number: int) -> Measure:
    return Measure("serving.%d" % number, lambda: batch(endpoint, number))


def batch(endpoint: Endpoint, number: int) -> Dict[str, float]:
    """``number`` requests that start together. Medians over them; whole is the time of all divided by the tokens of all."""
    begin = time.perf_counter()
    with ThreadPoolExecutor(max_workers=number) as pool:
        streams = list(pool.map(lambda _number: stream(endpoint), range(number)))
    whole = time.perf_counter() - begin
    gaps = [after - before for events in streams for before, after in zip(events[1:], events[2:])]
    times = {"serving.ttft.%d" % number: statistics.median(events[1] - events[0] for events in streams)}
    if gaps:
        # A server that sends several tokens at once makes gaps of nothing; their mean is what a reader waits.
        times["serving.itl.%d" % number] = max(statistics.mean(gaps), 1e-9)
    times["serving.whole.%d" % number] = whole / sum(len(events) - 1 for events in streams)
    return times


def stream(endpoint: Endpoint) -> List[float]:
    """When the request was sent, and when each event came."""
    parts = _split(endpoint.url)
    connection = _connect(endpoint, parts)
    try:
        path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        times = [time.perf_counter()]
        connection.request("POST", path, endpoint.body, {"Content-Type": "application/json", "Accept": "text/event-stream", **endpoint.headers})
        answer = connection.getresponse()
        if answer.status != 200:
            raise _failed(endpoint, "it answered with status %d" % answer.status)
        for _number in range(MOST_EVENTS):
            line = answer.readline(MOST_LINE)
            if not line:
                break
            data = line[5:].strip() if line.startswith(b"data:") else b""
            if data == b"[DONE]":
                break
            if data:
                times.append(time.perf_counter())
    except ValueError:
        # Its own words would show the header, and that may be a key.
        raise _failed(endpoint, "the address or a header holds characters that are not allowed there") from None
    except (OSError, http.client.HTTPException) as error:
        raise _failed(endpoint, "%s: %s" % (type(error).__name__, ascii(str(error))[1:-1][:120])) from None
    finally:
        connection.close()
    if len(times) < 2:
        raise _failed(endpoint, "it sent no server-sent event")
    return times


def _connect(endpoint: Endpoint, parts: urllib.parse.SplitResult) -> http.client.HTTPConnection:
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=endpoint.timeout)
    try:
        context = ssl.create_default_context(cafile=endpoint.ca)
    except (OSError, ssl.SSLError) as error:
        raise BenchmarkError("no certificates could be read: %s" % error.strerror, where=str(endpoint.ca), code="serving") from None
    return http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=endpoint.timeout, context=context)


def _split(url: str) -> urllib.parse.SplitResult:
    try:
        parts = urllib.parse.urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and not parts.username and (parts.port or 1)
    except ValueError:
        good = False
    if not good:
        raise BenchmarkError("it is no address of a server", where="serving_url", fix="Write https://host:port/path, without a user's name", code="serving-url")
    return parts


def _failed(endpoint: Endpoint, what: str) -> BenchmarkError:
    # Without the query, which may hold a key.
    return BenchmarkError(what, where=endpoint.url.partition("?")[0], fix="Try the same request by hand; it has to be a streaming one", code="serving")
