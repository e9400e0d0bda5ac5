# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Intel TDX quotes of versions 4 and 5 (Intel TDX DCAP quoting library, appendix A): bytes to frozen values.

Nothing here decides about trust: a quote that parses may be forged. All integers are little-endian, but r, s, x and y, which are
big-endian. After the declared end only zeros may stand: providers pad to fixed sizes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.sgx_report import SgxReport, parse_sgx_report

QUOTE_MAX = 64 * 1024
HEADER_SIZE = 48
TD10_SIZE, TD15_SIZE = 584, 648
BODY_TD10, BODY_TD15 = 2, 3
TEE_TDX = 0x81
ECDSA_P256 = 2
QE_VENDOR_ID = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
# Types of certification data: a PCK chain in PEM, and the report of the quoting enclave around it.
CERT_PCK_CHAIN, CERT_QE_REPORT = 5, 6

_HEADER = struct.Struct("<H H I 4s 16s 20s")
_BODY = struct.Struct("<16s 48s 48s 8s 8s 8s 48s 48s 48s 48s 48s 48s 48s 48s 64s")
_BODY15 = struct.Struct("<16s 48s")
_BODY_SIZES = {BODY_TD10: TD10_SIZE, BODY_TD15: TD15_SIZE}
_SIGNATURE = struct.Struct("<64s 64s H I")
_QE = struct.Struct("<384s 64s H")
_TYPED = struct.Struct("<H I")
_U32 = struct.Struct("<I")
_V5 = struct.Struct("<H I")

# TDATTRIBUTES (Intel TDX module ABI, 348551-007).
TD_DEBUG = 1 << 0
TD_UNDER_DEBUG = 0xFF  # TUD group and profiling
TD_ICSSD = 1 << 16
TD_SERVTD_EXT = 1 << 17
TD_LASS = 1 << 27
TD_SEPT_VE_DISABLE = 1 << 28
TD_MIGRATABLE = 1 << 29
TD_PKS = 1 << 30
TD_KL = 1 << 31
TD_TPA = 1 << 62
TD_PERFMON = 1 << 63
TD_RESERVED = 0x3FFFFFFF0780FF8E
_ATTRIBUTE_NAMES = (
    ("debug", TD_DEBUG), ("icssd", TD_ICSSD), ("servtd_ext", TD_SERVTD_EXT), ("lass", TD_LASS), ("sept_ve_disable", TD_SEPT_VE_DISABLE),
    ("migratable", TD_MIGRATABLE), ("pks", TD_PKS), ("kl", TD_KL), ("tpa", TD_TPA), ("perfmon", TD_PERFMON),
)  # fmt: skip


@dataclass(frozen=True)
class TdReport:
    """The body of a quote: TDREPORT of TDX 1.0, or of 1.5 with two more fields, which are None for 1.0.

    ``tee_tcb_svn``: [0] SVN and [1] version of the TDX module that was there at launch; ``tee_tcb_svn_2``: of the one that runs now.
    ``tdattributes`` and ``xfam`` are integers of 64 bits.
    """

    tee_tcb_svn: bytes
    mrseam: bytes
    mrsignerseam: bytes
    seamattributes: bytes
    tdattributes: int
    xfam: int
    mrtd: bytes
    mrconfigid: bytes
    mrowner: bytes
    mrownerconfig: bytes
    rtmr0: bytes
    rtmr1: bytes
    rtmr2: bytes
    rtmr3: bytes
    reportdata: bytes
    tee_tcb_svn_2: Optional[bytes] = None
    mrservicetd: Optional[bytes] = None

    @property
    def rtmrs(self) -> Tuple[bytes, bytes, bytes, bytes]:
        """RTMR0 to RTMR3, 48 bytes each."""
        return self.rtmr0, self.rtmr1, self.rtmr2, self.rtmr3

    @property
    def attribute_names(self) -> Tuple[str, ...]:
        """The names of the TDATTRIBUTES that are set: "debug", "sept_ve_disable", ..."""
        return tuple([name for name, bit in _ATTRIBUTE_NAMES if self.tdattributes & bit])

    def to_dict(self) -> Dict[str, Any]:
        """JSON-able, byte strings as hexadecimal text in the order of the bytes; TDATTRIBUTES and XFAM too, as quotes have them."""
        result: Dict[str, Any] = {
            name: getattr(self, name).hex()
            for name in ("tee_tcb_svn", "mrseam", "mrsignerseam", "seamattributes", "mrtd", "mrconfigid", "mrowner", "mrownerconfig", "reportdata")
        }
        result["tdattributes"] = self.tdattributes.to_bytes(8, "little").hex()
        result["xfam"] = self.xfam.to_bytes(8, "little").hex()
        result["attributes"] = list(self.attribute_names)
        result["rtmr"] = {str(number): value.hex() for number, value in enumerate(self.rtmrs)}
        result["tee_tcb_svn_2"] = None if self.tee_tcb_svn_2 is None else self.tee_tcb_svn_2.hex()
        result["mrservicetd"] = None if self.mrservicetd is None else self.mrservicetd.hex()
        return result


