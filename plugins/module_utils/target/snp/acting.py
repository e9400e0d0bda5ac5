# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Carry out what was planned with snphost, one act at a time, and look after each whether the firmware did it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.probes.cpu import Cpu, read_cpu
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import Host, Unreadable
from ansible_collections.attested.ai.plugins.module_utils.target.probes.snp_bios import product
from ansible_collections.attested.ai.plugins.module_utils.target.probes.snp_facts import sockets
from ansible_collections.attested.ai.plugins.module_utils.target.snp.platform import COMMIT, CONFIG, RESET, VLEK, Act, Change, Platform, Wish, platform_of


@dataclass(frozen=True)
class Tools:
    """What acts may touch: ``snphost`` runs it with arguments (status, output, errors); ``note`` keeps the record of this machine, whole."""

    snphost: Callable[[Sequence[str]], Tuple[int, str, str]]
    note: Callable[[Mapping[str, Any]], None]


def product_of_host(host: Host) -> str:
    """milan, genoa or turin. Raises HostError for all others."""
    cpu = read_cpu(host)
    found = product(cpu) if isinstance(cpu, Cpu) else None
    if found is None:
        name = cpu.name or cpu.vendor if isinstance(cpu, Cpu) else cpu.reason
        raise HostError("no layout of the TCB is known for this CPU (%s)" % name, where="/proc/cpuinfo", fix="Use snphost by hand", code="snp-product")
    return found.lower()


def look(host: Host) -> Platform:
    """Raises HostError."""
    status = host.sev("snp-platform-status")
    if isinstance(status, Unreadable):
        raise HostError(
            status.reason, where="/dev/sev", fix="Run as root on the host itself, with ccp loaded; attested.ai.tee_info tells more", code="snp-status"
        )
    return platform_of(status, product_of_host(host))


def chips(host: Host) -> List[str]:
    """Chip ids of all sockets; the record holds for them alone."""
    return sockets(host, product_of_host(host).capitalize())


def carry_out(host: Host, change: Change, wish: Wish, tools: Tools, record: Mapping[str, Any]) -> Tuple[Platform, bool]:
    """What there is afterwards, and whether anything was done. Raises HostError at the first act that fails; those before it are done and noted."""
    noted: Dict[str, Any] = dict(record)
    now, done = change.before, False
    if wish.commit and change.acts and change.acts[0].kind != COMMIT:
        # A lower TCB that is set to be reported now would make the next run believe that a commit is missing.
        noted.update(_committed(now, host))
        tools.note(noted)
    for act in change.acts:
        rc, out, err = tools.snphost(act.arguments)
        if rc != 0:
            raise HostError("snphost %s ended with %d: %s" % (act.arguments[0], rc, _said(err or out)), fix=_FIX[act.kind], code="snphost-failed")
        before, now = now, look(host)
        _prove(act, change, wish, now)
        # A reset changes nothing where the reported TCB is low for want of a commit.
        done = done or now != before or act.kind in (COMMIT, VLEK)
        if act.kind == COMMIT:
            noted.update(_committed(now, host))
            tools.note(noted)
        elif act.kind == VLEK:
            noted.update({"vlek_sha256": wish.vlek_digest, "chips": chips(host)})
            tools.note(noted)
    return now, done


def _committed(now: Platform, host: Host) -> Dict[str, Any]:
    return {"committed": now.firmware, "committed_tcb": now.current.to_dict(), "chips": chips(host)}


_FIX = {
    COMMIT: "See the messages of ccp in the kernel log",
    CONFIG: "The firmware takes a TCB that is at most the committed one; see also the messages of ccp in the kernel log",
    VLEK: "The hashstick must be of AMD's service, for one of these chips and for the TCB that is reported now; fetch it anew",
}


def _prove(act: Act, change: Change, wish: Wish, now: Platform) -> None:
    masks = (now.mask_chip_id, now.mask_chip_key)
    if act.kind == COMMIT:
        good = now.reported == now.current
    elif act.kind == VLEK:
        good = now.vlek
    elif wish.config == RESET:
        good = masks == (False, False)
    else:
        good = now.reported == change.after.reported and masks == (change.after.mask_chip_id, change.after.mask_chip_key)
    if not good:
        raise HostError("snphost %s ended well, and the firmware shows something else: %s" % (act.arguments[0], now.text().replace("\n", "; ").rstrip("; ")),
                        fix="Look at it by hand: snphost show tcb", code="snp-not-applied")  # fmt: skip


def _said(text: str) -> str:
    """The first lines; a stack trace follows them."""
    lines = [line.strip() for line in text.partition("Stack backtrace")[0].splitlines() if line.strip() and line.strip() != "Caused by:"]
    return "; ".join(dict.fromkeys(line.split(": ", 1)[-1] if line.lower().startswith("error: ") else line for line in lines))[:300] or "it said nothing"
