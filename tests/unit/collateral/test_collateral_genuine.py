# SPDX-License-Identifier: GPL-3.0-or-later
"""Genuine evidence: what it is asked for, and that genuine certificates are kept under AMD's own pins without asking for their chain."""

from __future__ import annotations

import json
from urllib.parse import parse_qs

import pytest
from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import UNCHECKED, appraise_report
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import merge_reference_values
from ansible_collections.attested.ai.plugins.module_utils.appraisal.schema import parse_time
from ansible_collections.attested.ai.plugins.plugin_utils.collateral_inputs import load
from collateral_lab import AT_TEXT, b64, document_of, fetch

REPORTS = ["real-milan-v3-oak-release", "real-turin-v5-oak"]


def item(kind, data, **auxiliary):
    return {"type": kind, "provider": "file", "evidence": b64(data), "auxiliary": {name: b64(value) for name, value in auxiliary.items()}}


@pytest.mark.parametrize("name", REPORTS)
def test_a_genuine_certificate_needs_no_chain(vectors, services, store_path, name):
    report = (vectors / "snp" / f"{name}.report.bin").read_bytes()
    leaf = (vectors / "snp" / f"{name}.vek.der").read_bytes()
    asked = []

    def answer(path, query, _body):
        if "/vcek/v1/" not in path or path.endswith("crl"):
            return None
        asked.append((path, parse_qs(query)))
        return 200, {}, leaf

    services.routes.insert(0, answer)
    result = fetch(services, store_path, [document_of(item("sev-snp", report))], policy=None, revocation=False)
    assert result["complete"] and result["requests"] == 1, result["msg"]
    ((path, query),) = asked
    product = path.split("/")[3]
    chip = report[0x1A0:0x1E0] if product == "Milan" else report[0x1A0:0x1A8]
    tcb = report[0x180:0x188]
    wanted = {"blSPL": tcb[0], "teeSPL": tcb[1], "snpSPL": tcb[6], "ucodeSPL": tcb[7]}
    if product == "Turin":
        wanted = {"fmcSPL": tcb[0], "blSPL": tcb[1], "teeSPL": tcb[2], "snpSPL": tcb[3], "ucodeSPL": tcb[7]}
    assert path.endswith("/" + chip.hex()) and query == {name: [str(value)] for name, value in wanted.items()}
    judged = appraise_report(
        report, policy=load_policy({"schema": "attested.ai/policy/1", "id": "x"}), reference_values=merge_reference_values([]), endorsements=load([store_path]),
        expected_report_data=UNCHECKED, at=parse_time(AT_TEXT, "at"),
    )  # fmt: skip
    assert judged.authentic is True and judged.anchor == "vendor"


def test_a_genuine_vlek_is_a_file(vectors, services, store_path):
    """AWS hands it out with the evidence; no service does."""
    report = (vectors / "snp" / "real-milan-v3-vlek-aws-in-window.report.bin").read_bytes()
    result = fetch(services, store_path, [document_of(item("sev-snp", report))], policy=None, revocation=False, fail_on_problem=False)
    assert not services.asked and "VLEK" in result["notes"][0]
    from ansible_collections.attested.ai.plugins.plugin_utils.collateral_transfer import import_files
    from collateral_lab import make_task

    result = import_files(make_task(store_path)[0], [str(vectors / "snp" / "real-milan-v3-vlek-aws-in-window.vek.der")])
    assert result["pieces"][0]["path"].startswith("amd/vek/milan/vlek-") and "amazonaws.com" in result["pieces"][0]["about"]


def test_azure_s_evidence_is_read_through_its_wrapping(vectors, services, store_path):
    folder = vectors / "coco" / "trustee"
    found = {kind: sorted(folder.glob(f"{kind}/*.json")) for kind in ("az-snp-vtpm", "az-tdx-vtpm")}
    for kind, paths in found.items():
        for path in paths:
            try:
                if "hcl_report" not in json.loads(path.read_text()):
                    continue
            except (ValueError, TypeError):
                continue
            result = fetch(services, store_path, [document_of(item(kind, path.read_bytes()))], policy=None, check=True)
            kinds = {piece["kind"] for piece in result["pieces"]}
            assert kinds >= ({"amd-vek", "amd-crl"} if kind == "az-snp-vtpm" else {"tdx"}), (path.name, result["notes"])


def test_evidence_that_cannot_be_read_is_noted_and_asks_for_nothing(services, store_path):
    for kind in ("sev-snp", "tdx", "az-snp-vtpm", "az-tdx-vtpm", "nvidia-gpu", "nvidia-switch", "cca", "nvidia-nras"):
        auxiliary = {"certificates": b"x"} if kind.startswith("nvidia-") else {}
        result = fetch(services, store_path, [document_of(item(kind, b"\x01" * 40, **auxiliary))], policy=None)
        assert result["notes"] and not result["pieces"], kind
    assert not services.asked
