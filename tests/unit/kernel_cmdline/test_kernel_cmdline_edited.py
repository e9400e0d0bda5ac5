# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings that are edited in place: runs killed in between, what wins over us, and lines that other people wrote."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline import edited
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.loader import loader_of
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.records import record_path
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.words import wish

sys.path.insert(0, str(Path(__file__).resolve().parent))

from cmdline_lab import ENTRY, Killed, Lab, RedHat, Suse  # noqa: E402

TDX = wish("tdx_host", ["nohibernate", "kvm_intel.tdx=1"], ["iommu=pt"])
SMALLER = wish("tdx_host", ["nohibernate"], [])
DEFAULTS = "/etc/default/grub"


def run(lab: Lab, wanted, present: bool = True) -> bool:
    plan, apply = loader_of(lab.system)
    change = plan(lab.system, wanted, present)
    if change.needed:
        apply(lab.system, wanted, present)
    return change.needed


def editor_of(lab: Lab) -> edited.Editor:
    return edited.GRUBBY if isinstance(lab, RedHat) else edited.GRUB_DEFAULT


def words_of(lab: Lab) -> dict:
    return {entry: set(words) for entry, words in editor_of(lab).lines(lab.system).items()}


def kill(lab: Lab, wanted, present: bool = True) -> None:
    """End the run right after its record, before anything is edited."""
    write, edit_grub, record = lab._write, lab._run, record_path("tdx_host")
    armed = []

    def dying_write(path: str, text: str) -> None:
        if armed or (path == DEFAULTS and not present):
            raise Killed
        write(path, text)
        armed.extend([path] if path == record else [])

    def dying_run(argv):
        if any(word.startswith("--update") for word in argv):
            raise Killed
        return edit_grub(argv)

    plan, apply = loader_of(lab.system)
    system = type(lab.system)(lab.files.get, lab._listdir, dying_write, lab._remove, dying_run, lab._find)
    with pytest.raises(Killed):
        apply(system, wanted, present)


@pytest.mark.parametrize("make", [RedHat, Suse])
@pytest.mark.parametrize("first", [TDX, SMALLER], ids=["to-less", "to-more"])
def test_another_wish_that_was_killed_forgets_nothing(make, first):
    lab = make()
    before = words_of(lab)
    second = SMALLER if first is TDX else TDX
    run(lab, first)
    kill(lab, second)
    assert run(lab, second) and not run(lab, second)
    expected = make()
    run(expected, second)
    assert words_of(lab) == words_of(expected)
    assert run(lab, second, present=False) and words_of(lab) == before


@pytest.mark.parametrize("make", [RedHat, Suse])
def test_another_wish_that_was_killed_can_be_taken_back(make):
    lab = make()
    before = words_of(lab)
    run(lab, TDX)
    kill(lab, SMALLER)
    assert run(lab, TDX, present=False) and words_of(lab) == before


@pytest.mark.parametrize("made", ["other", "other nohibernate kvm_intel.tdx=1 iommu=pt"], ids=["without", "with-the-unwanted"])
def test_what_wins_over_the_line_is_told_by_every_run(made):
    lab = Suse()
    lab.grub2_mkconfig = lambda _option, path: lab.files.__setitem__(path, ENTRY % (made, made))  # type: ignore[method-assign]
    for _time in range(2):
        with pytest.raises(HostError) as raised:
            run(lab, TDX)
        assert raised.value.code == "boot-loader-overridden"


def test_a_configuration_without_entries_is_not_taken_for_good():
    lab = Suse()
    lab.grub2_mkconfig = lambda _option, path: lab.files.__setitem__(path, "blscfg\n")  # type: ignore[method-assign]
    with pytest.raises(HostError, match="no Linux entry"):
        run(lab, TDX)


def test_entries_for_recovery_do_not_use_the_line():
    lab = Suse()
    real = lab.grub2_mkconfig

    def with_recovery(option: str, path: str) -> None:
        real(option, path)
        lab.files[path] += "menuentry 'Linux, with Linux 7.0 (recovery mode)' {\n\tlinux /boot/vmlinuz-7.0 ro single\n}\n"

    lab.grub2_mkconfig = with_recovery  # type: ignore[method-assign]
    assert run(lab, TDX) and not run(lab, TDX)


@pytest.mark.parametrize(
    ("line", "after"),
    [
        ('"quiet" # "mine"', '"quiet nohibernate" # "mine"'),
        ("'quiet $x'", "'quiet $x nohibernate'"),
        ('"quiet dyndbg=\\"file x +p\\""', '"quiet dyndbg=\\"file x +p\\" nohibernate"'),
        ("quiet", '"quiet nohibernate"'),
        ("", '"nohibernate"'),
        ('""', '"nohibernate"'),
    ],
)
def test_the_line_keeps_its_quotes_and_its_comment(line, after):
    lab = Suse()
    lab.files[DEFAULTS] = f"GRUB_CMDLINE_LINUX_DEFAULT={line}\n"
    lab.grub2_mkconfig = lambda _option, path: lab.files.__setitem__(path, ENTRY % ("nohibernate", "nohibernate"))  # type: ignore[method-assign]
    run(lab, SMALLER)
    assert lab.files[DEFAULTS] == f"GRUB_CMDLINE_LINUX_DEFAULT={after}\n"


def test_the_last_of_two_lines_counts():
    lab = Suse()
    lab.files[DEFAULTS] = 'GRUB_CMDLINE_LINUX_DEFAULT="a"\nGRUB_CMDLINE_LINUX_DEFAULT="b"\n'
    run(lab, SMALLER)
    assert lab.files[DEFAULTS] == 'GRUB_CMDLINE_LINUX_DEFAULT="a"\nGRUB_CMDLINE_LINUX_DEFAULT="b nohibernate"\n'


@pytest.mark.parametrize("line", ['"a \\\nb"', "a\"b\"'c'", '"a" b', '"a"; x=1', "'a'\"b\""])
def test_a_line_that_only_a_shell_can_read_is_left_alone(line):
    lab = Suse()
    text = lab.files[DEFAULTS] = f"GRUB_CMDLINE_LINUX_DEFAULT={line}\n"
    with pytest.raises(HostError, match="one quoted value"):
        run(lab, SMALLER)
    assert lab.files[DEFAULTS] == text and not lab.ran
