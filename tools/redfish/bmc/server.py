# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine over HTTP: resources, sessions, ETags, and the faults that were asked for."""

from __future__ import annotations

import base64
import binascii
import contextlib
import gzip
import json
import secrets
import threading
from collections.abc import Iterator

from loopback import faults
from loopback.server import Answer, serving

from .faults import Fault
from .machine import Machine, Refused
from .models import MODELS
from .tls import make_identity

V1 = "/redfish/v1"
REGISTRY = "BiosAttributeRegistry.v1_0_0"
HUGE = 17 << 20
# Some services show so many members of a collection at once, and a link to the rest.
PAGE = 50


class Service:
    """One controller. ``requests`` are all (method, path) that were read, ``logins`` counts sessions opened, ``sessions`` are those open."""

    def __init__(
        self, model: str, username: str = "admin", password: str = "", host: str = "127.0.0.1", port: int = 0, boot_looks: int = 2, sessions: bool = True
    ) -> None:
        self.machine = Machine(MODELS[model], boot_looks)
        self.username, self.password = username, password or secrets.token_urlsafe(12)
        self.offers_sessions = sessions
        self.sessions: dict[str, str] = {}
        self.logins = 0
        self.requests: list[tuple[str, str]] = []
        self.faults = faults.Faults(Fault)
        self.lock = threading.Lock()
        self.host, self.port, self.certificate = host, port, b""

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @contextlib.contextmanager
    def running(self) -> Iterator[Service]:
        """Serve on the network. Without it, answer() alone can be asked."""
        context, self.certificate = make_identity(self.host)
        with serving(self, context, self.host, self.port) as self.port:
            yield self

    def allows(self, headers: dict[str, str]) -> bool:
        if headers.get("x-auth-token") in self.sessions:
            return True
        kind, _space, value = headers.get("authorization", "").partition(" ")
        try:
            return kind == "Basic" and base64.b64decode(value).decode() == f"{self.username}:{self.password}"
        except (binascii.Error, UnicodeDecodeError):
            return False

    def login(self, body: dict) -> tuple[int, dict, dict[str, str]]:
        if not self.offers_sessions:
            raise Refused(404, "The resource is missing.")
        if (body.get("UserName"), body.get("Password")) != (self.username, self.password):
            raise Refused(401, "The user name or password is wrong.")
        token = secrets.token_urlsafe(24)
        self.logins += 1
        path = f"{V1}/SessionService/Sessions/{self.logins}"
        self.sessions[token] = path
        location = f"https://{self.address}{path}" if self.machine.model.absolute_location else path
        return 201, {"@odata.id": path, "Id": str(self.logins), "UserName": self.username}, {"X-Auth-Token": token, "Location": location}

    def answer(self, method: str, target: str, raw: bytes, headers: dict[str, str]) -> Answer:
        """The whole answer to one request, bad manners included. Header names are in lower case."""
        path, _mark, query = target.partition("?")
        path = path.rstrip("/")
        with self.lock:
            self.requests.append((method, path))
            fault = self.faults.of(method, path)
            action = fault.action if fault else ""
            if action == "forget-sessions":
                self.sessions.clear()
            if fault and action not in ("drop-after", "cut", "forget-sessions"):
                return misbehaviour(fault)
            status, body, extra = self.decide(method, path, raw, headers, query)
        if action == "drop-after":
            return Answer(0)
        data = b"" if status == 204 else json.dumps(body).encode()
        if self.machine.model.registry_packed and b'"RegistryEntries"' in data:
            data, extra = gzip.compress(data), {**extra, "Content-Encoding": "gzip"}
        return Answer(status, data, {"Content-Type": "application/json", "OData-Version": "4.0", **extra}, cut=action == "cut")

    def decide(self, method: str, path: str, raw: bytes, headers: dict[str, str], query: str = "") -> tuple[int, dict, dict[str, str]]:
        login = method == "POST" and path == f"{V1}/SessionService/Sessions"
        try:
            if not login and path != V1 and not self.allows(headers):
                raise Refused(401, "There is no valid session.")
            body = json.loads(raw) if raw else {}
            if not isinstance(body, dict):
                raise Refused(400, "The body is no object.")
            return self.login(body) if login else self.act(method, path, body, headers, query)
        except Refused as refused:
            listed = [{"MessageId": "Base.1.18.GeneralError", "Message": text} for text in refused.messages]
            return refused.status, {"error": {"code": "Base.1.18.GeneralError", "message": refused.messages[0], "@Message.ExtendedInfo": listed}}, {}
        except ValueError:
            return 400, {}, {}

    def resource(self, path: str) -> dict | None:
        """The resource at a path below /redfish/v1, None if there is none."""
        machine, model = self.machine, self.machine.model
        system, manager = f"{V1}/Systems/{model.system}", f"{V1}/Managers/{model.manager}"
        bios = f"{system}/Bios"
        if path == V1:
            return {
                "Name": "Root",
                "RedfishVersion": "1.18.0",
                "Vendor": model.vendor,
                "Systems": ref(f"{V1}/Systems"),
                "Managers": ref(f"{V1}/Managers"),
                "Registries": ref(f"{V1}/Registries"),
                "SessionService": ref(f"{V1}/SessionService"),
                "Links": {"Sessions": ref(f"{V1}/SessionService/Sessions")},
            }
        if path == f"{V1}/SessionService" and self.offers_sessions:
            return {"Name": "Sessions", "Sessions": ref(f"{V1}/SessionService/Sessions")}
        if path == f"{V1}/SessionService/Sessions" and self.offers_sessions:
            return collection(list(self.sessions.values()))
        if path == f"{V1}/Systems":
            return collection([system])
        if path == f"{V1}/Managers":
            return collection([manager])
        if path == manager:
            return {"Id": model.manager, "Name": "Manager", "ManagerType": "BMC", "Links": {"ManagerForServers": [ref(system)]}}
        if path == system:
            machine.look()
            body = {
                "Id": model.system,
                "Name": "System",
                "Manufacturer": model.manufacturer,
                "PowerState": machine.power,
                "Bios": ref(bios),
                "Links": {"ManagedBy": [ref(manager)]},
                "Actions": {
                    "#ComputerSystem.Reset": {"target": f"{system}/Actions/ComputerSystem.Reset", "ResetType@Redfish.AllowableValues": list(model.resets)}
                },
            }
            if model.tells_boot:
                body["BootProgress"] = {"LastState": "MemoryInitializationStarted" if machine.booting else "OSRunning"}
                body["LastResetTime"] = f"2026-01-01T00:00:{machine.resets:02d}Z"
            return body
        if path == bios:
            if machine.booting and model.bios_gone_while_booting:
                return None
            settings = {"SettingsObject": ref(f"{bios}/{model.settings}")}
            if model.apply_times:
                settings["SupportedApplyTimes"] = list(model.apply_times)
            return {"Id": "Bios", "Name": "BIOS", "AttributeRegistry": REGISTRY, "Attributes": machine.shown(), "@Redfish.Settings": settings}
        if path == f"{bios}/{model.settings}":
            return {"Id": "Pending", "Name": "Pending BIOS", "AttributeRegistry": REGISTRY, "Attributes": machine.waiting(), "@odata.etag": self.etag()}
        if path == f"{V1}/Registries":
            return collection([f"{V1}/Registries/Base.v1_18_0", f"{V1}/Registries/{REGISTRY}"])
        if path == f"{V1}/Registries/{REGISTRY}":
            return {"Id": REGISTRY, "Registry": REGISTRY, "Location": [{"Language": "en", "Uri": model.registry_at.format(name=REGISTRY)}]}
        if path == model.registry_at.format(name=REGISTRY):
            return machine.registry(REGISTRY)
        if model.jobs and path == f"{manager}/Jobs":
            return collection([f"{manager}/Jobs/{job['Id']}" for job in machine.jobs])
        if model.jobs and path.startswith(f"{manager}/Jobs/"):
            return next((dict(job) for job in machine.jobs if job["Id"] == path.rpartition("/")[2]), None)
        return None

    def etag(self) -> str:
        return f'W/"{self.machine.version}"'

    def act(self, method: str, path: str, body: dict, headers: dict[str, str], query: str = "") -> tuple[int, dict, dict[str, str]]:
        machine, model = self.machine, self.machine.model
        system, jobs = f"{V1}/Systems/{model.system}", f"{V1}/Managers/{model.manager}/Jobs"
        settings = f"{system}/Bios/{model.settings}"
        if method == "GET":
            found = self.resource(path)
            if found is None:
                raise Refused(404, f"The resource at {path} was not found.")
            return 200, {"@odata.id": path, **page(found, path, query)}, {"ETag": self.etag()} if path == settings else {}
        if method == "DELETE" and path in self.sessions.values():
            self.sessions = {token: place for token, place in self.sessions.items() if place != path}
            return 204, {}, {}
        if method == "PATCH" and path == settings:
            if model.needs_etag and "if-match" not in headers:
                raise Refused(428, "The request lacks If-Match.")
            if headers.get("if-match", self.etag()) not in (self.etag(), self.etag()[2:], "*"):
                raise Refused(412, "The ETag does not match.")
            wish = body.get("@Redfish.SettingsApplyTime") or {}
            job = machine.write(dict(body.get("Attributes") or {}), str(wish.get("ApplyTime") or ""))
            return (202, {}, {"Location": f"{jobs}/{job}"}) if job else (200, {}, {})
        if method == "POST" and path == f"{system}/Actions/ComputerSystem.Reset":
            machine.reset(str(body.get("ResetType")))
            return 204, {}, {}
        if method == "POST" and path == jobs and model.jobs:
            if body.get("TargetSettingsURI") != settings:
                raise Refused(400, "Unknown TargetSettingsURI.")
            return 200, {}, {"Location": f"{jobs}/{machine.schedule()}"}
        raise Refused(405 if self.resource(path) is not None else 404, f"{method} is not possible at {path}.")


