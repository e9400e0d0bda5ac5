# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The certificate chain of an NVIDIA device: firmware key, device key, provisioning authority, family, pinned root.

Everything here is independent of the report and of time, so that a proven chain can be cached.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.checks import PASS, Check, failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import TrustRoot, TrustRoots
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import der
from ansible_collections.attested.ai.plugins.module_utils.formats.der import Certificate
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia_x509 import Path, prove_path
from ansible_collections.attested.ai.plugins.module_utils.verify.primitives import p384_key

LENGTH = 5
PEM_MAX = 64 * 1024
# TCG DICE: CompositeDeviceID (Hopper and LS10) and DiceTcbInfo (Blackwell).
OID_COMPOSITE = bytes.fromhex("678105050401")
OID_TCB_INFO = bytes.fromhex("67810505040101")
_SHA384_OID = bytes.fromhex("0609608648016503040202")
_OID_SERIAL_NUMBER = bytes.fromhex("0603550405")
_FWIDS_TAG, _FLAGS_TAG = 0xA6, 0x87
_FWID_SIZE = 48
# OperationalFlags of DiceTcbInfo that no device in production has. Bit 0, notConfigured, is set on genuine ones.
_BAD_FLAGS = {1: "notSecure", 2: "recovery", 3: "debug"}
_CHIP = re.compile(r"(G[A-Z][0-9]{3}|LS_10) [A-Z][0-9]{2} (GSP|FSP|SEC2?) (FMC LF|BROM)\Z")
_PROVISIONER = re.compile(r"NVIDIA (G[A-Z][0-9]{3}|LS_10) Provisioner ICA [0-9]{1,6}\Z")
_ARCHITECTURES = {"GH": "hopper", "GB": "blackwell", "LS": "ls10"}
_DEVICE_SERIAL = re.compile(r"(?:[0-9A-F]{2}){9}\Z")


@dataclass(frozen=True)
class DeviceChain:
    """What is known of a device's certificates.

    ``certificates`` are those of the path, leaf first, the last one our own copy of the root; fewer if something cannot be read.
    ``chip`` is for example "GH100" or "LS_10", ``architecture`` "hopper", "blackwell", "ls10". ``pdi`` (8 bytes) is the number of the
    device in the certificate of its own key; it is what switches and GPUs call each other. ``fwid`` (48 bytes) is the digest of the
    firmware whose key the leaf certifies. ``flags`` names the operational flags that speak against it. ``key`` is the leaf's.
    """

    certificates: Tuple[Certificate, ...]
    root: Optional[TrustRoot]
    proven: bool
    key: Optional[Any]
    chip: Optional[str]
    architecture: Optional[str]
    pdi: Optional[bytes]
    fwid: Optional[bytes]
    flags: Tuple[str, ...]
    checks: Dict[str, Check]

    @property
    def cacheable(self) -> bool:
        """True if nothing failed: a cache never remembers a failure."""
        return self.proven and all(check.outcome == PASS for check in self.checks.values())

    @property
    def product(self) -> Optional[str]:
        """The chip as manifests spell it: "LS10"."""
        return None if self.chip is None else self.chip.replace("_", "")


IDS = ("chain-length", "root-not-pinned", "chain", "device-profile")


def build_chain(pem: bytes, roots: TrustRoots) -> DeviceChain:
    """Parse the PEM text as the device gave it and prove the path. Never raises for bad input."""
    checks: Dict[str, Check] = {}
    try:
        certificates = _parse(pem)
    except FormatError as error:
        return _broken(checks, "chain-length", "the certificate chain cannot be read: %s" % error.what)
    if len(certificates) != LENGTH:
        return _broken(checks, "chain-length", "%d certificates, a device has %d: firmware, device, provisioner, family, root" % (len(certificates), LENGTH))
    checks["chain-length"] = passed("chain-length", "%d certificates" % LENGTH)
    path = prove_path(certificates, roots)
    _judge_path(path, checks)
    leaf = certificates[0]
    chip: Optional[str] = None
    firmware: Tuple[Optional[bytes], Tuple[str, ...], Optional[bytes]] = (None, (), None)
    try:
        chip, offence = _chip(certificates)
        firmware = _firmware(leaf)
        if not offence and firmware[2] not in (None, certificates[1].spki):
            offence = "the firmware certificate names another device's key than its issuer has"
    except FormatError as error:
        offence = error.what
    offence = path.profile_offence or offence
    if offence:
        checks["device-profile"] = failed("device-profile", offence)
    else:
        checks["device-profile"] = passed("device-profile", "firmware and device certificates of a %s" % chip)
    return DeviceChain(
        certificates=path.certificates, root=path.root, proven=path.proven and not offence, key=p384_key(leaf.spki), chip=chip,
        architecture=None if chip is None else _ARCHITECTURES.get(chip[:2]), pdi=_pdi(certificates[1]), fwid=firmware[0], flags=firmware[1], checks=checks,
    )  # fmt: skip


def _broken(checks: Dict[str, Check], check_id: str, detail: str) -> DeviceChain:
    checks[check_id] = failed(check_id, detail)
    for other in IDS:
        checks.setdefault(other, not_checked(other, "the chain is not one"))
    return DeviceChain((), None, False, None, None, None, None, None, (), checks)


