# SPDX-License-Identifier: GPL-3.0-or-later
"""Models as images: the same bytes each time, whole or not at all, encrypted by a real skopeo; and encrypted models as artifacts."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from pathlib import Path

import images_lab
import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.keysource import Kek
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt import layout, models, tarlayer
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import open as opener
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.encrypt import encrypt
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.plan import Keys, Request, make_plan
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.source import Directory
from ansible_collections.attested.ai.plugins.plugin_utils.skopeo import Skopeo
from cryptography.hazmat.primitives.asymmetric import ec


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer" / ("long-" * 30 + "name.json")).write_text("[]")
    (folder / "model-1.safetensors").write_bytes(b"w" * 5000)
    (folder / "model-2.safetensors").write_bytes(b"x" * 6000)
    return folder


def container(model: Path, **changes: object) -> models.Draft:
    given = {"src": str(model), "prefix": "/models/m", "architecture": "amd64", "base": None, "split": 4096, **changes}
    return models.container(**given)


def test_the_same_files_are_the_same_image(model: Path, tmp_path: Path):
    dest = tmp_path / "layout"
    draft = container(model)
    assert not draft.complete_at(str(dest), "1")
    draft.write(str(dest), "1")
    assert draft.complete_at(str(dest), "1") and images_lab.inspect(dest).digest == draft.digest
    # Small files together, each large one by itself.
    assert len(draft.contents) == 3
    other = images_lab.copied(model, tmp_path / "elsewhere")
    for number, path in enumerate(sorted(other.rglob("*"))):
        path.chmod(0o700)
        os.utime(path, (number, number))
    assert container(other).digest == draft.digest
    (other / "config.json").write_text("[]")
    changed = container(other)
    # One layer of three is another one.
    assert len({content.layer.digest for content in changed.contents} & {content.layer.digest for content in draft.contents}) == 2


def test_what_is_in_the_layers(model: Path, tmp_path: Path):
    container(model).write(str(tmp_path / "layout"), "1")
    found = {}
    for layer in images_lab.inspect(tmp_path / "layout").layers:
        with tarfile.open(layout.blob_path(str(tmp_path / "layout"), layer.digest)) as archive:
            for member in archive.getmembers():
                assert (member.uid, member.gid, member.mtime) == (0, 0, 0)
                assert member.mode == (0o755 if member.isdir() else 0o644)
                if member.isfile():
                    found[member.name] = archive.extractfile(member).read()  # type: ignore[union-attr]
    assert found == {f"models/m/{path.relative_to(model)}": path.read_bytes() for path in model.rglob("*") if path.is_file()}


def test_a_real_tar_reads_them(model: Path, tmp_path: Path):
    container(model, split=1 << 30).write(str(tmp_path / "layout"), "1")
    (layer,) = images_lab.inspect(tmp_path / "layout").layers
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["tar", "-xf", layout.blob_path(str(tmp_path / "layout"), layer.digest), "-C", str(out)], check=True, timeout=60)
    assert subprocess.run(["diff", "-r", str(model), str(out / "models" / "m")], check=False, timeout=60).returncode == 0


def test_on_top_of_a_server(model: Path, tmp_path: Path, skopeo: Skopeo):
    base = images_lab.plain(tmp_path / "base")
    raw = layout.find(str(base), "1")
    draft = container(model, base=(str(base), raw))
    dest = tmp_path / "layout"
    draft.write(str(dest), "1")
    image, below = images_lab.inspect(dest), images_lab.inspect(base)
    assert image.layers[:2] == below.layers and len(image.layers) == 5
    config = json.loads(layout.read_blob(str(dest), image.config.digest))
    assert config["config"] == {"Env": ["TAG=1"]} and len(config["rootfs"]["diff_ids"]) == 5
    # skopeo reads every blob, and checks its digest.
    done = subprocess.run([skopeo.path, "--insecure-policy", "copy", f"oci:{dest}:1", f"dir:{tmp_path}/dir"], capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    told = json.loads(subprocess.run([skopeo.path, "inspect", f"oci:{dest}:1"], capture_output=True, check=True, timeout=60).stdout)
    assert told["Env"] == ["TAG=1"] and len(told["Layers"]) == 5


def test_a_base_that_is_encrypted_damaged_or_does_not_fit(model: Path, tmp_path: Path):
    base = images_lab.plain(tmp_path / "base")
    images_lab.image(base, "zstd", (images_lab.TAR + "+zstd", b"z"))
    with pytest.raises(AttestedError, match="zstd"):
        container(model, base=(str(base), layout.find(str(base), "zstd")))
    images_lab.image(base, "secret", (images_lab.TAR + "+encrypted", b"z"))
    with pytest.raises(AttestedError, match="encrypted already"):
        container(model, base=(str(base), layout.find(str(base), "secret")))
    raw = layout.find(str(base), "1")
    document = json.loads(raw or b"")
    document["layers"].pop()
    with pytest.raises(AttestedError, match="names 2 layers, its manifest 1"):
        container(model, base=(str(base), json.dumps(document).encode()))
    draft = container(model, base=(str(base), raw))
    images_lab.damage(base, images_lab.inspect(base).layers[1].digest)
    with pytest.raises(AttestedError, match="changed"):
        draft.write(str(tmp_path / "layout"), "1")
    assert layout.find(str(tmp_path / "layout"), "1") is None


def test_names_that_mean_something_to_a_layer_and_links(model: Path):
    (model / ".wh.config.json").write_text("")
    with pytest.raises(AttestedError, match="would delete a file"):
        container(model)
    (model / ".wh.config.json").unlink()
    (model / "link").symlink_to("/etc/passwd")
    with pytest.raises(AttestedError, match="symbolic link"):
        container(model)


@pytest.mark.parametrize("path", ["models", "/", "", "/a/../b", "/a//b", "/a/./b", "/a\nb"])
def test_paths_that_are_no_folder(model: Path, path: str):
    with pytest.raises(AttestedError, match="no absolute path"):
        container(model, prefix=path)


def test_too_many_layers(model: Path):
    for number in range(tarlayer.LAYERS_MAX):
        (model / f"part-{number}").write_bytes(b"p" * 5000)
    with pytest.raises(AttestedError, match="split_size"):
        container(model)


def test_a_file_that_changes_while_it_is_written(model: Path, tmp_path: Path):
    draft = container(model)
    (model / "model-2.safetensors").write_bytes(b"y" * 6000)
    with pytest.raises(AttestedError, match="changed"):
        draft.write(str(tmp_path / "layout"), "1")
    (model / "model-2.safetensors").write_bytes(b"y" * 60)
    with pytest.raises(AttestedError, match="changed|cannot be read whole"):
        draft.write(str(tmp_path / "layout"), "1")
    assert layout.find(str(tmp_path / "layout"), "1") is None
    assert not list((tmp_path / "layout").rglob("*.new"))


def test_another_release_takes_the_place_of_the_first_and_damage_is_mended(model: Path, tmp_path: Path):
    dest = tmp_path / "layout"
    images_lab.plain(dest, "other")
    first = container(model)
    first.write(str(dest), "1")
    images_lab.damage(dest, first.contents[1].layer.digest)
    assert not first.complete_at(str(dest), "1")
    first.write(str(dest), "1")
    assert first.complete_at(str(dest), "1")
    (model / "model-2.safetensors").write_bytes(b"z" * 6000)
    second = container(model)
    second.write(str(dest), "1")
    assert second.complete_at(str(dest), "1")
    gone = {content.layer.digest for content in first.contents} - {content.layer.digest for content in second.contents}
    assert len(gone) == 1 and not any(Path(layout.blob_path(str(dest), digest)).exists() for digest in gone)
    # Others in the layout are whole.
    assert all(Path(layout.blob_path(str(dest), layer.digest)).exists() for layer in images_lab.inspect(dest, "other").layers)


@pytest.fixture
def sealed(model: Path, tmp_path: Path) -> tuple[Path, Keys]:
    """A model that model_encrypt's core encrypted."""
    keys = Keys(Kek("test", os.urandom(32)), ec.generate_private_key(ec.SECP256R1()), ())
    request = Request(str(model), str(tmp_path / "sealed"), "minilm", 3)
    encrypt(make_plan(request, keys), keys, "2026-01-31T12:00:00Z")
    return tmp_path / "sealed", keys


