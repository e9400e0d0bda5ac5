# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The settings of AMD's firmware on an SEV-SNP host: what they are, what they shall be, and which runs of snphost lead there.

Pure. Facts behind it (SEV-SNP firmware ABI, and the sources of the firmware that AMD published for Genoa):

* The reported TCB is the one that was set with SNP_CONFIG, else the committed one. It can never be higher than the committed one, so that a
  reported TCB that equals the current one proves that the current one is committed. The committed TCB itself is only in reports of guests.
* A commit takes a TCB that was set back, so it comes first; and both may drop a VLEK, so that one comes last.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError, HostError
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_tcb import TcbVersion, layout_of_product
from ansible_collections.attested.ai.plugins.module_utils.target.probes.snp_firmware import status_fields

KEEP, SET, RESET = "keep", "set", "reset"
COMMIT, CONFIG, VLEK = "commit", "config", "vlek"
COMPONENTS = ("fmc", "bootloader", "tee", "snp", "microcode")


@dataclass(frozen=True)
class Platform:
    """``firmware`` is major.minor.build. ``reported`` is None where it cannot be told beforehand."""

    firmware: str
    current: TcbVersion
    reported: Optional[TcbVersion]
    mask_chip_id: bool
    mask_chip_key: bool
    vlek: bool

    def to_dict(self) -> Dict[str, Any]:
        return {
            "firmware": self.firmware,
            "current_tcb": self.current.to_dict(),
            "reported_tcb": None if self.reported is None else self.reported.to_dict(),
            "mask_chip_id": self.mask_chip_id,
            "mask_chip_key": self.mask_chip_key,
            "vlek": self.vlek,
        }

    def text(self) -> str:
        """For a diff."""
        reported = "the committed one" if self.reported is None else str(self.reported)
        flags = (("mask_chip_id", self.mask_chip_id), ("mask_chip_key", self.mask_chip_key), ("vlek", self.vlek))
        lines = ["firmware: %s" % self.firmware, "current_tcb: %s" % self.current, "reported_tcb: %s" % reported]
        return "".join(line + "\n" for line in lines + ["%s: %s" % (name, "yes" if value else "no") for name, value in flags])


@dataclass(frozen=True)
class Wish:
    """What shall be. ``tcb`` and the masks only with config=set; None leaves them as they are. ``vlek`` is a file on the machine, '' for none,
    ``vlek_digest`` its SHA-256."""

    commit: bool = False
    config: str = KEEP
    tcb: Optional[Mapping[str, Optional[int]]] = None
    mask_chip_id: Optional[bool] = None
    mask_chip_key: Optional[bool] = None
    vlek: str = ""
    vlek_digest: str = ""


@dataclass(frozen=True)
class Act:
    """One run of snphost, and why."""

    kind: str
    arguments: Tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Change:
    before: Platform
    after: Platform
    acts: Tuple[Act, ...]
    notes: Tuple[str, ...]


def platform_of(status: bytes, product: str) -> Platform:
    """From the answer to SNP_PLATFORM_STATUS. ``product`` is milan, genoa or turin. Raises HostError where nothing can be set."""
    fields = status_fields(status)
    if fields is None:
        raise HostError("the firmware's answer has %d bytes, 32 are expected" % len(status), where="/dev/sev", code="snp-status")
    major, minor, state, _flags, build, options, _guests, current, reported = fields
    if state != 1:
        raise HostError(
            "SEV-SNP is not initialized (state %d)" % state, where="/dev/sev", fix="Mend what attested.ai.tee_info finds", code="snp-not-initialized"
        )
    layout = layout_of_product(product)
    try:
        tcbs = [TcbVersion.parse(raw.to_bytes(8, "little"), layout, name) for raw, name in ((current, "current TCB"), (reported, "reported TCB"))]
    except FormatError as error:
        raise HostError(error.what, where="/dev/sev", fix="This firmware is not known: use snphost by hand", code="snp-status") from None
    return Platform("%d.%d.%d" % (major, minor, build), tcbs[0], tcbs[1], bool(options & 1), bool(options & 2), bool(options & 4))


