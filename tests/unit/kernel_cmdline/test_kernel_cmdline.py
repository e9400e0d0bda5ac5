# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel parameters one by one: words, three kinds of boot loaders, interruptions, and what is taken back."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline import drop_in, edited
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.loader import loader_of
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.records import record_path
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.words import split, wish
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent))

from cmdline_lab import Debian, Killed, Lab, RedHat, Suse  # noqa: E402

TDX = wish("tdx_host", ["nohibernate", "kvm_intel.tdx=1"], ["iommu=pt"])
DROP_IN = "/etc/default/grub.d/99-attested-ai-tdx_host.cfg"
WORDS = st.lists(st.from_regex(r"[a-z][a-z_.-]{0,6}(=[a-z0-9,]{0,4})?", fullmatch=True), max_size=6)


def set_(lab: Lab, wanted, present: bool = True) -> bool:
    """As the module does. Says whether something was to be changed."""
    plan, apply = loader_of(lab.system)
    change = plan(lab.system, wanted, present)
    if change.needed:
        apply(lab.system, wanted, present)
    return change.needed


# words


def test_words_part_at_blanks_outside_of_quotes():
    assert split(' a=1  dyndbg="file x.c +p" b ') == ("a=1", 'dyndbg="file x.c +p"', "b")


@pytest.mark.parametrize(
    ("present", "absent", "before", "after"),
    [
        (["a=1"], [], "x a=2 y a=3", "x y a=1"),
        (["kvm-intel.tdx=1"], [], "kvm_intel.tdx=0 x", "x kvm-intel.tdx=1"),
        ([], ["iommu=pt"], "iommu=pt iommu=nopt", "iommu=nopt"),
        ([], ["iommu"], "iommu=pt iommu iommux=1", "iommux=1"),
        (["console=tty0", "console=ttyS0"], [], "console=tty1 q", "q console=tty0 console=ttyS0"),
        (["a"], [], "a b", "a b"),
    ],
)
def test_a_line_becomes_what_is_wished(present, absent, before, after):
    wanted = wish("x", present, absent)
    assert wanted.applied_to(split(before)) == split(after) and wanted.kept_by(split(after))
    assert wanted.kept_by(split(before)) == (set(split(before)) == set(split(after)))


@pytest.mark.parametrize("word", ["", "a b", 'a="x"', "a=$(id)", "a;b", "-x", "a=`id`", "a\nb", "a#b", "a={x}", "a'b", "a=\\"])
def test_a_word_that_a_boot_loader_would_read_otherwise_is_refused(word):
    for options in ((["ok", word], []), ([], [word])):
        with pytest.raises(HostError, match="no plain kernel parameter"):
            wish("x", *options)


@pytest.mark.parametrize(("present", "absent"), [(["a=1"], ["a=1"]), (["a=1"], ["a"]), (["k-x=1"], ["k_x"])])
def test_wanted_and_unwanted_is_refused(present, absent):
    with pytest.raises(HostError, match="wanted and unwanted"):
        wish("x", present, absent)


@pytest.mark.parametrize("owner", ["", "../x", "A", "x" * 50, "x y"])
def test_an_owner_is_a_plain_name(owner):
    with pytest.raises(HostError, match="no name"):
        wish(owner, [], [])


@given(WORDS, WORDS, WORDS)
def test_a_wish_is_kept_by_what_it_made(present, absent, before):
    try:
        wanted = wish("x", present, absent)
    except HostError:
        return
    after = wanted.applied_to(before)
    assert wanted.kept_by(after) and wanted.applied_to(after) == after
    assert [word for word in after if word not in present] == [word for word in before if word not in present and not wanted.unwanted(word)]


# GRUB with drop-ins, by a real shell


