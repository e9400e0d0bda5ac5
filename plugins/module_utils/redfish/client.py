# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Talk Redfish politely: a session that is closed again, patience with busy controllers, and no request twice that may have been heard once."""

from __future__ import annotations

import base64
import json
import random
import re
import ssl
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Callable, Dict, Mapping, Optional
from urllib.parse import urlsplit

from ansible_collections.attested.ai.plugins.module_utils.errors import RedfishError
from ansible_collections.attested.ai.plugins.module_utils.formats.strict import quoted
from ansible_collections.attested.ai.plugins.module_utils.redfish.answers import PATH_MAX, checked_path, json_object, messages, path_in
from ansible_collections.attested.ai.plugins.module_utils.redfish.wire import BODY_MAX, Opener, Request, Response

ROOT = "/redfish/v1/"
SESSIONS = "/redfish/v1/SessionService/Sessions"
_HOPS = 3
# What a refusal speaks of, and what helps then.
_HINTS = (
    (
        r"licen[cs]e",
        ("GET", "PATCH", "POST"),
        "This function of the controller needs a licence that is not active there: buy and activate it, or set the BIOS by hand",
    ),
    (r"password", ("PATCH",), "This BIOS may have an administrator password, which this module does not send: take it away while the settings are changed"),
    (r"lock ?down", ("PATCH", "POST"), "Take the controller out of lockdown mode while the settings are changed"),
)


@dataclass(frozen=True)
class Credentials:
    username: str
    password: str

    def __repr__(self) -> str:
        return "Credentials(%r, ***)" % self.username


@dataclass(frozen=True)
class Patience:
    """``attempts`` for one request, and the longest single ``wait`` between two, in seconds."""

    attempts: int = 6
    wait: float = 60.0


@dataclass(frozen=True)
class Document:
    """A resource, its ETag (empty without), and where the answer pointed (a path, empty without)."""

    body: Mapping[str, Any]
    etag: str
    location: str
    status: int


class Dropped(RedfishError):
    """No answer. With ``heard`` unknown the request may have been carried out."""

    default_code = "redfish-unreachable"


