# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Boot loaders whose settings can only be edited in place: what an owner added and took away is recorded, so that it can be taken back.

grubby edits the entries of the Boot Loader Specification (RHEL family). Without it and without a folder for drop-ins, the line in
/etc/default/grub is edited and the configuration made anew (SUSE, upstream GRUB).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Callable, Dict, Mapping, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline import grubby, leaving
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.drop_in import entries, first_kernel
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.records import Record, read_others, read_record, record_path
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.system import Change, System
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.words import Wish, check_length, split

DEFAULTS = "/etc/default/grub"
# Whatever sets the variable; the last one counts. Only one quoted value can be edited without a shell.
_SETTING = re.compile(r"^[ \t]*(?:export[ \t]+)?GRUB_CMDLINE_LINUX_DEFAULT\+?=.*$", re.MULTILINE)
_PLAIN_SETTING = re.compile(
    r"""GRUB_CMDLINE_LINUX_DEFAULT=(?:"(?P<double>(?:\\.|[^"\\])*)"|'(?P<single>[^']*)'|(?P<bare>[^\s"'#;$`\\&|<>()]*))"""
    r"""(?P<rest>[ \t]*|[ \t]+\#.*)"""
)
Lines = Dict[str, Tuple[str, ...]]


@dataclass(frozen=True)
class Editor:
    """``lines`` reads all command lines, by the name of their entry. ``edit`` turns them into others. ``next_kernel`` is
    the release that is started by itself, or ''. ``booted`` reads what the boot loader will use, which is not always what was edited."""

    name: str
    lines: Callable[[System], Lines]
    edit: Callable[[System, Mapping[str, Sequence[str]], Mapping[str, Sequence[str]]], None]
    next_kernel: Callable[[System], str]
    booted: Callable[[System], Lines]


def plan(system: System, editor: Editor, wish: Wish, present: bool) -> Change:
    wish = wish if present else Wish(wish.owner)
    before, record, others = editor.lines(system), read_record(system, wish.owner), read_others(system, wish.owner)
    if not before:
        raise HostError("%s names no kernel" % editor.name, fix="Install a kernel first", code="boot-loader-failed")
    after = _after(before, record, others, wish, present)
    if present:
        check_length(after)
    running = split(system.read("/proc/cmdline") or "")
    unfinished = record is not None and not record.applied
    # A record that does not know the whole wish could not defend it against other owners.
    known = record is not None and (record.present, record.absent) == (wish.present, wish.absent)
    needed = before != after or unfinished or (not known if present else record is not None)
    gone = [word for word in (*leaving.noted(system, wish.owner), *(record or Record()).added) if not any(word in words for words in after.values())]
    reboot = (present and not wish.kept_by(running)) or any(word in running for word in gone)
    return Change(editor.name, needed, _shown(before), _shown(after), reboot, editor.next_kernel(system))


def apply(system: System, editor: Editor, wish: Wish, present: bool) -> None:
    """The record is written first: whatever happens after it, the next run knows what there was."""
    wish = wish if present else Wish(wish.owner)
    before, record, others = editor.lines(system), read_record(system, wish.owner), read_others(system, wish.owner)
    after = _after(before, record, others, wish, present)
    old = record or Record()
    base = {entry: old.undone(words, others) for entry, words in before.items()}
    gone = [word for word in old.added if not any(word in words for words in after.values())]
    leaving.note(system, wish.owner, gone, split(system.read("/proc/cmdline") or ""), wish.present)
    for owner, heir in old.heirs(others, wish).items():
        system.write(record_path(owner), heir.text())
    if present:
        added = [word for word in wish.present if word in old.added or not all(word in words for words in base.values())]
        found = [word for words in base.values() for word in words]
        removed = dict.fromkeys(word for word in (*old.removed, *found) if wish.unwanted(word))
        # Until the edit is done the words of the record before are on the line still: both are kept, so that both can be taken back.
        both = [tuple(dict.fromkeys([*was, *now])) for was, now in ((old.added, added), (old.removed, removed))]
        system.write(record_path(wish.owner), Record(both[0], both[1], False, wish.present, wish.absent).text())
    editor.edit(system, before, after)
    if present:
        for entry, words in editor.booted(system).items():
            if not wish.kept_by(words):
                raise HostError(
                    "the entry %s is not as it was set: %s" % (ascii(entry), " ".join(words)), where=editor.name, code="boot-loader-overridden",
                    fix="See what else sets its command line, such as GRUB_CMDLINE_LINUX in %s" % DEFAULTS,
                )  # fmt: skip
        system.write(record_path(wish.owner), Record(tuple(added), tuple(removed), True, wish.present, wish.absent).text())
    else:
        for entry, words in editor.lines(system).items():
            stuck = [word for word in gone if word in words]
            if stuck:
                raise HostError(
                    "the entry %s still has %s" % (ascii(entry), " ".join(stuck)), where=editor.name, code="boot-loader-failed",
                    fix="Take it off by hand, and run the task again",
                )  # fmt: skip
        system.remove(record_path(wish.owner))


