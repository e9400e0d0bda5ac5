# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The resource policy of a KBS: who gets what. There is one for a whole KBS, so all grants are made into it together.

A guest gets something only if its CPU and every device in its token are affirming, if it is not the sample TEE, and if its init-data is one that the grant
names, or the grant says why it need not be.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError
from ansible_collections.attested.ai.plugins.module_utils.kbs.regotext import check, comment, one_of, rule

ANY = "*"
TEES = ("snp", "tdx", "sample")
DEVICES_MAX = 16
_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*\Z")
_DIGEST = re.compile(r"(?:[0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128}|[A-Za-z0-9+/]{43}=|[A-Za-z0-9+/]{64}|[A-Za-z0-9+/]{86}==)\Z")
_EVIDENCE = 'input.submods.cpu0["ear.veraison.annotated-evidence"]'


@dataclass(frozen=True)
class Grant:
    """``resources``: patterns repository/type/tag, with * for a whole segment but not for the first. ``init_data``: claims as the token has them."""

    name: str
    resources: Tuple[str, ...]
    init_data: Tuple[str, ...] = ()
    init_data_waiver: Optional[str] = None
    tees: Tuple[str, ...] = ("snp", "tdx")
    gpu: int = 0
    switch: int = 0

    def __post_init__(self) -> None:
        where = "grant %s" % strict.quoted(self.name)
        if not self.resources:
            raise KbsError("it names no resource", where=where, code="kbs-grant")
        for pattern in self.resources:
            parts = pattern.split("/")
            if len(parts) != 3 or parts[0] == ANY or not all(part == ANY or _SEGMENT.match(part) for part in parts):
                raise KbsError("%s is no pattern repository/type/tag (* may stand for type or tag)" % strict.quoted(pattern), where=where, code="kbs-grant")
        for digest in self.init_data:
            if not is_digest(digest):
                raise KbsError("%s is no digest of init-data" % strict.quoted(digest), where=where, code="kbs-grant")
        if not self.init_data and not self.init_data_waiver:
            raise KbsError("it pins no init-data, so that any workload on an accepted machine gets its resources", where=where,
                           fix="Give init_data, or say in init_data_waiver why not", code="kbs-grant")
        if self.init_data and self.init_data_waiver:
            raise KbsError("it pins init-data and waives it", where=where, code="kbs-grant")
        if not self.tees or any(tee not in TEES for tee in self.tees):
            raise KbsError("its TEEs are none of %s" % ", ".join(TEES), where=where, code="kbs-grant")
        if not (0 <= self.gpu <= DEVICES_MAX and 0 <= self.switch <= DEVICES_MAX):
            raise KbsError("0 to %d GPUs and switches are possible" % DEVICES_MAX, where=where, code="kbs-grant")


def resource_policy(grants: Sequence[Grant]) -> Tuple[str, List[str]]:
    """(Rego, notes). Without a grant nobody gets anything."""
    names = [grant.name for grant in grants]
    if len(set(names)) != len(names):
        raise KbsError("two grants have the same name", where="grants", code="kbs-grant")
    blocks = [
        comment("Made by attested.ai. Change the grants, and make this anew."), "package policy", "import rego.v1", "default allow := false",
        comment("Absent is not affirming: a state that is not there counts as a bad one."),
        rule("unsound", ["some submod in input.submods", 'not submod["ear.status"] == "affirming"']),
        rule("sound", ['data.plugin == "resource"', "count(data[\"resource-path\"]) == 3", 'input.submods.cpu0["ear.status"] == "affirming"', "not unsound"]),
    ]  # fmt: skip
    notes = []
    for number, grant in enumerate(grants):
        told, lines = _grant(number, grant)
        blocks += lines
        notes += told
    text = "\n\n".join(blocks) + "\n"
    check(text, ("allow",), "grants")
    return text, notes


def _grant(number: int, grant: Grant) -> Tuple[List[str], List[str]]:
    blocks, notes = [comment("Grant %s" % grant.name)], []
    for pattern in sorted(set(grant.resources)):
        lines = [
            'data["resource-path"][%d] == "%s"' % (index, part) for index, part in enumerate(pattern.split("/")) if part != ANY
        ]
        blocks.append(rule("path_%d" % number, lines))
    for tee in sorted(set(grant.tees)):
        blocks.append(rule("tee_%d" % number, [_EVIDENCE + "." + tee]))
    asked = ["sound", "path_%d" % number, "tee_%d" % number]
    if "sample" in grant.tees:
        notes.append("grant %s: the sample TEE is accepted, everybody can make its evidence" % grant.name)
    else:
        asked.append("not %s.sample" % _EVIDENCE)
    for kind, count in (("gpu", grant.gpu), ("switch", grant.switch)):
        asked += ['input.submods.%s%d["ear.status"] == "affirming"' % (kind, index) for index in range(count)]
    if grant.init_data:
        asked.append(one_of(_EVIDENCE + ".init_data", grant.init_data))
    else:
        blocks.append(comment("Init-data is not pinned: %s" % grant.init_data_waiver))
        notes.append("grant %s: init-data is not pinned (%s)" % (grant.name, grant.init_data_waiver))
    return notes, blocks + [rule("allow", asked)]


def is_digest(text: str) -> bool:
    """Whether it has the form of a claim init_data: hexadecimal, or base64 as of the sample TEE."""
    return _DIGEST.match(text) is not None