def test_a_drop_in_filters_and_adds_and_is_taken_back(tmp_path):
    lab = Debian(tmp_path, **{"/etc/default/grub": 'GRUB_CMDLINE_LINUX="iommu=pt a=1"\nGRUB_CMDLINE_LINUX_DEFAULT="quiet kvm-intel.tdx=0"\n'})
    before = dict(lab.files)
    assert set_(lab, TDX) and lab.line() == ["a=1", "nohibernate", "kvm_intel.tdx=1", "quiet"]
    assert not set_(lab, TDX)
    assert lab.files["/etc/default/grub"] == before["/etc/default/grub"]
    assert set_(lab, TDX, present=False) and not set_(lab, TDX, present=False)
    assert lab.files == before


def test_owners_live_side_by_side(tmp_path):
    lab = Debian(tmp_path)
    assert set_(lab, TDX) and set_(lab, wish("gpu", ["intel_iommu=on"], []))
    assert {"nohibernate", "kvm_intel.tdx=1", "intel_iommu=on", "quiet"} <= set(lab.line())
    assert set_(lab, TDX, present=False) and "nohibernate" not in lab.line() and "intel_iommu=on" in lab.line()


@pytest.mark.parametrize("at", [f"write {DROP_IN} # State: pending", "update-grub", f"write {DROP_IN} # State: applied"])
def test_a_run_that_was_killed_is_finished_by_the_next(tmp_path, at):
    lab = Debian(tmp_path)
    lab.dies_at = at
    with pytest.raises(Killed):
        set_(lab, TDX)
    lab.dies_at = ""
    assert set_(lab, TDX) and "nohibernate" in lab.line() and not set_(lab, TDX)


@pytest.mark.parametrize("at", [f"write {DROP_IN} # State: pending", "update-grub", f"remove {DROP_IN}"])
def test_taking_back_is_finished_by_the_next_run(tmp_path, at):
    lab = Debian(tmp_path)
    set_(lab, TDX)
    lab.dies_at = at
    with pytest.raises(Killed):
        set_(lab, TDX, present=False)
    lab.dies_at = ""
    assert set_(lab, TDX, present=False) and lab.line() == ["quiet"] and DROP_IN not in lab.files


def test_fewer_words_than_before_are_noticed_after_a_kill(tmp_path):
    lab = Debian(tmp_path)
    set_(lab, TDX)
    lab.dies_at = "update-grub"
    with pytest.raises(Killed):
        set_(lab, wish("tdx_host", ["nohibernate"], []))
    lab.dies_at = ""
    assert set_(lab, wish("tdx_host", ["nohibernate"], [])) and lab.line() == ["nohibernate", "quiet"]


def test_what_wins_over_us_is_named(tmp_path):
    lab = Debian(tmp_path)
    lab.files["/etc/default/grub.d/zz-other.cfg"] = 'GRUB_CMDLINE_LINUX="other"\n'
    with pytest.raises(HostError, match=r"'Linux \(vmlinuz-7.0.4-amd64\)' is without nohibernate, without kvm_intel.tdx=1") as raised:
        set_(lab, TDX)
    assert raised.value.code == "boot-loader-overridden" and "99-attested-ai-tdx_host" in str(raised.value)


def test_a_boot_loader_that_fails_is_quoted(tmp_path):
    lab = Debian(tmp_path)
    lab.update_grub = lambda: (1, "", "no space left")  # type: ignore[method-assign]
    with pytest.raises(HostError, match="update-grub ended with 1: no space left"):
        set_(lab, TDX)


def test_the_need_of_a_reboot_is_read_from_what_runs(tmp_path):
    lab = Debian(tmp_path)
    assert drop_in.plan(lab.system, TDX, True).reboot_required
    lab.files["/proc/cmdline"] += " nohibernate kvm_intel.tdx=1"
    change = drop_in.plan(lab.system, TDX, True)
    assert not change.reboot_required and change.next_kernel == "7.0.4-amd64"
    set_(lab, TDX)
    assert drop_in.plan(lab.system, TDX, False).reboot_required


