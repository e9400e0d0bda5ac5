# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening an image with a kernel that only writes down what it was asked: order, parameters, and that nothing is left when a step fails.

The real kernel is asked in tools/vm/model_image.py.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, ModelError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.keysource import Kek
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import download, image_open, mapper, opening, tree, web
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import open as opener
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.encrypt import encrypt
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.opening import Order
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.plan import Keys, Request, make_plan, unwrap_dek
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.source import Directory
from ansible_collections.attested.ai.plugins.module_utils.target.memory import memory_filesystem
from ansible_collections.attested.ai.tests.unit.sealedmodel.web_lab import FileServer

FILES = {"config.json": b"{}", "weights/a.bin": bytes(range(256)) * 40}
pytestmark = pytest.mark.skipif(not memory_filesystem("/dev/shm").safe, reason="needs memory without swap at /dev/shm")


class Kernel:
    """Instead of ``mapper``: mounting fills the directory, a named step fails."""

    def __init__(self) -> None:
        self.asked, self.devices, self.mounts, self.secrets = [], {}, {}, []
        self.fails = ""
        self.number, self.damaged = errno.EIO, False
        self.files = dict(FILES)

    def _step(self, name: str, *what: object) -> None:
        self.asked.append((name, *what))
        if self.fails == name:
            raise OSError(self.number, os.strerror(self.number), name)

    @contextmanager
    def loop(self, descriptor):
        self._step("loop")
        yield (7, 3)
        self.asked.append(("loop closed",))

    @contextmanager
    def key(self, description, secret):
        self._step("key", description, bytes(secret).hex())
        self.secrets.append(secret)
        try:
            yield f":{len(secret)}:logon:{description}"
        finally:
            self.asked.append(("key revoked",))

    def create(self, name, length, target, parameters):
        self._step(target, length, parameters)
        self.devices[name] = f"{target} {parameters}"
        return (254, len(self.devices) - 1)

    def remove(self, name):
        return self.devices.pop(name, None) is not None

    def table(self, name):
        return self.devices.get(name, "")

    def met_damage(self, name):
        return name in self.devices and self.damaged

    def node(self, device):
        return "/dev/dm-%d" % device[1]

    def mount(self, source, place, kind):
        self._step("mount", source, kind)
        self.mounts[place] = source
        for path, data in self.files.items():
            target = Path(place, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)

    def unmount(self, place):
        if self.mounts.pop(place, None) is None:
            return False
        shutil.rmtree(place)
        os.mkdir(place)
        return True


class World:
    def __init__(self, root: Path, memory: Path, kernel: Kernel) -> None:
        self.root, self.memory, self.kernel = root, memory, kernel
        self.keys = Keys(Kek("kek-test", os.urandom(32)), ec.generate_private_key(ec.SECP256R1()))
        for name, data in FILES.items():
            (root / "plain" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "plain" / name).write_bytes(data)
        plan = make_plan(Request(str(root / "plain"), str(root / "sealed"), "image-test", 1, profile="image"), self.keys)
        self.manifest = encrypt(plan, self.keys, "2026-01-31T12:00:00Z")
        self.dest = memory / "model"

    def open(self) -> None:
        target = Order(dest=str(self.dest), src=str(self.root / "sealed"), mode="0440").target()
        sealed = opener.read_sealed(Directory(target.src))
        image_open.open_image(target, sealed, os.path.join(target.src, tree.IMAGE), unwrap_dek(self.manifest.dek, self.keys.kek))


@pytest.fixture
def world(tmp_path, monkeypatch):
    memory, kernel = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="open-image-test-")), Kernel()
    monkeypatch.setattr(image_open, "mapper", kernel)
    yield World(tmp_path, memory, kernel)
    shutil.rmtree(memory)


def test_what_the_kernel_is_asked(world):
    world.open()
    image, kernel = world.manifest.image, world.kernel
    assert [entry[0] for entry in kernel.asked] == ["loop", "key", "crypt", "key revoked", "loop closed", "verity", "mount"]
    name, length, crypt = kernel.asked[2]
    assert length == image.size and crypt.startswith("aes-xts-plain64 :64:logon:attested:attested-model-") and crypt.endswith(" 0 7:3 0 1 sector_size:4096")
    blocks = image.hash_offset // 4096
    name, length, verity = kernel.asked[5]
    assert length == image.hash_offset and verity.startswith(f"1 254:0 254:0 4096 4096 {blocks} {blocks + 1} sha256 {image.root_hash} ")
    assert len(verity.split()[-1]) == 64 and len(verity.split()) == 10, "no options: every block is verified whenever it is read"
    assert kernel.asked[6] == ("mount", "/dev/dm-1", "erofs")
    assert not any(any(secret) for secret in kernel.secrets), "the key is wiped"
    assert world.dest.is_symlink() and (world.dest / "config.json").read_bytes() == b"{}"
    holder = world.dest.resolve().parent
    assert holder.stat().st_mode & 0o777 == 0o750 and sorted(path.name for path in world.memory.iterdir()) == ["model", "model.complete", holder.name]


