# SPDX-License-Identifier: GPL-3.0-or-later
"""Every place that a key-encryption key can come from, in one way; before a Vault of our own and, where OPENBAO names one, the real one."""

from __future__ import annotations

import base64
import json
import os
import socket
import time

import bao_lab
import kbs_lab
import pytest
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwe
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.keysource import new_kek
from ansible_collections.attested.ai.plugins.module_utils.vault.engines import check_path
from ansible_collections.attested.ai.plugins.plugin_utils.key_source import KekSource
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK
from softkbs import jwt

USE = (("transit/keys/+", "read"), ("transit/encrypt/+", "update"), ("transit/decrypt/+", "update"))


# -- Ansible Vault -----------------------------------------------------------------------------------------------------


def test_a_vaulted_key_is_decrypted_in_memory_and_may_lie_open(tmp_path):
    kek, jwk = new_kek()
    path = tmp_path / "kek.jwk"
    path.write_bytes(VaultLib([("default", VaultSecret(b"password"))]).encrypt(jwk.decode()))
    path.chmod(0o644)
    before = set(tmp_path.rglob("*"))
    assert KekSource(bao_lab.Action(("default", b"password")), str(path)).load() == kek
    assert set(tmp_path.rglob("*")) == before
    for action in (bao_lab.Action(("default", b"other")), bao_lab.Action()):
        assert bao_lab.code_of(KekSource(action, str(path)).load) == "kek-vaulted"
    path.write_bytes(VaultLib([("default", VaultSecret(b"password"))]).encrypt("no key"))
    assert bao_lab.code_of(KekSource(bao_lab.Action(("default", b"password")), str(path)).load) == "kek-form"
    path.write_bytes(jwk)
    assert bao_lab.code_of(KekSource(bao_lab.Action(), str(path)).load) == "secret-mode"
    os.mkfifo(tmp_path / "fifo", 0o600)
    assert bao_lab.code_of(KekSource(bao_lab.Action(), str(tmp_path / "fifo")).load) == "secret-kind"
    assert bao_lab.code_of(KekSource(bao_lab.Action(), str(tmp_path / "none")).load) == "secret-missing"


# -- KV ----------------------------------------------------------------------------------------------------------------


def test_a_key_in_kv_is_made_read_and_pinned_by_version(bao):
    source = bao_lab.kv(bao, "models/kek-1")
    assert not source.exists()
    made = source.create()
    assert source.exists() and source.load() == made
    assert bao_lab.code_of(source.create) == "vault-cas"
    other, jwk = new_kek()
    bao.call("POST", "secret/data/models/kek-1", {"data": {"kek": jwk.decode()}})
    assert source.load() == other and bao_lab.kv(bao, "models/kek-1", version=1).load() == made
    bao.call("DELETE", "secret/data/models/kek-1")
    assert bao_lab.code_of(source.load) == "vault-deleted"
    assert bao_lab.code_of(source.exists) == "vault-deleted", "a deleted key is no reason to make another"
    bao.call("POST", "secret/data/models/odd", {"data": {"kek": 5, "raw": base64.b64encode(bytes(32)).decode()}})
    assert bao_lab.code_of(bao_lab.kv(bao, "models/odd").load) == "kek-form"
    assert bao_lab.kv(bao, "models/odd", field="raw").load().key == bytes(32)
    assert bao_lab.code_of(bao_lab.kv(bao, "models/none").load) == "vault-missing"
    assert bao_lab.code_of(bao_lab.kv(bao, "models/none", mount="nowhere").load) == "vault-mount"


