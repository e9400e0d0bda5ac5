# SPDX-License-Identifier: GPL-3.0-or-later
"""What a relying party needs to appraise the soft TEE: reference values and a policy, ready to use."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Optional

from softtee.machine import GUEST, Machine, measurement
from softtee.snp_report import DEFAULT_TCB

WAIVER = (
    "Soft TEE: the report is signed by software on an ordinary machine. It exercises the whole path and protects nothing, "
    "and the demonstration guest has no image behind its measurement. Never use this policy for real data."
)


def reference_values(now: Optional[datetime] = None) -> str:
    """attested.ai/reference-values/1 (JSON) with the demonstration guest; valid for 90 days from ``now``."""
    end = (now or datetime.now(timezone.utc)) + timedelta(days=90)
    value = {
        "tee": "sev-snp",
        "measurement": measurement().hex(),
        "covers": "launch",
        "image": GUEST,
        "source": "softtee reference-values (made up: there is no image behind it)",
        "not_after": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return json.dumps({"schema": "attested.ai/reference-values/1", "values": [value]}, indent=2) + "\n"


def policy(machine: Machine) -> str:
    """attested.ai/policy/1 (YAML) that accepts this soft TEE when it behaves, and nothing else."""
    root = "\n".join("    " + line for line in machine.authority.ark_pem(machine.product).splitlines())
    floor = ", ".join("%s: %d" % item for item in DEFAULT_TCB[machine.product].items())
    return POLICY % {"product": machine.product, "key": machine.key_kind, "root": root, "waiver": json.dumps(WAIVER), "floor": floor}


POLICY = """---
# For the soft TEE of this state directory only. It proves nothing about the machine.
schema: attested.ai/policy/1
id: soft-tee-%(product)s
allow_nonvendor_roots: true
roots:
  - |
%(root)s
chain_of_trust:
  waiver: %(waiver)s
sev_snp:
  products: [%(product)s]
  signing_keys: [%(key)s]
  min_tcb: {%(floor)s}
  min_launch_tcb: {%(floor)s}
"""
