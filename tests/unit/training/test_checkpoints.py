# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints: what is left when a program, a guest or the power ends at any moment, what an owner can tell of it, and what a program cannot reach."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from types import SimpleNamespace

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible_collections.attested.ai.plugins.action import training_agreement, training_result
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import public_jwk
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.secretfile import write_new
from ansible_collections.attested.ai.plugins.module_utils.training import checkpoints, kept, options, result, slots, start
from ansible_collections.attested.ai.plugins.module_utils.training.agreement import Agreement
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from test_training_start import image_of

KEEP = {"checkpoints": {"recipients": ["a"], "keep": 2}}
# Waits until each was taken, then does what the line at the end says.
PROGRAM = """import os, pathlib, shutil, sys, time
data, out = map(pathlib.Path, sys.argv[1:])
place, before = out / "checkpoints", data / "a" / "checkpoint" / "state"
first = int(before.read_text().split()[-1]) if before.exists() else 0
def leave(number, text=None):
    new = place / "new"
    new.mkdir()
    (new / "state").write_text(text or "weights %d" % number)
    new.rename(place / str(number))
def gone(number):
    while (place / str(number)).exists():
        time.sleep(0.005)
for number in range(first + 1, first + 4):
    leave(number)
    gone(number)
"""
ENDS = {
    "killed": ("leave(4); os.kill(os.getpid(), 9)", "training-failed", [3, 4]),
    "failed": ("sys.exit(3)", "training-failed", [2, 3]),
    "too slow": ("time.sleep(60)", "training-slow", [2, 3]),
    "a link": ("os.symlink(data, place / '9'); time.sleep(60)", "training-checkpoint", [2, 3]),
    "a file": ("(place / '9').write_text('x'); time.sleep(60)", "training-checkpoint", [2, 3]),
    "nothing in it": ("(place / '9').mkdir(); time.sleep(60)", "training-checkpoint", [2, 3]),
    "a link in it": ("(place / 'n').mkdir(); os.symlink('/etc/passwd', place / 'n' / 'x'); (place / 'n').rename(place / '9'); time.sleep(60)",
                     "training-checkpoint", [2, 3]),
    "a lower number": ("leave(2); time.sleep(60)", "training-checkpoint", [2, 3]),
    "another place": ("place.rmdir(); os.symlink(data.parent.parent, place); time.sleep(60)", "training-checkpoint", [2, 3]),
}  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(checkpoints, "PAUSE", 0.01)


def program(lab, last="", **members):
    (lab.folder / "code" / "go.py").write_text(PROGRAM + last + "\n")
    lab.agree(**{"outputs": {"log": "all"}, **KEEP, **members})


def run(lab, **changes):
    return lab.run(store=kept.Folder(str(lab.folder / "checkpoints"), 2), **changes)


def there(lab):
    return sorted(int(path.name) for path in (lab.folder / "checkpoints").iterdir())


