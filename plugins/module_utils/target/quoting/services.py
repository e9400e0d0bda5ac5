# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is sent to whom: the platform manifest to Intel's registration service, a platform or its collateral to a PCCS.

The network is a function that is handed in. Tokens are header values and appear in no message.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Mapping, Optional
from urllib.parse import SplitResult, urlsplit

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.quoting.efivars import ERRORS

INTEL = "https://api.trustedservices.intel.com"
REGISTER_PATH = "/sgx/registration/v1/platform"
PCCS_SUFFIX = "/sgx/certification/v4/"
BODY_MAX = 4 << 20
TRANSIENT = frozenset((408, 425, 429, 500, 502, 503, 504))
_PPID = re.compile(r"[0-9a-f]{32}\Z", re.ASCII)
_RETRY_AFTER = re.compile(r"[0-9]{1,4}\Z", re.ASCII)
# Of the header Error-Code of Intel's service, to the agent's own numbers.
_REFUSALS = {
    "InvalidRequestSyntax": 0xA0,
    "InvalidRegistrationServer": 0xA1,
    "InvalidOrRevokedPackage": 0xA2,
    "PackageNotFound": 0xA3,
    "IncompatiblePackage": 0xA4,
    "InvalidPlatformManifest": 0xA5,
}
_PRODUCTION = "Compare MSR 0xce bit 27, MSR 0x503 and MSR 0x8b (attested.ai.tee_info, tdx.production): a pre-production CPU registers at sbx.api only"
_PCCS = {
    400: ("it takes the data for invalid", "See its log; it must know API version 4"),
    401: ("it does not accept the token", "Give the token whose SHA-512 stands in its default.json"),
    404: ("it has no such data or no such address", "Give the address of a PCCS, such as https://pccs.example.com:8081"),
    413: ("the data is too large for it", "Raise MaxRequestBodySize in its default.json"),
    461: ("it does not know the platform", "Register the platform first"),
    462: ("Intel has no certificate for one of the platform's TCB levels", "Update the BIOS, or ask Intel"),
    502: ("it could not reach Intel's service", "See its proxy and ApiKey in default.json, and its log"),
}


@dataclass(frozen=True)
class Request:
    """``token`` is shown in no message and no repr."""

    method: str
    url: str
    data: bytes = b""
    kind: str = "application/json"
    token: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Response:
    """``headers`` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


# Sends one request. Raises OSError where there is no answer.
Opener = Callable[[Request], Response]
Sleep = Callable[[float], None]


def _pause(seconds: float) -> None:
    time.sleep(seconds)


def register_manifest(opener: Opener, base: str, manifest: bytes, sleep: Sleep = _pause) -> str:
    """The PPID that Intel's service gave the platform. Raises HostError. To send the same manifest again is harmless."""
    url = base.rstrip("/") + REGISTER_PATH
    answer = _send(opener, Request("POST", url, manifest, "application/octet-stream"), sleep)
    said = answer.body[:200].decode("ascii", "replace").strip()
    if answer.status == 201 and _PPID.match(said.lower()):
        return said.lower()
    if answer.status == 400:
        name = answer.headers.get("error-code", "")
        what = ERRORS.get(_REFUSALS.get(name, 0xA8), "")
        raise HostError("the service refused the manifest: %s" % (what if name in _REFUSALS else ascii(name or said)[:120]), where=url, fix=_PRODUCTION,
                        code="registration-refused")  # fmt: skip
    raise HostError("the answer is status %d with %s, not 201 with a PPID" % (answer.status, ascii(said[:60])), where=url,
                    fix="See whether a proxy answered in its place", code="registration-answer")  # fmt: skip


def deliver_platform(opener: Opener, base: str, platform: Mapping[str, str], token: str, sleep: Sleep = _pause) -> None:
    """Give a platform to a PCCS, as PCKIDRetrievalTool -url does. Raises HostError."""
    data = json.dumps(dict(platform)).encode("ascii")
    _pccs(opener, Request("POST", pccs_base(base) + "platforms", data, token={"user-token": token}), sleep)


def put_collateral(opener: Opener, base: str, collateral: bytes, token: str, sleep: Sleep = _pause) -> None:
    """Give a PCCS what pcs-client-tool fetched, as pccs-admin-tool put does. Raises HostError."""
    check_collateral(collateral)
    _pccs(opener, Request("PUT", pccs_base(base) + "platformcollateral", collateral, token={"admin-token": token}), sleep)


def check_collateral(data: bytes, where: str = "platform collateral") -> Dict[str, Any]:
    try:
        found = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("platforms"), list) or not isinstance(found.get("collaterals"), dict):
        raise HostError("it is no file of pcs-client-tool fetch (platforms and collaterals)", where=where, fix="Give what that wrote",
                        code="collateral-invalid")  # fmt: skip
    return found


def pccs_base(url: str) -> str:
    """https://host:port/sgx/certification/v4/ from what a person or QCNL writes."""
    bare = re.sub(r"/sgx/certification/v\d+/*\Z", "", url.rstrip("/")).rstrip("/")
    parts = _split(bare)
    if parts is None or parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment or parts.username or parts.password:
        raise HostError("%s is no https address" % ascii(url[:100]), where="pccs_url", fix="Give one such as https://pccs.example.com:8081", code="pccs-url")
    return bare + PCCS_SUFFIX


def is_loopback(url: str) -> bool:
    parts = _split(url)
    return parts is not None and parts.hostname in ("localhost", "127.0.0.1", "::1")


def _split(url: str) -> Optional[SplitResult]:
    """None for what is no address at all, such as https://[."""
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _pccs(opener: Opener, request: Request, sleep: Sleep) -> None:
    answer = _send(opener, request, sleep)
    if answer.status == 200:
        return
    what, fix = _PCCS.get(answer.status, ("it answered with status %d" % answer.status, "See its log"))
    raise HostError("%s (status %d)" % (what, answer.status), where=request.url, fix=fix, code="pccs-refused")


def _send(opener: Opener, request: Request, sleep: Sleep, attempts: int = 4, pause_max: int = 30) -> Response:
    """A busy service is asked again, after the pause that it asks for."""
    answer: Optional[Response] = None
    problem, fix = "", "See address, proxy and firewall"
    for attempt in range(attempts):
        if attempt:
            wanted = answer.headers.get("retry-after", "") if answer else ""
            sleep(min(int(wanted), pause_max) if _RETRY_AFTER.match(wanted) else 2.0**attempt)
        try:
            answer = opener(request)
        except OSError as error:
            answer, problem = None, str(error)
            if getattr(error, "verify_code", 0):
                problem = "its certificate is not accepted: %s" % getattr(error, "verify_message", "")
                fix = "Give the authority that signed its certificate, and reach it by a name in it"
                break
            continue
        if answer.status not in TRANSIENT:
            return answer
        problem = "status %d" % answer.status
    if answer is not None:
        return answer
    raise HostError("there is no answer: %s" % problem, where=request.url, fix=fix, code="service-unreachable")
