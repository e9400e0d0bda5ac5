# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The firmware of an SEV-SNP host, as the AMD Secure Processor and the kernel tell of it. Messages: drivers/crypto/ccp/sev-dev.c of Linux."""

from __future__ import annotations

import re
import struct
from typing import Any, Dict, List, Optional, Tuple, Union

from ansible_collections.attested.ai.plugins.module_utils.target.probes.cpu import cannot_read, logged
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import ABSENT, ERROR, Host, KernelLog, Unreadable
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import Probe, Question
from ansible_collections.attested.ai.plugins.module_utils.target.probes.snp_bios import SME
from ansible_collections.attested.ai.plugins.module_utils.target.probes.snp_generations import GENERATIONS, LEAST_API

DEVICE = Question(
    "snp.device",
    "firmware",
    "/dev/sev is there",
    "/dev/sev",
    "Load the module ccp. If it is loaded, enable the AMD Secure Processor in the BIOS",
)
INITIALIZED = Question(
    "snp.firmware-initialized",
    "firmware",
    "SNP is initialized, and the RMP table as well",
    "/dev/sev",
    "See the other findings, and the messages of ccp in the kernel log",
)
VERSION = Question(
    "snp.firmware-version",
    "firmware",
    "1.51 or later",
    "/dev/sev",
    "Install AMD's SEV firmware under /lib/firmware/amd and reboot, or update the BIOS",
)
ALIAS = Question(
    "snp.firmware-alias",
    "firmware",
    "the alias check of memory was made (CVE-2024-21944)",
    "/dev/sev",
    "Update the BIOS and the SEV firmware (Milan 1.55.22, Genoa 1.55.38 or later)",
)
TCB = Question(
    "snp.tcb-match",
    "firmware",
    "the reported TCB is the current one",
    "/dev/sev",
    "Reset the reported TCB (snphost config reset), unless it is kept back on purpose",
)
MASK = Question(
    "snp.firmware-chip-id",
    "firmware",
    "reports carry the chip's id, or VLEK is in use",
    "/dev/sev",
    "Set MASK_CHIP_ID to 0 (snphost config set, last number but FMC): with a masked id nobody can fetch the chip's certificate (VCEK)",
)

_SNP_API = re.compile(r"ccp \S+: SEV-SNP API:(\d+)\.(\d+) build:(\d+)", re.I)
_INIT_FAILED = re.compile(r"SEV(?:-SNP)?: failed to INIT.*|SEV_INIT fails with error.*", re.I)

_BOOT_LOADER = "The PSP boot loader is too old for the firmware: update the BIOS"
_FIRMWARE_CAUSES = (
    ("error 0x13", SME.fix),
    ("error 0x1,", _BOOT_LOADER),
    ("error 0x3", "The configuration is not valid: boot by UEFI, and check the ASID limit and the RMP coverage in the BIOS"),
)


def probe_firmware(host: Host, log: Union[KernelLog, Unreadable], product: Optional[str]) -> List[Probe]:
    """What /dev/sev and the messages of ccp tell. ``product`` is the generation of the CPU, where it is known."""
    status = host.sev("snp-platform-status")
    return [_device(host), _initialized(status, log, product), _version(status, product), _alias(status, product), _tcb(status), _mask(status)]


def snp_identity(host: Host) -> Optional[Dict[str, Any]]:
    """The firmware as /dev/sev tells it: version, build, the TCBs (hexadecimal), number of guests."""
    status = host.sev("snp-platform-status")
    fields = status_fields(status)
    if fields is None:
        return None
    major, minor, _state, _flags, build, options, guests, current, reported = fields
    return {
        "version": "%d.%d" % (major, minor),
        "build": build,
        "guests": guests,
        "current_tcb": "%016x" % current,
        "reported_tcb": "%016x" % reported,
        "vlek": bool(options & 4),
        "mask_chip_id": bool(options & 1),
        "mask_chip_key": bool(options & 2),
    }


