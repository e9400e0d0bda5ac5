# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Boot loaders whose settings can only be edited in place: what an owner added and took away is recorded, so that it can be taken back.

grubby edits the entries of the Boot Loader Specification (RHEL family). Without it and without a folder for drop-ins, the line in
/etc/default/grub is edited and the configuration made anew (SUSE, upstream GRUB).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Callable, Dict, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.drop_in import entries, first_kernel
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.system import Change, System
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.words import Wish, split

RECORDS = "/var/lib/attested-ai/kernel-cmdline"
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
    """``lines`` reads all command lines, by the name of their entry. ``edit`` takes words away and adds others, on all of them. ``next_kernel`` is
    the release that is started by itself, or ''. ``booted`` reads what the boot loader will use, which is not always what was edited."""

    name: str
    lines: Callable[[System], Lines]
    edit: Callable[[System, Sequence[str], Sequence[str]], None]
    next_kernel: Callable[[System], str]
    booted: Callable[[System], Lines]


@dataclass(frozen=True)
class Record:
    added: Tuple[str, ...] = ()
    removed: Tuple[str, ...] = ()
    applied: bool = True

    def undone(self, words: Sequence[str]) -> Tuple[str, ...]:
        kept = [word for word in words if word not in self.added]
        return tuple(kept + [word for word in self.removed if word not in kept])

    def text(self) -> str:
        return json.dumps({"added": self.added, "removed": self.removed, "applied": self.applied}, indent=2) + "\n"


def record_path(owner: str) -> str:
    return "%s/%s.json" % (RECORDS, owner)


def read_record(system: System, owner: str) -> Optional[Record]:
    text = system.read(record_path(owner))
    if text is None:
        return None
    try:
        data = json.loads(text)
        words = [tuple(data[key]) for key in ("added", "removed")]
        if not all(isinstance(word, str) for word in words[0] + words[1]) or not isinstance(data["applied"], bool):
            raise ValueError
        return Record(words[0], words[1], data["applied"])
    except (ValueError, KeyError, TypeError):
        raise HostError(
            "it is no record of ours", where=record_path(owner), fix="See what the kernel command line shall be, set it, and remove the file",
        ) from None  # fmt: skip


def plan(system: System, editor: Editor, wish: Wish, present: bool) -> Change:
    before, record = editor.lines(system), read_record(system, wish.owner)
    if not before:
        raise HostError("%s names no kernel" % editor.name, fix="Install a kernel first", code="boot-loader-failed")
    after = _after(before, record, wish, present)
    running = split(system.read("/proc/cmdline") or "")
    unfinished = record is not None and not record.applied
    needed = before != after or unfinished or (present == (record is None))
    reboot = not wish.kept_by(running) if present else record is not None and any(word in running for word in record.added)
    return Change(editor.name, needed, _shown(before), _shown(after), reboot, editor.next_kernel(system))


def apply(system: System, editor: Editor, wish: Wish, present: bool) -> None:
    """The record is written first: whatever happens after it, the next run knows what there was."""
    before, record = editor.lines(system), read_record(system, wish.owner)
    after = _after(before, record, wish, present)
    base = {entry: (record or Record()).undone(words) for entry, words in before.items()}
    if present:
        added = [word for word in wish.present if not all(word in words for words in base.values())]
        removed = dict.fromkeys(word for words in base.values() for word in words if wish.unwanted(word))
        # Until the edit is done the words of the record before are on the line still: both are kept, so that both can be taken back.
        old = record or Record()
        both = [tuple(dict.fromkeys([*was, *now])) for was, now in ((old.added, added), (old.removed, removed))]
        system.write(record_path(wish.owner), Record(both[0], both[1], False).text())
    gone = dict.fromkeys(word for entry in before for word in before[entry] if word not in after[entry])
    new = dict.fromkeys(word for entry in before for word in after[entry] if word not in before[entry])
    editor.edit(system, tuple(gone), tuple(new))
    if present:
        for entry, words in editor.booted(system).items():
            if not wish.kept_by(words):
                raise HostError(
                    "the entry %s is not as it was set: %s" % (ascii(entry), " ".join(words)), where=editor.name, code="boot-loader-overridden",
                    fix="See what else sets its command line, such as GRUB_CMDLINE_LINUX in %s" % DEFAULTS,
                )  # fmt: skip
        system.write(record_path(wish.owner), Record(tuple(added), tuple(removed), True).text())
    else:
        system.remove(record_path(wish.owner))


def _after(before: Lines, record: Optional[Record], wish: Wish, present: bool) -> Lines:
    base = {entry: (record or Record()).undone(words) for entry, words in before.items()}
    if not present:
        return base if record else before
    # An unchanged wish must not move words about.
    same = record is not None and set(record.added) <= set(wish.present) and all(wish.unwanted(word) for word in record.removed)
    if same and all(wish.kept_by(words) for words in before.values()):
        return before
    return {entry: wish.applied_to(words) for entry, words in base.items()}


def _shown(lines: Lines) -> str:
    return "".join("%s: %s\n" % (entry, " ".join(words)) for entry, words in lines.items())


def _grubby_lines(system: System) -> Lines:
    found: Lines = {}
    kernel = ""
    for line in system.must_run(["grubby", "--info=ALL"]).splitlines():
        key, _sign, value = line.partition("=")
        if key == "kernel":
            kernel = value.strip('"')
        elif key == "args" and kernel:
            found[kernel] = split(value[1:-1] if value.startswith('"') and value.endswith('"') else value)
    return found


def _grubby_edit(system: System, gone: Sequence[str], new: Sequence[str]) -> None:
    command = ["grubby", "--update-kernel=ALL"]
    command += ["--remove-args=%s" % " ".join(gone)] if gone else []
    command += ["--args=%s" % " ".join(new)] if new else []
    if len(command) > 2:
        system.must_run(command)


def _grubby_next(system: System) -> str:
    return system.must_run(["grubby", "--default-kernel"]).strip().rpartition("/")[2].partition("-")[2]


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


def _default_edit(system: System, gone: Sequence[str], new: Sequence[str]) -> None:
    text = _default_text(system)
    start, end, quote, value, rest = _setting(text)
    words = [word for word in split(value) if word not in gone] + list(new)
    if gone or new:
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


GRUBBY = Editor("grubby", _grubby_lines, _grubby_edit, _grubby_next, _grubby_lines)
GRUB_DEFAULT = Editor(
    "grub-default", _default_lines, _default_edit, lambda system: first_kernel(system.read(_mkconfig(system)[1]) or ""), _default_booted,
)  # fmt: skip
