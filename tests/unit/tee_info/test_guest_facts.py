# SPDX-License-Identifier: GPL-3.0-or-later
"""What guests show of themselves: provider, flags, registers."""

from __future__ import annotations

import json
from pathlib import Path

from ansible_collections.attested.ai.plugins.module_utils.target.probes.recording import RecordedHost
from ansible_collections.attested.ai.plugins.module_utils.target.probes.survey import survey

TDX = json.loads((Path(__file__).parent / "recorded" / "guest-tdx.json").read_text())
PLACE = "/sys/devices/virtual/misc/tdx_guest/measurements/"


def test_registers_and_flags_of_a_tdx_guest():
    document = json.loads(json.dumps(TDX))
    document["files"][PLACE + "mrtd:sha384"] = {"hex": "22" * 48}
    document["files"][PLACE + "mrowner"] = {"hex": "33" * 47}
    identity = survey(RecordedHost(document)).identity
    assert identity["rtmrs"] == {"0": "11" * 48} and identity["measurements"] == {"mrtd": "22" * 48}
    assert identity["flags"] == ["tdx_guest"] and identity["provider"] is None and identity["sev_features"] == []


def test_features_of_an_snp_guest_are_named():
    document = {"schema": "attested.ai/tee-recording/1", "kernel": "6.12.0", "architecture": "x86_64"}
    document["files"] = {"/proc/cpuinfo": "vendor_id\t: AuthenticAMD\nflags\t: hypervisor sev sev_es sev_snp\n"}
    document["exists"] = {"/dev/sev-guest": True, "/sys/kernel/config/tsm/report": True}
    document["msr"] = {"0xc0010131": "0x887"}
    document["kernel_log"] = {"lines": ["Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP"], "complete": True, "source": "/dev/kmsg"}
    found = survey(RecordedHost(document))
    assert found.verdict == "ready" and found.identity["flags"] == ["sev", "sev_es", "sev_snp"]
    assert found.identity["sev_features"] == ["sev", "sev-es", "sev-snp", "debug-swap", "secure-tsc"]
