# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening: the good way, every bad input, and that neither plaintext nor session is left after it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, ModelError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import public_jwk
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.keysource import Kek
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.release import KeyRelease, seal
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.session import create_session, prepare_directory
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import open as opener
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import opening, tree
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.encrypt import encrypt
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import Manifest
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.opening import Order
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.plan import Keys, Request, make_plan, unwrap_dek
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.signature import sign_manifest
from ansible_collections.attested.ai.plugins.module_utils.target.memory import memory_filesystem

FILES = {
    "config.json": b'{"plaintext-marker": "0123456789abcdef"}',
    "empty": b"",
    "weights/a.bin": b"plaintext-marker" + random.Random(1).randbytes(50_000),
    "weights/b.bin": b"plaintext-marker" + random.Random(2).randbytes(50_000),
}
MARKER = b"plaintext-marker"
pytestmark = pytest.mark.skipif(not memory_filesystem("/dev/shm").safe, reason="needs memory without swap at /dev/shm")


class Guest:
    """A model, its keys, and a guest with a place in memory."""

    def __init__(self, root: Path, memory: Path) -> None:
        self.root, self.memory = root, memory
        self.keys = Keys(Kek("kek-test", os.urandom(32)), ec.generate_private_key(ec.SECP256R1()))
        self.src, self.dest, self.sessions = root / "sealed", memory / "model", memory / "sessions"
        for name, data in FILES.items():
            (root / "plain" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "plain" / name).write_bytes(data)
        self.manifest = self.encrypt()

    def encrypt(self, dest: str = "sealed", model_id: str = "test-model", release: int = 1, keys=None) -> Manifest:
        used = keys or self.keys
        plan = make_plan(Request(str(self.root / "plain"), str(self.root / dest), model_id, release, 4096), used)
        return encrypt(plan, used, "2026-01-31T12:00:00Z")

    def session(self, **changes) -> str:
        now = datetime.now(timezone.utc).replace(microsecond=0)
        name = os.urandom(8).hex()
        prepare_directory(str(self.sessions))
        session = create_session(str(self.sessions), name, 60)
        values = {
            "model_id": "test-model",
            "release": self.manifest.release,
            "minimum_release": 1,
            "key_id": self.manifest.key_id,
            "manifest_signer": public_jwk(self.keys.signer),
            "evidence_digest": "00" * 32,
            "not_after": now + timedelta(minutes=5),
            "key": bytes(unwrap_dek(self.manifest.dek, self.keys.kek)),
        }
        values.update(changes)
        session.store_release(seal(KeyRelease(**values), session.jwk()))
        return name

    def open(self, check_mode: bool = False, **options) -> dict:
        values = {"src": str(self.src), "dest": str(self.dest), "session_directory": str(self.sessions)}
        values.update(options)
        return opening.run(Order(**values), check_mode)

    def contents(self) -> dict:
        return {str(path.relative_to(self.dest)): path.read_bytes() for path in self.dest.rglob("*") if path.is_file()}

    def nothing_is_left(self) -> bool:
        assert not list(self.sessions.iterdir()), "the session was swept"
        assert not [path for path in self.memory.rglob("*") if path.is_file()], "no file of the attempt is left"
        assert not list(self.memory.glob("model*"))
        return True

    def resign(self, **changes) -> None:
        """A manifest that is changed and signed again by the right signer."""
        values = dict(self.manifest.__dict__)
        values.update(changes)
        raw = Manifest(**values).to_bytes()
        (self.src / tree.MANIFEST).write_bytes(raw)
        (self.src / tree.SIGNATURE).write_bytes(sign_manifest(raw, self.keys.signer))


@pytest.fixture
def guest(tmp_path):
    memory = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="model-open-test-"))
    made = Guest(tmp_path, memory)
    yield made
    for name in list(made.sessions.iterdir()) if made.sessions.exists() else []:
        shutil.rmtree(name)
    shutil.rmtree(memory)


def test_the_model_is_opened_and_the_session_is_gone(guest):
    result = guest.open(session=guest.session())
    assert result["changed"] and result["files"] == 4 and result["bytes"] == sum(map(len, FILES.values()))
    assert guest.contents() == FILES
    assert not list(guest.sessions.iterdir())
    assert sorted(path.name for path in guest.memory.iterdir()) == ["model", "model.complete", "sessions"]
    assert os.stat(guest.dest).st_mode & 0o777 == 0o700 and os.stat(guest.dest / "config.json").st_mode & 0o777 == 0o400


