# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Units of systemd, as `systemctl show` tells of them in one call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Mapping, Optional, Sequence, Union

from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import ERROR, Host, Unreadable

PROPERTIES = "Id,LoadState,ActiveState,UnitFileState"


@dataclass(frozen=True)
class Unit:
    """``id`` is another name where ``name`` is an alias; ``load`` is loaded, masked or not-found; ``file`` is enabled, disabled, masked, ... or empty."""

    name: str
    id: str
    load: str
    active: str
    file: str

    @property
    def there(self) -> bool:
        return self.load not in ("not-found", "")

    @property
    def masked(self) -> bool:
        return self.load == "masked" or self.file.startswith("masked")

    @property
    def runs(self) -> bool:
        """It runs, or it will at the next boot."""
        return self.there and not self.masked and (self.active in ("active", "activating", "reloading") or self.file.startswith("enabled"))


Units = Union[Mapping[str, Unit], Unreadable]


def show(host: Host, names: Sequence[str]) -> Units:
    """The units of these names. One that does not exist is there as not-found."""
    answer = host.command(("systemctl", "show", "--property=" + PROPERTIES) + tuple(names))
    if isinstance(answer, Unreadable):
        return answer
    if answer.rc != 0:
        return Unreadable(ERROR, "systemctl show ended with %d" % answer.rc)
    blocks = [dict(line.partition("=")[::2] for line in block.splitlines() if "=" in line) for block in answer.out.strip().split("\n\n")]
    if len(blocks) != len(names):
        return Unreadable(ERROR, "systemctl show told of %d units, not of %d" % (len(blocks), len(names)))
    # Blocks come in the order of the names. An alias has another Id than the name that was asked for.
    units: Dict[str, Unit] = {}
    for name, block in zip(names, blocks):
        units[name] = Unit(name, block.get("Id", ""), block.get("LoadState", ""), block.get("ActiveState", ""), block.get("UnitFileState", ""))
    return units


def unit(units: Units, name: str) -> Optional[Unit]:
    return None if isinstance(units, Unreadable) else units.get(name)
