# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Agents that a cloud puts into its guests, and what each lets the cloud do. A confidential guest that runs one trusts whom it was made not to trust.

A Python table and not JSON: what a module on a target imports is packed by following its imports, and data files are left behind.
Each row is what the agent's own documentation says that it does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.target.guest_os.units import Units, unit
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import Unreadable


@dataclass(frozen=True)
class Agent:
    """``can`` says what whoever speaks to it can do. ``without`` says what is lost when it is masked."""

    name: str
    units: Tuple[str, ...]
    can: str
    without: str


AGENTS = (
    Agent(
        "waagent",
        ("walinuxagent.service", "waagent.service"),
        "runs extensions as root, resets passwords and SSH keys, at the word of Azure's control plane",
        "Azure shows the guest as not ready, and extensions do nothing",
    ),
    Agent(
        "google-guest-agent",
        ("google-guest-agent.service", "google-guest-agent-manager.service", "google-guest-compat-manager.service"),
        "makes users and SSH keys from the metadata that Google Cloud serves, and sets addresses",
        "keys and OS Login from metadata no longer work, and addresses of further network cards are not set",
    ),
    Agent(
        "google-startup-scripts",
        ("google-startup-scripts.service", "google-shutdown-scripts.service"),
        "runs scripts from metadata as root, at each boot and shutdown",
        "startup scripts do nothing",
    ),
    Agent(
        "google-osconfig-agent",
        ("google-osconfig-agent.service",),
        "installs packages and runs scripts as root, at the word of OS Config",
        "VM Manager does nothing",
    ),
    Agent(
        "amazon-ssm-agent",
        ("amazon-ssm-agent.service", "snap.amazon-ssm-agent.amazon-ssm-agent.service"),
        "opens root shells and runs commands as root, at the word of Systems Manager",
        "Session Manager and Run Command do nothing",
    ),
    Agent(
        "ec2-instance-connect",
        ("ec2-instance-connect.service", "ec2-instance-connect-harvest-hostkeys.service"),
        "lets in SSH keys that the metadata service names, and sends host keys to AWS",
        "EC2 Instance Connect does nothing",
    ),
    Agent(
        "cloud-init",
        ("cloud-init.service", "cloud-init-main.service", "cloud-init-network.service", "cloud-config.service", "cloud-final.service"),
        "runs user data as root, makes users and SSH keys, at each boot where the host says that this is a new instance",
        "network settings and users stay as they are now; a copy of this image is not set up at its first boot",
    ),
    Agent(
        "qemu-guest-agent",
        ("qemu-guest-agent.service",),
        "runs commands, reads and writes files, sets passwords and the clock, at the word of the host",
        "the host can neither freeze file systems for a snapshot nor shut down cleanly through it",
    ),
    Agent(
        "open-vm-tools",
        ("open-vm-tools.service", "vmtoolsd.service"),
        "runs commands and copies files for who has the guest's password, and sets the clock, at the word of the host",
        "the host can neither freeze file systems for a snapshot nor shut down cleanly through it",
    ),
    Agent(
        "hyperv-daemons",
        ("hv-kvp-daemon.service", "hypervkvpd.service", "hv-fcopy-daemon.service", "hypervfcopyd.service"),
        "takes addresses and files from the host",
        "the host neither sets addresses nor copies files",
    ),
)

ALL_UNITS = tuple(name for agent in AGENTS for name in agent.units)


def agents(units: Units) -> Optional[List[Dict[str, object]]]:
    """Those that are installed: name, state, units, what they can do. Masked ones are named, too. None where systemd does not tell."""
    if isinstance(units, Unreadable):
        return None
    found: List[Dict[str, object]] = []
    for agent in AGENTS:
        seen = [one for one in (unit(units, name) for name in agent.units) if one is not None and one.there]
        if not seen:
            continue
        state = "runs" if any(one.runs for one in seen) else "masked" if all(one.masked for one in seen) else "off"
        # systemd masks no alias, only the unit behind it.
        open_units = [one.name for one in seen if not one.masked and one.id == one.name]
        found.append({"name": agent.name, "state": state, "units": open_units, "can": agent.can, "without": agent.without})
    return found


def told(found: Optional[List[Dict[str, object]]]) -> List[Dict[str, str]]:
    """What the operator should know of agents that run."""
    if found is None:
        can = "be here without being named: systemd does not tell which services there are"
        return [{"subject": "agents", "who": "the cloud or the host", "can": can, "fix": "Look at the processes by hand"}]
    return [
        {
            "subject": "agent %s" % agent["name"],
            "who": "the cloud or the host",
            "can": str(agent["can"]),
            "fix": "Mask it (tee_guest_agents_mask), or let the policy name an image that has it. Without it: %s" % agent["without"],
        }
        for agent in found
        if agent["state"] == "runs"
    ]
