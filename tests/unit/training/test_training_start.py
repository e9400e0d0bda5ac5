# SPDX-License-Identifier: GPL-3.0-or-later
"""The program of an image without a login: which disks it takes, which words of the host's count, and what it leaves behind however it ends."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import subprocess
import tarfile
from dataclasses import replace
from types import SimpleNamespace

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible_collections.attested.ai.plugins.action import training_program
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.training import delivery, options, result, settings, start, volume

BROKER = {"url": "https://127.0.0.1:1", "pins": ["sha256:" + "ab" * 32], "resource": "kbs:///default/rows/x"}
CHOSEN = {name: spec.get("default") for name, spec in options.SETTINGS.items()}


def archive(files, form=tarfile.USTAR_FORMAT, edit=None):
    """A job as tar makes it. ``files`` are contents by name; None is a folder."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as target:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.size = (tarfile.DIRTYPE, 0) if data is None else (tarfile.REGTYPE, len(data))
            if edit is not None:
                edit(entry)
            target.addfile(entry, None if data is None else io.BytesIO(data))
    return made.getvalue()


def sources(*parties, **changes):
    return {"schema": settings.JOB_SCHEMA, "sources": [{"party": party, **BROKER, **changes} for party in parties]}


@pytest.fixture
def image(lab, monkeypatch):
    return image_of(lab, monkeypatch)


def image_of(lab, monkeypatch):
    """A guest with the image: the lab's brokers and evidence, disks, and measured settings."""
    run = options.jobs.run

    def run_here(job, check_mode, execute):
        mine = {one.party: one.prepared for one in lab.job().sources}
        given = tuple(replace(one, prepared=mine[one.party]) for one in job.sources)
        return run(replace(job, sources=given, own=lab.job().own), check_mode, execute, lab.fetch)

    monkeypatch.setattr(options.jobs, "run", run_here)
    chosen = {**CHOSEN, "isolation": "process", "method": "configfs", "tsm_path": "/tmp/tsm", "directory": str(lab.memory)}
    return Image(lab, settings.settings_bytes({**chosen, "session_directory": str(lab.memory / "sessions")}))


class Image:
    def __init__(self, lab, chosen):
        self.lab, self.disks = lab, lab.folder / "disks"
        self.disks.mkdir()
        (self.disks / "settings").write_bytes(chosen)
        self.files = {"agreement.json": lab.agreement.to_bytes(), "job.json": json.dumps(sources("a", "b")).encode(), "code": None, "data": None}
        for folder in ("code", "data"):
            for path in sorted((lab.folder / folder).rglob("*")):
                self.files[str(path.relative_to(lab.folder))] = None if path.is_dir() else path.read_bytes()
        self.size = 1 << 20

    def run(self, job=None):
        (self.disks / "job").write_bytes(archive(self.files) if job is None else job)
        (self.disks / "results").write_bytes(bytes(self.size))
        return self.again()

    def again(self):
        return start.run(start.Start(*(str(self.disks / name) for name in ("settings", "job", "results"))), lambda _argv: (1, "", ""))

    def left(self):
        """What lies on the disk of results, by name."""
        with tarfile.open(self.disks / "results") as found:
            return {entry.name: found.extractfile(entry).read() for entry in found if entry.isfile()}

    def status(self):
        return json.loads(self.left()["status.json"])


def test_job_runs_from_one_disk_to_the_other(image):
    lab = image.lab
    assert image.run() == delivery.Status("count", lab.agreement.digest)
    left = image.left()
    assert image.status() == {"schema": delivery.SCHEMA, "job": "count", "agreement": lab.agreement.digest, "error": ""}
    assert {name.split("/")[1] for name in left if name != "status.json"} == {"log", "metrics", "model"} and lab.asked == ["a", "b"]
    for output in ("log", "metrics", "model"):
        statement = result.Statement.parse(left[f"results/{output}/{result.STATEMENT}"])
        statement.check(lab.agreement, output, "here")
        result.verify_all([statement], lab.agreement, lab.tag_keys(), "here")
    # No plaintext on the disk, nothing but the note of what was made in memory.
    assert b"model of" not in (image.disks / "results").read_bytes()
    assert [path.name for path in lab.memory.rglob("*") if path.is_file()] in ([lab.agreement.digest + ".done"], [".lock", lab.agreement.digest + ".done"])
    # What was made is not overwritten by another start.
    before = (image.disks / "results").read_bytes()
    with pytest.raises(AttestedError, match="something lies on it"):
        image.again()
    assert (image.disks / "results").read_bytes() == before and lab.asked == ["a", "b"]


