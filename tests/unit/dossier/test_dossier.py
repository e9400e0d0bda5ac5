# SPDX-License-Identifier: GPL-3.0-or-later
"""A dossier: what is kept, what is told of it later, where it is silent, and what is handed over."""

from __future__ import annotations

import base64
import json
import shutil
from dataclasses import fields

import pytest

from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import Endorsements
from ansible_collections.attested.ai.plugins.module_utils.dossier.gaps import find_gaps
from ansible_collections.attested.ai.plugins.module_utils.dossier.least import least
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import Binding
from ansible_collections.attested.ai.plugins.module_utils.formats.jwk import thumbprint
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import public_jwk
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.ledger import Entry
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.signingkey import create_signing_key
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import parse_time
from ansible_collections.attested.ai.plugins.plugin_utils.release_records import ReleaseRecords

from .dossier_lab import outcomes, seal


def test_a_record_says_later_what_it_said_then(lab):
    added = lab.add()
    assert (added["changed"], added["failed"], added["accepted"], added["seq"]) == (True, False, True, 1)
    assert [(state["state"], state["shown"]) for state in added["states"]] == [("at-rest", False), ("in-transit", False), ("in-use", True)]
    found = lab.verify()
    assert found["verified"] and not found["failed"] and found["head"] == added["head"] and found["refused"] == 0
    entry = found["entries"][0]
    assert entry["accepted"] and entry["intact"] and entry["anchor"] == "nonvendor"
    assert "NOT a vendor's" in found["msg"] and "NOT a vendor's" in found["states"]["triage"][2]["proofs"][0]["detail"]
    assert outcomes(entry) == {"appraisal": "pass", "reproduced": "pass", "ear": "pass", "channel": "not_checked", "manifest": "not_checked",
                               "served-model": "not_checked", "releases": "not_checked", "configuration": "not_checked", "guest": "not_checked",
                               "order": "pass", "fresh": "pass"}  # fmt: skip
    assert [(run["step"], run["workload"]) for run in found["runs"]] == [("attest", "triage")]
    # Nothing of the key, and nothing that others may read.
    assert not [path for path in (lab.folder / "dossier").rglob("*") if path.stat().st_mode & 0o077]


def test_check_mode_judges_and_writes_nothing(lab):
    added = lab.add(check=True)
    assert added["accepted"] and "seq" not in added and sorted(path.name for path in lab.folder.iterdir()) == ["collateral.json"]


def test_refused_evidence_is_kept_and_told(lab):
    other = lab.add(evidence=lab.evidence(b"\x12" * 48))
    assert other["failed"] and not other["accepted"] and other["seq"] == 1 and "measurement-mismatch" in other["msg"]
    found = lab.verify()
    assert not found["failed"] and found["refused"] == 1 and found["entries"][0]["intact"] and not found["entries"][0]["accepted"]
    assert lab.add(fail_on_refusal=False, nonce=base64.b64encode(b"x" * 32).decode())["failed"] is False


def test_model_keys_and_configuration_belong_to_it(lab):
    sealed = seal(lab)
    records = ReleaseRecords(str(lab.folder / "ledger"))
    about = {"at": "2026-10-31T12:00:00Z", "who": "t", "key_id": "k", "evidence_digest": "0" * 64, "policy_id": "p", "policy_digest": "1" * 64}
    guest = {**public_jwk(create_signing_key(str(lab.folder / "guest.pem"))), "alg": "ECDH-ES+A256KW"}
    for host, release, decision in (("a", 2, "released"), ("b", 2, "refused"), ("a", 2, "released"), ("c", 1, "released"), ("d", 2, "released")):
        own = thumbprint(guest) if host == "d" else "t" + host
        records.append(Entry(**about, model_id="m", release=release, guest_key_thumbprint=own, decision=decision, host=host))
    (lab.folder / "vars.yml").write_text("port: 8443\n")
    more = {**sealed, "ledger": "ledger", "configuration": {"vars.yml": "vars.yml"}, "guest": {"swaps": [], "offset": 0.25, "mask": 2**63}}
    # The key went to guests, but not to the one that this evidence is of: its data at rest may be anything.
    stranger = lab.add(**more)
    assert outcomes(stranger)["releases"] == "pass" and outcomes(stranger)["served-model"] == "not_checked" and not stranger["states"][0]["shown"]
    assert [run["step"] for run in lab.verify()["runs"]] == ["attest"]
    added = lab.add(binding=Binding(tee_pubkey=guest), **more)
    checks = outcomes(added)
    assert (checks["manifest"], checks["releases"], checks["configuration"]) == ("pass", "pass", "pass")
    detail = {check["id"]: check["detail"] for check in added["checks"]}
    assert "m release 2: 1 files" in detail["manifest"] and "2 signed decisions" in detail["releases"] and "a (policy p), d (policy p)" in detail["releases"]
    assert added["states"][0]["shown"] and [run["step"] for run in lab.verify()["runs"]] == ["attest", "encrypt", "release", "open"]
    # Another model's signer, or a manifest that was changed, is told before anything is written.
    (lab.folder / "other.pub").write_text(json.dumps(public_jwk(create_signing_key(str(lab.folder / "other.pem")))))
    with pytest.raises(AttestedError, match="the manifest's signature is not accepted") as raised:
        lab.add(**{**more, "signer": "other.pub"})
    assert raised.value.code == "dossier-record" and lab.verify()["count"] == 2


