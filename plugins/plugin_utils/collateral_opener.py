# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The network of the collateral client: Ansible's own way of opening addresses, with its proxies and certificates."""

from __future__ import annotations

import http.client
import time
import typing as t
import urllib.error

from ansible.module_utils.urls import open_url
from ansible_collections.attested.ai.plugins.module_utils.endorsements.client import BODY_MAX, Opener, Request, Response

_PART = 1 << 16


def make_opener(ca_path: str | None = None, clock: t.Callable[[], float] = time.monotonic) -> Opener:
    """An opener whose TLS servers are verified by the system's authorities, or by those in ``ca_path`` instead.

    Redirections are not followed: a token must not travel to where an answer points. All requests of one opener have the same settings,
    because open_url keeps them per process and not per request.
    """

    def open_request(request: Request) -> Response:
        end = clock() + request.timeout
        try:
            answer = open_url(
                request.url,
                data=request.data,
                headers={"Accept-Encoding": "identity", **request.headers},
                method="GET" if request.data is None else "POST",
                timeout=request.timeout,
                http_agent="attested.ai-collateral",
                follow_redirects="none",
                ca_path=ca_path,
                decompress=False,
                use_netrc=False,
            )
        except urllib.error.HTTPError as error:
            # An answer, too; nothing of its body is of use.
            headers = _headers(error.headers)
            headers.pop("content-length", None)
            error.close()
            return Response(error.code, headers, b"")
        except (http.client.HTTPException, ValueError) as error:
            raise OSError(f"{type(error).__name__}: {error}") from None
        with answer:
            try:
                return Response(answer.status, _headers(answer.headers), _body(answer, end, clock))
            except (http.client.HTTPException, ValueError) as error:
                raise OSError(f"the answer broke off ({type(error).__name__})") from None

    return open_request


def _headers(message: t.Any) -> dict[str, str]:
    return {str(name).lower(): str(value) for name, value in (message.items() if message is not None else ())}


def _body(answer: t.Any, end: float, clock: t.Callable[[], float]) -> bytes:
    """At most BODY_MAX + 1 bytes. The limit of time is one for the whole answer: a slow trickle is no answer."""
    parts: list[bytes] = []
    size = 0
    while size <= BODY_MAX:
        part = answer.read1(_PART)
        if not part:
            break
        parts.append(part)
        size += len(part)
        if clock() > end:
            raise OSError("the answer took too long")
    return b"".join(parts)[: BODY_MAX + 1]
