# SPDX-License-Identifier: GPL-3.0-or-later
"""An encrypted model as artifact, back into a guest's memory: from a layout, from skopeo's copy, and straight from a registry."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace

import images_lab
import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt import layout, models
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import artifact, image_open, registry, tree, web
from ansible_collections.attested.ai.plugins.module_utils.target.memory import memory_filesystem
from ansible_collections.attested.ai.plugins.plugin_utils.skopeo import Skopeo
from ansible_collections.attested.ai.tests.unit.model_open.open_lab import FILES, World

pytestmark = pytest.mark.skipif(not memory_filesystem("/dev/shm").safe, reason="needs memory without swap at /dev/shm")
WHERE, ACCOUNT = "docker://registry.example.org/m:1", "guest:not-for-others"


class Packed:
    """The model, its artifact in a layout, and the same in a registry."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder = world, folder / "layout"
        self.draft = models.artifact(str(world.root / "sealed"))
        self.draft.write(str(self.folder), "1")

    def push(self, server: images_lab.Registry, name: str = "team/minilm") -> str:
        server.manifests[name, "1"] = server.manifests[name, self.draft.digest] = self.draft.raw
        for path in (self.folder / "blobs" / "sha256").iterdir():
            server.blobs["sha256:" + path.name] = path.read_bytes()
        return f"docker://{server.host}/{name}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    memory = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="open-registry-test-"))
    yield Packed(World(tmp_path_factory.mktemp("model"), memory), tmp_path_factory.mktemp("oci"))
    shutil.rmtree(memory)


@pytest.fixture
def packed(made, monkeypatch):
    monkeypatch.setattr(web, "_WINDOW", 65536)
    monkeypatch.setattr(web.WebSource, "batch_bytes", 65536)
    monkeypatch.setattr(web, "_PAUSE", 0.001)
    shutil.rmtree(made.world.memory)
    made.world.memory.mkdir(mode=0o700)
    return made


def auth_file(path: Path, place: str, account: str = ACCOUNT) -> str:
    images_lab.secret(path, json.dumps({"auths": {place: {"auth": base64.b64encode(account.encode()).decode()}}}).encode())
    return str(path)


def test_out_by_skopeo_and_back_by_skopeo_or_straight(packed, tmp_path: Path, skopeo: Skopeo, registry: images_lab.Registry):
    there = f"docker://{registry.host}/minilm:1"
    for command in (["--dest-tls-verify=false", f"oci:{packed.folder}:1", there], ["--src-tls-verify=false", there, f"dir:{tmp_path}/copy"],
                    ["--src-tls-verify=false", there, f"oci:{tmp_path}/back:7"]):  # fmt: skip
        command = [skopeo.path, "--insecure-policy", "copy", "--preserve-digests", *command]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
    digest = packed.draft.digest
    sources = [f"dir:{tmp_path}/copy", f"dir:{tmp_path}/copy@{digest}", f"oci:{tmp_path}/back:7", f"oci:{tmp_path}/back", f"oci:{tmp_path}/back@{digest}",
               there, f"docker://{registry.host}/minilm@{digest}"]  # fmt: skip
    for number, src in enumerate(sources):
        dest = str(packed.world.memory / f"model{number}")
        assert packed.world.open(src, dest=dest)["changed"], src
        assert {str(path.relative_to(dest)): path.read_bytes() for path in Path(dest).rglob("*") if path.is_file()} == FILES
        assert not packed.world.open(src, dest=dest)["changed"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "copy"], "nothing is kept of what came straight"


def test_tokens_are_asked_for_renewed_and_ask_for_little(packed, tmp_path: Path, registry: images_lab.Registry):
    src = packed.push(registry) + ":1"
    registry.account, registry.tokens = ACCOUNT, {}
    path = auth_file(tmp_path / "auth.json", f"{registry.host}/team")
    assert packed.world.open(src, auth_file=path, threads=3)["changed"] and packed.world.contents() == FILES
    assert len(registry.asked) > 1 and {query for query, _sent in registry.asked} == {"service=test&scope=repository%3Ateam%2Fminilm%3Apull"}
    shutil.rmtree(packed.world.memory / "model")
    (packed.world.memory / "model.complete").unlink()
    packed.world.refused("model-remote-denied", src)
    packed.world.refused("model-remote-denied", src, auth_file=auth_file(tmp_path / "wrong.json", registry.host, "guest:no"))
    for place, code in (("registry.example.org", "model-registry-auth"), (f"{registry.host}/tea", "model-registry-auth")):
        assert "not-for-others" not in packed.world.refused(code, src, auth_file=auth_file(tmp_path / "other.json", place))
        (tmp_path / "other.json").unlink()
    packed.world.refused("model-options", src, urls={"config.json.tink": "https://elsewhere.example.org/x"})
    packed.world.refused("model-options", f"oci:{packed.folder}:1", auth_file=path)
    # A realm elsewhere would get the password.
    before, registry.realm = len(registry.asked), registry.realm.replace("127.0.0.1", "localhost")
    packed.world.refused("model-remote-redirect", src, auth_file=path)
    assert len(registry.asked) == before
    assert packed.world.open(src, auth_file=path, redirect_hosts=["localhost"])["changed"]
    for realm in ("https://[", "", "ftp://127.0.0.1/token", "http://user@127.0.0.1/token"):
        registry.tokens, registry.realm = {}, realm
        with pytest.raises(AttestedError) as caught:
            packed.world.open(src, auth_file=path)
        assert caught.value.code in ("model-remote-redirect", "model-remote") and "not-for-others" not in str(caught.value)


