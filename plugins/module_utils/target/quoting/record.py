# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What was decided about a platform's registration and how far it came. One such document lies on the machine and one on the controller."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any, Dict, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError

SCHEMA = "attested.ai/tdx-registration/1"
DIRECT = ("direct_automatic", "direct_manual")
INDIRECT = ("indirect_pccs", "indirect_offline", "indirect_local_cache")
VARIANTS = DIRECT + INDIRECT
# What is noted as done, in the order of the act.
AGENT, REGISTER, COLLECT, DELIVER, LIST = "agent", "register", "collect", "deliver", "list"
ACTS: Dict[str, Tuple[str, ...]] = {
    "direct_automatic": (AGENT,),
    # Sent before the tool takes it: what the service refuses has not been used up.
    "direct_manual": (REGISTER, COLLECT),
    "indirect_pccs": (COLLECT, DELIVER),
    "indirect_offline": (COLLECT, LIST),
    "indirect_local_cache": (COLLECT, LIST),
}
_DIGEST = re.compile(r"(?:[0-9a-f]{64})?\Z", re.ASCII)
_IDENTITY = re.compile(r"[0-9a-f]{4}(?:[0-9a-f]{28})?\Z", re.ASCII)
_IDENTITY_NAMES = ("qe_id", "pce_id", "cpu_svn", "pce_svn")


@dataclass(frozen=True)
class Record:
    """``manifest`` is the SHA-256 of the manifest that it is about, ``previous`` those of registrations before; ``ppid`` is Intel's answer,
    ``collateral`` the digest of the file that was given to PCCS."""

    variant: str
    manifest: str = ""
    done: Tuple[str, ...] = ()
    identity: Mapping[str, str] = field(default_factory=dict)
    ppid: str = ""
    previous: Tuple[str, ...] = ()
    collateral: str = ""

    @property
    def missing(self) -> Tuple[str, ...]:
        return tuple(act for act in ACTS[self.variant] if act not in self.done)

    def with_done(self, act: str) -> "Record":
        return self if act in self.done else replace(self, done=self.done + (act,))

    def to_dict(self) -> Dict[str, Any]:
        return {
            "schema": SCHEMA,
            "variant": self.variant,
            "manifest": self.manifest,
            "done": list(self.done),
            "identity": dict(self.identity),
            "ppid": self.ppid,
            "previous": list(self.previous),
            "collateral": self.collateral,
        }

    def text(self) -> str:
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"


def parse(text: str, where: str = "") -> Record:
    """Raises FormatError: a record that cannot be read must not look like none."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA or set(document) != set(Record("").to_dict()):
        raise _wrong(where, "it is no record of the schema %s" % SCHEMA)
    variant, done, identity = document["variant"], document["done"], document["identity"]
    if variant not in VARIANTS:
        raise _wrong(where, "variant is %s" % ascii(variant)[:60])
    if not _digests([document["manifest"], document["collateral"]]) or not isinstance(document["previous"], list) or not _digests(document["previous"]):
        raise _wrong(where, "a digest in it is none")
    if not isinstance(done, list) or any(act not in (AGENT, REGISTER, COLLECT, DELIVER, LIST) for act in done):
        raise _wrong(where, "done is %s" % ascii(done)[:100])
    if not isinstance(identity, dict) or any(name not in _IDENTITY_NAMES or not _text(value, _IDENTITY) for name, value in identity.items()):
        raise _wrong(where, "identity is not as it must be")
    if not (document["ppid"] == "" or _text(document["ppid"], _IDENTITY)):
        raise _wrong(where, "ppid is not as it must be")
    return Record(variant, document["manifest"], tuple(done), identity, document["ppid"], tuple(document["previous"]), document["collateral"])


def merged(here: Optional[Record], there: Optional[Record], confirmed: str = "") -> Optional[Record]:
    """The further one of the machine's and the controller's. Where a machine was installed anew the controller's is left, and the other way round.
    ``confirmed`` is the choice that is confirmed anew: a run that changed to it may have ended before the machine knew, and is judged once more."""
    if here is None or there is None:
        return here or there
    if here.variant != there.variant:
        if there.variant == confirmed and here.manifest in (there.manifest, *there.previous):
            return here
        raise FormatError(
            "the machine's record says %s, the controller's %s" % (here.variant, there.variant), where="registration",
            fix="Find out which one is true, and remove the other", code="record-conflict",
        )  # fmt: skip
    if here.manifest == there.manifest:
        return here if len(here.done) >= len(there.done) else there
    if here.manifest in there.previous:
        return there
    if there.manifest in here.previous:
        return here
    raise FormatError(
        "the machine's record and the controller's are about different manifests", where="registration",
        fix="Is it the same machine? Find out which one is true, and remove the other", code="record-conflict",
    )  # fmt: skip


def _digests(values: Any) -> bool:
    return all(_text(value, _DIGEST) for value in values)


def _text(value: Any, pattern: "re.Pattern[str]") -> bool:
    return isinstance(value, str) and pattern.match(value) is not None


def _wrong(where: str, what: str) -> FormatError:
    fix = "Put it back from the controller's copy, or the other way round. Do not remove both: they say which registration was chosen"
    return FormatError(what, where=where, fix=fix, code="record-invalid")
