# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A guest's operating system as a whole: does it keep what the TEE protects? All of it is a claim of the guest."""

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible_collections.attested.ai.plugins.module_utils.target.guest_os import agents, evidence, plain_memory, sources, ssh, storage
from ansible_collections.attested.ai.plugins.module_utils.target.guest_os.cloud import cloud
from ansible_collections.attested.ai.plugins.module_utils.target.guest_os.units import show, unit
from ansible_collections.attested.ai.plugins.module_utils.target.probes.cpu import read_cpu
from ansible_collections.attested.ai.plugins.module_utils.target.probes.guest import guest_tee
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import Host, Unreadable
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import OUTCOMES
from ansible_collections.attested.ai.plugins.module_utils.target.probes.survey import verdict

UNITS = agents.ALL_UNITS + sources.TIME_UNITS + plain_memory.KDUMP_UNITS + (plain_memory.SWAP_TARGET, evidence.CONFIGFS_UNIT)


def look(host: Host, server: Optional[ssh.Ssh]) -> Dict[str, Any]:
    """``server`` is what ssh.look() found."""
    cpu, units = read_cpu(host), show(host, UNITS)
    where, tee = cloud(host), guest_tee(host, cpu)
    driver = evidence.driver_of(tee, where)
    installed = agents.agents(units)
    probes = evidence.probe_evidence(host, tee, where) + plain_memory.probe_memory(host, units) + sources.probe_sources(host, cpu, units)
    probes.append(ssh.probe_ssh(server))
    time_service = next((name for name in sources.TIME_UNITS for found in [unit(units, name)] if found is not None and found.active == "active"), "")
    swaps = plain_memory.active_swaps(host)
    return {
        "cloud": where,
        "tee": tee or "unknown",
        "driver": {"module": driver[0], "available": evidence.available(host, driver[0]) or "unknown"} if driver else None,
        "agents": installed,
        "swaps": None if isinstance(swaps, Unreadable) else swaps,
        "storage": storage.storage(host),
        "running_kdump": [name for name in plain_memory.KDUMP_UNITS for found in [unit(units, name)] if found is not None and found.runs],
        "time_service": time_service,
        "ssh": None if server is None else {"storage": server.storage, "keys": list(server.keys), "paths": list(server.paths), "problem": server.problem},
        "told": agents.told(installed) + sources.told(host),
        "verdict": verdict(probes),
        "probes": [probe.to_dict() for probe in probes],
        "counts": {outcome: sum(probe.outcome == outcome for probe in probes) for outcome in OUTCOMES},
    }