@pytest.mark.parametrize("step", ["loop", "key", "crypt", "verity", "mount"])
def test_nothing_is_left_when_a_step_fails(world, step):
    world.kernel.fails = step
    with pytest.raises(ModelError) as caught:
        world.open()
    assert caught.value.code == "model-image-map"
    assert not list(world.memory.iterdir()) and not world.kernel.devices and not world.kernel.mounts
    assert not any(any(secret) for secret in world.kernel.secrets)


@pytest.mark.parametrize("files", [{"config.json": b"{}"}, {**FILES, "more": b""}, {**FILES, "config.json": b"{} "}])
def test_other_files_than_the_manifest_names(world, files):
    world.kernel.files = files
    with pytest.raises(ModelError) as caught:
        world.open()
    assert caught.value.code == "model-file-extra" and not list(world.memory.iterdir()) and not world.kernel.devices


def test_the_old_one_is_replaced_and_absent_leaves_nothing(world):
    world.open()
    first = world.dest.resolve()
    world.open()
    assert world.dest.resolve() != first and not first.exists() and len(world.kernel.devices) == 2 and len(world.kernel.mounts) == 1
    world.kernel.fails = "verity"
    with pytest.raises(ModelError):
        world.open()
    assert (world.dest / "config.json").read_bytes() == b"{}", "a failure leaves the old one open"
    assert opening.run(Order(dest=str(world.dest), state="absent"), True)["changed"] and world.dest.exists()
    assert opening.run(Order(dest=str(world.dest), state="absent"))["changed"]
    assert not list(world.memory.iterdir()) and not world.kernel.devices and not world.kernel.mounts
    assert not opening.run(Order(dest=str(world.dest), state="absent"))["changed"]


def test_what_a_killed_run_left_is_taken_away(world):
    left = Path(f"{world.dest}.mount-{'0' * 16}")
    (left / "model").mkdir(parents=True)
    world.kernel.devices["attested-model-" + "0" * 16 + "-crypt"] = "crypt"
    world.open()
    assert not left.exists() and len(world.kernel.devices) == 2


@pytest.mark.parametrize(("change", "code"), [
    (lambda path: os.truncate(path, path.stat().st_size - 4096), "model-file-size"),
    (lambda path: path.write_bytes(bytes(path.stat().st_size)), "model-header"),
    (lambda path: path.unlink(), "model-file-missing"),
    (lambda path: (path.unlink(), path.mkdir()), "model-special-file"),
])  # fmt: skip
def test_what_is_no_such_image(world, change, code):
    change(world.root / "sealed" / tree.IMAGE)
    with pytest.raises(AttestedError) as caught:
        world.open()
    assert caught.value.code == code and not list(world.memory.iterdir()) and not world.kernel.asked


@pytest.fixture
def place(world, tmp_path, monkeypatch):
    """A file that is taken for a disk, with something else on it; small windows."""
    path = tmp_path / "vdb"
    path.write_bytes(b"\x5a" * world.manifest.image.size)
    monkeypatch.setattr(image_open, "is_disk", lambda name: name == str(path))
    monkeypatch.setattr(image_open, "disk_size", lambda descriptor: os.fstat(descriptor).st_size)
    monkeypatch.setattr(web, "_WINDOW", 8192)
    monkeypatch.setattr(web.WebSource, "batch_bytes", 8192)
    monkeypatch.setattr(web, "_PAUSE", 0.001)
    monkeypatch.setattr(download, "_BLOCK", 4096)
    return path


def from_web(world, server, place):
    order = Order(dest=str(world.dest), src=server.url, image=str(place), allow_http=True, threads=3)
    source = order.source()
    opened = opening._Image(order, order.target(), source, opener.read_sealed(source))
    try:
        opened.check()
        return opened.open(unwrap_dek(world.manifest.dek, world.keys.kek))
    finally:
        source.close()


def claimed(place, monkeypatch):
    """As a disk is that is mounted or mapped."""
    real = os.open

    def opened(path, flags, *further, **named):
        if str(path) == str(place) and flags & os.O_EXCL:
            raise OSError(errno.EBUSY, "Device or resource busy", path)
        return real(path, flags, *further, **named)

    monkeypatch.setattr(os, "open", opened)