def test_what_a_token_may_not_do_is_told_apart_from_a_token_that_is_none(bao):
    bao_lab.kv(bao, "models/kek-2").create()
    may_read = bao.token(("secret/data/models/*", "read"))
    assert bao_lab.kv(bao, "models/kek-2", may_read).load()
    assert bao_lab.code_of(bao_lab.kv(bao, "models/kek-3", may_read).create) == "vault-denied"
    assert bao_lab.code_of(bao_lab.kv(bao, "other/kek", may_read).load) == "vault-denied"
    bao.call("POST", "auth/token/revoke", {"token": may_read})
    assert bao_lab.code_of(bao_lab.kv(bao, "models/kek-2", may_read).load) == "vault-token"
    assert bao_lab.code_of(bao_lab.kv(bao, "models/kek-2", "s.neverissued").load) == "vault-token"


def test_a_role_logs_in_with_a_secret_id(bao):
    bao_lab.kv(bao, "models/kek-4").create()
    bao.call("POST", "sys/policies/acl/reads", {"policy": 'path "secret/data/models/*" { capabilities=["read"] }'})
    bao.call("POST", "auth/approle/role/release", {"token_policies": "reads", "token_ttl": "60s"})
    role = bao.call("GET", "auth/approle/role/release/role-id")["data"]["role_id"]
    secret = bao.call("POST", "auth/approle/role/release/secret-id", {})["data"]["secret_id"]

    def server(secret_id):
        found = bao.server(role_id=role, secret_id_file=bao.secret(secret_id, "secret-id"))
        del found["token_file"]
        return found

    assert bao_lab.kv(bao, "models/kek-4", server=server(secret)).load()
    assert bao_lab.code_of(bao_lab.kv(bao, "models/kek-4", server=server("00000000-0000-0000-0000-000000000000")).load) == "vault-login"


def test_a_workload_logs_in_with_a_token_of_its_own_issuer(bao):
    bao_lab.kv(bao, "models/kek-5").create()
    key = ec.generate_private_key(ec.SECP256R1())
    bao.call("POST", "sys/policies/acl/reads", {"policy": 'path "secret/data/models/*" { capabilities=["read"] }'})
    bao.call("POST", "auth/jwt/config", {"jwt_validation_pubkeys": [kbs_lab.public_pem(key).decode()]})
    bao.call("POST", "auth/jwt/role/release", {"role_type": "jwt", "user_claim": "sub", "bound_audiences": ["vault"], "token_policies": ["reads"]})

    def source(audience="vault", life=300, role="release"):
        claims = {"sub": "awx", "aud": audience, "iat": int(time.time()) - 600, "exp": int(time.time()) + life}
        server = bao.server(auth_role=role, jwt_file=bao.secret(jwt.sign_es256({"alg": "ES256", "typ": "JWT"}, claims, key), "jwt"))
        del server["token_file"]
        return bao_lab.kv(bao, "models/kek-5", server=server)

    assert source().load()
    for bad in (source("other"), source(life=-500), source(role="nobody")):
        assert bao_lab.code_of(bad.load) == "vault-login"


