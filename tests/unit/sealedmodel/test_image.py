# SPDX-License-Identifier: GPL-3.0-or-later
"""The image profile on the controller: file system, hash tree and sectors, read back by readers of the test's own."""

from __future__ import annotations

import os
import struct
import subprocess

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError, ModelError
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import emwp, erofs, image_build, tree, verity
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import Manifest
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.plan import make_plan, unwrap_dek
from ansible_collections.attested.ai.tests.unit.sealedmodel.conftest import FILES


def read_erofs(image: bytes) -> dict[str, tuple[int, int]]:
    """Offset and size of each file, found as the kernel does: from the superblock, by inodes and blocks of sorted names."""
    magic, _crc, _compat, bits, _ext, root = struct.unpack_from("<IIIBBH", image, 1024)
    (meta,) = struct.unpack_from("<I", image, 1024 + 40)
    assert (magic, bits) == (0xE0F5E1E2, 12)
    found: dict[str, tuple[int, int]] = {}

    def inode(number: int) -> tuple[int, int, int]:
        form, _x, mode, _r, size, block = struct.unpack_from("<HHHHQI", image, meta * 4096 + number * 32)
        assert form == 1
        return mode, size, block * 4096

    def directory(number: int, prefix: str) -> None:
        mode, size, offset = inode(number)
        assert mode == 0o40555
        names = []
        for start in range(offset, offset + size, 4096):
            block = image[start : min(start + 4096, offset + size)]
            count = struct.unpack_from("<H", block, 8)[0] // 12
            heads = [struct.unpack_from("<QHBB", block, 12 * index) for index in range(count)]
            ends = [head[1] for head in heads[1:]] + [len(block)]
            for (child, begin, kind, _reserved), end in zip(heads, ends):
                name = bytes(block[begin:end]).rstrip(b"\0")
                names.append(name)
                if name in (b".", b".."):
                    continue
                if kind == 2:
                    directory(child, prefix + name.decode() + "/")
                else:
                    mode, length, place = inode(child)
                    assert mode == 0o100444 and kind == 1
                    found[prefix + name.decode()] = (place, length)
        assert names == sorted(names) and {b".", b".."} <= set(names)

    directory(root, "")
    return found


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.lists(st.text("a.!\u00fc~Z", min_size=1, max_size=120).filter(lambda name: name not in (".", "..")), min_size=1, max_size=3)
                       .map("/".join), st.integers(0, 3 * 4096), min_size=1, max_size=60))  # fmt: skip
def test_any_tree_is_found_again(files):
    inside = {path for path in files for other in files if path.startswith(other + "/") or other.startswith(path + "/")}
    usable = {path: size for path, size in files.items() if path not in inside}
    made = erofs.build(sorted(usable.items()), bytes(range(16)))
    assert {path: size for path, (_offset, size) in read_erofs(made.head).items()} == usable
    assert [(extent.path, extent.offset, extent.size) for extent in made.extents] == sorted(
        ((extent.path, *read_erofs(made.head)[extent.path]) for extent in made.extents), key=lambda entry: entry[1]
    )
    ends = [len(made.head)] + [extent.offset + extent.size for extent in made.extents]
    assert all(extent.offset % 4096 == 0 and extent.offset >= end for extent, end in zip(made.extents, ends)) and made.size % 4096 == 0


def test_too_large_for_an_image():
    with pytest.raises(ModelError, match="16 TiB"):
        erofs.build([("a", 16 << 40)], bytes(16))


