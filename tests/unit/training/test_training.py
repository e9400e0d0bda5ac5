# SPDX-License-Identifier: GPL-3.0-or-later
"""Agreements that are none, jobs that must not start, and results that came from somewhere else."""

from __future__ import annotations

import copy
import json
import os
import shutil
from dataclasses import replace

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwe
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import public_jwk
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.modelkey import ModelKey
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import Manifest
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.plan import unwrap_dek
from ansible_collections.attested.ai.plugins.module_utils.target import memory
from ansible_collections.attested.ai.plugins.module_utils.training import job as jobs
from ansible_collections.attested.ai.plugins.module_utils.training import result, runner
from ansible_collections.attested.ai.plugins.module_utils.training.agreement import SIZE_MAX, Agreement
from ansible_collections.attested.ai.plugins.module_utils.training.options import apply


def party(number, **changes):
    def change(value):
        value["parties"][number].update(changes)

    return change


def member(name, value):
    return lambda agreement: agreement.update({name: value})


BAD = {
    "unknown member": member("more", 1),
    "other schema": member("schema", "attested.ai/training-agreement/2"),
    "digest in capitals": lambda value: value.update(code=value["code"].upper().replace("0", "A")),
    "short digest": lambda value: value.update(code=value["code"][:-2]),
    "name that is a path": member("job", "../x"),
    "program by search path": member("command", ["python3", "x"]),
    "no command": member("command", []),
    "word with a line end": member("command", ["/bin/sh", "a\nb"]),
    "word that is no text": member("command", ["/bin/sh", 1]),
    "no party": member("parties", []),
    "a party twice": lambda value: value["parties"].append(value["parties"][1]),
    "an id twice": party(1, id="a"),
    "one data set for two": party(1, model_id="rows-a"),
    "parties out of order": lambda value: value["parties"].reverse(),
    "party with more": party(0, note="x"),
    "short digest of the data": party(0, manifest_sha256="00" * 31),
    "digest of the data in capitals": party(0, manifest_sha256="AB" * 32),
    "signer in hexadecimal": party(0, manifest_signer="00" * 32),
    "private key": lambda value: value["parties"][0]["result_key"].update(d="AA"),
    "one result key for two": lambda value: value["parties"][1].update(result_key=value["parties"][0]["result_key"]),
    "point off the curve": lambda value: value["parties"][0]["result_key"].update(x=value["parties"][0]["result_key"]["y"]),
    "no output": member("outputs", {}),
    "outputs as list": member("outputs", ["model"]),
    "output that is a path": member("outputs", {"../model": "all"}),
    "recipient that is no party": member("outputs", {"model": ["c"]}),
    "recipient that is no text": member("outputs", {"model": [{}]}),
    "recipients out of order": member("outputs", {"model": ["b", "a"]}),
    "recipient twice": member("outputs", {"model": ["a", "a"]}),
    "everybody by name": member("outputs", {"model": ["a", "b"]}),
    "nobody": member("outputs", {"model": []}),
    "another word": member("outputs", {"model": "any"}),
}


def test_agreement_has_one_spelling(lab):
    raw, value = lab.agreement.to_bytes(), lab.members()
    assert Agreement.parse(raw) == lab.agreement and lab.agreement.fields()["tdx"] == lab.agreement.digest + "00" * 16
    for name, spoil in BAD.items():
        changed = copy.deepcopy(value)
        spoil(changed)
        with pytest.raises(AttestedError):
            Agreement.parse(jcs.canonicalize(changed))
            pytest.fail(name)
    twice = raw.replace(b'{"code"', b'{"job":"count","code"', 1)
    for other in (json.dumps(value).encode(), raw + b"\n", twice, raw[:-1], b"[]", b"\xff", raw + b" " * SIZE_MAX):
        with pytest.raises(AttestedError):
            Agreement.parse(other)
    # One word more, and every field of every report is another one.
    value["command"].append("--more")
    assert set(Agreement.of(value).fields().values()).isdisjoint(lab.agreement.fields().values())


