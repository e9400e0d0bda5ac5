# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Collect evidence in a guest under Azure's paravisor: HCL report and quote from the virtual TPM, certificate or TD quote from the host.

The paravisor keeps its report in NV index 0x01400001. What is written into NV index 0x01400002 it takes into a new report within a few
seconds, so that the hardware report answers the verifier's nonce as well; where that does not work, the quote alone does.
"""

from __future__ import annotations

import time
from typing import Callable, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import CollectError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import tpm2
from ansible_collections.attested.ai.plugins.module_utils.formats.azure_evidence import AZ_SNP, AZ_TDX, AzureEvidence, parse_azure_evidence
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import EvidenceItem
from ansible_collections.attested.ai.plugins.module_utils.formats.hcl_report import SNP, HclReport, RsaPublic, parse_hcl_report
from ansible_collections.attested.ai.plugins.module_utils.target.azure_imds import DEFAULT_BASE_URL, Imds
from ansible_collections.attested.ai.plugins.module_utils.target.tpm import ALL_PCRS, DEFAULT_DEVICE, Device, Tpm, Transport

PROVIDER = "azure-vtpm"
HCL_REPORT_INDEX = 0x01400001
USER_DATA_INDEX = 0x01400002
AK_HANDLE = 0x81000003
REPORT_DATA_SIZE = 64
# Guests of Trustee quote the bare SHA-384 digest; virtual TPMs need not take 64 bytes.
DIGEST_SIZE = 48
FRESH_ATTEMPTS = 10
FRESH_WAIT = 1.0
QUOTE_ATTEMPTS = 5
_NOT_AZURE = "This method is for confidential guests of Azure; elsewhere use method configfs"


def collect(
    report_data: bytes,
    transport: Optional[Transport] = None,
    imds: Optional[Imds] = None,
    device: str = DEFAULT_DEVICE,
    base_url: str = DEFAULT_BASE_URL,
    fresh: bool = True,
    sleep: Callable[[float], None] = time.sleep,
) -> EvidenceItem:
    """One item of type az-snp-vtpm or az-tdx-vtpm over ``report_data`` (64 bytes). Raises CollectError.

    ``transport`` sends one TPM command and returns its response; without one ``device`` is opened. With ``fresh`` the paravisor is
    asked for a new hardware report over the report data; the evidence is of version 2 where it made one, else of version 1.
    """
    if len(report_data) != REPORT_DATA_SIZE:
        raise CollectError("%d bytes of report data, %d were expected" % (len(report_data), REPORT_DATA_SIZE), code="argument")
    if transport is None:
        with Device(device) as opened:
            return collect(report_data, opened, imds, device, base_url, fresh, sleep)
    tpm, service = Tpm(transport, sleep), imds or Imds(base_url)
    raw, hcl, is_fresh = _hcl_report(tpm, report_data, fresh, sleep)
    _check_key(tpm, hcl)
    challenge = report_data[:DIGEST_SIZE] if not any(report_data[DIGEST_SIZE:]) else report_data
    message, signature, pcrs = _quote(tpm, challenge)
    tee = AZ_SNP if hcl.kind == SNP else AZ_TDX
    endorsement = service.vcek() if tee == AZ_SNP else service.td_quote(hcl.hardware)
    evidence = AzureEvidence(tee, 2 if is_fresh else 1, raw, message, signature, pcrs, endorsement)
    data = evidence.to_json()
    # The verifier parses what we print: evidence that it would refuse has to fail here, where the cause is known.
    parse_azure_evidence(data, tee)
    return EvidenceItem(tee, PROVIDER, data)


def _hcl_report(tpm: Tpm, report_data: bytes, fresh: bool, sleep: Callable[[float], None]) -> Tuple[bytes, HclReport, bool]:
    raw, hcl = _read_hcl_report(tpm)
    if not fresh or hcl.user_data is None:
        return raw, hcl, False
    try:
        tpm.nv_write(USER_DATA_INDEX, report_data)
    except CollectError as error:
        if error.code == "tpm-response":
            raise
        # The owner of the TPM keeps it to himself: then the quote alone is fresh, and the verifier says so.
        return raw, hcl, False
    for attempt in range(FRESH_ATTEMPTS):
        raw, hcl = _read_hcl_report(tpm)
        if hcl.user_data == report_data:
            return raw, hcl, True
        if attempt < FRESH_ATTEMPTS - 1:
            sleep(FRESH_WAIT)
    return raw, hcl, False


def _read_hcl_report(tpm: Tpm) -> Tuple[bytes, HclReport]:
    where = "NV index 0x%08x" % HCL_REPORT_INDEX
    try:
        raw = tpm.nv_read(HCL_REPORT_INDEX)
    except CollectError as error:
        if error.code == "tpm-absent":
            raise CollectError("the TPM holds no HCL report", where=where, fix=_NOT_AZURE, code="not-a-tee") from None
        raise
    try:
        return raw, parse_hcl_report(raw)
    except FormatError as error:
        raise CollectError(str(error), where=where, fix=_NOT_AZURE, code="hcl-format") from None


def _check_key(tpm: Tpm, hcl: HclReport) -> None:
    """The key at the handle must be the one that the hardware report vouches for: otherwise no verifier would accept the quote."""
    where = "key 0x%08x" % AK_HANDLE
    try:
        public = tpm.read_public(AK_HANDLE)
    except CollectError as error:
        if error.code == "tpm-absent":
            raise CollectError("the TPM has no attestation key there", where=where, fix=_NOT_AZURE, code="not-a-tee") from None
        raise
    if isinstance(hcl.ak, RsaPublic):
        same = int.from_bytes(public.modulus, "big") == hcl.ak.n and public.exponent == hcl.ak.e
    else:
        same = (int.from_bytes(public.x, "big"), int.from_bytes(public.y, "big")) == (hcl.ak.x, hcl.ak.y)
    if not same:
        raise CollectError("it is not the key that the HCL report names", where=where, fix="Restart the guest: its TPM was changed", code="ak-mismatch")
    if not public.signs_only_attestations:
        raise CollectError("it is no restricted signing key (attributes 0x%08x)" % public.attributes, where=where, code="ak-mismatch")


def _quote(tpm: Tpm, challenge: bytes) -> Tuple[bytes, bytes, Tuple[bytes, ...]]:
    """Quote, then read: where a PCR was extended in between, the digest tells, and both are done again."""
    for _attempt in range(QUOTE_ATTEMPTS):
        message, signature = tpm.quote(AK_HANDLE, challenge, ALL_PCRS)
        values = tpm.pcr_read(ALL_PCRS)
        pcrs = tuple(values[number] for number in ALL_PCRS)
        try:
            quote = tpm2.parse_quote(message)
        except FormatError as error:
            raise CollectError(str(error), where="Quote", code="tpm-response") from None
        if tpm2.quoted_digest(pcrs, signature.hash_algorithm) == quote.pcr_digest:
            plain = signature.scheme == tpm2.ALG_RSASSA and signature.hash_algorithm == tpm2.ALG_SHA256
            return message, signature.value if plain else tpm2.build_signature(signature), pcrs
    raise CollectError("the PCRs changed on every quote", where="Quote", fix="Collect when the guest has started", code="provider-busy")
