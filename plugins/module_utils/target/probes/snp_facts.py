# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Facts of an SEV-SNP host that decide nothing by themselves: what the kernel set up, and which certificates of its chips can be asked for.

Chip ids come from the command GET_ID of AMD's firmware, which gives 64 bytes for each of one or two sockets when asked for both. Only the first
eight of them count on Turin. All of it is a claim of the host; a certificate proves itself.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_tcb import TcbVersion, layout_of_product
from ansible_collections.attested.ai.plugins.module_utils.target.probes.cpu import logged
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import Host, Unreadable
from ansible_collections.attested.ai.plugins.module_utils.target.probes.snp_bios import RMP_RANGE
from ansible_collections.attested.ai.plugins.module_utils.target.probes.snp_firmware import status_fields
from ansible_collections.attested.ai.plugins.module_utils.target.probes.snp_generations import TURIN

SOCKET = 64
# KVM_X86_GRP_SEV and KVM_X86_SEV_VMSA_FEATURES; bit 9 of the features is Secure TSC.
_VMSA_FEATURES = (1, 0)
_ASIDS = re.compile(r"(?:kvm_amd: )?SEV(-ES|-SNP)? enabled \(ASIDs (\d{1,6}) - (\d{1,6})\)")
_OLD_ASIDS = re.compile(r"\b(SEV(?:-ES and SEV-SNP)?) supported: (\d{1,6}) ASIDs")
_UPDATED = re.compile(r"SEV firmware updated from (\d[\d.]{0,20}) to (\d[\d.]{0,20})")


def snp_kernel(host: Host) -> Dict[str, Any]:
    """``asids`` are numbers of ASIDs by kind of guest, as far as the kernel says; ``firmware_updated`` is what ccp loaded from a file at this boot."""
    log = host.kernel_log()
    table, updated, features = logged(log, RMP_RANGE), logged(log, _UPDATED), host.kvm_attribute(*_VMSA_FEATURES)
    return {
        "rmp_table": table.group(1) if table else None,
        "asids": {} if isinstance(log, Unreadable) else _asids(log.lines),
        "firmware_updated": {"from": updated.group(1), "to": updated.group(2)} if updated else None,
        "kvm_secure_tsc": None if isinstance(features, Unreadable) else bool(features >> 9 & 1),
    }


def _asids(lines: Any) -> Dict[str, int]:
    found: Dict[str, int] = {}
    for line in lines:
        new, old = _ASIDS.search(line), _OLD_ASIDS.search(line)
        if new:
            found["sev" + (new.group(1) or "").lower().replace("-", "_")] = max(0, int(new.group(3)) - int(new.group(2)) + 1)
        elif old:
            for name in ("sev",) if old.group(1) == "SEV" else ("sev_es", "sev_snp"):
                found[name] = int(old.group(2))
    return found


def sockets(host: Host, product: Optional[str]) -> List[str]:
    """Chip ids, hexadecimal, as AMD's key distribution service wants them. A socket that is not there, or an id that is all zeros, is left out."""
    data = host.sev("get-id")
    if isinstance(data, Unreadable) or len(data) not in (SOCKET, 2 * SOCKET):
        return []
    ids = [data[start : start + SOCKET] for start in range(0, len(data), SOCKET)]
    return [(chip[:8] if product == TURIN else chip).hex() for chip in ids if any(chip)]


def snp_vceks(host: Host, product: Optional[str]) -> List[Dict[str, Any]]:
    """For M(attested.ai.collateral), option ``amd``: product, chip_id and tcb of every certificate that reports of this host need now (the reported
    TCB) or after a reset of the reported one (the current TCB)."""
    fields = status_fields(host.sev("snp-platform-status"))
    if fields is None or product is None:
        return []
    tcbs: List[Dict[str, int]] = []
    for raw in (fields[8], fields[7]):
        try:
            tcb = TcbVersion.parse(raw.to_bytes(8, "little"), layout_of_product(product.lower())).to_dict()
        except FormatError:
            continue  # a TCB of another layout names no certificate
        if tcb not in tcbs:
            tcbs.append(tcb)
    return [{"product": product.lower(), "chip_id": chip, "tcb": tcb} for chip in sockets(host, product) for tcb in tcbs]