def test_job_runs_once_and_each_gets_what_was_agreed(lab):
    assert lab.run(check_mode=True)["changed"] and lab.asked == [] and lab.left() == []
    done = lab.run()
    assert done["changed"] and lab.asked == ["a", "b"] and [key["party"] for key in done["released"]] == ["a", "b"]
    # Nothing stays in memory, and nothing readable in the results.
    assert [path for path in lab.memory.rglob("*") if path.is_file() and path.name not in (".lock", lab.agreement.digest + ".done")] == []
    assert not any(b"1 2" in path.read_bytes() for path in (lab.folder / "results").rglob("*") if path.is_file())
    for output, who in (("metrics", "ab"), ("log", "ab"), ("model", "a")):
        folder = lab.folder / "results" / output
        statement = result.Statement.parse((folder / result.STATEMENT).read_bytes())
        statement.check(lab.agreement, output, "here")
        manifest = Manifest.parse((folder / "sealed" / "model-manifest.json").read_bytes())
        for name, owner in lab.owners.items():
            key = lab.tag_keys()[name]
            if name in who:
                assert len(jwe.unwrap_general(dict(manifest.dek), owner.result)) == 32
                result.verify(statement, name, key, "here")
                continue
            with pytest.raises(AttestedError):
                jwe.unwrap_general(dict(manifest.dek), owner.result)
            with pytest.raises(AttestedError, match="not for 'b'"):
                result.verify(statement, name, key, "here")
        # A host that puts another model in its place has no owner's tag key.
        assert statement.succeeded
        key = lab.tag_keys()["a"]
        changes = ({"manifest_sha256": "00" * 32}, {"made_at": "2020-01-01T00:00:00Z"}, {"succeeded": False}, {"signer": public_jwk(lab.owners["a"].signer)})
        for forged in (replace(statement, **change) for change in changes):
            with pytest.raises(AttestedError, match="was not made by a guest"):
                result.verify(forged, "a", key, "here")
        with pytest.raises(AttestedError, match="it is the output"):
            statement.check(lab.agreement, "other", "here")
    assert lab.run() == {key: value for key, value in done.items() if key != "released"} | {"changed": False} and lab.asked == ["a", "b"]


def _write(path, data):
    path.chmod(0o644)
    path.write_bytes(data)


def _flip(lab, name, file):
    path = lab.data(name) / file
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    _write(path, bytes(data))