class Client:
    """``where`` names the controller for people. ``tell`` is called with a line before each wait that a person would notice."""

    def __init__(
        self, opener: Opener, credentials: Credentials, where: str, auth: str = "session", patience: Patience = Patience(),
        tell: Callable[[str], None] = lambda line: None, clock: Callable[[], float] = time.time, sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:  # fmt: skip
        self._opener, self._credentials, self.where, self._auth, self._patience = opener, credentials, where, auth, patience
        self._tell, self._clock, self._sleep, self._jitter = tell, clock, sleep, jitter
        self._token = self._session = ""

    def __enter__(self) -> "Client":
        if self._auth == "session":
            self._login()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def get(self, path: str) -> Document:
        for _hop in range(_HOPS):
            response = self._patiently("GET", path, None, {}, idempotent=True)
            if response.status not in (301, 302, 307, 308):
                return self._document(response, "GET", path)
            path = self._redirected(response, path)
        raise self._error("it is redirected again and again", path, code="redfish-redirect")

    def find(self, path: str) -> Optional[Document]:
        """As get, but None where there is no such resource."""
        try:
            return self.get(path)
        except RedfishError as error:
            if error.code == "redfish-not-found":
                return None
            raise

    def patch(self, path: str, body: Mapping[str, Any], etag: str) -> Document:
        """Sent once: whether a lost one was heard is for the caller to look up. Raises Dropped."""
        return self._document(self._patiently("PATCH", path, body, {"If-Match": etag} if etag else {}, idempotent=False), "PATCH", path)

    def post(self, path: str, body: Mapping[str, Any]) -> Document:
        return self._document(self._patiently("POST", path, body, {}, idempotent=False), "POST", path)

    def close(self) -> None:
        """Give the session back, as controllers have few of them. Failing to is no failure of the work that was done."""
        session, self._session = self._session, ""
        if session and self._token:
            try:
                self._once(Request("DELETE", session, self._headers({}, None)))
            except OSError:
                pass
        self._token = ""

    def _login(self) -> None:
        body = {"UserName": self._credentials.username, "Password": self._credentials.password}
        response = self._patiently("POST", SESSIONS, body, {}, idempotent=False, login=True)
        if response.status in (404, 405, 501):
            self._tell("%s has no sessions, using basic authentication over the same connection" % self.where)
            self._auth = "basic"
            return
        if response.status in (400, 401, 403):
            raise self._error(
                "it does not accept this user name and password (%d)" % response.status,
                SESSIONS,
                "See that they are right, that the account is not locked and may change the BIOS",
                "redfish-login",
            )
        token = response.headers.get("x-auth-token", "")
        if response.status not in (200, 201) or not re.match(r"[\x21-\x7e]{1,4096}\Z", token):
            raise self._error(
                "it opens no session (%d)" % response.status, SESSIONS, "If its sessions are used up, close some or wait; or set auth to basic", "redfish-login"
            )
        self._token = token
        # Some put their own name or address there; only the path is of interest, and it goes to the same controller as everything.
        location = path_in(response.headers.get("location", ""))
        if not location:
            location = str(json_object(response.body).get("@odata.id", ""))
        self._session = location if location.startswith("/redfish/") and len(location) < PATH_MAX else ""

    def _headers(self, extra: Mapping[str, str], body: Optional[bytes]) -> Dict[str, str]:
        headers = {"Accept": "application/json", "OData-Version": "4.0", "User-Agent": "attested.ai-redfish", **extra}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._auth == "basic":
            pair = "%s:%s" % (self._credentials.username, self._credentials.password)
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode("utf-8")).decode("ascii")
        elif self._token:
            headers["X-Auth-Token"] = self._token
        return headers

    def _once(self, request: Request) -> Response:
        return self._opener(request)

    def _patiently(
        self, method: str, path: str, document: Optional[Mapping[str, Any]], extra: Mapping[str, str], idempotent: bool, login: bool = False
    ) -> Response:
        """An answer that is not "busy". Only what is idempotent is sent again after a connection that was dropped."""
        path = checked_path(path, self.where)
        body = None if document is None else json.dumps(document).encode("utf-8")
        renewed = login
        problem = ""
        for attempt in range(1, self._patience.attempts + 1):
            pause: Optional[float] = None
            try:
                response = self._once(Request(method, path, self._headers(extra, body), body))
            except ssl.SSLCertVerificationError as error:
                raise self._error(
                    "its certificate is not accepted (%s)" % error.verify_message,
                    path,
                    "Give its authority with ca_path; some controllers need a certificate of your own first",
                    "redfish-tls",
                ) from None
            except OSError as error:
                problem = "no answer (%s)" % " ".join(str(error.strerror or error).split())[:160]
                if not idempotent:
                    raise Dropped(
                        "%s, and it is unknown whether %s was heard" % (problem, method),
                        where="%s%s" % (self.where, path),
                        fix="Run it again: it goes on from what it finds",
                    ) from None
            else:
                if response.status == 401 and not renewed and self._auth == "session":
                    # The controller was restarted, or the session timed out.
                    renewed, self._token, self._session = True, "", ""
                    self._login()
                    continue
                if response.status not in (429, 503):
                    return response
                problem, pause = "it is busy (%d)" % response.status, self._retry_after(response)
            if attempt < self._patience.attempts:
                if pause is None:
                    pause = min(self._patience.wait, 2.0 ** (attempt - 1)) * (0.5 + 0.5 * self._jitter())
                if pause > self._patience.wait:
                    raise self._error(
                        "%s and asks for a pause of %d seconds, %d are allowed" % (problem, pause, self._patience.wait),
                        path,
                        "Run it again after that",
                        "redfish-busy",
                    )
                if pause >= 1:
                    self._tell("%s: %s, next try in %d s" % (self.where, problem, round(pause)))
                self._sleep(pause)
        raise Dropped(
            "%s, %d times" % (problem, self._patience.attempts),
            where="%s%s" % (self.where, path),
            fix="See that it can be reached from the controller, and run it again",
            code="redfish-busy" if "busy" in problem else "redfish-unreachable",
        )

    def _retry_after(self, response: Response) -> Optional[float]:
        text = response.headers.get("retry-after", "").strip()
        if re.match(r"[0-9]{1,9}\Z", text, re.ASCII):
            return float(text)
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - self._clock()) if text else None
        except (ValueError, TypeError, IndexError, OverflowError):
            return None

    def _redirected(self, response: Response, path: str) -> str:
        """The path that a redirection names on this controller. Another host gets nothing."""
        target = response.headers.get("location", "")
        try:
            parts = urlsplit(target)
        except ValueError:
            parts = urlsplit("")
        # Some write their own address out.
        own = parts.scheme == "https" and parts.netloc in (self.where, re.sub(r":443\Z", "", self.where))
        if not own and (parts.scheme or parts.netloc) or not parts.path.startswith("/"):
            raise self._error("it points to %s" % quoted(target), path, "Give that address as baseuri if it is the right one", "redfish-redirect")
        return parts.path

    def _document(self, response: Response, method: str, path: str) -> Document:
        if len(response.body) > BODY_MAX:
            raise self._error("the answer is larger than %d bytes" % BODY_MAX, path, code="redfish-answer")
        if 300 <= response.status < 400:
            self._redirected(response, path)
            raise self._error("%s is answered with %d" % (method, response.status), path, code="redfish-redirect")
        if response.status >= 400 or response.status < 200:
            raise self._refusal(response, method, path)
        body: Mapping[str, Any] = {}
        if response.body.strip():
            try:
                body = json_object(response.body, strict=method == "GET")
            except ValueError as error:
                raise self._error("the answer is not a JSON object (%s)" % error, path, "Something else may answer at this address", "redfish-answer") from None
        elif method == "GET":
            raise self._error("the answer is empty", path, code="redfish-answer")
        etag = response.headers.get("etag") or body.get("@odata.etag")
        return Document(
            body,
            etag if isinstance(etag, str) and re.match(r"[\x21-\x7e]{1,256}\Z", etag) else "",
            path_in(response.headers.get("location", "")),
            response.status,
        )

    def _refusal(self, response: Response, method: str, path: str) -> RedfishError:
        said = "; ".join(messages(response.body))
        what = "%s is answered with %d%s" % (method, response.status, ": " + said if said else "")
        fix, code = {
            401: ("See that user name and password are right", "redfish-login"),
            403: ("The account may not do this: it needs the privilege ConfigureComponents", "redfish-denied"),
            404: ("", "redfish-not-found"),
            412: ("Somebody else changed it meanwhile: run it again", "redfish-changed"),
        }.get(response.status, ("", "redfish-refused"))
        if method == "PATCH" and response.status == 400:
            fix = "Nothing of this request was taken. If it names an attribute: the service contradicts its own registry; see in its setup what that depends on"
        if response.status in (400, 403, 405, 501):
            fix = next((hint for pattern, methods, hint in _HINTS if method in methods and re.search(pattern, said, re.IGNORECASE)), fix)
        return self._error(what, path, fix, code)

    def _error(self, what: str, path: str, fix: str = "", code: str = "") -> RedfishError:
        return RedfishError(what, where="%s%s" % (self.where, path), fix=fix, code=code)
