# SPDX-License-Identifier: GPL-3.0-or-later
"""Kill kernel_cmdline before and after every single thing that it does to a machine: the next run finishes what it was told, and nothing is forgotten.

The fast half of tools/vm/interruptions.py, which does it to real machines."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.loader import loader_of
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.words import wish

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kernel_cmdline"))

from cmdline_lab import Debian, Killed, Lab, RedHat, Suse  # noqa: E402

TDX = wish("tdx_host", ["nohibernate", "kvm_intel.tdx=1"], ["iommu=pt"])
LESS = wish("tdx_host", ["nohibernate"], [])
OTHER = wish("tdx_host", ["intel_iommu=on"], ["splash"])
NONE = None
# From what was set before to what is wanted.
STEPS = [(NONE, TDX), (TDX, LESS), (LESS, TDX), (TDX, OTHER), (TDX, NONE), (OTHER, NONE)]
MOST = 12


def make(kind: str, folder: Path) -> Lab:
    lab = {"drop-in": lambda: Debian(folder), "grubby": RedHat, "edited": Suse}[kind]()
    if isinstance(lab, Suse):
        lab.grub2_mkconfig("-o", "/boot/grub2/grub.cfg")
    return lab


def go(lab: Lab, wanted, system=None) -> bool:
    """As the module does. Says whether something was to be changed."""
    plan, apply = loader_of(lab.system)
    arguments = (wanted or wish("tdx_host", [], []), wanted is not None)
    change = plan(lab.system, *arguments)
    if change.needed:
        apply(system or lab.system, *arguments)
    return change.needed


def mortal(lab: Lab, step: int, after: bool):
    """A system that ends at its ``step``-th act: before it, or right after."""
    left = [step]

    def dying(act):
        def do(*arguments):
            left[0] -= 1
            if left[0] == 0 and not after:
                raise Killed
            done = act(*arguments)
            if left[0] == 0:
                raise Killed
            return done

        return do

    real = lab.system
    return dataclasses.replace(real, write=dying(real.write), remove=dying(real.remove), run=dying(real.run))


def state(lab: Lab) -> object:
    """All that a boot loader would read. What the running kernel is to be told of is no part of it."""
    files = {path: text for path, text in lab.files.items() if not path.startswith(("/run/", "/proc/"))}
    return files, {name: sorted(words) for name, words in getattr(lab, "entries", {}).items()}


def words(lab: Lab) -> object:
    """The words alone: what is edited in place may change its order when it is undone and done again."""
    files, entries = state(lab)
    return {path: sorted(text.replace('"', " ").split()) for path, text in files.items()}, entries


@pytest.mark.parametrize("kind", ["drop-in", "grubby", "edited"])
@pytest.mark.parametrize(("first", "second"), STEPS, ids=["set", "less", "more", "other", "back", "other-back"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_at_any_step_is_made_good_by_the_next_run(kind, first, second, after, tmp_path):
    whole = make(kind, tmp_path)
    untouched = words(whole)
    if first:
        go(whole, first)
    go(whole, second)
    kills = 0
    for step in range(1, MOST):
        lab = make(kind, tmp_path)
        if first:
            go(lab, first)
        try:
            go(lab, second, mortal(lab, step, after))
        except Killed:
            kills += 1
        go(lab, second)
        assert words(lab) == words(whole), f"killed at step {step}"
        assert not go(lab, second)
        go(lab, NONE)
        assert words(lab) == untouched, f"killed at step {step}, then taken back"
    # Each run has some acts, and all of them came before the end of the loop.
    assert 2 <= kills < MOST - 1


@pytest.mark.parametrize("kind", ["drop-in", "grubby", "edited"])
def test_another_wish_after_a_kill_leaves_nothing_of_the_first(kind, tmp_path):
    for step in range(1, MOST):
        lab, whole = make(kind, tmp_path), make(kind, tmp_path)
        go(whole, OTHER)
        try:
            go(lab, TDX, mortal(lab, step, after=True))
        except Killed:
            pass
        go(lab, OTHER)
        assert words(lab) == words(whole), f"killed at step {step}"


def test_a_kill_before_the_reboot_does_not_hide_it(tmp_path):
    lab = make("drop-in", tmp_path)
    go(lab, TDX)
    lab.files["/proc/cmdline"] += " nohibernate kvm_intel.tdx=1"
    for step in range(1, MOST):
        again = make("drop-in", tmp_path)
        again.files.clear()
        again.files.update(lab.files)
        try:
            go(again, NONE, mortal(again, step, after=True))
        except Killed:
            pass
        go(again, NONE)
        plan, _apply = loader_of(again.system)
        assert plan(again.system, wish("tdx_host", [], []), False).reboot_required, f"killed at step {step}"
