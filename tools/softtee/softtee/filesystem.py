# SPDX-License-Identifier: GPL-3.0-or-later
"""configfs-tsm over FUSE: DIR/report/<entry>/<attribute>, with configfs's rules about who may do what.

Text attributes are taken at the write, binary ones when the file is closed; a reader sees one snapshot as long as it holds the file open.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

import mfusepy

from softtee.entry import INBLOB_MAX, Entry, fail

ATTRIBUTE_SIZE = 4096


class _Handle:
    """An open file: a snapshot for a reader, a buffer for the writer of a binary attribute."""

    def __init__(self, entry: Entry, name: str) -> None:
        self.entry = entry
        self.name = name
        self.lock = threading.Lock()
        self.snapshot: Optional[bytes] = None
        self.buffer = b""


class TsmFileSystem(mfusepy.Operations):  # type: ignore[misc]
    """The operations. ``has_provider`` is asked at each mkdir; ``ready`` is called once the mount answers."""

    use_ns = True

    def __init__(self, new_entry: Callable[[], Entry], has_provider: Callable[[], bool], ready: Callable[[], None] = lambda: None) -> None:
        self._new_entry = new_entry
        self._has_provider = has_provider
        self._ready = ready
        self._lock = threading.Lock()
        self._entries: Dict[str, Tuple[Entry, int]] = {}
        self._handles: Dict[int, _Handle] = {}
        self._numbers = itertools.count(1)
        self._born = time.time_ns()

    def init_with_config(self, conn_info: Any, config_3: Any) -> None:
        if config_3 is not None:
            # The kernel must keep nothing: sizes change, and an entry that is gone must be gone at once.
            config_3.direct_io = 1
            config_3.entry_timeout = config_3.attr_timeout = config_3.negative_timeout = 0.0
        self._ready()

    # Lookup.

    def _split(self, path: str) -> List[str]:
        return [part for part in path.split("/") if part]

    def _find(self, path: str) -> Tuple[Entry, int, Optional[str]]:
        """(entry, birth, attribute or None) of a path inside report/."""
        parts = self._split(path)
        if len(parts) not in (2, 3) or parts[0] != "report":
            raise fail(errno.ENOENT)
        with self._lock:
            found = self._entries.get(parts[1])
        if found is None or (len(parts) == 3 and parts[2] not in found[0].attributes):
            raise fail(errno.ENOENT)
        return found[0], found[1], parts[2] if len(parts) == 3 else None

    def getattr(self, path: str, fh: Optional[int] = None) -> Dict[str, Any]:
        parts = self._split(path)
        born, name, mode = self._born, None, 0
        if parts and parts != ["report"]:
            entry, born, name = self._find(path)
            mode = entry.attributes[name] if name else 0
        common = {"st_uid": os.getuid(), "st_gid": os.getgid(), "st_atime": born, "st_mtime": born, "st_ctime": born}
        if name is None:
            return {**common, "st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2, "st_size": 0}
        return {**common, "st_mode": stat.S_IFREG | mode, "st_nlink": 1, "st_size": ATTRIBUTE_SIZE}

    def readdir(self, path: str, fh: int) -> List[str]:
        parts = self._split(path)
        if not parts:
            return [".", "..", "report"]
        if parts == ["report"]:
            with self._lock:
                return [".", "..", *self._entries]
        entry, _born, name = self._find(path)
        if name is not None:
            raise fail(errno.ENOTDIR)
        return [".", "..", *entry.attributes]

    # Entries.

    def mkdir(self, path: str, mode: int) -> int:
        parts = self._split(path)
        if len(parts) != 2 or parts[0] != "report":
            raise fail(errno.EPERM)
        if not self._has_provider():
            raise fail(errno.ENXIO)
        with self._lock:
            if parts[1] in self._entries:
                raise fail(errno.EEXIST)
            self._entries[parts[1]] = (self._new_entry(), time.time_ns())
        return 0

    def rmdir(self, path: str) -> int:
        parts = self._split(path)
        if len(parts) != 2:
            raise fail(errno.EPERM if len(parts) < 2 else errno.ENOTDIR)
        with self._lock:
            if self._entries.pop(parts[1], None) is None:
                raise fail(errno.ENOENT)
        return 0

    # Attributes are there because the entry is: nobody makes, removes, renames or re-modes them.

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        raise fail(errno.EACCES)

    def mknod(self, path: str, mode: int, dev: int) -> int:
        raise fail(errno.EPERM)

    def unlink(self, path: str) -> int:
        raise fail(errno.EPERM)

    def rename(self, old: str, new: str) -> int:
        raise fail(errno.EPERM)

    def link(self, target: str, source: str) -> int:
        raise fail(errno.EPERM)

    def symlink(self, target: str, source: str) -> int:
        raise fail(errno.EPERM)

    def chmod(self, path: str, mode: int) -> int:
        raise fail(errno.EPERM)

    def chown(self, path: str, uid: int, gid: int) -> int:
        raise fail(errno.EPERM)

    def truncate(self, path: str, length: int, fh: Optional[int] = None) -> int:
        # A shell's "> inblob" truncates first; configfs lets that pass without effect.
        if self._find(path)[2] is None:
            raise fail(errno.EISDIR)
        return 0

    def utimens(self, path: str, times: Optional[Tuple[int, int]] = None) -> int:
        return 0

    def statfs(self, path: str) -> Dict[str, int]:
        return {"f_bsize": ATTRIBUTE_SIZE, "f_namemax": 255}

    # Files.

    def open(self, path: str, flags: int) -> int:
        entry, _born, name = self._find(path)
        if name is None:
            raise fail(errno.EISDIR)
        # configfs refuses even root: the attribute has no such method.
        access = flags & os.O_ACCMODE
        writable = bool(entry.attributes[name] & 0o200)
        if access == os.O_RDWR or (access == os.O_WRONLY) != writable:
            raise fail(errno.EACCES)
        with self._lock:
            number = next(self._numbers)
            self._handles[number] = _Handle(entry, name)
        return number

    def _handle(self, number: int) -> _Handle:
        with self._lock:
            handle = self._handles.get(number)
        if handle is None:
            raise fail(errno.EBADF)
        return handle

    def _alive(self, handle: _Handle) -> None:
        with self._lock:
            if not any(entry is handle.entry for entry, _born in self._entries.values()):
                raise fail(errno.ENOENT)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        handle = self._handle(fh)
        with handle.lock:
            if handle.snapshot is None:
                self._alive(handle)
                handle.snapshot = handle.entry.read(handle.name)
            return handle.snapshot[offset : offset + size]

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        handle = self._handle(fh)
        self._alive(handle)
        with handle.lock:
            if handle.name != "inblob":
                handle.entry.write(handle.name, data)
                return len(data)
            if offset + len(data) > INBLOB_MAX:
                raise fail(errno.EFBIG)
            handle.buffer = handle.buffer[:offset].ljust(offset, b"\0") + data + handle.buffer[offset + len(data) :]
            return len(data)

    def flush(self, path: str, fh: int) -> int:
        handle = self._handle(fh)
        with handle.lock:
            data, handle.buffer = handle.buffer, b""
            if data:
                self._alive(handle)
                handle.entry.write(handle.name, data)
        return 0

    def release(self, path: str, fh: int) -> int:
        with self._lock:
            self._handles.pop(fh, None)
        return 0