def test_the_tree_is_that_of_veritysetup():
    # veritysetup 2.6.1 format --no-superblock --salt 000102...1f over 300 blocks, block i filled with i mod 256.
    hasher, geometry = verity.Hasher(bytes(range(32))), verity.Geometry(300)
    first = hasher.blocks(memoryview(b"".join(bytes([number % 256]) * 4096 for number in range(300))))
    second = hasher.blocks(memoryview(first))
    assert hasher.digest(second).hex() == "c382722c1ecf53fb069ad2c8daf053944e8583184cd65423f47418e4d5ab59ee"
    assert [(level.offset // 4096, level.count, level.blocks) for level in geometry.levels] == [(302, 300, 3), (301, 3, 1)]
    assert geometry.size == (300 + 1 + 1 + 3) * 4096


def test_sectors_count_in_units_of_512_bytes():
    key, data = bytes(range(64)), os.urandom(3 * 4096)
    sealed = bytearray(data)
    emwp.SectorCipher(key).encrypt(memoryview(sealed), 4096 * 10)
    for number in range(3):
        cipher = Cipher(algorithms.AES(key), modes.XTS(((10 + number) * 8).to_bytes(16, "little"))).decryptor()
        assert cipher.update(bytes(sealed[number * 4096 : (number + 1) * 4096])) == data[number * 4096 : (number + 1) * 4096]
    emwp.SectorCipher(key).decrypt(memoryview(sealed), 4096 * 10)
    assert bytes(sealed) == data
    with pytest.raises(ModelError):
        emwp.SectorCipher(key).encrypt(memoryview(sealed), 512)
    with pytest.raises(ModelError):
        emwp.SectorCipher(bytes(64))


def opened(run, keys, tmp_path, manifest: Manifest, dest="sealed") -> bytearray:
    """The image in clear, after every block was verified from the root down."""
    image = manifest.image
    dek = unwrap_dek(manifest.dek, keys.kek)
    data = bytearray((tmp_path / dest / tree.IMAGE).read_bytes())
    emwp.SectorCipher(image_build.image_key(dek, manifest.model_id, manifest.release, image.root_hash, image.uuid)).decrypt(memoryview(data), 0)
    hasher = verity.Hasher(emwp.salt(emwp.identity(dek, manifest.model_id, manifest.release)))
    levels = verity.Geometry(image.hash_offset // 4096).levels
    below = memoryview(data)[: image.hash_offset]
    for level in levels:
        digests = hasher.blocks(below)
        assert digests == data[level.offset : level.offset + len(digests)]
        below = memoryview(digests)
    assert hasher.digest(below).hex() == image.root_hash
    return data


def test_the_image_holds_the_model_and_nothing_in_clear(run, keys, tmp_path):
    _plan, manifest = run(profile="image", threads=3)
    data = opened(run, keys, tmp_path, manifest)
    assert {path: bytes(data[offset : offset + size]) for path, (offset, size) in read_erofs(data).items()} == FILES
    sealed = (tmp_path / "sealed" / tree.IMAGE).read_bytes()
    assert not any(content[:64] in sealed for content in FILES.values() if len(content) > 64) and b"safetensors" not in sealed
    assert Manifest.parse((tmp_path / "sealed" / tree.MANIFEST).read_bytes()) == manifest
    assert sorted(path.name for path in (tmp_path / "sealed").iterdir()) == ["model-manifest.json", "model-manifest.jws", "model.img"]


def test_the_root_hash_tells_nothing_without_the_key(run, tmp_path):
    _plan, one = run(profile="image")
    _plan, two = run(profile="image", dest=str(tmp_path / "other"))
    assert one.image.root_hash != two.image.root_hash and one.image.uuid != two.image.uuid


def test_the_second_run_changes_nothing_and_other_content_is_refused(run, keys, model, request_for, tmp_path, monkeypatch):
    _plan, manifest = run(profile="image")
    assert not run(profile="image", verify="content")[0].changed
    with monkeypatch.context() as patch:
        patch.setattr(image_build, "ImageEngine", None)
        assert not run(profile="image")[0].changed, "no content was read"
    with pytest.raises(ModelError, match="profile image"):
        make_plan(request_for(profile="files"), keys)
    path = tmp_path / "sealed" / tree.IMAGE
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    # The beginning and the size are right: only reading it all can tell.
    assert not make_plan(request_for(profile="image"), keys).changed
    with pytest.raises(ModelError) as caught:
        make_plan(request_for(profile="image", verify="content"), keys)
    assert caught.value.code == "model-release-same"
    os.truncate(path, len(data) - 4096)
    assert "missing or damaged" in make_plan(request_for(profile="image"), keys).reason
    (model / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="config.json differs"):
        make_plan(request_for(profile="image"), keys)
    assert run(profile="image", release=2)[1].release == 2 and manifest.release == 1


@pytest.mark.parametrize("threads", [1, 3])
def test_a_source_that_changes_meanwhile_is_found(run, model, tmp_path, monkeypatch, threads):
    real = image_build.ImageEngine.hash

    def changing(self, output):
        found = real(self, output)
        (model / "weights/model-00002.safetensors").write_bytes(bytes(4096))
        return found

    monkeypatch.setattr(image_build.ImageEngine, "hash", changing)
    with pytest.raises(ModelError) as caught:
        run(profile="image", threads=threads)
    assert caught.value.code == "model-source-changed"
    assert not (tmp_path / "sealed").exists() and not (tmp_path / "sealed.partial" / tree.IMAGE).exists()


def test_a_helper_that_dies_ends_the_run(run, monkeypatch, tmp_path):
    monkeypatch.setattr(image_build, "CHUNK", 128 * 4096 * 1)
    real = image_build.Plaintext.fill
    parent = os.getpid()

    def dying(self, buffer, offset):
        if os.getpid() != parent:
            os.kill(os.getpid(), 9)
        real(self, buffer, offset)

    monkeypatch.setattr(image_build.Plaintext, "fill", dying)
    (tmp_path / "model" / "large.bin").write_bytes(os.urandom(2 << 20))
    with pytest.raises(ModelError, match="ended early"):
        run(profile="image", threads=2)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_too_little_space_is_found_before(run, monkeypatch, tmp_path):
    from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import encrypt

    monkeypatch.setattr(encrypt, "free_space", lambda _path: 1 << 20)
    with pytest.raises(ModelError) as caught:
        run(profile="image")
    assert caught.value.code == "model-no-space"


@pytest.mark.parametrize("change", [
    {"size": 8192}, {"hash_offset": 5000}, {"hash_offset": 4096}, {"path": "../x"}, {"path": "model.img.tink"}, {"root_hash": "00"}, {"root_hash": "G" * 64},
    {"uuid": "0-0"}, {"uuid": "AAAAAAAA-AAAA-AAAA-AAAA-AAAAAAAAAAAA"}, {"header_sha256": ""}, {"more": 1}, {"size": True}, {"hash_offset": 2**60},
])  # fmt: skip
def test_what_no_manifest_may_say_of_an_image(run, change):
    from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict

    _plan, manifest = run(profile="image")
    document = strict.loads(manifest.to_bytes())
    document["image"] = {**document["image"], **change}
    with pytest.raises(AttestedError):
        Manifest.parse(jcs.canonicalize(document))


def test_profiles_do_not_mix(run):
    from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict

    document = strict.loads(run(profile="image")[1].to_bytes())
    for change in ({"profile": "files"}, {"profile": "kserve"}, {"profile": ["image"]}, {"profile": "other"}, {"segment_size": 4096}):
        with pytest.raises(FormatError):
            Manifest.parse(jcs.canonicalize({**document, **change}))


def test_fsck_of_erofs_has_nothing_to_say(run, keys, tmp_path):
    _plan, manifest = run(profile="image")
    clear = tmp_path / "clear.img"
    clear.write_bytes(opened(run, keys, tmp_path, manifest)[: manifest.image.hash_offset])
    try:
        done = subprocess.run(["fsck.erofs", str(clear)], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("fsck.erofs is not installed")
    assert done.returncode == 0, done.stderr