def status_fields(status: Union[bytes, Unreadable]) -> Optional[Tuple[int, ...]]:
    """struct sev_user_data_snp_status, 32 packed bytes, little-endian: major, minor, state, flags, build, options, guests, current and reported TCB."""
    return None if isinstance(status, Unreadable) or len(status) != 32 else struct.unpack("<BBBBIIIQQ", status)


def _device(host: Host) -> Probe:
    found = host.exists("/dev/sev")
    if isinstance(found, Unreadable):
        return cannot_read(DEVICE, found)
    return DEVICE.judged(found, "it %s" % ("exists" if found else "does not exist"))


def _of_status(question: Question, status: Union[bytes, Unreadable]) -> Probe:
    """The answer where there is no usable status."""
    if not isinstance(status, Unreadable):
        return question.unknown("the answer has %d bytes, 32 are expected" % len(status), "Report it with a recording")
    if status.kind == ABSENT:
        return question.skipped("there is no /dev/sev to ask")
    if status.kind == ERROR:
        return question.unknown(status.reason, "It can be told once the firmware is initialized: see the other findings")
    return cannot_read(question, status)


def _initialized(status: Union[bytes, Unreadable], log: Union[KernelLog, Unreadable], product: Optional[str]) -> Probe:
    failure, api = logged(log, _INIT_FAILED), logged(log, _SNP_API)
    if failure and not api:
        said = failure.group(0).strip()
        fix = next((fix for word, fix in _FIRMWARE_CAUSES if word in said + ","), None)
        if fix is _BOOT_LOADER and product in GENERATIONS:
            fix = "%s. %s" % (fix, GENERATIONS[product].before)
        return INITIALIZED.failed(said[:200], fix, "kernel log")
    fields = status_fields(status)
    if fields is None:
        if api:
            return INITIALIZED.passed("SEV-SNP API %s.%s, build %s" % api.group(1, 2, 3), "kernel log")
        return _of_status(INITIALIZED, status)
    table = bool(fields[3] & 1)
    return INITIALIZED.judged(fields[2] == 1 and table, "state %d, RMP table %sinitialized" % (fields[2], "" if table else "not "))


def _version(status: Union[bytes, Unreadable], product: Optional[str]) -> Probe:
    fields = status_fields(status)
    if fields is None:
        return _of_status(VERSION, status)
    observed = "%d.%d, build %d" % (fields[0], fields[1], fields[4])
    if (fields[0], fields[1]) >= LEAST_API:
        return VERSION.passed(observed)
    return VERSION.failed(observed, "%s. %s" % (VERSION.fix, GENERATIONS[product].before) if product in GENERATIONS else None)


def _alias(status: Union[bytes, Unreadable], product: Optional[str]) -> Probe:
    fields = status_fields(status)
    if fields is None:
        return _of_status(ALIAS, status)
    if fields[3] & 2:
        return ALIAS.passed("it was made")
    least = GENERATIONS[product].alias if product in GENERATIONS else None
    running = (fields[0], fields[1], fields[4])
    if least is None or running < least:
        too_old = "; firmware %d.%d.%d, and %s makes it from %d.%d.%d on" % (running + (product,) + least) if least else ""
        return ALIAS.failed("it was not made" + too_old)
    return ALIAS.failed("it was not made, though firmware %d.%d.%d can make it" % running, "Update the BIOS, which makes it at boot, and boot once from cold")


def _tcb(status: Union[bytes, Unreadable]) -> Probe:
    fields = status_fields(status)
    if fields is None:
        return _of_status(TCB, status)
    return TCB.judged(fields[7] == fields[8], "current %016x, reported %016x" % (fields[7], fields[8]))


def _mask(status: Union[bytes, Unreadable]) -> Probe:
    fields = status_fields(status)
    if fields is None:
        return _of_status(MASK, status)
    masked, vlek = bool(fields[5] & 1), bool(fields[5] & 4)
    return MASK.judged(not masked or vlek, "MASK_CHIP_ID is %d, VLEK is %sin use" % (masked, "" if vlek else "not "))
