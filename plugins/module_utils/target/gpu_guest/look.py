# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A confidential guest's GPUs as they are: driver, crypto, persistence, fabric, mode, ready state. All of it is a claim of the guest."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional, Tuple, Union

from ansible_collections.attested.ai.plugins.module_utils.target.gpu.inventory import read_inventory
from ansible_collections.attested.ai.plugins.module_utils.target.gpu_guest.conf_compute import QUERY, READY, ConfCompute, parse_query, parse_ready
from ansible_collections.attested.ai.plugins.module_utils.target.gpu_guest.diagnosis import Finding, diagnose
from ansible_collections.attested.ai.plugins.module_utils.target.gpu_guest.topology import ALONE_OPTION, PPCIE_OPTION, Topology, expected_mode, topology
from ansible_collections.attested.ai.plugins.module_utils.target.guest_os.cloud import cloud
from ansible_collections.attested.ai.plugins.module_utils.target.guest_os.units import Units, show, unit
from ansible_collections.attested.ai.plugins.module_utils.target.probes.cpu import cannot_read
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import Host, KernelLog, Output, Unreadable, parameter
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import OUTCOMES, Probe, Question
from ansible_collections.attested.ai.plugins.module_utils.target.probes.survey import verdict

VERSION = "/proc/driver/nvidia/version"
PARAMETERS = "/proc/driver/nvidia/params"
PERSISTENCED, FABRIC = "nvidia-persistenced.service", "nvidia-fabricmanager.service"
# Kernels differ in the names; one of each line must be there before nvidia.
LKCA: Tuple[Tuple[str, ...], ...] = (("ecdh_generic", "ecdh"), ("ecdsa_generic", "ecdsa"))

DRIVER = Question(
    "gpu-guest.driver", "driver", "NVIDIA's open kernel modules are loaded", VERSION, "Install the open kernel modules of the branch (role gpu_cc_guest)"
)
NOUVEAU = Question("gpu-guest.nouveau", "driver", "nouveau is not loaded", "/sys/module/nouveau", "Blacklist nouveau, rebuild the initramfs, and reboot")
CRYPTO = Question(
    "gpu-guest.lkca",
    "driver",
    "the kernel has ECDH and ECDSA, and both come before nvidia",
    "modprobe --show-depends",
    "Take a kernel with CRYPTO_ECDH and CRYPTO_ECDSA; name both in a softdep of nvidia (role gpu_cc_guest)",
)
OPTIONS = Question(
    "gpu-guest.options",
    "driver",
    "nvidia was loaded with the options of this topology",
    PARAMETERS,
    "Reboot the guest: options count from the next load on (role gpu_cc_guest)",
)
PERSISTENCE = Question(
    "gpu-guest.persistence",
    "service",
    "nvidia-persistenced holds the GPUs",
    "systemctl show",
    "Start nvidia-persistenced before anything else touches the GPUs",
)
FABRIC_MANAGER = Question(
    "gpu-guest.fabric-manager",
    "service",
    "fabric manager runs in guests with a whole Hopper board, and in no others",
    "systemctl show",
    "Start nvidia-fabricmanager where the guest was given 8 GPUs and 4 switches of Hopper; disable it elsewhere",
)
MODE = Question(
    "gpu-guest.mode", "mode", "all GPUs are in the mode of this topology", "nvidia-smi conf-compute -q", "Set the mode on the host (attested.ai.gpu_cc_mode)"
)
BOOT_READY = Question(
    "gpu-guest.ready-at-boot",
    "mode",
    "nothing sets the ready state before the GPUs are attested",
    "/proc/cmdline",
    "Take nvrc.smi.srs=1 off the kernel command line",
)


def look(host: Host, smi: str = "nvidia-smi", application: str = "") -> Dict[str, Any]:
    """``application`` is what a program printed that failed. Raises HostError where devices may not be listed."""
    found = read_inventory(host)
    plan, units = topology(found), show(host, (PERSISTENCED, FABRIC))
    version = host.text(VERSION)
    loaded = not isinstance(version, Unreadable)
    # Without the driver nvidia-smi has nothing to say, and in confidential mode it must not be the first to touch a GPU.
    held = _runs(units, PERSISTENCED)
    query = host.command((smi,) + QUERY) if loaded else Unreadable("absent", "the driver is not loaded")
    ready_text = host.command((smi,) + READY) if loaded else query
    state = parse_query(query.out) if isinstance(query, Output) else ConfCompute()
    ready = parse_ready(ready_text.out) if isinstance(ready_text, Output) else None
    ready = state.ready if ready is None else ready
    log = host.kernel_log()
    said = "\n".join(one.out for one in (query, ready_text) if isinstance(one, Output))
    findings = diagnose(log.lines if isinstance(log, KernelLog) else (), said, application)
    lkca = crypto_modules(host)
    probes = [
        _driver(version),
        _nouveau(host),
        _crypto(lkca, findings),
        _options(host, plan, loaded),
        _service(PERSISTENCE, units, PERSISTENCED, True),
        _service(FABRIC_MANAGER, units, FABRIC, plan.fabric_manager),
        _mode(plan, state, query),
        _ready_at_boot(host),
    ]
    return {
        "topology": {
            "kind": plan.kind,
            "architecture": plan.architecture,
            "gpus": plan.gpus,
            "switches": plan.switches,
            "options": list(plan.options),
            "fabric_manager": plan.fabric_manager,
            "problem": plan.problem,
            "fix": plan.fix,
        },
        "devices": [{"bdf": one.bdf, "kind": one.kind, "model": one.model, "driver": one.driver} for one in found.devices],
        "cloud": cloud(host),
        "driver": driver_of(version),
        "lkca": [name for name in lkca if name],
        "mode": state.mode,
        "cpu": state.cpu,
        "ready": ready,
        "persistence": held,
        "log_complete": isinstance(log, KernelLog) and log.complete,
        "findings": [one.to_dict() for one in findings],
        "verdict": verdict(probes),
        "probes": [probe.to_dict() for probe in probes],
        "counts": {outcome: sum(probe.outcome == outcome for probe in probes) for outcome in OUTCOMES},
    }


