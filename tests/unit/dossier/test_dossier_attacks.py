# SPDX-License-Identifier: GPL-3.0-or-later
"""A dossier in hands that are not trusted: what is changed, left out, replayed or made up shows."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import types
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.attested.ai.plugins.action import evidence_dossier
from ansible_collections.attested.ai.plugins.module_utils.appraisal.ear import sign_ear
from ansible_collections.attested.ai.plugins.module_utils.dossier.judge import appraise_record
from ansible_collections.attested.ai.plugins.module_utils.dossier.record import Record
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import Binding, EvidenceDocument
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import public_jwk
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.signingkey import create_signing_key
from ansible_collections.attested.ai.plugins.plugin_utils import dossier_files
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import parse_time

from .dossier_lab import outcomes, seal


def test_what_a_server_says_is_held_against_what_it_proves(lab, monkeypatch):
    more, shown = {**seal(lab), "url": "https://model.example.org", "fail_on_refusal": False}, "sha256:" + "5" * 64
    served = {"model_id": "m", "release": 2, "manifest_sha256": hashlib.sha256((lab.folder / "sealed" / "model-manifest.json").read_bytes()).hexdigest()}
    # (evidence, what the server says or what goes wrong, states that are shown, what the task says)
    cases = (
        ({}, served, "at-rest in-transit in-use", "is accepted"),
        ({}, None, "in-transit in-use", "is accepted"),
        ({}, {**served, "release": 3}, "in-transit in-use", "opened another model (release)"),
        ({"mrtd": b"\x12" * 48}, served, "", "measurement-mismatch"),
        ({}, {**served, "model_id": "\x1b[2J" * 99999}, "", "what the server says of its model model_id"),
        ({}, AttestedError("it shows \x1b[2J another key"), "", "it shows  [2J another key"),
    )
    for number, (about, says, states, told) in enumerate(cases):
        class Server:
            def __init__(self, _url, judge, timeout):
                self.judge = judge

            def verify(self, about=about, says=says):
                nonce = os.urandom(32)
                self.judge(EvidenceDocument.parse(lab.evidence(nonce=nonce, binding=Binding(tls_spki=shown), **about)), nonce)
                if isinstance(says, AttestedError):
                    raise says
                return types.SimpleNamespace(spki=shown, served=says)

        monkeypatch.setattr("ansible_collections.attested.ai.plugins.plugin_utils.dossier_add.AttestedServer", Server)
        added = lab.run(operation="add", **{**lab.common(f"2026-11-01T0{number}:00:00Z"), **more})
        assert [state["state"] for state in added["states"] if state["shown"]] == states.split() and told in added["msg"], (number, added)
        assert added["accepted"] is (number < 2)
    found = lab.verify()
    assert not found["failed"] and found["refused"] == 4 and [entry["accepted"] for entry in found["entries"]] == [True, True] + [False] * 4
    # The last good one stands on the page beside those that were not.
    assert len({run["name"] for run in found["runs"]}) == 4 and not [run for run in found["runs"] if run.get("ok") and run["step"] == "encrypt"]


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def _without_line(number):
    def act(folder):
        lines = (folder / "records.jsonl").read_bytes().splitlines(keepends=True)
        del lines[number]
        (folder / "records.jsonl").write_bytes(b"".join(lines))

    return act


@pytest.mark.parametrize(("damage", "code"), [
    (_without_line(1), {"ledger-truncated", "ledger-chain"}),
    (_without_line(2), {"ledger-truncated"}),
    (lambda folder: _flip(folder / "records.jsonl"), {"ledger-entry-damaged"}),
    (lambda folder: (folder / "records.jsonl.head").unlink(), {"ledger-head-missing"}),
    (lambda folder: (folder / "records.jsonl").open("ab").write(b"{"), {"ledger-torn"}),
])  # fmt: skip
def test_a_chain_that_does_not_hold_is_refused(lab, damage, code):
    for hour in range(3):
        lab.add(at=f"2026-11-01T0{hour}:00:00Z")
    damage(lab.folder / "dossier")
    with pytest.raises(AttestedError) as raised:
        lab.verify()
    assert raised.value.code in code and "key was released" not in str(raised.value)


def test_every_file_is_covered(lab):
    lab.add()
    whole = lab.folder / "whole"
    shutil.copytree(lab.folder / "dossier", whole)
    files = sorted(path.relative_to(whole) for path in (whole / "files").rglob("*") if path.is_file())
    assert len(files) == 6  # evidence, policy, reference values, result, EAR, collateral
    for name in files:
        for harm in (_flip, Path.unlink):
            shutil.rmtree(lab.folder / "dossier")
            shutil.copytree(whole, lab.folder / "dossier")
            harm(lab.folder / "dossier" / name)
            found = lab.verify()
            assert found["failed"] and not found["verified"] and outcomes(found["entries"][0]) == {"file": "fail"}, name
            # A page must not show the record before it as the last.
            assert [(run["workload"], run["ok"]) for run in found["runs"]] == [("triage", False)]


def test_put_back_begun_anew_and_of_another_key(lab):
    head = lab.add()["head"]
    lab.add(at="2026-11-01T01:00:00Z")
    assert lab.verify(known_head=head)["verified"]
    shutil.rmtree(lab.folder / "dossier")
    lab.add(at="2026-11-01T02:00:00Z")
    with pytest.raises(AttestedError) as raised:
        lab.verify(known_head=head)
    assert raised.value.code == "ledger-rolled-back"
    stranger = public_jwk(create_signing_key(str(lab.folder / "stranger.pem")))
    with pytest.raises(AttestedError) as raised:
        lab.verify(public_key=stranger)
    assert raised.value.code == "ledger-head-damaged"
    (lab.folder / "dossier.pem").unlink()
    with pytest.raises(AttestedError) as raised:
        lab.add(at="2026-11-01T03:00:00Z")
    assert raised.value.code == "dossier-key"


def test_a_clock_that_goes_back_shows(lab):
    lab.add(at="2026-11-01T05:00:00Z")
    lab.add(at="2026-11-01T04:57:00Z")
    assert lab.verify()["verified"]
    # Small steps add up.
    lab.add(at="2026-11-01T04:54:00Z")
    found = lab.verify()
    assert found["failed"] and outcomes(found["entries"][2])["order"] == "fail" and "order" in found["msg"]
    assert not any(state["shown"] for state in found["entries"][2]["states"])
    # One wrong clock does not damn what comes after it, and a time that has not come fills no gap.
    lab.add(at="2026-11-01T04:55:00Z")
    lab.add(at="2126-11-01T00:00:00Z", fail_on_refusal=False)
    lab.add(at="2026-11-01T05:01:00Z")
    assert [outcomes(entry)["order"] for entry in lab.verify()["entries"]] == ["pass", "pass", "fail", "pass", "fail", "pass"]


def test_what_the_signer_made_up_does_not_hold(lab):
    """Who holds the key can sign anything; a verdict that the evidence does not give is not taken from it either."""
    lab.add(evidence=lab.evidence(b"\x12" * 48))
    lab.forge({"accepted": True})
    found = lab.verify()
    assert found["failed"] and not found["entries"][1]["intact"] and not found["entries"][1]["accepted"]
    assert not found["runs"][-1]["ok"] and not any(state["shown"] for state in found["states"]["triage"])


def test_what_the_signer_puts_beside_good_evidence_does_not_hold(lab):
    at, other = parse_time("2026-11-01T00:00:00Z", "t"), create_signing_key(str(lab.folder / "other.pem"))
    lab.add()
    files = dossier_files.DossierFiles(str(lab.folder / "dossier"))
    key = evidence_dossier.load_signing_key(str(lab.folder / "dossier.pem"))
    line = files.verify(public_jwk(key)).entries[0]
    record = Record.parse({name: value for name, value in line.items() if name not in ("seq", "prev", "hash")})
    result = appraise_record(record, files.blobs_of(record))
    ears = [sign_ear(result, other, issued_at=at).encode(), sign_ear(replace(result, policy_id="strict"), key, issued_at=at).encode()]
    spki = "sha256:" + "0" * 64
    lies = [("fresh", {}, ()), ("ear", {"ear": ""}, ()), *(("ear", {"ear": hashlib.sha256(ear).hexdigest()}, [ear]) for ear in ears),
            ("channel", {"source": "server", "channel": {"protocol": "TLS 1.3", "tls_spki": spki}}, ()),
            ("channel", {"source": "server", "problem": "a relay"}, ())]  # fmt: skip
    for _check, change, extra in lies:
        lab.forge({"ear": record.ear, "source": "document", "channel": None, "problem": "", **change}, extra)
    entries = lab.verify()["entries"]
    assert entries[0]["accepted"]
    for entry, (check, _change, _extra) in zip(entries[1:], lies):
        assert outcomes(entry)[check] == "fail" and not entry["accepted"] and not entry["intact"], entry
        assert not any(state["shown"] for state in entry["states"])


def test_evidence_is_kept_once(lab):
    lab.add(evidence=lab.evidence())
    with pytest.raises(AttestedError, match="evidence of then") as raised:
        lab.add(evidence=lab.evidence(), at="2026-11-01T01:00:00Z")
    assert raised.value.code == "dossier-nonce" and lab.verify()["count"] == 1


def test_what_is_vaulted_is_not_written_in_the_clear(lab):
    (lab.folder / "secrets.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n6162\n")
    for more in ({"configuration": {"secrets.yml": "secrets.yml"}}, {"policy": "secrets.yml"}, {"collateral": ["secrets.yml"]}):
        with pytest.raises(AttestedError, match="it is vaulted"):
            lab.add(**more)
    assert not (lab.folder / "dossier").exists()


def test_forks_agree_on_one_key(lab, monkeypatch):
    def raced(path):
        create_signing_key(path)
        return create_signing_key(path)

    monkeypatch.setattr(evidence_dossier, "create_signing_key", raced)
    assert lab.add()["seq"] == 1
    # Another key writes neither a record nor itself into the dossier.
    public = (lab.folder / "dossier" / "dossier.pub.jwk").read_bytes()
    create_signing_key(str(lab.folder / "other.pem"))
    with pytest.raises(AttestedError) as raised:
        lab.add(signing_key="other.pem")
    assert raised.value.code == "ledger-head-damaged" and (lab.folder / "dossier" / "dossier.pub.jwk").read_bytes() == public
    assert lab.verify()["count"] == 1


def test_a_record_is_read_strictly(lab):
    lab.add()
    payload = json.loads((lab.folder / "dossier" / "records.jsonl").read_text())["payload"]
    good = {name: value for name, value in json.loads(base64.urlsafe_b64decode(payload + "==")).items() if name not in ("seq", "prev")}
    Record.parse(good)
    for change in ({"accepted": 1}, {"at": "yesterday"}, {"deployment": "../up"}, {"source": "hearsay"}, {"evidence": ""}, {"ear": "AB"}, {"nonce": "!"},
                   {"endorsements": {"luck": []}}, {"endorsements": {"tdx": ["x"]}}, {"releases": "none"}, {"configuration": {"a/b": "0" * 64}},
                   {"channel": {"tls_spki": "x"}}, {"served": []}, {"extra": 1}, {"problem": None}, {"version": 3}, {"signer": "me"},
                   {"problem": "a relay"}, {"source": "server"}, {"source": "server", "problem": "\x1b[2J"}, {"version": "1\n"}, {"releases": ["0" * 64]},
                   {"manifest": "0" * 64},
                   {"served": {"model_id": "m", "release": 1, "manifest_sha256": "0" * 64}},
                   {"source": "server", "channel": {"protocol": "TLS 1.2", "tls_spki": "sha256:" + "0" * 64}}):  # fmt: skip
        with pytest.raises(AttestedError):
            Record.parse({**good, **change})
    for name in good:
        with pytest.raises(AttestedError):
            Record.parse({other: value for other, value in good.items() if other != name})
