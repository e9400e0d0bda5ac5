# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Two services of Azure's instance metadata: the chip's certificate (THIM), and a TD quote over a TDREPORT.

They are at a link-local address of the host: never through a proxy, never along a redirect, never with more than a small answer.
Nothing that comes from there is trusted before it is verified.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any, Dict, Optional

from ansible_collections.attested.ai.plugins.module_utils.errors import CollectError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.formats.der import pem_to_der

DEFAULT_BASE_URL = "http://169.254.169.254"
CERTIFICATION = "/metadata/THIM/amd/certification"
TD_QUOTE = "/acc/tdquote"
TIMEOUT = 30.0
ANSWER_MAX = 256 * 1024
QUOTE_MAX = 48 * 1024


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: the services know none."""

    def redirect_request(self, *_arguments: Any, **_named: Any) -> None:
        return None


class Imds:
    """``base_url`` is the service's, without a path. Everything raises CollectError with code "imds"."""

    def __init__(self, base_url: str = DEFAULT_BASE_URL, timeout: float = TIMEOUT) -> None:
        self._base_url = base_url.rstrip("/")
        self._timeout = timeout
        # An empty ProxyHandler takes the place of the one that reads the environment.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())

    def vcek(self) -> bytes:
        """The VCEK of this machine in DER, for the TCB that it has now."""
        answer = self._ask(CERTIFICATION)
        where = self._base_url + CERTIFICATION
        try:
            certificates = pem_to_der(strict.text_of(answer.get("vcekCert"), "vcekCert", limit=16 * 1024))
        except FormatError as error:
            raise CollectError(str(error), where=where, code="imds") from None
        if len(certificates) != 1:
            raise CollectError("%d certificates came, one was expected" % len(certificates), where=where, code="imds")
        return certificates[0]

    def td_quote(self, td_report: bytes) -> bytes:
        """The quote over a TDREPORT of 1024 bytes."""
        answer = self._ask(TD_QUOTE, {"report": strict.encode_base64url(td_report)})
        text = answer.get("quote")
        try:
            # With and without padding: base64url says that either may come.
            return strict.decode_base64url(text.rstrip("=") if isinstance(text, str) else text, "quote", 1, QUOTE_MAX)
        except FormatError as error:
            raise CollectError(str(error), where=self._base_url + TD_QUOTE, code="imds") from None

    def _ask(self, path: str, body: Optional[Dict[str, str]] = None) -> Dict[str, Any]:
        url = self._base_url + path
        headers = {"Metadata": "true", "Accept": "application/json"}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode("ascii")
        try:
            with self._opener.open(urllib.request.Request(url, data=data, headers=headers), timeout=self._timeout) as response:
                answer = response.read(ANSWER_MAX + 1)
        except urllib.error.HTTPError as error:
            raise CollectError("the service answers %d" % error.code, where=url, code="imds", fix="Run this in a confidential guest of Azure") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise CollectError("the service cannot be reached (%s)" % reason, where=url, code="imds", fix="Run this in a confidential guest of Azure") from None
        if len(answer) > ANSWER_MAX:
            raise CollectError("the answer has more than %d bytes" % ANSWER_MAX, where=url, code="imds")
        try:
            parsed = strict.loads(answer, url)
        except FormatError as error:
            raise CollectError(error.what, where=url, code="imds") from None
        if not isinstance(parsed, dict):
            raise CollectError("the answer is no object", where=url, code="imds")
        return parsed
