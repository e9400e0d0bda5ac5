# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at a page in headless Chromium: DevTools over its pipe, so that no port is opened and no library is needed."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome-headless-shell")
# Only against waiting forever: a busy machine may take long.
ANSWER_S = 180
# Nothing of this may reach a network: every name is unknown, and what a browser asks by itself is off.
OPTIONS = (
    "--headless", "--remote-debugging-pipe", "--no-first-run", "--no-default-browser-check", "--disable-gpu", "--disable-extensions", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-breakpad", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--proxy-server=127.0.0.1:9", "--force-color-profile=srgb", "--font-render-hinting=none",
)  # fmt: skip


class BrowserError(Exception):
    """There is no browser, or it did not answer."""


def find(wanted: str = "") -> str:
    """Path of the browser: the one that is named, or the first of those that are usually installed."""
    for name in (wanted,) if wanted else NAMES:
        if path := shutil.which(name):
            return path
    raise BrowserError(f"no {wanted or ' or '.join(NAMES)} here: install chromium, or name one by ATTESTED_BROWSER")


class Browser:
    """One process. Its messages are JSON, each ended by a zero byte, on descriptors 3 and 4."""

    def __init__(self, path: str, directory: Path) -> None:
        self.log = directory / "browser.log"
        ours, theirs = _pipe(), _pipe()
        self._read, self._write = theirs[0], ours[1]
        arguments = [path, *OPTIONS, f"--user-data-dir={directory / 'profile'}", *(["--no-sandbox"] if os.geteuid() == 0 else []), "about:blank"]
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), (os.POSIX_SPAWN_OPEN, 1, str(self.log), os.O_WRONLY | os.O_CREAT, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2), (os.POSIX_SPAWN_DUP2, ours[0], 3), (os.POSIX_SPAWN_DUP2, theirs[1], 4),
        ]  # fmt: skip
        # A group of its own: the renderers go with it.
        self.pid = os.posix_spawn(path, arguments, {**os.environ, "HOME": str(directory)}, file_actions=actions, setsid=True)
        os.close(ours[0])
        os.close(theirs[1])
        self._number, self._rest = 0, b""
        self.events: list[dict[str, Any]] = []

    def ask(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Send one command and return its answer; what is told meanwhile is kept in events."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params, **({"sessionId": session} if session else {})}
        _write_all(self._write, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + ANSWER_S
        while (answer := self._next(until, method)).get("id") != self._number:
            self.events.append(answer)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error'].get('message')}")
        return dict(answer["result"])

    def wait(self, method: str, session: str) -> None:
        """Until that event was told, before or now."""
        until = time.monotonic() + ANSWER_S
        while not any(event.get("method") == method and event.get("sessionId") == session for event in self.events):
            self.events.append(self._next(until, method))

    def _next(self, until: float, what: str) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready = select.select([self._read], [], [], max(0.0, until - time.monotonic()))[0]
            piece = os.read(self._read, 1 << 16) if ready else b""
            if not piece:
                said = self.log.read_text(encoding="utf-8", errors="replace")[-2000:] if self.log.exists() else ""
                raise BrowserError(f"the browser {'ended' if ready else f'did not answer in {ANSWER_S} s'} at {what}: {said}")
            self._rest += piece
        line, self._rest = self._rest.split(b"\0", 1)
        return dict(json.loads(line))

    def close(self) -> None:
        with contextlib.suppress(BrowserError, OSError):
            self.ask("Browser.close")
        until = time.monotonic() + 10
        while os.waitpid(self.pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > until:
                os.killpg(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                break
            time.sleep(0.05)
        os.close(self._read)
        os.close(self._write)


class Page:
    """One page in it, with all that it asked for and complained about."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser, self.url = browser, url
        target = browser.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = str(browser.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.ask(f"{domain}.enable")
        self.ask("Page.navigate", url=url)
        browser.wait("Page.loadEventFired", self._session)

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.ask(method, self._session, **params)

    def run(self, script: str) -> Any:
        """The value of an expression, past the page's own content policy."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise BrowserError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def show(self, width: int, scheme: str = "light", media: str = "screen", height: int = 900, scale: float = 1) -> None:
        self.ask("Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False)

    def told(self, *methods: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self._browser.events if event.get("sessionId") == self._session and event.get("method") in methods]

    def requests(self) -> list[str]:
        """Addresses that it asked for, itself left out."""
        return [one["request"]["url"] for one in self.told("Network.requestWillBeSent") if one["request"]["url"] != self.url]

    def complaints(self) -> list[str]:
        """What a console would show: exceptions, refused content, errors and warnings."""
        logged = [one["entry"]["text"] for one in self.told("Log.entryAdded") if one["entry"]["level"] in ("error", "warning")]
        called = [str(one["args"]) for one in self.told("Runtime.consoleAPICalled") if one["type"] in ("error", "warning", "assert")]
        return logged + called + [one["exceptionDetails"]["text"] for one in self.told("Runtime.exceptionThrown")]

    def unnamed(self) -> list[str]:
        """Pictures, tables and regions of the accessibility tree that nobody named. For a table the region around it may do that."""
        nodes = self.ask("Accessibility.getFullAXTree")["nodes"]
        seen = [node for node in nodes if not node.get("ignored")]
        wanted = {"image", "img", "region", "graphics-document", "SvgRoot", "link", "button"}
        return [node["role"]["value"] for node in seen if node["role"]["value"] in wanted and not node.get("name", {}).get("value", "").strip()]

    def pdf(self) -> bytes:
        """Printed on A4 by the browser's own margins, with the tags that readers of PDF go by."""
        answer = self.ask("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=True, generateTaggedPDF=True)
        return base64.b64decode(answer["data"])

    def picture(self, clip: dict[str, float]) -> bytes:
        # A page behind another one paints nothing.
        self.ask("Page.bringToFront")
        answer = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip={"scale": 1, **clip})
        return base64.b64decode(answer["data"])


@contextlib.contextmanager
def browser(path: str) -> Iterator[Browser]:
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as directory:
        started = Browser(path, Path(directory))
        try:
            yield started
        finally:
            started.close()


def _pipe() -> tuple[int, int]:
    """Both ends far from 3 and 4, which the browser gets, and closed in every child."""
    low = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in low)
    for end in low:
        os.close(end)
    return high[0], high[1]


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