def plan(now: Platform, wish: Wish, record: Mapping[str, Any]) -> Change:
    """``record`` is what earlier runs noted on this machine, {} for nothing. Raises HostError for a wish that cannot be fulfilled."""
    acts: List[Act] = []
    notes: List[str] = []
    after = now
    if wish.commit:
        after = _commit(now, record, acts, notes)
    if wish.config == SET:
        after = _set(after, wish, acts)
    elif wish.config == RESET:
        after = _reset(after, acts)
    if wish.vlek:
        after = _vlek(after, wish, record, acts, notes)
    return Change(now, after, tuple(acts), tuple(notes))


def _commit(now: Platform, record: Mapping[str, Any], acts: List[Act], notes: List[str]) -> Platform:
    noted = record.get("committed")
    if now.reported == now.current and noted in (None, now.firmware):
        notes.append("the firmware %s is committed: the reported TCB is the current one" % now.firmware)
        return now
    if noted == now.firmware and record.get("committed_tcb") == now.current.to_dict():
        notes.append("the firmware %s was committed before, at this TCB; a lower TCB was set to be reported since" % now.firmware)
        return now
    why = "the reported TCB is lower than the current one" if now.reported != now.current else "committed before was %s" % noted
    acts.append(Act(COMMIT, ("commit",), why))
    return replace(now, reported=now.current)


def _set(now: Platform, wish: Wish, acts: List[Act]) -> Platform:
    tcb = now.reported or now.current
    if wish.tcb is not None:
        given = {name: value for name, value in wish.tcb.items() if value is not None}
        needed = set(dict(now.current.components()))
        if set(given) != needed:
            missing, surplus = sorted(needed - set(given)), sorted(set(given) - needed)
            said = ["missing: %s" % ", ".join(missing)] if missing else []
            said += ["this CPU has no %s" % ", ".join(surplus)] if surplus else []
            raise HostError("; ".join(said), where="reported_tcb", fix="Name each component of this CPU's TCB: %s" % ", ".join(sorted(needed)), code="snp-tcb")
        if any(not 0 <= value <= 255 for value in given.values()):
            raise HostError("a component is no number from 0 to 255", where="reported_tcb", code="snp-tcb")
        tcb = TcbVersion(given.get("fmc"), given["bootloader"], given["tee"], given["snp"], given["microcode"])
        higher = now.current.below(tcb)
        if higher:
            raise HostError(
                "%s would be higher than what runs (%s)" % (", ".join(higher), now.current), where="reported_tcb",
                fix="Report at most the committed TCB; install and commit newer firmware first", code="snp-tcb",
            )  # fmt: skip
    chip_id = now.mask_chip_id if wish.mask_chip_id is None else wish.mask_chip_id
    chip_key = now.mask_chip_key if wish.mask_chip_key is None else wish.mask_chip_key
    after = replace(now, reported=tcb, mask_chip_id=chip_id, mask_chip_key=chip_key)
    if after != now:
        # BL TEE SNP UCODE MASK_CHIP [FMC]: FMC stands last, and only Turin has it.
        numbers = [tcb.bootloader, tcb.tee, tcb.snp, tcb.microcode, int(chip_id) | int(chip_key) << 1] + ([] if tcb.fmc is None else [tcb.fmc])
        acts.append(Act(CONFIG, ("config", "set", *(str(number) for number in numbers)), "the reported TCB or the masks differ"))
    return after


def _reset(now: Platform, acts: List[Act]) -> Platform:
    if now.reported == now.current and not now.mask_chip_id and not now.mask_chip_key:
        return now
    acts.append(Act(CONFIG, ("config", "reset"), "the reported TCB is not the current one, or something is masked"))
    committed = now.current if any(act.kind == COMMIT for act in acts) else None
    return replace(now, reported=committed, mask_chip_id=False, mask_chip_key=False)


def _vlek(now: Platform, wish: Wish, record: Mapping[str, Any], acts: List[Act], notes: List[str]) -> Platform:
    noted = record.get("vlek_sha256")
    if now.vlek and not acts and noted in (None, wish.vlek_digest):
        notes.append("a VLEK is loaded" + ("" if noted else "; whether it is this one, the firmware does not tell"))
        return now
    why = "none is loaded" if not now.vlek else "the settings before may drop it" if acts else "another was loaded before"
    acts.append(Act(VLEK, ("vlek-load", wish.vlek), why))
    return replace(now, vlek=True)