def test_a_namespace_is_a_vault_of_its_own(bao):
    bao.call("POST", "sys/namespaces/team", {})
    bao.call("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}}, namespace="team")
    bao_lab._wait(lambda: bao.call("POST", "secret/data/ready", {"data": {}}, namespace="team"))
    inside = bao_lab.kv(bao, "models/kek-6", server=bao.server(namespace="team"))
    made = inside.create()
    assert inside.load() == made and not bao_lab.kv(bao, "models/kek-6").exists()
    assert bao_lab.code_of(bao_lab.kv(bao, "models/kek-6", server=bao.server(namespace="nowhere")).load).startswith("vault-")


# -- Transit -----------------------------------------------------------------------------------------------------------


def test_a_key_of_transit_wraps_as_jose_says(bao):
    bao.call("POST", "transit/keys/open", {"exportable": True})
    token = bao.token(*USE)
    kek = bao_lab.transit(bao, "open", token).load()
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
    old = bao_lab.transit(bao, "turns").load()
    sealed = jwe.wrap_general(b"x" * 32, [old.recipient()])
    bao.call("POST", "transit/keys/turns/rotate", {})
    new = bao_lab.transit(bao, "turns").load()
    assert new.kid.endswith(":v2") and jwe.unwrap_general(sealed, new.key) == b"x" * 32
    both = jwe.rewrap_general(sealed, new.key, [new.recipient()], [])
    only = jwe.rewrap_general(both, new.key, [], [old.kid])
    assert both["ciphertext"] == only["ciphertext"] == sealed["ciphertext"]
    assert [entry["kid"] for entry in jwe.recipients_of(only)] == [new.kid]
    bao.call("POST", "transit/keys/turns/config", {"min_decryption_version": 2})
    assert jwe.unwrap_general(only, new.key) == b"x" * 32
    assert bao_lab.code_of(lambda: jwe.unwrap_general(sealed, new.key)) == "vault-version-withdrawn"


def test_what_transit_cannot_open_or_is_not_asked(bao):
    for name, body in (("one", {}), ("two", {}), ("signs", {"type": "ed25519"}), ("derives", {"derived": True})):
        bao.call("POST", f"transit/keys/{name}", body)
    one, two = bao_lab.transit(bao, "one").load(), bao_lab.transit(bao, "two").load()
    sealed = jwe.wrap_general(b"x" * 32, [one.recipient()])
    assert bao_lab.code_of(lambda: jwe.unwrap_general(sealed, two.key)) == "jwe-recipient"
    renamed = json.loads(json.dumps(sealed).replace("transit/one", "transit/two"))
    assert bao_lab.code_of(lambda: jwe.unwrap_general(renamed, two.key)) == "jwe-wrong-key"
    future = json.loads(json.dumps(sealed).replace(":v1", ":v7"))
    assert bao_lab.code_of(lambda: jwe.unwrap_general(future, one.key)) == "vault-wrong-key"
    for name in ("signs", "derives"):
        assert bao_lab.code_of(lambda name=name: bao_lab.transit(bao, name).load().kid) == "vault-key-type"
    # A name that is mistyped makes no key, although this token could.
    assert bao_lab.code_of(lambda: bao_lab.transit(bao, "mistyped").load().recipient()) == "vault-missing"
    assert bao_lab.code_of(lambda: bao_lab.transit(bao, "mistyped").load().recipient()) == "vault-missing"
    unwraps = bao.token(("transit/decrypt/one", "update"))
    assert jwe.unwrap_general(sealed, bao_lab.transit(bao, "one", unwraps).load().key) == b"x" * 32
    assert bao_lab.code_of(lambda: bao_lab.transit(bao, "one", unwraps).load().kid) == "vault-denied"
    assert bao_lab.code_of(bao_lab.transit(bao, "one").create) == "kek-create"


# -- Faults ------------------------------------------------------------------------------------------------------------


def test_a_vault_that_is_sealed_slow_elsewhere_or_somebody_else(soft_bao, tmp_path):
    bao_lab.kv(soft_bao, "k").create()
    soft_bao.seal()
    assert bao_lab.code_of(bao_lab.kv(soft_bao, "k").load) == "vault-sealed"
    soft_bao.unseal()
    soft_bao.soft.delay = 1.5
    assert bao_lab.code_of(bao_lab.kv(soft_bao, "k", server=soft_bao.server(timeout=1)).load) == "vault-slow"
    soft_bao.soft.delay = 0
    for status, code in ((500, "vault-foreign"), (302, "vault-redirect"), (429, "vault-unavailable"), (200, "vault-answer")):
        soft_bao.soft.status = status
        assert bao_lab.code_of(bao_lab.kv(soft_bao, "k").load) == code, status
    soft_bao.soft.status = 0
    assert bao_lab.code_of(bao_lab.kv(soft_bao, "k", server=soft_bao.server(pins=["sha256:" + "00" * 32])).load) == "vault-pin"
    assert not [path for _method, path in soft_bao.soft.seen[-1:] if "lookup" in path]
    (tmp_path / "other.pem").write_text(kbs_lab.Authority().pem)
    assert bao_lab.code_of(bao_lab.kv(soft_bao, "k", server=soft_bao.server(ca_path=str(tmp_path / "other.pem"))).load) == "vault-tls-trust"
    assert bao_lab.code_of(bao_lab.kv(soft_bao, "k", server=soft_bao.server(server_name="vault.example.org")).load) == "vault-tls-name"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = f"https://127.0.0.1:{probe.getsockname()[1]}"
    assert bao_lab.code_of(bao_lab.kv(soft_bao, "k", server=soft_bao.server(url=nobody)).load) == "vault-unreachable"


@pytest.mark.parametrize(("changes", "code"), [
    ({"url": "http://vault.example.org:8200", "ca_path": None}, "vault-url"), ({"url": "https://u:p@vault.example.org"}, "vault-url"),
    ({"token_file": "/nonexistent"}, "secret-missing"), ({"token_file": None}, "vault-login"), ({"role_id": "r"}, "vault-login"),
    ({"timeout": 0}, "vault-options"), ({"attempts": True}, "vault-options"), ({"namespace": "a b"}, "vault-path"), ({"password": "x"}, "format"),
    ({"allow_http": "yes"}, "vault-options"), ({"pins": "sha256:x"}, "vault-pin"),
], ids=str)  # fmt: skip
def test_what_cannot_be_used_is_refused_before_anything_is_sent(soft_bao, changes, code):
    assert bao_lab.code_of(lambda: bao_lab.kv(soft_bao, "k", server=soft_bao.server(**changes))) == code
    assert soft_bao.soft.seen == []


def test_other_sources_and_credentials_are_refused(soft_bao, tmp_path):
    for value, code in (({"source": "vault"}, "kek-source"), (5, "kek-source"), ({"source": "vault_kv", "path": "x"}, "format"),
                        ({"source": "vault_transit", "key": "a", "path": "b", "server": soft_bao.server()}, "format")):  # fmt: skip
        assert bao_lab.code_of(lambda value=value: KekSource(bao_lab.Action(), value)) == code
    for bad in ("a//b", "../x", "a/../b", "a?b", "", "a b", "ü"):
        assert bao_lab.code_of(lambda bad=bad: bao_lab.kv(soft_bao, bad).load()) == "vault-path", bad
    open_file = tmp_path / "open"
    open_file.write_text("s.token")
    open_file.chmod(0o644)
    assert bao_lab.code_of(lambda: bao_lab.kv(soft_bao, "k", server=soft_bao.server(token_file=str(open_file)))) == "secret-mode"
    assert bao_lab.code_of(lambda: bao_lab.kv(soft_bao, "k", server=soft_bao.server(token_file=soft_bao.secret("two words")))) == "vault-credential"
    assert soft_bao.soft.seen == []


def test_neither_token_nor_key_shows_in_what_is_printed(soft_bao):
    source = bao_lab.kv(soft_bao, "k")
    made = source.create()
    texts = [repr(made), repr(source._server), source.name, repr(bao_lab.transit(soft_bao, "t").load())]
    for status in (500, 200):
        soft_bao.soft.status = status
        with pytest.raises(AttestedError) as caught:
            source.load()
        texts.append(str(caught.value))
    spellings = (soft_bao.root, made.key.hex(), strict.encode_base64url(made.key), repr(made.key))
    assert not [text for text in texts for spelling in spellings if spelling in text]


@given(st.text(max_size=40))
def test_no_path_leaves_its_place(text):
    try:
        found = check_path(text, "path")
    except AttestedError:
        return
    assert all(part not in ("", ".", "..") and not set(part) & set("?#%\\ ") for part in found.split("/"))


def test_a_version_that_is_no_number_is_refused(soft_bao):
    assert bao_lab.code_of(bao_lab.kv(soft_bao, "k", version="latest").load) == "kek-source"