def test_a_registry_that_takes_passwords_at_once(packed, tmp_path: Path, registry: images_lab.Registry):
    src = packed.push(registry) + ":1"
    registry.account = ACCOUNT
    assert "not-for-others" not in packed.world.refused("model-remote-denied", src, auth_file=auth_file(tmp_path / "wrong.json", registry.host, ACCOUNT + "x"))
    assert packed.world.open(src, auth_file=auth_file(tmp_path / "auth.json", registry.host))["changed"] and packed.world.contents() == FILES


@pytest.mark.parametrize("text", ["", "[]", '{"auths": {"%s": {"auth": "not-for-others"}}}', '{"auths": {"%s": {}}}', '{"auths": {"%s": {"auth": "Zm9v"}}}'])
def test_files_of_passwords_that_hold_none(tmp_path: Path, text: str):
    path = images_lab.secret(tmp_path / "auth.json", (text.replace("%s", "h:1")).encode())
    with pytest.raises(AttestedError) as caught:
        registry.credentials(str(path), "h:1", "m")
    assert caught.value.code == "model-registry-auth" and "not-for-others" not in str(caught.value)


def test_other_bytes_than_the_digest_says(packed, tmp_path: Path, registry: images_lab.Registry):
    pinned = packed.push(registry) + "@" + packed.draft.digest
    registry.manifests["team/minilm", packed.draft.digest] = packed.draft.raw + b" "
    packed.world.refused("model-artifact", pinned)
    packed.push(registry)
    by_name = artifact.blobs(packed.draft.raw, "", "")
    weights = by_name["weights/b.bin.tink"]
    for data, code in ((registry.blobs[weights.digest][:-1] + b"x", "model-tag"), (registry.blobs[weights.digest] + b"x", "model-file-size")):
        before, registry.blobs[weights.digest] = registry.blobs[weights.digest], data
        packed.world.refused(code, pinned)
        registry.blobs[weights.digest] = before
    back = images_lab.copied(packed.folder, tmp_path / "back")
    images_lab.damage(back, by_name[tree.SIGNATURE].digest)
    packed.world.refused("model-artifact", f"oci:{back}:1")
    packed.world.refused("model-artifact", f"oci:{packed.folder}:2")
    packed.world.refused("model-artifact", f"oci:{packed.folder}:1@sha256:{'0' * 64}")
    images_lab.damage(back, packed.draft.digest)
    packed.world.refused("model-artifact", f"oci:{back}:1")
    place = Path(layout.blob_path(str(back), weights.digest))
    place.unlink()
    os.mkfifo(place)
    Path(layout.blob_path(str(back), packed.draft.digest)).write_bytes(packed.draft.raw)
    Path(layout.blob_path(str(back), by_name[tree.SIGNATURE].digest)).write_bytes((packed.world.root / "sealed" / tree.SIGNATURE).read_bytes())
    packed.world.refused("model-special-file", f"oci:{back}:1")


def test_an_image_lies_in_a_layout_as_it_is_mapped(packed, tmp_path: Path):
    manifest = packed.world.encrypt("image", profile="image")
    models.artifact(str(packed.world.root / "image")).write(str(tmp_path / "layout"), "1")
    source = artifact.ArtifactDirectory(f"oci:{tmp_path}/layout:1")
    source.check(manifest)
    image_open.check_image(source.name(tree.IMAGE), manifest.image)


def test_one_manifest_under_two_tags_beside_what_is_none(packed, tmp_path: Path):
    back = images_lab.copied(packed.folder, tmp_path / "back")
    index = json.loads((back / "index.json").read_text())
    (first,) = index["manifests"]
    other = {**first, "annotations": {**first["annotations"], layout.REF_NAME: "2"}}
    index["manifests"] = [{"mediaType": "a", "digest": "sha512:0"}, {**other, "digest": "odd", "annotations": 7}, 1, first, other]
    (back / "index.json").write_text(json.dumps(index))
    for name in ("1", "2", f"1@{packed.draft.digest}"):
        assert artifact.ArtifactDirectory(f"oci:{back}:{name}").read_small(tree.MANIFEST)
    assert artifact.ArtifactDirectory(f"oci:{back}@{packed.draft.digest}").read_small(tree.MANIFEST)
    packed.world.refused("image-manifest", f"oci:{back}")
    packed.world.refused("model-artifact", f"oci:{back}:3")


