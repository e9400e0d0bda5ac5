# SPDX-License-Identifier: GPL-3.0-or-later
"""Agreements that are none, jobs that must not start, and results that came from somewhere else."""

from __future__ import annotations

import copy
import json
import os
from dataclasses import replace

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwe
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import Manifest
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.plan import unwrap_dek
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
    "release that is no number": party(0, minimum_release=True),
    "release 0": party(0, minimum_release=0),
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
    assert [path for path in lab.memory.rglob("*") if path.is_file() and path.name != ".lock"] == []
    assert not any(b"1 2" in path.read_bytes() for path in (lab.folder / "results").rglob("*") if path.is_file())
    for output, who in (("metrics", "ab"), ("log", "ab"), ("model", "a")):
        folder = lab.folder / "results" / output
        statement = result.Statement.parse((folder / result.STATEMENT).read_bytes())
        statement.check(lab.agreement, output, "here")
        manifest = Manifest.parse((folder / "sealed" / "model-manifest.json").read_bytes())
        for name, owner in lab.owners.items():
            key = result.tag_key(unwrap_dek(lab.manifests[name].dek, owner.kek), lab.agreement)
            if name in who:
                assert len(jwe.unwrap_general(dict(manifest.dek), owner.result)) == 32
                result.verify(statement, name, key, "here")
                continue
            with pytest.raises(AttestedError):
                jwe.unwrap_general(dict(manifest.dek), owner.result)
            with pytest.raises(AttestedError, match="not for 'b'"):
                result.verify(statement, name, key, "here")
        # A host that puts another model in its place has no owner's data key.
        key = result.tag_key(unwrap_dek(lab.manifests["a"].dek, lab.owners["a"].kek), lab.agreement)
        for forged in (replace(statement, manifest_sha256="00" * 32), replace(statement, made_at="2020-01-01T00:00:00Z")):
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


def test_sources_have_to_be_the_parties(lab):
    job = lab.job()
    for sources in (job.sources[:1], job.sources + job.sources[:1], ()):
        with pytest.raises(AttestedError, match="sources are given for"):
            lab.run(sources=sources)
    assert lab.asked == []


def test_plain_process_is_refused_where_evidence_is_real(lab):
    for method, path in (("configfs", "/sys/kernel/config/tsm/report"), ("auto", "/tmp/tsm"), ("ioctl", "/tmp/tsm")):
        with pytest.raises(AttestedError, match="Soft TEE only"):
            runner.refuse_process(method, path)


def test_unit_has_no_network_and_no_rights(lab):
    place = runner.Place("/run/attested-training/count")
    words = runner.unit_command(lab.agreement, place, runner.Limits(), noswap=True)
    properties = [word.partition("=")[2] for word in words if word.startswith("--property=")]
    for needed in ("PrivateNetwork=yes", "User=attested-training", "NoNewPrivileges=yes", "CapabilityBoundingSet=", "LimitCORE=0", "MemorySwapMax=0",
                   "ProtectSystem=strict", "InaccessiblePaths=-/run/attested-ai", "ReadWritePaths=" + place.out, "PrivateDevices=yes"):  # fmt: skip
        assert needed in properties
    assert words[words.index("--") + 1:][1:] == [place.code + "/go.py", place.data, place.out]
    assert sum("noswap" in one for one in properties) == 3
    assert not any("noswap" in word for word in runner.unit_command(lab.agreement, place, runner.Limits(gpus=True), noswap=False))
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
    (lab.memory / "count" / "home").mkdir(parents=True)
    with pytest.raises(AttestedError, match="of no job"):
        apply(options, False, lambda _argv: (0, "", ""))
    limits = {"memory_max": "4G", "scratch_size": "25%", "user": "attested-training", "seconds": 60, "gpu": False}
    for wrong in ({"memory_max": "4G\nExecStartPre=/bin/sh"}, {"scratch_size": "1G,exec"}, {"user": "root"}, {"user": "-x"}, {"seconds": 0}):
        with pytest.raises(AttestedError):
            apply({**options, "state": "present", **limits, **wrong}, False, lambda _argv: (0, "", ""))
    assert jobs.noswap_known("6.4.0-1-amd64") and jobs.noswap_known("6.12-rc1") and not jobs.noswap_known("6.1.0") and not jobs.noswap_known("x")