def test_a_default_that_is_not_the_first_entry_is_not_guessed():
    assert drop_in.first_kernel('set default="saved"\n\tlinux /boot/vmlinuz-1 x') == ""


# grubby and /etc/default/grub, by imitations of their programs


@pytest.mark.parametrize("make", [RedHat, Suse])
def test_lines_are_edited_and_taken_back_exactly(make):
    lab = make()
    editor = edited.GRUBBY if make is RedHat else edited.GRUB_DEFAULT
    before = editor.lines(lab.system)
    assert set_(lab, TDX) and all(TDX.kept_by(words) for words in editor.lines(lab.system).values())
    assert not set_(lab, TDX)
    assert set_(lab, TDX, present=False) and not set_(lab, TDX, present=False)
    assert {entry: set(words) for entry, words in editor.lines(lab.system).items()} == {entry: set(words) for entry, words in before.items()}


@pytest.mark.parametrize("make", [RedHat, Suse])
def test_a_smaller_wish_gives_back_what_it_took(make):
    lab = make()
    editor = edited.GRUBBY if make is RedHat else edited.GRUB_DEFAULT
    set_(lab, TDX)
    assert set_(lab, wish("tdx_host", ["nohibernate"], []))
    assert all("iommu=pt" in words and "nohibernate" in words and "kvm_intel.tdx=1" not in words for words in editor.lines(lab.system).values())


@pytest.mark.parametrize(("make", "program"), [(RedHat, "grubby"), (Suse, "grub2-mkconfig")])
def test_an_edit_that_was_killed_is_finished(make, program):
    lab = make()
    editor = edited.GRUBBY if make is RedHat else edited.GRUB_DEFAULT
    before = editor.lines(lab.system)
    if make is RedHat:
        real, calls = lab.grubby, []

        def grubby(*words: str) -> str:
            calls.append(words)
            if words[0].startswith("--update"):
                raise Killed
            return real(*words)

        lab.grubby = grubby
    else:
        lab.dies_at = program
    with pytest.raises(Killed):
        set_(lab, TDX)
    lab.dies_at = ""
    if make is RedHat:
        lab.grubby = real
    assert set_(lab, TDX) and not set_(lab, TDX)
    assert set_(lab, TDX, present=False)
    assert {entry: set(words) for entry, words in editor.lines(lab.system).items()} == {entry: set(words) for entry, words in before.items()}


def test_the_rest_of_the_file_is_left_alone():
    lab = Suse()
    set_(lab, TDX)
    assert lab.files["/etc/default/grub"] == (
        '# mine\nGRUB_TIMEOUT=8\nGRUB_CMDLINE_LINUX_DEFAULT="splash=silent quiet nohibernate kvm_intel.tdx=1"\nGRUB_TERMINAL=gfxterm\n'
    )


@pytest.mark.parametrize("text", ["", "[]", '{"added": 1, "removed": [], "applied": true}', '{"added": [1], "removed": [], "applied": true}', '{"added": []}'])
def test_a_record_that_is_none_is_refused(text):
    lab = RedHat()
    lab.files[record_path("tdx_host")] = text
    with pytest.raises(HostError, match="no record of ours"):
        set_(lab, TDX)


# which boot loader


@pytest.mark.parametrize(("programs", "words"), [({"transactional-update", "grub2-mkconfig"}, "transactional-update"), (set(), "no boot loader is found")])
def test_where_nothing_is_known_to_work_nothing_is_done(programs, words):
    lab = Lab()
    lab.programs = programs
    with pytest.raises(HostError, match=words) as raised:
        loader_of(lab.system)
    assert raised.value.code == "boot-loader-unknown"


def test_grub_of_upstream_reads_no_drop_ins(tmp_path):
    lab = Debian(tmp_path)
    lab.files["/usr/sbin/grub-mkconfig"] = '. "${sysconfdir}/default/grub"\n'
    assert not drop_in.usable(lab.system)