def misbehaviour(fault: faults.Fault) -> Answer:
    wrong = ("Members", "Bios", "Attributes", "Actions", "@Redfish.Settings", "AttributeRegistry", "RegistryEntries", "Location")
    return {
        "drop-before": Answer(0),
        "throttle": Answer(429, b"{}", {"Retry-After": fault.value or "0"}),
        "busy": Answer(503, b"{}", {"Retry-After": fault.value} if fault.value else {}),
        "error": Answer(500, b'{"error": {"message": "internal"}}'),
        "redirect": Answer(307, b"{}", {"Location": fault.value}),
        "huge": Answer(200, b'{"x": "' + b"x" * HUGE + b'"}') if fault.action == "huge" else Answer(0),
        "garbage": Answer(200, b"<html>not the service you are looking for</html>"),
        "wrong-types": Answer(200, json.dumps({key: 7 for key in wrong}).encode()),
    }[fault.action]


def ref(path: str) -> dict[str, str]:
    return {"@odata.id": path}


def page(found: dict, path: str, query: str) -> dict:
    """The part of a collection that ``$skip`` asks for."""
    skip = int(query[6:]) if query.startswith("$skip=") and query[6:].isdigit() else 0
    listed = found.get("Members")
    if not isinstance(listed, list) or len(listed) <= PAGE:
        return found
    rest = {"Members@odata.nextLink": f"{path}?$skip={skip + PAGE}"} if len(listed) > skip + PAGE else {}
    return {**found, "Members": listed[skip : skip + PAGE], **rest}


def collection(paths: list[str]) -> dict:
    return {"Name": "Collection", "Members": [ref(path) for path in paths], "Members@odata.count": len(paths)}
