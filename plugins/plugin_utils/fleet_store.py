# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The folder in which the monitor keeps what it saw: records, evidence, what it remembers, and the history. Every file is whole or not there."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
import typing as t

from ansible_collections.attested.ai.plugins.module_utils.appraisal import jws
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.fleet.reaction import Memory
from ansible_collections.attested.ai.plugins.module_utils.fleet.record import SUFFIXES, Kept, file_name, read_kept, result_of
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.plugin_utils import fleet_forecast

STATE = "attested.ai/fleet-state/1"
FILE_MAX = 16 << 20
FILES_MAX = 20_000
LOCK_SECONDS = 30.0


class FleetStore:
    """``results/``, ``evidence/``, ``forecast/``, ``state.json`` and ``history.jsonl`` in one folder. With ``dry`` nothing is written."""

    def __init__(self, root: str, *, dry: bool) -> None:
        self.root = root
        self.dry = dry
        self.changed: list[str] = []

    @contextlib.contextmanager
    def locked(self) -> t.Iterator[None]:
        """Alone with the folder. Raises AttestedError if another run stays at work on it."""
        if self.dry:
            yield
            return
        with self._told(self.root):
            for part in ("results", "evidence", "forecast"):
                os.makedirs(os.path.join(self.root, part), mode=0o750, exist_ok=True)
            descriptor = os.open(os.path.join(self.root, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if time.monotonic() >= deadline:
                        raise AttestedError("another run is at work on it", where=self.root, fix="Start again when that has ended") from None
                    time.sleep(0.1)
            yield
        finally:
            os.close(descriptor)

    def memories(self) -> dict[str, Memory]:
        """What is remembered, of nobody if the monitor never ran. Raises FormatError if it is damaged."""
        path = os.path.join(self.root, "state.json")
        data = self._read(path)
        if data is None:
            return {}
        try:
            document = strict.members(strict.loads(data, path), ("schema", "hosts"), where=path)
            if document["schema"] != STATE or not isinstance(document["hosts"], dict):
                raise FormatError("it is no state of the monitor", where=path)
            return {host: Memory.parse(memory, f"{path} {host}") for host, memory in document["hosts"].items()}
        except FormatError as error:
            fix = f"Restore it from a backup. Only if no host is in quarantine: remove {path}, and the monitor begins anew"
            raise FormatError(str(error), fix=fix, code="fleet-state-damaged") from None

    def remember(self, memories: t.Mapping[str, Memory]) -> None:
        document = {"schema": STATE, "hosts": {host: memory.to_dict() for host, memory in sorted(memories.items())}}
        path, data = os.path.join(self.root, "state.json"), _compact(document)
        # What could not be read again would stop every later round; what lies there is still good.
        if len(data) > FILE_MAX:
            raise AttestedError(
                f"what is to be remembered of {len(memories)} hosts is larger than {FILE_MAX} bytes", where=path, fix="Watch the fleet in several directories"
            )
        self.write(path, data, mode=0o600)

    def keep(self, host: str, token: str | None, result: t.Mapping[str, t.Any], evidence: t.Any) -> None:
        """The record of a host, signed if ``token`` is given; what another form left behind goes."""
        name = file_name(host)
        plain = name[: -len(SUFFIXES[0])] + ".json"
        wanted, other = (name, plain) if token is not None else (plain, name)
        data = (token + "\n").encode() if token is not None else _json(result)
        self.write(os.path.join(self.root, "results", wanted), data)
        self._remove(os.path.join(self.root, "results", other))
        if isinstance(evidence, t.Mapping):
            self.write(os.path.join(self.root, "evidence", plain), _json(evidence))

    def kept(self, host: str, trusted: t.Sequence[jws.TrustedKey]) -> Kept | None:
        """The record of a host as it lies there."""
        path, data = self._record(host)
        return None if data is None else read_kept(data, path, trusted)

    def result(self, host: str) -> t.Any:
        """The whole result in the record of a host, for people: whoever relies on it asks ``kept`` first. Raises FormatError."""
        path, data = self._record(host)
        return None if data is None else result_of(data, path)

    def _record(self, host: str) -> tuple[str, bytes | None]:
        name = file_name(host)
        for path in (name, name[: -len(SUFFIXES[0])] + ".json"):
            data = self._read(os.path.join(self.root, "results", path))
            if data is not None:
                return path, data
        return name, None

    def foretell(self, host: str, found: t.Mapping[str, t.Any]) -> None:
        """What was foretold of a host, in place of what was before. No time is in it, so that it is written only when it changes."""
        self.write(self._forecast(host), _json(found))

    def foretold(self, host: str) -> dict[str, t.Any] | None:
        data = self._read(self._forecast(host))
        return None if data is None else fleet_forecast.parse(data, host)

    def _forecast(self, host: str) -> str:
        return os.path.join(self.root, "forecast", file_name(host)[: -len(SUFFIXES[0])] + ".json")

    def forget(self, host: str) -> None:
        name = file_name(host)[: -len(SUFFIXES[0])]
        for path in [f"results/{name}{suffix}" for suffix in SUFFIXES] + [f"evidence/{name}.json", f"forecast/{name}.json"]:
            self._remove(os.path.join(self.root, path))

    def history(self) -> list[dict[str, t.Any]]:
        """The events, oldest first. A torn last line, as a power cut leaves it, is left out."""
        data = self._read(os.path.join(self.root, "history.jsonl")) or b""
        events = []
        for line in data.splitlines():
            with contextlib.suppress(FormatError):
                event = strict.loads(line, "history.jsonl")
                if isinstance(event, dict) and isinstance(event.get("host"), str) and isinstance(event.get("at"), str):
                    events.append(event)
        return events

    def tell(self, events: t.Sequence[t.Mapping[str, t.Any]], most: int) -> list[dict[str, t.Any]]:
        """Add to the history, and keep its last ``most`` events, fewer if they would be more than can be read again."""
        known = self.history()
        events = [*known, *(dict(event) for event in events)][-most:] if most else []
        if events != known:
            lines = [json.dumps(event, sort_keys=True).encode() + b"\n" for event in events]
            size, first = sum(map(len, lines)), 0
            while size > FILE_MAX:
                size -= len(lines[first])
                first += 1
            events = events[first:]
            self.write(os.path.join(self.root, "history.jsonl"), b"".join(lines[first:]))
        return events

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Put ``data`` at ``path``, whole or not at all; nothing is done if it is there already."""
        if self._read(path) == data:
            return
        if self.dry:
            self.changed.append(path)
            return
        temporary = f"{path}.{os.getpid()}.partial"
        with self._told(path):
            try:
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
                with os.fdopen(descriptor, "wb") as stream:
                    os.fchmod(stream.fileno(), mode)
                    stream.write(data)
                    stream.flush()
                    os.fsync(stream.fileno())
                os.replace(temporary, path)
            except OSError:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
        self.changed.append(path)

    def _remove(self, path: str) -> None:
        if os.path.lexists(path):
            self.changed.append(path)
            if not self.dry:
                with self._told(path):
                    os.unlink(path)

    def _read(self, path: str) -> bytes | None:
        return read_file(path)

    @contextlib.contextmanager
    def _told(self, path: str) -> t.Iterator[None]:
        try:
            yield
        except OSError as error:
            raise AttestedError("it cannot be written: %s" % (error.strerror or error), where=path, fix="Choose another directory, or its owner") from None


def read_file(path: str) -> bytes | None:
    """The bytes of a regular file, None if there is none. Raises FormatError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FormatError("it cannot be read: %s" % (error.strerror or error), where=path) from None
    try:
        with os.fdopen(descriptor, "rb") as stream:
            data = stream.read(FILE_MAX + 1)
    except OSError as error:
        raise FormatError("it cannot be read: %s" % (error.strerror or error), where=path) from None
    if len(data) > FILE_MAX:
        raise FormatError("it is larger than %d bytes" % FILE_MAX, where=path)
    return data


def files_of(path: str) -> list[str]:
    """The kept results at ``path``: the file itself, or those of a folder. Raises FormatError."""
    if not os.path.isdir(path):
        if not os.path.exists(path):
            raise FormatError("it is not there", where=path, fix="Give the folder that the monitor, or result_file of attest, writes to")
        return [path]
    try:
        names = sorted(entry.name for entry in os.scandir(path) if entry.name.endswith(SUFFIXES) and entry.is_file())
    except OSError as error:
        raise FormatError("it cannot be read: %s" % (error.strerror or error), where=path) from None
    if len(names) > FILES_MAX:
        raise FormatError("it holds more than %d results" % FILES_MAX, where=path)
    return [os.path.join(path, name) for name in names]


def _compact(document: t.Mapping[str, t.Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def _json(document: t.Mapping[str, t.Any]) -> bytes:
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"
