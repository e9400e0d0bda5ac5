# SPDX-License-Identifier: GPL-3.0-or-later
"""What the Redfish tests share: a service, a client of it, and a clock that nobody waits for."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Callable, Iterator

from ansible_collections.attested.ai.plugins.module_utils.redfish.acts import Options
from ansible_collections.attested.ai.plugins.module_utils.redfish.client import Client, Credentials, Patience
from ansible_collections.attested.ai.plugins.module_utils.redfish.machine import Target, discover
from ansible_collections.attested.ai.plugins.module_utils.redfish.resolve import Desired, resolve
from ansible_collections.attested.ai.plugins.module_utils.redfish.staging import Outcome, converge, look
from ansible_collections.attested.ai.plugins.module_utils.redfish.wire import Address, Opener, Request, Response, make_opener, tls_context
from bmc.server import Service

# State that a model is for, and how many reboots its rules make necessary.
REBOOTS = {
    "dell-tdx": 3, "dell-snp": 3, "supermicro-tdx": 5, "supermicro-snp": 3, "lenovo-tdx": 4, "lenovo-snp": 3, "hpe-tdx": 4, "hpe-snp": 2,
    "cisco-tdx": 4, "cisco-snp": 3, "asrock-snp": 3, "nvidia-tdx": 4,
}  # fmt: skip


def state_of(model: str) -> str:
    return model.rpartition("-")[2]


def desired(state: str | None, **changes: object) -> Desired:
    return Desired(**{"state": state, "overrides": {}, "names": {}, "attributes": {}, **changes})


class Clock:
    """Time passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Interrupted(BaseException):
    """The end of a run that was killed."""


@contextlib.contextmanager
def service(model: str, **options: object) -> Iterator[Service]:
    with Service(model, **options).running() as running:
        yield running


def opener_of(running: Service, tmp_path: object, timeout: float = 20.0) -> Opener:
    path = f"{tmp_path}/ca.pem"
    with open(path, "wb") as stream:
        stream.write(running.certificate)
    return make_opener(Address("https", running.host, running.port), tls_context(True, path), timeout)


def direct(running: Service) -> Opener:
    """The same service without sockets, where a test makes thousands of requests."""

    def send(request: Request) -> Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        found = running.answer(request.method, request.path, request.body or b"", headers)
        if not found.status or found.cut:
            raise OSError("dropped")
        data = gzip.decompress(found.data) if "Content-Encoding" in found.headers else found.data
        return Response(found.status, {name.lower(): value for name, value in found.headers.items()}, data)

    return send


def client_of(
    running: Service,
    tmp_path: object | None,
    clock: Clock | None = None,
    auth: str = "session",
    wrap: Callable[[Opener], Opener] = lambda opener: opener,
    password: str = "",
) -> Client:
    clock = clock or Clock()
    opener = opener_of(running, tmp_path) if tmp_path else direct(running)
    return Client(
        wrap(opener),
        Credentials(running.username, password or running.password),
        running.address,
        auth,
        Patience(4, 60.0),
        clock=clock,
        sleep=clock.sleep,
        jitter=lambda: 0.0,
    )


def wants(target: Target, wish: Desired) -> Callable:
    return lambda registry, current: resolve(registry, current, target.vendor, wish)


def patience(clock: Clock) -> Callable[[], bool]:
    end = clock() + 300

    def wait() -> bool:
        clock.sleep(15)
        return clock() < end

    return wait


def bring(
    running: Service,
    tmp_path: object | None,
    wish: Desired,
    clock: Clock | None = None,
    wrap: Callable[[Opener], Opener] = lambda opener: opener,
    check: bool = False,
    auth: str = "session",
    **options: object,
) -> Outcome:
    """One whole run, as the module makes it."""
    clock = clock or Clock()
    with client_of(running, tmp_path, clock, auth, wrap) as client:
        target = discover(client, wait=patience(clock))
        settings = Options(**{"reboot_ok": True, **options})
        if check:
            return look(client, target, wants(target, wish), settings)[0]
        return converge(client, target, wants(target, wish), settings, clock, clock.sleep)


def killed_after(number: int) -> Callable[[Opener], Opener]:
    """A run that ends when ``number`` requests were heard and answered, before anything was made of the last answer. Nothing is tidied up."""
    count = 0

    def wrap(opener: Opener) -> Opener:
        def send(request: Request) -> Response:
            nonlocal count
            if count == number:
                raise Interrupted
            count += 1
            return opener(request)

        return send

    return wrap
