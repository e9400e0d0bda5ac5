# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The lowest release of each model that the relying party still hands keys out for. It never goes down."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import Any, Dict, Iterator, Mapping, Protocol, Sequence

from ansible_collections.attested.ai.plugins.module_utils.errors import KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.secretfile import replace_file

SCHEMA = "attested.ai/minimum-releases/1"
_FILE_MAX = 4 << 20
_RELEASE_MAX = 2**53 - 1


class Counter(Protocol):
    """Where the minimum releases are kept."""

    def minimum(self, model_id: str) -> int:
        """The minimum release of a model, 1 if none was ever set. Raises AttestedError where that cannot be told for certain."""

    def raise_to(self, model_id: str, release: int) -> int:
        """Make ``release`` the minimum and return it. Raises AttestedError (counter-lower) if a higher one was set before."""


class Counters:
    """Several at once: the highest counts, and a release is given out only after all took it. Whoever resets one of them gains nothing."""

    def __init__(self, counters: Sequence[Counter]) -> None:
        self._counters = tuple(counters)

    def minimum(self, model_id: str) -> int:
        return max(counter.minimum(model_id) for counter in self._counters)

    def raise_to(self, model_id: str, release: int) -> int:
        # All are asked before one is written to: what one would refuse leaves the others as they were.
        if release < self.minimum(model_id):
            raise lower(model_id, self.minimum(model_id), release, "minimum releases")
        for counter in self._counters:
            counter.raise_to(model_id, release)
        return release


def lower(model_id: str, before: int, release: int, where: str) -> KeyReleaseError:
    return KeyReleaseError(
        "the minimum release of %s is %d, it cannot go down to %d" % (strict.quoted(model_id), before, release),
        where=where,
        fix="Publish the model again with a higher release number",
        code="counter-lower",
    )


def check_value(model_id: Any, release: Any) -> None:
    """Raises KeyReleaseError (counter-value)."""
    if not isinstance(model_id, str) or not model_id or isinstance(release, bool) or not isinstance(release, int) or not 1 <= release <= _RELEASE_MAX:
        raise KeyReleaseError("a model id and a whole number from 1 were expected", where="minimum release", code="counter-value")


def document(models: Mapping[str, int]) -> Dict[str, Any]:
    return {"schema": SCHEMA, "models": dict(models)}


def read_document(obj: Any, where: str) -> Dict[str, int]:
    """The minimum releases of a document. Raises FormatError or KeyReleaseError (counter-damaged): damage must not read as "no minimum"."""
    found = strict.members(obj, ("schema", "models"), where=where)
    models = found["models"]
    sound = found["schema"] == SCHEMA and isinstance(models, dict)
    if not sound or any(isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _RELEASE_MAX for value in models.values()):
        raise KeyReleaseError("it holds no minimum releases", where=where, fix="Restore it from a backup; the ledger has the releases", code="counter-damaged")
    return dict(models)


class CounterStore:
    """Minimum releases in one JSON file. Concurrent processes are safe: writers take a lock beside it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def minimum(self, model_id: str) -> int:
        """The minimum release of a model, 1 if none was ever set. Raises KeyReleaseError or FormatError on a damaged file."""
        return self._read().get(model_id, 1)

    def raise_to(self, model_id: str, release: int) -> int:
        """Make ``release`` the minimum and return it. Raises KeyReleaseError (counter-lower) if a higher one was set before."""
        check_value(model_id, release)
        with self._locked():
            models = self._read()
            before = models.get(model_id, 1)
            if release < before:
                raise lower(model_id, before, release, self.path)
            if model_id not in models or release > before:
                self._write(dict(models, **{model_id: release}))
            return release

    def begin(self) -> None:
        """Make the file if there is none, so that it is missed when it is lost. Raises KeyReleaseError."""
        with self._locked():
            if not os.path.lexists(self.path):
                self._write({})

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            descriptor = os.open(self.path + ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._failed(error) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        except OSError as error:
            raise self._failed(error) from None
        finally:
            os.close(descriptor)

    def _write(self, models: Dict[str, int]) -> None:
        replace_file(self.path, jcs.canonicalize(document(models)) + b"\n")

    def _read(self) -> Dict[str, int]:
        try:
            with open(self.path, "rb") as stream:
                content = stream.read(_FILE_MAX + 1)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise self._failed(error) from None
        if len(content) > _FILE_MAX:
            raise KeyReleaseError("it is larger than %d bytes" % _FILE_MAX, where=self.path, code="counter-damaged")
        return read_document(strict.loads(content, self.path), self.path)

    def _failed(self, error: Exception) -> KeyReleaseError:
        return KeyReleaseError("it cannot be used (%s)" % (getattr(error, "strerror", None) or error), where=self.path, code="counter-io")
