# SPDX-License-Identifier: GPL-3.0-or-later
"""What others' libraries make of encrypted models: OpenSSF Model Signing, JWE by joserfc, presigned addresses by botocore."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives import serialization

from ansible_collections.attested.ai.plugins.filter.s3_presigned import FilterModule
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import keysource, signingkey
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.encrypt import encrypt
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.plan import Keys, Request, make_plan, unwrap_dek
from ansible_collections.attested.ai.plugins.plugin_utils import openssf_signature

s3_presigned = FilterModule().filters()["s3_presigned"]
# An example of AWS's documentation.
KEY = {"access_key": "AKIAIOSFODNN7" + "EXAMPLE", "secret_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCY" + "EXAMPLEKEY"}
FILES = {"config.json": b"{}", "empty": b"", ".gitattributes": b"*.bin filter=lfs\n", "weights/a.bin": bytes(range(256)) * 100}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("formats")
    for name, data in FILES.items():
        (root / "plain" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "plain" / name).write_bytes(data)
    return root, Keys(keysource.create_kek(str(root / "kek.jwk")), signingkey.create_signing_key(str(root / "signer.pem")))


def sealed(made, profile, finish=None):
    root, keys = made
    plan = make_plan(Request(str(root / "plain"), str(root / profile), "peers", 1, profile=profile), keys)
    return encrypt(plan, keys, "2026-01-31T12:00:00Z", finish=finish)


def test_joserfc_reads_what_kserve_gets(made):
    jwe = pytest.importorskip("joserfc.jwe")
    jwk = pytest.importorskip("joserfc.jwk")
    manifest = sealed(made, "kserve")
    key = jwk.OctKey.import_key(bytes(unwrap_dek(manifest.dek, made[1].kek)))
    for path, content in FILES.items():
        text = (made[0] / "kserve" / f"{path}.jwe").read_text("ascii")
        assert jwe.decrypt_compact(text, key, algorithms=["A256KW", "A256GCM"]).plaintext == content


@pytest.mark.parametrize("profile", ["files", "image"])
def test_model_signing_verifies_and_finds_every_change(made, profile):
    pytest.importorskip("model_signing")
    root, keys = made
    sealed(made, profile, lambda directory: openssf_signature.sign(directory, str(root / "signer.pem")))
    directory, public = root / profile, root / "signer.pub"
    public.write_bytes(keys.signer.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(directory), "--signature", str(directory / "model.sig"), "--public_key", str(public)]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    bundle = json.loads((directory / "model.sig").read_text())
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    there = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    assert {resource["name"] for resource in statement["predicate"]["resources"]} == there - {"model.sig"}
    for content in (False, True):
        assert openssf_signature.problem(str(directory), str(root / "signer.pem"), content) == ""
    victim = next(path for path in sorted(directory.rglob("*")) if path.suffix in (".tink", ".img"))
    data = victim.read_bytes()
    victim.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert subprocess.run(command, check=False, capture_output=True).returncode != 0
    assert "does not verify" in openssf_signature.problem(str(directory), str(root / "signer.pem"), True)
    victim.write_bytes(data)
    (directory / "more").write_bytes(b"")
    assert openssf_signature.problem(str(directory), str(root / "signer.pem"), False) == "model.sig is over other files"
    os.unlink(directory / "more")
    (directory / "model.sig").write_text("{}")
    assert "cannot be read" in openssf_signature.problem(str(directory), str(root / "signer.pem"), False)


@pytest.mark.parametrize("options", [
    {"region": "eu-central-1"}, {"endpoint": "https://s3.example.org:9000", "path_style": True}, {"session_token": "a+token/with=signs"},
    {"region": "eu-central-1", "path_style": True, "prefix": "models/m-1/"},
])  # fmt: skip
@pytest.mark.parametrize("name", ["config.json.tink", "weights/a b+%~caf\u00e9.bin.tink"])
def test_botocore_says_the_same(options, name):
    auth, awsrequest, credentials = (pytest.importorskip(f"botocore.{name}") for name in ("auth", "awsrequest", "credentials"))
    made = s3_presigned([name], bucket="models", **KEY, **options)[name]
    base, _mark, query = made.partition("?")
    request = awsrequest.AWSRequest("GET", base, headers={})
    given = credentials.Credentials(KEY["access_key"], KEY["secret_key"], options.get("session_token"))
    signer = auth.S3SigV4QueryAuth(given, "s3", options.get("region", "us-east-1"), expires=3600)
    at = dict(part.split("=") for part in query.split("&"))["X-Amz-Date"]
    request.context["timestamp"] = at
    signer._modify_request_before_signing(request)
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    assert made.endswith("X-Amz-Signature=" + signature)
