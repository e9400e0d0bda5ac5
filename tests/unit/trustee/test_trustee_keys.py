# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys of key brokers: made once, renewed in time, and never those of others."""

from __future__ import annotations

import datetime
import os
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.trustee import certificates as x
from ansible_collections.attested.ai.plugins.module_utils.trustee import demo_keys
from ansible_collections.attested.ai.plugins.module_utils.trustee.keys import FILES, Wish, apply, owned, plan
from ansible_collections.attested.ai.plugins.module_utils.trustee.problem import TrusteeError
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

NOW = datetime.datetime(2026, 11, 28, 12, tzinfo=datetime.timezone.utc)


def made(wish: Wish, now: datetime.datetime = NOW) -> list[str]:
    outcome = plan(wish, now)
    apply(wish, outcome)
    return sorted(outcome.write)


def later(days: int) -> datetime.datetime:
    return NOW + datetime.timedelta(days=days)


def wish(folder: Path, kind: str = "tls", **given) -> Wish:
    return Wish(str(folder / "keys"), kind, **{"names": ("kbs.example.org", "192.0.2.1", "2001:db8::1"), **given})


@pytest.mark.parametrize("kind", ["tls", "token"])
def test_made_once_for_their_owner_and_renewed_under_the_same_authority(tmp_path, kind):
    given = wish(tmp_path, kind)
    assert made(given) == sorted(FILES[kind]) and made(given) == [] and owned(given)
    folder = Path(given.path)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600} and folder.stat().st_mode & 0o777 == 0o700
    before = plan(given, NOW).facts
    assert set(before["names"]) == (set(given.names) if kind == "tls" else set())
    key, old = (folder / FILES[kind][2]).read_bytes(), (folder / FILES[kind][3]).read_bytes()
    assert made(given, later(366)) == [] and made(given, later(368)) == [FILES[kind][3]]
    after = plan(given, later(368)).facts
    assert after["ca_fingerprint"] == before["ca_fingerprint"] and after["fingerprint"] == before["fingerprint"] and after["not_after"] > before["not_after"]
    assert (folder / FILES[kind][2]).read_bytes() == key and (folder / FILES[kind][3]).read_bytes() != old
    leaf, ca = x.load_chain((folder / FILES[kind][3]).read_bytes(), "chain")
    assert x.signed_by(leaf, ca) and not x.signed_by(ca, leaf)


def test_the_admins_key(tmp_path):
    given = wish(tmp_path, "admin")
    assert made(given) == ["admin.key", "admin.pub"] and made(given) == []
    key = x.load_private((Path(given.path) / "admin.key").read_bytes(), "key")
    assert isinstance(key, ed25519.Ed25519PrivateKey) and (Path(given.path) / "admin.pub").read_bytes() == x.public_pem(key.public_key())
    (Path(given.path) / "admin.pub").write_text("of another")
    assert made(given) == ["admin.pub"]


def test_another_name_asks_for_another_certificate(tmp_path):
    made(wish(tmp_path))
    assert made(wish(tmp_path, names=("kbs2.example.org",))) == ["tls.crt"]
    # A name that is not asked for any more does no harm.
    assert made(wish(tmp_path, names=("kbs2.example.org",))) == []


def test_a_run_that_ended_between_two_files_is_continued(tmp_path):
    given = wish(tmp_path)
    outcome = plan(given, NOW)
    apply(given, replace(outcome, write={name: data for name, data in outcome.write.items() if name.endswith(".key")}))
    assert made(given) == ["tls-ca.pem", "tls.crt"] and made(given) == []


def put(folder: Path, name: str, data: bytes, mode: int = 0o600) -> None:
    path = folder / "keys" / name
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(data)
    path.chmod(mode)


def foreign_key(folder: Path) -> None:
    put(folder, "tls-ca.key", x.private_pem(x.new_ec_key()))


def without_ca_key(folder: Path) -> None:
    (folder / "keys" / "tls-ca.key").unlink()


def readable(folder: Path) -> None:
    (folder / "keys" / "tls.key").chmod(0o640)


