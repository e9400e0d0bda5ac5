# SPDX-License-Identifier: GPL-3.0-or-later
"""With a real grubby, where there is one: what it makes of our requests, entry by entry, and for kernels that come later."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.loader import loader_of
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.words import wish

sys.path.insert(0, str(Path(__file__).resolve().parent))

from grubby_lab import KERNELS, RealGrubby, why_not  # noqa: E402

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can be run")
TDX = wish("tdx_host", ["nohibernate", "kvm_intel.tdx=1"], ["iommu=pt"])


def set_(lab: RealGrubby, wanted, present: bool = True) -> bool:
    plan, apply = loader_of(lab.system)
    change = plan(lab.system, wanted, present)
    if change.needed:
        apply(lab.system, wanted, present)
    return change.needed


def test_all_entries_and_kernels_to_come_are_set_and_taken_back(tmp_path):
    lab = RealGrubby(tmp_path)
    before = lab.options()
    assert set_(lab, TDX) and not set_(lab, TDX)
    assert all(TDX.kept_by(words) for words in lab.options().values()) and len(lab.options()) == 2
    assert TDX.kept_by(lab.for_new_kernels()) and "nohibernate" in (tmp_path / "etc/default/grub").read_text()
    assert set_(lab, TDX, present=False) and not set_(lab, TDX, present=False)
    assert {release: set(words) for release, words in lab.options().items()} == {release: set(words) for release, words in before.items()}
    assert set(lab.for_new_kernels()) & {"nohibernate", "kvm_intel.tdx=1"} == set() and "iommu=pt" in lab.for_new_kernels()


def test_a_name_that_is_there_several_times_keeps_all_its_values(tmp_path):
    lab = RealGrubby(tmp_path)
    consoles = wish("serial", ["console=tty0", "console=ttyS0,115200"], [])
    assert set_(lab, consoles) and not set_(lab, consoles)
    assert all({"console=tty0", "console=ttyS0,115200"} <= set(words) for words in lab.options().values())
    assert set_(lab, consoles, present=False)
    assert {release: set(words) for release, words in lab.options().items()} == {release: set(words.split()) for release, words in KERNELS.items()}


def test_a_value_that_comes_back_does_not_push_another_one_out(tmp_path):
    lab = RealGrubby(tmp_path, {"5.14.0-503.el9.x86_64": "ro iommu=pt iommu=merge quiet"})
    assert set_(lab, wish("snp_host", [], ["iommu=pt"])) and set_(lab, wish("snp_host", [], ["iommu=pt"]), present=False)
    assert {"iommu=pt", "iommu=merge"} <= set(lab.options()["5.14.0-503.el9.x86_64"])


@pytest.mark.parametrize("word", ["a=b+c", "a=x^y", "blk.x=/dev/disk/by-id/%n", "m=a.b~c"])
def test_words_that_mean_something_to_its_patterns(tmp_path, word):
    lab = RealGrubby(tmp_path)
    wanted = wish("odd", [word], [])
    assert set_(lab, wanted) and all(word in words for words in lab.options().values())
    try:
        assert set_(lab, wanted, present=False)
    except HostError as error:
        assert error.code == "boot-loader-failed"
    else:
        assert not any(word in words for words in lab.options().values())


def test_a_new_kernel_that_came_without_them_is_noticed(tmp_path):
    lab = RealGrubby(tmp_path)
    set_(lab, TDX)
    lab.install("5.14.0-570.el9.x86_64", "ro quiet")
    assert set_(lab, TDX) and TDX.kept_by(lab.options()["5.14.0-570.el9.x86_64"]) and not set_(lab, TDX)


def test_two_entries_of_one_kernel_are_two(tmp_path):
    lab = RealGrubby(tmp_path)
    entries = tmp_path / "boot/loader/entries"
    (entry,) = entries.glob("*-503*")
    (entries / "zz-custom.conf").write_text(entry.read_text().replace("iommu=pt", "iommu=pt custom"))
    assert set_(lab, TDX)
    assert TDX.kept_by((entries / "zz-custom.conf").read_text().split()) and TDX.kept_by(entry.read_text().split())
    (entries / "zz-custom.conf").write_text(entry.read_text().replace("nohibernate", ""))
    assert set_(lab, TDX) and "nohibernate" in (entries / "zz-custom.conf").read_text()
    entry.write_text(entry.read_text().replace("nohibernate", ""))
    assert set_(lab, TDX) and "nohibernate" in entry.read_text()


def test_the_kernel_that_is_started_by_itself(tmp_path):
    lab = RealGrubby(tmp_path)
    plan, _apply = loader_of(lab.system)
    assert plan(lab.system, TDX, True).next_kernel == "5.14.0-503.el9.x86_64"