@pytest.mark.parametrize("fails", ["", "window", "write"])
def test_the_beginning_of_a_disk_is_written_last_or_not_at_all(world, place, monkeypatch, fails):
    real_write, real_read, written = download.write_exactly, web.WebFile.read_into, []

    def write(descriptor, data, offset):
        written.append((offset, bytes(data)))
        if fails == "write" and offset == 8192 + 4096:
            raise OSError(errno.EIO, "Input/output error")
        real_write(descriptor, data, offset)

    def read(self, buffer, offset):
        if fails == "window" and offset == 16384:
            raise ModelError("gone", code="model-remote")
        real_read(self, buffer, offset)

    monkeypatch.setattr(download, "write_exactly", write)
    monkeypatch.setattr(web.WebFile, "read_into", read)
    content = (world.root / "sealed" / tree.IMAGE).read_bytes()
    with FileServer(world.root / "sealed") as server:
        if fails:
            with pytest.raises(ModelError) as caught:
                from_web(world, server, place)
            assert caught.value.code == ("model-remote" if fails == "window" else "model-dest")
            assert place.read_bytes()[:4096] == bytes(4096) and not world.kernel.asked
            fails = ""
            del written[:]
        from_web(world, server, place)
    assert place.read_bytes() == content
    assert written[0] == (0, bytes(4096)) and written[-1] == (0, content[:4096]), "what was there is gone first, what it is told by comes last"
    assert {data for offset, data in written[:-1] if offset == 0} == {bytes(4096)}
    assert sorted(path.name for path in place.parent.iterdir()) == ["plain", "sealed", "sealed.state", "vdb"]


@pytest.mark.parametrize("number", [errno.ENODEV, errno.ENOMEM, errno.EPERM, errno.EINVAL, errno.EIO])
def test_what_was_fetched_is_kept_where_the_kernel_cannot_map_or_read_it(world, place, number):
    world.kernel.fails, world.kernel.number = "mount", number
    with FileServer(world.root / "sealed") as server:
        with pytest.raises(ModelError) as caught:
            from_web(world, server, place)
    assert caught.value.code == "model-image-map" and os.strerror(number) in str(caught.value)
    assert place.read_bytes() == (world.root / "sealed" / tree.IMAGE).read_bytes() and not world.kernel.devices


def test_a_disk_that_serves_another_directory_keeps_its_beginning(world, place, monkeypatch):
    content = (world.root / "sealed" / tree.IMAGE).read_bytes()
    place.write_bytes(content)
    world.kernel.fails, world.kernel.damaged = "mount", True
    monkeypatch.setattr(download, "_CLAIM_SECONDS", 0)
    claimed(place, monkeypatch)
    with FileServer(world.root / "sealed") as server:
        with pytest.raises(ModelError) as caught:
            from_web(world, server, place)
    assert caught.value.code == "model-dest" and "does not verify" in str(caught.value) and place.read_bytes() == content


@pytest.mark.parametrize("disk", [True, False])
@pytest.mark.parametrize("step", ["mount", "read"])
def test_what_a_server_sent_wrong_is_found_at_once_and_fetched_again(world, place, monkeypatch, disk, step):
    if not disk:
        place.unlink()
        monkeypatch.setattr(image_open, "is_disk", lambda name: False)
    with FileServer(world.root / "sealed") as server:
        world.kernel.damaged = True
        with monkeypatch.context() as broken:
            if step == "mount":
                world.kernel.fails = "mount"
            else:
                # dm-verity's answer, for a part that names and sizes do not show.
                broken.setattr(os, "readv", lambda *_arguments: (nothing for nothing in ()).throw(OSError(errno.EIO, "Input/output error")))
            with pytest.raises(ModelError) as caught:
                from_web(world, server, place)
        assert caught.value.code == "model-tag" and not list(world.memory.iterdir()) and not world.kernel.devices
        assert place.read_bytes()[:4096] == bytes(4096) if disk else not place.exists()
        world.kernel.fails = ""
        from_web(world, server, place)
        asked = len(server.requests)
        assert place.read_bytes() == (world.root / "sealed" / tree.IMAGE).read_bytes()
        # It is there now, and neither fetched nor read through again.
        monkeypatch.setattr(os, "readv", None)
        from_web(world, server, place)
        assert all(tree.IMAGE not in path for path, _span, _headers in server.requests[asked:])


