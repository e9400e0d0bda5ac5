# SPDX-License-Identifier: GPL-3.0-or-later
"""What a boot leads to: every part of it counts, in the order in which the stubs measure."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError, HostError
from ansible_collections.attested.ai.plugins.module_utils.measure.boot import direct_events, parse_uki, predictions, replay, root_hash
from ansible_collections.attested.ai.plugins.module_utils.measure.stub_initrd import stub_initrd
from ansible_collections.attested.ai.plugins.modules import uki_info
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent))

from uki_lab import extended, pe, uki  # noqa: E402

LINE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)


@pytest.mark.parametrize("algorithm", ["sha256", "sha384"])
def test_pcr_11_is_names_and_contents_in_the_stubs_order(algorithm):
    image = uki(cmdline="ro a=1", sbat=b"sbat,1", pcrpkey=b"key", pcrsig=b"signature")
    measured = []
    for name, content in (("linux", b"kernel" * 300), ("osrel", b"ID=debian\n"), ("cmdline", b"ro a=1"), ("initrd", b"initrd" * 100), ("uname", b"6.12"),
                          ("sbat", b"sbat,1"), ("pcrpkey", b"key")):  # fmt: skip
        measured += [f".{name}\0".encode(), content]
    assert predictions(image)["uki"]["pcr11"][algorithm] == extended(algorithm, *measured)


def test_rtmr2_of_a_direct_boot_is_command_line_and_initrd():
    image = uki(cmdline="ro a=1", initrd=b"disk")
    expected = extended("sha384", "ro a=1 initrd=initrd\0".encode("utf-16-le"), b"disk")
    found = predictions(image)["direct"]
    assert found["rtmr2"] == expected == found["pcr9"]["sha384"]
    assert found["pcr9"]["sha256"] == extended("sha256", "ro a=1 initrd=initrd\0".encode("utf-16-le"), b"disk")


def test_rtmr2_of_a_uki_is_what_both_stubs_measure():
    image = pe([(".linux", b"k"), (".cmdline", b"ro"), (".initrd", b"i")])
    parts = [b".linux\0", b"k", b".cmdline\0", b"ro", b".initrd\0", b"i", "ro\0".encode("utf-16-le"), b"i"]
    assert predictions(image)["uki"]["rtmr2"] == extended("sha384", *parts)


@given(LINE, LINE)
def test_another_command_line_is_another_measurement(one, two):
    found = [predictions(uki(cmdline=line)) for line in (one, two)]
    for way in ("uki", "direct"):
        assert (found[0][way]["rtmr2"] == found[1][way]["rtmr2"]) == (one == two)
    assert (found[0]["uki"]["authenticode_sha384"] == found[1]["uki"]["authenticode_sha384"]) == (one == two)


@given(st.integers(0, 599))
def test_one_flipped_byte_of_the_initrd_is_another_measurement(position):
    plain = b"initrd" * 100
    other = plain[:position] + bytes([plain[position] ^ 0x80]) + plain[position + 1 :]
    one, two = predictions(uki(initrd=plain)), predictions(uki(initrd=other))
    assert one["direct"]["rtmr2"] != two["direct"]["rtmr2"] and one["uki"]["pcr11"]["sha256"] != two["uki"]["pcr11"]["sha256"]


def test_a_kernel_that_is_handed_over_without_initrd():
    assert [event.what for event in direct_events("ro", b"", "sha384")] == ["LOADED_IMAGE::LoadOptions"]
    assert direct_events("ro", b"", "sha384")[0].digest == hashlib.sha384("ro\0".encode("utf-16-le")).digest()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ro roothash=AB quiet", "ab"), ("roothash=ab roothash=cd", "cd"), ("usrhash=ef", ""), ("roothash=ab usrhash=ef", "ab"), ("xroothash=ab", ""),
        ("roothash", ""), ("", ""),
    ],
)
def test_the_root_hash_is_the_last_word_of_its_name(line, expected):
    assert root_hash(line) == expected


@pytest.mark.parametrize("name", [".linux", ".cmdline", ".initrd", ".profile"])
def test_what_could_be_started_in_two_ways_is_refused(name):
    with pytest.raises(FormatError, match="boot menu's choice"):
        parse_uki(pe([(".linux", b"k"), (".cmdline", b"ro"), (".initrd", b"i"), (".profile", b"p"), (name, b"other")]))


def test_what_is_no_unified_kernel_image_is_refused():
    with pytest.raises(FormatError, match="no section .linux"):
        parse_uki(pe([(".text", b"x")]))


@pytest.mark.parametrize("line", ["a\0b", "ä", "x" * 70000])
def test_a_line_that_no_firmware_takes_is_refused(line):
    with pytest.raises(FormatError, match="plain ASCII"):
        direct_events(line, b"", "sha384")


def test_an_unknown_bank_is_refused():
    with pytest.raises(FormatError, match="none of"):
        replay((), "md5")


def test_the_module_tells_it(tmp_path):
    (tmp_path / "image.efi").write_bytes(uki(cmdline="ro"))
    (tmp_path / "kernel").write_bytes(b"kernel" * 300)
    program = Path(sys.executable).with_name("ansible")
    words = [program, "localhost", "-c", "local", "-i", "localhost,", "-m", "attested.ai.uki_info", "-a"]
    done = subprocess.run([*words, f"path={tmp_path}/image.efi kernel={tmp_path}/kernel"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert hashlib.sha256(b"kernel" * 300).hexdigest() in done.stdout.partition('"sections"')[0] and '"changed": false' in done.stdout
    done = subprocess.run([*words, f"path={tmp_path}/kernel"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Give a program for UEFI" in done.stdout and "Traceback" not in done.stdout + done.stderr


def test_of_a_file_that_is_too_long_no_digest_of_a_part_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(uki_info, "IMAGE_MAX", 4)
    for size, said in ((4, None), (5, "more than 4 bytes")):
        (tmp_path / "initrd").write_bytes(b"x" * size)
        if said is None:
            assert uki_info.entry(uki_info.read(str(tmp_path / "initrd")))["size"] == size
        else:
            with pytest.raises(HostError, match=said):
                uki_info.read(str(tmp_path / "initrd"))


def entries(archive: bytes):
    """Name, mode and content of each entry of a `newc` archive."""
    position = 0
    while True:
        fields = [int(archive[position + 6 + 8 * index : position + 14 + 8 * index], 16) for index in range(13)]
        start = position + 110
        name = archive[start : start + fields[11] - 1].decode()
        body = (start + fields[11] + 3) // 4 * 4
        yield name, fields[1], archive[body : body + fields[6]]
        if name == "TRAILER!!!":
            assert len(archive) == body
            return
        position = (body + fields[6] + 3) // 4 * 4


def test_the_stub_hands_sections_over_as_files_too():
    magic = b"#### LoaderInfo: systemd-stub 257.9-1 ####"
    found = stub_initrd({".sdmagic": magic, ".initrd": b"disk!", ".osrel": b"ID=debian\n", ".cmdline": b"ro"})
    assert found[:8] == b"disk!\0\0\0" and len(found) % 4 == 0
    assert list(entries(found[8:])) == [(".extra", 0o040555, b""), (".extra/os-release", 0o100444, b"ID=debian\n"), ("TRAILER!!!", 0, b"")]
    # An older one does not, and one part alone is not filled up.
    assert stub_initrd({".sdmagic": magic.replace(b"257.9", b"256.7"), ".initrd": b"disk!", ".osrel": b"ID=debian\n"}) == b"disk!"
    assert stub_initrd({}) == b""


def test_what_the_stub_packs_counts_for_the_register():
    image = pe([(".linux", b"k"), (".osrel", b"ID=x\n"), (".cmdline", b"ro"), (".initrd", b"i"), (".pcrsig", b"{}")])
    initrd = stub_initrd({".osrel": b"ID=x\n", ".initrd": b"i", ".pcrsig": b"{}"})
    assert predictions(image)["uki"]["pcr9"]["sha256"] == extended("sha256", "ro\0".encode("utf-16-le"), initrd)