def _put(name, data):
    return lambda image: image.files.update({name: data})


def _agree_otherwise(image):
    image.files["agreement.json"] = type(image.lab.agreement).of({**image.lab.members(), "job": "other"}).to_bytes()


def _refuse(image):
    image.lab.refusing = "b"


ENDINGS = {
    "another agreement": (_agree_otherwise, "training-launch", ""),
    "another program": (_put("code/go.py", b"print('all')\n"), "training-code", ""),
    "a file more in the program": (_put("code/more.py", b""), "training-code", ""),
    "no program": (lambda image: image.files.pop("code/go.py"), "model-source", ""),
    "less isolation": (_put("job.json", json.dumps({**sources("a", "b"), "isolation": "process"}).encode()), "training-job", ""),
    "another user": (_put("job.json", json.dumps(sources("a", "b", user="root")).encode()), "training-job", ""),
    "a path of its own": (_put("job.json", json.dumps(sources("a", "b", src="/etc")).encode()), "training-job", ""),
    "a party that is a path": (_put("job.json", json.dumps(sources("a", "../../etc")).encode()), "training-job", ""),
    "no pin": (_put("job.json", json.dumps(sources("a", "b", pins=[])).encode()), "training-job", ""),
    "a party too little": (_put("job.json", json.dumps(sources("a")).encode()), "training-sources", ""),
    "a party twice": (_put("job.json", json.dumps(sources("a", "a")).encode()), "training-job", ""),
    "no JSON": (_put("job.json", b"{"), "training-job", ""),
    "too much JSON": (_put("job.json", b" " * (settings.SIZE_MAX + 1)), "training-volume", ""),
    "no agreement": (lambda image: image.files.pop("agreement.json"), "training-volume", ""),
    "something more": (_put("etc/passwd", b"root::0:0::/:/bin/sh"), "training-volume", ""),
    "data of nobody's manifest": (_put("data/a/more.tink", b"1"), "training-volume", "ab"),
    "data that are missing": (lambda image: image.files.pop("data/b/rows.tink"), "training-volume", "ab"),
    "data that are shorter": (lambda image: image.files.update({"data/b/rows.tink": image.files["data/b/rows.tink"][:-1]}), "training-volume", "ab"),
    "data that were changed": (lambda image: image.files.update({"data/b/rows.tink": image.files["data/b/rows.tink"][:-1] + b"\0"}), "model-tag", "ab"),
    "an owner refuses": (_refuse, "kbs-policy-denied", "ab"),
    "no room for a result": (lambda image: setattr(image, "size", 4096), "training-volume-full", "ab"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_each_failure_leaves_its_code_and_nothing_else(image, name):
    spoil, code, asked = ENDINGS[name]
    spoil(image)
    assert image.run().error == code and "".join(image.lab.asked) == asked
    assert image.status()["error"] == code and list(image.left()) == ["status.json"]
    assert b"model of" not in (image.disks / "results").read_bytes()
    assert [path for path in image.lab.left() if path.suffix != ".done"] == []


def test_program_that_fails_leaves_its_log(make_lab, monkeypatch):
    image = image_of(make_lab(rows="stop"), monkeypatch)
    assert image.run().error == "training-failed"
    names = list(image.left())
    assert names[0] == "status.json" and "results/log/training-result.json" in names and not any("model/" in name for name in names)


def _flip(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]


def test_only_whole_archives_of_one_form_are_read(tmp_path):
    files = {"code": None, "code/go.py": b"x" * 700, "n" * 60 + "/" + "m" * 90: b"", "data/\u00e4": b"1"}
    good = archive(files)
    # Padding is not asked for, but the end is.
    end = len(good.rstrip(b"\0")) // 512 * 512 + 512
    place = tmp_path / "disk"
    for data in (good, good[: end + 512], good + b"what was there before" * 100):
        place.write_bytes(data)
        found = volume.Archive(str(place))
        assert {name: found.read(name, 1000) for name in found.members} == {name: data for name, data in files.items() if data is not None}
        found.close()
    long = {"code/" + "x" * 200: b""}

    def named(name):
        return lambda entry: setattr(entry, "name", name)

    def link(entry):
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"

    bad = {
        "nothing": b"", "random bytes": random.Random(1).randbytes(4096), "cut off": good[:end], "cut within a file": good[:1200], "a bit": _flip(good, 130),
        "the form of GNU": archive(files, tarfile.GNU_FORMAT), "the form of pax": archive(long, tarfile.PAX_FORMAT), "a link": archive({"x": b""}, edit=link),
        "a device": archive({"x": b""}, edit=lambda entry: setattr(entry, "type", tarfile.BLKTYPE)),
        "upwards": archive({"../x": b""}),
        "from the root": archive({"x": b""}, edit=named("/etc/passwd")), "a dot": archive({"./x": b""}),
        "twice": archive({"x": b""})[:512] + archive({"x": b""}),
        "a folder with bytes": archive({"x": b"1"}, edit=lambda entry: setattr(entry, "type", tarfile.DIRTYPE)),
        "a name that is no text": archive({"x": b""}).replace(b"x", b"\xff", 1),
    }  # fmt: skip
    for name, data in bad.items():
        place.write_bytes(data)
        with pytest.raises(AttestedError):
            volume.Archive(str(place))
            pytest.fail(name)
    with pytest.raises(AttestedError, match="cannot be opened"):
        volume.Archive(str(tmp_path / "none"))


def test_no_archive_is_anything_but_read_or_refused(tmp_path):
    chance, place, refused = random.Random(7), tmp_path / "disk", 0
    good = archive({"code": None, "code/go.py": b"x" * 700, "job.json": b"{}"})[:4608]
    for _try in range(300):
        data = bytearray(good)
        for _change in range(chance.randint(1, 3)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        place.write_bytes(data[: chance.choice((len(data), chance.randrange(len(data))))])
        try:
            volume.Archive(str(place)).close()
        except AttestedError:
            refused += 1
    assert 100 < refused < 300


def test_disk_that_shrinks_or_is_too_large_to_unpack_is_an_error(tmp_path):
    place = tmp_path / "disk"
    place.write_bytes(archive({"code/go.py": b"x" * 5000}))
    found = volume.Archive(str(place))
    with pytest.raises(AttestedError, match="larger than"):
        found.unpack("code", str(tmp_path / "code"), 4999)
    with pytest.raises(AttestedError, match="longer than"):
        found.read("code/go.py", 4999)
    os.truncate(place, 1024)
    with pytest.raises(AttestedError, match="ends after"):
        found.unpack("code", str(tmp_path / "code"), 5000)
    with volume.Folder(found, "code").open("go.py", 5000) as opened, pytest.raises(AttestedError, match="more were asked for"):
        opened.read_into(memoryview(bytearray(2)), 4999)


@pytest.mark.parametrize("changes", [
    {"isolation": "none"}, {"seconds": True}, {"seconds": 0}, {"gpu": 1}, {"memory_max": "4G\nUser=root"}, {"directory": "run"}, {"method": None}, {"more": 1},
    {"schema": "x"},
])  # fmt: skip
def test_settings_of_the_image_are_read_strictly(changes):
    raw = settings.settings_bytes(CHOSEN)
    found = settings.parse_settings(raw, "here")
    assert found["user"] == "attested-training" and found["isolation"] == "unit"
    with pytest.raises(AttestedError):
        settings.parse_settings(json.dumps({**json.loads(raw), **changes}).encode(), "here")


def test_a_mistake_of_ours_ends_with_a_code_and_tells_no_data(image, monkeypatch, capsys):
    def wrong(*_args):
        raise ValueError("patient 4711")

    monkeypatch.setattr(start.options, "apply", wrong)
    assert image.run().error == "training-internal" and image.status()["job"] == "count"
    assert "4711" not in "".join(capsys.readouterr())


def test_a_guest_that_is_stopped_meanwhile_says_so(image, monkeypatch, capsys):
    image.run()
    (image.disks / "results").write_bytes(bytes(image.size))
    monkeypatch.setattr(start.options, "apply", lambda *_args: os.kill(os.getpid(), signal.SIGTERM))
    assert start.main([word for name in ("settings", "job", "results") for word in ("--" + name, str(image.disks / name))]) == 1
    assert capsys.readouterr().out == "attested.ai: job count: interrupted\n" and image.status()["error"] == "interrupted"


def test_line_for_the_console_where_nothing_else_can_be_used(tmp_path, capsys):
    assert start.main(["--settings", str(tmp_path / "none"), "--job", "x", "--results", "x"]) == 1
    assert capsys.readouterr().out == "attested.ai: job unknown: training-settings\n"


def _action(check_mode, diff=True):
    action = training_program.ActionModule.__new__(training_program.ActionModule)
    action._loader, action._task = DataLoader(), SimpleNamespace(check_mode=check_mode, diff=diff)
    return action


def test_files_for_the_image_are_the_same_each_time(tmp_path):
    dest = tmp_path / "made"
    given = {**CHOSEN, "dest": str(dest), "seconds": 7200}
    tried = _action(True).work(given)
    assert tried["changed"] and not dest.exists()
    made = _action(False).work(given)
    assert made == tried and not _action(False).work(given)["changed"] and _action(False).work(given)["diff"] == []
    assert [one["dest"] for one in made["files"]] == list(made["digests"]) and all(os.stat(one["src"]).st_mode & 0o777 == 0o644 for one in made["files"])
    # A run that was cut off after the file was written, and before it was opened to others.
    os.chmod(made["files"][0]["src"], 0o600)
    assert _action(False).work(given)["changed"] and os.stat(made["files"][0]["src"]).st_mode & 0o777 == 0o644
    shown = {one["before_header"]: one["after"] for one in made["diff"]}
    assert '"seconds":7200' in shown["/etc/attested-ai/training.json"] and shown[training_program.PROGRAM].startswith("SHA-256 ")
    other = _action(False).work({**given, "seconds": 60})
    assert [one["before_header"] for one in other["diff"]] == ["/etc/attested-ai/training.json"]
    with pytest.raises(AttestedError):
        _action(True).work({**given, "scratch_size": "1G,exec"})
    assert made["enable"] == ["attested-training.service"]


def test_systemd_reads_unit_and_user(tmp_path):
    for name in ("systemd-analyze", "systemd-sysusers"):
        assert shutil.which(name), f"{name} is missing: install systemd"
    files = training_program.contents(CHOSEN)
    for path, data in files.items():
        (tmp_path / os.path.basename(path)).write_bytes(data)
    unit, mount, user = (tmp_path / name for name in ("attested-training.service", "run-attested-training.mount", "attested-training.conf"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit), str(mount)], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "attested-training" not in done.stderr and "Unknown" not in done.stderr, done.stderr
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    subprocess.run(["systemd-sysusers", f"--root={root}", str(user)], check=True, capture_output=True)
    assert "attested-training:x:" in (root / "etc" / "passwd").read_text()
    assert f"Where={training_program.DIRECTORY['default']}\n" in mount.read_text()
    words = unit.read_text().replace("\\\n", "").split()
    assert "/usr/lib/attested-ai/training.pyz" in words and "/etc/attested-ai/training.json" in words and "-I" in words
