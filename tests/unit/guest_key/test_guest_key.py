# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""guest_key through a real ansible, and the session library: the key is in its file, nowhere else, and gone when it must be."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import guest, jwe, jwk, session, watchdog
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.guest import Wish
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.release import KeyRelease, seal
from ansible_collections.attested.ai.plugins.module_utils.target.memory import memory_filesystem
from cryptography.hazmat.primitives.asymmetric import ec

pytestmark = pytest.mark.skipif(not memory_filesystem("/dev/shm").safe, reason="/dev/shm is no memory that may hold secrets here")
# Another one in each run: a constant would be found in this file's own bytecode.
RELEASED = os.urandom(32)
SIGNER = jwk.public_jwk(ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def place():
    base = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="attested-test-"))
    yield base / "s"
    for name in list((base / "s").iterdir()) if (base / "s").is_dir() else []:
        guest.apply(Wish(name.name, "absent", str(base / "s")), False)
    subprocess.run(["rm", "-rf", str(base)], check=True)


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def sealed(public, **changes):
    fields = dict(
        model_id="m",
        release=3,
        minimum_release=2,
        key=RELEASED,
        key_id="kek-1",
        manifest_signer=SIGNER,
        evidence_digest="ab" * 32,
        not_after=datetime(2100, 1, 1, tzinfo=timezone.utc),
    )
    return seal(KeyRelease(**dict(fields, **changes)), public)


def ansible(place, arguments, *options):
    environment = dict(
        os.environ,
        ANSIBLE_LOCALHOST_WARNING="false",
        ANSIBLE_KEEP_REMOTE_FILES="true",
        ANSIBLE_REMOTE_TEMP=str(place.parent / "tmp"),
        ANSIBLE_LOCAL_TEMP=str(place.parent / "local"),
        ANSIBLE_STDOUT_CALLBACK="minimal",
        ANSIBLE_NOCOLOR="true",
    )
    environment.setdefault("ANSIBLE_COLLECTIONS_PATH", os.pathsep.join(sys.path))
    command = [
        sys.executable,
        "-m",
        "ansible",
        "adhoc",
        "localhost",
        "-m",
        "attested.ai.guest_key",
        "-a",
        json.dumps(dict(arguments, directory=str(place))),
        "-e",
        "ansible_python_interpreter=" + sys.executable,
        "-vvv",
        "--diff",
        *options,
    ]
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False)


def result(run):
    text = run.stdout.decode()
    return json.loads(text[text.index("=> {") + 3 :])


def what_lies_in(path):
    """Nothing, where others took the file away meanwhile, or where it is no file of a disk but of the kernel."""
    try:
        return path.read_bytes() if path.is_file() and 0 < path.stat().st_size < 1 << 24 else b""
    except OSError:
        return b""


def test_no_private_value_leaves_the_session(place):
    first = ansible(place, {"session": "one", "lifetime": 120})
    assert first.returncode == 0, first.stdout.decode()
    made = result(first)
    assert made["changed"] and made["jwk"]["alg"] == jwe.ECDH
    second = ansible(place, {"session": "one", "release": sealed(made["jwk"])})
    assert second.returncode == 0, second.stdout.decode()
    assert result(second)["changed"] and result(second)["jwk"] == made["jwk"]
    key = (place / "one" / "key").read_bytes()
    assert len(key) == 32 and (place / "one" / "key").stat().st_mode & 0o777 == 0o600
    forms = [key, key.hex().encode(), base64.b64encode(key).rstrip(b"="), base64.urlsafe_b64encode(key).rstrip(b"="), str(int.from_bytes(key, "big")).encode()]
    released = [RELEASED, base64.urlsafe_b64encode(RELEASED).rstrip(b"=")]
    text = first.stdout + second.stdout
    files = [
        path for base in (place.parent / "tmp", place.parent / "local", place) for path in base.rglob("*") if path.is_file() and path != place / "one" / "key"
    ]
    # The scan is worth something only if the kept copies of the module are among the files.
    assert any("AnsiballZ" in path.name for path in files)
    files += [Path(base) / name for base, _dirs, names in os.walk("/tmp") for name in names if os.path.getmtime(base) > time.time() - 300]
    for content in [text] + [what_lies_in(path) for path in files]:
        assert not any(form in content for form in forms + released)
    gone = ansible(place, {"session": "one", "state": "absent"})
    assert result(gone)["changed"] and not (place / "one").exists()
    assert not result(ansible(place, {"session": "one", "state": "absent"}))["changed"]


