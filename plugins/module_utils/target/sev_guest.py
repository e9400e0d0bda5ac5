# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Collect an SEV-SNP report with the ioctls of /dev/sev-guest, for kernels before configfs-tsm (6.7).

Layouts and codes: include/uapi/linux/sev-guest.h and the behaviour of drivers/virt/coco/sev-guest/sev-guest.c; the header of the
response is MSG_REPORT_RSP of AMD's SEV-SNP firmware ABI. All numbers are little-endian: SEV-SNP exists on x86-64 only.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import time
from dataclasses import dataclass
from typing import Any, Callable, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import CollectError

DEFAULT_DEVICE = "/dev/sev-guest"
# _IOWR('S', 0 or 2, struct snp_guest_request_ioctl), a struct of 32 bytes.
SNP_GET_REPORT = 0xC0205300
SNP_GET_EXT_REPORT = 0xC0205302
MESSAGE_VERSION = 1
USER_DATA_SIZE = 64
RESPONSE_SIZE = 4000
RESPONSE_HEADER = struct.Struct("<II24x")
REPORT_REQUEST = struct.Struct("<64sI28x")
CERTIFICATES_REQUEST = struct.Struct("<96sQI4x")
GUEST_REQUEST = struct.Struct("<B7xQQQ")
TABLE_ENTRY = struct.Struct("<16sII")

VMM_INVALID_LENGTH = 1
VMM_BUSY = 2
PAGE = 4096
# The driver's own limit (SEV_FW_BLOB_MAX_SIZE) has been 16 KiB so far; a larger answer of a later one is still followed.
FIRST_CERTIFICATES_SIZE = 16 * 1024
CERTIFICATES_MAX = 1024 * 1024
ATTEMPTS = 6
FIRST_WAIT = 0.05

_STATUS = {0x16: "invalid parameters", 0x27: "invalid key selection"}

# ioctl(request, argument): argument is a ctypes buffer that the driver reads and changes; raises OSError.
Ioctl = Callable[[int, Any], None]


@dataclass(frozen=True)
class SevGuestReport:
    """``report`` as the firmware signed it; ``certificates`` is the GUID table that the host supplied, or None."""

    report: bytes
    certificates: Optional[bytes]


def pack_report_request(user_data: bytes, vmpl: int) -> bytes:
    """struct snp_report_req, 96 bytes."""
    if len(user_data) != USER_DATA_SIZE:
        raise CollectError("the report data is %d bytes, %d expected" % (len(user_data), USER_DATA_SIZE), code="report-data")
    if not 0 <= vmpl <= 3:
        raise CollectError("privilege level %d is not in 0 to 3" % vmpl, code="privlevel-refused")
    return REPORT_REQUEST.pack(user_data, vmpl)


def pack_certificates_request(report_request: bytes, address: int, size: int) -> bytes:
    """struct snp_ext_report_req, 112 bytes: where the driver shall copy the certificates, ``size`` a multiple of 4096."""
    return CERTIFICATES_REQUEST.pack(report_request, address, size)


def pack_guest_request(request_address: int, response_address: int) -> bytes:
    """struct snp_guest_request_ioctl, 32 bytes."""
    return GUEST_REQUEST.pack(MESSAGE_VERSION, request_address, response_address, 0)


def unpack_exit_info(guest_request: bytes) -> Tuple[int, int]:
    """(firmware error, VMM error) of a request that came back: the halves of exitinfo2."""
    exit_info = GUEST_REQUEST.unpack(guest_request)[3]
    return exit_info & 0xFFFFFFFF, exit_info >> 32


def unpack_response(response: bytes) -> bytes:
    """The report out of struct snp_report_resp. Raises CollectError if the firmware reports an error or an impossible size."""
    status, size = RESPONSE_HEADER.unpack_from(response)
    if status != 0:
        text = "the firmware refused the request with status 0x%x (%s)" % (status, _STATUS.get(status, "unknown"))
        raise CollectError(text, fix="Check privlevel", code="provider-refused")
    if size == 0:
        raise CollectError("the firmware gave an empty report", fix="Look for the driver's error in dmesg", code="empty-report")
    if size > len(response) - RESPONSE_HEADER.size:
        raise CollectError("the firmware announces a report of %d bytes" % size, code="provider-error")
    return response[RESPONSE_HEADER.size:RESPONSE_HEADER.size + size]


def trim_certificates(table: bytes) -> Optional[bytes]:
    """Cut the padding off a GUID table; None if it is empty. A table that points outside itself raises CollectError."""
    end = 0
    for position in range(0, len(table) - TABLE_ENTRY.size + 1, TABLE_ENTRY.size):
        guid, offset, size = TABLE_ENTRY.unpack_from(table, position)
        if not any(guid) and offset == 0 and size == 0:
            # The entry of zeros that ends the table belongs to it.
            end = max(end, position + TABLE_ENTRY.size) if position else 0
            break
        if offset + size > len(table):
            raise CollectError("the host's certificate table points outside itself", code="provider-error")
        end = max(end, offset + size)
    return table[:end] or None


