# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The collection over an in-memory configfs-tsm whose every operation can be made to fail. The real file operations run over FUSE elsewhere."""

from __future__ import annotations

import errno
import os

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import CollectError
from ansible_collections.attested.ai.plugins.module_utils.target import tsm

PATH = "/sys/kernel/config/tsm/report"
DATA = bytes(range(64))


class Kernel(tsm.Files):
    """Behaves as drivers/virt/coco/tsm.c does. ``faults`` maps (operation, name) to what to raise, once per element."""

    def __init__(self, provider="sev_guest", floor=0, auxblob=b"certificates", directories=("/sys/kernel/config",)):
        self.provider, self.floor, self.auxblob = provider, floor, auxblob
        self.directories = set(directories)
        self.mounted = True
        self.entries = {}
        self.made, self.log, self.faults = [], [], {}
        self.outblob = lambda entry: b"report over " + entry["inblob"] + b"%d" % entry["privlevel"]
        self.after_outblob = lambda entry: None

    def fail(self, operation, name, *errors):
        self.faults[(operation, name)] = list(errors)

    def _fault(self, operation, name):
        self.log.append((operation, name))
        waiting = self.faults.get((operation, name))
        if waiting:
            error = waiting.pop(0)
            if error is not None:
                raise OSError(error, os.strerror(error)) if isinstance(error, int) else error

    def is_dir(self, path):
        return path in self.directories

    def is_mount(self, path):
        return self.mounted

    def mkdir(self, path):
        self._fault("mkdir", "")
        assert os.path.dirname(path) == PATH and path not in self.made, "an entry name was used twice"
        self.made.append(path)
        self.entries[path] = {"generation": 0, "privlevel": 0, "inblob": b""}
        self._fault("mkdir-done", "")

    def rmdir(self, path):
        self._fault("rmdir", "")
        if path not in self.entries:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        del self.entries[path]

    def write(self, path, data):
        entry, name = self.entries[os.path.dirname(path)], os.path.basename(path)
        self._fault("write", name)
        entry["generation"] += 1
        entry[name] = int(data) if name == "privlevel" else data
        return len(data)

    def read(self, path, limit):
        entry, name = self.entries[os.path.dirname(path)], os.path.basename(path)
        self._fault("read", name)
        if name == "provider":
            return self.provider.encode() + b"\n"
        if name == "generation":
            return b"%d\n" % entry["generation"]
        if name == "privlevel_floor":
            if self.floor is None:
                raise FileNotFoundError(errno.ENOENT, "No such file or directory")
            return b"%d\n" % self.floor
        if name == "outblob":
            if not entry["inblob"]:
                raise OSError(errno.EINVAL, "Invalid argument")
            blob = self.outblob(entry)[:limit]
            self.after_outblob(entry)
            return blob
        if self.auxblob is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return self.auxblob[:limit]


@pytest.fixture
def kernel():
    kernel = Kernel()
    yield kernel
    assert kernel.entries == {}, "an entry was left behind"


def collect(kernel, **arguments):
    waits = []
    arguments.setdefault("path", PATH)
    result = None
    try:
        result = tsm.collect(DATA, files=kernel, sleep=waits.append, **arguments)
        return result
    finally:
        kernel.waits = waits


def refused(kernel, **arguments):
    with pytest.raises(CollectError) as caught:
        collect(kernel, **arguments)
    assert str(caught.value).count("\n") == 0
    return caught.value


def test_collects_in_the_order_of_the_interface(kernel):
    report = collect(kernel)
    assert report == tsm.TsmReport("sev_guest", "sev-snp", b"report over " + DATA + b"0", b"certificates", 1, None, 0)
    assert [step for step in kernel.log if step[1] not in ("provider", "privlevel_floor")] == [
        ("mkdir", ""),
        ("mkdir-done", ""),
        ("read", "generation"),
        ("write", "inblob"),
        ("read", "outblob"),
        ("read", "auxblob"),
        ("read", "generation"),
        ("rmdir", ""),
    ]
    assert kernel.waits == []


def test_each_collection_has_an_entry_of_its_own(kernel):
    for _unused in range(50):
        collect(kernel)
    assert len(set(kernel.made)) == 50


@pytest.mark.parametrize("provider,item_type", [("sev_guest", "sev-snp"), ("tdx_guest", "tdx"), ("arm_cca_guest", "cca")])
def test_names_the_type_of_each_provider(kernel, provider, item_type):
    kernel.provider = provider
    assert collect(kernel).type == item_type


def test_refuses_unknown_providers(kernel):
    kernel.provider = "acme\x1b[2J"
    error = refused(kernel)
    assert error.code == "unknown-provider" and "\x1b" not in str(error)


@pytest.mark.parametrize("auxblob,expected", [(None, None), (b"", None), (b"x", b"x")])
def test_the_auxiliary_blob_may_be_missing(kernel, auxblob, expected):
    kernel.auxblob = auxblob
    assert collect(kernel).auxblob == expected