def linked(folder: Path) -> None:
    (folder / "keys" / "tls.key").unlink()
    (folder / "keys" / "tls.key").symlink_to("/etc/hostname")


BROKEN = {
    "authority": (foreign_key, {}, "trustee-ca-key"),
    "no key of the authority": (without_ca_key, {}, "trustee-ca-key"),
    "readable": (readable, {}, "trustee-mode"),
    "link": (linked, {}, "trustee-read"),
    "no key": (lambda folder: put(folder, "tls.key", b"hello"), {}, "trustee-key"),
    "curve": (lambda folder: put(folder, "tls.key", x.private_pem(ec.generate_private_key(ec.SECP256K1()))), {}, "trustee-key"),
    "signer": (lambda folder: put(folder, "tls.key", x.private_pem(x.new_admin_key())), {}, "trustee-key"),
    "no certificate": (lambda folder: put(folder, "tls.crt", b"hello"), {}, "trustee-certificate"),
    "days": (lambda folder: None, {"days": 10}, "trustee-days"),
    "name": (lambda folder: None, {"names": ("kbs.example.org/..",)}, "trustee-name"),
    "no name": (lambda folder: None, {"names": ()}, "trustee-name"),
    "missing": (lambda folder: (folder / "keys" / "tls.crt").unlink(), {"issue": False}, "trustee-missing"),
    "given for another name": (lambda folder: None, {"issue": False, "names": ("kbs3.example.org",)}, "trustee-certificate"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_refused(tmp_path, case):
    act, given, code = BROKEN[case]
    made(wish(tmp_path))
    act(tmp_path)
    before = {path.name: path.read_bytes() for path in (tmp_path / "keys").iterdir()}
    with pytest.raises(TrusteeError) as caught:
        plan(wish(tmp_path, **given), NOW)
    assert caught.value.code == code and before == {path.name: path.read_bytes() for path in (tmp_path / "keys").iterdir()}


def test_an_authority_that_ends_first_is_told_of(tmp_path):
    made(wish(tmp_path))
    with pytest.raises(TrusteeError, match="before a certificate of 397 days would"):
        plan(wish(tmp_path), later(3650 - 396))


def test_keys_that_anybody_has_are_refused(tmp_path, monkeypatch):
    made(wish(tmp_path))
    public = x.load_private((tmp_path / "keys" / "tls.key").read_bytes(), "key").public_key()
    monkeypatch.setitem(demo_keys.KNOWN, x.fingerprint(public), "trustee kbs/test")
    with pytest.raises(TrusteeError, match="everybody has this key: it is in trustee kbs/test"):
        plan(wish(tmp_path), NOW)
    monkeypatch.undo()
    ca_key = x.new_ec_key()
    ca = x.authority("KBS-compose-root", ca_key, NOW, 900)
    leaf = x.issue("token", public, ("kbs.example.org", "192.0.2.1", "2001:db8::1"), ca, ca_key, NOW, 100)
    put(tmp_path, "tls-ca.pem", x.certificate_pem(ca))
    put(tmp_path, "tls.crt", x.certificate_pem(leaf))
    with pytest.raises(TrusteeError, match="is a certificate of Trustee's demo setup"):
        plan(wish(tmp_path, issue=False), NOW)


def test_known_keys_are_those_that_trustee_ships(vectors):
    """The list against the files, where the vectors have them."""
    found = 0
    for path in [*(vectors / "coco" / "trustee" / "kbs-jwk").glob("*.pem"), vectors / "coco" / "trustee" / "as" / "cert-chain.pem"]:
        assert any(x.fingerprint(one.public_key()) in demo_keys.KNOWN for one in x.load_chain(path.read_bytes(), str(path))), path
        found += 1
    assert found == 8


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "keys").write_text("in the way")
    with pytest.raises(TrusteeError) as caught:
        plan(wish(tmp_path), NOW)
    assert caught.value.code == "trustee-read"
    os.unlink(tmp_path / "keys")
    (tmp_path / "file").write_text("in the way")
    given = replace(wish(tmp_path), path=str(tmp_path / "file" / "keys"))
    with pytest.raises(TrusteeError):
        apply(given, plan(given, NOW))
