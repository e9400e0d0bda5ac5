# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the firmware says of SGX registration in its UEFI variables (DCAP, SGXPlatformRegistration: UefiVar.h, MPUefi.cpp).

Reading them changes nothing, the request included: that is how the platform manifest is saved before anything can consume it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError

FOLDER = "/sys/firmware/efi/efivars"
STATUS = FOLDER + "/SgxRegistrationStatus-f236c5dc-a491-4bbe-bcdd-88885770df45"
REQUEST = FOLDER + "/SgxRegistrationServerRequest-304e0796-d515-4698-ac6e-e76cb1a71c28"
CONFIGURATION = FOLDER + "/SgxRegistrationConfiguration-18b3bc81-e210-42b9-9ec8-2c5a7d4d89b6"

MANIFEST, ADD_PACKAGE = "manifest", "add-package"
REQUEST_MAX = 256 << 10
_ATTRIBUTES = 4
_GUIDS = {
    bytes.fromhex("178e874b49e44aa599bb3057170925b4"): MANIFEST,
    bytes.fromhex("696519ca73c14785a0f64d289d37e995"): ADD_PACKAGE,
}
# Of the agent and of Intel's registration service; what is below 0x80 is the firmware's own (MCHECK).
ERRORS = {
    0x80: "unexpected error of the agent",
    0x81: "the agent had no memory left",
    0x82: "the network or the proxy failed",
    0x83: "an argument was wrong",
    0x84: "the service had an internal error",
    0x85: "the service did not answer in time",
    0x86: "the firmware's variables are not as they must be",
    0x87: "the service did not authorize the agent",
    0xA0: "the service did not understand the request",
    0xA1: "the manifest is meant for another registration service",
    0xA2: "a processor package is invalid or revoked",
    0xA3: "the service does not know a processor package (PackageNotFound)",
    0xA4: "the processor packages do not fit together",
    0xA5: "the platform's configuration is invalid",
    0xA6: "the service does not know the platform",
    0xA7: "the request to add a package is invalid",
    0xA8: "the service refused for an unknown reason",
}


@dataclass(frozen=True)
class Status:
    """``complete`` means only that somebody took the manifest, or that there was none to take."""

    complete: bool
    error: int

    @property
    def problem(self) -> str:
        if not self.error:
            return ""
        return "error 0x%02x, %s" % (self.error, ERRORS.get(self.error, "of the firmware (MCHECK)" if self.error < 0x80 else "which is not known"))


@dataclass(frozen=True)
class Request:
    """``kind`` is manifest or add-package, ``data`` what is sent to Intel's service."""

    kind: str
    data: bytes

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def parse_status(data: bytes, where: str = STATUS) -> Status:
    if len(data) != _ATTRIBUTES + 7:
        raise _wrong(where, "it has %d bytes, not 11" % len(data))
    version, size = _number(data, 4), _number(data, 6)
    if version != 1 or size != 3:
        raise _wrong(where, "version %d and size %d are not known" % (version, size))
    return Status(bool(_number(data, 8) & 1), data[10])


def parse_request(data: bytes, where: str = REQUEST) -> Request:
    if len(data) > REQUEST_MAX:
        raise _wrong(where, "it has %d bytes, more than a request can have" % len(data))
    version = _number(data, 4) if len(data) >= 6 else -1
    if version not in (1, 2, 3):
        raise _wrong(where, "version %d is not known" % version)
    # Version 3, the manifest of platforms with S3M, has a size of four bytes.
    width = 4 if version == 3 else 2
    start = 6 + width
    size = int.from_bytes(data[6:start], "little")
    body = data[start:]
    if len(data) < start or size != len(body) or size < 16:
        raise _wrong(where, "it says that %d bytes follow, there are %d" % (size, len(body)))
    kind = _GUIDS.get(body[:16])
    if kind is None:
        raise _wrong(where, "it asks for something unknown (%s)" % body[:16].hex())
    return Request(kind, body)


def parse_agent_enabled(data: bytes, where: str = CONFIGURATION) -> bool:
    """Whether SGX Auto MP Registration Agent is enabled in the BIOS: bit 0 of the flags, "the service saves no keys", is clear."""
    if len(data) < _ATTRIBUTES + 6:
        raise _wrong(where, "it has %d bytes, too few" % len(data))
    return not _number(data, 8) & 1


def _number(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 2], "little")


def _wrong(where: str, what: str) -> FormatError:
    return FormatError(what, where=where, fix="Update the BIOS; SGX Factory Reset makes these variables anew", code="uefi-variable")