@pytest.mark.parametrize(
    "wanted,floor,written,generation",
    [(None, 0, None, 1), (None, 2, 2, 2), (0, 0, 0, 2), (3, 0, 3, 2), (2, 2, 2, 2), (None, None, None, 1)],
)
def test_privlevel(kernel, wanted, floor, written, generation):
    kernel.floor = floor
    report = collect(kernel, privlevel=wanted)
    assert (report.privlevel, report.generation, report.privlevel_floor) == (written, generation, floor)
    assert report.outblob.endswith(b"%d" % (written or 0))


@pytest.mark.parametrize("wanted,floor", [(0, 1), (1, 2), (4, 0), (0, None)])
def test_privlevel_that_the_guest_may_not_ask_for(kernel, wanted, floor):
    kernel.floor = floor
    assert refused(kernel, privlevel=wanted).code == "privlevel-refused"
    assert ("write", "inblob") not in kernel.log


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_mkdir_without_permission(kernel, number):
    kernel.fail("mkdir", "", number)
    assert refused(kernel).code == "no-permission"


def test_mkdir_without_a_provider(kernel):
    kernel.fail("mkdir", "", errno.ENXIO)
    error = refused(kernel)
    assert error.code == "not-a-tee" and "modprobe sev-guest" in str(error) and "linux-modules-extra" in str(error)


@pytest.mark.parametrize(
    "directories,mounted,code", [((), True, "no-configfs"), (("/sys/kernel/config",), False, "no-configfs"), (("/sys/kernel/config",), True, "not-a-tee")]
)
def test_mkdir_without_the_directory(kernel, directories, mounted, code):
    kernel.directories, kernel.mounted = set(directories), mounted
    kernel.fail("mkdir", "", errno.ENOENT)
    error = refused(kernel)
    assert error.code == code
    assert ("mount -t configfs" if code == "no-configfs" else "modprobe") in str(error)


def test_another_mkdir_failure(kernel):
    kernel.fail("mkdir", "", errno.ENOMEM)
    assert refused(kernel).code == "provider-error"


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EEXIST, errno.EAGAIN])
def test_mkdir_is_tried_again(kernel, number):
    kernel.fail("mkdir", "", number, number)
    assert collect(kernel).outblob
    assert kernel.waits == [0.05, 0.1]


def test_a_plain_directory_is_not_configfs(tmp_path):
    with pytest.raises(CollectError) as caught:
        tsm.collect(DATA, path=str(tmp_path))
    assert caught.value.code == "no-configfs" and list(tmp_path.iterdir()) == []


def test_a_directory_that_does_not_exist(tmp_path):
    with pytest.raises(CollectError) as caught:
        tsm.collect(DATA, path=str(tmp_path / "config" / "tsm" / "report"))
    assert caught.value.code == "no-configfs"


@pytest.mark.parametrize(
    "number,code",
    [
        (errno.EINVAL, "provider-refused"),
        (errno.EIO, "provider-error"),
        (errno.ENXIO, "provider-error"),
        (errno.ENOTTY, "provider-error"),
        (errno.ETIMEDOUT, "provider-timeout"),
        (errno.EFBIG, "too-large"),
        (errno.EACCES, "no-permission"),
    ],
)
def test_outblob_errors(kernel, number, code):
    kernel.fail("read", "outblob", number)
    error = refused(kernel)
    assert error.code == code and "outblob" in str(error)
    assert kernel.waits == [] and len(kernel.made) == 1


@pytest.mark.parametrize("name", ["provider", "privlevel_floor", "generation", "auxblob", "outblob"])
def test_busy_reads_are_tried_again_on_a_fresh_entry(kernel, name):
    kernel.fail("read", name, errno.EBUSY, errno.EAGAIN)
    assert collect(kernel).outblob
    assert len(kernel.made) == 3 and kernel.waits == [0.05, 0.1]


@pytest.mark.parametrize("name", ["inblob", "privlevel"])
def test_busy_writes_are_tried_again(kernel, name):
    kernel.fail("write", name, errno.EBUSY)
    assert collect(kernel, privlevel=1).outblob
    assert len(kernel.made) == 2


def test_a_provider_that_stays_busy(kernel):
    kernel.fail("read", "outblob", *[errno.EBUSY] * 100)
    assert refused(kernel).code == "provider-busy"
    assert len(kernel.made) == tsm.ATTEMPTS
    assert kernel.waits == [0.05, 0.1, 0.2, 0.4, 0.8]


@pytest.mark.parametrize("operation,name", [("read", "provider"), ("read", "generation"), ("read", "auxblob"), ("write", "inblob"), ("write", "privlevel")])
def test_other_failures_name_the_attribute(kernel, operation, name):
    kernel.fail(operation, name, errno.EIO)
    error = refused(kernel, privlevel=0)
    assert error.code == "provider-error" and name in error.where


