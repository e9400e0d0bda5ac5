# SPDX-License-Identifier: GPL-3.0-or-later
"""Unified kernel images, and descriptions of confidential VMs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from harness import Target

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.measure.boot import predictions
from ansible_collections.attested.ai.plugins.module_utils.measure.pe import authenticode
from ansible_collections.attested.ai.plugins.plugin_utils.vm_plan import vm_plan

HERE = Path(__file__).resolve()
for name in ("guest_image", "confidential_vm"):
    sys.path.insert(0, str(HERE.parents[1] / "unit" / name))

from uki_lab import pe, uki  # noqa: E402  pylint: disable=wrong-import-position
from vm_lab import DIGESTS, SNP, description, host  # noqa: E402  pylint: disable=wrong-import-position


def images() -> list[bytes]:
    return [uki(), pe([(".text", b"a" * 300)], certificates=b"c" * 16)]


def descriptions() -> list[bytes]:
    return [json.dumps(description()).encode(), json.dumps(description(**SNP)).encode()]


def plan(data: bytes) -> object:
    try:
        given = json.loads(data)
    except (ValueError, RecursionError):
        raise FormatError("it is no JSON") from None
    found = vm_plan(given, {**host(), "devices": Everything()}, digests=DIGESTS)
    if not found["refusals"] and found["protected"] and "launchSecurity" not in found["definition"]:
        raise RuntimeError("a guest is called protected and is not")
    return found


class Everything(dict):
    """Any device is there and free."""

    def __missing__(self, bdf: str) -> dict:
        return {"exists": True, "driver": "vfio-pci", "group": "1", "members": [], "holders": []}


TARGETS = {
    "pe": Target(images, authenticode),
    "uki": Target(images, predictions),
    "vm-plan": Target(descriptions, plan),
}
