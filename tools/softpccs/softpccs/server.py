# SPDX-License-Identifier: GPL-3.0-or-later
"""A PCCS (API version 4) and Intel's registration service behind one address, with the faults that were asked for.

Statuses, headers and what is demanded of requests follow the PCCS of DCAP 1.27. Its certificates and collateral mean nothing: what was put is served.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import hmac
import json
import re
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator

from loopback import faults
from loopback.server import Answer, serving

from .faults import Fault
from .tls import make_identity

SGX, TDX = "/sgx/certification/v4/", "/tdx/certification/v4/"
REGISTER = "/sgx/registration/v1/platform"
MANIFEST_GUID = bytes.fromhex("178e874b49e44aa599bb3057170925b4")
_FIELDS = {"pce_id": 4, "cpu_svn": 32, "pce_svn": 4, "enc_ppid": 768}
_OK, _BAD, _WHO, _NONE = b"Operation successful.", b"Invalid request parameters.", b"Authentication failed.", b"No cache data for this platform."


class Service:
    """``requests`` are all (method, path) that were read, ``platforms`` those delivered by QE-ID, ``manifests`` those that Intel registered by PPID.
    ``mode`` LAZY and REQ have certificates for a platform at once, OFFLINE only for what was put. ``refuses`` is an Error-Code of Intel's,
    ``files`` are certificate and key to serve with instead."""

    def __init__(self, user_token: str, admin_token: str, certificate: str = "good", port: int = 0, mode: str = "LAZY", refuses: str = "",
                 files: tuple[str, str] | None = None) -> None:  # fmt: skip
        self.hashes = {"user-token": _hash(user_token), "admin-token": _hash(admin_token)}
        self.mode, self.refuses = mode, refuses
        self.platforms: dict[str, dict] = {}
        self.manifests: dict[str, bytes] = {}
        self.collateral: dict = {}
        self.certified: set[str] = set()
        self.requests: list[tuple[str, str]] = []
        self.faults = faults.Faults(Fault)
        self.lock = threading.Lock()
        self.port = port
        self.context, self.authority, self.root_crl = make_identity(certificate)
        if files is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*files)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @contextlib.contextmanager
    def running(self) -> Iterator[Service]:
        with serving(self, self.context, "127.0.0.1", self.port) as self.port:
            yield self

    def answer(self, method: str, target: str, raw: bytes, headers: dict[str, str]) -> Answer:
        """The whole answer to one request, bad manners included. Header names are in lower case."""
        path, _sign, query = target.partition("?")
        with self.lock:
            self.requests.append((method, path))
            fault = self.faults.of(method, path)
            if fault and fault.action not in ("drop-after", "cut", "slow", "empty"):
                return _misbehaviour(fault)
            found = self._decide(method, path, dict(urllib.parse.parse_qsl(query)), raw, headers)
        if fault and fault.action == "slow":
            time.sleep(float(fault.value or 1))
        if fault and fault.action in ("drop-after", "cut", "empty"):
            return dataclasses.replace(found, status=0 if fault.action == "drop-after" else found.status, cut=fault.action == "cut",
                                       data=b"" if fault.action == "empty" else found.data)  # fmt: skip
        return found

    def _decide(self, method: str, path: str, query: dict[str, str], raw: bytes, headers: dict[str, str]) -> Answer:
        if path == REGISTER:
            return self._register(method, raw, headers)
        kind, name = ("tdx", path[len(TDX) :]) if path.startswith(TDX) else ("sgx", path[len(SGX) :] if path.startswith(SGX) else "")
        acts = {("POST", "platforms"): ("user-token", self._add), ("GET", "platforms"): ("admin-token", self._list),
                ("PUT", "platformcollateral"): ("admin-token", self._put), ("POST", "refresh"): ("admin-token", lambda _raw: Answer(200, _OK))}  # fmt: skip
        if (method, name) in acts and kind == "sgx":
            token, act = acts[method, name]
            if not hmac.compare_digest(_hash(headers.get(token, "")), self.hashes[token]) or not headers.get(token):
                return Answer(401, _WHO)
            return act(raw)
        if method != "GET":
            return Answer(404, b"Not found")
        if (kind, name) == ("sgx", "pckcert"):
            return self._certificate(query)
        return self._served(kind, name, query)

    def _register(self, method: str, raw: bytes, headers: dict[str, str]) -> Answer:
        if method != "POST" or headers.get("content-type") != "application/octet-stream":
            return Answer(415)
        if self.refuses or raw[:16] != MANIFEST_GUID:
            return Answer(400, b"", {"Error-Code": self.refuses or "InvalidPlatformManifest", "Error-Message": "refused"})
        ppid = hashlib.sha256(b"ppid" + raw).hexdigest()[:32]
        self.manifests[ppid] = raw
        return Answer(201, ppid.encode(), {"Content-Type": "text/plain"})

    def _add(self, raw: bytes) -> Answer:
        try:
            platform = json.loads(raw)
        except ValueError:
            return Answer(400, _BAD)
        # A platform with a manifest needs no more than its name (PCCS, platformsRegService.js).
        needed = {"pce_id": 4} if isinstance(platform, dict) and platform.get("platform_manifest") else _FIELDS
        if not isinstance(platform, dict) or not 1 <= len(str(platform.get("qe_id", ""))) <= 260:
            return Answer(400, _BAD)
        if not all(re.fullmatch(r"[0-9a-fA-F]{%d}" % size, str(platform.get(field, ""))) for field, size in needed.items()):
            return Answer(400, _BAD)
        self.platforms[platform["qe_id"].upper()] = platform
        if self.mode != "OFFLINE":
            self.certified.add(platform["qe_id"].upper())
        return Answer(200, _OK)

    def _list(self, _raw: bytes) -> Answer:
        return Answer(200, json.dumps(list(self.platforms.values())).encode(), {"platform-count": str(len(self.platforms)), "Content-Type": "application/json"})

    def _put(self, raw: bytes) -> Answer:
        try:
            document = json.loads(raw)
            self.certified |= {str(entry["qe_id"]).upper() for entry in document["collaterals"]["pck_certs"]}
            self.collateral = document["collaterals"]
        except (ValueError, KeyError, TypeError):
            return Answer(400, _BAD)
        return Answer(200, _OK)

    def _certificate(self, query: dict[str, str]) -> Answer:
        names = {"qeid": 32, "cpusvn": 32, "pcesvn": 4, "pceid": 4}
        if not all(re.fullmatch(r"[0-9a-fA-F]{%d}" % size, query.get(name, "")) for name, size in names.items()):
            return Answer(400, _BAD)
        if query["qeid"].upper() not in self.certified:
            return Answer(404, _NONE)
        headers = {"Content-Type": "application/x-pem-file", "SGX-TCBm": query["cpusvn"] + query["pcesvn"], "SGX-FMSPC": "00806F050000",
                   "SGX-PCK-Certificate-CA-Type": "platform", "SGX-PCK-Certificate-Issuer-Chain": urllib.parse.quote(self.authority.decode())}  # fmt: skip
        return Answer(200, self.authority, headers)

    def _served(self, kind: str, name: str, query: dict[str, str]) -> Answer:
        if (kind, name) == ("sgx", "rootcacrl"):
            return Answer(200, self.root_crl.hex().encode(), {"Content-Type": "application/pkix-crl"})
        if (kind, name) == ("sgx", "pckcrl"):
            found = self.collateral.get("pckcacrl", {}).get("processorCrl" if query.get("ca") == "processor" else "platformCrl")
        elif name == "tcb":
            entries = self.collateral.get("tcbinfos", [])
            found = next((entry.get(f"{kind}_tcbinfo") for entry in entries if entry.get("fmspc", "").upper() == query.get("fmspc", "").upper()), None)
        elif name == "qe/identity":
            found = self.collateral.get("tdqeidentity" if kind == "tdx" else "qeidentity")
        else:
            return Answer(404, b"Not found")
        if found is None:
            return Answer(404, _NONE)
        return Answer(200, (found if isinstance(found, str) else json.dumps(found)).encode(), {"Content-Type": "application/json"})


def _hash(token: str) -> str:
    return hashlib.sha512(token.encode("latin-1", "replace")).hexdigest()


def _misbehaviour(fault: faults.Fault) -> Answer:
    if fault.action == "drop":
        return Answer(0)
    if fault.action == "garbage":
        return Answer(200, b"<html>a proxy's page</html>", {"Content-Type": "text/html"})
    if fault.action == "redirect":
        return Answer(302, b"", {"Location": fault.value})
    return Answer(int(fault.action), b"", {"Retry-After": fault.value or "0"} if fault.action in ("429", "503") else {})
