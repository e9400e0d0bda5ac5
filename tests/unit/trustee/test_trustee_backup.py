# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups of key brokers: whole or not at all, for their owner alone."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.trustee import archive, backup
from ansible_collections.attested.ai.plugins.module_utils.trustee.problem import TrusteeError

SECRET = b"the key of the model"


@pytest.fixture
def folders(tmp_path):
    found = {"keys": tmp_path / "etc" / "keys", "data": tmp_path / "var"}
    (found["data"] / "storage" / "repository").mkdir(parents=True)
    found["keys"].mkdir(parents=True)
    # As LocalFs of Trustee names it.
    (found["data"] / "storage" / "repository" / "default\\x2Fkey\\x2Fmodel-7").write_bytes(SECRET)
    (found["data"] / "storage" / "large").write_bytes(os.urandom(3 << 20))
    (found["keys"] / "tls.key").write_bytes(b"a key")
    (found["keys"] / "tls.key").chmod(0o600)
    return {name: str(path) for name, path in found.items()}


def saved(folders, tmp_path, stamp="20260131T120000Z", keep=14):
    return backup.make(folders, str(tmp_path / "backups"), "trustee", stamp, {"version": "0.21.0"}, archive.survey(folders), keep)


def contents(folders):
    return {str(path): path.read_bytes() for root in folders.values() for path in Path(root).rglob("*") if path.is_file()}


def test_saved_lost_and_restored(folders, tmp_path):
    before = contents(folders)
    made = saved(folders, tmp_path)
    assert os.stat(made.path).st_mode & 0o777 == 0o600 and os.stat(tmp_path / "backups").st_mode & 0o777 == 0o700
    about, entries = archive.verify(made.path, made.sha256)
    assert about == {"version": "0.21.0"} and len(entries) == 3 and backup.newest(str(tmp_path / "backups"), "trustee").digest == made.digest
    (Path(folders["data"]) / "storage" / "repository" / "default\\x2Fkey\\x2Fmodel-7").write_bytes(b"another")
    (Path(folders["data"]) / "storage" / "later").write_bytes(b"made later")
    kept = backup.restore(made.path, entries, folders, (os.getuid(), os.getgid()))
    assert contents(folders) == before
    assert (Path(kept["data"]) / "storage" / "later").read_bytes() == b"made later" and kept["data"] == folders["data"] + ".attested-before"
    assert {path.stat().st_mode & 0o077 for root in folders.values() for path in [Path(root), *Path(root).rglob("*")] if path.is_dir()} == {0}
    assert os.stat(Path(folders["keys"]) / "tls.key").st_mode & 0o777 == 0o600
    # Once more: what was before the restore makes room.
    backup.restore(made.path, entries, folders, None)
    assert contents(folders) == before and not [name for name in os.listdir(tmp_path) if name.endswith("new")]


def test_the_oldest_make_room(folders, tmp_path):
    for number in range(4):
        (Path(folders["data"]) / "storage" / "n").write_text(str(number))
        saved(folders, tmp_path, f"2026013{number}T120000Z", keep=2)
    assert sorted(os.listdir(tmp_path / "backups")) == ["trustee-20260132T120000Z.tar", "trustee-20260133T120000Z.tar"]
    with pytest.raises(TrusteeError, match="of this second is there already"):
        saved(folders, tmp_path, "20260133T120000Z")


def repacked(path: str, change) -> None:
    """The archive with other members; the list is theirs to change, too."""
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar if member.isreg()]
    listing = json.loads(members[0][1])
    members = change(listing, members[1:])
    with tarfile.open(path, "w") as tar:
        raw = json.dumps(listing).encode()
        first = tarfile.TarInfo("manifest.json")
        first.size = len(raw)
        tar.addfile(first, io.BytesIO(raw))
        for member, data in members:
            member.size = len(data) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(data))


def renamed(path):
    def change(listing, members):
        listing["files"][0]["path"] = path
        members[0][0].name = path
        return members

    return change


def link(listing, members):
    members[0][0].type, members[0][0].linkname = tarfile.SYMTYPE, "/etc/shadow"
    return members


def added(_listing, members):
    return [*members, (tarfile.TarInfo("data/more"), b"more")]


def grown(listing, members):
    listing["files"][0]["size"] = 1 << 40
    return members


DAMAGE = {
    "upwards": lambda path: repacked(path, renamed("data/../../etc/passwd")),
    "absolute": lambda path: repacked(path, renamed("/etc/passwd")),
    "folder": lambda path: repacked(path, renamed("Data/x")),
    "link": lambda path: repacked(path, link),
    "added": lambda path: repacked(path, added),
    "missing": lambda path: repacked(path, lambda _listing, members: members[1:]),
    "exchanged": lambda path: repacked(path, lambda _listing, members: [(members[0][0], b"x" * len(members[0][1])), *members[1:]]),
    "grown": lambda path: repacked(path, grown),
    "twice": lambda path: repacked(path, lambda listing, members: listing["files"].append(listing["files"][0]) or members),
    "schema": lambda path: repacked(path, lambda listing, members: listing.update(schema="x") or members),
    "no list": lambda path: repacked(path, lambda listing, members: listing.pop("files") and members),
    "cut off": lambda path: os.truncate(path, os.path.getsize(path) // 2),
    "empty": lambda path: os.truncate(path, 0),
    "no archive": lambda path: Path(path).write_bytes(b"\0" * 2048),
    "readable": lambda path: os.chmod(path, 0o644),
    "gone": os.unlink,
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_backup_replaces_nothing(folders, tmp_path, case):
    made, before = saved(folders, tmp_path), contents(folders)
    DAMAGE[case](made.path)
    with pytest.raises(TrusteeError) as caught:
        archive.verify(made.path)
    assert caught.value.code in ("trustee-backup-damaged", "trustee-backup-mode", "trustee-backup-missing") and contents(folders) == before


def test_another_backup_than_the_one_that_was_noted(folders, tmp_path):
    made = saved(folders, tmp_path)
    with pytest.raises(TrusteeError, match="not the backup with this SHA-256"):
        archive.verify(made.path, "0" * 64)


def test_what_cannot_change_places_goes_back(folders, tmp_path, monkeypatch):
    made, before = saved(folders, tmp_path), contents(folders)
    _about, entries = archive.verify(made.path)
    rename, calls = os.rename, []

    def fails(source, target):
        calls.append(target)
        if len(calls) == 4:
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(backup.os, "rename", fails)
    with pytest.raises(TrusteeError, match="All is as it was"):
        backup.restore(made.path, entries, folders, None)
    monkeypatch.undo()
    assert contents(folders) == before and not [name for name in (*os.listdir(tmp_path), *os.listdir(tmp_path / "etc")) if "attested" in name]


def test_what_is_no_file_is_not_left_out_in_silence(folders):
    os.symlink("/etc/shadow", Path(folders["data"]) / "link")
    with pytest.raises(TrusteeError, match="neither a file nor a folder"):
        archive.survey(folders)


def test_a_file_that_is_written_meanwhile_is_noticed(folders, tmp_path):
    entries = archive.survey(folders)
    (Path(folders["keys"]) / "tls.key").write_bytes(b"b key")
    with pytest.raises(TrusteeError, match="was changed"):
        backup.make(folders, str(tmp_path / "backups"), "trustee", "20260131T120000Z", {}, entries, 3)
    assert os.listdir(tmp_path / "backups") == []
