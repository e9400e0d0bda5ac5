# SPDX-License-Identifier: GPL-3.0-or-later
"""A made-up fleet for the report, in the shapes that attest, attestation_watch and collateral return: no machine stands behind it."""

from __future__ import annotations

import hashlib
from typing import Any

Data = dict[str, Any]
NOW = "2026-11-28T12:00:00Z"
MEASURED = "the launch measurement is that of image inference guest 7"
# code, what a good guest answers; the others below say otherwise.
CHECKS = {
    "report-signature": "signed with the certificate's key", "root-not-pinned": "a vendor's root, pinned by its public key",
    "report-data-mismatch": "REPORT_DATA is what was expected", "vek-expired": f"all certificates are valid at {NOW}",
    "crl-expired": "current until 2026-12-03T00:00:00+00:00", "policy-debug": "debugging is off", "measurement-mismatch": MEASURED,
    "policy-tcb-floor": "reported TCB (bootloader=10 tee=0 snp=27 microcode=84) is not below the floor",
}  # fmt: skip
SKIPPED = {
    "replay": "no record of earlier evidence was given; the nonce is what keeps old evidence out",
    "id-block": "the policy asks nothing of the ID block", "policy-abi": "sev_snp.min_abi is not set, committed firmware is 1.55.43",
}  # fmt: skip
DEBUG = "debugging is on (guest policy 0xb0000), the host can read this guest's memory; launch the guest without it"
FLOOR = "reported snp 22 < 27, committed snp 22 < 27; update the machine's firmware and microcode"
LIMITS = ["physical attack on memory or on its bus: no attestation report can show an interposer", "denial of service: the host can stop the guest at any time"]


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def result(host: str, tee: str = "sev-snp", bad: Data | None = None, gpu: bool = False, status: str = "") -> Data:
    """What attest returned for one guest; ``bad`` holds the checks that failed."""
    bad = bad or {}
    cpu = {**CHECKS, **bad}
    checks = [{"id": code, "outcome": "fail" if code in bad else "pass", "detail": detail} for code, detail in cpu.items()]
    checks += [{"id": code, "outcome": "not_checked", "detail": detail} for code, detail in SKIPPED.items()]
    claims: Data = {"machine": digest(host), "measurement": digest("image") + digest("image")[:32], "root_spki_sha256": digest(tee)}
    if tee == "tdx":
        claims |= {"root_name": "Intel SGX Root CA", "ca": "platform", "pck": {"fmspc": "50806f000000"}, "tcb_status": "UpToDate",
                   "module_identity": "TDX_01", "tcb_date": "2026-05-13T00:00:00Z", "tcb_evaluation_data_number": 20, "advisory_ids": []}  # fmt: skip
    else:
        tcb = {"bootloader": 10, "tee": 0, "snp": 22 if "policy-tcb-floor" in bad else 27, "microcode": 84}
        claims |= {"root_name": "ARK-Genoa", "product": "genoa", "key_role": "vcek", "vek_sha256": digest(host + "vek"), "tcb": {"reported": tcb}}
    submods: Data = {"cpu0": {"tee": tee, "anchor": "vendor", "checks": checks, "claims": claims}}
    if gpu:
        found = {"hwmodel": "GH100 A01 GSP BROM", "mode": "spt", "device": digest(host + "gpu"), "driver_version": "580.95.05",
                 "root_name": "NVIDIA Device Identity CA", "rims": [{"source": "driver", "version": "580.95.05", "usable": True}],
                 "firmware_version": "96.00.9F.00.01", "root_spki_sha256": digest("nvidia")}  # fmt: skip
        told = {"device-revoked": "3 certificates are good", "debug-state": "disabled: all measurements are good"}
        good = [{"id": code, "outcome": "pass", "detail": detail} for code, detail in told.items()]
        submods["gpu0"] = {"tee": "nvidia-gpu", "anchor": "vendor", "checks": good, "claims": found}
    fresh = [{"id": "freshness", "outcome": "pass", "detail": "the document answers the verifier's own nonce"}]
    return {
        "schema": "attested.ai/result/1", "accepted": not bad, "authentic": True, "status": status or ("contraindicated" if bad else "affirming"),
        "anchor": "vendor", "evaluated_at": NOW, "expires_at": "2026-12-03T00:00:00Z", "nonce": "8jIGwqsJzZWNzDVCtz/XM0B9pkJ4KJ5PzIZo8YwkjQU=",
        "evidence_digest": digest(host + "evidence"), "policy": {"id": "inference", "digest": digest("policy")},
        "binding": {"tls_spki": digest(host + "tls"), "ssh_host_keys": ["SHA256:" + digest(host)[:43]]},
        "chain_of_trust": {"reaches": "service", "required": "service", "waived": False, "reason": ""},
        "reasons": [{"id": code, "detail": detail} for code, detail in bad.items()], "checks": fresh, "out_of_scope": LIMITS, "submods": submods,
    }  # fmt: skip


def row(host: str, state: str, why: str = "", **more: Any) -> Data:
    good = state == "affirming"
    return {"host": f"{host}.example.org", "state": state, "why": why, "condition": "ok" if good else "failing", "anchor": "vendor", "evaluated_at": NOW,
            "expires_at": "2026-12-03T00:00:00Z", "policy": "inference", "days": 4, "distance": 0, "tees": ["sev-snp"], "quarantined": False, "revoked": False,
            "changes": [], **more}  # fmt: skip


