# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Fetching the ciphertext of an image to a file or disk of the guest, because it is mapped and not copied. An interrupted fetch goes on.

By its beginning an image is told from anything else. So that is written last, when all else is there and on the disk: whatever interrupts a fetch, neither a
file nor a disk looks whole that is not.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import threading
import time
from typing import Any, Callable, Dict, List, Set

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError, ModelError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import image_open, marker
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.image_build import HEADER
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import ImageEntry
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.tink_stream import write_exactly

# At least HEADER: the beginning is held back from the first one.
_BLOCK = 1 << 20
_CLAIM_SECONDS = 5.0
Meter = Callable[[int, int], None]


def check(source: Any, image: ImageEntry, path: str) -> None:
    """Is the image there, or room for it, and is it on the server? Writes nothing. Raises ModelError."""
    if _is_there(path, image):
        return
    if image_open.is_disk(path):
        _check_disk(path, image)
    else:
        try:
            status = os.statvfs(os.path.dirname(path) or ".")
            begun = os.stat(_partial(path)).st_blocks * 512 if os.path.exists(_partial(path)) else 0
        except OSError as error:
            fix = "Make the directory, or give another place as image"
            raise ModelError("there is no place for the image (%s)" % error.strerror, where=os.path.dirname(path), fix=fix, code="model-dest") from None
        if status.f_bavail * status.f_frsize + begun < image.size:
            raise ModelError(_needed(image), where=path, fix="Make room, or give a disk", code="model-no-space")
    header = bytearray(HEADER)
    with source.open(image.path, image.size) as sealed:
        sealed.read_into(memoryview(header), 0)
    _check_header(header, image, source.name(image.path))


