# SPDX-License-Identifier: GPL-3.0-or-later
"""Images through a real skopeo: encrypted, opened again, refused, mended, and nothing called encrypted that is not."""

from __future__ import annotations

import base64
import dataclasses
import fcntl
import json
import os
import subprocess
from pathlib import Path

import images_lab
import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.attested.ai.plugins.action.image_encrypt import ActionModule
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt import layout, packet, store
from ansible_collections.attested.ai.plugins.plugin_utils.image_task import Request, carry_out, make_plan
from ansible_collections.attested.ai.plugins.plugin_utils.skopeo import Skopeo

KID = images_lab.KID


class Lab:
    """A plain image, a key, and runs of the task's core."""

    def __init__(self, folder: Path, skopeo: Skopeo) -> None:
        self.folder, self.skopeo = folder, skopeo
        self.key = os.urandom(32)
        self.plain = images_lab.plain(folder / "plain")
        self.dest = folder / "out" / "encrypted"

    def request(self, **changes: object) -> Request:
        given = {"source": f"oci:{self.plain}:1", "dest": f"oci:{self.dest}:1", "kid": KID, "key": self.key, **changes}
        given["source"], given["dest"] = images_lab.local(given["source"]), images_lab.local(given["dest"], written=True)
        return Request(**given)

    def run(self, skopeo: Skopeo | None = None, **changes: object) -> str:
        """What was done; raises as the task fails."""
        request, skopeo = self.request(**changes), skopeo or self.skopeo
        plan = make_plan(request, skopeo)
        if plan.changed:
            carry_out(request, plan, skopeo)
        return plan.reason if plan.changed else ""

    def refused(self, code: str, skopeo: Skopeo | None = None, **changes: object) -> str:
        with pytest.raises(AttestedError) as caught:
            self.run(skopeo, **changes)
        assert caught.value.code == code, str(caught.value)
        return str(caught.value)

    @property
    def image(self) -> layout.Image:
        return images_lab.inspect(self.dest)