def opening(lab, party="a", check_mode=False, **changes):
    action = training_result.ActionModule.__new__(training_result.ActionModule)
    action._loader, action._task = DataLoader(), SimpleNamespace(check_mode=check_mode)
    key = lab.folder / (party + ".pem")
    if not key.exists():
        write_new(str(key), lab.owners[party].result.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    given = {"agreement": str(lab.folder / "agreement.json"), "party": party, "output": "checkpoints", "src": str(lab.folder), "key": str(key),
             "dest": str(lab.folder / "opened"), "checkpoint": None, "checkpoint_minimum": 1}  # fmt: skip
    return action.work({**given, **changes})


def test_agreements_without_checkpoints_are_what_they_were(lab):
    value = lab.members()
    assert Agreement.of(value).to_bytes() == jcs.canonicalize(value) and b"checkpoints" not in jcs.canonicalize(value)
    with_some = Agreement.of({**value, **KEEP})
    assert with_some.to_bytes() == jcs.canonicalize({**value, **KEEP}) and Agreement.parse(with_some.to_bytes()) == with_some
    assert with_some.digest != lab.agreement.digest and "checkpoints" not in lab.agreement.released()
    # An output of that name is one like any other where there are no checkpoints.
    old = Agreement.of({**value, "outputs": {"checkpoints": "all"}})
    assert old.released() == {"checkpoints": ("a", "b")}
    for wrong in (None, True, {}, {"recipients": "all"}, {"recipients": "all", "keep": 0}, {"recipients": "all", "keep": 65},
                  {"recipients": "all", "keep": True}, {"recipients": ["c"], "keep": 2}, {"recipients": ["a", "b"], "keep": 2},
                  {"recipients": "all", "keep": 2, "more": 1}):  # fmt: skip
        with pytest.raises(AttestedError):
            Agreement.of({**value, "checkpoints": wrong})
    with pytest.raises(AttestedError, match="are no output"):
        Agreement.of({**value, **KEEP, "outputs": {"checkpoints": "all"}})


@pytest.mark.parametrize("name", ENDS)
def test_what_was_kept_outlives_the_program(lab, name):
    last, code, left = ENDS[name]
    program(lab, last)
    limits = options.runner.Limits(seconds=2 if name == "too slow" else 30)
    with pytest.raises(AttestedError) as raised:
        run(lab, limits=limits)
    assert raised.value.code == code and there(lab) == left, raised.value
    # Nothing of it is plaintext, nothing stays in memory, and the log of the failure is released as ever.
    assert not any(b"weights" in path.read_bytes() for path in lab.folder.rglob("*") if path.is_file() and path.suffix != ".py")
    assert list(lab.memory.glob("count*")) == [] and (lab.folder / "results" / "log").exists() == (name != "too slow")
    told = opening(lab)
    assert told["checkpoint"] == left[-1] and (lab.folder / "opened" / "state").read_text() == f"weights {left[-1]}"
    with pytest.raises(AttestedError, match="does not get it"):
        opening(lab, "b")
    # A start of the same agreement would begin anew, and mix them.
    lab.asked.clear()
    with pytest.raises(AttestedError) as raised:
        run(lab)
    assert raised.value.code == "training-checkpoints" and lab.asked == [] and there(lab) == left


DEEP = "os.chdir(str(place))\nfor _level in range(1200):\n    os.mkdir('n')\n    os.chdir('n')\n"


def test_results_outlive_a_checkpoint_that_fails_at_the_end(lab, monkeypatch):
    """And the folders that it was made of, in the memory of the job and of what was opened beside it."""
    monkeypatch.setattr(checkpoints, "PAUSE", 60)
    (lab.folder / "code" / "go.py").write_text(PROGRAM.partition("for number")[0] + "leave(3); (place / '9').mkdir(); (out / 'model').mkdir()\n"
                                               "(out / 'model' / 'n').write_text('x')\n" + DEEP)  # fmt: skip
    lab.agree(outputs={"model": "all"}, **KEEP)
    told = run(lab)
    assert told["checkpoints"] == [3] == there(lab) and "checkpoint 9 cannot be kept" in told["checkpoint_failure"]
    assert opening(lab, output="model", src=str(lab.folder / "results"))["succeeded"] and list(lab.memory.glob("count*")) == []
    for wrong in ({"checkpoint": 3}, {"checkpoint_minimum": 2}):
        with pytest.raises(AttestedError) as raised:
            opening(lab, output="model", src=str(lab.folder / "results"), **wrong)
        assert raised.value.code == "training-options"
    assert "checkpoint_failure" not in run(lab)


def test_owner_sees_what_is_passed_off_as_something_else(lab):
    program(lab, "(out / 'model').mkdir(); (out / 'model' / 'n').write_text('x')", outputs={"model": "all"})
    assert run(lab)["checkpoints"] == [2, 3]
    assert opening(lab, check_mode=True)["changed"] and not (lab.folder / "opened").exists()
    first = opening(lab, checkpoint=2)
    assert (first["checkpoint"], first["succeeded"]) == (2, True) and opening(lab)["run"] == first["run"]
    place = lab.folder / "checkpoints"

    def refused(code, **changes):
        with pytest.raises(AttestedError) as raised:
            opening(lab, **changes)
        assert raised.value.code == code, raised.value

    refused("result-checkpoint", checkpoint=1)
    refused("result-checkpoint-old", checkpoint_minimum=4)
    # An older one under a higher number, an output as a checkpoint, and a checkpoint as an output.
    shutil.copytree(place / "2", place / "7")
    refused("result-other")
    shutil.rmtree(place / "7")
    shutil.copytree(lab.folder / "results" / "model", place / "7")
    refused("result-other")
    shutil.rmtree(place / "7")
    shutil.copytree(place / "3", lab.folder / "as" / "model")
    refused("result-other", output="model", src=str(lab.folder / "as"))
    # The highest of another run of the same agreement.
    plain = lab.folder / "other"
    plain.mkdir()
    (plain / "state").write_text("other")
    result.seal(lab.agreement, "checkpoints", str(plain), str(place / "8"), lab.tag_keys(), checkpoint=result.Checkpoint("ab" * 16, 8))
    refused("result-checkpoint-runs")
    assert opening(lab, checkpoint=3)["checkpoint"] == 3
    # What somebody made who has no tag key hides nothing, and is not opened.
    shutil.rmtree(place / "8")
    result.seal(lab.agreement, "checkpoints", str(plain), str(place / "1"), {"a": bytes(32)}, checkpoint=result.Checkpoint("ab" * 16, 1))
    assert opening(lab)["checkpoint"] == 3
    refused("result-tag", checkpoint=1)
    statement = json.loads((place / "3" / result.STATEMENT).read_bytes())
    for change in ({"number": 4}, {"run": "ab" * 16}):
        (place / "3" / result.STATEMENT).write_bytes(jcs.canonicalize({**statement, "checkpoint": {**statement["checkpoint"], **change}}))
        refused("result-tag", checkpoint=3)
    for change in ({"number": 0}, {"number": "3"}, {"run": "x"}, {"more": 1}):
        (place / "3" / result.STATEMENT).write_bytes(jcs.canonicalize({**statement, "checkpoint": {**statement["checkpoint"], **change}}))
        with pytest.raises(AttestedError):
            opening(lab, checkpoint=3)
    shutil.rmtree(lab.folder / "results")
    with pytest.raises(AttestedError, match="no place for them"):
        lab.run()


def test_job_goes_on_from_a_checkpoint_that_was_agreed_on_as_data(lab):
    program(lab, "first or os.kill(os.getpid(), 9)")
    with pytest.raises(AttestedError):
        run(lab)
    opening(lab)
    shutil.copytree(lab.folder / "opened", lab.folder / "plain" / "a" / "checkpoint")
    # Beside the records, as the next release of the owner's data.
    lab.manifests["a"] = lab.encrypt("a", 3)
    assert {entry.path for entry in lab.manifests["a"].files} == {"rows", "checkpoint/state"}
    lab.agree(job="count-2", outputs={"log": "all"}, **KEEP)
    shutil.rmtree(lab.folder / "checkpoints")
    shutil.rmtree(lab.folder / "results")
    assert run(lab)["checkpoints"] == [5, 6]
    assert opening(lab)["checkpoint"] == 6 and (lab.folder / "opened" / "state").read_text() == "weights 6"


def test_folder_has_whole_checkpoints_at_any_moment(tmp_path, monkeypatch):
    """Each step on the file system may be the last one."""
    place, seen = tmp_path / "kept", []
    store = kept.Folder(str(place), 2)
    store.prepare()

    def seal(dest):
        os.mkdir(dest)
        look()
        (tmp_path / "kept" / os.path.basename(dest) / "state").write_text("whole")
        look()

    def look():
        found = kept.numbers(os.listdir(place))
        assert all((place / str(number) / "state").read_text() == "whole" for number in found)
        seen.append(found)

    def looking(call):
        def instead(*args, **options):
            call(*args, **options)
            look()

        return instead

    for owner, name in ((kept.os, "rename"), (kept.memory, "wipe_tree")):
        monkeypatch.setattr(owner, name, looking(getattr(owner, name)))
    for number in range(1, 6):
        seen.clear()
        store.put(number, seal)
        assert seen[-1] == [number - 1, number][-number:] and all(len(found) >= min(2, number - 1) for found in seen)

    def full(dest):
        os.mkdir(dest)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        store.put(6, full)
    assert sorted(path.name for path in place.iterdir()) == ["4", "5"]
    # What a killed run left is no checkpoint, and goes.
    (place / ".new-1").mkdir()
    store.prepare()
    assert sorted(path.name for path in place.iterdir()) == ["4", "5"]
    with pytest.raises(AttestedError, match="of an earlier run"):
        store.look()


def _slots(disk, size):
    """Numbers and contents, as tar finds them in each slot."""
    found, data = {}, disk if isinstance(disk, bytes) else disk.read_bytes()
    for start in range(0, 3 * size, size):
        with tarfile.open(fileobj=io.BytesIO(data[start:start + size])) as archive:
            found.update({int(entry.name.split("/")[1]): archive.extractfile(entry).read() for entry in archive if entry.isfile()})
    return found


def test_disk_has_whole_checkpoints_whenever_the_power_is_cut(tmp_path, monkeypatch):
    disk, staging, states = tmp_path / "disk", tmp_path / "staging", []
    disk.write_bytes(bytes(3 * 20480))
    store = slots.Slots(str(disk), 2, str(staging))
    write = slots.write_at

    def written(descriptor, data, offset):
        # Blocks reach a disk one by one.
        for start in range(0, len(data), 512):
            write(descriptor, data[start:start + 512], offset + start)
            states.append((number, disk.read_bytes()))

    monkeypatch.setattr(slots, "write_at", written)
    monkeypatch.setattr("ansible_collections.attested.ai.plugins.module_utils.training.delivery.write_at", written)

    def seal(dest):
        os.mkdir(dest)
        with open(os.path.join(dest, "state"), "wb") as stream:
            stream.write(b"%d" % number * 3000)

    for number in range(1, 6):
        store.put(number, seal)
        assert not staging.exists()
    assert len(states) > 60
    for number, data in states:
        found = _slots(data, 20480)
        assert all(text == b"%d" % which * 3000 for which, text in found.items())
        # The newest two of those before are there, whatever becomes of this one.
        assert set(found) >= set(range(max(1, number - 2), number)), (number, sorted(found))
    assert sorted(_slots(disk, 20480)) == [3, 4, 5]
    # As the documentation says it.
    command = "for n in 0 1 2; do tail -c +$((n * 20480 + 1)) disk | tar -xf -; done"
    subprocess.run(["sh", "-euc", command], cwd=tmp_path, check=True)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["3", "4", "5"]
    # One that does not fit leaves the others as they are.
    number = 6

    def large(dest):
        os.mkdir(dest)
        with open(os.path.join(dest, "state"), "wb") as stream:
            stream.write(bytes(20480))

    with pytest.raises(AttestedError) as raised:
        store.put(number, large)
    assert raised.value.code == "training-volume-full" and sorted(_slots(disk, 20480)) == [4, 5] and not staging.exists()
    store.close()
    for size, words in ((3 * 20480, "something lies on it"), (3 * 2048 - 1, "are needed")):
        os.truncate(disk, size)
        with pytest.raises(AttestedError, match=words):
            slots.Slots(str(disk), 2, str(staging))
    # A disk of one slot less that was cut while the first was written: where slots would be now there is nothing.
    disk.write_bytes(bytes(3 * 40960))
    store, number = slots.Slots(str(disk), 1, str(staging)), 1
    store.put(1, seal)
    store.close()
    with open(disk, "r+b") as stream:
        stream.write(bytes(40960))
    for keep in (1, 2, 3):
        with pytest.raises(AttestedError, match="something lies on it"):
            slots.Slots(str(disk), keep, str(staging))
    # The last slot ends before the mark.
    disk.write_bytes(bytes(2 * 10240))
    store = slots.Slots(str(disk), 1, str(staging))
    store.put(1, seal)
    with pytest.raises(AttestedError, match="slot of 9728 bytes"):
        store.put(2, seal)
    store.close()


def test_image_leaves_checkpoints_on_a_disk_of_their_own(lab, monkeypatch):
    program(lab, "os.kill(os.getpid(), 9)")
    image = image_of(lab, monkeypatch)
    monkeypatch.setattr(start, "_TRIES", 0)
    disk = image.disks / "checkpoints"
    paths = [str(image.disks / name) for name in ("settings", "job", "results", "checkpoints")]
    image.again = lambda: start.run(start.Start(*paths), lambda _argv: (1, "", ""))
    assert image.run().error == "training-volume" and lab.asked == []
    disk.write_bytes(bytes(3 * 65536))
    assert image.run().error == "training-failed"
    names = {name.split("/")[1] for name in image.left() if name != "status.json"}
    assert names == {"log"} and b"weights" not in disk.read_bytes() + (image.disks / "results").read_bytes()
    subprocess.run(["sh", "-euc", "for n in 0 1 2; do tail -c +$((n * 65536 + 1)) disks/checkpoints | tar -xf -; done"], cwd=lab.folder, check=True)
    assert there(lab) == [1, 2, 3] and opening(lab)["checkpoint"] == 3 and (lab.folder / "opened" / "state").read_text() == "weights 3"
    assert [path for path in lab.memory.rglob("*") if path.is_file() and path.name != ".lock"] == []
    # No start takes them away.
    lab.asked.clear()
    assert image.run().error == "training-volume" and lab.asked == [] and disk.read_bytes().strip(b"\0")
    # A job that came to its end but for its last checkpoint has results, and says both.
    disk.write_bytes(bytes(3 * 65536))
    monkeypatch.setattr(options.jobs, "run", lambda *_all: {"checkpoint_failure": "no room"})
    told = image.run()
    assert (told.error, told.warning) == ("", "training-checkpoint") and image.status()["warning"] == told.warning


def test_agreement_is_written_with_checkpoints(lab):
    action = training_agreement.ActionModule.__new__(training_agreement.ActionModule)
    action._loader, action._task = DataLoader(), SimpleNamespace(check_mode=False)
    value = lab.members()
    given = {"path": str(lab.folder / "new.json"), "job": "count", "code": str(lab.folder / "code"), "command": value["command"], "outputs": value["outputs"]}
    parties = [{**party, "manifest_signer": public_jwk(lab.owners[party["id"]].signer)} for party in value["parties"]]
    told = action.work({**given, "parties": parties, "checkpoints": None})
    assert told["digest"] == lab.agreement.digest and "checkpoints" not in told
    told = action.work({**given, "parties": parties, **KEEP})
    assert told["changed"] and told["checkpoints"] == {"keep": 2, "recipients": ["a"]} and told["digest"] == Agreement.of({**value, **KEEP}).digest
    read = action.work({**dict.fromkeys(given), "path": given["path"], "parties": None, "checkpoints": None})
    assert read == {**told, "changed": False}
