# SPDX-License-Identifier: GPL-3.0-or-later
"""An SEV-SNP host in memory: firmware that follows the rules of AMD's, and an snphost that takes its arguments as 0.7.0 does."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from ansible_collections.attested.ai.plugins.module_utils.target.probes.recording import RecordedHost

RECORDED = Path(__file__).resolve().parents[1] / "tee_info" / "recorded"
GOOD = json.loads((RECORDED / "snp-good.json").read_text())
# Bytes of a TCB on Milan and Genoa: boot loader, TEE, four reserved, SNP, microcode; on Turin: FMC, boot loader, TEE, SNP, three reserved, microcode.
ORDER = {"genoa": (None, 0, 1, 6, 7), "turin": (0, 1, 2, 3, 7)}


def packed(product, tcb):
    raw = bytearray(8)
    for place, name in zip(ORDER[product], ("fmc", "bootloader", "tee", "snp", "microcode")):
        if place is not None:
            raw[place] = tcb[name]
    return int.from_bytes(raw, "little")


class SnpHost(RecordedHost):
    """``current``, ``committed`` and ``config`` (None: nothing was set) are TCBs as dictionaries. ``ignores`` names acts that end well and do nothing."""

    def __init__(self, product="genoa", current=None, committed=None, build=38):
        document = json.loads(json.dumps(GOOD))
        if product == "turin":
            document["files"]["/proc/cpuinfo"] = "vendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel\t\t: 2\n"
        super().__init__(document)
        base = {"bootloader": 4, "tee": 0, "snp": 24, "microcode": 219, **({"fmc": 1} if product == "turin" else {})}
        self.product, self.build, self.state = product, build, 1
        self.current, self.committed = current or base, committed or current or base
        self.committed_build = build
        self.config, self.masks, self.loaded = None, 0, ""
        self.ran, self.ignores, self.fails = [], set(), {}

    def reported(self):
        return self.config or self.committed

    def sev(self, command):
        if command != "snp-platform-status":
            return super().sev(command)
        options = self.masks | (4 if self.loaded else 0)
        tcbs = [packed(self.product, tcb) for tcb in (self.current, self.reported())]
        return struct.pack("<BBBBIIIQQ", 1, 55, self.state, 3, self.build, options, 0, *tcbs)

    def snphost(self, arguments):
        self.ran.append(list(arguments))
        name = arguments[0]
        if name in self.fails:
            return 1, "", "ERROR: %s\nError: %s\n\nStack backtrace:\n   0: somewhere\n" % (self.fails[name], self.fails[name])
        if name in self.ignores:
            return 0, "", ""
        return getattr(self, "_" + name.replace("-", "_"))(*arguments[1:])

    def _commit(self):
        # update_committed_versions() of AMD's published firmware: what was set is flushed.
        self.committed, self.committed_build, self.config = self.current, self.build, None
        return 0, "", ""

    def _config(self, verb, *numbers):
        if verb == "reset":
            assert not numbers
            self.config, self.masks = None, 0
            return 0, "", ""
        assert verb == "set" and len(numbers) in (5, 6) and all(0 <= int(number) <= 255 for number in numbers)
        if self.product == "turin" and len(numbers) != 6:
            return 1, "", "ERROR: Turin generation processor requires FMC version when setting TCB\n"
        names = ("bootloader", "tee", "snp", "microcode")
        tcb = {name: int(number) for name, number in zip(names, numbers)}
        if self.product == "turin":
            tcb["fmc"] = int(numbers[5])
        if any(tcb[name] > self.committed[name] for name in tcb):
            return 1, "", "ERROR: Error setting a new snp config\n\nCaused by:\n    INVALID_PARAM\n"
        self.config, self.masks = tcb, int(numbers[4])
        return 0, "", ""

    def _vlek_load(self, path):
        self.loaded = path
        return 0, "", ""
