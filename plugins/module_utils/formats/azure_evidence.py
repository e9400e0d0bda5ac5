# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Evidence of a guest under Azure's paravisor, in the JSON shapes that Trustee takes for az-snp-vtpm and az-tdx-vtpm.

Version 0 (no member ``version``) spells bytes as lists of numbers and the VCEK as PEM; versions 1 and 2 spell the quote in hexadecimal
and the rest in base64url with padding. From version 2 on the guest has put the report data into the HCL report as well.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any, List, Mapping, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.formats.der import pem_to_der
from ansible_collections.attested.ai.plugins.module_utils.formats.strict import is_integer

AZ_SNP, AZ_TDX = "az-snp-vtpm", "az-tdx-vtpm"
# What stands beside the quote and the HCL report: the chip's certificate, or the quote over the TDREPORT.
_ENDORSEMENT = {AZ_SNP: "vcek", AZ_TDX: "td_quote"}
VERSIONS = (1, 2)
PCRS_MAX = 24
PCR_SIZE = 32
BYTES_MAX = 48 * 1024
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*={0,2}\Z")
_HEX = re.compile(r"(?:[0-9a-f]{2})*\Z")


@dataclass(frozen=True)
class AzureEvidence:
    """``message`` is TPMS_ATTEST, ``signature`` the bare RSA signature or a TPMT_SIGNATURE, ``pcrs`` the values of the PCRs that the
    message selects, ascending. ``endorsement`` is the VCEK in DER (az-snp-vtpm) or the TD quote (az-tdx-vtpm)."""

    tee: str
    version: int
    hcl_report: bytes
    message: bytes
    signature: bytes
    pcrs: Tuple[bytes, ...]
    endorsement: bytes

    def to_json(self) -> bytes:
        """The bytes of this evidence in Trustee's shape, versions 1 and 2."""
        quote = {"signature": self.signature.hex(), "message": self.message.hex(), "pcrs": [pcr.hex() for pcr in self.pcrs]}
        shape = {"version": self.version, "tpm_quote": quote, "hcl_report": _to_base64url(self.hcl_report)}
        shape[_ENDORSEMENT[self.tee]] = _to_base64url(self.endorsement)
        return json.dumps(shape, separators=(",", ":"), sort_keys=True).encode("ascii")


def parse_azure_evidence(data: bytes, tee: str, where: str = "") -> AzureEvidence:
    """Parse the JSON bytes of one item. Raises FormatError on any member, spelling or length that the shapes do not have."""
    where = where or tee + " evidence"
    shape = strict.loads(data, where)
    if not isinstance(shape, Mapping):
        raise FormatError("it is no object", where=where)
    last = _ENDORSEMENT[tee]
    if "version" not in shape:
        return _version_0(shape, tee, where)
    strict.members(shape, ("version", "tpm_quote", "hcl_report", last), where=where)
    if not is_integer(shape["version"]) or shape["version"] not in VERSIONS:
        raise FormatError("version %s is none of %s" % (strict.quoted(shape["version"]), ", ".join(map(str, VERSIONS))), where=where)
    quote = strict.members(shape["tpm_quote"], ("signature", "message", "pcrs"), where=where + " tpm_quote")
    return AzureEvidence(
        tee, shape["version"],
        hcl_report=_base64url(shape["hcl_report"], where + " hcl_report"),
        message=_hex(quote["message"], where + " message"),
        signature=_hex(quote["signature"], where + " signature"),
        pcrs=_pcrs([strict.decode_hex(value, where + " pcrs", PCR_SIZE) for value in _listed(quote["pcrs"], PCRS_MAX, where + " pcrs")], where),
        endorsement=_base64url(shape[last], where + " " + last),
    )  # fmt: skip


def _version_0(shape: Mapping[str, Any], tee: str, where: str) -> AzureEvidence:
    quote_name, report_name, last = ("quote", "report", "vcek") if tee == AZ_SNP else ("tpm_quote", "hcl_report", "td_quote")
    strict.members(shape, (quote_name, report_name, last), where=where)
    quote = strict.members(shape[quote_name], ("signature", "message", "pcrs"), where=where + " " + quote_name)
    if tee == AZ_SNP:
        certificates = pem_to_der(strict.text_of(shape[last], where + " vcek", limit=BYTES_MAX), where=where + " vcek")
        if len(certificates) != 1:
            raise FormatError("%d certificates, one was expected" % len(certificates), where=where + " vcek")
        endorsement = certificates[0]
    else:
        endorsement = _numbers(shape[last], where + " td_quote")
    return AzureEvidence(
        tee, 0,
        hcl_report=_numbers(shape[report_name], where + " " + report_name),
        message=_numbers(quote["message"], where + " message"),
        signature=_numbers(quote["signature"], where + " signature"),
        pcrs=_pcrs([_numbers(value, where + " pcrs") for value in _listed(quote["pcrs"], PCRS_MAX, where + " pcrs")], where),
        endorsement=endorsement,
    )  # fmt: skip


def _pcrs(values: List[bytes], where: str) -> Tuple[bytes, ...]:
    if not values or any(len(value) != PCR_SIZE for value in values):
        raise FormatError("1 to %d values of %d bytes were expected" % (PCRS_MAX, PCR_SIZE), where=where + " pcrs")
    return tuple(values)


def _listed(value: Any, maximum: int, where: str) -> List[Any]:
    if not isinstance(value, list) or len(value) > maximum:
        raise FormatError("a list of at most %d items was expected" % maximum, where=where)
    return value


def _numbers(value: Any, where: str) -> bytes:
    items = _listed(value, BYTES_MAX, where)
    if any(isinstance(item, bool) or not isinstance(item, int) or not 0 <= item <= 255 for item in items):
        raise FormatError("a list of numbers from 0 to 255 was expected", where=where)
    return bytes(items)


def _hex(value: Any, where: str) -> bytes:
    text = strict.text_of(value, where, limit=2 * 4096)
    if not _HEX.match(text):
        raise FormatError("it is no lower-case hexadecimal text", where=where)
    return bytes.fromhex(text)


def _base64url(value: Any, where: str) -> bytes:
    text = strict.text_of(value, where, limit=BYTES_MAX // 3 * 4)
    if not _BASE64URL.match(text) or len(text) % 4:
        raise FormatError("it is not base64url with padding", where=where)
    try:
        data = base64.urlsafe_b64decode(text)
    except (binascii.Error, ValueError):
        raise FormatError("it is not base64url with padding", where=where) from None
    if _to_base64url(data) != text:
        raise FormatError("it is not canonical base64url", where=where)
    return data


def _to_base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii")
