# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes from outside with encrypted images: requests of ocicrypt, packets, manifests and policies."""

from __future__ import annotations

import json

from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt import layout, packet, provider, reference, signature_policy, verify
from harness import Target

KEY = bytes(32)
KID = "kbs:///default/key/test"
OPTIONS = json.dumps({
    "symkey": strict.encode_base64(bytes(32)), "digest": "sha256:" + "0" * 64, "cipheroptions": {"nonce": strict.encode_base64(bytes(16))},
}).encode()  # fmt: skip


def _request(op: str, **parts: object) -> bytes:
    return json.dumps({"op": op, **parts}).encode()


def request_seeds() -> list[bytes]:
    parameter = {"Parameters": {packet.PROVIDER: [strict.encode_base64(f"keypath=/k::keyid={KID}".encode())]}}
    annotation = strict.encode_base64(packet.seal(KEY, KID, OPTIONS).to_bytes())
    return [
        _request("keywrap", keywrapparams={"ec": parameter, "optsdata": strict.encode_base64(OPTIONS)}, keyunwrapparams={"dc": None, "annotation": None}),
        _request("keyunwrap", keywrapparams={"ec": None, "optsdata": None}, keyunwrapparams={"dc": parameter, "annotation": annotation}),
    ]


def manifest_seeds() -> list[bytes]:
    public = json.dumps({"cipher": verify.CIPHER, "hmac": strict.encode_base64(bytes(32)), "cipheroptions": {}}).encode()
    annotations = {packet.ANNOTATION: strict.encode_base64(packet.seal(KEY, KID, OPTIONS).to_bytes()), verify.PUBLIC_OPTIONS: strict.encode_base64(public)}
    described = {"mediaType": verify.SECRET[0], "digest": "sha256:" + "1" * 64, "size": 5, "annotations": annotations}
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:" + "2" * 64, "size": 5}
    one = {"schemaVersion": 2, "mediaType": layout.OCI_MANIFEST, "config": config, "layers": [described]}
    entry = {"mediaType": layout.OCI_MANIFEST, "digest": "sha256:" + "3" * 64, "size": 5, "platform": {"os": "linux", "architecture": "amd64"}}
    return [json.dumps(document).encode() for document in (one, {"schemaVersion": 2, "mediaType": layout.OCI_INDEX, "manifests": [entry]})]


def manifest(data: bytes) -> object:
    if layout.is_list(layout.parse(data, "image")):
        return layout.choose(data, "amd64", "image")
    return verify.layer_keys(layout.image(data, "image"), KEY, KID, "image")


def policy_seeds() -> list[bytes]:
    entries = [
        {"scope": "registry.example.org/inference:1", "key": "kbs:///default/cosign/prod"},
        {"scope": "*.example.org", "key": "default/gpg/prod", "kind": "gpg", "identity": "docker.io/library/x"},
    ]
    return [json.dumps(entries).encode(), json.dumps(signature_policy.generate(entries)).encode()]


def policy(data: bytes) -> object:
    value = strict.loads(data)
    return signature_policy.generate(value) if isinstance(value, list) else signature_policy.keys(signature_policy.check(value))


TARGETS = {
    "ocicrypt-request": Target(request_seeds, lambda data: provider.answer(data, lambda _path: KEY)),
    "ocicrypt-packet": Target(lambda: [packet.seal(KEY, KID, OPTIONS).to_bytes()], lambda data: packet.Packet.parse(data).open(KEY)),
    "ocicrypt-manifest": Target(manifest_seeds, manifest),
    "image-reference": Target(lambda: [b"docker://registry.example.org:5000/a/b:1", b"oci:folder:1"],
                              lambda data: reference.parse(data.decode("latin-1"), "src", lambda path: path)),
    "image-policy": Target(policy_seeds, policy),
}  # fmt: skip
