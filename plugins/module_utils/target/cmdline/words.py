# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Words of a kernel command line: which are wanted, which are not, and whether a line has it so."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterable, List, Mapping, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError

# What passes unchanged through the shell that sources /etc/default/grub, through GRUB's own language and through a BLS entry.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.,:=+/@%~^-]*")
# COMMAND_LINE_SIZE of x86 and arm64 is 2048 with the closing zero. Room is left for BOOT_IMAGE=, root= and what else a boot loader puts in front.
LINE_MAX = 2047 - 191
_OWNER = re.compile(r"[a-z][a-z0-9_-]{0,40}")


def split(line: str) -> Tuple[str, ...]:
    """The words of a command line; blanks inside double quotes do not part words (kernel, lib/cmdline.c next_arg)."""
    return tuple(re.findall(r'(?:"[^"]*"?|[^\s"])+', line))


def name_of(word: str) -> str:
    """The name before the first =. The kernel takes - for _ in names of parameters."""
    return word.partition("=")[0].replace("-", "_")


@dataclass(frozen=True)
class Wish:
    """``owner`` keeps the sets of several callers apart. ``present`` are whole words; a name in it takes the place of every other value that
    it has on the line. ``absent`` are names, which go with any value, or words with =, which go as they are."""

    owner: str
    present: Tuple[str, ...] = ()
    absent: Tuple[str, ...] = ()

    def unwanted(self, word: str) -> bool:
        if word in self.present:
            return False
        name = name_of(word)
        if any(name == name_of(wanted) for wanted in self.present):
            return True
        return any(name == name_of(gone) and ("=" not in gone or word.partition("=")[2] == gone.partition("=")[2]) for gone in self.absent)

    def missing(self, words: Sequence[str]) -> Tuple[str, ...]:
        return tuple(wanted for wanted in self.present if wanted not in words)

    def kept_by(self, words: Sequence[str]) -> bool:
        """Whether a line has all that is present, and nothing that is unwanted."""
        return not self.missing(words) and not any(self.unwanted(word) for word in words)

    def applied_to(self, words: Sequence[str]) -> Tuple[str, ...]:
        """The line as it shall be: what stays keeps its order, what is new comes last."""
        kept = [word for word in words if not self.unwanted(word)]
        return tuple(kept + list(self.missing(kept)))


def check_length(lines: Mapping[str, Sequence[str]]) -> None:
    """Raises HostError for a line that a kernel would cut off: what stands at its end would be lost without a word."""
    for entry, words in lines.items():
        length = len(" ".join(words))
        if length > LINE_MAX:
            raise HostError(
                "the command line would have %d characters, at most %d are safe, as kernels cut it off" % (length, LINE_MAX), where=entry,
                code="boot-loader-line", fix="Take parameters off that nobody needs",
            )  # fmt: skip


def wish(owner: str, present: Iterable[str], absent: Iterable[str]) -> Wish:
    """Checked. Raises HostError for a word that a boot loader would read otherwise than it stands here, or that is wanted and unwanted."""
    if not _OWNER.fullmatch(owner):
        raise HostError("%s is no name: lower case letters, digits, - and _, at most 41" % ascii(owner), where="owner")
    chosen: List[Tuple[str, ...]] = []
    for option, words in (("present", present), ("absent", absent)):
        chosen.append(tuple(dict.fromkeys(words)))
        for word in chosen[-1]:
            if not _PLAIN.fullmatch(word):
                raise HostError(
                    "%s is no plain kernel parameter" % ascii(word), where=option,
                    fix="Blanks, quotes, $, ;, # and brackets mean something to boot loaders: set such a parameter by hand",
                )  # fmt: skip
    result = Wish(owner, chosen[0], chosen[1])
    for word in result.absent:
        if word in result.present or ("=" not in word and name_of(word) in [name_of(wanted) for wanted in result.present]):
            raise HostError("%s is wanted and unwanted" % word, where="absent", fix="A name in present takes the place of its other values by itself")
    return result