def test_a_second_run_changes_nothing_and_sweeps_its_session(guest):
    guest.open(session=guest.session())
    inode = os.stat(guest.dest).st_ino
    assert not guest.open(session=guest.session())["changed"]
    assert not list(guest.sessions.iterdir())
    assert not guest.open()["changed"], "no session is needed"
    assert not guest.open(session="0123456789abcdef")["changed"], "nor one that is still there"
    assert os.stat(guest.dest).st_ino == inode


def test_an_open_model_below_the_new_minimum_is_an_error(guest):
    guest.open(session=guest.session())
    with pytest.raises(ModelError) as caught:
        guest.open(session=guest.session(release=2, minimum_release=2))
    assert caught.value.code == "model-release-lower"


def test_owner_group_and_mode(guest):
    if os.geteuid():
        pytest.skip("needs root")
    guest.open(session=guest.session(), owner="65534", group="65534", mode="0440")
    status = os.stat(guest.dest / "weights" / "a.bin")
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (65534, 65534, 0o440)
    assert os.stat(guest.dest / "weights").st_mode & 0o777 == 0o750
    assert not guest.open()["changed"]


def test_a_new_release_replaces_the_old_one(guest):
    guest.open(session=guest.session())
    (guest.root / "plain" / "config.json").write_bytes(b"{}")
    guest.manifest = guest.encrypt(release=2)
    assert guest.open(session=guest.session())["changed"]
    assert guest.contents()["config.json"] == b"{}"
    assert sorted(path.name for path in guest.memory.iterdir()) == ["model", "model.complete", "sessions"]


def test_absent_wipes_everything_and_is_idempotent(guest):
    guest.open(session=guest.session())
    (guest.memory / "model.partial-0123").mkdir()
    (guest.memory / "model.partial-0123" / "x").write_bytes(MARKER)
    assert guest.open(state="absent", check_mode=True)["changed"] and guest.dest.exists()
    assert guest.open(state="absent", session=guest.session())["changed"]
    assert guest.nothing_is_left()
    assert not guest.open(state="absent")["changed"]


@pytest.mark.parametrize("state", ["present", "absent"])
def test_a_directory_of_somebody_else_is_not_touched(guest, state):
    guest.dest.mkdir()
    (guest.dest / "precious").write_bytes(b"x")
    with pytest.raises(ModelError, match="did not put there"):
        guest.open(state=state, session=guest.session())
    assert (guest.dest / "precious").exists() and not list(guest.sessions.iterdir())


def test_check_mode_promises_and_changes_nothing(guest):
    name = guest.session()
    assert guest.open(check_mode=True, session=name)["changed"]
    assert not guest.dest.exists() and (guest.sessions / name).exists()
    assert guest.open(session=name)["changed"]