def _parse(pem: bytes) -> List[Certificate]:
    if len(pem) > PEM_MAX:
        raise FormatError("it is %d bytes, at most %d are read" % (len(pem), PEM_MAX))
    try:
        # Drivers hand over a buffer, and count the zero that ends the text.
        text = pem.rstrip(b"\0").decode("ascii")
    except UnicodeDecodeError:
        raise FormatError("it is not ASCII text") from None
    return [der.parse_certificate(data) for data in der.pem_to_der(text, where="certificate chain")]


def _judge_path(path: Path, checks: Dict[str, Check]) -> None:
    if path.root is None:
        checks["root-not-pinned"] = failed("root-not-pinned", path.root_offence)
        checks["chain"] = not_checked("chain", "it leads to no pinned root")
        return
    checks["root-not-pinned"] = passed("root-not-pinned", "%s, SPKI SHA-256 %s (%s)" % (path.root.name, path.root.spki_sha256, path.root.anchor))
    checks["chain"] = failed("chain", path.chain_offence) if path.chain_offence else passed("chain", "every signature holds")


def _chip(certificates: Sequence[Certificate]) -> Tuple[Optional[str], str]:
    """The chip that the names of firmware, device and provisioner agree on, and the offence if they do not."""
    leaf, device, provisioner = [certificate.common_name or "" for certificate in certificates[:3]]
    found = [_CHIP.match(leaf), _CHIP.match(device), _PROVISIONER.match(provisioner)]
    if found[0] is None or found[1] is None or found[2] is None or found[0].group(3) != "FMC LF" or found[1].group(3) != "BROM":
        return None, "the names %s, %s, %s are not those of firmware, device and provisioner" % (ascii(leaf), ascii(device), ascii(provisioner))
    chips = [match.group(1) for match in found if match is not None]
    if len(set(chips)) != 1 or _ARCHITECTURES.get(chips[0][:2]) is None:
        return None, "the certificates are for %s" % ", ".join(chips)
    return chips[0], ""


def _pdi(device: Certificate) -> Optional[bytes]:
    """The last 8 of the 9 bytes that serialNumber of the device's name spells; None if it does not."""
    place = device.subject.find(_OID_SERIAL_NUMBER)
    if place < 0:
        return None
    start = place + len(_OID_SERIAL_NUMBER) + 2
    text = device.subject[start:start + device.subject[start - 1]].decode("latin-1")
    return bytes.fromhex(text)[1:] if _DEVICE_SERIAL.match(text) else None


def _firmware(leaf: Certificate) -> Tuple[Optional[bytes], Tuple[str, ...], Optional[bytes]]:
    """(firmware id, flags against it, SPKI of the device that it names) of the leaf. Raises FormatError."""
    composite, tcb_info = leaf.extensions.get(OID_COMPOSITE), leaf.extensions.get(OID_TCB_INFO)
    if composite is not None and tcb_info is not None:
        raise FormatError("the firmware certificate has two firmware ids")
    if composite is not None:
        named, spki = _composite(composite[1])
        return named, (), spki
    if tcb_info is not None:
        fwid, flags = _tcb_info(tcb_info[1])
        return fwid, flags, None
    return None, (), None


def _fwid(value: bytes, start: int, end: int) -> Tuple[bytes, int]:
    """One FWID: SEQUENCE { SHA-384, OCTET STRING }; returns it and where it ends."""
    position, stop = der.expect(value, start, end, der.SEQUENCE)
    if value[position:position + len(_SHA384_OID)] != _SHA384_OID:
        raise FormatError("the firmware id is no SHA-384 digest")
    begin, finish = der.expect(value, position + len(_SHA384_OID), stop, der.OCTET_STRING)
    if finish != stop or finish - begin != _FWID_SIZE:
        raise FormatError("the firmware id has not %d bytes" % _FWID_SIZE)
    return value[begin:finish], stop


def _composite(value: bytes) -> Tuple[bytes, bytes]:
    position, end = der.whole(value, der.SEQUENCE)
    start, position = der.expect(value, position, end, der.INTEGER)
    if value[start:position] != b"\x01":
        raise FormatError("the composite device id has not version 1")
    start, position = position, der.expect(value, position, end, der.SEQUENCE)[1]
    fwid, stop = _fwid(value, position, end)
    if stop != end:
        raise FormatError("bytes after the firmware id")
    return fwid, value[start:position]


def _tcb_info(value: bytes) -> Tuple[Optional[bytes], Tuple[str, ...]]:
    """The first firmware id, and the names of the flags that speak against the device."""
    position, end = der.whole(value, der.SEQUENCE)
    fwid: Optional[bytes] = None
    flags: Tuple[str, ...] = ()
    last = 0
    while position < end:
        tag, start, position = der.read(value, position, end)
        if tag & 0x1F <= last & 0x1F and last:
            raise FormatError("the members of the TCB info are not in order")
        last = tag
        if tag == _FWIDS_TAG:
            fwid = _fwid(value, start, position)[0]
        elif tag == _FLAGS_TAG:
            bits = value[start:position]
            if not 2 <= len(bits) <= 5 or bits[0] > 7:
                raise FormatError("malformed operational flags")
            flags = tuple([name for bit, name in sorted(_BAD_FLAGS.items()) if bits[1 + bit // 8] & 0x80 >> bit % 8])
    return fwid, flags
