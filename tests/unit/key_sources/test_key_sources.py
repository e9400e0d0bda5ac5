# SPDX-License-Identifier: GPL-3.0-or-later
"""Every place that a key-encryption key can come from, in one way; before a Vault of our own and, where OPENBAO names one, the real one."""

from __future__ import annotations

import base64
import json
import os
import socket
import threading

import kbs_lab
import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.kbs.counter import KbsCounter, name_of
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwe
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.counter import Counters, CounterStore
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.keysource import new_kek
from ansible_collections.attested.ai.plugins.module_utils.vault.engines import check_path
from ansible_collections.attested.ai.plugins.plugin_utils.key_source import KekSource
from ansible_collections.attested.ai.plugins.plugin_utils.release_counter import counter_of
from hypothesis import given
from hypothesis import strategies as st
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK

USE = (("transit/keys/+", "read"), ("transit/encrypt/+", "update"), ("transit/decrypt/+", "update"))


class Action:
    """As much of an action plugin as sources look at."""

    def __init__(self, *passwords: tuple[str, bytes]) -> None:
        self._loader = DataLoader()
        self._loader.set_vault_secrets([(name, VaultSecret(password)) for name, password in passwords])

    def _find_needle(self, _kind: str, path: str) -> str:
        return path


def code_of(act) -> str:
    with pytest.raises(AttestedError) as caught:
        act()
    assert str(caught.value) and "Traceback" not in str(caught.value)
    return caught.value.code


def transit(bao, key, token=None, **changes):
    return KekSource(Action(), {"source": "vault_transit", "key": key, "server": bao.server(token, **changes)})


def kv(bao, path, token=None, server=None, **more):
    return KekSource(Action(), {"source": "vault_kv", "path": path, "server": server or bao.server(token), **more})


def counter(bao, path, token=None):
    return counter_of(Action(), {"source": "vault_kv", "path": path, "server": bao.server(token)})


# -- Ansible Vault -----------------------------------------------------------------------------------------------------


def test_a_vaulted_key_is_decrypted_in_memory_and_may_lie_open(tmp_path):
    kek, jwk = new_kek()
    path = tmp_path / "kek.jwk"
    path.write_bytes(VaultLib([("default", VaultSecret(b"password"))]).encrypt(jwk.decode()))
    path.chmod(0o644)
    before = set(tmp_path.rglob("*"))
    assert KekSource(Action(("default", b"password")), str(path)).load() == kek
    assert set(tmp_path.rglob("*")) == before
    for action in (Action(("default", b"other")), Action()):
        assert code_of(KekSource(action, str(path)).load) == "kek-vaulted"
    path.write_bytes(VaultLib([("default", VaultSecret(b"password"))]).encrypt("no key"))
    assert code_of(KekSource(Action(("default", b"password")), str(path)).load) == "kek-form"
    path.write_bytes(jwk)
    assert code_of(KekSource(Action(), str(path)).load) == "secret-mode"


# -- KV ----------------------------------------------------------------------------------------------------------------


def test_a_key_in_kv_is_made_read_and_pinned_by_version(bao):
    source = kv(bao, "models/kek-1")
    assert not source.exists()
    made = source.create()
    assert source.exists() and source.load() == made
    assert code_of(source.create) == "vault-cas"
    other, jwk = new_kek()
    bao.call("POST", "secret/data/models/kek-1", {"data": {"kek": jwk.decode()}})
    assert source.load() == other and kv(bao, "models/kek-1", version=1).load() == made
    bao.call("DELETE", "secret/data/models/kek-1")
    assert code_of(source.load) == "vault-deleted"
    assert code_of(source.exists) == "vault-deleted", "a deleted key is no reason to make another"
    bao.call("POST", "secret/data/models/odd", {"data": {"kek": 5, "raw": base64.b64encode(bytes(32)).decode()}})
    assert code_of(kv(bao, "models/odd").load) == "kek-form"
    assert kv(bao, "models/odd", field="raw").load().key == bytes(32)
    assert code_of(kv(bao, "models/none").load) == "vault-missing"
    assert code_of(kv(bao, "models/none", mount="nowhere").load) == "vault-mount"


def test_what_a_token_may_not_do_is_told_apart_from_a_token_that_is_none(bao):
    kv(bao, "models/kek-2").create()
    may_read = bao.token(("secret/data/models/*", "read"))
    assert kv(bao, "models/kek-2", may_read).load()
    assert code_of(kv(bao, "models/kek-3", may_read).create) == "vault-denied"
    assert code_of(kv(bao, "other/kek", may_read).load) == "vault-denied"
    bao.call("POST", "auth/token/revoke", {"token": may_read})
    assert code_of(kv(bao, "models/kek-2", may_read).load) == "vault-token"
    assert code_of(kv(bao, "models/kek-2", "s.neverissued").load) == "vault-token"


