# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

"""Every misbehaviour over the real mount, and what it must and must not change."""

import errno
import os
import uuid

import pytest
from softtee_kit import write
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from softtee.behaviour import BEHAVIOURS
from softtee.machine import measurement
from softtee.snp_report import DEFAULT_TCB

pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")
HWID = x509.ObjectIdentifier("1.3.6.1.4.1.3704.1.4")
SNP_SPL = x509.ObjectIdentifier("1.3.6.1.4.1.3704.1.3.3")


@pytest.fixture(autouse=True)
def well_behaved(soft):
    soft.misbehave("none")
    yield
    soft.misbehave("none")


class Answer:
    def __init__(self, soft, asked=None):
        self.asked = asked or os.urandom(64)
        path = soft.entry("m" + uuid.uuid4().hex)
        try:
            write(path / "inblob", self.asked)
            self.report = (path / "outblob").read_bytes()
            self.table = (path / "auxblob").read_bytes()
            self.generation = int((path / "generation").read_text())
        finally:
            path.rmdir()

    def number(self, start, size):
        return int.from_bytes(self.report[start : start + size], "little")

    @property
    def leaf(self):
        start, length = (int.from_bytes(self.table[at : at + 4], "little") for at in (16, 20))
        return x509.load_der_x509_certificate(self.table[start : start + length])

    @property
    def signed(self):
        r, s = self.number(0x2A0, 72), self.number(0x2E8, 72)
        try:
            self.leaf.public_key().verify(encode_dss_signature(r, s), self.report[:0x2A0], ec.ECDSA(hashes.SHA384()))
        except InvalidSignature:
            return False
        return True

    @property
    def hwid(self):
        return self.leaf.extensions.get_extension_for_oid(HWID).value.value

    def is_honest(self):
        tcb = DEFAULT_TCB["genoa"]
        expected = bytes([tcb["bootloader"], tcb["tee"], 0, 0, 0, 0, tcb["snp"], tcb["microcode"]])
        return (
            self.signed and self.report[0x50:0x90] == self.asked and self.report[0x90:0xC0] == measurement() and self.number(8, 8) == 0x30000
            and self.number(0x30, 4) == 0 and self.report[0x180:0x188] == expected and self.report[0x1A0:0x1E0] == self.hwid and self.generation == 1
        )  # fmt: skip


def set_to(soft, name, count=0):
    soft.misbehave(name, count)


def test_none_is_honest(soft):
    assert Answer(soft).is_honest()


def test_debug(soft):
    soft.run("misbehave", "debug", "--count", "1")
    answer = Answer(soft)
    assert answer.number(8, 8) == 0xB0000 and answer.signed


def test_wrong_measurement(soft):
    set_to(soft, "wrong-measurement")
    answer = Answer(soft)
    assert answer.report[0x90:0xC0] != measurement() and answer.signed


def test_old_tcb_comes_with_the_certificate_of_that_tcb(soft):
    honest = Answer(soft)
    set_to(soft, "old-tcb")
    answer = Answer(soft)
    assert answer.signed and answer.report[0x186] == 1
    assert answer.leaf.extensions.get_extension_for_oid(SNP_SPL).value.value == b"\2\1\1"
    assert answer.report[0x1A0:0x1E0] == honest.report[0x1A0:0x1E0] == answer.hwid, "the same chip"
    assert answer.leaf.public_key() != honest.leaf.public_key(), "another TCB, another key"
    for offset in (0x38, 0x1E0, 0x1F0):
        assert answer.report[offset : offset + 8] == answer.report[0x180:0x188]


def test_replay(soft):
    set_to(soft, "replay")
    first, second = Answer(soft), Answer(soft)
    assert first.report == second.report and first.signed
    assert first.report[0x50:0x90] not in (first.asked, second.asked, bytes(64))
    assert first.generation == 1, "nothing but the report data gives it away"


def test_stale_generation(soft):
    set_to(soft, "stale-generation")
    answer = Answer(soft)
    assert answer.generation == 0 and answer.signed and answer.report[0x50:0x90] == bytes(64)


def test_torn(soft):
    set_to(soft, "torn")
    answer = Answer(soft)
    assert answer.generation == 2 and answer.signed and answer.report[0x50:0x90] != answer.asked


def test_busy_so_many_times(soft):
    set_to(soft, "busy", 2)
    path = soft.entry("busy", bytes(64))
    try:
        for _attempt in range(2):
            with pytest.raises(OSError) as caught:
                (path / "outblob").read_bytes()
            assert caught.value.errno == errno.EBUSY
        assert len((path / "outblob").read_bytes()) == 1184
    finally:
        path.rmdir()
    assert Answer(soft).is_honest()


def test_empty(soft):
    set_to(soft, "empty")
    assert Answer(soft).report == b""


def test_bad_signature(soft):
    set_to(soft, "bad-signature")
    answer = Answer(soft)
    assert not answer.signed and answer.report[0x50:0x90] == answer.asked


def test_vmpl1(soft):
    set_to(soft, "vmpl1")
    answer = Answer(soft)
    assert answer.number(0x30, 4) == 1 and answer.signed


def test_foreign_chip(soft):
    set_to(soft, "foreign-chip")
    answer = Answer(soft)
    assert answer.hwid != answer.report[0x1A0:0x1E0] and not answer.signed


def test_other_machine_is_consistent(soft):
    honest = Answer(soft)
    set_to(soft, "other-machine")
    answer = Answer(soft)
    assert answer.signed and answer.hwid == answer.report[0x1A0:0x1E0] != honest.hwid


def test_no_provider(soft):
    set_to(soft, "no-provider")
    with pytest.raises(OSError) as caught:
        Answer(soft)
    assert caught.value.errno == errno.ENXIO


@pytest.mark.parametrize("name", sorted(name for name in set(BEHAVIOURS) - {"none", "busy", "no-provider", "old-module"} if not name.startswith("gpu-")))
def test_a_counted_misbehaviour_ends(soft, name):
    set_to(soft, name, 1)
    assert not Answer(soft).is_honest() if name != "other-machine" and name != "empty" else Answer(soft)
    assert Answer(soft).is_honest()


def test_unknown_ones_are_refused(soft):
    done = soft.run("misbehave", "nonsense", check=False)
    assert done.returncode == 2 and "nonsense" in done.stderr
    done = soft.run("misbehave", "busy", "--count", "-1", check=False)
    assert done.returncode == 1 and done.stderr == "softtee: the count is -1: 0 means always\n"


def test_a_damaged_behaviour_file_is_good_behaviour(soft):
    (soft.state / "behaviour.json").write_text("{")
    assert Answer(soft).is_honest()
