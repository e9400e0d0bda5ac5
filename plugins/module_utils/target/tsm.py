# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Collect a report over configfs-tsm (Linux 6.7; Documentation/ABI/testing/configfs-tsm-report).

The kernel gives each report an entry (a directory). A counter, ``generation``, moves with every write to the entry, so that a
reader can tell that nobody changed the request between its own write and its own read.
"""

from __future__ import annotations

import errno
import os
import secrets
import time
from typing import Callable, NamedTuple, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import CollectError
from ansible_collections.attested.ai.plugins.module_utils.target.tsm_errors import BUSY, TryAgain, attribute_failure, mkdir_failure, outblob_failure, place

DEFAULT_PATH = "/sys/kernel/config/tsm/report"
INBLOB_SIZE = 64
OUTBLOB_MAX = 64 * 1024
AUXBLOB_MAX = 1024 * 1024
ATTRIBUTE_MAX = 4096
# Waits of 0.05, 0.1, 0.2 ... seconds: about 1.5 s in all, beside the retries that the kernel driver makes by itself.
ATTEMPTS = 6
FIRST_WAIT = 0.05

# What a provider's outblob is. Only sev-snp is verified by this release; the others are collected all the same.
PROVIDER_TYPES = {"sev_guest": "sev-snp", "tdx_guest": "tdx", "arm_cca_guest": "cca"}
_OPTIONAL = ("privlevel_floor",)


class TsmReport(NamedTuple):
    """One report. ``outblob`` and ``auxblob`` are the provider's bytes; ``generation`` is the counter at which they were read."""

    provider: str
    type: str
    outblob: bytes
    auxblob: Optional[bytes]
    generation: int
    privlevel: Optional[int]
    privlevel_floor: Optional[int]


class Files:
    """The few file operations that the collection needs. Tests put faults here."""

    def mkdir(self, path: str) -> None:
        os.mkdir(path, 0o700)

    def rmdir(self, path: str) -> None:
        os.rmdir(path)

    def is_dir(self, path: str) -> bool:
        return os.path.isdir(path)

    def is_mount(self, path: str) -> bool:
        return os.path.ismount(path)

    def read(self, path: str, limit: int) -> bytes:
        """At most ``limit`` bytes, by one open file: the kernel keeps what it served stable for as long as that is open."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = b""
            while len(data) < limit:
                part = os.read(descriptor, limit - len(data))
                if not part:
                    break
                data += part
            return data
        finally:
            os.close(descriptor)

    def write(self, path: str, data: bytes) -> int:
        """One write(2): a second one would be a second request. configfs takes binary attributes when the file is closed."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            return os.write(descriptor, data)
        finally:
            os.close(descriptor)


def collect(
    report_data: bytes,
    path: str = DEFAULT_PATH,
    privlevel: Optional[int] = None,
    files: Optional[Files] = None,
    sleep: Callable[[float], None] = time.sleep,
    attempts: int = ATTEMPTS,
) -> TsmReport:
    """Return the report over ``report_data`` (64 bytes) from the provider behind ``path``.

    ``privlevel`` is the VMPL to report (SEV-SNP, 0 to 3); None asks for the lowest that the guest may ask for. A busy provider and
    a report that somebody else's write tore are tried again on a fresh entry with growing waits. Every entry is removed again,
    whatever happens. Raises CollectError with one of the codes not-a-tee, no-configfs, no-permission, provider-busy,
    provider-timeout, provider-error, provider-refused, torn-read, empty-report, too-large, unknown-provider, privlevel-refused,
    entry-left.
    """
    if len(report_data) != INBLOB_SIZE:
        raise CollectError("the report data is %d bytes, %d expected" % (len(report_data), INBLOB_SIZE), code="report-data")
    files = files or Files()
    for attempt in range(attempts):
        try:
            return _attempt(report_data, path, privlevel, files)
        except TryAgain as again:
            if attempt == attempts - 1:
                raise again.error from None
            sleep(FIRST_WAIT * 2**attempt)
    raise CollectError("no attempt was allowed", code="attempts")


def _attempt(report_data: bytes, path: str, privlevel: Optional[int], files: Files) -> TsmReport:
    # 128 random bits: two collectors never meet in one entry, and what is removed below is never another's.
    entry = os.path.join(path, "attested-" + secrets.token_hex(16))
    try:
        return _with_entry(report_data, path, entry, privlevel, files)
    except BaseException:
        # A signal may have raised in the middle of the removal itself.
        _remove_entry(files, entry, report_failure=False)
        raise


def _with_entry(report_data: bytes, path: str, entry: str, privlevel: Optional[int], files: Files) -> TsmReport:
    finished = False
    try:
        _make_entry(files, path, entry)
        result = _request(report_data, entry, privlevel, files)
        finished = True
        return result
    finally:
        # mkdir is inside the try as well: an exception raised by a signal right after it must not leave the entry.
        _remove_entry(files, entry, report_failure=finished)


def _make_entry(files: Files, path: str, entry: str) -> None:
    try:
        files.mkdir(entry)
    except OSError as error:
        configfs = os.path.dirname(os.path.dirname(path))
        # Only the standard place is known to be a mount of its own.
        mounted = files.is_dir(configfs) and (path != DEFAULT_PATH or files.is_mount(configfs))
        raise mkdir_failure(error, path, configfs, mounted) from None