@pytest.mark.parametrize("host", ["registry.example.org", "192.0.2.1:80", "[2001:db8::1]:5000", "127.0.0.1.example.org", "localhost.example.org:80"])
def test_no_password_goes_in_clear_to_another_machine(packed, tmp_path: Path, host: str):
    path = auth_file(tmp_path / "auth.json", host)
    said = packed.world.refused("model-options", f"docker://{host}/m:1", auth_file=path)
    assert "in clear" in said and "not-for-others" not in said


@pytest.mark.parametrize(("host", "http", "named", "realm"), [
    ("registry.example.org", False, (), "https://registry.example.org:8443/token"),
    ("registry.example.org:5000", False, (), "https://registry.example.org/token"),
    ("registry.example.org:5000", False, (), "https://registry.example.org:port/token"),
    ("127.0.0.1:5000", True, (), "http://127.0.0.1:5001/token"),
    ("127.0.0.1:5000", True, ("login.example.org",), "http://login.example.org/token"),
])  # fmt: skip
def test_who_makes_tokens_gets_the_password_only_where_it_was_meant_to_go(monkeypatch, host, http, named, realm):
    monkeypatch.setattr(registry, "WebSource", None)
    guard = registry.Guard(host, "m", "bm90OmZvci1vdGhlcnM=", web.Web("", allow_http=http, redirect_hosts=named))
    with pytest.raises(AttestedError) as caught:
        guard.answer(f'Bearer realm="{realm}",service="x"', "")
    assert caught.value.code == "model-remote-redirect"


@pytest.mark.parametrize(("host", "named", "realm"), [
    ("registry.example.org", (), "https://Registry.example.org:443/token"),
    ("registry.example.org:443", (), "https://registry.example.org/token"),
    ("[2001:db8::1]:5000", (), "https://[2001:db8::1]:5000/token"),
    ("registry.example.org", ("Login.example.org",), "https://login.example.org:8443/token"),
])  # fmt: skip
def test_the_registry_itself_and_who_was_named_make_tokens(monkeypatch, host, named, realm):
    monkeypatch.setattr(registry, "WebSource", lambda asked: SimpleNamespace(read_small=lambda *_: b'{"token": "t"}', close=lambda: None))
    guard = registry.Guard(host, "m", "bm90OmZvci1vdGhlcnM=", web.Web("", redirect_hosts=named))
    guard.answer(f'Bearer realm="{realm}",service="x"', "")
    assert guard.current == "Bearer t"


def layer(name: str | None, title: str | None = None, media_type: str = models.WEIGHT, size: int = 1, **more: str) -> dict:
    notes = {**({models.FILE_PATH: name} if name is not None else {}), **({"org.opencontainers.image.title": title} if title is not None else {}), **more}
    return {"mediaType": media_type, "digest": "sha256:" + "1" * 64, "size": size, "annotations": notes}


@pytest.mark.parametrize(("layers", "said"), [
    ([layer("/etc/passwd")], "plain relative path"),
    ([layer("../a.tink")], "plain relative path"),
    ([layer("a/../b.tink")], "plain relative path"),
    ([layer(".tink")], "plain relative path"),
    ([layer("a\n.tink")], "control"),
    ([layer(None)], "no name"),
    ([layer("a.tink", "b.tink")], "two names"),
    ([layer("a.tink"), layer(None, "a.tink")], "two of its blobs"),
    ([layer("weights", media_type="application/vnd.oci.image.layer.v1.tar+gzip")], "archive"),
    ([layer(None, "weights", **{"io.deis.oras.content.unpack": "true"})], "archive"),
    ([layer(tree.MANIFEST, size=(64 << 20) + 1), layer(tree.SIGNATURE)], "longer than"),
    ([layer("a.tink", media_type="application/vnd.cncf.model.weight.v1.tar")], "archive"),
    ([layer(None, "a.tink", "application/vnd.oci.image.layer.v1.tar")], "no encrypted model"),
    ([layer("a.tink")], "no encrypted model"),
    ([layer(tree.MANIFEST, size=-1)], "size"),
    ([{**layer("a.tink"), "digest": "md5:00"}], "digest"),
    ([{**layer("a.tink"), "urls": ["https://elsewhere.example.org"]}], "urls"),
    ([layer(f"f{number}") for number in range(5)], "more than 1 files"),
    (None, "list of images"),
    ({}, "list of images"),
])  # fmt: skip
def test_hostile_manifests(monkeypatch, layers, said):
    monkeypatch.setattr(tree, "MAX_FILES", 1 if "more than" in said else tree.MAX_FILES)
    config = {"mediaType": models.MODEL_CONFIG, "digest": "sha256:" + "0" * 64, "size": 1}
    document = {"schemaVersion": 2, "mediaType": layout.OCI_MANIFEST, "config": config, "layers": layers}
    with pytest.raises(AttestedError, match=said) as caught:
        artifact.blobs(json.dumps(document).encode(), "", WHERE)
    assert WHERE in str(caught.value)


def test_a_manifest_without_end(packed, registry: images_lab.Registry):
    src = packed.push(registry) + ":1"
    registry.manifests["team/minilm", "1"] = b" " * (layout.MANIFEST_MAX + 1) + packed.draft.raw
    packed.world.refused("format", src)
    packed.world.refused("image-reference", "docker://minilm:1")
