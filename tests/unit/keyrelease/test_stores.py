# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files on the controller: secrets, counter and ledger."""

from __future__ import annotations

import base64
import json
import multiprocessing
import os

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError, KeyReleaseError, LedgerError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwk, ledger
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.counter import CounterStore
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.keysource import create_kek, load_kek
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.signingkey import create_signing_key, load_signing_key
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC = jwk.public_jwk(KEY)


def secret(path, content, mode=0o600):
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def entry(model="m", **changes):
    return ledger.Entry(
        **dict(
            dict(
                at="2026-01-31T12:00:00Z",
                who="alice",
                key_id="kek-1",
                model_id=model,
                release=1,
                evidence_digest="ab" * 32,
                policy_id="p",
                policy_digest="cd" * 32,
                guest_key_thumbprint="t",
                decision="released",
            ),
            **changes,
        )
    )


def made(tmp_path, count=5):
    path = str(tmp_path / "ledger")
    for index in range(count):
        ledger.append(path, KEY, entry("m%d" % index))
    return path


def fails(path, key=None, **more):
    with pytest.raises(LedgerError) as caught:
        ledger.verify(path, key or PUBLIC, **more)
    return caught.value.code


def test_kek_forms(tmp_path):
    kek = create_kek(str(tmp_path / "a"))
    assert load_kek(str(tmp_path / "a")) == kek and (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    assert kek.key.hex() not in repr(kek) and repr(kek.key) not in repr(kek)
    raw = load_kek(secret(tmp_path / "b", kek.key))
    assert raw == load_kek(secret(tmp_path / "c", base64.b64encode(kek.key) + b"\n")) == kek
    brace = b"{" + bytes(31)
    assert load_kek(secret(tmp_path / "d", brace)).key == brace
    with pytest.raises(KeyReleaseError) as caught:
        create_kek(str(tmp_path / "a"))
    assert caught.value.code == "secret-exists" and load_kek(str(tmp_path / "a")) == kek
    assert not list(tmp_path.glob("*.new"))


@pytest.mark.parametrize("load", [load_kek, load_signing_key])
def test_secrets_that_others_can_read_are_refused(tmp_path, load):
    for mode in (0o640, 0o604, 0o620):
        with pytest.raises(KeyReleaseError) as caught:
            load(secret(tmp_path / "k", b"x" * 32, mode))
        assert caught.value.code == "secret-mode"
    os.mkfifo(str(tmp_path / "fifo"), 0o600)
    for path, code in ((tmp_path / "none", "secret-missing"), (tmp_path / "fifo", "secret-kind"), (tmp_path, "secret-kind")):
        with pytest.raises(KeyReleaseError) as caught:
            load(str(path))
        assert caught.value.code == code
    with pytest.raises(KeyReleaseError, match="at most"):
        load(secret(tmp_path / "big", b"x" * 70000))


def test_signing_key(tmp_path):
    path = str(tmp_path / "s")
    key = create_signing_key(path)
    assert jwk.public_jwk(load_signing_key(path)) == jwk.public_jwk(key) and os.stat(path).st_mode & 0o777 == 0o600


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=80)
    | st.dictionaries(st.sampled_from(["kty", "k", "kid", "alg"]), st.text(max_size=44) | st.integers()).map(lambda obj: json.dumps(obj).encode())
)
def test_random_secret_files(tmp_path, content):
    path = secret(tmp_path / "k", content)
    for load in (load_kek, load_signing_key, lambda name: CounterStore(name).minimum("m")):
        try:
            load(path)
        except AttestedError as error:
            assert len(content) < 24 or content.decode("latin-1") not in str(error)


def test_counter_never_goes_down(tmp_path):
    store = CounterStore(str(tmp_path / "c"))
    assert store.minimum("m") == 1
    assert store.raise_to("m", 3) == store.raise_to("m", 3) == store.minimum("m") == 3
    with pytest.raises(KeyReleaseError) as caught:
        store.raise_to("m", 2)
    assert caught.value.code == "counter-lower" and CounterStore(store.path).minimum("m") == 3 and store.minimum("n") == 1
    for value in (0, True, "4", 2**53):
        with pytest.raises(KeyReleaseError):
            store.raise_to("m", value)
    for content in ("", "{}", '{"schema":"attested.ai/minimum-releases/1","models":{"m":0}}', '{"schema":"attested.ai/minimum-releases/1","models":[]}'):
        (tmp_path / "c").write_text(content)
        with pytest.raises((KeyReleaseError, FormatError)):
            store.minimum("m")


def test_ledger_holds_what_was_appended(tmp_path):
    path = made(tmp_path)
    report = ledger.verify(path, PUBLIC)
    assert report.count == 5 and [item["model_id"] for item in report.entries] == ["m0", "m1", "m2", "m3", "m4"] and report.head == report.entries[-1]["hash"]
    assert ledger.verify(path, PUBLIC, report.entries[1]["hash"]).count == 5
    assert fails(path, known_head="ab" * 32) == "ledger-rolled-back"
    assert os.stat(path).st_mode & 0o777 == 0o600


