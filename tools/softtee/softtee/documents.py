# SPDX-License-Identifier: GPL-3.0-or-later
"""What a relying party needs to appraise the soft TEE: reference values and a policy, ready to use."""

from __future__ import annotations

import json
import textwrap
from datetime import datetime, timedelta, timezone
from typing import Any, Dict, Optional

from softtee.machines import Guest

WAIVER = (
    "Soft TEE: the evidence is signed by software on an ordinary machine. It exercises the whole path and protects nothing, "
    "and the demonstration guest has no image behind its measurement. Never use this policy for real data."
)


def reference_values(guest: Guest, now: Optional[datetime] = None) -> str:
    """attested.ai/reference-values/1 (JSON) with the demonstration guest; valid for 90 days from ``now``."""
    end = (now or datetime.now(timezone.utc)) + timedelta(days=90)
    values = guest.cpu.reference_values(end.strftime("%Y-%m-%dT%H:%M:%SZ"))
    return json.dumps({"schema": "attested.ai/reference-values/1", "values": values}, indent=2) + "\n"


def policy(guest: Guest) -> str:
    """attested.ai/policy/1 (YAML) that accepts this soft TEE when it behaves, and nothing else; its GPUs are required."""
    gpus = guest.gpus
    sections: Dict[str, Dict[str, Any]] = {"require": {"cpu": 1, "gpu": gpus.gpus if gpus else 0}, **guest.cpu.policy()}
    if gpus is not None:
        # By name: a genuine GPU of another machine under the same root would answer our nonce as well.
        sections["nvidia"] = {"architectures": [gpus.arch], "devices": {"allow": [device.identity for device in gpus.devices()]}}
    text = HEAD % {"name": getattr(guest.cpu, "product", guest.cpu.tee), "waiver": json.dumps(WAIVER)}
    roots = guest.roots() if gpus is not None or guest.cpu.tee != "cca" else []
    if roots:
        text += "roots:\n" + "".join("  - |\n" + textwrap.indent(root, "    ") for root in roots)
    for name, section in sections.items():
        text += "%s:\n" % name + "".join("  %s: %s\n" % (key, json.dumps(value)) for key, value in section.items())
    return text


HEAD = """---
# For the soft TEE of this state directory only. It proves nothing about the machine.
schema: attested.ai/policy/1
id: soft-tee-%(name)s
allow_nonvendor_roots: true
chain_of_trust:
  waiver: %(waiver)s
"""
