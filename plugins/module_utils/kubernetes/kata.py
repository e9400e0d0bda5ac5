# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is known of Kata: shims, charts, advisories. The data file beside this one, read once."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any, List, Mapping, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.findings import Findings
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.platforms import table

CONFIDENTIAL = ("snp", "tdx", "se", "peer")


class KataError(AttestedError):
    """What was given is no description of an installation of Kata, or no answer of a cluster or node."""

    default_code = "kata-invalid"


@dataclass(frozen=True)
class Shim:
    """``tee`` is snp, tdx, se, peer, none (Confidential Containers' stack without a TEE) or vm (isolation only)."""

    name: str
    tee: str
    device: str
    hypervisor: str
    rust: bool
    arches: Tuple[str, ...]
    snapshotter: str
    guest_pull: bool

    @property
    def handler(self) -> str:
        return "kata-" + self.name

    @property
    def coco(self) -> bool:
        """Whether its guests take init-data."""
        return self.tee != "vm"

    @property
    def kind(self) -> str:
        return "%s/%s" % (self.tee, self.device)


@functools.lru_cache(maxsize=None)
def shims() -> Mapping[str, Shim]:
    found = {}
    for name, row in known()["shims"].items():
        tee, _slash, device = row["kind"].partition("/")
        found[name] = Shim(name, tee, device or "cpu", row["hypervisor"], row["runtime"] == "rs", tuple(row["arches"]), row["snapshotter"], row["guest_pull"])
    return found


def known() -> Mapping[str, Any]:
    return table("kata")


def chosen(names: Any, found: Findings) -> List[Shim]:
    """The shims that are named; one that is not known is refused by its name."""
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise KataError("it is no list of names", where="shims")
    if not names:
        found.refuse("no-shim", "no shim is named, and without names the chart would enable all", "Name them, such as [qemu-snp]")
    for name in names:
        if name not in shims():
            found.refuse("unknown-shim", "the shim %s is not known" % ascii(name)[:60],
                         "Known are %s. qemu-cca was removed in Kata 4.0" % ", ".join(sorted(shims())))  # fmt: skip
    if len(set(names)) != len(names):
        found.refuse("shim-twice", "a shim is named twice", "Name each once")
    return [shims()[name] for name in names if name in shims()]


def version(text: Any, where: str) -> Tuple[int, ...]:
    """Numbers of ``4.1.0`` or ``v1.36.3+k3s1``. Raises KataError."""
    match = re.match(r"v?(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?(?![\d.])", str(text))
    if match is None:
        raise KataError("%s is no version" % ascii(text)[:60], where=where, fix="Give it as in 4.1.0")
    return tuple(int(part or 0) for part in match.groups())


def below(text: Any, limit: str, where: str = "version") -> bool:
    """Whether it is older. What comes before a release (4.3.0-rc1) counts as older than it."""
    ours, theirs = version(text, where), version(limit, where)
    return ours < theirs or (ours == theirs and re.search(r"\d-(?:alpha|beta|rc|pre|dev|test)", str(text)) is not None)


def advisories(release: str, wanted: Sequence[Shim], accepted: Any, found: Findings) -> None:
    """What is known against this release of Kata with these shims. What the user accepts, with a reason, is told instead of refused."""
    if not isinstance(accepted, Mapping) or not all(isinstance(why, str) and why.strip() for why in accepted.values()):
        raise KataError("it is no dictionary of advisories and reasons", where="accept_advisories")
    rows = {row["id"]: row for row in known()["advisories"]}
    for name in accepted:
        if name not in rows:
            raise KataError("%s is no advisory that is known here" % ascii(name)[:60], where="accept_advisories", fix="Known are %s" % ", ".join(rows))
    for row in rows.values():
        touched = [shim.name for shim in wanted if re.match("(?:%s)\\Z" % row["shims"], shim.name)]
        if not touched or not below(release, row["below"]):
            continue
        what = "Kata %s (%s): %s" % (release, ", ".join(touched), row["what"])
        if row["action"] == "refuse" and row["id"] not in accepted:
            found.refuse("advisory", "%s: %s" % (row["id"], what), "Take Kata %s or later" % row["below"], row["id"])
        else:
            found.note("%s: %s%s" % (row["id"], what, ". Accepted: %s" % accepted[row["id"]] if row["id"] in accepted else ""))