def test_an_encrypted_model_as_artifact_through_skopeo_and_back(sealed, tmp_path: Path, skopeo: Skopeo, registry: images_lab.Registry):
    folder, _keys = sealed
    draft = models.artifact(str(folder))
    draft.write(str(tmp_path / "layout"), "3")
    assert models.artifact(str(folder)).complete_at(str(tmp_path / "layout"), "3")
    for command in (["--dest-tls-verify=false", f"oci:{tmp_path}/layout:3", f"docker://{registry.host}/minilm:3"],
                    ["--src-tls-verify=false", f"docker://{registry.host}/minilm:3", f"oci:{tmp_path}/back:3"]):  # fmt: skip
        command = [skopeo.path, "--insecure-policy", "copy", "--preserve-digests", *command]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
    image = images_lab.inspect(tmp_path / "back", "3")
    assert image.digest == draft.digest and image.document["artifactType"] == models.ARTIFACT
    config = json.loads(layout.read_blob(str(tmp_path / "back"), image.config.digest))
    assert config["descriptor"]["name"] == "minilm" and config["descriptor"]["version"] == "3"
    assert config["modelfs"]["diffIds"] == [layer.digest for layer in image.layers]
    out = tmp_path / "unpacked"
    for layer in image.layers:
        path = out / layer.annotations[models.FILE_PATH]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(Path(layout.blob_path(str(tmp_path / "back"), layer.digest)).read_bytes())
    # model_open's own check of what lies there.
    Directory(str(out)).check(opener.read_sealed(Directory(str(out))).manifest)
    assert subprocess.run(["diff", "-r", str(folder), str(out)], check=False, timeout=60).returncode == 0