def test_check_mode_changes_nothing_and_is_honest(place):
    for name in ("one", "one"):
        assert guest.apply(Wish(name, directory=str(place)), True)["changed"] and not place.exists()
    assert guest.apply(Wish("one", directory=str(place)), False)["changed"]
    again = guest.apply(Wish("one", directory=str(place)), True)
    assert not again["changed"] and again["jwk"]["kty"] == "EC" and again["diff"]["before"] == again["diff"]["after"]
    release = sealed(again["jwk"])
    for check, changed in ((True, True), (True, True), (False, True), (False, False), (True, False)):
        found = guest.apply(Wish("one", directory=str(place), release=release), check)
        assert found["changed"] is changed and release["ciphertext"] not in json.dumps(found)
    assert session.load_session(str(place), "one").release().key == RELEASED
    assert guest.apply(Wish("one", "absent", str(place)), True)["changed"] and (place / "one").exists()


def test_wrong_releases_are_not_stored(place):
    public = guest.apply(Wish("one", directory=str(place)), False)["jwk"]
    other = guest.apply(Wish("two", directory=str(place)), False)["jwk"]
    past = datetime(2020, 1, 1, tzinfo=timezone.utc)
    for release, code in ((sealed(other), "jwe-wrong-key"), (sealed(public, not_after=past), "release-expired"), ({}, "format")):
        with pytest.raises(AttestedError) as caught:
            guest.apply(Wish("one", directory=str(place), release=release), False)
        assert caught.value.code == code and not (place / "one" / "release.jwe").exists()
    with pytest.raises(KeyReleaseError) as caught:
        guest.apply(Wish("three", directory=str(place), release=sealed(public)), False)
    assert caught.value.code == "session-missing" and not (place / "three").exists()
    with pytest.raises(KeyReleaseError) as caught:
        session.load_session(str(place), "one").release()
    assert caught.value.code == "release-missing"


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/etc", "-x", ".lock", "a\n", "a" * 65, "é"])
def test_names_cannot_leave_the_directory(place, name):
    for state in ("present", "absent"):
        with pytest.raises(KeyReleaseError) as caught:
            guest.apply(Wish(name, state, str(place)), False)
        assert caught.value.code == "session-name"


def test_places_that_are_not_ours_or_not_in_memory(place, tmp_path):
    if not memory_filesystem(str(tmp_path)).safe:
        with pytest.raises(AttestedError) as caught:
            guest.apply(Wish("one", directory=str(tmp_path / "s")), True)
        assert caught.value.code == "not-in-memory"
    place.mkdir(mode=0o755)
    place.chmod(0o755)
    with pytest.raises(KeyReleaseError) as caught:
        guest.apply(Wish("one", directory=str(place)), False)
    assert caught.value.code == "session-unsafe"
    place.chmod(0o700)
    (place.parent / "elsewhere").mkdir()
    (place / "one").symlink_to(place.parent / "elsewhere")
    with pytest.raises(KeyReleaseError) as caught:
        guest.apply(Wish("one", directory=str(place)), False)
    assert caught.value.code == "session-unsafe" and not list((place.parent / "elsewhere").iterdir())
    with pytest.raises(KeyReleaseError):
        guest.apply(Wish("one", directory="relative"), False)


def test_watchdog_sweeps_at_the_deadline(place):
    guest.apply(Wish("one", directory=str(place), lifetime=1), False)
    guest.apply(Wish("two", directory=str(place), lifetime=120), False)
    assert (place / "one" / "key").exists()
    assert wait_until(lambda: not (place / "one").exists())
    assert (place / "two" / "key").exists()


