# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""NVIDIA's gpu-admin-tools: what it is asked, and what its answer means.

Its results are log lines on standard error, and its exit status tells little: without a selector it lists the devices and ends with 0, and a device
that it does not know gives 0 and no result. So a result counts only as a line about exactly the device that was asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError

PROGRAM = "nvidia_gpu_tools.py"
INVALID = "invalid"
# As the tool writes it: only the developer bit is set, which an interrupted switch can leave.
_INVALID = "invalid-devtools-only-fix-by-setting-cc-mode"

_STAMP = r"^\d{4}-\d\d-\d\d,\d\d:\d\d:\d\d\.\d{3} "
_RESULT = re.compile(
    _STAMP + r"INFO +(?:GPU|NvSwitch) ([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) .*?BAR0 0x[0-9a-f]+ (CC|PPCIe) mode is ([a-z-]+)$", re.MULTILINE,
)  # fmt: skip
_SETTINGS = re.compile(
    _STAMP + r"INFO +(?:GPU|NvSwitch) ([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) .*?BAR0 0x[0-9a-f]+ (CC|PPCIe) settings:$", re.MULTILINE,
)  # fmt: skip
_SETTING = re.compile(r"\d{4}-\d\d-\d\d,\d\d:\d\d:\d\d\.\d{3} INFO {7}([a-z0-9-]+) = (\d+)")
_LAST = re.compile(r"^(?:[\w.]+\.)?(\w*(?:Error|Timeout|Exception|Broken\w*))(?:: (.*))?$", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """One run of the tool: both streams in one text, and whether it had to be ended for taking too long."""

    rc: int
    text: str
    hung: bool = False


@dataclass(frozen=True)
class Trouble:
    """Why a run did not do what it should: a stable code, what happened, and the next step."""

    code: str
    what: str
    fix: str

    def error(self, where: str) -> HostError:
        return HostError(self.what, where=where, fix=self.fix, code=self.code)


_COLD = "Shut the machine down, cut its power, start it, and run the task again"
# In the order in which they are looked for: the first that fits says most.
_KNOWN: Tuple[Tuple[str, str, str, str], ...] = (
    (r"No devices? found (?:matching|at)|Matching for .* found nothing", "gpu-vanished", "the tool does not find it any more",
     "Look at `dmesg` for a device that fell off the bus. " + _COLD),
    (r"Operation not permitted", "gpu-lockdown", "the kernel refuses access to the device's registers",
     "Turn kernel lockdown off (it comes with Secure Boot), or change the mode through the management controller"),
    (r"Permission denied", "gpu-denied", "the tool may not read the device", "Run the task as root (become: true)"),
    (r"does not support PPCIe on current FW", "gpu-firmware", "its firmware does not know Protected PCIe",
     "Update the firmware of the HGX baseboard (1.7.0 or later) with your vendor's tools"),
    (r"is broken and --recover-broken-gpu|\[broken, |broken: |Device \S+ broken|BrokenGpuError", "gpu-broken", "it does not answer on the bus", _COLD),
    (r"in sec fault", "gpu-broken", "its security processor reports a fault", _COLD),
    (r"Unknown Nvidia device|UnknownGpuError", "gpu-unknown", "the tool does not know this device", "Use a newer release of gpu-admin-tools"),
    (r"The nvidia driver appears to be using", "gpu-driver", "NVIDIA's driver holds it", "Take the driver off this host with attested.ai.gpu_cc_host"),
    (r"(?:Querying|Configuring) (?:CC|PPCIe)\b.* not supported on", "gpu-mode-unsupported", "it has no such mode", "Ask for a mode that this device has"),
    (r"failed to switch to (?:CC|PPCIe) mode", "gpu-not-switched", "it was set and reset, and did not take the mode", _COLD),
    (r"FspRpcError", "gpu-firmware-refused", "its security processor refused the setting",
     "Make sure that no driver and no program holds the device. " + _COLD),
    (r"reset not present|/reset'|Inappropriate ioctl", "gpu-reset-failed", "it could not be reset", _COLD),
    (r"Timed out|Timeout", "gpu-no-answer", "it did not answer in time", _COLD),
)  # fmt: skip


def trouble(run: Run, limit: int = 0) -> Optional[Trouble]:
    """Why the run failed; None if it did what it should, as far as its exit status tells."""
    if run.hung:
        return Trouble("gpu-tool-hung", "the tool did not end within %d s and was ended" % limit, "Look for processes that hang on the device. " + _COLD)
    if run.rc == 0:
        return None
    said = last_words(run.text)
    if run.rc == 2 and "error: " in run.text and "usage:" in run.text:
        return Trouble("gpu-tool-version", "the tool does not know what it was asked: %s" % said, "Use the release that is named in docs/gpu-hosts.md")
    for pattern, code, what, fix in _KNOWN:
        if re.search(pattern, run.text):
            return Trouble(code, "%s: %s" % (what, said), fix)
    return Trouble("gpu-tool-failed", "the tool ended with %d: %s" % (run.rc, said), "Run it by hand, and look at `dmesg`")


def last_words(text: str) -> str:
    """The error that it named, at most 300 characters; of a traceback its last line."""
    named = [line for line in text.splitlines() if re.match(_STAMP + "ERROR", line)]
    raised = _LAST.findall(text)
    if raised:
        kind, message = raised[-1]
        return ("%s: %s" % (kind, message) if message else kind)[:300]
    if named:
        return named[-1].split(" ", 2)[-1].strip()[:300]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[-1] if lines else "it said nothing")[:300]


def modes(text: str, bdf: str) -> Dict[str, str]:
    """{CC: , PPCIe: } as far as the tool told them for this device. The last line counts: it follows what was set."""
    found = {kind: INVALID if mode == _INVALID else mode for device, kind, mode in _RESULT.findall(text) if device == bdf}
    # Releases before 2024-12 stop with this instead.
    if "CC" not in found and re.search(r"Unexpected CC state 0x2", text):
        found["CC"] = INVALID
    return {kind: mode if mode in ("off", "on", "devtools") else INVALID for kind, mode in found.items()}


def settings(text: str, bdf: str) -> Dict[str, Dict[str, int]]:
    """{CC: {knob: value}, PPCIe: ...}: what the device will be after its next reset."""
    found: Dict[str, Dict[str, int]] = {}
    for match in _SETTINGS.finditer(text):
        knobs: Dict[str, int] = {}
        for line in text[match.end() :].lstrip("\n").splitlines():
            setting = _SETTING.fullmatch(line)
            if not setting:
                break
            knobs[setting.group(1)] = int(setting.group(2)[:9])
        if match.group(1) == bdf:
            found[match.group(2)] = knobs
    return found


def query(bdf: str, *what: str) -> Tuple[str, ...]:
    """Always with a selector: without one the tool lists the devices and says that all is well."""
    return ("--devices", bdf) + what


def set_cc(bdf: str, mode: str) -> Tuple[str, ...]:
    return query(bdf, "--set-cc-mode=" + mode, "--reset-after-cc-mode-switch")


def set_ppcie(bdf: str, mode: str) -> Tuple[str, ...]:
    return query(bdf, "--set-ppcie-mode=" + mode, "--reset-after-ppcie-mode-switch")


def shown(args: Sequence[str]) -> str:
    return " ".join(args)