@pytest.fixture
def lab(tmp_path: Path, skopeo: Skopeo) -> Lab:
    return Lab(tmp_path, skopeo)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_encrypted_once_and_opened_again_by_skopeo_with_the_right_key_only(lab: Lab):
    assert lab.run() == "there is no image at the destination"
    assert [layer.media_type for layer in lab.image.layers] == [
        "application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "application/vnd.oci.image.layer.v1.tar+encrypted",
    ]  # fmt: skip
    before = everything(lab.dest)
    assert not lab.run() and everything(lab.dest) == before
    assert b"the weights" not in b"".join(before.values()) and lab.key not in b"".join(before.values())
    # Nothing is left beside it.
    assert [path.name for path in lab.dest.parent.iterdir()] == ["encrypted"]

    key, other = images_lab.secret(lab.folder / "key", lab.key), images_lab.secret(lab.folder / "other", os.urandom(32))
    done = images_lab.by_hand(lab.skopeo, lab.folder, "copy", "--decryption-key", f"provider:{packet.PROVIDER}:keypath={key}",
                              "--dest-oci-accept-uncompressed-layers", f"oci:{lab.dest}:1", "oci:opened:1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    opened, plain = images_lab.inspect(lab.folder / "opened"), images_lab.inspect(lab.plain)
    assert [layer.digest for layer in opened.layers] == [layer.digest for layer in plain.layers] and opened.config.digest == plain.config.digest
    done = images_lab.by_hand(lab.skopeo, lab.folder, "copy", "--decryption-key", f"provider:{packet.PROVIDER}:keypath={other}", f"oci:{lab.dest}:1",
                              "oci:no:1")  # fmt: skip
    assert done.returncode != 0 and "this is not the key of kbs:///default/key/test" in done.stderr


def test_skopeo_by_hand_makes_what_the_task_takes_as_its_own_work_only_with_our_record(lab: Lab):
    key = images_lab.secret(lab.folder / "key", lab.key)
    lab.dest.parent.mkdir()
    done = images_lab.by_hand(lab.skopeo, lab.folder, "copy", "--dest-oci-accept-uncompressed-layers", "--encryption-key",
                              f"provider:{packet.PROVIDER}:keypath={key}::keyid={KID}", f"oci:{lab.plain}:1", f"oci:{lab.dest}:1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert lab.run() == "the source changed" and not lab.run()


@pytest.mark.skipif(not images_lab.COCO_PEER, reason="no program of CoCo's crates: ATTESTED_COCO_PEER names none")
def test_the_crates_of_a_guest_open_every_layer(lab: Lab):
    lab.run()
    key, other = images_lab.secret(lab.folder / "key", lab.key), images_lab.secret(lab.folder / "other", os.urandom(32))
    for number, layer in enumerate(lab.image.layers):
        descriptor, out = lab.folder / "descriptor.json", lab.folder / "out.bin"
        descriptor.write_text(json.dumps(lab.image.document["layers"][number]))
        command = [images_lab.COCO_PEER, str(key), str(descriptor), layout.blob_path(str(lab.dest), layer.digest), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        plain = images_lab.inspect(lab.plain).layers[number]
        assert done.stdout.split() == ["default/key/test", plain.digest], done.stderr
        assert layout.digest_of(out.read_bytes()) == plain.digest
        out.unlink()
        assert subprocess.run([command[0], str(other), *command[2:]], capture_output=True, check=False, timeout=60).returncode != 0
        images_lab.damage(lab.dest, layer.digest)
        assert subprocess.run(command, capture_output=True, check=False, timeout=60).returncode != 0


@pytest.mark.parametrize("number", [0, 1])
def test_a_tampered_layer_is_seen_and_made_anew(lab: Lab, number: int):
    lab.run()
    before = lab.image
    images_lab.damage(lab.dest, before.layers[number].digest)
    assert f"layer {number}: it was changed" in lab.run()
    assert lab.image.digest != before.digest and not lab.run()
    # What nobody needs any more is gone.
    assert not Path(layout.blob_path(str(lab.dest), before.layers[number].digest)).exists()


def test_a_missing_and_a_truncated_layer(lab: Lab):
    lab.run()
    path = Path(layout.blob_path(str(lab.dest), lab.image.layers[1].digest))
    path.write_bytes(path.read_bytes()[:-1])
    assert "damaged" in lab.run()
    Path(layout.blob_path(str(lab.dest), lab.image.layers[0].digest)).unlink()
    assert "damaged" in lab.run() and not lab.run()


def test_a_manifest_that_was_changed_is_no_record(lab: Lab):
    """Whoever writes to the destination cannot make it look like the result of another source, or drop a layer."""
    lab.run()
    for member, change in (("layers", list.pop), ("annotations", lambda found: found.update(x="y")), ("annotations", dict.clear)):
        document = json.loads(lab.image.raw)
        change(document[member])
        store.name(str(lab.dest), "1", json.dumps(document).encode())
        assert lab.run() == "the source changed" and not lab.run()


def test_a_blob_of_the_manifest_that_lies(lab: Lab):
    lab.run()
    images_lab.damage(lab.dest, lab.image.digest)
    assert "digest is another" in lab.refused("image-blob")
    assert "replaces" in lab.run(replace=True) and not lab.run()


def test_another_source_under_the_same_name(lab: Lab):
    lab.run()
    before = lab.image
    images_lab.plain(lab.plain, word=b"new weights")
    assert lab.run() == "the source changed" and lab.image.digest != before.digest
    # The configuration alone: layers that are the same, and a server that starts with other words.
    raw = json.loads(images_lab.inspect(lab.plain).raw)
    config = json.loads(layout.read_blob(str(lab.plain), raw["config"]["digest"]))
    config["config"]["Env"] = ["TAG=other"]
    raw["config"].update(images_lab.blob(lab.plain, json.dumps(config).encode()))
    store.name(str(lab.plain), "1", json.dumps(raw).encode())
    assert lab.run() == "the source changed" and not lab.run()


def test_a_key_that_was_lost_and_one_that_is_another(lab: Lab):
    lab.run()
    before = everything(lab.dest)
    text = lab.refused("image-wrong-key", key=os.urandom(32))
    assert "not the key" in text and "replace: true" in text
    assert "kbs:///default/key/new" in lab.refused("image-other-key", kid="kbs:///default/key/new")
    assert everything(lab.dest) == before
    assert "replaces something else" in lab.run(kid="kbs:///default/key/new", replace=True)
    assert not lab.run(kid="kbs:///default/key/new")


def test_a_plain_image_at_the_destination_is_not_overwritten_unasked(lab: Lab):
    images_lab.plain(lab.dest)
    assert "not encrypted" in lab.refused("image-plain")
    assert "replaces" in lab.run(replace=True)
    assert b"the weights" not in b"".join(everything(lab.dest).values())


def test_sources_that_cannot_be_encrypted_for_guests(lab: Lab):
    lab.run()
    assert "encrypted already" in lab.refused("image-source-encrypted", source=f"oci:{lab.dest}:1", dest=f"oci:{lab.folder}/two:1")
    images_lab.image(lab.plain, "zstd", (images_lab.TAR + "+zstd", b"zstd"))
    assert "no encrypted zstd" in lab.refused("image-source", source=f"oci:{lab.plain}:zstd")
    images_lab.image(lab.plain, "model", ("application/vnd.cncf.model.weight.v1.raw", b"weights"))
    assert "model_encrypt" in lab.refused("image-source", source=f"oci:{lab.plain}:model")
    images_lab.image(lab.plain, "empty")
    assert "no layers" in lab.refused("image-source", source=f"oci:{lab.plain}:empty")
    assert "no such image" in lab.refused("image-source-missing", source=f"oci:{lab.plain}:none")
    assert "are the same" in lab.refused("image-reference", dest=f"oci:{lab.plain}:1")
    raw = json.loads(images_lab.inspect(lab.plain).raw)
    raw["layers"][0]["urls"] = ["https://example.com/layer"]
    store.name(str(lab.plain), "foreign", json.dumps(raw).encode())
    assert "elsewhere" in lab.refused("image-foreign-layer", source=f"oci:{lab.plain}:foreign")


def test_skopeo_itself_encrypts_no_layers_of_modelpack(lab: Lab):
    """Why they are refused before: should a later skopeo do it, this test says so."""
    images_lab.image(lab.plain, "model", ("application/vnd.cncf.model.weight.v1.raw", b"weights"))
    key = images_lab.secret(lab.folder / "key", lab.key)
    done = images_lab.by_hand(lab.skopeo, lab.folder, "copy", "--encryption-key", f"provider:{packet.PROVIDER}:keypath={key}::keyid={KID}",
                              f"oci:{lab.plain}:model", "oci:no:1")  # fmt: skip
    assert done.returncode != 0


def test_a_list_of_images(lab: Lab):
    store.begin(str(lab.plain))
    entries = [
        images_lab.image(lab.plain, one, (images_lab.TAR, images_lab.tarred(name=one.encode())), architecture=one, name=False) for one in ("amd64", "arm64")
    ]
    raw = json.dumps({"schemaVersion": 2, "mediaType": layout.OCI_INDEX, "manifests": entries}).encode()
    index = json.loads((lab.plain / "index.json").read_text())
    index["manifests"].append({"mediaType": layout.OCI_INDEX, **images_lab.blob(lab.plain, raw), "annotations": {layout.REF_NAME: "both"}})
    (lab.plain / "index.json").write_text(json.dumps(index))
    lab.run(source=f"oci:{lab.plain}:both", architecture="arm64")
    assert json.loads(layout.read_blob(str(lab.dest), lab.image.config.digest))["architecture"] == "arm64"
    assert not lab.run(source=f"oci:{lab.plain}:both", architecture="arm64")
    assert lab.run(source=f"oci:{lab.plain}:both", architecture="amd64") == "the source changed"
    assert "0 images for linux/s390x" in lab.refused("image-platform", source=f"oci:{lab.plain}:both", architecture="s390x")


def test_a_registry(lab: Lab, registry: images_lab.Registry):
    source, dest = f"docker://{registry.host}/server:1", f"docker://{registry.host}/server:1-encrypted"
    done = images_lab.by_hand(lab.skopeo, lab.folder, "copy", "--dest-tls-verify=false", f"oci:{lab.plain}:1", source)
    assert done.returncode == 0, done.stderr
    policy = lab.folder / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    changes = {"source": source, "dest": dest, "policy": str(policy)}
    plan = make_plan(lab.request(**changes), lab.skopeo)
    # Pinned: a tag that somebody moves meanwhile does not matter.
    assert plan.pinned.digest == layout.digest_of(registry.manifests["server", "1"])
    assert lab.run(**changes) == "there is no image at the destination"
    published = layout.image(registry.manifests["server", "1-encrypted"], "registry")
    assert all(layer.encrypted for layer in published.layers)
    puts = dict(registry.manifests)
    assert not lab.run(**changes) and not lab.run(content=True, **changes) and registry.manifests == puts
    # The registry's storage is bad: seen where it was asked for, and mended.
    for damage in (lambda blob: blob[:-1] + bytes([blob[-1] ^ 1]), lambda blob: None):
        digest = layout.image(registry.manifests["server", "1-encrypted"], "registry").layers[1].digest
        registry.blobs[digest] = damage(registry.blobs[digest])
        registry.blobs = {name: blob for name, blob in registry.blobs.items() if blob is not None}
        assert not lab.run(**changes)
        assert "damaged" in lab.run(content=True, **changes) and not lab.run(content=True, **changes)
    policy.write_text('{"default": [{"type": "reject"}]}')
    images_lab.plain(lab.plain, word=b"other")
    images_lab.by_hand(lab.skopeo, lab.folder, "copy", "--dest-tls-verify=false", f"oci:{lab.plain}:1", source)
    assert "rejected" in lab.refused("image-policy", **changes)
    registry.account = "robot:word"
    assert "authfile" in lab.refused("image-registry-auth", **changes)
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    auth = images_lab.secret(lab.folder / "auth.json", json.dumps(
        {"auths": {registry.host: {"auth": base64.b64encode(b"robot:word").decode()}}}).encode())  # fmt: skip
    assert lab.run(dataclasses.replace(lab.skopeo, authfile=str(auth)), **changes) == "the source changed"


def test_an_image_of_dockers_own_format(lab: Lab, registry: images_lab.Registry):
    source = f"docker://{registry.host}/server:1"
    images_lab.image(lab.plain, "gzip", (images_lab.TAR + "+gzip", images_lab.tarred(server=b"#!/bin/sh")))
    done = images_lab.by_hand(lab.skopeo, lab.folder, "copy", "--dest-tls-verify=false", "--format", "v2s2", f"oci:{lab.plain}:gzip", source)
    assert done.returncode == 0 and json.loads(registry.manifests["server", "1"])["mediaType"] == layout.DOCKER_MANIFEST, done.stderr
    policy = lab.folder / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    lab.run(source=source, policy=str(policy))
    assert [layer.media_type for layer in lab.image.layers] == ["application/vnd.oci.image.layer.v1.tar+gzip+encrypted"]
    assert not lab.run(source=source, policy=str(policy))


def test_what_a_killed_run_left_is_swept_and_what_runs_is_not(lab: Lab):
    lab.dest.parent.mkdir()
    left, running = (lab.dest.parent / f".image-encrypt-{name}" for name in ("left", "running"))
    for folder in (left, running):
        (folder / "image").mkdir(parents=True)
    held = os.open(running, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    lab.run()
    os.close(held)
    assert not left.exists() and (running / "image").exists()


def test_a_registry_that_is_not_there_or_speaks_no_tls(lab: Lab, registry: images_lab.Registry):
    dest = f"docker://{registry.host}/server:1"
    assert "tls_verify" in lab.refused("image-registry", dataclasses.replace(lab.skopeo, tls_verify=True), dest=dest)
    registry.shutdown()
    registry.server_close()
    assert "connection refused" in lab.refused("image-registry", dest=dest)


def replaced(lab: Lab, script: str) -> Skopeo:
    return Skopeo.find(images_lab.wrapper(lab.folder / "skopeo", lab.skopeo, script), tls_verify=False)


def test_a_skopeo_that_does_not_encrypt_publishes_nothing(lab: Lab):
    lazy = replaced(lab, "if '--encryption-key' in arguments:\n    at = arguments.index('--encryption-key')\n    del arguments[at:at + 2]")
    assert "not encrypted" in lab.refused("image-plain", lazy)
    assert not lab.dest.exists() and [path.name for path in lab.dest.parent.iterdir()] == []
    half = replaced(lab, "if '--encryption-key' in arguments:\n    arguments[arguments.index('--encryption-key'):0] = []\n    arguments.insert("
                         "arguments.index('--encryption-key'), '--encrypt-layer=0')")  # fmt: skip
    assert "layer 1: it is not encrypted" in lab.refused("image-plain", half)
    assert not lab.dest.exists()


def test_a_skopeo_that_encrypts_something_else_publishes_nothing(lab: Lab):
    images_lab.plain(lab.folder / "wrong", word=b"wrong")
    other = replaced(lab, f"if '--encryption-key' in arguments:\n    arguments[-2] = 'oci:{lab.folder}/wrong:1'")
    assert "not those of the source" in lab.refused("image-other-content", other)
    # The same layers, and another command.
    raw = json.loads(images_lab.inspect(lab.plain).raw)
    raw["config"].update(images_lab.blob(lab.plain, b'{"architecture": "amd64", "os": "linux", "config": {"Cmd": ["other"]}}'))
    store.name(str(lab.plain), "other", json.dumps(raw).encode())
    other = replaced(lab, f"if '--encryption-key' in arguments:\n    arguments[-2] = 'oci:{lab.plain}:other'")
    assert "configuration is not" in lab.refused("image-other-content", other)
    assert not lab.dest.exists()


def test_cut_off_while_it_is_published(lab: Lab):
    lab.run()
    before = lab.image
    images_lab.plain(lab.plain, word=b"next")
    cut = replaced(lab, "if '--preserve-digests' in arguments:\n    print('no space left on device', file=sys.stderr)\n    sys.exit(1)")
    assert "Make room" in lab.refused("image-no-space", cut)
    assert lab.image == before and [path.name for path in lab.dest.parent.iterdir()] == ["encrypted"]
    assert lab.run() == "the source changed"


def test_a_place_to_work_that_is_none_or_is_lost(lab: Lab):
    (lab.folder / "file").write_text("")
    assert "no place to work" in lab.refused("image-no-space", work=str(lab.folder / "file"))
    begin = "if '--encryption-key' in arguments:\n    import shutil, subprocess\n    staged = arguments[-1].split(':')[1]\n"
    gone = replaced(lab, begin + "    shutil.rmtree(os.path.dirname(staged))\n    sys.exit(0)")
    assert lab.refused("image-skopeo", gone)
    lost = replaced(lab, begin + f"    subprocess.run([{lab.skopeo.path!r}, *arguments], check=True)\n    index = staged + '/index.json'\n"
                                 "    os.rename(index, index + 'x')\n    os.mkdir(index)\n    sys.exit(0)")  # fmt: skip
    assert lab.refused("image-layout", lost)
    assert not lab.dest.exists()


def test_somebody_who_writes_to_the_same_name_at_the_same_time(lab: Lab):
    other = (
        "if '--preserve-digests' in arguments:\n    import subprocess\n"
        f"    subprocess.run([{lab.skopeo.path!r}, *arguments], check=True)\n"
        f"    arguments[-2] = 'oci:{lab.plain}:1'\n    arguments.remove('--preserve-digests')"
    )
    assert "at the same time" in lab.refused("image-published", replaced(lab, other))


def test_a_slow_a_missing_and_an_old_skopeo(lab: Lab):
    slow = dataclasses.replace(replaced(lab, "import time\nif 'copy' in arguments:\n    time.sleep(20)"), timeout=1)
    assert "longer than 1 seconds" in lab.refused("image-timeout", slow)
    old = {"echo skopeo version 1.17.0": "1.17, 1.18 is needed", "echo skopeo version 1.9.3": "1.9", "exit 1": "does not tell its version"}
    for script, words in old.items():
        path = lab.folder / "old"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        with pytest.raises(AttestedError, match=words):
            Skopeo.find(str(path))
    with pytest.raises(AttestedError, match="Debian 13 has it"):
        Skopeo.find(str(lab.folder / "none"))


def test_the_key_is_nowhere_but_in_memory(lab: Lab):
    """Arguments, environment and every file that the provider's or skopeo's processes could have written, looked at from inside."""
    seen = lab.folder / "seen"
    script = (
        f"with open({str(seen)!r}, 'a') as stream:\n    json.dump([arguments, dict(os.environ)], stream)\n"
        f"config = os.environ.get('OCICRYPT_KEYPROVIDER_CONFIG')\nif config:\n    open({str(seen)!r}, 'a').write(open(config).read())"
    )
    lab.run(replaced(lab, script))
    assert not any(path.is_dir() and path.name.startswith(".image-encrypt") for path in lab.folder.rglob("*"))
    text = b"".join(everything(lab.folder).values())
    assert b"/proc/" in seen.read_bytes() and b"attestation-agent" in seen.read_bytes()
    for form in (lab.key, lab.key.hex().encode(), base64.b64encode(lab.key), base64.urlsafe_b64encode(lab.key).rstrip(b"=")):
        assert form not in text
    assert repr(lab.key) not in repr(lab.request())


def test_the_task_in_a_play(lab: Lab):
    images_lab.secret(lab.folder / "key", lab.key)
    task = {"src": "oci:plain:1", "dest": "oci:out/encrypted:1", "key": KID, "key_file": "key", "skopeo": lab.skopeo.path}
    text, (told,) = images_lab.playbook(lab.folder, ("image_encrypt", task), arguments=("--check", "--diff"))
    assert told["changed"] and not lab.dest.exists() and "digest" not in told and "encrypted" not in told
    assert told["diff"][0]["before"] == "" and "tar+gzip+encrypted" in told["diff"][0]["after"]

    public = {**task, "dest": "oci:out/open:1", "key_file": "open"}
    (lab.folder / "open").write_bytes(lab.key)
    (lab.folder / "open").chmod(0o644)
    vault = VaultLib([("default", VaultSecret(b"word"))])
    (lab.folder / "vaulted").write_bytes(vault.encrypt(lab.key))
    (lab.folder / "word").write_text("word")
    tasks = [
        task, task, public, {**task, "key_file": "vaulted"}, {**task, "key_file": "none"}, {**task, "key": "default/key/test"},
        {**task, "dest": "docker-archive:x"}, {**task, "dest": "docker://server:1"}, {**task, "skopeo": "./none"}, {**task, "timeout": 0},
        {**task, "dest": "oci:out/encrypted"},
    ]  # fmt: skip
    text, told = images_lab.playbook(lab.folder, *(("image_encrypt", one) for one in tasks), arguments=("--vault-password-file", "word"))
    assert told[0]["changed"] and told[0]["encrypted"] and told[0]["digest"] == lab.image.digest and told[0]["layers"] == 2
    # The vaulted key is the same: nothing is to be done.
    assert not told[1]["changed"] and not told[3]["changed"] and told[3]["encrypted"], told[3]
    codes = ["secret-mode", "secret-missing", "image-kid", "image-reference", "image-reference", "skopeo-missing", "image-options", "image-reference"]
    assert [one["code"] for one in (told[2], *told[4:])] == codes
    assert "Traceback" not in text
    for form in (lab.key.hex(), base64.b64encode(lab.key).decode(), "the weights"):
        assert form not in text


def test_the_specification_is_the_documentation():
    from ansible_collections.attested.ai.plugins.action import image_encrypt, model_image
    from ansible_collections.attested.ai.plugins.modules import image_encrypt as documented
    from ansible_collections.attested.ai.plugins.modules import model_image as documented_model

    assert ActionModule._supports_check_mode
    for action, module in ((image_encrypt, documented), (model_image, documented_model)):
        options = DataLoader().load(module.DOCUMENTATION)["options"]
        assert set(options) == set(action.ARGUMENT_SPEC)
        for name, spec in action.ARGUMENT_SPEC.items():
            assert (options[name]["type"], options[name].get("default"), options[name].get("required", False)) == (
                spec["type"], spec.get("default"), spec.get("required", False)), name  # fmt: skip
