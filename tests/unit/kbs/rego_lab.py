# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluate Rego by an engine, and say of evidence what Trustee says of it.

ATTESTED_REGO names a real engine: opa, or a program of the same command line (eval -d FILE ... QUERY, JSON out). Without it only the small engine of the
soft KBS is asked, and the tests before a real one are skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible_collections.attested.ai.plugins.module_utils.formats.snp_report import SnpReport
from ansible_collections.attested.ai.plugins.module_utils.formats.tdx_quote import TdReport
from ansible_collections.attested.ai.plugins.module_utils.verify.tdx_claims import TdxClaims
from softkbs import rego

REAL = os.environ.get("ATTESTED_REGO", "")


def results(engine: str, text: str, rule: str, cases: list[dict[str, Any]], folder: Path) -> list[Any]:
    """The value of a rule for each case {input, data}; None where it is undefined. ``engine`` is "soft" or "real"."""
    if engine == "soft":
        policy = rego.parse(text)
        found = [policy.evaluate(rule, case["input"], case.get("data")) for case in cases]
        return [None if value is rego.UNDEFINED else value for value in found]
    (folder / "policy.rego").write_text(text)
    if not any(case.get("data") for case in cases):
        # One run for all: starting an engine takes longer than asking it.
        (folder / "data.json").write_text(json.dumps({"cases": [case["input"] for case in cases]}))
        return _ask(folder, f"[value | case := data.cases[_]; value := data.policy.{rule} with input as case]", [])
    found = []
    for case in cases:
        (folder / "data.json").write_text(json.dumps(case.get("data", {})))
        (folder / "input.json").write_text(json.dumps(case["input"]))
        found.append(_ask(folder, f"data.policy.{rule}", ["-i", str(folder / "input.json")]))
    return found


def _ask(folder: Path, query: str, more: list[str]) -> Any:
    command = [REAL, "eval", "-d", str(folder / "policy.rego"), "-d", str(folder / "data.json"), *more, query]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads(done.stdout).get("result", [])
    return found[0]["expressions"][0]["value"] if found else None


def snp_input(report: SnpReport) -> dict[str, Any]:
    """parse_tee_evidence of deps/verifier/src/snp/mod.rs, and what the token broker makes of it."""
    tcb = dict(report.tcb(str(report.product)).reported.components())
    claims = {
        "policy_abi_major": report.policy.abi_major, "policy_abi_minor": report.policy.abi_minor, "policy_smt_allowed": report.policy.smt_allowed,
        "policy_migrate_ma": report.policy.migrate_ma, "policy_debug_allowed": report.policy.debug, "policy_single_socket": report.policy.single_socket,
        **{f"reported_tcb_{part}": tcb[part] for part in ("bootloader", "tee", "snp", "microcode")},
        "platform_tsme_enabled": report.platform_info.tsme_en, "platform_smt_enabled": report.platform_info.smt_en, "measurement": report.measurement.hex(),
    }  # fmt: skip
    return {"snp": claims, "init_data": report.host_data.hex(), "report_data": report.report_data.hex()}


_BODY = {
    "tcb_svn": "tee_tcb_svn", "mr_seam": "mrseam", "mrsigner_seam": "mrsignerseam", "seam_attributes": "seamattributes", "mr_td": "mrtd",
    "mr_config_id": "mrconfigid", "mr_owner": "mrowner", "mr_owner_config": "mrownerconfig", "rtmr_0": "rtmr0", "rtmr_1": "rtmr1", "rtmr_2": "rtmr2",
    "rtmr_3": "rtmr3", "report_data": "reportdata", "tee_tcb_svn2": "tee_tcb_svn_2", "mr_servicetd": "mrservicetd",
}  # fmt: skip
_FLAGS = {"debug": 0, "septve_disable": 28, "protection_keys": 30, "key_locker": 31, "perfmon": 63}


def tdx_input(claims: TdxClaims) -> dict[str, Any]:
    """generate_parsed_claim and prepare_custom_claims_map of deps/verifier, and what the token broker makes of it."""
    body = claims.body
    told = {name: getattr(body, field).hex() for name, field in _BODY.items() if getattr(body, field) is not None}
    told["td_attributes"] = body.tdattributes.to_bytes(8, "little").hex()
    told["xfam"] = body.xfam.to_bytes(8, "little").hex()
    header = {"version": "0400", "tee_type": "81000000", "vendor_id": "939a7233f79c4ca9940a0db3957f0607"}
    numbers = [number for number in (claims.tcb_evaluation_data_number, claims.qe_evaluation_data_number) if number is not None]
    return {
        "tdx": {
            "quote": {"header": header, "body": told}, "td_attributes": {name: bool(body.tdattributes >> bit & 1) for name, bit in _FLAGS.items()},
            "tcb_status": claims.tcb_status, "collateral_expiration_status": "0", "advisory_ids": list(claims.advisory_ids),
            "tcb_date": claims.tcb_date.strftime("%Y-%m-%dT%H:%M:%SZ"), "tcb_eval_num": min(numbers),
        },
        "init_data": body.mrconfigid.hex(), "report_data": body.reportdata.hex(),
    }  # fmt: skip


def with_body(claims: TdxClaims, **changes: Any) -> TdxClaims:
    body: TdReport = replace(claims.quote.body, **changes)
    return replace(claims, quote=replace(claims.quote, body=body))
