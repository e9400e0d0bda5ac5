# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole way, as the guide has it: the KBS gets the key, skopeo the image, and a guest opens with what the KBS gives out after attestation."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import images_lab
import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt import packet, verify
from ansible_collections.attested.ai.plugins.plugin_utils.skopeo import Skopeo

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kbs"))

import kbs_lab  # noqa: E402


@pytest.mark.parametrize("kind", ["soft", "trustee"])
def test_from_the_key_to_the_open_layer(tmp_path: Path, skopeo: Skopeo, kind: str):
    if kind == "trustee" and not kbs_lab.REAL:
        pytest.skip("no real KBS: TRUSTEE_KBS names neither a binary nor an address")
    (tmp_path / "kbs").mkdir()
    with kbs_lab.real_peer(tmp_path / "kbs") if kind == "trustee" else kbs_lab.soft_peer(tmp_path / "kbs") as peer:
        kbs_lab.secret(tmp_path / "admin.pem", kbs_lab.private_pem(peer.admin_key))
        (tmp_path / "ca.pem").write_text(peer.ca)
        (tmp_path / "cosign.pub").write_bytes(kbs_lab.public_pem(kbs_lab.ec.generate_private_key(kbs_lab.ec.SECP256R1())))
        images_lab.plain(tmp_path / "plain")
        images = [{"scope": "registry.example.org/inference", "key": "kbs:///default/cosign-public-key/inference"}]
        stored = {
            "url": [peer.url], "ca_path": "ca.pem", "admin_key": "admin.pem", "issuer": peer.issuer, "audience": peer.audience, "state_path": "state/kbs.json",
            "resources": [
                {"path": "default/key/inference-1", "key_file": "secrets/inference-1.key", "create": True},
                {"path": "default/cosign-public-key/inference", "src": str(tmp_path / "cosign.pub")},
                {"path": "default/security-policy/inference", "content": "{{ %s | attested.ai.image_security_policy | to_json }}" % json.dumps(images)},
            ],
        }  # fmt: skip
        sealed = {"src": "oci:plain:1", "dest": "oci:encrypted:1", "key": "kbs:///default/key/inference-1", "key_file": "secrets/inference-1.key",
                  "skopeo": skopeo.path}  # fmt: skip
        text, told = images_lab.playbook(tmp_path, ("kbs_resource", stored), ("image_encrypt", sealed), ("kbs_resource", stored), ("image_encrypt", sealed))
        assert [one["changed"] for one in told] == [True, True, False, False], text
        peer.admin().set_resource_policy(kbs_lab.ALLOW)
        guest = peer.guest()
        guest.attest("sample", kbs_lab.sample)
        # What a guest does: it reads the packet, asks for the resource that it names, and opens.
        image = images_lab.inspect(tmp_path / "encrypted")
        kid = packet.Packet.parse(images_lab.base64.b64decode(image.layers[0].annotations[packet.ANNOTATION])).kid
        key = guest.resource(kid)
        assert len(key) == packet.KEY_SIZE and key == (tmp_path / "secrets" / "inference-1.key").read_bytes()
        keys = verify.layer_keys(image, key, kid, "guest")
        verify.check_content(str(tmp_path / "encrypted"), image, keys)
        assert [one.digest for one in keys] == [layer.digest for layer in images_lab.inspect(tmp_path / "plain").layers]
        policy = json.loads(guest.resource("default/security-policy/inference"))
        assert policy["default"] == [{"type": "reject"}] and list(policy["transports"]["docker"]) == ["registry.example.org/inference"]
        assert guest.resource("default/cosign-public-key/inference") == (tmp_path / "cosign.pub").read_bytes()
        peer.admin().set_resource_policy(kbs_lab.DENY)
        with pytest.raises(AttestedError):
            guest.resource(kid)
