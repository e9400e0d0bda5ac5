# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The registers that a boot leads to, from the files that are booted: what systemd's stub and Linux's stub measure.

Two ways are known. *Direct*: the VMM hands kernel, initrd and command line to the firmware, and Linux's own stub measures command line and initrd.
*UKI*: the firmware starts a unified kernel image from the disk, systemd's stub measures its sections, and then Linux's stub what it is given.

Sources: systemd-stub(7) and systemd-measure(1) for the sections, their order and that each is measured as its name and its content; Linux
drivers/firmware/efi/libstub for LoadOptions and the initrd. On a TD, PCR 8 to 15 are RTMR2 (UEFI specification, "CC measurement").
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.measure.pe import ALGORITHMS, Section, authenticode, parse_pe
from ansible_collections.attested.ai.plugins.module_utils.measure.stub_initrd import stub_initrd

CMDLINE_MAX = 64 * 1024
# In the order in which systemd's stub measures them. .pcrsig is left out: it signs the result.
UKI_SECTIONS = (".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey", ".profile", ".dtbauto", ".hwids")
PCR_KERNEL, PCR_UKI = 9, 11


@dataclass(frozen=True)
class Event:
    """One measurement: into which PCR, what it is, and its digest."""

    pcr: int
    what: str
    digest: bytes


@dataclass(frozen=True)
class Uki:
    """A unified kernel image: its sections in their order, and what the command line says."""

    sections: Tuple[Section, ...]
    cmdline: str

    @property
    def root_hash(self) -> str:
        """The hash of the verified root that the command line names, or nothing."""
        return root_hash(self.cmdline)


def root_hash(cmdline: str) -> str:
    """The last word roothash= of a command line, as systemd reads it. usrhash= vouches for /usr alone, and the root may be anything."""
    found = ""
    for word in cmdline.split():
        key, _sign, value = word.partition("=")
        if key == "roothash":
            found = value.lower()
    return found


def parse_uki(image: bytes) -> Uki:
    """Raises FormatError for an image without kernel, or with several profiles, of which any could be started."""
    pe = parse_pe(image)
    names = [section.name for section in pe.sections]
    if ".linux" not in names:
        raise FormatError("it has no section .linux, so it is no unified kernel image", where="PE image")
    for name in (".linux", ".cmdline", ".initrd", ".profile"):
        if names.count(name) > 1:
            raise FormatError("it has %d sections %s: which is started is the boot menu's choice" % (names.count(name), name), where="PE image")
    by_name = pe.by_name()
    text = by_name[".cmdline"].content(image) if ".cmdline" in by_name else b""
    try:
        cmdline = text.rstrip(b"\0").decode("ascii").strip()
    except UnicodeDecodeError:
        raise FormatError("its command line is not ASCII", where="PE image") from None
    return Uki(pe.sections, cmdline)


def uki_events(image: bytes, algorithm: str) -> Tuple[Event, ...]:
    """What systemd's stub measures of its own sections, and Linux's stub then of command line and initrd."""
    uki = parse_uki(image)
    by_name = parse_pe(image).by_name()
    events: List[Event] = []
    for name in UKI_SECTIONS:
        if name in by_name:
            events.append(Event(PCR_UKI, "name of %s" % name, _hash(algorithm, name.encode("ascii") + b"\0")))
            events.append(Event(PCR_UKI, "content of %s" % name, _hash(algorithm, by_name[name].content(image))))
    initrd = stub_initrd({name: section.content(image) for name, section in by_name.items() if name != ".linux"})
    return tuple(events) + _kernel_events(uki.cmdline, initrd, algorithm)


def direct_events(cmdline: str, initrd: bytes, algorithm: str) -> Tuple[Event, ...]:
    """What Linux's stub measures where OVMF boots the kernel that the VMM hands over. OVMF adds the name of the initrd to the command line."""
    return _kernel_events(cmdline + (" initrd=initrd" if initrd else ""), initrd, algorithm)


def _kernel_events(cmdline: str, initrd: bytes, algorithm: str) -> Tuple[Event, ...]:
    if len(cmdline) > CMDLINE_MAX or not cmdline.isascii() or "\0" in cmdline:
        raise FormatError("it is no line of plain ASCII", where="command line")
    options = Event(PCR_KERNEL, "LOADED_IMAGE::LoadOptions", _hash(algorithm, (cmdline + "\0").encode("utf-16-le")))
    return (options,) + ((Event(PCR_KERNEL, "Linux initrd", _hash(algorithm, initrd)),) if initrd else ())


def replay(events: Iterable[Event], algorithm: str) -> Dict[str, str]:
    """The registers after these events: PCRs by number, and rtmr2 for what a TD keeps of PCR 8 to 15. Hexadecimal."""
    if algorithm not in ALGORITHMS:
        raise FormatError("%s is none of %s" % (ascii(algorithm)[:20], ", ".join(ALGORITHMS)), where="algorithm")
    size = hashlib.new(algorithm).digest_size
    registers: Dict[str, bytes] = {}
    for event in events:
        for name in ["pcr%d" % event.pcr] + (["rtmr2"] if algorithm == "sha384" and 8 <= event.pcr <= 15 else []):
            registers[name] = _hash(algorithm, registers.get(name, bytes(size)) + event.digest)
    return {name: value.hex() for name, value in sorted(registers.items())}


def _hash(algorithm: str, data: bytes) -> bytes:
    return hashlib.new(algorithm, data).digest()


def predictions(image: bytes) -> Dict[str, Any]:
    """What a unified kernel image leads to: ``uki`` started by the firmware, ``direct`` its parts handed over by the VMM. Raises FormatError."""
    uki, by_name = parse_uki(image), parse_pe(image).by_name()
    initrd = by_name[".initrd"].content(image) if ".initrd" in by_name else b""
    found: Dict[str, Any] = {"uki": {"authenticode_%s" % name: authenticode(image, name).hex() for name in ALGORITHMS}, "direct": {}}
    for algorithm in ALGORITHMS:
        for way, events in (("uki", uki_events(image, algorithm)), ("direct", direct_events(uki.cmdline, initrd, algorithm))):
            for name, value in replay(events, algorithm).items():
                if name == "rtmr2":
                    found[way][name] = value
                else:
                    found[way].setdefault(name, {})[algorithm] = value
    return found