def test_a_run_that_waited_for_another_leaves_its_image_alone(world, place, monkeypatch):
    """The other has closed, or given the image its name, between opening and locking here."""
    place.unlink()
    monkeypatch.setattr(image_open, "is_disk", lambda name: False)
    content = (world.root / "sealed" / tree.IMAGE).read_bytes()
    partial, real = Path(f"{place}.partial"), download.fcntl.flock
    ends = [lambda: os.replace(partial, place), partial.unlink]

    def locked(descriptor, how):
        partial.write_bytes(content)
        ends.pop(0)()
        real(descriptor, how)

    source = Order(dest="/x", src="http://127.0.0.1:9", allow_http=True).source()
    monkeypatch.setattr(download.fcntl, "flock", locked)
    assert not download.fetch(source, world.manifest.image, str(place), 1, lambda *_: None) and place.read_bytes() == content
    place.unlink()
    with pytest.raises(ModelError) as caught:
        download.fetch(source, world.manifest.image, str(place), 1, lambda *_: None)
    assert caught.value.code == "model-busy" and not place.exists()


def test_a_window_is_on_the_disk_before_it_is_noted_and_the_name_is_given_under_the_lock(world, place, monkeypatch):
    place.unlink()
    monkeypatch.setattr(image_open, "is_disk", lambda name: False)
    image, done, sync, replace = world.manifest.image, [], os.fdatasync, os.replace
    # Notes about a file that is gone are worth nothing.
    head = {"header_sha256": image.header_sha256, "root_hash": image.root_hash, "window": 8192, "there": [1]}
    Path(f"{place}.fetched.json").write_text(json.dumps(head, sort_keys=True))

    def replaced(old, new):
        with open(old, "rb") as stream, pytest.raises(BlockingIOError):
            download.fcntl.flock(stream, download.fcntl.LOCK_EX | download.fcntl.LOCK_NB)
        done.append("named")
        replace(old, new)

    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (sync(descriptor), done.append("synced")))
    monkeypatch.setattr(download.marker, "replace", lambda *_arguments: done.append("noted"))
    monkeypatch.setattr(os, "replace", replaced)
    with FileServer(world.root / "sealed") as server:
        source = Order(dest="/x", src=server.url, allow_http=True).source()
        assert download.fetch(source, image, str(place), 1, lambda *_: None)
    assert place.read_bytes() == (world.root / "sealed" / tree.IMAGE).read_bytes()
    assert done[:2] == ["synced", "noted"] and done.count("noted") > 1 and done[-1] == "named"
    assert all(done[index - 1] == "synced" for index, said in enumerate(done) if said == "noted")


@pytest.mark.parametrize(("target", "said", "damaged"), [("verity", "C", True), ("verity", "C -", True), ("verity", "V", False), ("crypt", "C", False)])
def test_the_state_of_dm_verity_and_not_its_table_says_what_is_damaged(monkeypatch, target, said, damaged):
    def ioctl(_descriptor, number, buffer, _mutate):
        # DM_TABLE_STATUS without DM_STATUS_TABLE_FLAG.
        assert (number, mapper._DM.unpack_from(buffer)[7]) == (0xC138FD0C, 0)
        mapper._DM.pack_into(buffer, 0, 4, 0, 0, len(buffer), 312, 1, 0, 0, 0, 0, 0, b"", b"")
        mapper._TARGET.pack_into(buffer, 312, 0, 8, 0, 0, target.encode())
        buffer[352 : 353 + len(said)] = said.encode() + b"\0"

    monkeypatch.setattr(mapper, "_CONTROL", os.devnull)
    monkeypatch.setattr(mapper.fcntl, "ioctl", ioctl)
    assert mapper.met_damage("name") is damaged


def test_a_place_that_is_not_there(world, place):
    with FileServer(world.root / "sealed") as server:
        with pytest.raises(ModelError) as caught:
            from_web(world, server, place.parent / "missing" / "model.img")
    assert caught.value.code == "model-dest" and "missing" in str(caught.value)


def test_a_disk_that_is_too_small_or_in_use(world, place, monkeypatch):
    with FileServer(world.root / "sealed") as server:
        monkeypatch.setattr(image_open, "disk_size", lambda descriptor: world.manifest.image.size - 1)
        with pytest.raises(ModelError) as caught:
            from_web(world, server, place)
        assert caught.value.code == "model-no-space" and place.read_bytes() == b"\x5a" * world.manifest.image.size
        monkeypatch.setattr(image_open, "disk_size", lambda descriptor: world.manifest.image.size)
        claimed(place, monkeypatch)
        with pytest.raises(ModelError) as caught:
            from_web(world, server, place)
        assert caught.value.code == "model-busy" and place.read_bytes() == b"\x5a" * world.manifest.image.size