def _remove_entry(files: Files, entry: str, report_failure: bool) -> None:
    for last in (False, False, True):
        try:
            files.rmdir(entry)
            return
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return
            if error.errno in BUSY and not last:
                continue
            if report_failure:
                raise CollectError(
                    "the report's entry cannot be removed (%s)" % error.strerror, where=entry, fix="rmdir %s" % entry, code="entry-left"
                ) from None
            # An earlier exception is on its way, and says more.
            return


def _request(report_data: bytes, entry: str, privlevel: Optional[int], files: Files) -> TsmReport:
    provider, item_type = _provider(files, entry)
    floor = _privlevel_floor(files, entry)
    level = _privlevel(entry, privlevel, floor)
    before = _number(files, entry, "generation")
    writes = 0
    if level is not None:
        _write(files, entry, "privlevel", b"%d" % level)
        writes += 1
    _write(files, entry, "inblob", report_data)
    writes += 1
    outblob = _read_outblob(files, entry, provider)
    auxblob = _read_auxblob(files, entry)
    after = _number(files, entry, "generation")
    if after != before + writes:
        raise TryAgain(
            CollectError(
                "the request changed while the report was read (generation %d, %d expected)" % (after, before + writes),
                where=place(entry, "generation"),
                fix="Look for another program that writes to report entries",
                code="torn-read",
            )
        )
    if not outblob:
        fix = "Check that the quote generation service (QGS) of the host answers" if item_type == "tdx" else "Look for the driver's error in dmesg"
        raise CollectError("the provider %s gave an empty report" % provider, where=place(entry), fix=fix, code="empty-report")
    return TsmReport(provider, item_type, outblob, auxblob, after, level, floor)


def _provider(files: Files, entry: str) -> Tuple[str, str]:
    try:
        provider = files.read(os.path.join(entry, "provider"), ATTRIBUTE_MAX).decode("ascii", "replace").strip()
    except FileNotFoundError:
        raise CollectError(
            "a directory made here has no attributes: this is not configfs-tsm", where=place(entry), fix="Correct tsm_path", code="no-configfs"
        ) from None
    except OSError as error:
        raise attribute_failure(error, entry, "provider") from None
    if provider not in PROVIDER_TYPES:
        known = ", ".join(sorted(PROVIDER_TYPES))
        raise CollectError("the provider %s is not known, only %s" % (ascii(provider[:64]), known), where=place(entry), code="unknown-provider")
    return provider, PROVIDER_TYPES[provider]


def _privlevel(entry: str, wanted: Optional[int], floor: Optional[int]) -> Optional[int]:
    """The level to write, or None for none: TDX and CCA have no such attribute, and 0 is what the kernel assumes."""
    if wanted is None:
        return floor if floor else None
    if floor is None:
        raise CollectError("this provider has no privilege levels", where=place(entry), fix="Leave privlevel out", code="privlevel-refused")
    if not floor <= wanted <= 3:
        raise CollectError("privilege level %d is not in %d to 3" % (wanted, floor), where=place(entry), fix="Choose one of these", code="privlevel-refused")
    return wanted


def _privlevel_floor(files: Files, entry: str) -> Optional[int]:
    try:
        return _number(files, entry, "privlevel_floor")
    except FileNotFoundError:
        return None


def _number(files: Files, entry: str, name: str) -> int:
    try:
        text = files.read(os.path.join(entry, name), ATTRIBUTE_MAX).decode("ascii", "replace").strip()
    except OSError as error:
        if error.errno == errno.ENOENT and name in _OPTIONAL:
            raise
        raise attribute_failure(error, entry, name) from None
    if not (text.isascii() and text.isdigit()) or len(text) > 20:
        raise CollectError("it holds %s, a number was expected" % ascii(text[:32]), where=place(entry, name), code="provider-error")
    return int(text)


def _write(files: Files, entry: str, name: str, data: bytes) -> None:
    try:
        written = files.write(os.path.join(entry, name), data)
    except OSError as error:
        raise attribute_failure(error, entry, name) from None
    if written != len(data):
        raise CollectError("only %d of %d bytes were written" % (written, len(data)), where=place(entry, name), code="provider-error")


def _read_outblob(files: Files, entry: str, provider: str) -> bytes:
    try:
        outblob = files.read(os.path.join(entry, "outblob"), OUTBLOB_MAX + 1)
    except OSError as error:
        raise outblob_failure(error, entry, provider) from None
    if len(outblob) > OUTBLOB_MAX:
        raise CollectError("the report is longer than %d bytes" % OUTBLOB_MAX, where=place(entry), code="too-large")
    return outblob


def _read_auxblob(files: Files, entry: str) -> Optional[bytes]:
    try:
        auxblob = files.read(os.path.join(entry, "auxblob"), AUXBLOB_MAX + 1)
    except FileNotFoundError:
        # TDX and CCA have none; for SEV-SNP it means that the host supplied no certificates.
        return None
    except OSError as error:
        raise attribute_failure(error, entry, "auxblob") from None
    if len(auxblob) > AUXBLOB_MAX:
        raise CollectError("the auxiliary blob is longer than %d bytes" % AUXBLOB_MAX, where=place(entry), code="too-large")
    return auxblob or None