SHIFT = {"kind": "measurement", "item": "cpu0", "what": "measurement", "before": digest("image"), "after": digest("other image")}
FLEET = [
    row("llm1", "affirming", tees=["sev-snp", "nvidia-gpu"]), row("llm2", "affirming", tees=["sev-snp", "nvidia-gpu"]),
    row("embed1", "affirming", tees=["tdx"], days=31),
    row("embed2", "affirming", tees=["tdx"], days=31), row("rerank1", "affirming", days=31),
    row("llm3", "contraindicated", f"policy-debug: {DEBUG}", quarantined=True, revoked=True, changes=[SHIFT], days=None),
    row("llm4", "contraindicated", f"policy-tcb-floor: {FLOOR}", distance=5, quarantined=True, days=None),
    row("embed3", "warning", "tcb-status: SWHardeningNeeded, accepted by the policy until 2026-12-31", tees=["tdx"], condition="ok"),
    row("train1", "stale", "the last result is 31 hours old, 24 are allowed", evaluated_at="2026-11-27T05:00:00Z", days=None),
    row("train2", "missing", "not reached: connection timed out", evaluated_at="", anchor="none", tees=[], days=None, distance=None),
]  # fmt: skip
HISTORY = [
    {"at": "2026-11-28T12:00:00Z", "host": "llm3.example.org", "event": "revoked", "detail": "its keys are released to nobody: llm-7", "changes": []},
    {"at": "2026-11-28T11:55:00Z", "host": "llm3.example.org", "event": "quarantined", "detail": "taken out of the load balancer", "changes": []},
    {"at": "2026-11-28T11:50:00Z", "host": "llm3.example.org", "event": "drift", "detail": f"policy-debug: {DEBUG}", "changes": [SHIFT]},
    {"at": "2026-11-28T09:00:00Z", "host": "llm4.example.org", "event": "failing", "detail": f"policy-tcb-floor: {FLOOR}", "changes": []},
    {"at": "2026-11-27T06:00:00Z", "host": "train2.example.org", "event": "missing", "detail": "not reached: connection timed out", "changes": []},
    {"at": "2026-11-26T18:00:00Z", "host": "rerank1.example.org", "event": "recovered", "detail": "affirming in 2 rounds", "changes": []},
    {"at": "2026-11-26T18:00:00Z", "host": "rerank1.example.org", "event": "released", "detail": "serves again", "changes": []},
]  # fmt: skip


def foretold(host: str, code: str, at: str | None, days: int | None, because: str, detail: str, item: str = "cpu0") -> Data:
    return {"guest": f"{host}.example.org", "item": item, "code": code, "at": at, "days": days, "because": because, "detail": detail, "ends": []}


FORECAST = {
    "msg": "3 of 9 guests would be refused by 2026-12-28T12:00:00Z, the first at 2026-12-03T00:00:00Z",
    "horizon_end": "2026-12-28T12:00:00Z",
    "forecast": [
        *(foretold(host, "crl-expired", "2026-12-03T00:00:00Z", 4, "expiry", "the revocation list is valid to 2026-12-03; fetch the current one")
          for host in ("llm1", "llm2")),
        foretold("llm1", "device-revocation-unknown", "2026-12-09T00:00:00Z", 10, "expiry", "NVIDIA's answer is good until then; ask again", "gpu0"),
        foretold("rerank1", "vek-expired", "2026-12-20T00:00:00Z", 21, "expiry", "the certificate ends; fetch the one for this TCB"),
        *(foretold(host, "tcb-status", None, None, "tcb-recovery", "TCB recovery 21 would make it OutOfDate; update the module and microcode")
          for host in ("embed1", "embed2")),
    ],
    "recoveries": [{"number": 21, "guests": 3, "refused": ["embed1.example.org", "embed2.example.org"], "unknown": ["embed3.example.org"]}],
    "collateral_ending": [],
}  # fmt: skip


def runs() -> list[Data]:
    """The rounds of the guests, and the way of two workloads: one served, one that got no key."""
    served = [
        {"name": "Encrypt the model", "workload": "llm-7", "step": "encrypt", "ok": True, "detail": "9 files, key llm-7", "at": NOW},
        {"name": "llm1.example.org", "host": "llm1.example.org", "workload": "llm-7", "result": result("llm1", gpu=True)},
        {"name": "Key for llm1", "host": "llm1.example.org", "workload": "llm-7", "step": "release", "result": result("llm1", gpu=True),
         "detail": "ledger entry 41"},
        {"name": "Open on llm1", "host": "llm1.example.org", "workload": "llm-7", "step": "open", "ok": True, "detail": "9 files, into memory"},
        {"name": "Serve on llm1", "host": "llm1.example.org", "workload": "llm-7", "step": "serve", "result": result("llm1"),
         "detail": "TLS 1.3 to the attested key"},
    ]  # fmt: skip
    stopped = [
        {"name": "Encrypt the data", "workload": "training-q4", "step": "encrypt", "ok": True, "detail": "3 owners, a key for each"},
        {"name": "llm4.example.org", "host": "llm4.example.org", "workload": "training-q4", "result": result("llm4", bad={"policy-tcb-floor": FLOOR})},
        {"name": "train2.example.org", "host": "train2.example.org", "workload": "training-q4", "ok": False, "detail": "not reached: connection timed out"},
    ]
    others = [
        {"name": "embed1.example.org", "host": "embed1.example.org", "workload": "embeddings", "result": result("embed1", "tdx")},
        {"name": "llm3.example.org", "host": "llm3.example.org", "expected": "refused", "result": result("llm3", bad={"policy-debug": DEBUG})},
    ]
    return served + stopped + others


def variables() -> Data:
    """What the role report takes."""
    return {"report_title": "Attestation of the fleet", "report_runs": runs(), "report_fleet": FLEET, "report_history": HISTORY, "report_forecast": FORECAST}
