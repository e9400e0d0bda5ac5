# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain of proof of each kind of evidence, from results as the appraisal makes them."""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import APPRAISERS, UNCHECKED, Endorsements, appraise_report
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import SCHEMA, load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValues
from ansible_collections.attested.ai.plugins.plugin_utils.report_items import item_links

UNIT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(UNIT / "tdx"), str(UNIT.parents[1] / "tools" / "softtee")]

import tdx_lab  # noqa: E402


def links_of(name, item):
    return {link["title"]: link for link in item_links(name, item)}


def test_a_td_tells_platform_status_and_module():
    lab = tdx_lab.lab()
    policy = load_policy({"schema": SCHEMA, "id": "t", "allow_nonvendor_roots": True, "roots": [tdx_lab.pem(lab.root)], "measurements_required": False})
    result = appraise_report(lab.quote(), tee="tdx", policy=policy, reference_values=ReferenceValues(), endorsements=Endorsements(tdx=(lab.collateral(),)),
                             expected_report_data=UNCHECKED, at=tdx_lab.AT)  # fmt: skip
    item = result.to_dict()["submods"]["cpu0"]
    links = links_of("cpu0", item)
    assert list(links) == ["Root", "Machine (cpu0)", "Firmware", "Guest"]
    assert "NOT the root of a vendor" in links["Root"]["text"] and tdx_lab.FMSPC.hex() in links["Machine (cpu0)"]["text"]
    assert links["Firmware"]["text"].startswith("UpToDate, module TDX_01") and links["Guest"]["values"] == [("Measurement", "11" * 48)]


def test_a_gpu_tells_model_mode_and_manifests():
    from softtee.nvidia_authority import NvidiaAuthority

    authority, at = NvidiaAuthority.create(None), datetime.now(timezone.utc)
    device = authority.device("gpu", "hopper", 0)
    policy = load_policy({"schema": SCHEMA, "id": "t", "allow_nonvendor_roots": True, "roots": [authority.roots_pem()]})
    result = appraise_report(
        authority.report(device, bytes(32)), tee="nvidia-gpu", auxiliary={"certificates": device.chain_pem}, policy=policy, reference_values=ReferenceValues(),
        endorsements=Endorsements(rims=tuple(authority.rims()), ocsp=tuple(authority.ocsp(at, [device]))), expected_report_data=bytes(32), at=at,
    )  # fmt: skip
    links = links_of("gpu0", result.to_dict()["submods"]["gpu0"])
    assert list(links) == ["Root", "Device (gpu0)", "Firmware"] and ("Device (SHA-256 of its key)", device.identity) in links["Device (gpu0)"]["values"]
    assert "mode spt" in links["Device (gpu0)"]["text"] and "manifests: driver" in links["Firmware"]["text"]


@pytest.mark.parametrize("tee", sorted(APPRAISERS))
def test_evidence_that_could_not_be_read_still_has_a_chain(tee):
    links = item_links("x0", {"tee": tee, "claims": {}, "checks": [], "anchor": "none"})
    assert len(links) >= 3 and all(link["text"] and isinstance(link["values"], list) for link in links)