def test_collateral_of_a_fleet_stays_out(lab):
    (lab.folder / "others").mkdir()
    for number in range(30):
        (lab.folder / "others" / f"{number}.json").write_text(json.dumps({"keys": [{"kid": str(number)}]}))
    names = [f"others/{number}.json" for number in range(30)]
    lab.add(collateral=[*names[:15], "collateral.json", *names[15:]])
    record = json.loads(base64.urlsafe_b64decode(json.loads((lab.folder / "dossier" / "records.jsonl").read_text())["payload"] + "=="))
    assert {kind: len(found) for kind, found in record["endorsements"].items()} == {"tdx": 1}
    assert lab.verify()["verified"]


def test_least_asks_seldom():
    needed = {b"\x05", b"\x91", b"\xf0"}
    asked = []

    def same(endorsements):
        asked.append(endorsements)
        return needed <= set(endorsements.certificates) | set(endorsements.crls)

    whole = Endorsements(certificates=tuple(bytes([number]) for number in range(200)), crls=tuple(bytes([number]) for number in range(200, 256)))
    found = least(whole, same)
    assert {part.name: set(getattr(found, part.name)) for part in fields(found) if part.init and getattr(found, part.name)} == \
        {"certificates": {b"\x05", b"\x91"}, "crls": {b"\xf0"}}
    assert len(asked) < 3 * 2 * 9


def test_silence_shows(lab):
    with pytest.raises(AttestedError, match="there is no dossier"):
        lab.verify(public_key=public_jwk(create_signing_key(str(lab.folder / "any.pem"))))
    for at in ("2026-11-01T00:00:00Z", "2026-11-01T05:00:00Z", "2026-11-01T06:00:00Z"):
        lab.add(at=at)
    found = lab.verify(max_gap_hours=4, at="2026-11-01T12:00:00Z")
    assert found["failed"] and found["verified"] and [(gap["after"], gap["hours"], gap["ends"]) for gap in found["gaps"]] == [
        (1, 5.0, "2026-11-01T05:00:00Z"), (3, 6.0, None)]  # fmt: skip
    assert not lab.verify(max_gap_hours=6.5, at="2026-11-01T12:00:00Z")["failed"]
    for hours in (0, -1, float("nan"), float("inf")):
        with pytest.raises(AttestedError):
            lab.verify(max_gap_hours=hours)
    assert lab.verify(deployment="other")["failed"]


def test_a_refusal_does_not_fill_a_gap():
    def entry(number, hour, accepted):
        return {"seq": number, "at": f"2026-11-01T{hour:02d}:00:00Z", "deployment": "d", "accepted": accepted}

    until = parse_time("2026-11-01T09:00:00Z", "t")
    assert [gap.after for gap in find_gaps([entry(1, 0, True), entry(2, 4, False), entry(3, 8, True)], 5, until)] == [1]


def test_an_export_is_written_once_and_has_names(lab):
    lab.add(configuration={"vars.yml": "collateral.json"})
    first = lab.run(operation="export", public_key="dossier/dossier.pub.jwk", dest="out")
    assert first["changed"] and not lab.run(operation="export", public_key="dossier/dossier.pub.jwk", dest="out")["changed"]
    found = sorted(str(path.relative_to(lab.folder / "out")) for path in (lab.folder / "out" / "records").rglob("*") if path.is_file())
    names = ["collateral/tdx-001.json", "configuration/vars.yml", "ear.jwt", "evidence.json", "policy.json", "record.json", "reference-values.json",
             "result.json"]  # fmt: skip
    assert found == [f"records/000001-triage/{name}" for name in names]
    lab.add(at="2026-11-01T01:00:00Z")
    assert lab.run(True, operation="export", public_key="dossier/dossier.pub.jwk", dest="out")["changed"]
    assert lab.verify(path="out/dossier", public_key="dossier/dossier.pub.jwk")["count"] == 1
    # A folder is of one dossier. What is not whole is not handed over as if it were.
    shutil.move(lab.folder / "dossier", lab.folder / "first")
    lab.add()
    with pytest.raises(AttestedError) as raised:
        lab.run(operation="export", public_key="dossier/dossier.pub.jwk", dest="out")
    assert raised.value.code == "dossier-dest"
    next((lab.folder / "dossier" / "files").rglob("*/*")).unlink()
    with pytest.raises(AttestedError) as raised:
        lab.run(operation="export", public_key="dossier/dossier.pub.jwk", dest="other")
    assert raised.value.code == "dossier-file" and not (lab.folder / "other" / "verify.yml").exists()
