# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The program of a job: read once, named by what was read, and that copy is what runs."""

from __future__ import annotations

import hashlib
import os
from typing import Dict, Iterator, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import tree
from ansible_collections.attested.ai.plugins.module_utils.training.agreement import code_digest
from ansible_collections.attested.ai.plugins.module_utils.training.failure import TrainingError

SIZE_MAX = 256 << 20


def digest_of(source: str) -> str:
    """The digest of the folder with the program. Raises AttestedError."""
    return _read(source, None)


def copy(source: str, dest: str, expected: str) -> None:
    """Into ``dest``, a new folder. Raises TrainingError if what was copied is not the program that was agreed on."""
    os.mkdir(dest, 0o755)
    found = _read(source, dest)
    check(found, expected, source)


def check(found: str, expected: str, source: str) -> None:
    if found != expected:
        raise TrainingError("its digest is %s, agreed on is %s" % (found, expected), where=source,
                            fix="Run the program that the owners agreed on, as they have it", code="training-code")  # fmt: skip


def _read(source: str, dest: Optional[str]) -> str:
    files: Dict[str, Tuple[int, str]] = {}
    total = 0
    listed = tree.walk(source)
    root = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for file in listed:
            digest, size = hashlib.sha256(), 0
            place = None if dest is None else os.path.join(dest, *file.path.split("/"))
            for block in _blocks(root, file.path, source, place):
                digest.update(block)
                size += len(block)
                total += len(block)
                if total > SIZE_MAX:
                    raise TrainingError("it is larger than %d MB" % (SIZE_MAX >> 20), where=source, fix="Keep data out of the program", code="training-code")
            files[file.path] = (size, digest.hexdigest())
    except OSError as error:
        raise TrainingError("the program cannot be read or copied (%s)" % error.strerror, where=source, code="training-code") from None
    finally:
        os.close(root)
    return code_digest(files)


def _blocks(root: int, path: str, where: str, place: Optional[str]) -> Iterator[bytes]:
    with os.fdopen(tree.open_beneath(root, path, where), "rb") as stream:
        if place is None:
            yield from iter(lambda: stream.read(1 << 20), b"")
            return
        os.makedirs(os.path.dirname(place), mode=0o755, exist_ok=True)
        with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444), "wb") as copied:
            for block in iter(lambda: stream.read(1 << 20), b""):
                copied.write(block)
                yield block
