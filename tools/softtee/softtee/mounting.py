# SPDX-License-Identifier: GPL-3.0-or-later
"""Mount points: what must be there to mount, whether a mount is alive, how to take one away."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Callable

from softtee.errors import SoftTeeError


def require_fuse() -> Any:
    """The module mfusepy, or SoftTeeError saying what is missing, what it is for and what installs it (names of Debian and Ubuntu)."""
    if not os.path.exists("/dev/fuse"):
        raise SoftTeeError(
            "/dev/fuse is missing, the soft TEE serves its files through it: modprobe fuse, or start the container with "
            "--device /dev/fuse --cap-add SYS_ADMIN"
        )
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise SoftTeeError("/dev/fuse may not be opened by this user: its mode should be 0666 (a container may need a device permission)")
    if shutil.which("fusermount3") is None:
        raise SoftTeeError("fusermount3 is missing, it mounts and unmounts for the soft TEE: apt install fuse3")
    try:
        import mfusepy
    except ImportError:
        raise SoftTeeError("the Python package mfusepy is missing, it connects Python to libfuse: pip install mfusepy") from None
    except OSError:
        raise SoftTeeError("the library libfuse3 is missing, mfusepy calls it: apt install libfuse3-3 (libfuse3-4 on the newest releases)") from None
    return mfusepy


def is_mounted(mount: Path) -> bool:
    """Whether the kernel has a mount there, alive or not."""
    escaped = os.fsencode(mount).replace(b"\\", b"\\134").replace(b" ", b"\\040").replace(b"\t", b"\\011").replace(b"\n", b"\\012")
    with open("/proc/self/mountinfo", "rb") as stream:
        return any(line.split(b" ")[4] == escaped for line in stream)


def is_stale(mount: Path) -> bool:
    """Whether a server died and left its mount: every access then fails with ENOTCONN."""
    try:
        os.stat(mount)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def prepare(mount: Path) -> None:
    """Make the mount point; clear away what a crashed server left. Raises SoftTeeError when something lives there."""
    if is_stale(mount):
        unmount(mount, lazy=True)
    try:
        mount.mkdir(parents=True, exist_ok=True)
        occupied = any(mount.iterdir())
    except OSError as error:
        raise SoftTeeError("the mount point %s cannot be used: %s" % (mount, error.strerror)) from None
    if is_mounted(mount):
        raise SoftTeeError("something is mounted on %s already: stop it, or name another directory with --mount" % mount)
    if occupied:
        raise SoftTeeError("the mount point %s is not empty: name an empty directory with --mount" % mount)


def unmount(mount: Path, lazy: bool = False) -> None:
    """Take the mount away. Raises SoftTeeError when the kernel refuses (somebody works in it)."""
    command = ["fusermount3", "-u", *(["-z"] if lazy else []), "--", str(mount)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode and is_mounted(mount):
        raise SoftTeeError("%s cannot be unmounted: %s" % (mount, done.stderr.strip() or "fusermount3 failed"))


def serve(operations: Any, mount: Path, mfusepy: Any, failed: Callable[[str], Exception] = SoftTeeError) -> None:
    """Mount and answer until somebody unmounts or a signal (TERM, INT, HUP) comes. Threads: one per request."""
    try:
        # default_permissions lets the kernel hold to the modes. No allow_other: the mount is its owner's alone.
        mfusepy.FUSE(operations, str(mount), foreground=True, nothreads=False, fsname="softtee", subtype="tsm", default_permissions=True)
    except RuntimeError as error:
        raise failed("libfuse could not mount on %s (code %s)" % (mount, error)) from None
