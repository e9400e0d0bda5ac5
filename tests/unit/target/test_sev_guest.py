# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The ioctl path against a driver in Python that reads and writes the same memory as the kernel would. Unproven on hardware."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import struct
import subprocess

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import CollectError
from ansible_collections.attested.ai.plugins.module_utils.target import sev_guest
from hypothesis import given
from hypothesis import strategies as st

DATA = bytes(range(64))
REPORT = b"R" * 1184
GUID = bytes(range(1, 17))
TABLE = struct.pack("<16sII", GUID, 48, 5) + bytes(24) + b"chain"


class Driver:
    """Reads the structs as include/uapi/linux/sev-guest.h lays them out, by ctypes structures instead of the packers under test."""

    class ReportRequest(ctypes.Structure):
        _fields_ = [("user_data", ctypes.c_uint8 * 64), ("vmpl", ctypes.c_uint32), ("rsvd", ctypes.c_uint8 * 28)]

    class GuestRequest(ctypes.Structure):
        _fields_ = [("msg_version", ctypes.c_uint8), ("req_data", ctypes.c_uint64), ("resp_data", ctypes.c_uint64), ("exitinfo2", ctypes.c_uint64)]

    def __init__(self, table=TABLE, status=0, size=len(REPORT)):
        self.table, self.status, self.size = table, status, size
        self.script, self.calls, self.seen = [], [], []

    def __call__(self, number, argument):
        self.calls.append(number)
        request = self.GuestRequest.from_buffer(argument)
        request.exitinfo2 = 0xFF
        assert request.msg_version == 1 and len(argument) == 32
        report_request = self.ReportRequest.from_address(request.req_data)
        assert bytes(report_request.rsvd) == bytes(28)
        self.seen.append((bytes(report_request.user_data), report_request.vmpl))
        step = self.script.pop(0) if self.script else None
        if step is not None:
            self._refuse(request, *step)
        if number == 0xC0205302:
            address, size = struct.unpack("<QI", ctypes.string_at(request.req_data + 96, 12))
            assert size % 4096 == 0 and address
            if size < len(self.table):
                needed = (len(self.table) + 4095) // 4096 * 4096
                ctypes.memmove(request.req_data + 104, struct.pack("<I", needed), 4)
                self._refuse(request, errno.EIO, 1 << 32)
            ctypes.memmove(address, self.table + bytes(size - len(self.table)), size)
        else:
            assert number == 0xC0205300
        response = struct.pack("<II24x", self.status, self.size) + REPORT
        ctypes.memmove(request.resp_data, response + bytes(4000 - len(response)), 4000)
        request.exitinfo2 = 0

    @staticmethod
    def _refuse(request, number, exitinfo2):
        request.exitinfo2 = exitinfo2
        raise OSError(number, os.strerror(number))


def collect(driver, **arguments):
    driver.waits = []
    return sev_guest.collect(DATA, ioctl=driver, sleep=driver.waits.append, **arguments)


def refused(driver, **arguments):
    with pytest.raises(CollectError) as caught:
        collect(driver, **arguments)
    return caught.value


def test_struct_sizes_and_request_numbers():
    assert (sev_guest.REPORT_REQUEST.size, sev_guest.CERTIFICATES_REQUEST.size, sev_guest.GUEST_REQUEST.size) == (96, 112, 32)
    # _IOWR(type, nr, size) of asm-generic/ioctl.h
    assert sev_guest.SNP_GET_REPORT == 3 << 30 | 32 << 16 | ord("S") << 8 | 0
    assert sev_guest.SNP_GET_EXT_REPORT == 3 << 30 | 32 << 16 | ord("S") << 8 | 2
    assert sev_guest.RESPONSE_HEADER.size == 32


@pytest.mark.skipif(shutil.which("cc") is None or not os.path.exists("/usr/include/linux/sev-guest.h"), reason="no compiler or no kernel headers")
def test_layout_of_the_kernel_header(tmp_path):
    """The installed header itself says the same, where there is one."""
    source = tmp_path / "layout.c"
    source.write_text(
        "#include <stdio.h>\n#include <stddef.h>\n#include <sys/ioctl.h>\n#include <linux/sev-guest.h>\n"
        'int main(void){printf("%zu %zu %zu %zu %zu %zu %zu %zu %zu %lu %lu\\n",'
        "sizeof(struct snp_report_req),sizeof(struct snp_ext_report_req),sizeof(struct snp_guest_request_ioctl),sizeof(struct snp_report_resp),"
        "offsetof(struct snp_report_req,vmpl),offsetof(struct snp_ext_report_req,certs_address),offsetof(struct snp_ext_report_req,certs_len),"
        "offsetof(struct snp_guest_request_ioctl,req_data),offsetof(struct snp_guest_request_ioctl,resp_data),"
        "(unsigned long)SNP_GET_REPORT,(unsigned long)SNP_GET_EXT_REPORT);return 0;}\n"
    )
    subprocess.run(["cc", "-o", str(tmp_path / "layout"), str(source)], check=True)
    output = subprocess.run([str(tmp_path / "layout")], check=True, stdout=subprocess.PIPE, text=True).stdout
    numbers = [96, 112, 32, 4000, 64, 96, 104, 8, 16, sev_guest.SNP_GET_REPORT, sev_guest.SNP_GET_EXT_REPORT]
    assert output.split() == [str(number) for number in numbers]


