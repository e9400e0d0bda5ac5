# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""GRUB where grub-mkconfig reads /etc/default/grub.d, as on Debian and Ubuntu: one file of ours for each owner, and nobody else's is touched.

The file filters what the files before it have set, and adds its own, so that taking it away gives back exactly what was there. Its second line
tells whether GRUB's configuration was made since it was written: a run that ended in between is finished by the next.
"""

from __future__ import annotations

import re
from typing import Dict, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline import leaving
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.system import Change, System
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.words import Wish, check_length, name_of, split

NAME = "grub-drop-in"
FOLDER = "/etc/default/grub.d"
CONFIG = "/boot/grub/grub.cfg"
_VARIABLES = ("GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT")
_PENDING, _APPLIED = "# State: pending\n", "# State: applied\n"
_HEAD = "# Managed by attested.ai (%s). It is sourced by grub-mkconfig, after the files before it.\n"
_TITLE = re.compile(r"""^\s*(?:menuentry|submenu)\s+(?:'([^']*)'|"([^"]*)")""")
_LINUX = re.compile(r"^\s*linux(?:efi|16)?\s+(\S+)\s*(.*)$")


def usable(system: System) -> bool:
    """grub-mkconfig of upstream does not read the folder, Debian's does: its own text tells."""
    program = system.find("grub-mkconfig")
    return bool(system.find("update-grub") and program and "default/grub.d" in (system.read(program) or ""))


def path_of(owner: str) -> str:
    return "%s/99-attested-ai-%s.cfg" % (FOLDER, owner)


def _pattern(word: str) -> str:
    """The shell's pattern for a word, or for a name with any value."""
    name, sign, value = word.partition("=")
    # In a bracket expression both stand for themselves.
    name = re.sub(r"[-_]", "[-_]", name)
    return "%s=%s" % (name, value) if sign else "%s | %s=*" % (name, name)


def text_of(wish: Wish) -> str:
    """The body of the drop-in, POSIX shell."""
    if not wish.present and not wish.absent:
        return ""
    names = dict.fromkeys(word.partition("=")[0] for word in wish.present)
    patterns = [_pattern(name) for name in names] + [_pattern(word) for word in wish.absent if name_of(word) not in [name_of(name) for name in names]]
    lines = [
        "attested_ai_filter() {",
        "  set -f",
        "  attested_ai_kept=",
        "  for attested_ai_word in $1; do",
        '    case "$attested_ai_word" in',
        *("      %s) ;;" % pattern for pattern in patterns),
        '      *) attested_ai_kept="${attested_ai_kept:+$attested_ai_kept }$attested_ai_word" ;;',
        "    esac",
        "  done",
        "  set +f",
        "}",
    ]
    for variable in _VARIABLES:
        added = " ".join(wish.present) if variable == _VARIABLES[0] else ""
        value = "${attested_ai_kept:+$attested_ai_kept }" + added if added else "$attested_ai_kept"
        lines += ['attested_ai_filter "${%s-}"' % variable, '%s="%s"' % (variable, value)]
    return "\n".join(lines) + "\n"


def entries(config: str) -> Dict[str, Tuple[str, ...]]:
    """The command line of each Linux entry of grub.cfg, by title and kernel. Recovery entries count: they boot the same kernel."""
    found: Dict[str, Tuple[str, ...]] = {}
    title = ""
    for line in config.splitlines():
        titled = _TITLE.match(line)
        if titled:
            title = titled.group(1) or titled.group(2) or ""
        booted = _LINUX.match(line)
        if booted and booted.group(1).rpartition("/")[2].startswith(("vmlinu", "kernel")):
            name = "%s (%s)" % (title, booted.group(1).rpartition("/")[2])
            # Two entries may have one title.
            found[name if name not in found else "%s, entry %d" % (name, len(found) + 1)] = split(booted.group(2))
    return found