def driver_of(version: Union[str, Unreadable]) -> Dict[str, Any]:
    """Version and kind of the loaded kernel module. ``open`` is None without one."""
    if isinstance(version, Unreadable):
        return {"version": "", "open": None}
    match = re.search(r"NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s", version + " ")
    return {"version": match.group(1) if match else "", "open": "Open Kernel Module" in version}


def wrong_options(plan: Topology, text: str) -> List[str]:
    """Which options of the loaded driver are not those of the topology, from /proc/driver/nvidia/params (`NvLinkDisable: 0`, `RegistryDwords: "..."`)."""
    fields = dict(line.partition(": ")[::2] for line in text.splitlines() if ": " in line)
    wrong = []
    if (fields.get("NvLinkDisable", "").strip() == "1") != (ALONE_OPTION in plan.options):
        wrong.append("NvLinkDisable is %s" % ascii(fields.get("NvLinkDisable", "not there")))
    if bool(re.search(r"\bRmEnableProtectedPcie=(0x)?1\b", fields.get("RegistryDwords", ""))) != (PPCIE_OPTION in plan.options):
        wrong.append("RegistryDwords is %s" % ascii(fields.get("RegistryDwords", "not there")))
    return wrong


def _options(host: Host, plan: Topology, loaded: bool) -> Probe:
    if not loaded:
        return OPTIONS.skipped("the driver is not loaded")
    text = host.text(PARAMETERS)
    if isinstance(text, Unreadable):
        return cannot_read(OPTIONS, text)
    wrong = wrong_options(plan, text)
    return OPTIONS.judged(not wrong, ", ".join(wrong) if wrong else "it was")


def crypto_modules(host: Host) -> List[Optional[str]]:
    """For each line of LKCA the name under which this kernel has it. None: under none of them, or modprobe cannot be asked."""
    found: List[Optional[str]] = []
    for names in LKCA:
        answers = [(name, host.command(("modprobe", "--show-depends", name))) for name in names]
        found.append(next((name for name, answer in answers if isinstance(answer, Output) and answer.rc == 0), None))
    return found


def _driver(version: Union[str, Unreadable]) -> Probe:
    if isinstance(version, Unreadable):
        return DRIVER.failed("the module nvidia is not loaded") if version.kind == "absent" else cannot_read(DRIVER, version)
    found = driver_of(version)
    kind = "open" if found["open"] else "proprietary"
    return DRIVER.judged(bool(found["open"]), "%s, %s" % (found["version"] or "unknown version", kind))


def _nouveau(host: Host) -> Probe:
    there = host.exists("/sys/module/nouveau")
    return cannot_read(NOUVEAU, there) if isinstance(there, Unreadable) else NOUVEAU.judged(not there, "it is loaded" if there else "it is not")


def _crypto(lkca: List[Optional[str]], findings: List[Finding]) -> Probe:
    stubs = next((one for one in findings if one.failure.id == "lkca-stubs"), None)
    if stubs is not None:
        return CRYPTO.failed(stubs.line, stubs.failure.fix)
    missing = [" or ".join(names) for names, name in zip(LKCA, lkca) if name is None]
    return CRYPTO.judged(not missing, "without %s" % ", ".join(missing) if missing else "it has %s" % ", ".join(name for name in lkca if name))


def _runs(units: Units, name: str) -> Optional[bool]:
    found = unit(units, name)
    return None if found is None else found.active == "active"


def _service(question: Question, units: Units, name: str, wanted: bool) -> Probe:
    running = _runs(units, name)
    if running is None:
        return question.unknown("systemd does not tell of %s" % name, "Look at it by hand")
    return question.judged(running == wanted, "%s %s" % (name, "runs" if running else "does not run"))


def _mode(plan: Topology, state: ConfCompute, query: Union[Output, Unreadable]) -> Probe:
    wanted = expected_mode(plan.kind)
    if wanted is None:
        return MODE.failed(plan.problem, plan.fix)
    if isinstance(query, Unreadable):
        return cannot_read(MODE, query)
    if state.mode is None:
        return MODE.unknown("nvidia-smi ended with %d and says nothing of it" % query.rc, "See the findings, and the kernel log")
    return MODE.judged(state.mode == wanted, "%s, and %s is wanted for %d GPUs" % (state.mode, wanted, plan.gpus))


def _ready_at_boot(host: Host) -> Probe:
    words = host.parameters()
    if isinstance(words, Unreadable):
        return cannot_read(BOOT_READY, words)
    value = parameter(words, "nvrc.smi.srs")
    return BOOT_READY.judged(value in (None, "0"), "nvrc.smi.srs=%s" % value if value is not None else "nothing does")
