# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The network of ``services``: the standard library's HTTPS, with no redirection and no certificate that is not checked, but for loopback on request."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from typing import Any, Dict, Optional

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.quoting.services import BODY_MAX, Opener, Request, Response, is_loopback


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A token or a manifest goes where it was sent, and nowhere else."""

    def redirect_request(self, *_arguments: Any, **_named: Any) -> None:
        return None


def make_opener(ca_path: str = "", proxy: str = "", verify: bool = True, timeout: float = 30.0) -> Opener:
    """``proxy`` is the address of one, or "" for those that the environment names. ``verify`` false is refused for all but loopback."""
    try:
        context = ssl.create_default_context(cafile=ca_path or None)
    except (OSError, ssl.SSLError) as error:
        raise HostError("it cannot be read as certificates (%s)" % error, where=ca_path, fix="Give a PEM file", code="ca-invalid") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Newer Pythons demand extensions that the certificates of PCCS's own script do not have, and that QCNL's libcurl does not ask for.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def director(proxies: Optional[Dict[str, str]]) -> urllib.request.OpenerDirector:
        return urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _NoRedirect(), urllib.request.ProxyHandler(proxies))

    # A service of this machine is not asked through a proxy, whatever the environment says.
    direct, outside = director({}), director({"https": proxy} if proxy else None)

    def send(request: Request) -> Response:
        if not request.url.startswith("https://") or not (verify or is_loopback(request.url)):
            raise HostError("a certificate must be checked everywhere but on this machine", where=request.url, code="pccs-url")
        headers = {"Accept": "*/*", **request.token}
        if request.method != "GET":
            headers["Content-Type"] = request.kind
        try:
            ask = urllib.request.Request(request.url, data=request.data or None, headers=headers, method=request.method)
            with (direct if is_loopback(request.url) else outside).open(ask, timeout=timeout) as answer:
                return _response(answer)
        except urllib.error.HTTPError as error:
            with error:
                return _response(error)
        except urllib.error.URLError as error:
            raise error.reason if isinstance(error.reason, OSError) else OSError(str(error.reason)) from None
        except (ValueError, http.client.HTTPException) as error:
            # No message of theirs: it may quote a header, and headers carry tokens.
            raise OSError("it is no HTTP, or the request cannot be sent (%s)" % type(error).__name__) from None

    return send


def _response(answer: Any) -> Response:
    try:
        body: Optional[bytes] = answer.read(BODY_MAX + 1)
    except http.client.HTTPException as error:
        raise OSError("the answer breaks off (%s)" % type(error).__name__) from None
    if body is None or len(body) > BODY_MAX:
        raise OSError("the answer is larger than %d bytes" % BODY_MAX)
    promised = answer.headers.get("Content-Length") or "0"
    if promised.isascii() and promised.isdigit() and len(body) < int(promised[:12]):
        raise OSError("the answer breaks off after %d bytes" % len(body))
    return Response(int(answer.status), {name.lower(): value for name, value in answer.headers.items()}, body)