def first_kernel(config: str) -> str:
    """Release of the kernel that grub.cfg starts without being asked; '' if its default is not simply its first entry."""
    if not re.search(r'^\s*set default="0"\s*$', config, re.MULTILINE):
        return ""
    for line in config.splitlines():
        booted = _LINUX.match(line)
        if booted:
            return booted.group(1).rpartition("/")[2].partition("-")[2]
    return ""


def plan(system: System, wish: Wish, present: bool) -> Change:
    wish = wish if present else Wish(wish.owner)
    path = path_of(wish.owner)
    before = system.read(path)
    after = _HEAD % wish.owner + _APPLIED + text_of(wish) if present else None
    config = system.read(CONFIG)
    lines = entries(config or "")
    made = bool(lines) and (not present or all(wish.kept_by(words) for words in lines.values()))
    if present:
        check_length({entry: wish.applied_to(words) for entry, words in lines.items()})
    running = split(system.read("/proc/cmdline") or "")
    changed = before != after or (present and not made)
    left = leaving.noted(system, wish.owner)
    if not changed:
        # By another hand it may still be there.
        left = tuple(word for word in left if not (lines and all(word in words for words in lines.values())))
    gone = [word for word in (*left, *_gone(system, before, wish)) if not _wanted_by_others(system, wish.owner, word)]
    reboot = (present and not wish.kept_by(running)) or any(word in running and word not in wish.present for word in gone)
    return Change(NAME, changed, _shown(before), _shown(after), reboot, first_kernel(config or ""))


def _words_of(text: str) -> Tuple[str, ...]:
    found = re.search(r'^GRUB_CMDLINE_LINUX="(?:\$\{[^}]*\})?([^"$]*)"', text, re.MULTILINE)
    return tuple(found.group(1).split()) if found else ()


def _gone(system: System, before: Optional[str], wish: Wish) -> Tuple[str, ...]:
    """Words of ours that this change takes off the line."""
    return tuple(word for word in _words_of(before or "") if word not in wish.present and not _wanted_by_others(system, wish.owner, word))


def _wanted_by_others(system: System, owner: str, word: str) -> bool:
    paths = ["%s/%s" % (FOLDER, name) for name in system.listdir(FOLDER) if name.startswith("99-attested-ai-") and name.endswith(".cfg")]
    return any(word in _words_of(system.read(path) or "") for path in paths if path != path_of(owner))


def _shown(text: object) -> str:
    return text.replace(_PENDING, _APPLIED) if isinstance(text, str) else ""


def apply(system: System, wish: Wish, present: bool) -> None:
    wish = wish if present else Wish(wish.owner)
    path = path_of(wish.owner)
    gone = _gone(system, system.read(path), wish)
    leaving.note(system, wish.owner, gone, split(system.read("/proc/cmdline") or ""), wish.present)
    body = _HEAD % wish.owner + _PENDING + (text_of(wish) if present else "")
    system.write(path, body)
    system.must_run(["update-grub"])
    if present:
        _verify(system, wish)
        system.write(path, body.replace(_PENDING, _APPLIED))
    else:
        system.remove(path)


def _verify(system: System, wish: Wish) -> None:
    lines = entries(system.read(CONFIG) or "")
    if not lines:
        raise HostError(
            "update-grub ended well, but there is no Linux entry in it", where=CONFIG, code="boot-loader-failed",
            fix="Install a kernel, or see why grub-mkconfig finds none",
        )  # fmt: skip
    for title, words in lines.items():
        if not wish.kept_by(words):
            wrong = ["without %s" % word for word in wish.missing(words)] + ["with %s" % word for word in words if wish.unwanted(word)]
            raise HostError(
                "the entry %s is %s" % (ascii(title), ", ".join(wrong)), where=CONFIG, code="boot-loader-overridden",
                fix="Something behind %s sets it: look for it in /etc/default/grub.d, /etc/grub.d and 40_custom" % path_of(wish.owner),
            )  # fmt: skip
