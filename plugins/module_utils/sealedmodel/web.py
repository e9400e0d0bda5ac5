# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An encrypted model on a web server, read in ranges while it is decrypted: no ciphertext is kept.

The server is not trusted: what it sends counts only after its tag held. What is checked here keeps a guest from waiting, from reading without end and
from talking to whom it should not: TLS with verified names, ranges exactly as asked for, one version of each file, redirects only to known hosts,
a least rate. A connection that is cut is taken up again where it was.
"""

from __future__ import annotations

import http.client
import threading
import time
from contextlib import contextmanager
from typing import Any, Dict, Iterator, Optional

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError, ModelError
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import MAX_SIZE, Manifest
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.web_request import Answer, Cut, Requests, Web

__all__ = ["Web", "WebSource"]
# What one request asks for. Long enough to fill a fast line, short enough that threads share a file.
_WINDOW = 16 << 20
_ATTEMPTS = 6
_PAUSE = 0.2


class WebSource:
    """Has the methods of ``source.Directory``."""

    batch_bytes = _WINDOW

    def __init__(self, web: Web) -> None:
        self._requests = Requests(web)

    def name(self, path: str) -> str:
        return self._requests.name(path)

    def read_small(self, path: str, limit: Optional[int] = None) -> bytes:
        """Whole, at most 64 MiB or ``limit`` bytes. Raises ModelError or FormatError."""
        most = MAX_SIZE if limit is None else limit

        def read() -> bytes:
            answer = self._requests.get(path, None, {})
            try:
                return answer.read_all(most)
            finally:
                answer.close()

        raw: bytes = _persist(read, self.name(path))
        if len(raw) > most:
            raise FormatError("it is longer than %d bytes" % most, where=self.name(path))
        return raw

    def check(self, manifest: Manifest) -> None:
        """A server cannot be asked what lies there. Each file's size is checked when it is opened."""

    @contextmanager
    def open(self, path: str, size: int) -> Iterator[Any]:
        opened = WebFile(self._requests, path, size)
        try:
            yield opened
        finally:
            opened.close()

    def close(self) -> None:
        self._requests.close()


class WebFile:
    """One file of known size. Threads read from it at once, each its own range; every byte is asked for once, unless a connection is cut."""

    def __init__(self, requests: Requests, path: str, size: int) -> None:
        self._requests, self._path, self._size = requests, path, size
        self._lock = threading.Lock()
        # Streams that nobody reads from just now, by where they stand.
        self._idle: Dict[int, _Stream] = {}
        self._validators: Dict[str, str] = {}

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill ``buffer`` with the bytes from ``offset`` on. Raises ModelError."""
        done, failures = 0, 0
        while done < len(buffer):
            stream: Optional[_Stream] = None
            try:
                stream = self._stream(offset + done)
                count = stream.read_into(buffer[done:])
            except (Cut, OSError, http.client.HTTPException) as error:
                if stream is not None:
                    stream.close()
                failures += 1
                _pause(failures, error, self._requests.name(self._path))
                continue
            except BaseException:
                if stream is not None:
                    stream.close()
                raise
            failures = 0
            done += count
            if stream.position < stream.end:
                with self._lock:
                    self._idle[stream.position] = stream
            else:
                stream.close()

    def close(self) -> None:
        with self._lock:
            for stream in self._idle.values():
                stream.close()
            self._idle.clear()

    def _stream(self, offset: int) -> _Stream:
        with self._lock:
            found = self._idle.pop(offset, None)
            validators = dict(self._validators)
        if found is not None:
            return found
        end = min((offset // _WINDOW + 1) * _WINDOW, self._size)
        answer = self._requests.get(self._path, (offset, end, self._size), validators)
        try:
            with self._lock:
                for name, value in answer.validators.items():
                    if self._validators.setdefault(name, value) != value:
                        what = "%s was %s and is %s: the file was replaced while it was read" % (name, self._validators[name], value)
                        raise ModelError(what, where=self._requests.name(self._path), fix="Run this again", code="model-source-changed")
        except BaseException:
            answer.close()
            raise
        return _Stream(answer, offset, end)


class _Stream:
    """The rest of one answer."""

    def __init__(self, answer: Answer, position: int, end: int) -> None:
        self._answer, self.position, self.end = answer, position, end

    def read_into(self, buffer: memoryview) -> int:
        count = self._answer.read_into(buffer[: self.end - self.position])
        self.position += count
        return count

    def close(self) -> None:
        self._answer.close(self.position == self.end)


def _pause(failures: int, error: BaseException, where: str) -> None:
    """Wait a little, or give up."""
    if failures >= _ATTEMPTS:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        what = "it was tried %d times (%s)" % (failures, said)
        raise ModelError(what, where=where, fix="Is the server reachable? Run this again", code="model-remote") from None
    time.sleep(_PAUSE * 2 ** (failures - 1))


def _persist(read: Any, where: str) -> Any:
    failures = 0
    while True:
        try:
            return read()
        except (Cut, OSError, http.client.HTTPException) as error:
            failures += 1
            _pause(failures, error, where)