def test_only_an_encrypted_model_becomes_an_artifact(model: Path, sealed):
    with pytest.raises(AttestedError, match="no encrypted model") as caught:
        models.artifact(str(model))
    assert caught.value.code == "model-plain"
    folder, _keys = sealed
    (folder / "notes.txt").write_text("in the clear")
    with pytest.raises(AttestedError, match="published as it is"):
        models.artifact(str(folder))
    (folder / "notes.txt").unlink()
    path = folder / "config.json.tink"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(AttestedError, match="cut off"):
        models.artifact(str(folder))
    path.unlink()
    with pytest.raises(AttestedError, match="missing"):
        models.artifact(str(folder))


def test_the_tasks_in_a_play(model: Path, tmp_path: Path, skopeo: Skopeo):
    images_lab.secret(tmp_path / "key", os.urandom(32))
    pack = {"src": "model", "dest": "oci:images:1", "path": "/models/m", "split_size": 4096}
    seal = {"src": "oci:images:1", "dest": "oci:published:1", "key": images_lab.KID, "key_file": "key", "skopeo": skopeo.path}
    _text, (told,) = images_lab.playbook(tmp_path, ("model_image", pack), arguments=("--check", "--diff"))
    assert told["changed"] and not (tmp_path / "images").exists() and told["diff"][0]["after"].count("layer ") == 3
    promised = told["digest"]
    wrong = [
        {**pack, "dest": "docker://registry.example.org/model:1"}, {**pack, "dest": "oci:model/images:1"}, {**pack, "base": "oci:none:1"},
        {**pack, "kind": "modelpack"}, {"src": "model", "dest": "oci:pack:1", "kind": "modelpack"}, {**pack, "architecture": "AMD 64"},
        {**pack, "split_size": 0},
    ]  # fmt: skip
    text, told = images_lab.playbook(tmp_path, ("model_image", pack), ("image_encrypt", seal), ("model_image", pack), ("image_encrypt", seal),
                                     *(("model_image", one) for one in wrong))  # fmt: skip
    assert [one["changed"] for one in told[:4]] == [True, True, False, False]
    assert told[0]["digest"] == told[2]["digest"] == promised and not told[0]["encrypted"] and told[1]["layers"] == 3
    codes = ["image-reference", "image-dest", "image-base", "image-options", "model-plain", "image-options", "image-options"]
    assert [one["code"] for one in told[4:]] == codes and "Traceback" not in text
