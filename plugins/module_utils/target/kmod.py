# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Parameters of kernel modules that are loaded, and modules that can be loaded anew because nothing uses them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import Host, Unreadable

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_ASSIGNMENT = re.compile(r"[A-Za-z0-9_]{1,64}=[^\s=]{1,256}\Z")
_YES, _NO = ("y", "1", "on", "yes"), ("n", "0", "off", "no")


@dataclass(frozen=True)
class Found:
    """``wrong`` are parameters that have another value, ``unknown`` those of modules that are not loaded or do not show them, both as 'module name=value'.
    ``idle`` are modules with a wrong parameter that nothing uses, ``busy`` those that something does."""

    wrong: Tuple[str, ...]
    unknown: Tuple[str, ...]
    idle: Tuple[str, ...]
    busy: Tuple[str, ...]

    @property
    def holds(self) -> bool:
        return not self.wrong and not self.unknown


def look(host: Host, modules: Mapping[str, Sequence[str]]) -> Found:
    """Raises HostError for names that are none."""
    wrong: List[str] = []
    unknown: List[str] = []
    users: Dict[str, bool] = {}
    for module, parameters in modules.items():
        if not _NAME.match(module):
            raise HostError("%s is no name of a kernel module" % ascii(module), where="modules")
        for parameter in parameters:
            if not _ASSIGNMENT.match(parameter):
                raise HostError("%s is no name=value" % ascii(parameter), where="modules")
            name, _sign, value = parameter.partition("=")
            shown = host.text("/sys/module/%s/parameters/%s" % (module.replace("-", "_"), name))
            if isinstance(shown, Unreadable):
                unknown.append("%s %s" % (module, parameter))
            elif _plain(shown) != _plain(value):
                wrong.append("%s %s" % (module, parameter))
                count = host.text("/sys/module/%s/refcnt" % module.replace("-", "_"))
                users[module] = isinstance(count, Unreadable) or count != "0"
    return Found(tuple(wrong), tuple(unknown), tuple(m for m, used in users.items() if not used), tuple(m for m, used in users.items() if used))


def _plain(value: str) -> str:
    """Booleans have many spellings."""
    return "1" if value.lower() in _YES else "0" if value.lower() in _NO else value


def load_anew(run: Callable[[Sequence[str]], Tuple[int, str]], module: str) -> bool:
    """True if it was done, False if something began to use it meanwhile. Raises HostError where it cannot be loaded again."""
    if run(("modprobe", "--remove", module))[0] != 0:
        return False
    rc, said = run(("modprobe", module))
    if rc != 0:
        raise HostError("it was removed, and cannot be loaded again: %s" % (said.strip()[:200] or "modprobe ended with %d" % rc), where=module,
                        fix="See the kernel log; a reboot loads it with its parameters", code="module-lost")  # fmt: skip
    return True
