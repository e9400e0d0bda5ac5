# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The report that Azure's paravisor keeps in the virtual TPM (NV index 0x01400001): a hardware report and the JSON it vouches for.

Layout, little-endian: 0x00 "HCLA", version, length of all but the padding, request type 2, zeros up to 0x20; the hardware report
(1184 bytes: a SEV-SNP report, or a TDREPORT of 1024 bytes and zeros); 0x4C0 length from there on, 0x4C4 version 1, 0x4C8 kind of
hardware report (2 SEV-SNP, 4 TDX), 0x4CC hash 1 (SHA-256), 0x4D0 length of the JSON, 0x4D4 the JSON. The NV index is padded with zeros.
REPORT_DATA of the hardware report begins with the SHA-256 of the JSON's exact bytes; whether it does is judged by verify/azure_vtpm.py.
"""

from __future__ import annotations

import hashlib
import re
import struct
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Union

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict

SNP, TDX = 2, 4
KINDS = {SNP: "SEV-SNP", TDX: "TDX"}
HARDWARE_OFFSET, HARDWARE_SIZE = 0x20, 1184
TDREPORT_SIZE = 1024
RUNTIME_OFFSET = 0x4C0
JSON_OFFSET = 0x4D4
SIZE_MAX = 16 * 1024
USER_DATA_SIZE = 64
ATTESTATION_KEY = "HCLAkPub"
KEYS_MAX = 16

_HEADER = struct.Struct("<4sIII16x")
_RUNTIME = struct.Struct("<IIIII")
_MAGIC = b"HCLA"
_VERSIONS = (1, 2)
_REQUEST_TYPE = 2
_SHA256 = 1
_USER_DATA = re.compile(r"[0-9A-F]{%d}\Z" % (2 * USER_DATA_SIZE))
_UUID = re.compile(r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}\Z")
RSA_MODULUS_MIN, RSA_MODULUS_MAX = 256, 512
_CURVES = {"P-256": 32, "P-384": 48}


@dataclass(frozen=True)
class RsaPublic:
    """An RSA public key: ``n`` and ``e`` as numbers."""

    n: int
    e: int

    @property
    def size(self) -> int:
        """Length of the modulus, and so of a signature, in bytes."""
        return (self.n.bit_length() + 7) // 8


@dataclass(frozen=True)
class EcPublic:
    """A public key on "P-256" or "P-384": the coordinates as numbers."""

    curve: str
    x: int
    y: int


PublicKey = Union[RsaPublic, EcPublic]


@dataclass(frozen=True)
class HclReport:
    """``hardware`` is the SEV-SNP report (1184 bytes) or the TDREPORT (1024 bytes); ``runtime`` the exact bytes of the JSON.

    ``ak`` is the attestation key that the JSON names; ``user_data`` 64 bytes, None if the JSON has none; ``vm_id`` and
    ``secure_boot`` are None if they are not said. All of it is as trustworthy as REPORT_DATA's hash of ``runtime``.
    """

    version: int
    kind: int
    hardware: bytes
    runtime: bytes
    ak: PublicKey
    user_data: Optional[bytes]
    vm_id: Optional[str]
    secure_boot: Optional[bool]
    configuration: Mapping[str, Any]

    @property
    def runtime_digest(self) -> bytes:
        """SHA-256 of the JSON, which REPORT_DATA must begin with."""
        return hashlib.sha256(self.runtime).digest()

    def to_dict(self) -> Dict[str, Any]:
        """What the JSON says, JSON-able."""
        return {
            "version": self.version,
            "runtime_sha256": self.runtime_digest.hex(),
            "user_data": None if self.user_data is None else self.user_data.hex(),
            "vm_id": self.vm_id,
            "secure_boot": self.secure_boot,
            "vm_configuration": dict(self.configuration),
        }


def parse_hcl_report(data: bytes, where: str = "HCL report") -> HclReport:
    """Parse a report as read from the NV index. Raises FormatError on any length, version or padding that is not as described above,
    and on JSON that does not name exactly one key HCLAkPub."""
    data = bytes(data)
    if not JSON_OFFSET < len(data) <= SIZE_MAX:
        raise FormatError("it is %d bytes long, %d to %d are possible" % (len(data), JSON_OFFSET + 1, SIZE_MAX), where=where)
    magic, version, size, request = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise FormatError("it does not begin with HCLA", where=where)
    if version not in _VERSIONS or request != _REQUEST_TYPE or any(data[16:HARDWARE_OFFSET]):
        raise FormatError("its header (version %d, request type %d) is not one that is known" % (version, request), where=where)
    runtime_size, runtime_version, kind, hash_type, json_size = _RUNTIME.unpack_from(data, RUNTIME_OFFSET)
    if kind not in KINDS:
        raise FormatError("its hardware report is of the unknown kind %d" % kind, where=where)
    if runtime_version != 1 or hash_type != _SHA256:
        raise FormatError("runtime data version %d with hash %d, known is version 1 with hash 1 (SHA-256)" % (runtime_version, hash_type), where=where)
    end = JSON_OFFSET + json_size
    if end > len(data) or size != end or runtime_size != _RUNTIME.size + json_size:
        raise FormatError("its lengths (%d, %d, %d) do not agree with each other or exceed it" % (size, runtime_size, json_size), where=where)
    if any(data[end:]):
        raise FormatError("there are bytes other than zero behind its end", where=where)
    hardware = data[HARDWARE_OFFSET:HARDWARE_OFFSET + HARDWARE_SIZE]
    if kind == TDX:
        if any(hardware[TDREPORT_SIZE:]):
            raise FormatError("there are bytes other than zero behind its TDREPORT", where=where)
        hardware = hardware[:TDREPORT_SIZE]
    return _with_runtime(version, kind, hardware, data[JSON_OFFSET:end], where)


def _with_runtime(version: int, kind: int, hardware: bytes, runtime: bytes, where: str) -> HclReport:
    where += " JSON"
    claims = strict.loads(runtime, where)
    if not isinstance(claims, Mapping):
        raise FormatError("it is no object", where=where)
    # The paravisor adds members as it grows; what is read here is read strictly.
    configuration = claims.get("vm-configuration", {})
    if not isinstance(configuration, Mapping):
        raise FormatError("vm-configuration is no object", where=where)
    user_data, vm_id, secure_boot = claims.get("user-data"), configuration.get("vmUniqueId"), configuration.get("secure-boot")
    if user_data is not None and not _USER_DATA.match(strict.text_of(user_data, where + " user-data")):
        raise FormatError("it is not %d upper-case hexadecimal digits" % (2 * USER_DATA_SIZE), where=where + " user-data")
    if vm_id is not None and not _UUID.match(strict.text_of(vm_id, where + " vmUniqueId")):
        raise FormatError("it is no identifier in upper case", where=where + " vmUniqueId")
    if secure_boot is not None and not isinstance(secure_boot, bool):
        raise FormatError("it is not true or false", where=where + " secure-boot")
    return HclReport(
        version, kind, hardware, runtime, _attestation_key(claims, where),
        None if user_data is None else bytes.fromhex(user_data), vm_id, secure_boot, configuration,
    )  # fmt: skip


def _attestation_key(claims: Mapping[str, Any], where: str) -> PublicKey:
    keys = claims.get("keys")
    if not isinstance(keys, list) or len(keys) > KEYS_MAX or not all(isinstance(key, Mapping) for key in keys):
        raise FormatError("its keys are no list of at most %d objects" % KEYS_MAX, where=where)
    named = [key for key in keys if key.get("kid") == ATTESTATION_KEY]
    if len(named) != 1:
        raise FormatError("it names %d keys %s, exactly one was expected" % (len(named), ATTESTATION_KEY), where=where)
    where += " " + ATTESTATION_KEY
    if named[0].get("kty") == "EC":
        key = strict.members(named[0], ("kid", "kty", "key_ops", "crv", "x", "y"), where=where)
        size = _CURVES.get(key["crv"]) if isinstance(key["crv"], str) else None
        if size is None:
            raise FormatError("its curve is not P-256 or P-384", where=where)
        x, y = (int.from_bytes(strict.decode_base64url(key[name], where + " " + name, size, size), "big") for name in ("x", "y"))
        found: PublicKey = EcPublic(str(key["crv"]), x, y)
    else:
        key = strict.members(named[0], ("kid", "kty", "key_ops", "n", "e"), where=where)
        if key["kty"] != "RSA":
            raise FormatError("it is neither an RSA nor an EC key", where=where)
        n = strict.decode_base64url(key["n"], where + " n", RSA_MODULUS_MIN, RSA_MODULUS_MAX)
        e = strict.decode_base64url(key["e"], where + " e", 1, 8)
        if not n[0] or not e[0]:
            raise FormatError("a number of it has leading zero bytes", where=where)
        found = RsaPublic(int.from_bytes(n, "big"), int.from_bytes(e, "big"))
    if key["key_ops"] != ["sign"]:
        raise FormatError("it is not for signing alone", where=where)
    return found
