# SPDX-License-Identifier: GPL-3.0-or-later
"""TDX: quotes, PEM chains, PCK extensions, enclave reports, Intel's signed JSON, collateral, revocation lists, and the verifier over quote and collateral."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

from harness import Target

LAB = Path(__file__).resolve().parents[1] / "unit" / "tdx"
if str(LAB) not in sys.path:
    sys.path.insert(0, str(LAB))

import tdx_lab  # noqa: E402

from ansible_collections.attested.ai.plugins.module_utils.formats import der, pck, sgx_report, tcb_info, tdx_collateral, tdx_quote  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.verify.tdx import UNCHECKED, verify_tdx  # noqa: E402

CACHE = VerificationCache()


@functools.lru_cache(maxsize=None)
def quotes() -> list[bytes]:
    of = tdx_lab.lab()
    td15 = tdx_lab.td_report(svn_2=bytes((8, 1, 6)) + bytes(13))
    return [of.quote(), of.quote(padding=bytes(40)), of.quote(version=5), of.quote(td15, 5)]


@functools.lru_cache(maxsize=None)
def collaterals() -> list[bytes]:
    of = tdx_lab.lab()
    return [of.collateral(), of.collateral(pck_crl=tdx_lab.crl(of.ca_name, of.ca_key, (7, 1 << 150, 2**159 - 1)).hex())]


@functools.lru_cache(maxsize=None)
def genuine() -> frozenset[bytes]:
    return frozenset(tdx_quote.parse_quote(quote).signed for quote in quotes())


def verify(data: bytes) -> object:
    of = tdx_lab.lab()
    found = verify_tdx(data, collaterals()[:1], of.roots(), tdx_lab.AT, UNCHECKED, CACHE)
    if found.authentic is True and found.claims.quote.signed not in genuine():
        raise RuntimeError("a changed quote was taken for a genuine one")
    return found.claims and found.claims.to_dict()


def verify_with(data: bytes) -> object:
    of = tdx_lab.lab()
    found = verify_tdx(quotes()[0], (data,), of.roots(), tdx_lab.AT, UNCHECKED)
    if found.authentic is True and (found.claims.tcb_status, found.claims.tcb_evaluation_data_number) != ("UpToDate", 20):
        raise RuntimeError("changed collateral was taken for genuine")
    return found.claims and found.claims.to_dict()


def answers() -> list[bytes]:
    return [json.dumps({"tcbInfo": tdx_lab.tcb_info(), "signature": "1a" * 64}).encode()]


def lists() -> list[bytes]:
    of = tdx_lab.lab()
    return [tdx_lab.crl(of.ca_name, of.ca_key, (7, 1 << 150, 2**159 - 1, 2**158)), tdx_lab.crl(of.root_name, of.root_key)]


TARGETS = {
    "tdx-quote": Target(quotes, lambda data: tdx_quote.parse_quote(data).to_dict()),
    "tdx-verify": Target(quotes, verify),
    "tdx-collateral": Target(collaterals, tdx_collateral.parse_collateral),
    "tdx-verify-with": Target(collaterals, verify_with),
    "tdx-answer": Target(answers, lambda data: tdx_collateral.extract_signed_member(data, "tcbInfo")),
    "tcb-info": Target(lambda: [json.dumps(tdx_lab.tcb_info()).encode()], lambda data: tcb_info.parse_tcb_info(data.decode("latin-1"))),
    "qe-identity": Target(lambda: [json.dumps(tdx_lab.qe_identity()).encode()], lambda data: tcb_info.parse_qe_identity(data.decode("latin-1"))),
    "pck-chain": Target(lambda: [tdx_lab.lab().chain().encode()], pck.chain_to_der),
    "pck-extension": Target(
        lambda: [tdx_lab.sgx_extension(), tdx_lab.sgx_extension(configuration=None)],
        lambda data: pck.parse_pck_extensions({pck.OID_SGX: (False, data)}).to_dict(),
    ),
    "sgx-report": Target(lambda: [tdx_lab.qe_report(bytes(64))], lambda data: sgx_report.parse_sgx_report(data).to_dict()),
    "intel-crl": Target(lists, der.parse_crl),
}