def damaged_byte(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(bytes(data))


def spoil(guest, how: str) -> dict:
    """Spoil the ciphertext or the release; returns the changes of the release."""
    a, b = guest.src / "weights" / "a.bin.tink", guest.src / "weights" / "b.bin.tink"
    if how == "wrong-key":
        return {"key": os.urandom(32)}
    if how == "tag":
        damaged_byte(b, -1)
    elif how == "truncated":
        b.write_bytes(b.read_bytes()[:-1])
    elif how == "segment-cut":
        b.write_bytes(b.read_bytes()[: 12 * 4096])
    elif how == "reordered":
        data = b.read_bytes()
        b.write_bytes(data[:4096] + data[8192:12288] + data[4096:8192] + data[12288:])
    elif how == "swapped-paths":
        one, two = a.read_bytes(), b.read_bytes()
        a.write_bytes(two)
        b.write_bytes(one)
    elif how == "swapped-paths-and-headers":
        one, two = a.read_bytes(), b.read_bytes()
        a.write_bytes(two)
        b.write_bytes(one)
        by_path = {entry.path: entry for entry in guest.manifest.files}
        digests = {"weights/a.bin": by_path["weights/b.bin"].header_sha256, "weights/b.bin": by_path["weights/a.bin"].header_sha256}
        guest.resign(
            files=tuple(
                type(entry)(entry.path, entry.size, entry.ciphertext_size, digests.get(entry.path, entry.header_sha256)) for entry in guest.manifest.files
            )
        )
    elif how == "other-model":
        guest.encrypt("other", model_id="other-model")
        shutil.rmtree(guest.src)
        os.rename(guest.root / "other", guest.src)
    elif how == "file-of-other-release":
        guest.encrypt("other", release=2)
        shutil.copy(guest.root / "other" / "weights" / "b.bin.tink", b)
    elif how == "relabelled-release":
        guest.resign(release=2)
        return {"release": 2}
    elif how == "older-release":
        return {"release": 2, "minimum_release": 2}
    elif how == "other-key-id":
        return {"key_id": "test-model-1-00000000"}
    elif how == "manifest-changed":
        path = guest.src / tree.MANIFEST
        path.write_bytes(path.read_bytes().replace(b'"created_at":"2026', b'"created_at":"2025'))
    elif how == "other-signer":
        path = guest.src / tree.MANIFEST
        (guest.src / tree.SIGNATURE).write_bytes(sign_manifest(path.read_bytes(), ec.generate_private_key(ec.SECP256R1())))
    elif how == "no-signature":
        os.unlink(guest.src / tree.SIGNATURE)
    elif how == "missing-file":
        os.unlink(a)
    elif how == "extra-file":
        (guest.src / "weights" / "c.bin.tink").write_bytes(b"x")
    elif how == "plaintext-file":
        (guest.src / "config.json").write_bytes(b"{}")
    elif how == "symlink":
        os.rename(a, guest.root / "elsewhere")
        a.symlink_to(guest.root / "elsewhere")
    elif how == "symlink-directory":
        os.rename(guest.src / "weights", guest.root / "elsewhere")
        (guest.src / "weights").symlink_to(guest.root / "elsewhere")
    elif how == "fifo":
        os.unlink(a)
        os.mkfifo(a)
    return {}


@pytest.mark.parametrize(
    "how,code",
    [
        ("wrong-key", "model-tag"),
        ("tag", "model-tag"),
        ("truncated", "model-file-size"),
        ("segment-cut", "model-file-size"),
        ("reordered", "model-tag"),
        ("swapped-paths", "model-header"),
        ("swapped-paths-and-headers", "model-tag"),
        ("other-model", "model-other"),
        ("file-of-other-release", "model-header"),
        ("relabelled-release", "model-tag"),
        ("older-release", "model-release-lower"),
        ("other-key-id", "model-other-key"),
        ("manifest-changed", "model-signature"),
        ("other-signer", "model-signature"),
        ("no-signature", "model-unreadable"),
        ("missing-file", "model-file-missing"),
        ("extra-file", "model-file-extra"),
        ("plaintext-file", "model-file-extra"),
        ("symlink", "model-symlink"),
        ("symlink-directory", "model-symlink"),
        ("fifo", "model-special-file"),
    ],
)
def test_bad_input_fails_closed_and_leaves_nothing(guest, how, code):
    changes = spoil(guest, how)
    with pytest.raises(AttestedError) as caught:
        guest.open(session=guest.session(**changes))
    assert caught.value.code == code, str(caught.value)
    assert guest.nothing_is_left()


def test_plaintext_is_written_only_after_its_tag_held_and_is_wiped_all_the_same(guest, monkeypatch):
    """The failure is in the last file, so that there was plaintext to wipe."""
    spoil(guest, "tag")
    seen = []
    real = opener.memory.wipe_tree

    def watching(path, overwrite=True):
        if os.path.isdir(path) and ".partial-" in path:
            seen.extend(file.name for file in Path(path).rglob("*") if file.is_file() and MARKER in file.read_bytes())
            assert os.stat(path).st_mode & 0o777 == 0o700
        real(path, overwrite)

    monkeypatch.setattr(opener.memory, "wipe_tree", watching)
    with pytest.raises(ModelError):
        guest.open(session=guest.session())
    assert "a.bin" in seen and guest.nothing_is_left()


def test_without_a_session_there_is_nothing_to_open_with(guest):
    with pytest.raises(ModelError) as caught:
        guest.open()
    assert caught.value.code == "model-no-session"


def test_a_directory_that_is_no_session_is_not_swept(guest):
    other = guest.memory / "other"
    other.mkdir()
    (other / "weights").write_text("precious")
    with pytest.raises(AttestedError, match="no session"):
        opening.run(Order(dest=str(guest.dest), src=str(guest.src), session="other", session_directory=str(guest.memory)))
    assert (other / "weights").read_text() == "precious"


def test_a_disk_is_refused_before_the_session_is_read(guest):
    with pytest.raises(AttestedError) as caught:
        guest.open(dest=str(guest.root / "model"), session=guest.session())
    assert caught.value.code == "not-in-memory" and not list(guest.sessions.iterdir()) and not (guest.root / "model").exists()


def test_a_small_tmpfs_is_refused_before_the_first_byte_and_wiped_when_it_fills_up(guest, monkeypatch):
    small = guest.memory / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "none", str(small)], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        with pytest.raises(ModelError) as caught:
            guest.open(dest=str(small / "model"), session=guest.session())
        assert caught.value.code == "model-no-space"
        monkeypatch.setattr(opener, "check_space", lambda _dest, _manifest: None)
        with pytest.raises(ModelError, match="No space left"):
            guest.open(dest=str(small / "model"), session=guest.session())
        assert not list(small.iterdir()) and not list(guest.sessions.iterdir())
    finally:
        subprocess.run(["umount", str(small)], check=True)
    small.rmdir()


