# SPDX-License-Identifier: GPL-3.0-or-later
"""Several keys for one secret: one that stays elsewhere, and who may open it changing."""

from __future__ import annotations

import copy
import os

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.formats.strict import encode_base64url as b64
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwe
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwe_keys import Failed, RemoteKey
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class Elsewhere(RemoteKey):
    """A key that a service has, without the service."""

    kid = "there:v1"

    def __init__(self):
        self._key, self.asked = AESGCM(os.urandom(32)), []

    def fits(self, kid):
        return kid.startswith("there:v")

    def wrap(self, cek):
        nonce = os.urandom(12)
        sealed = self._key.encrypt(nonce, cek, None)
        return sealed[:-16], nonce, sealed[-16:]

    def unwrap(self, kid, encrypted_key, nonce, tag):
        self.asked.append(kid)
        try:
            return self._key.decrypt(nonce, encrypted_key + tag, None)
        except InvalidTag:
            raise Failed("it was changed") from None


def test_a_key_that_stays_elsewhere_is_asked_for_its_own_recipients_only():
    remote, local = Elsewhere(), os.urandom(32)
    sealed = jwe.wrap_general(b"secret", [jwe.Recipient("here", jwe.A256KW, local), jwe.Recipient(remote.kid, jwe.A256GCMKW, remote)])
    assert jwe.unwrap_general(sealed, remote) == b"secret" == jwe.unwrap_general(sealed, local) and remote.asked == ["there:v1"]
    place = sealed["recipients"][1]["header"]
    for change in ({"iv": None}, {"tag": None}, {"epk": {}}, {"iv": b64(bytes(11))}, {"tag": b64(bytes(12))}, {"alg": "A256KW"}, {"alg": "A128GCMKW"}):
        bad = copy.deepcopy(sealed)
        bad["recipients"][1]["header"] = {name: value for name, value in {**place, **change}.items() if value is not None}
        with pytest.raises(AttestedError):
            jwe.unwrap_general(bad, remote)
    bad = copy.deepcopy(sealed)
    bad["recipients"][0]["header"]["iv"] = place["iv"]
    with pytest.raises(KeyReleaseError, match="goes with"):
        jwe.unwrap_general(bad, local)
    assert remote.asked == ["there:v1"]
    bad = copy.deepcopy(sealed)
    bad["recipients"][1]["header"]["tag"] = b64(bytes(16))
    with pytest.raises(KeyReleaseError, match="does not open"):
        jwe.unwrap_general(bad, remote)


def test_recipients_change_and_what_they_open_does_not():
    one, two, three = (jwe.Recipient(kid, jwe.A256KW, os.urandom(32)) for kid in ("one", "two", "three"))
    sealed = jwe.wrap_general(b"secret", [one, two])
    changed = jwe.rewrap_general(sealed, one.key, [three], ["one"])
    assert [entry["kid"] for entry in jwe.recipients_of(changed)] == ["two", "three"]
    # Who stayed was not asked, and is wrapped as before.
    assert changed["recipients"][0] == sealed["recipients"][1] and {**changed, "recipients": 0} == {**sealed, "recipients": 0}
    assert jwe.unwrap_general(changed, three.key, "three") == jwe.unwrap_general(changed, two.key, "two") == b"secret"
    for add, remove in (([], ["one", "two"]), ([three, three], [])):
        with pytest.raises(KeyReleaseError, match="recipients"):
            jwe.rewrap_general(sealed, one.key, add, remove)
    with pytest.raises(KeyReleaseError):
        jwe.rewrap_general(sealed, three.key, [three], [])
    # A content key that opens nothing is not passed on.
    with pytest.raises(KeyReleaseError, match="does not open"):
        jwe.rewrap_general(dict(sealed, tag=b64(bytes(16))), one.key, [three], [])