def test_a_missing_generation_is_not_taken_for_zero(kernel):
    kernel.fail("read", "generation", FileNotFoundError(errno.ENOENT, "No such file"))
    assert refused(kernel).code == "provider-error"


def test_a_foreign_write_while_reading_is_noticed_and_tried_again(kernel):
    torn = [True, True]

    def foreign(entry):
        if torn:
            torn.pop()
            entry["inblob"] = b"their request"
            entry["generation"] += 1

    kernel.after_outblob = foreign
    assert collect(kernel).outblob == b"report over " + DATA + b"0"
    assert len(kernel.made) == 3


def test_a_foreign_write_before_reading_is_noticed(kernel):
    def foreign(entry):
        entry["generation"] += 1
        return b"report over another request"

    kernel.outblob = foreign
    assert refused(kernel).code == "torn-read"
    assert len(kernel.made) == tsm.ATTEMPTS


def test_a_generation_that_does_not_move_is_no_proof(kernel):
    """A write that the kernel never counted may never have been taken."""

    def stale(entry):
        entry["generation"] -= 1

    kernel.after_outblob = stale
    assert refused(kernel).code == "torn-read"


def test_a_torn_empty_report_is_torn(kernel):
    kernel.outblob = lambda entry: b""
    kernel.after_outblob = lambda entry: entry.update(generation=entry["generation"] + 1)
    assert refused(kernel).code == "torn-read"


@pytest.mark.parametrize("provider,hint", [("sev_guest", "dmesg"), ("tdx_guest", "QGS")])
def test_an_empty_report(kernel, provider, hint):
    kernel.provider = provider
    kernel.outblob = lambda entry: b""
    error = refused(kernel)
    assert error.code == "empty-report" and hint in str(error)


def test_sizes_are_bounded(kernel):
    kernel.outblob = lambda entry: bytes(tsm.OUTBLOB_MAX + 1)
    assert refused(kernel).code == "too-large"
    kernel.outblob = lambda entry: bytes(tsm.OUTBLOB_MAX)
    assert len(collect(kernel).outblob) == tsm.OUTBLOB_MAX
    kernel.auxblob = bytes(tsm.AUXBLOB_MAX + 1)
    assert refused(kernel).code == "too-large"


@pytest.mark.parametrize("text", [b"", b"-1", b"1x", b"\xff", b"9" * 21, b"1 2"])
def test_a_generation_that_is_no_number(kernel, text):
    real = kernel.read
    kernel.read = lambda path, limit: text if path.endswith("generation") else real(path, limit)
    assert refused(kernel).code == "provider-error"


def test_a_short_write_is_refused(kernel):
    real = kernel.write
    kernel.write = lambda path, data: real(path, data) - 1
    assert refused(kernel).code == "provider-error"


def test_report_data_of_another_size(kernel):
    with pytest.raises(CollectError) as caught:
        tsm.collect(DATA[:63], path=PATH, files=kernel)
    assert caught.value.code == "report-data" and kernel.log == []


class Signal(BaseException):
    pass


@pytest.mark.parametrize(
    "operation,name",
    [
        ("mkdir", ""),
        ("mkdir-done", ""),
        ("read", "provider"),
        ("read", "generation"),
        ("write", "inblob"),
        ("read", "outblob"),
        ("read", "auxblob"),
        ("rmdir", ""),
    ],
)
def test_the_entry_is_removed_when_a_signal_raises(kernel, operation, name):
    kernel.fail(operation, name, Signal())
    with pytest.raises(Signal):
        collect(kernel)
    assert kernel.entries == {}


def test_a_busy_removal_is_tried_again(kernel):
    kernel.fail("rmdir", "", errno.EBUSY, errno.EBUSY)
    assert collect(kernel).outblob


def test_an_entry_that_cannot_be_removed_is_reported(kernel):
    kernel.fail("rmdir", "", *[errno.EBUSY] * 6)
    error = refused(kernel)
    assert error.code == "entry-left" and "rmdir /sys" in str(error)
    kernel.entries.clear()


def test_the_first_failure_is_reported_before_the_one_of_the_removal(kernel):
    kernel.fail("read", "outblob", errno.EIO)
    kernel.fail("rmdir", "", *[errno.EPERM] * 6)
    assert refused(kernel).code == "provider-error"
    kernel.entries.clear()


def test_a_file_is_read_to_its_end_in_as_many_parts_as_the_kernel_gives(tmp_path, monkeypatch):
    (tmp_path / "outblob").write_bytes(DATA)
    real = os.read
    monkeypatch.setattr(tsm.os, "read", lambda descriptor, size: real(descriptor, min(size, 10)))
    assert tsm.Files().read(str(tmp_path / "outblob"), 1000) == DATA
    assert tsm.Files().read(str(tmp_path / "outblob"), 25) == DATA[:25]
