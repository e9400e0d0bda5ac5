# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether whoever runs QEMU may lock the memory of a guest. QEMU's limit is that of the login or the service that starts it, so all three are read."""

from __future__ import annotations

import re
from typing import List, Tuple, Union

from ansible_collections.attested.ai.plugins.module_utils.target.probes.cpu import cannot_read
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import ABSENT, Host, Unreadable
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import Probe, Question

MEMLOCK = Question(
    "common.memlock",
    "kernel",
    "this login, a user, a group or a service may lock memory without limit",
    "/proc/self/limits, /etc/security/limits.d, systemctl show",
    "Write '@kvm - memlock unlimited' (or the user who runs QEMU) to a file in /etc/security/limits.d and log in again; for a service "
    "set LimitMEMLOCK=infinity. The roles tdx_host and snp_host do both",
)
LIMITS = "/etc/security/limits.conf"
LIMITS_D = "/etc/security/limits.d"
SERVICES = ("virtqemud.service", "libvirtd.service", "containerd.service", "crio.service")
SYSTEMCTL = ("systemctl", "show", "--property=Id,LoadState,LimitMEMLOCK", *SERVICES)
_RULE = re.compile(r"^\s*(\S+)\s+(?:-|hard|soft)\s+memlock\s+(\S+)", re.MULTILINE)
_WITHOUT_LIMIT = ("unlimited", "infinity", "-1")


def probe_memlock(host: Host) -> Probe:
    own = host.text("/proc/self/limits")
    match = None if isinstance(own, Unreadable) else re.search(r"^Max locked memory\s+(\S+)", own, re.MULTILINE)
    if match and match.group(1) == "unlimited":
        return MEMLOCK.passed("unlimited for this login", "/proc/self/limits")
    (users, hidden), services = _users(host), _services(host)
    if users or services:
        return MEMLOCK.passed("unlimited for %s" % ", ".join(users + services), LIMITS_D if users else "systemctl show")
    if isinstance(own, Unreadable):
        return cannot_read(MEMLOCK, own)
    if hidden is not None:
        return cannot_read(MEMLOCK, hidden)
    return MEMLOCK.failed("%s bytes for this login, and no rule or service lifts it" % (match.group(1) if match else "an unknown number of"))


def _users(host: Host) -> Tuple[List[str], Union[Unreadable, None]]:
    """Who the rules of pam_limits name, and why they could not be read, if that is so. A later rule of the same name wins."""
    names = host.listdir(LIMITS_D)
    hidden = names if isinstance(names, Unreadable) and names.kind != ABSENT else None
    found = {}
    for path in [LIMITS] + ["%s/%s" % (LIMITS_D, name) for name in (() if isinstance(names, Unreadable) else names) if name.endswith(".conf")]:
        text = host.text(path)
        if isinstance(text, Unreadable):
            hidden = hidden or (text if text.kind != ABSENT else None)
            continue
        for who, value in _RULE.findall(text):
            if not who.startswith("#"):
                found[who] = value in _WITHOUT_LIMIT
    return [ascii(who)[1:-1] for who, unlimited in found.items() if unlimited], hidden


def _services(host: Host) -> List[str]:
    answer = host.command(SYSTEMCTL)
    if isinstance(answer, Unreadable):
        return []
    found = []
    for block in answer.out.split("\n\n"):
        unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if unit.get("LoadState") == "loaded" and unit.get("LimitMEMLOCK") == "infinity" and unit.get("Id") in SERVICES:
            found.append(unit["Id"])
    return found
