# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host tells of its GPUs: the admin tool's text, the record of switches, and whole recordings with anything in their places."""

from __future__ import annotations

import json
from pathlib import Path

from harness import Target

from ansible_collections.attested.ai.plugins.module_utils.target.gpu import marker, tool
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.inventory import GPU, Device
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.modes import read
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.plan import plan
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.survey import recorded, survey
from ansible_collections.attested.ai.plugins.module_utils.target.probes.recording import RecordedHost

RECORDED = Path(__file__).resolve().parents[1] / "unit" / "gpu_cc" / "recorded"
BDF = "0000:3a:00.0"
DEVICE = Device(BDF, GPU, 0x2321, "H100", "GH100", "hopper", "vfio-pci", "", "40", (), "vfio0", "0", False, False, "")
MODES = {"off", "on", "devtools", "ppcie", "invalid", "unknown"}


def texts() -> list[bytes]:
    return [path.read_bytes() for path in sorted(RECORDED.glob("*.txt"))]


def said(data: bytes) -> object:
    """The same text as the answer to every question; whatever it is, the reading is one of the modes, and a plan follows from it."""
    run = tool.Run(data[0] % 4 - 1 if data else 0, data[1:].decode("utf-8", "replace"), False)
    reading = read(lambda args: run, DEVICE)
    if reading.mode not in MODES or reading.pending not in MODES or (reading.known and run.rc and reading.mode != "invalid"):
        raise AssertionError(reading)
    return [plan(mode, [(DEVICE, reading)]).text(True) for mode in ("off", "on", "devtools", "ppcie")]


def remembered(data: bytes) -> object:
    found = marker.parse(data.decode("utf-8", "replace"))
    if marker.parse(found.dump()) != found and found.state != marker.QUARANTINED:
        raise AssertionError(found)
    return marker.check_open(found, True)


def looked(data: bytes) -> object:
    """A recording with a value exchanged: the first bytes choose where, the rest is the value."""
    try:
        value = json.loads(data[3:])
    except (ValueError, RecursionError):
        value = data[3:].decode("utf-8", "replace")
    names = sorted(RECORDED.glob("*.json"))
    document = json.loads(names[(data[0] if data else 0) % len(names)].read_text())
    section = ("files", "directories", "exists", "gpu")[(data[1] if len(data) > 1 else 0) % 4]
    keys = sorted(document[section])
    document[section][keys[(data[2] if len(data) > 2 else 0) % len(keys)]] = value
    ask, holders = recorded(document)
    return survey(RecordedHost(document), ask, holders, {})


def records() -> list[bytes]:
    return [marker.Marker(state, "on", "2026-11-27T18:00:00Z", "because", {BDF: "off"}).dump().encode() for state in ("settled", "switching", "quarantined")]


def places() -> list[bytes]:
    return [bytes([recording, section, key]) + b'{"rc": 0, "text": "x", "hung": false}' for recording in range(10) for section in range(4) for key in (0, 3, 7)]


TARGETS = {
    "gpu-tool-text": Target(lambda: [b"\x01" + text for text in texts()], said),
    "gpu-record": Target(records, remembered),
    "gpu-recording": Target(places, looked),
}