def test_watchdog_sweeps_after_sigkill_of_the_maker(place):
    code = (
        "import os, signal; from ansible_collections.attested.ai.plugins.module_utils.keyrelease import session, watchdog\n"
        "session.prepare_directory(%r); real = session.wipe\n"
        "session.wipe = lambda buffer: os.kill(os.getpid(), signal.SIGKILL)\n"
        "session.create_session(%r, 'one', 3)" % (str(place), str(place))
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=False,
        timeout=30,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()
    assert (place / "one" / "key").exists()
    assert wait_until(lambda: not (place / "one").exists())


def test_watchdog_ends_with_the_session_and_leaves_a_later_one_alone(place):
    session.prepare_directory(str(place))
    (place / "one").mkdir(mode=0o700)
    watchdog.start(str(place / "one"), watchdog.boot_clock() + 1.5)
    (place / "one").rename(place / "old")
    (place / "one").mkdir(mode=0o700)
    time.sleep(3)
    assert (place / "one").exists()


def test_watchdog_holds_nothing_open(place):
    # The pipe of the module's output ends although the watchdog lives on: Ansible does not wait for it.
    code = "from ansible_collections.attested.ai.plugins.module_utils.keyrelease.guest import *; apply(Wish('one', directory=%r, lifetime=60), False)" % str(
        place
    )
    subprocess.run(
        [sys.executable, "-c", code],
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=20,
        check=True,
    )
    assert (place / "one" / "key").exists()


def test_stale_and_expired_sessions(place, monkeypatch):
    monkeypatch.setattr(watchdog, "start", lambda path, deadline: None)
    guest.apply(Wish("dead", directory=str(place), lifetime=1), False)
    guest.apply(Wish("used", directory=str(place), lifetime=1), False)
    (place / "torn").mkdir(mode=0o700)
    now = watchdog.boot_clock()
    monkeypatch.setattr(watchdog, "boot_clock", lambda: now + 60)
    assert guest.apply(Wish("one", directory=str(place), lifetime=120), True)["swept"] == ["dead", "used"] and (place / "dead").exists()
    with pytest.raises(KeyReleaseError) as caught:
        session.load_session(str(place), "used")
    assert caught.value.code == "session-expired" and not (place / "used").exists()
    made = guest.apply(Wish("one", directory=str(place), lifetime=120), False)
    assert made["swept"] == ["dead"] and sorted(os.listdir(str(place))) == ["one", "torn"]
    os.utime(str(place / "torn"), (0, 0))
    assert guest.apply(Wish("one", directory=str(place)), False)["swept"] == ["torn"]


def test_failure_half_way_leaves_nothing(place, monkeypatch):
    session.prepare_directory(str(place))
    monkeypatch.setattr(session, "lock_memory", lambda buffer: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        session.create_session(str(place), "one", 60)
    assert not (place / "one").exists()


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"schema":"attested.ai/guest-session/1","deadline_ms":true,"expires_at":1}', b"\xff"])
def test_damaged_state_is_refused_and_can_be_swept(place, content):
    guest.apply(Wish("one", directory=str(place)), False)
    (place / "one" / "state.json").write_bytes(content)
    with pytest.raises(AttestedError):
        session.load_session(str(place), "one")
    assert guest.apply(Wish("one", "absent", str(place)), False)["changed"] and not (place / "one").exists()


@pytest.mark.parametrize("state", ["present", "absent"])
def test_directories_that_are_no_sessions_are_never_swept(place, state):
    """Somebody may give /run/user/1000, or /root: what lies there in private directories is not ours."""
    other = place / "gnupg"
    other.mkdir(mode=0o700, parents=True)
    place.chmod(0o700)
    (other / "secring").write_text("precious")
    os.utime(other, (0, 0))
    assert guest.apply(Wish("mine", state, str(place)), False)["swept"] == []
    with pytest.raises(KeyReleaseError, match="no session"):
        guest.apply(Wish("gnupg", "absent", str(place)), False)
    assert (other / "secring").read_text() == "precious"
    subprocess.run(["rm", "-rf", str(other)], check=True)


def test_what_a_killed_writer_left_is_swept(place):
    guest.apply(Wish("mine", "present", str(place)), False)
    (place / "mine" / "release.jwe.0123456789ab.new").write_text("{}")
    assert guest.apply(Wish("mine", "absent", str(place)), False)["changed"] is True
    assert not (place / "mine").exists()
