# SPDX-License-Identifier: GPL-3.0-or-later
"""A dossier with evidence of a TDX platform that the tests make: what is kept, what is told of it later, and what shows."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import sys
import types
from dataclasses import fields, replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tdx"))

import tdx_lab  # noqa: E402
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator  # noqa: E402
from ansible_collections.attested.ai.plugins.action import evidence_dossier  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import Endorsements  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.appraisal.ear import sign_ear  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.dossier.gaps import find_gaps  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.dossier.judge import appraise_record  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.dossier.least import least  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.dossier.record import Record  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import Binding, EvidenceDocument, EvidenceItem  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.formats.jwk import thumbprint  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import public_jwk  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.keysource import create_kek  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.ledger import Entry  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.signingkey import create_signing_key  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.encrypt import encrypt  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.plan import Keys, Request, make_plan  # noqa: E402
from ansible_collections.attested.ai.plugins.plugin_utils import dossier_files  # noqa: E402
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import parse_time  # noqa: E402
from ansible_collections.attested.ai.plugins.plugin_utils.release_records import ReleaseRecords  # noqa: E402

NONCE = bytes(range(32))
NONCE_TEXT = base64.b64encode(NONCE).decode()
MRTD = b"\x11" * 48


class _Dossier(evidence_dossier.ActionModule):
    def __init__(self, task, loader, find):  # pylint: disable=super-init-not-called
        self._task, self._loader, self._find_needle = task, loader, find


class Lab:
    """The action in this process, with evidence and collateral that are made here."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tdx = folder, tdx_lab.lab()
        (folder / "collateral.json").write_bytes(self.tdx.collateral())
        root = tdx_lab.pem(self.tdx.root)
        self.policy = {"schema": "attested.ai/policy/1", "id": "records", "allow_nonvendor_roots": True, "roots": [root],
                       "chain_of_trust": {"waiver": "the lab has no image"}}  # fmt: skip
        value = {"tee": "tdx", "measurement": MRTD.hex(), "covers": "launch", "image": "i", "source": "here", "not_after": "2027-01-01T00:00:00Z"}
        self.values = {"schema": "attested.ai/reference-values/1", "values": [value]}

    def evidence(self, mrtd=MRTD, nonce=NONCE, binding=Binding()):  # noqa: B008 - frozen
        template = EvidenceDocument("attested/1", nonce, binding, (), {})
        quote = self.tdx.quote(tdx_lab.td_report(reportdata=template.expected_report_data(nonce), mrtd=mrtd))
        return EvidenceDocument("attested/1", nonce, binding, (EvidenceItem("tdx", "tdx_guest", quote, {}),), {}).to_dict()

    def run(self, check=False, **options):
        given = ArgumentSpecValidator(evidence_dossier.ARGUMENT_SPEC, **evidence_dossier.ActionModule.rules).validate({"path": "dossier", **options})
        assert not given.error_messages, given.error_messages
        loader = types.SimpleNamespace(get_basedir=lambda: str(self.folder), get_real_file=lambda path: path)
        action = _Dossier(types.SimpleNamespace(check_mode=check, diff=False), loader, lambda _kind, path: os.path.join(self.folder, path))
        return action.work(given.validated_parameters)

    def add(self, at="2026-11-01T00:00:00Z", check=False, evidence=None, binding=Binding(), **more):  # noqa: B008 - frozen
        drawn = NONCE if evidence else os.urandom(32)
        evidence = evidence or self.evidence(nonce=drawn, binding=binding)
        return self.run(check, operation="add", **{**self.common(at), "evidence": evidence, "nonce": base64.b64encode(drawn).decode(), **more})

    def common(self, at):
        return {"deployment": "triage", "signing_key": "dossier.pem", "create_signing_key": True, "policy": self.policy, "reference_values": self.values,
                "collateral": ["collateral.json"], "at": at}  # fmt: skip

    def verify(self, **more):
        return self.run(operation="verify", **{"public_key": "dossier/dossier.pub.jwk", "at": "2026-11-01T12:00:00Z", **more})

    def forge(self, change, extra=()):
        """What whoever holds the signing key can do: the first record once more, and changed."""
        files = dossier_files.DossierFiles(str(self.folder / "dossier"))
        key = evidence_dossier.load_signing_key(str(self.folder / "dossier.pem"))
        line = files.verify(public_jwk(key)).entries[0]
        record = Record.parse({name: value for name, value in line.items() if name not in ("seq", "prev", "hash")})
        blobs = {**files.blobs_of(record), **{hashlib.sha256(data).hexdigest(): data for data in extra}}
        files.append(replace(record, **change), blobs, key, jcs.canonicalize(public_jwk(key)) + b"\n")


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)


def outcomes(entry):
    return {check["id"]: check["outcome"] for check in entry["checks"]}


def test_a_record_says_later_what_it_said_then(lab):
    added = lab.add()
    assert (added["changed"], added["failed"], added["accepted"], added["seq"]) == (True, False, True, 1)
    assert [(state["state"], state["shown"]) for state in added["states"]] == [("at-rest", False), ("in-transit", False), ("in-use", True)]
    found = lab.verify()
    assert found["verified"] and not found["failed"] and found["head"] == added["head"] and found["refused"] == 0
    entry = found["entries"][0]
    assert entry["accepted"] and entry["intact"] and entry["anchor"] == "nonvendor"
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


def seal(lab):
    """Release 2 of the model m."""
    kek, signer = create_kek(str(lab.folder / "kek.jwk")), create_signing_key(str(lab.folder / "model.pem"))
    (lab.folder / "plain").mkdir()
    (lab.folder / "plain" / "weights.bin").write_bytes(os.urandom(3000))
    keys = Keys(kek, signer)
    encrypt(make_plan(Request(str(lab.folder / "plain"), str(lab.folder / "sealed"), "m", 2, 4096), keys), keys, "2026-01-31T12:00:00Z")
    (lab.folder / "model.pub").write_text(json.dumps(public_jwk(signer)))
    return {"model": "sealed", "signer": "model.pub"}


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
])  # fmt: skip
def test_a_chain_that_does_not_hold_is_refused(lab, damage, code):
    for hour in range(3):
        lab.add(at=f"2026-11-01T0{hour}:00:00Z")
    damage(lab.folder / "dossier")
    with pytest.raises(AttestedError) as raised:
        lab.verify()
    assert raised.value.code in code


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
    assert [outcomes(entry)["order"] for entry in lab.verify()["entries"]] == ["pass", "pass", "fail", "pass", "fail"]


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
