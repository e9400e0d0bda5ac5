# SPDX-License-Identifier: GPL-3.0-or-later
"""Descriptions for tests of inference pods, and what goes with them. Keys are made here, and mean nothing."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from ansible_collections.attested.ai.plugins.module_utils.kbs import initdata, sealed
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

DIGEST = "sha256:" + "ab" * 32
IMAGE = f"registry.example.com/ai/vllm@{DIGEST}"
OPENER = f"registry.example.com/ai/opener@sha256:{'cd' * 32}"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
KEY = ec.generate_private_key(ec.SECP256R1())
# The pod of the article that this collection began with.
SEED: dict[str, Any] = {
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "confidential-inference"},
    "spec": {
        "runtimeClassName": "kata-cc",
        "containers": [{
            "name": "inference", "image": "registry.example.com/ai-model:v1", "resources": {"limits": {"nvidia.com/gpu": 1}},
            "env": [{"name": "NVIDIA_CC_MODE", "value": "on"}],
            "volumeMounts": [{"name": "encrypted-model", "mountPath": "/models", "readOnly": True}],
        }],
        "volumes": [{"name": "encrypted-model", "csi": {"driver": "secrets-store.csi.k8s.io", "readOnly": True,
                                                        "volumeAttributes": {"secretProviderClass": "model-keys"}}}],
    },
}  # fmt: skip


def policy(*images: str) -> str:
    """As genpolicy writes one: rules, then the data as JSON."""
    containers = [{"OCI": {"Annotations": {"io.kubernetes.cri.image-name": image}}} for image in images]
    return "package agent_policy\n\ndefault CreateContainerRequest := false\ndefault ExecProcessRequest := false\n\npolicy_data := " + json.dumps(
        {"containers": containers}
    )


def document(*images: str, url: str = "https://kbs.example.org:8080", **more: Any) -> str:
    parts = initdata.for_kbs(url, CERTIFICATE, "kbs:///default/security-policy/prod", allow_http=True)
    parts["policy.rego"] = policy(*(images or (IMAGE,)))
    for name, value in more.items():
        parts[name.replace("_", ".", 1)] = value
    return initdata.render({name: value for name, value in parts.items() if value is not None}, "sha256").toml


def described(**change: Any) -> dict[str, Any]:
    """A description that nothing stands against. ``change`` replaces members; None takes one away."""
    found: dict[str, Any] = {
        "name": "llama", "namespace": "inference", "tee": "snp", "server": "vllm", "image": IMAGE, "image_size": "20Gi",
        "model": {"source": "layers", "path": "/models/llama", "keys": ["kbs:///default/key/model-7"]},
        "cpus": 16, "memory": "48Gi", "initdata": document(),
        "tls": {"certificate": CERTIFICATE, "key": "kbs:///default/tls/llama"},
        "network": {"from": [{"namespace": {"kubernetes.io/metadata.name": "gateway"}}], "to": [{"cidr": "192.0.2.0/24", "ports": [443, 8080]}]},
    }  # fmt: skip
    found.update(change)
    return {name: value for name, value in found.items() if value is not None}


def ciphertext(**change: Any) -> dict[str, Any]:
    found = {"source": "ciphertext", "path": "/models/llama", "url": "https://models.example.org/llama/7", "keys": ["kbs:///default/key/model-7"],
             "size": "16Gi", "opener": {"image": OPENER, "args": ["--minimum-release", "7"]}}  # fmt: skip
    found.update(change)
    return found


def seal(resource: str) -> str:
    return sealed.seal(sealed.vault(resource), KEY, "kbs:///default/signing-key/sealed-secret")


def key_file(folder: Path) -> str:
    path = folder / "sealed.pem"
    path.write_bytes(
        KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    path.chmod(0o600)
    return str(path)


def decoded(secret: dict[str, Any]) -> dict[str, str]:
    return {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}