REFUSED = {
    "another program": (lambda lab: (lab.folder / "code" / "go.py").write_text("1\n"), "training-code", ""),
    "a file more": (lambda lab: (lab.folder / "code" / "more.py").write_text("1\n"), "training-code", ""),
    "a link in the program": (lambda lab: os.symlink("/etc/passwd", lab.folder / "code" / "link"), "model-symlink", ""),
    "launched for something else": (lambda lab: setattr(lab, "launched", "00" * 32), "training-launch", ""),
    "the last owner refuses": (lambda lab: setattr(lab, "refusing", "b"), "kbs-policy-denied", "ab"),
    "the first owner refuses": (lambda lab: setattr(lab, "refusing", "a"), "kbs-policy-denied", "a"),
    "a key for another signer": (lambda lab: setattr(lab, "other_key", "b"), "training-key", "a"),
    "data that were changed": (lambda lab: _flip(lab, "b", "rows.tink"), "model-tag", "ab"),
    "a signature that was changed": (lambda lab: _flip(lab, "b", "model-manifest.jws"), None, "ab"),
    "data of the other owner": (lambda lab: lab.data("b").rename(lab.folder / "x") and lab.data("a").rename(lab.data("b")), None, ""),
    "something in the job's place": (lambda lab: (lab.memory / "count").mkdir(), "training-dest", ""),
    "newer data than was agreed on": (lambda lab: lab.encrypt("b", 3), "training-data", ""),
    "other results": (lambda lab: (lab.folder / "results" / "x").mkdir(parents=True), "training-results", ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_job_does_not_start(lab, name):
    spoil, code, asked = REFUSED[name]
    spoil(lab)
    with pytest.raises(AttestedError) as raised:
        lab.run()
    assert code in (None, raised.value.code), raised.value
    assert "".join(lab.asked) == asked
    assert [path for path in lab.left() if name != "other results"] == []
    # What is not of this run is left alone.
    assert (lab.memory / "count").exists() == (name == "something in the job's place")


def test_program_that_fails_gives_only_its_log(make_lab):
    lab = make_lab(rows="stop")
    with pytest.raises(AttestedError, match="ended with status 3"):
        lab.run()
    # A second try replaces it.
    with pytest.raises(AttestedError, match="ended with status 3"):
        lab.run()
    assert sorted(path.name for path in (lab.folder / "results").iterdir()) == ["log"]
    assert not (lab.memory / "count").exists()
    # The log says so, under the owners' tags.
    statement = result.Statement.parse((lab.folder / "results" / "log" / result.STATEMENT).read_bytes())
    assert not statement.succeeded
    result.verify_all([statement], lab.agreement, lab.tag_keys(), "here")


def test_log_of_a_failure_is_no_result_even_where_nothing_else_was_agreed_on(make_lab):
    lab = make_lab(rows="stop")
    lab.agree(outputs={"log": "all"})
    for _again in range(2):
        with pytest.raises(AttestedError, match="ended with status 3"):
            lab.run()
    assert lab.asked == ["a", "b"] * 2


def _planted(lab, tag_keys):
    """Results as somebody makes them who knows all that is public, and these keys for tags."""
    plain = lab.folder / "evil"
    plain.mkdir()
    (plain / "n").write_text("backdoor")
    for output, _who in lab.agreement.outputs:
        (lab.folder / "results").mkdir(exist_ok=True)
        result.seal(lab.agreement, output, str(plain), str(lab.folder / "results" / output), tag_keys)


def test_planted_results_are_not_believed(lab):
    # The data keys themselves, as another agreement's guests have had them, make no tags.
    _planted(lab, {name: bytes(unwrap_dek(lab.manifests[name].dek, owner.kek)) for name, owner in lab.owners.items()})
    with pytest.raises(AttestedError, match="was not made by a guest that had the tag key of 'a'") as raised:
        lab.run()
    assert raised.value.code == "training-results" and lab.asked == ["a", "b"]
    assert list(lab.memory.glob("*.done")) == [] and not (lab.memory / "count").exists()


def test_results_of_an_earlier_boot_are_verified_and_not_made_again(lab):
    lab.run()
    before = {path: path.read_bytes() for path in (lab.folder / "results").rglob("*") if path.is_file()}
    (note,) = lab.memory.glob("*.done")
    assert note.stat().st_mode & 0o077 == 0
    note.unlink()
    assert not lab.run(check_mode=True)["changed"] and lab.asked == ["a", "b"]
    again = lab.run()
    assert not again["changed"] and lab.asked == ["a", "b"] * 2 and len(again["released"]) == 2
    assert before == {path: path.read_bytes() for path in (lab.folder / "results").rglob("*") if path.is_file()}
    assert not lab.run()["changed"] and lab.asked == ["a", "b"] * 2
    # What is put in their place is seen, though a note is there, and so is a note that others may write.
    note.chmod(0o666)
    lab.run()
    assert lab.asked == ["a", "b"] * 3
    shutil.rmtree(lab.folder / "results")
    _planted(lab, {name: b"\0" * 32 for name in lab.owners})
    with pytest.raises(AttestedError, match="move it away"):
        lab.run()


def test_key_for_another_purpose_is_refused(lab):
    for lab.stored_for in ("", "11" * 32):
        with pytest.raises(AttestedError, match="asked for is one for jobs of the agreement " + lab.agreement.digest) as raised:
            lab.run()
        assert raised.value.code == "model-key-purpose" and lab.left() == []
    key = ModelKey("rows-a", 2, 1, "k", public_jwk(lab.owners["a"].signer), b"k" * 32, "22" * 32, b"t" * 32)
    assert ModelKey.from_json(key.to_json(), "here", "22" * 32) == key and "ttt" not in repr(key)
    # Whoever asks for a model does not ask for an agreement.
    with pytest.raises(AttestedError, match="asked for is one for models"):
        ModelKey.from_json(key.to_json(), "here")
    for change in ({"tag_key": None}, {"agreement": None}, {"agreement": ""}, {"tag_key": "AA"}, {"agreement": "22"}):
        value = {name: entry for name, entry in {**json.loads(key.to_json()), **change}.items() if entry is not None}
        with pytest.raises(AttestedError) as raised:
            ModelKey.from_json(jcs.canonicalize(value), "here", "22" * 32)
        assert raised.value.code == "model-key-form"


def test_data_may_take_longer_to_open_than_a_session_lasts(lab, monkeypatch):
    opened = jobs.opener.decrypt

    def slow(*args, **options):
        # No session lasts until here, and so no key lies in a file.
        assert [path for path in (lab.memory / "sessions").iterdir() if path.is_dir()] == []
        return opened(*args, **options)

    monkeypatch.setattr(jobs.opener, "decrypt", slow)
    assert lab.run()["changed"]


def test_sources_have_to_be_the_parties(lab):
    job = lab.job()
    for sources in (job.sources[:1], job.sources + job.sources[:1], ()):
        with pytest.raises(AttestedError, match="sources are given for"):
            lab.run(sources=sources)
    assert lab.asked == []


def test_plain_process_is_refused_where_evidence_is_real(lab, monkeypatch):
    for method, path in (("configfs", "/sys/kernel/config/tsm/report"), ("auto", "/tmp/tsm"), ("ioctl", "/tmp/tsm")):
        with pytest.raises(AttestedError, match="Soft TEE only"):
            runner.refuse_process(method, path)
    # Mounted, or bound, somewhere else.
    runner.refuse_process("configfs", str(lab.folder))
    for kind in ("configfs", "unknown"):
        monkeypatch.setattr(memory, "memory_filesystem", lambda path, kind=kind: memory.MemoryFs(kind, "/mnt/config", False, ""))
        with pytest.raises(AttestedError, match="Soft TEE only"):
            runner.refuse_process("configfs", "/mnt/config/tsm/report")


def test_unit_has_no_network_and_no_rights(lab):
    place = runner.Place("/run/attested-training/count")
    words = runner.unit_command(lab.agreement, place, runner.Limits(), noswap=True)
    properties = [word.partition("=")[2] for word in words if word.startswith("--property=")]
    for needed in ("PrivateNetwork=yes", "User=attested-training", "NoNewPrivileges=yes", "CapabilityBoundingSet=", "LimitCORE=0", "MemorySwapMax=0",
                   "ProtectSystem=strict", "InaccessiblePaths=-/run/attested-ai", "ReadWritePaths=" + place.out, "PrivateDevices=yes"):  # fmt: skip
        assert needed in properties
    assert words[words.index("--") + 1:][1:] == [place.code + "/go.py", place.data, place.out]
    assert sum("noswap" in one for one in properties) == 3
    with_gpus = runner.unit_command(lab.agreement, place, runner.Limits(gpus=True), noswap=False)
    assert not any("noswap" in word or "ProtectClock" in word for word in with_gpus) and "--property=PrivateDevices=no" in with_gpus
    assert "ProtectClock=yes" in properties
    # Whatever ends the wait, the unit is ended as well.
    ran = []

    def interrupted(words):
        ran.append(words)
        if words[0] == "systemd-run":
            raise KeyboardInterrupt
        return 0, "", ""

    with pytest.raises(KeyboardInterrupt):
        runner.run_unit(lab.agreement, place, runner.Limits(), interrupted, True)
    assert [words[1] for words in ran[1:]] == ["kill", "stop"]
    with pytest.raises(AttestedError, match="could not be run"):
        runner.run_unit(lab.agreement, place, runner.Limits(), lambda _words: (1, "", "Failed to start"), True)


def test_absent_and_options(lab):
    options = {"agreement": str(lab.folder / "agreement.json"), "state": "absent", "directory": str(lab.memory)}
    assert apply(options, False, lambda _argv: (0, "", ""))["changed"] is False
    (lab.memory / "count" / "data").mkdir(parents=True)
    assert apply(options, True, lambda _argv: (0, "", ""))["changed"] and (lab.memory / "count").exists()
    assert apply(options, False, lambda _argv: (0, "", ""))["changed"] and not (lab.memory / "count").exists()
    # What was known of results is forgotten with it.
    note = lab.memory / (lab.agreement.digest + ".done")
    note.touch()
    assert apply(options, False, lambda _argv: (0, "", ""))["changed"] and not note.exists()
    (lab.memory / "count").write_text("a file")
    with pytest.raises(AttestedError, match="of no job"):
        apply(options, False, lambda _argv: (0, "", ""))
    (lab.memory / "count").unlink()
    (lab.memory / "count" / "home").mkdir(parents=True)
    with pytest.raises(AttestedError, match="of no job"):
        apply(options, False, lambda _argv: (0, "", ""))
    limits = {"memory_max": "4G", "scratch_size": "25%", "user": "attested-training", "seconds": 60, "gpu": False}
    for wrong in ({"memory_max": "4G\nExecStartPre=/bin/sh"}, {"scratch_size": "1G,exec"}, {"user": "root"}, {"user": "-x"}, {"seconds": 0}):
        with pytest.raises(AttestedError):
            apply({**options, "state": "present", **limits, **wrong}, False, lambda _argv: (0, "", ""))
    assert jobs.noswap_known("6.4.0-1-amd64") and jobs.noswap_known("6.12-rc1") and not jobs.noswap_known("6.1.0") and not jobs.noswap_known("x")
