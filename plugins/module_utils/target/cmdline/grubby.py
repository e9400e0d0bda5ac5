# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""grubby, which edits the entries of the Boot Loader Specification (RHEL family).

Its ways, as read in the script of its package and tried: an argument that is added takes away all others of its name; one that is taken away without a
value goes with any; what is taken away is a pattern, in which + and ^ are no letters, and goes once. --update-kernel=ALL also sets what kernels get
that are installed later.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.system import System
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.words import split

Lines = Dict[str, Tuple[str, ...]]


def lines(system: System) -> Lines:
    """The command line of each entry. Two entries may start the same kernel."""
    found: Lines = {}
    kernel = index = ""
    for line in system.must_run(["grubby", "--info=ALL"]).splitlines():
        key, _sign, value = line.partition("=")
        if key == "index":
            index, kernel = value, ""
        elif key == "kernel":
            kernel = value.strip('"')
        elif key == "args" and kernel:
            name = kernel if kernel not in found else "%s (entry %s)" % (kernel, index)
            found[name] = split(value[1:-1] if value.startswith('"') and value.endswith('"') else value)
    return found


def command(before: Mapping[str, Sequence[str]], after: Mapping[str, Sequence[str]]) -> List[str]:
    """What turns each of the lines ``before`` into the one ``after``; empty where nothing does."""
    gone = dict.fromkeys(word for entry in before for word in before[entry] if word not in after[entry])
    new = dict.fromkeys(word for entry in before for word in after[entry] if word not in before[entry])
    # Names all of whose values have to be given, because one is added or cannot be taken away by itself.
    whole = dict.fromkeys(_name(word) for word in new)
    away: List[str] = []
    for word in gone:
        if _name(word) in whole:
            continue
        if "=" in word and not any(char in word for char in "+^*\\[]$.?(){}|&") and not any(list(words).count(word) > 1 for words in before.values()):
            away.append(word)
        else:
            whole[_name(word)] = None
    added: List[str] = []
    for name in whole:
        if any(char in name for char in "+^*\\[]$?(){}|&"):
            raise HostError(
                "grubby takes the name %s for a pattern" % ascii(name), code="boot-loader-unknown", fix="Set this parameter by hand",
            )  # fmt: skip
        words = dict.fromkeys(word for entry in after for word in after[entry] if _name(word) == name)
        added += words
        away += [] if words else [name]
    options = ["--remove-args=%s" % " ".join(away)] if away else []
    options += ["--args=%s" % " ".join(added)] if added else []
    return ["grubby", "--update-kernel=ALL", *options] if options else []


def edit(system: System, before: Mapping[str, Sequence[str]], after: Mapping[str, Sequence[str]]) -> None:
    argv = command(before, after)
    if argv:
        system.must_run(argv)


def next_kernel(system: System) -> str:
    return system.must_run(["grubby", "--default-kernel"]).strip().rpartition("/")[2].partition("-")[2]


def _name(word: str) -> str:
    return word.partition("=")[0]