def test_left_overs_of_a_killed_run_are_wiped_by_the_next(guest):
    stale = guest.memory / "model.partial-0123456789abcdef"
    stale.mkdir()
    (stale / "a.bin").write_bytes(MARKER)
    guest.open(session=guest.session())
    assert not stale.exists() and guest.contents() == FILES


def test_the_key_buffer_is_wiped_and_the_release_is_shown_nowhere(guest, monkeypatch):
    kept = []
    real = opener.decrypt
    monkeypatch.setattr(opener, "decrypt", lambda target, sealed, key, *more: (kept.append(key), real(target, sealed, key, *more)))
    guest.open(session=guest.session())
    assert kept == [bytearray(32)]


OPEN = """
import sys, time
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import open as opener
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.opening import Order, run
from ansible_collections.attested.ai.plugins.module_utils.target.signals import signals_as_errors
real = opener._decrypt_file
def slow(engine, source, manifest, entry, *rest):
    real(engine, source, manifest, entry, *rest)
    if entry.path == "weights/a.bin":
        print("half", flush=True)
        time.sleep(60)
opener._decrypt_file = slow
src, dest, sessions, session = sys.argv[1:]
try:
    with signals_as_errors():
        run(Order(src=src, dest=dest, session_directory=sessions, session=session))
except AttestedError as error:
    print(error.code, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_in_the_middle(guest, number):
    command = [sys.executable, "-c", OPEN, str(guest.src), str(guest.dest), str(guest.sessions), guest.session()]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"half\n"
    assert not guest.dest.exists() and not list(guest.sessions.iterdir()), "swept as soon as the key was read"
    child.send_signal(number)
    said = child.stdout.read()
    child.wait()
    child.stdout.close()
    if number == signal.SIGKILL:
        # Nothing can be done at that moment; the next run, or absent, wipes it.
        assert list(guest.memory.glob("model.partial-*")), (said, child.returncode, os.listdir(guest.memory))
        assert guest.open(state="absent")["changed"]
    else:
        assert said == b"interrupted\n"
    assert guest.nothing_is_left()


@pytest.mark.parametrize(
    "options,match",
    [
        ({"mode": "0644"}, "mode"),
        ({"mode": "x"}, "mode"),
        ({"owner": "no-such-user"}, "owner"),
        ({"owner": "4294967295"}, "owner"),
        ({"group": "99999999999999999999"}, "group"),
        ({"owner": "\u00b2"}, "owner"),
        ({"dest": "/"}, "directory"),
        ({"dest": "relative"}, "absolute"),
    ],
)
def test_unusable_options(guest, options, match):
    with pytest.raises(ModelError, match=match):
        guest.open(session=guest.session(), **options)
    assert not list(guest.sessions.iterdir())


def test_progress_file_holds_counters_only_and_goes_away(tmp_path):
    from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.progress import ProgressFile, Throttle, line

    clock = iter([0.0, 1.0, 2.5, 3.0, 5.0])
    report = ProgressFile(str(tmp_path / "p.json"), "decrypt", clock=lambda: 1_800_000_000.0)
    meter = Throttle(report, clock=lambda: next(clock))
    meter(10, 100)
    assert not (tmp_path / "p.json").exists(), "a short run writes nothing"
    meter(50, 100)
    assert (tmp_path / "p.json").read_bytes() == jcs.canonicalize(
        {"phase": "decrypt", "bytes_done": 50, "bytes_total": 100, "bytes_per_second": 20, "updated_at": 1_800_000_000}
    )
    report.remove()
    assert not list(tmp_path.iterdir())
    assert line("minilm", 37_000_000, 91_000_000, 1.2e9) == "minilm: 40 % 37/91 MB 1.2 GB/s"
