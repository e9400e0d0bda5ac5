# SPDX-License-Identifier: GPL-3.0-or-later
"""Files for KServe: what jwcrypto, which is not ours, makes of them."""

from __future__ import annotations

import json

import pytest
from jwcrypto import jwe as peer
from jwcrypto import jwk

from ansible_collections.attested.ai.plugins.module_utils.errors import ModelError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import kserve
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.plan import unwrap_dek
from ansible_collections.attested.ai.tests.unit.sealedmodel.conftest import FILES


def test_another_library_reads_them(run, keys, tmp_path, monkeypatch):
    monkeypatch.setattr(kserve, "_CHUNK", 3 * 1000)
    _plan, manifest = run(profile="kserve")
    key = jwk.JWK(kty="oct", k=strict.encode_base64url(bytes(unwrap_dek(manifest.dek, keys.kek))))
    for path, content in FILES.items():
        text = (tmp_path / "sealed" / f"{path}.jwe").read_text("ascii")
        read = peer.JWE()
        if content:
            read.deserialize(text, key)
            assert read.payload == content
        else:
            # jwcrypto takes an empty content for none at all; its log says that the tag held.
            with pytest.raises(peer.InvalidJWEData, match="Success"):
                read.deserialize(text, key)
        assert json.loads(strict.decode_base64url(text.split(".")[0], "header", 1, 99)) == {"alg": "A256KW", "enc": "A256GCM"}
        assert len(text) == next(entry.ciphertext_size for entry in manifest.files if entry.path == path) and "=" not in text
    assert manifest.ciphertexts.keys() == {f"{path}.jwe" for path in FILES}
    assert not run(profile="kserve")[0].changed and not run(profile="kserve", verify="content")[0].changed


def test_damage_is_found(run, tmp_path):
    run(profile="kserve")
    path = tmp_path / "sealed" / "config.json.jwe"
    text = path.read_text()
    path.write_text(text[:-2] + ("A" if text[-2] != "A" else "B") + text[-1])
    with pytest.raises(ModelError, match="config.json differs"):
        run(profile="kserve", verify="content")
    path.write_text(text[:-1])
    assert "missing or damaged" in run(profile="kserve")[0].reason


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4096])
def test_sizes(size):
    assert kserve.jwe_size(size) == kserve.jwe_size(0) + -(-size * 4 // 3)
    with pytest.raises(ModelError, match="4 GiB"):
        kserve.jwe_size((4 << 30) + 1)
