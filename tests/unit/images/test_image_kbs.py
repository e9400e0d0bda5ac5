# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole way, as the guide has it: the KBS gets the key, skopeo the image, and a guest opens with what the KBS gives out after attestation."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import images_lab
import pytest
import yaml
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt import packet, verify
from ansible_collections.attested.ai.plugins.plugin_utils.skopeo import Skopeo

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kbs"))

import kbs_lab  # noqa: E402

pytestmark = pytest.mark.costly


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


INIT_DATA = """version = "0.1.0"
algorithm = "sha256"

[data]
"cdh.toml" = '''
[kbc]
name = "cc_kbc"
url = "https://kbs.example.org:8080"
'''
"""


def test_the_play_of_the_guide(tmp_path: Path, skopeo: Skopeo, registry: images_lab.Registry):
    """As it stands in docs/encrypted-images.md. Only addresses, and where skopeo is, are exchanged."""
    guide = (images_lab.REPO / "docs" / "encrypted-images.md").read_text(encoding="utf-8")
    text = next(block for block in re.findall(r"^```yaml\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL) if block.startswith("- name: Publish a server"))
    with kbs_lab.soft_peer(tmp_path) as peer:
        (tmp_path / "secrets").mkdir(mode=0o700)
        kbs_lab.secret(tmp_path / "secrets" / "kbs-admin.pem", kbs_lab.private_pem(peer.admin_key))
        (tmp_path / "kbs-ca.pem").write_text(peer.ca)
        (tmp_path / "cosign.pub").write_bytes(kbs_lab.public_pem(kbs_lab.ec.generate_private_key(kbs_lab.ec.SECP256R1())))
        (tmp_path / "initdata.toml").write_text(INIT_DATA)
        (tmp_path / "models" / "minilm").mkdir(parents=True)
        (tmp_path / "models" / "minilm" / "model.safetensors").write_bytes(b"weights" * 1000)
        images_lab.plain(tmp_path / "images" / "server", "1.4")
        text = text.replace("https://kbs.example.org:8080", peer.url).replace("registry.example.org", registry.host)
        (play,) = yaml.safe_load(text)
        play["module_defaults"]["attested.ai.image_encrypt"] = {"skopeo": skopeo.path, "tls_verify": False}
        (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
        # First in check mode, where there is neither a key nor an image of the model yet.
        done = images_lab.run_playbook(tmp_path, tmp_path / "play.yml", "--check", "--diff")
        assert done.returncode == 0 and "changed=4 " in done.stdout and "there is no key" in done.stdout, done.stdout
        assert not registry.manifests and not (tmp_path / "images" / "inference").exists() and not (tmp_path / "secrets" / "inference-1.key").exists()
        for changed in (4, 0):
            done = images_lab.run_playbook(tmp_path, tmp_path / "play.yml")
            assert done.returncode == 0 and f"changed={changed} " in done.stdout, done.stdout
        guest = peer.guest()
        guest.attest("sample", kbs_lab.with_init_data(INIT_DATA))
        # Of software, to which the grant gives nothing.
        with pytest.raises(AttestedError):
            guest.resource("default/key/inference-1")
    image = images_lab.layout.image(registry.manifests["inference", "1"], "registry")
    keys = verify.layer_keys(image, (tmp_path / "secrets" / "inference-1.key").read_bytes(), "kbs:///default/key/inference-1", "registry")
    assert len(keys) == 3