def fetch(source: Any, image: ImageEntry, path: str, threads: int, meter: Meter) -> bool:
    """Bring the image to ``path``. Returns whether anything was fetched. Raises ModelError; a file that was begun goes on next time."""
    if _is_there(path, image):
        return False
    disk = image_open.is_disk(path)
    output, notes = path if disk else _partial(path), path + ".fetched.json"
    try:
        # Of a disk this is a claim: one that is mounted, or mapped as an image that is open, is refused.
        descriptor = os.open(output, os.O_RDWR | os.O_CLOEXEC | (os.O_EXCL if disk else os.O_CREAT | os.O_NOFOLLOW), 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_there(path, image):
                # Another run has brought it just now. What is open here may be that very file, or one begun for nothing.
                if not disk and _is_named(descriptor, output):
                    os.unlink(output)
                return False
            if disk:
                _blank(descriptor)
            elif not _is_named(descriptor, output):
                raise BlockingIOError
            else:
                if not os.fstat(descriptor).st_size:
                    # What is noted was in another file.
                    _forget(notes)
                os.ftruncate(descriptor, image.size)
            run = _Fetch(source, image, descriptor, notes, not disk, meter)
            run.run(threads)
            os.fsync(descriptor)
            run.finish()
            os.fsync(descriptor)
            # Under the lock: whoever gets it next finds the image.
            if not disk:
                os.replace(output, path)
            _forget(notes)
        finally:
            os.close(descriptor)
    except BlockingIOError:
        raise ModelError("another run is fetching it", where=output, fix="Wait until it is done", code="model-busy") from None
    except OSError as error:
        if disk and error.errno == errno.EBUSY:
            fix = "Give another disk, or close what is open on it: model_open with state=absent"
            raise ModelError("the disk is in use: mounted, or mapped", where=path, fix=fix, code="model-busy") from None
        raise ModelError("the image cannot be written (%s)" % error.strerror, where=error.filename or output, code="model-dest") from None
    return True


def discard(path: str) -> None:
    """What was fetched is no good: the next run fetches it again. Of a disk only the beginning is taken away. Raises ModelError."""
    try:
        if not image_open.is_disk(path):
            os.unlink(path)
            return
        descriptor = _claim(path)
        try:
            _blank(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        what = "what was fetched does not verify, and cannot be discarded (%s)" % error.strerror
        fix = "Close what else is open on it, then remove it, or overwrite the beginning of the disk"
        raise ModelError(what, where=path, fix=fix, code="model-dest") from None


def _forget(notes: str) -> None:
    if os.path.lexists(notes):
        os.unlink(notes)


def _is_named(descriptor: int, path: str) -> bool:
    """Whether an open file still has the name by which it was opened."""
    return os.path.lexists(path) and os.path.samestat(os.fstat(descriptor), os.lstat(path))


def _claim(path: str) -> int:
    """Open a disk that nobody uses. The kernel may take a moment to let go of one that was mapped. Raises OSError."""
    deadline = time.monotonic() + _CLAIM_SECONDS
    while True:
        try:
            return os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_EXCL)
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() >= deadline:
                raise
        time.sleep(0.1)


def _blank(descriptor: int) -> None:
    write_exactly(descriptor, memoryview(bytes(HEADER)), 0)
    os.fsync(descriptor)


def _check_header(header: Any, image: ImageEntry, where: str) -> None:
    if hashlib.sha256(header).hexdigest() != image.header_sha256:
        raise ModelError("its beginning is not that of the manifest: it was encrypted in another run", where=where, code="model-header")


def _check_disk(path: str, image: ImageEntry) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = image_open.disk_size(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ModelError("the disk cannot be opened (%s)" % error.strerror, where=path, code="model-dest") from None
    if size < image.size:
        raise ModelError("%s, and the disk has %d" % (_needed(image), size // 1_000_000), where=path, fix="Give a larger disk", code="model-no-space")


def _needed(image: ImageEntry) -> str:
    return "%d MB are needed for the ciphertext" % -(-image.size // 1_000_000)


def _partial(path: str) -> str:
    return path + ".partial"


def _is_there(path: str, image: ImageEntry) -> bool:
    if not os.path.lexists(path):
        return False
    try:
        image_open.check_image(path, image)
    except ModelError:
        return False
    return True


class _Fetch:
    """Windows of the image, shared by threads. Which are there is written down after each."""

    def __init__(self, source: Any, image: ImageEntry, output: int, notes: str, resumes: bool, meter: Meter) -> None:
        self._source, self._image, self._output, self._meter = source, image, output, meter
        self._window: int = source.batch_bytes
        self._header = b""
        # The first one last, and never written down as there: what it begins with comes at the very end.
        self._order = list(range(1, -(-image.size // self._window))) + [0]
        self._notes = notes if resumes else ""
        self._there: Set[int] = self._read_notes()
        self._lock = threading.Lock()
        self._errors: List[BaseException] = []
        self._done = sum(self._length(number) for number in self._there)

    def run(self, threads: int) -> None:
        wanted = [number for number in self._order if number not in self._there]
        with self._source.open(self._image.path, self._image.size) as sealed:
            helpers = [threading.Thread(target=self._work, args=(sealed, wanted), daemon=True) for _number in range(min(threads, len(wanted)) - 1)]
            try:
                for helper in helpers:
                    helper.start()
                self._work(sealed, wanted)
            finally:
                # Also when a signal handler raised: nobody goes on writing.
                del wanted[:]
                for helper in helpers:
                    helper.join()
        if self._errors:
            raise self._errors[0]

    def finish(self) -> None:
        """Write the beginning. All else is on the disk. Raises ModelError if it is not that of the manifest."""
        _check_header(self._header, self._image, self._source.name(self._image.path))
        write_exactly(self._output, memoryview(self._header), 0)

    def _work(self, sealed: Any, wanted: List[int]) -> None:
        buffer = memoryview(bytearray(_BLOCK))
        try:
            while not self._errors:
                with self._lock:
                    if not wanted:
                        return
                    number = wanted.pop(0)
                begin = number * self._window
                for offset in range(begin, begin + self._length(number), _BLOCK):
                    part = buffer[: min(_BLOCK, begin + self._length(number) - offset)]
                    sealed.read_into(part, offset)
                    if offset == 0:
                        self._header = bytes(part[:HEADER])
                        part[:HEADER] = bytes(HEADER)
                    write_exactly(self._output, part, offset)
                if self._notes:
                    # Else a power cut may leave the note, and zeros in its window.
                    os.fdatasync(self._output)
                self._note(number)
        except Exception as error:  # pylint: disable=broad-except
            # Carried to the caller's thread; a thread has nobody else to tell.
            self._errors.append(error)

    def _length(self, number: int) -> int:
        return min(self._window, self._image.size - number * self._window)

    def _note(self, number: int) -> None:
        with self._lock:
            self._done += self._length(number)
            if self._notes and number:
                self._there.add(number)
                marker.replace(self._notes, jcs.canonicalize(self._head(sorted(self._there))))
        if threading.current_thread() is threading.main_thread():
            self._meter(self._done, self._image.size)

    def _head(self, there: List[int]) -> Dict[str, Any]:
        return {"header_sha256": self._image.header_sha256, "root_hash": self._image.root_hash, "window": self._window, "there": there}

    def _read_notes(self) -> Set[int]:
        if not self._notes or not os.path.lexists(self._notes):
            return set()
        try:
            with open(self._notes, "rb") as stream:
                found = strict.members(strict.loads(stream.read(1 << 20)), ("header_sha256", "root_hash", "window", "there"))
        except (OSError, FormatError):
            return set()
        there = found["there"] if isinstance(found["there"], list) else []
        known = range(1, len(self._order))
        if found != self._head(there) or not all(isinstance(number, int) and not isinstance(number, bool) and number in known for number in there):
            return set()
        return set(there)