def test_a_role_logs_in_with_a_secret_id(bao):
    kv(bao, "models/kek-4").create()
    bao.call("POST", "sys/policies/acl/reads", {"policy": 'path "secret/data/models/*" { capabilities=["read"] }'})
    bao.call("POST", "auth/approle/role/release", {"token_policies": "reads", "token_ttl": "60s"})
    role = bao.call("GET", "auth/approle/role/release/role-id")["data"]["role_id"]
    secret = bao.call("POST", "auth/approle/role/release/secret-id", {})["data"]["secret_id"]

    def server(secret_id):
        found = bao.server(role_id=role, secret_id_file=bao.secret(secret_id, "secret-id"))
        del found["token_file"]
        return found

    assert kv(bao, "models/kek-4", server=server(secret)).load()
    assert code_of(kv(bao, "models/kek-4", server=server("00000000-0000-0000-0000-000000000000")).load) == "vault-login"


# -- Transit -----------------------------------------------------------------------------------------------------------


def test_a_key_of_transit_wraps_as_jose_says(bao):
    bao.call("POST", "transit/keys/open", {"exportable": True})
    token = bao.token(*USE)
    kek = transit(bao, "open", token).load()
    assert kek.kid == "vault-transit:transit/open:v1"
    secret, other = os.urandom(32), create_local()
    sealed = jwe.wrap_general(secret, [kek.recipient(), other.recipient()])
    assert jwe.unwrap_general(sealed, kek.key) == secret == jwe.unwrap_general(sealed, other.key, other.kid)
    # Whoever has the key itself opens it with any library that knows A256GCMKW.
    material = bao.call("GET", "transit/export/encryption-key/open")["data"]["keys"]["1"]
    reader = JWE()
    reader.deserialize(json.dumps(sealed))
    reader.decrypt(JWK(kty="oct", k=strict.encode_base64url(base64.b64decode(material))))
    assert reader.payload == secret


def create_local():
    return new_kek()[0]


def test_a_key_of_transit_is_rotated_and_withdrawn(bao):
    bao.call("POST", "transit/keys/turns", {})
    old = transit(bao, "turns").load()
    sealed = jwe.wrap_general(b"x" * 32, [old.recipient()])
    bao.call("POST", "transit/keys/turns/rotate", {})
    new = transit(bao, "turns").load()
    assert new.kid.endswith(":v2") and jwe.unwrap_general(sealed, new.key) == b"x" * 32
    both = jwe.rewrap_general(sealed, new.key, [new.recipient()], [])
    only = jwe.rewrap_general(both, new.key, [], [old.kid])
    assert both["ciphertext"] == only["ciphertext"] == sealed["ciphertext"]
    assert [entry["kid"] for entry in jwe.recipients_of(only)] == [new.kid]
    bao.call("POST", "transit/keys/turns/config", {"min_decryption_version": 2})
    assert jwe.unwrap_general(only, new.key) == b"x" * 32
    assert code_of(lambda: jwe.unwrap_general(sealed, new.key)) == "vault-version-withdrawn"


def test_what_transit_cannot_open_or_is_not_asked(bao):
    for name, body in (("one", {}), ("two", {}), ("signs", {"type": "ed25519"}), ("derives", {"derived": True})):
        bao.call("POST", f"transit/keys/{name}", body)
    one, two = transit(bao, "one").load(), transit(bao, "two").load()
    sealed = jwe.wrap_general(b"x" * 32, [one.recipient()])
    assert code_of(lambda: jwe.unwrap_general(sealed, two.key)) == "jwe-recipient"
    renamed = json.loads(json.dumps(sealed).replace("transit/one", "transit/two"))
    assert code_of(lambda: jwe.unwrap_general(renamed, two.key)) == "jwe-wrong-key"
    future = json.loads(json.dumps(sealed).replace(":v1", ":v7"))
    assert code_of(lambda: jwe.unwrap_general(future, one.key)) == "vault-wrong-key"
    for name in ("signs", "derives"):
        assert code_of(lambda name=name: transit(bao, name).load().kid) == "vault-key-type"
    # A name that is mistyped makes no key, although this token could.
    assert code_of(lambda: transit(bao, "mistyped").load().recipient()) == "vault-missing"
    assert code_of(lambda: transit(bao, "mistyped").load().recipient()) == "vault-missing"
    unwraps = bao.token(("transit/decrypt/one", "update"))
    assert jwe.unwrap_general(sealed, transit(bao, "one", unwraps).load().key) == b"x" * 32
    assert code_of(lambda: transit(bao, "one", unwraps).load().kid) == "vault-denied"
    assert code_of(transit(bao, "one").create) == "kek-create"


