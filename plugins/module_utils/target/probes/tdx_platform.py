# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Facts of a TDX host that decide nothing by themselves: keys, loader, updates at run time. What cannot be read is None."""

from __future__ import annotations

import re
from typing import Any, Dict, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.target.probes.cpu import logged
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import Host, Unreadable

# The driver tdx-host of Linux 7.2, and the names that Intel's published script still uses.
_UPLOADS = ("/sys/class/firmware/tdx_module", "/sys/class/firmware/seamldr_upload")
_MODULE = ("/sys/devices/faux/tdx_host/version",)
_LOADER = ("/sys/devices/faux/tdx_host/seamldr_version", "/sys/devices/faux/tdx_host/seamldr/version")
_REMAINING = "/sys/devices/faux/tdx_host/num_remaining_updates"
_PAMT = re.compile(r"virt/tdx: (\d{1,12}) KB allocated for PAMT", re.I)


def tdx_platform(host: Host) -> Dict[str, Any]:
    """Private and other KeyIDs, what TME can do and does (``tme_bypass``: whether it can be chosen), SVN of the SEAM loader, memory of the PAMT,
    and what the driver tdx-host shows."""
    keys, activate, loader, able, base = (host.msr(number) for number in (0x87, 0x982, 0x500, 0x981, 0x1400))
    pamt = logged(host.kernel_log(), _PAMT)
    remaining = _first(host, (_REMAINING,))
    return {
        "private_keyids": None if isinstance(keys, Unreadable) else keys >> 32,
        "other_keyids": None if isinstance(keys, Unreadable) else keys & 0xFFFFFFFF,
        "most_keys": None if isinstance(able, Unreadable) else able >> 36 & 0x7FFF,
        "tme_bypass": None if isinstance(able, Unreadable) else bool(able >> 31 & 1),
        "tme_locked": None if isinstance(activate, Unreadable) else bool(activate & 1),
        "keyid_bits": None if isinstance(activate, Unreadable) else activate >> 32 & 0xF,
        "tdx_keyid_bits": None if isinstance(activate, Unreadable) else activate >> 36 & 0xF,
        # One reporter takes its lock bit for a sign that the SEAM loader ran (canonical/tdx#425); which bit that is, is not confirmed.
        "seamrr_base": None if isinstance(base, Unreadable) else "0x%x" % base,
        "seamldr_svn": None if isinstance(loader, Unreadable) else loader >> 56,
        "pamt_kib": int(pamt.group(1)) if pamt else None,
        "module_version": _first(host, _MODULE),
        "seamldr_version": _first(host, _LOADER),
        "update_node": next((path for path in _UPLOADS if host.exists(path) is True), None),
        "updates_remaining": int(remaining) if remaining and remaining.isascii() and remaining.isdigit() and len(remaining) < 10 else None,
        "kvm_sgx": _switch(host, "/sys/module/kvm_intel/parameters/sgx"),
    }


def _first(host: Host, paths: Tuple[str, ...]) -> Optional[str]:
    for path in paths:
        text = host.text(path)
        if not isinstance(text, Unreadable):
            return text[:64]
    return None


def _switch(host: Host, path: str) -> Optional[bool]:
    value = host.switch(path)
    return None if isinstance(value, Unreadable) else value
