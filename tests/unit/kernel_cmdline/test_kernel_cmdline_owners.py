# SPDX-License-Identifier: GPL-3.0-or-later
"""Several owners of one line, a reboot that a killed run left out, lines that are too long, and machines that no GRUB starts."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline import edited
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.loader import LOADER_INFO, OSTREE, SUSE, loader_of
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.words import LINE_MAX, wish
from ansible_collections.attested.ai.plugins.modules import kernel_cmdline

sys.path.insert(0, str(Path(__file__).resolve().parent))

from cmdline_lab import Debian, Killed, Lab, RedHat, Suse  # noqa: E402

TDX = wish("tdx_host", ["nohibernate", "kvm_intel.tdx=1"], ["iommu=pt"])
SNP = wish("snp_host", ["nohibernate", "mem=x"], ["iommu"])


def lab_of(make, folder) -> Lab:
    return Debian(folder, **{"/etc/default/grub": 'GRUB_CMDLINE_LINUX="iommu=pt"\nGRUB_CMDLINE_LINUX_DEFAULT="quiet"\n'}) if make is Debian else make()


def words_of(lab: Lab) -> set:
    if isinstance(lab, Debian):
        return set(lab.line())
    editor = edited.GRUBBY if isinstance(lab, RedHat) else edited.GRUB_DEFAULT
    (first, *rest) = (set(words) for words in editor.lines(lab.system).values())
    return first.intersection(*rest)


def change_of(lab: Lab, wanted, present: bool = True):
    return loader_of(lab.system)[0](lab.system, wanted, present)


def set_(lab: Lab, wanted, present: bool = True) -> bool:
    change = change_of(lab, wanted, present)
    if change.needed:
        loader_of(lab.system)[1](lab.system, wanted, present)
    return change.needed


@pytest.mark.parametrize("make", [Debian, RedHat, Suse])
@pytest.mark.parametrize("order", [(TDX, SNP), (SNP, TDX)], ids=["in-order", "reversed"])
@pytest.mark.parametrize("again", [False, True], ids=["once", "and-again"])
def test_what_two_want_stays_until_both_are_gone(make, order, again, tmp_path):
    lab = lab_of(make, tmp_path)
    before = words_of(lab)
    for wanted in order:
        assert set_(lab, wanted) and not set_(lab, wanted)
    if again:
        # The first one asks for more: what is its own and the other's must be forgotten by neither.
        more = wish(order[0].owner, [*order[0].present, "more=1"], order[0].absent)
        assert set_(lab, more) and set_(lab, order[0]) and not set_(lab, order[0])
    assert set_(lab, order[0], present=False)
    assert order[1].kept_by(tuple(words_of(lab))) and not set_(lab, order[1])
    assert set_(lab, order[1], present=False)
    assert words_of(lab) == before


@pytest.mark.parametrize("make", [Debian, RedHat, Suse])
def test_the_reboot_after_taking_back_is_not_forgotten_when_the_run_is_cut_off(make, tmp_path):
    lab = lab_of(make, tmp_path)
    set_(lab, TDX)
    set_(lab, wish("gpu", ["nohibernate"], []))
    lab.files["/proc/cmdline"] = "root=UUID=1 ro quiet nohibernate kvm_intel.tdx=1"
    assert not change_of(lab, TDX).reboot_required
    assert set_(lab, TDX, present=False)
    # The play ended here, before its reboot.
    left = change_of(lab, TDX, present=False)
    assert not left.needed and left.reboot_required
    lab.files["/proc/cmdline"] = "root=UUID=1 ro quiet nohibernate"
    assert not change_of(lab, TDX, present=False).reboot_required, "it is still wanted by somebody else"
    lab.files["/proc/cmdline"] = "root=UUID=1 ro quiet nohibernate kvm_intel.tdx=1"
    assert set_(lab, TDX) and not change_of(lab, TDX).reboot_required


def test_a_word_that_stays_by_another_hand_needs_no_reboot(tmp_path):
    lab = Debian(tmp_path, **{"/etc/default/grub": 'GRUB_CMDLINE_LINUX="nohibernate"\nGRUB_CMDLINE_LINUX_DEFAULT="quiet"\n'})
    lab.files["/proc/cmdline"] = "root=UUID=1 ro nohibernate quiet"
    set_(lab, TDX)
    assert set_(lab, TDX, present=False) and "nohibernate" in lab.line()
    assert not change_of(lab, TDX, present=False).reboot_required


@pytest.mark.parametrize("make", [Debian, RedHat, Suse])
def test_a_word_that_is_no_longer_wanted_needs_a_reboot_too(make, tmp_path):
    lab = lab_of(make, tmp_path)
    set_(lab, TDX)
    lab.files["/proc/cmdline"] = "root=UUID=1 ro quiet nohibernate kvm_intel.tdx=1"
    smaller = wish("tdx_host", ["nohibernate"], [])
    assert set_(lab, smaller) and change_of(lab, smaller).reboot_required
    # /run is gone with the kernel that had it.
    for path in [path for path in lab.files if path.startswith("/run/")]:
        del lab.files[path]
    lab.files["/proc/cmdline"] = "root=UUID=1 ro quiet nohibernate"
    assert not change_of(lab, smaller).reboot_required


def test_a_kill_between_the_edit_and_its_record_gives_everything_to_its_owner(tmp_path):
    lab = lab_of(Suse, tmp_path)
    before = words_of(lab)
    set_(lab, TDX)
    set_(lab, SNP)
    lab.dies_at = "remove /var/lib/attested-ai/kernel-cmdline/tdx_host.json"
    with pytest.raises(Killed):
        set_(lab, TDX, present=False)
    lab.dies_at = ""
    assert set_(lab, TDX, present=False) and SNP.kept_by(tuple(words_of(lab)))
    assert set_(lab, SNP, present=False) and words_of(lab) == before


@pytest.mark.parametrize("make", [Debian, RedHat, Suse])
def test_a_line_that_a_kernel_would_cut_off_is_refused_before_anything_is_written(make, tmp_path):
    lab = lab_of(make, tmp_path)
    before = dict(lab.files)
    long = wish("long", ["x%d=%s" % (number, "y" * 90) for number in range(LINE_MAX // 95 + 1)], [])
    with pytest.raises(HostError, match="kernels cut it off") as caught:
        set_(lab, long)
    assert caught.value.code == "boot-loader-line" and lab.files == before


@pytest.mark.parametrize(
    ("path", "text", "words"),
    [
        (LOADER_INFO, "\x07\0\0\0" + "".join(letter + "\0" for letter in "systemd-boot 257.9-1"), "started by systemd-boot.*kernel-install"),
        (OSTREE, "", "ostree.*rpm-ostree kargs"),
        (SUSE, 'LOADER_TYPE="grub2-bls"\n', "boot loader is grub2-bls.*sdbootutil"),
        (SUSE, "LOADER_TYPE=none\n", "boot loader is none"),
    ],
)
def test_what_is_installed_is_not_always_what_boots(path, text, words):
    lab = Suse()
    lab.files[path] = text
    with pytest.raises(HostError, match=words) as caught:
        loader_of(lab.system)
    assert caught.value.code == "boot-loader-unknown" and not lab.ran


@pytest.mark.parametrize(
    ("path", "text"), [(LOADER_INFO, "G\0R\0U\0B\0 \x002\0.\x001\x002\0"), (SUSE, 'LOADER_TYPE="grub2-efi"\n'), (SUSE, "SECURE_BOOT=yes\n")]
)
def test_grub_is_grub(path, text):
    lab = Suse()
    lab.files[path] = text
    assert set_(lab, TDX)


# files of a real machine


class Module:
    """As much of AnsibleModule as the files need."""

    def __init__(self, fails: int = 0) -> None:
        self.fails = fails

    def atomic_move(self, source: str, target: str) -> None:
        if self.fails:
            raise OSError(self.fails, os.strerror(self.fails))
        os.rename(source, target)

    def run_command(self, argv):
        return 0, "", ""

    def get_bin_path(self, name, opt_dirs=()):
        return None


@pytest.mark.parametrize(("number", "words"), [(errno.EROFS, "Read-only.*Mount"), (errno.ENOSPC, "No space.*Make room"), (errno.EACCES, "Permission.*root")])
def test_a_file_that_cannot_be_written_is_left_as_it_was(tmp_path, number, words):
    target = tmp_path / "grub"
    target.write_text("old")
    with pytest.raises(HostError, match=words):
        kernel_cmdline.system_of(Module(number)).write(str(target), "new")
    assert target.read_text() == "old" and os.listdir(tmp_path) == ["grub"]
    kernel_cmdline.system_of(Module()).write(str(tmp_path / "new" / "grub"), "\udcff")
    assert (tmp_path / "new" / "grub").read_bytes() == b"\xff" and os.listdir(tmp_path / "new") == ["grub"]


def test_a_file_that_cannot_be_removed_is_no_traceback(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(HostError, match="cannot be written"):
        kernel_cmdline.remove(str(tmp_path / "folder"))
    kernel_cmdline.remove(str(tmp_path / "missing"))


def test_bytes_that_are_no_text_can_be_told():
    assert kernel_cmdline.shown("a\udcffb").encode("utf-8")