def swap(lines):
    lines[1], lines[2] = lines[2], lines[1]


def edit(lines):
    found = json.loads(lines[1])
    payload = json.loads(base64.urlsafe_b64decode(found["payload"] + "=="))
    found["payload"] = base64.urlsafe_b64encode(json.dumps(dict(payload, who="eve")).encode()).rstrip(b"=").decode()
    lines[1] = json.dumps(found).encode() + b"\n"


@pytest.mark.parametrize(
    "damage, codes",
    [
        (edit, {"ledger-entry-damaged", "ledger-truncated"}),
        (swap, {"ledger-chain"}),
        (lambda lines: lines.pop(), {"ledger-truncated"}),
        (lambda lines: lines.pop(1), {"ledger-truncated"}),
        (lambda lines: lines.insert(2, lines[1]), {"ledger-chain"}),
        (lambda lines: lines.append(lines[4]), {"ledger-chain"}),
        (lambda lines: lines.append(b'{"payload"'), {"ledger-torn"}),
        (lambda lines: lines.append(b"\n"), {"ledger-entry-damaged"}),
        (lambda lines: lines.append(b"x" * (ledger.LINE_MAX + 9)), {"ledger-torn"}),
        (lambda lines: lines.clear(), {"ledger-truncated"}),
    ],
)
def test_damage_shows_and_appending_does_not_hide_it(tmp_path, damage, codes):
    path = made(tmp_path)
    with open(path, "rb") as stream:
        lines = stream.readlines()
    damage(lines)
    with open(path, "wb") as stream:
        stream.writelines(lines)
    before = b"".join(lines)
    assert fails(path) in codes
    # Damage in the middle is not what an append looks at, but it never makes the ledger verify again, nor loses a byte.
    try:
        ledger.append(path, KEY, entry())
    except LedgerError as error:
        assert error.code in codes | {"ledger-chain"}
    with open(path, "rb") as stream:
        assert stream.read().startswith(before)
    fails(path)


def test_heads(tmp_path):
    path = made(tmp_path)
    with open(path + ".head", "rb") as stream:
        head = stream.read()
    other = ec.generate_private_key(ec.SECP256R1())
    assert fails(path, jwk.public_jwk(other)) == "ledger-head-damaged"
    with pytest.raises(LedgerError):
        ledger.append(path, other, entry())
    os.unlink(path + ".head")
    assert fails(path) == "ledger-head-missing"
    with pytest.raises(LedgerError):
        ledger.append(path, KEY, entry())
    # A writer that was killed between line and head: the entry counts, verify says so, the next append settles it.
    with open(path + ".head", "wb") as stream:
        stream.write(head)
    ledger.append(path, KEY, entry("late"))
    with open(path + ".head", "wb") as stream:
        stream.write(head)
    assert fails(path) == "ledger-head-behind"
    ledger.append(path, KEY, entry("next"))
    assert [item["model_id"] for item in ledger.verify(path, PUBLIC).entries][-2:] == ["late", "next"]
    assert fails(str(tmp_path / "none")) == "ledger-missing"


def test_torn_line_names_the_byte_and_keeps_it(tmp_path):
    path = made(tmp_path, 2)
    size = os.path.getsize(path)
    with open(path, "ab") as stream:
        stream.write(b'{"pay')
    with pytest.raises(LedgerError, match="truncate -s %d" % size):
        ledger.append(path, KEY, entry())
    assert os.path.getsize(path) == size + 5
    os.truncate(path, size)
    ledger.append(path, KEY, entry())
    assert ledger.verify(path, PUBLIC).count == 3


def _append_many(path, count):
    for _number in range(count):
        ledger.append(path, KEY, entry("m"))


def test_concurrent_forks_lose_nothing(tmp_path):
    path = str(tmp_path / "ledger")
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_append_many, args=(path, 20)) for _number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4 and ledger.verify(path, PUBLIC).count == 80


def test_append_reads_only_the_head(tmp_path):
    path = made(tmp_path, 3)
    with open(path, "r+b") as stream:
        stream.write(b"#")
    # If it read the lines it would fail here; verify does.
    assert ledger.append(path, KEY, entry()).seq == 4
    assert fails(path) == "ledger-entry-damaged"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.sampled_from(["", ".head"]), st.booleans())
def test_random_bytes_never_verify(tmp_path, content, suffix, keep):
    path = str(tmp_path / "ledger")
    for name in (path, path + ".head"):
        if os.path.exists(name):
            os.unlink(name)
    ledger.append(path, KEY, entry())
    with open(path + suffix, "ab" if keep else "wb") as stream:
        stream.write(content)
    if content.strip() or (content and not suffix) or not keep:
        with pytest.raises(LedgerError):
            ledger.verify(path, PUBLIC)