def _after(before: Lines, record: Optional[Record], others: Mapping[str, Record], wish: Wish, present: bool) -> Lines:
    base = {entry: (record or Record()).undone(words, others) for entry, words in before.items()}
    if not present:
        return base if record else before
    # An unchanged wish must not move words about.
    same = record is not None and set(record.added) <= set(wish.present) and all(wish.unwanted(word) for word in record.removed)
    if same and all(wish.kept_by(words) for words in before.values()):
        return before
    return {entry: wish.applied_to(words) for entry, words in base.items()}


def _shown(lines: Lines) -> str:
    return "".join("%s: %s\n" % (entry, " ".join(words)) for entry, words in lines.items())


def _default_text(system: System) -> str:
    text = system.read(DEFAULTS)
    if text is None:
        raise HostError("the file is missing", where=DEFAULTS, fix="Install GRUB, or set the kernel command line by hand")
    return text


def _setting(text: str) -> Tuple[int, int, str, str, str]:
    """Where the line stands (start and end), its quote, its value and what follows it."""
    last = None
    for last in _SETTING.finditer(text):
        pass
    if last is None:
        return len(text), len(text), '"', "", ""
    found = _PLAIN_SETTING.fullmatch(last.group())
    if not found:
        raise HostError(
            "GRUB_CMDLINE_LINUX_DEFAULT is not one quoted value on one line", where=DEFAULTS, code="boot-loader-unknown",
            fix="Write it as GRUB_CMDLINE_LINUX_DEFAULT=\"...\" and run the task again",
        )  # fmt: skip
    quote = "'" if found.group("single") is not None else '"'
    value = found.group("double") or found.group("single") or found.group("bare") or ""
    return last.start(), last.end(), quote, value, found.group("rest")


def _default_lines(system: System) -> Lines:
    return {DEFAULTS: split(_setting(_default_text(system))[3])}


def _default_edit(system: System, before: Mapping[str, Sequence[str]], after: Mapping[str, Sequence[str]]) -> None:
    text = _default_text(system)
    start, end, quote, value, rest = _setting(text)
    words = [word for word in split(value) if word in after[DEFAULTS]] + [word for word in after[DEFAULTS] if word not in before[DEFAULTS]]
    if tuple(before[DEFAULTS]) != tuple(after[DEFAULTS]):
        line = "GRUB_CMDLINE_LINUX_DEFAULT=%s%s%s%s" % (quote, " ".join(words), quote, rest)
        alone = start == len(text)
        system.write(DEFAULTS, text.rstrip("\n") + "\n" + line + "\n" if alone else text[:start] + line + text[end:])
    program, config = _mkconfig(system)
    system.must_run([program, "-o", config])


def _default_booted(system: System) -> Lines:
    """What grub.cfg has. Entries for recovery do not use the line that is edited."""
    config = _mkconfig(system)[1]
    found = {title: words for title, words in entries(system.read(config) or "").items() if "(recovery mode)" not in title}
    if not found:
        raise HostError(
            "there is no Linux entry in it after it was made", where=config, code="boot-loader-failed",
            fix="Install a kernel; where entries of the Boot Loader Specification are used, set the parameters in /etc/kernel/cmdline by hand",
        )  # fmt: skip
    return found


def _mkconfig(system: System) -> Tuple[str, str]:
    """The program and the file that it makes."""
    return ("grub2-mkconfig", "/boot/grub2/grub.cfg") if system.find("grub2-mkconfig") else ("grub-mkconfig", "/boot/grub/grub.cfg")


GRUBBY = Editor("grubby", grubby.lines, grubby.edit, grubby.next_kernel, grubby.lines)
GRUB_DEFAULT = Editor(
    "grub-default", _default_lines, _default_edit, lambda system: first_kernel(system.read(_mkconfig(system)[1]) or ""), _default_booted,
)  # fmt: skip
