# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The TDX module: whether the kernel found it, brought it up, and which one it is. Messages: arch/x86/virt/vmx/tdx/tdx.c of Linux."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional, Union

from ansible_collections.attested.ai.plugins.module_utils.target.probes.cpu import Cpu, logged, without_line
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import KernelLog, Unreadable
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import Probe, Question
from ansible_collections.attested.ai.plugins.module_utils.target.probes.tdx_bios import CPUS, KEYS
from ansible_collections.attested.ai.plugins.module_utils.target.probes.tdx_kernel import HIBERNATION, KVM_PARAMETER
from ansible_collections.attested.ai.plugins.module_utils.target.probes.tdx_modules import NEWEST, identify

LOADED = Question(
    "tdx.module-loaded",
    "module",
    "the kernel finds a TDX module",
    "kernel log",
    "Enable TDX SEAM Loader in the BIOS and update the BIOS, or put Intel's module on the EFI partition (EFI/TDX/TDX-SEAM.so and .sigstruct), and reboot",
)
INITIALIZED = Question(
    "tdx.module-initialized",
    "module",
    "the kernel log says that the module is initialized, or kvm_intel says Y",
    "kernel log",
    "See the other findings: the module is initialized when kvm_intel loads with tdx=1",
)
VERSION = Question(
    "tdx.module-version",
    "module",
    "a module that Intel has published for this CPU",
    "kernel log",
    "Update the TDX module with the BIOS, or from the EFI partition",
)

_DONE = re.compile(r"tdx: (?:TDX[- ])?module initialized", re.I)
_NOT_LOADED = re.compile(r"tdx: (?:TDX[- ])?module not loaded|SEAMCALL.*module not loaded", re.I)
_FAILED = re.compile(r"tdx:.*initialization failed[: (].*|.*frame pointer \(RBP\) clobber bug.*|tdx:.*SEAMCALL \(0x[0-9a-f]+\) failed.*", re.I)
_RBP = re.compile(r"frame pointer \(RBP\) clobber bug present", re.I)
_OLD_VERSION = re.compile(
    r"TDX module: attributes \S+, vendor_id 0x8086, major_version (\d+), minor_version (\d+), build_date (\d+), build_num (\d{1,9})", re.I
)
_NEW_VERSION = re.compile(r"TDX module (\d+(?:\.\d+)*), build number (\d{1,9}), build date ([0-9a-f]+)", re.I)

# What the kernel says when it gives up, and what helps.
_CAUSES = (
    ("too few private KeyIDs", KEYS.fix),
    ("Hibernation support is enabled", HIBERNATION.fix),
    ("TDMRs exhausted", "Boot a newer kernel; take CXL memory and reserved ranges out of the memory map"),
    ("clobber bug", VERSION.fix),
    ("failed (-5)", "The TDX module is too old for this kernel. " + VERSION.fix),
)


def probe_module(log: Union[KernelLog, Unreadable], cpu: Union[Cpu, Unreadable], running: Union[bool, Unreadable]) -> List[Probe]:
    """``running`` is what kvm_intel says to TDX."""
    return [_loaded(log, running), _initialized(log, running), _version(log, cpu, running)]


def tdx_identity(log: Union[KernelLog, Unreadable]) -> Optional[Dict[str, Any]]:
    """The module that the kernel log names, as data: version, build, date, and what the table knows of the build."""
    old, new = logged(log, _OLD_VERSION), logged(log, _NEW_VERSION)
    if new:
        said, build, date = new.group(1), int(new.group(2)), new.group(3)
    elif old:
        said, build, date = "%s.%s" % old.group(1, 2), int(old.group(4)), old.group(3)
    else:
        return None
    module = identify(build)
    known = {"version": module.version, "date": module.date, "svn": module.svn, "mrseam": module.mrseam} if module else {}
    return {"version": said, "build": build, "date": date, "published": module is not None, **known}


def _loaded(log: Union[KernelLog, Unreadable], running: Union[bool, Unreadable]) -> Probe:
    if running is True or logged(log, _DONE):
        return LOADED.passed("it is initialized")
    if logged(log, _NOT_LOADED):
        return LOADED.failed("module not loaded")
    if tdx_identity(log):
        return LOADED.passed("the kernel names its version")
    if isinstance(log, Unreadable) or not log.complete:
        return without_line(LOADED, log, "")
    return LOADED.skipped("the kernel has not asked for it")


def _initialized(log: Union[KernelLog, Unreadable], running: Union[bool, Unreadable]) -> Probe:
    # The parameter is N again when TDX could not be brought up, so Y counts even where the message is lost.
    if running is True:
        return INITIALIZED.passed("kvm_intel says Y", KVM_PARAMETER)
    failure, done = logged(log, _FAILED), logged(log, _DONE)
    if failure and not done:
        said = failure.group(0).strip()
        return INITIALIZED.failed(said[:200], next((fix for word, fix in _CAUSES if word.lower() in said.lower()), None) or _older(log))
    if done:
        return INITIALIZED.passed("the kernel log says so")
    if logged(log, _NOT_LOADED):
        return INITIALIZED.failed("module not loaded", LOADED.fix)
    return without_line(INITIALIZED, log, "no such message")


def _older(log: Union[KernelLog, Unreadable]) -> Optional[str]:
    """The step where the module is an old one and the kernel does not say what is wrong."""
    found = tdx_identity(log)
    module = identify(found["build"]) if found else None
    newest = NEWEST[module.version.rpartition(".")[0]] if module else ""
    return "The module is %s, the newest known is %s. %s" % (module.version, newest, VERSION.fix) if module and module.version != newest else None


def _version(log: Union[KernelLog, Unreadable], cpu: Union[Cpu, Unreadable], running: Union[bool, Unreadable]) -> Probe:
    found = tdx_identity(log)
    if found is None:
        if running is True:
            return VERSION.skipped("TDX runs, but the message with the version is lost")
        if isinstance(log, Unreadable) or not log.complete:
            return without_line(VERSION, log, "")
        return VERSION.skipped("the kernel names no version")
    observed = "%s, build %d of %s" % (found["version"], found["build"], found["date"])
    if logged(log, _RBP):
        return VERSION.failed("%s has the RBP clobber bug" % observed)
    module = identify(found["build"])
    if module is None:
        return VERSION.unknown("%s is not in the table of published modules" % observed, "Compare it with Intel's list of releases")
    line = CPUS.get(cpu.model or 0, ("", ""))[0] if isinstance(cpu, Cpu) else ""
    if line and line not in module.cpus:
        cpus = ", ".join(sorted(module.cpus))
        return VERSION.unknown("%s was published for %s, not for %s" % (observed, cpus, line), "Compare it with Intel's list of releases")
    newest = NEWEST[module.version.rpartition(".")[0]]
    return VERSION.passed(observed + ("" if newest == module.version else "; %s is the newest known" % newest))