def collect(
    report_data: bytes,
    device: str = DEFAULT_DEVICE,
    privlevel: Optional[int] = None,
    ioctl: Optional[Ioctl] = None,
    sleep: Callable[[float], None] = time.sleep,
    attempts: int = ATTEMPTS,
) -> SevGuestReport:
    """Return the report over ``report_data`` (64 bytes), with the host's certificates if it supplied any.

    ``privlevel`` is the VMPL, 0 if None. Raises CollectError with one of the codes not-a-tee, no-permission, provider-busy,
    provider-timeout, provider-refused, provider-error, empty-report, privlevel-refused.
    """
    request = pack_report_request(report_data, privlevel or 0)
    if ioctl is not None:
        return _collect(request, _Driver(ioctl, device, sleep, attempts))
    import fcntl

    try:
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise _open_failure(error, device) from None
    try:
        return _collect(request, _Driver(lambda number, argument: _call(fcntl.ioctl, descriptor, number, argument), device, sleep, attempts))
    finally:
        os.close(descriptor)


def _call(function: Callable[..., Any], descriptor: int, number: int, argument: Any) -> None:
    function(descriptor, number, argument, True)


@dataclass(frozen=True)
class _Driver:
    ioctl: Ioctl
    device: str
    sleep: Callable[[float], None]
    attempts: int


class _Failed(Exception):
    """The driver returned ``number`` with this VMM error."""

    def __init__(self, number: int, firmware_error: int, vmm_error: int) -> None:
        super().__init__(number)
        self.number = number
        self.firmware_error = firmware_error
        self.vmm_error = vmm_error
        self.needed = 0


def _collect(request: bytes, driver: _Driver) -> SevGuestReport:
    size = FIRST_CERTIFICATES_SIZE
    while size:
        try:
            return _extended(request, size, driver)
        except _Failed as failed:
            needed = failed.needed
            if failed.vmm_error == VMM_INVALID_LENGTH and size < needed <= CERTIFICATES_MAX:
                size = (needed + PAGE - 1) // PAGE * PAGE
                continue
            if failed.vmm_error == VMM_BUSY or failed.number in (errno.EACCES, errno.EPERM, errno.ETIMEDOUT):
                raise _failure(failed, driver) from None
            # Hosts without certificates, or a driver that takes no larger buffer: the report alone will do.
            size = 0
    try:
        return SevGuestReport(_plain(request, driver), None)
    except _Failed as failed:
        raise _failure(failed, driver) from None


def _extended(request: bytes, size: int, driver: _Driver) -> SevGuestReport:
    certificates = ctypes.create_string_buffer(size)
    extended = ctypes.create_string_buffer(pack_certificates_request(request, ctypes.addressof(certificates), size), CERTIFICATES_REQUEST.size)
    try:
        response = _issue(SNP_GET_EXT_REPORT, extended, driver)
    except _Failed as failed:
        # On a buffer that is too small the driver writes the size that it needs back into the request.
        failed.needed = CERTIFICATES_REQUEST.unpack(extended.raw)[2]
        raise
    return SevGuestReport(unpack_response(response), trim_certificates(certificates.raw))


def _plain(request: bytes, driver: _Driver) -> bytes:
    return unpack_response(_issue(SNP_GET_REPORT, ctypes.create_string_buffer(request, REPORT_REQUEST.size), driver))


def _issue(number: int, request: Any, driver: _Driver) -> bytes:
    """One ioctl, again with growing waits while the host says that it is busy."""
    for attempt in range(driver.attempts):
        response = ctypes.create_string_buffer(RESPONSE_SIZE)
        packed = pack_guest_request(ctypes.addressof(request), ctypes.addressof(response))
        argument = ctypes.create_string_buffer(packed, GUEST_REQUEST.size)
        try:
            driver.ioctl(number, argument)
            return response.raw
        except OSError as error:
            firmware_error, vmm_error = unpack_exit_info(argument.raw)
            busy = vmm_error == VMM_BUSY or error.errno in (errno.EAGAIN, errno.EBUSY)
            if not busy or attempt == driver.attempts - 1:
                raise _Failed(error.errno or 0, firmware_error, VMM_BUSY if busy else vmm_error) from None
        driver.sleep(FIRST_WAIT * 2**attempt)
    raise CollectError("no attempt was allowed", where=driver.device, code="attempts")


def _failure(failed: _Failed, driver: _Driver) -> CollectError:
    codes = "firmware error 0x%x, VMM error %d" % (failed.firmware_error, failed.vmm_error)
    text = "%s (%s)" % (os.strerror(failed.number), codes)
    if failed.vmm_error == VMM_BUSY:
        return CollectError("the host throttles guest requests: %s" % text, where=driver.device, fix="Try again later", code="provider-busy")
    if failed.number == errno.ETIMEDOUT:
        return CollectError("the host did not answer in time: %s" % text, where=driver.device, fix="Try again later", code="provider-timeout")
    if failed.number == errno.ENOTTY:
        # After an error of the host the driver gives its message key up, so that no IV is used twice.
        return CollectError("the driver takes no requests any more: %s" % text, where=driver.device, fix="Reboot the guest", code="provider-error")
    if failed.number in (errno.EACCES, errno.EPERM):
        return CollectError("no permission: %s" % text, where=driver.device, fix="Run as root (become: true)", code="no-permission")
    return CollectError("the report was refused: %s" % text, where=driver.device, fix="Look for the driver's error in dmesg", code="provider-error")


def _open_failure(error: OSError, device: str) -> CollectError:
    if error.errno in (errno.EACCES, errno.EPERM):
        return CollectError("no permission (%s)" % error.strerror, where=device, fix="Run as root (become: true)", code="no-permission")
    fix = "In an SEV-SNP guest run modprobe sev-guest; on Ubuntu it may need the package linux-modules-extra-$(uname -r)"
    return CollectError("the device cannot be opened (%s)" % error.strerror, where=device, fix=fix, code="not-a-tee")