# -- Counters ----------------------------------------------------------------------------------------------------------


def test_minimum_releases_in_a_vault_only_rise(bao):
    found = counter(bao, "state/minimum", bao.token(("secret/data/state/*", "create read update")))
    assert found.minimum("m") == 1
    assert found.raise_to("m", 3) == 3 and found.raise_to("other", 2) == 2 and found.raise_to("m", 3) == 3
    assert found.minimum("m") == 3 and found.minimum("other") == 2
    assert code_of(lambda: found.raise_to("m", 2)) == "counter-lower"
    assert code_of(lambda: found.raise_to("m", True)) == "counter-value"
    assert code_of(lambda: counter(bao, "state/minimum", bao.token(("secret/data/state/*", "read"))).raise_to("m", 4)) == "vault-denied"
    bao.call("POST", "secret/data/state/minimum", {"data": {"schema": "attested.ai/minimum-releases/1", "models": {"m": 0}}})
    assert code_of(lambda: found.minimum("m")) == "counter-damaged"
    bao.call("DELETE", "secret/data/state/minimum")
    assert code_of(lambda: found.minimum("m")) == "counter-missing" == code_of(lambda: found.raise_to("m", 4))


def test_two_controllers_raise_the_same_counter(bao):
    results = []

    def raise_to(release):
        try:
            results.append(counter(bao, "state/race").raise_to("m", release))
        except AttestedError as error:
            results.append(error.code)

    threads = [threading.Thread(target=raise_to, args=(release,)) for release in range(2, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter(bao, "state/race").minimum("m") == max(result for result in results if isinstance(result, int))
    assert 5 in results and all(result in (2, 3, 4, 5, "counter-lower") for result in results)


def test_a_counter_that_somebody_else_writes_in_between_is_read_again(soft_bao):
    found = counter(soft_bao, "c")
    found.raise_to("m", 2)
    soft_bao.soft.between = lambda: soft_bao.call("POST", "secret/data/c", {"data": {"schema": "attested.ai/minimum-releases/1", "models": {"m": 7}}})
    assert code_of(lambda: found.raise_to("m", 5)) == "counter-lower"

    def always():
        soft_bao.call("POST", "secret/data/c", {"data": {"schema": "attested.ai/minimum-releases/1", "models": {"m": 7}}})
        soft_bao.soft.between = always

    soft_bao.soft.between = always
    assert code_of(lambda: found.raise_to("m", 9)) == "counter-busy"


def test_several_counters_and_a_reset_of_one(tmp_path, soft_bao):
    store, elsewhere = CounterStore(str(tmp_path / "minimum.json")), counter(soft_bao, "c")
    both = Counters([elsewhere, store])
    both.raise_to("m", 4)
    assert store.minimum("m") == elsewhere.minimum("m") == 4
    (tmp_path / "minimum.json").unlink()
    assert both.minimum("m") == 4
    store.raise_to("m", 4)
    soft_bao.call("DELETE", "secret/metadata/c")
    assert elsewhere.minimum("m") == 1 and both.minimum("m") == 4
    assert code_of(lambda: both.raise_to("m", 3)) == "counter-lower"
    # What one would refuse is written nowhere.
    assert elsewhere.minimum("m") == 1
    soft_bao.seal()
    assert code_of(lambda: both.raise_to("m", 5)) == "vault-sealed" and store.minimum("m") == 4


def test_minimum_releases_in_a_kbs(soft_kbs, tmp_path):
    found = KbsCounter(soft_kbs.admin())
    assert found.minimum("m") == 1 and found.raise_to("m", 3) == 3 and found.minimum("m") == 3
    assert code_of(lambda: found.raise_to("m", 2)) == "counter-lower"
    assert found.raise_to("n" * 128, 2) == 2 and found.minimum("n" * 128) == 2 and len(name_of("n" * 128)) <= 128
    soft_kbs.admin().set_reference_values({name_of("m"): ["many"]})
    assert code_of(lambda: found.minimum("m")) == "counter-damaged"
    key = kbs_lab.secret(tmp_path / "admin.pem", kbs_lab.private_pem(soft_kbs.admin_key))
    address = {"url": [soft_kbs.url], "admin_key": str(key), "issuer": kbs_lab.ISSUER}
    ca = tmp_path / "kbs-ca.pem"
    ca.write_text(soft_kbs.ca)
    assert counter_of(Action(), {"source": "kbs", "server": {**address, "ca_path": str(ca)}}).minimum("n" * 128) == 2
    assert code_of(lambda: counter_of(Action(), {"source": "kbs", "server": {**address, "nonsense": 1}})) == "counter-source"


# -- Faults ------------------------------------------------------------------------------------------------------------


def test_a_vault_that_is_sealed_slow_elsewhere_or_somebody_else(soft_bao, tmp_path):
    kv(soft_bao, "k").create()
    soft_bao.seal()
    assert code_of(kv(soft_bao, "k").load) == "vault-sealed"
    soft_bao.unseal()
    soft_bao.soft.delay = 1.5
    assert code_of(kv(soft_bao, "k", server=soft_bao.server(timeout=1)).load) == "vault-slow"
    soft_bao.soft.delay = 0
    for status, code in ((500, "vault-foreign"), (302, "vault-redirect"), (429, "vault-unavailable"), (200, "vault-answer")):
        soft_bao.soft.status = status
        assert code_of(kv(soft_bao, "k").load) == code, status
    soft_bao.soft.status = 0
    assert code_of(kv(soft_bao, "k", server=soft_bao.server(pins=["sha256:" + "00" * 32])).load) == "vault-pin"
    assert not [path for _method, path in soft_bao.soft.seen[-1:] if "lookup" in path]
    (tmp_path / "other.pem").write_text(kbs_lab.Authority().pem)
    assert code_of(kv(soft_bao, "k", server=soft_bao.server(ca_path=str(tmp_path / "other.pem"))).load) == "vault-tls-trust"
    assert code_of(kv(soft_bao, "k", server=soft_bao.server(server_name="vault.example.org")).load) == "vault-tls-name"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = f"https://127.0.0.1:{probe.getsockname()[1]}"
    assert code_of(kv(soft_bao, "k", server=soft_bao.server(url=nobody)).load) == "vault-unreachable"


@pytest.mark.parametrize(("changes", "code"), [
    ({"url": "http://vault.example.org:8200", "ca_path": None}, "vault-url"), ({"url": "https://u:p@vault.example.org"}, "vault-url"),
    ({"token_file": "/nonexistent"}, "secret-missing"), ({"token_file": None}, "vault-login"), ({"role_id": "r"}, "vault-login"),
    ({"timeout": 0}, "vault-options"), ({"attempts": True}, "vault-options"), ({"namespace": "a b"}, "vault-path"), ({"password": "x"}, "format"),
    ({"allow_http": "yes"}, "vault-options"), ({"pins": "sha256:x"}, "vault-pin"),
], ids=str)  # fmt: skip
def test_what_cannot_be_used_is_refused_before_anything_is_sent(soft_bao, changes, code):
    assert code_of(lambda: kv(soft_bao, "k", server=soft_bao.server(**changes))) == code
    assert soft_bao.soft.seen == []


def test_other_sources_and_credentials_are_refused(soft_bao, tmp_path):
    for value, code in (({"source": "vault"}, "kek-source"), (5, "kek-source"), ({"source": "vault_kv", "path": "x"}, "format"),
                        ({"source": "vault_transit", "key": "a", "path": "b", "server": soft_bao.server()}, "format")):  # fmt: skip
        assert code_of(lambda value=value: KekSource(Action(), value)) == code
    for bad in ("a//b", "../x", "a/../b", "a?b", "", "a b", "ü"):
        assert code_of(lambda bad=bad: kv(soft_bao, bad).load()) == "vault-path", bad
    open_file = tmp_path / "open"
    open_file.write_text("s.token")
    open_file.chmod(0o644)
    assert code_of(lambda: kv(soft_bao, "k", server=soft_bao.server(token_file=str(open_file)))) == "secret-mode"
    assert code_of(lambda: kv(soft_bao, "k", server=soft_bao.server(token_file=soft_bao.secret("two words")))) == "vault-credential"
    assert soft_bao.soft.seen == []


def test_neither_token_nor_key_shows_in_what_is_printed(soft_bao):
    source = kv(soft_bao, "k")
    made = source.create()
    texts = [repr(made), repr(source._server), source.name, repr(transit(soft_bao, "t").load())]
    for status in (500, 200):
        soft_bao.soft.status = status
        with pytest.raises(AttestedError) as caught:
            source.load()
        texts.append(str(caught.value))
    assert not [text for text in texts if soft_bao.root in text or made.key.hex() in text or strict.encode_base64url(made.key) in text or repr(made.key) in text]


@given(st.text(max_size=40))
def test_no_path_leaves_its_place(text):
    try:
        found = check_path(text, "path")
    except AttestedError:
        return
    assert all(part not in ("", ".", "..") and not set(part) & set("?#%\\ ") for part in found.split("/"))


def test_a_version_that_is_no_number_is_refused(soft_bao):
    assert code_of(kv(soft_bao, "k", version="latest").load) == "kek-source"