@dataclass(frozen=True)
class TdxQuote:
    """A quote, field by field. ``signed`` are header and body as received, what the attestation key signs; ``body_type`` is 2 (TDX 1.0)
    or 3 (1.5), also for version 4, which does not write it. ``signature`` is r, s and ``attestation_key`` x, y, 32 bytes each.
    ``certification_data`` is the PCK chain in PEM as received; ``padding`` the number of zeros after the end."""

    version: int
    header_svns: bytes
    user_data: bytes
    body_type: int
    body: TdReport
    signed: bytes
    signature: bytes
    attestation_key: bytes
    qe_report: SgxReport
    qe_report_signature: bytes
    qe_auth_data: bytes
    certification_data: bytes
    padding: int

    def to_dict(self) -> Dict[str, Any]:
        """JSON-able, byte strings as hexadecimal text; without signatures and certificates."""
        return {
            "version": self.version,
            "body_type": self.body_type,
            "user_data": self.user_data.hex(),
            "body": self.body.to_dict(),
            "qe_report": self.qe_report.to_dict(),
        }


def _bad(what: str, code: str = "format") -> FormatError:
    return FormatError(what, where="TDX quote", code=code)


def parse_quote(data: bytes) -> TdxQuote:
    """Parse one quote of at most 64 KiB. Raises FormatError; its code tells which rule is broken: version, ak-type, tee-type, qe-vendor,
    body-type, body-size, cert-type, trailing-data, or format for everything else."""
    data = bytes(data)
    size = len(data)
    if size > QUOTE_MAX:
        raise _bad("it is %d bytes, at most %d are read" % (size, QUOTE_MAX))
    if size < HEADER_SIZE + TD10_SIZE + 4:
        raise _bad("it is %d bytes, which is shorter than header and body" % size)
    version, key_type, tee_type, svns, vendor, user_data = _HEADER.unpack_from(data)
    if version not in (4, 5):
        raise _bad("version %d, known are 4 and 5" % version, "version")
    if key_type != ECDSA_P256:
        raise _bad("attestation key type %d, known is 2 (ECDSA P-256)" % key_type, "ak-type")
    if tee_type != TEE_TDX:
        raise _bad("TEE type 0x%x, that of TDX is 0x81" % tee_type, "tee-type")
    if vendor != QE_VENDOR_ID:
        raise _bad("the quoting enclave's vendor is %s, not Intel (%s)" % (vendor.hex(), QE_VENDOR_ID.hex()), "qe-vendor")
    body_type, position = BODY_TD10, HEADER_SIZE
    if version == 5:
        body_type, stated = _V5.unpack_from(data, HEADER_SIZE)
        position += _V5.size
        if body_type not in _BODY_SIZES:
            raise _bad("body type %d, known are 2 (TDX 1.0) and 3 (TDX 1.5)" % body_type, "body-type")
        if stated != _BODY_SIZES[body_type]:
            raise _bad("a body of type %d has %d bytes, %d are stated" % (body_type, _BODY_SIZES[body_type], stated), "body-size")
    end = position + _BODY_SIZES[body_type]
    if end + 4 > size:
        raise _bad("it ends inside the body")
    body = _parse_body(data, position, body_type)
    stop = end + 4 + _U32.unpack_from(data, end)[0]
    if stop > size:
        raise _bad("the signature data should end at byte %d, the quote at %d" % (stop, size))
    if data.count(0, stop) != size - stop:
        raise _bad("bytes that are not zero after the declared end at byte %d" % stop, "trailing-data")
    signature, key, qe_report, qe_signature, auth, chain = _parse_signature(data, end + 4, stop)
    return TdxQuote(
        version, svns, user_data, body_type, body, data[:end], signature, key, qe_report, qe_signature, auth, chain, size - stop,
    )  # fmt: skip


def _parse_body(data: bytes, position: int, body_type: int) -> TdReport:
    svn, mrseam, signer, seam, attributes, xfam, mrtd, config, owner, owner_config, r0, r1, r2, r3, reportdata = _BODY.unpack_from(data, position)
    svn_2, service = _BODY15.unpack_from(data, position + TD10_SIZE) if body_type == BODY_TD15 else (None, None)
    return TdReport(
        svn, mrseam, signer, seam, int.from_bytes(attributes, "little"), int.from_bytes(xfam, "little"),
        mrtd, config, owner, owner_config, r0, r1, r2, r3, reportdata, svn_2, service,
    )  # fmt: skip


def _parse_signature(data: bytes, position: int, end: int) -> Tuple[bytes, bytes, SgxReport, bytes, bytes, bytes]:
    """(signature, attestation key, QE report, its signature, authentication data, PCK chain), each length in bounds and nothing left over."""
    if end - position < _SIGNATURE.size + _QE.size + _TYPED.size:
        raise _bad("the signature data has %d bytes, which is too short" % (end - position))
    signature, key, outer, outer_size = _SIGNATURE.unpack_from(data, position)
    position += _SIGNATURE.size
    if outer != CERT_QE_REPORT:
        raise _bad("certification data of type %d, TD quotes have 6 (report of the quoting enclave)" % outer, "cert-type")
    if outer_size != end - position:
        raise _bad("the certification data has %d bytes, %d are stated" % (end - position, outer_size))
    report, report_signature, auth_size = _QE.unpack_from(data, position)
    position += _QE.size
    if position + auth_size + _TYPED.size > end:
        raise _bad("the authentication data goes past the end")
    auth = data[position:position + auth_size]
    position += auth_size
    inner, inner_size = _TYPED.unpack_from(data, position)
    position += _TYPED.size
    if inner != CERT_PCK_CHAIN:
        raise _bad("the quoting enclave's certification data has type %d, 5 (PCK chain) was expected" % inner, "cert-type")
    if inner_size != end - position:
        raise _bad("the PCK chain has %d bytes, %d are stated" % (end - position, inner_size))
    return signature, key, parse_sgx_report(report), report_signature, auth, data[position:end]