def test_collects_the_report_and_the_certificates():
    driver = Driver()
    assert collect(driver, privlevel=2) == sev_guest.SevGuestReport(REPORT, TABLE)
    assert driver.calls == [sev_guest.SNP_GET_EXT_REPORT] and driver.seen == [(DATA, 2)] and driver.waits == []


def test_a_host_without_certificates():
    assert collect(Driver(table=b"")) == sev_guest.SevGuestReport(REPORT, None)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTTY, errno.EIO])
def test_falls_back_to_the_report_alone(number):
    driver = Driver()
    driver.script = [(number, 0xFF)]
    assert collect(driver) == sev_guest.SevGuestReport(REPORT, None)
    assert driver.calls == [sev_guest.SNP_GET_EXT_REPORT, sev_guest.SNP_GET_REPORT]
    assert driver.seen == [(DATA, 0)] * 2


def test_the_certificate_buffer_grows_to_what_the_host_needs():
    large = struct.pack("<16sII", GUID, 48, 20000) + bytes(24) + b"c" * 20000
    driver = Driver(table=large)
    assert collect(driver).certificates == large
    assert driver.calls == [sev_guest.SNP_GET_EXT_REPORT] * 2


@pytest.mark.parametrize("size", [0, 4096, sev_guest.CERTIFICATES_MAX + 4096])
def test_a_certificate_buffer_of_senseless_size_is_not_followed(size):
    driver = Driver(table=b"x" * size if size > 4096 else TABLE)
    driver.script = [] if size > 4096 else [(errno.EIO, 1 << 32)]
    assert collect(driver).certificates is None
    assert driver.calls[-1] == sev_guest.SNP_GET_REPORT


@pytest.mark.parametrize("step", [(errno.EIO, 2 << 32), (errno.EAGAIN, 2 << 32), (errno.EBUSY, 0xFF)])
def test_a_busy_host_is_asked_again(step):
    driver = Driver()
    driver.script = [step, step, None]
    assert collect(driver).report == REPORT
    assert driver.waits == [0.05, 0.1] and len(driver.calls) == 3


def test_a_host_that_stays_busy():
    driver = Driver()
    driver.script = [(errno.EIO, 2 << 32)] * 100
    assert refused(driver).code == "provider-busy"
    assert len(driver.calls) == sev_guest.ATTEMPTS and len(driver.waits) == sev_guest.ATTEMPTS - 1


@pytest.mark.parametrize(
    "number,exitinfo2,code",
    [
        (errno.EPERM, 0xFF, "no-permission"),
        (errno.ETIMEDOUT, 0xFF, "provider-timeout"),
        (errno.ENOTTY, 0xFF, "provider-error"),
        (errno.EIO, 0x16, "provider-error"),
    ],
)
def test_errors(number, exitinfo2, code):
    driver = Driver()
    driver.script = [(number, exitinfo2)] * 2
    error = refused(driver)
    assert error.code == code and "firmware error 0x%x" % exitinfo2 in str(error)


@pytest.mark.parametrize(
    "status,size,code",
    [(0x16, 1184, "provider-refused"), (0x27, 0, "provider-refused"), (0, 0, "empty-report"), (0, 3969, "provider-error"), (0, 2**32 - 1, "provider-error")],
)
def test_responses_that_hold_no_report(status, size, code):
    assert refused(Driver(status=status, size=size)).code == code


def test_the_largest_report():
    assert len(collect(Driver(size=3968)).report) == 3968


@pytest.mark.parametrize(
    "data,vmpl,code", [(DATA[:63], 0, "report-data"), (DATA + b"x", 0, "report-data"), (DATA, 4, "privlevel-refused"), (DATA, -1, "privlevel-refused")]
)
def test_requests_that_cannot_be_made(data, vmpl, code):
    with pytest.raises(CollectError) as caught:
        sev_guest.pack_report_request(data, vmpl)
    assert caught.value.code == code


def test_a_device_that_is_not_there(tmp_path):
    with pytest.raises(CollectError) as caught:
        sev_guest.collect(DATA, device=str(tmp_path / "sev-guest"))
    assert caught.value.code == "not-a-tee" and "modprobe sev-guest" in str(caught.value)


def test_a_file_that_is_no_such_device(tmp_path):
    (tmp_path / "sev-guest").write_bytes(b"")
    with pytest.raises(CollectError) as caught:
        sev_guest.collect(DATA, device=str(tmp_path / "sev-guest"))
    assert caught.value.code == "provider-error" and "Reboot" in str(caught.value)


def test_certificate_tables():
    assert sev_guest.trim_certificates(bytes(16384)) is None
    assert sev_guest.trim_certificates(b"") is None
    assert sev_guest.trim_certificates(TABLE + bytes(1000)) == TABLE
    with pytest.raises(CollectError):
        sev_guest.trim_certificates(struct.pack("<16sII", GUID, 48, 100))


@given(st.binary(max_size=200))
def test_a_table_is_only_ever_cut(table):
    try:
        trimmed = sev_guest.trim_certificates(table)
    except CollectError:
        return
    assert trimmed is None or table.startswith(trimmed)


def test_a_device_that_may_not_be_opened(monkeypatch):
    def refuse(path, flags):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(sev_guest.os, "open", refuse)
    with pytest.raises(CollectError) as caught:
        sev_guest.collect(DATA)
    assert caught.value.code == "no-permission"
