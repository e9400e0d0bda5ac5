# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening a model from a server, decrypted while it is fetched: the good way, and every way in which a server can be bad."""

from __future__ import annotations

import random
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path

import pytest

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import download, web
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.opening import Order
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.tree import IMAGE
from ansible_collections.attested.ai.plugins.module_utils.target.memory import memory_filesystem
from ansible_collections.attested.ai.tests.unit.model_open.open_lab import FILES, World
from ansible_collections.attested.ai.tests.unit.sealedmodel.web_lab import Fault, FileServer

LARGE = "/weights/a%20b%2B%25.bin.tink"
pytestmark = pytest.mark.skipif(not memory_filesystem("/dev/shm").safe, reason="needs memory without swap at /dev/shm")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    memory = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="open-web-test-"))
    yield World(tmp_path_factory.mktemp("web"), memory)
    shutil.rmtree(memory)


@pytest.fixture
def world(made, monkeypatch):
    # Several requests for the larger file, from several threads, and no waiting in tests.
    monkeypatch.setattr(web, "_WINDOW", 65536)
    monkeypatch.setattr(web.WebSource, "batch_bytes", 65536)
    monkeypatch.setattr(web, "_PAUSE", 0.001)
    shutil.rmtree(made.memory)
    made.memory.mkdir(mode=0o700)
    return made


@pytest.fixture
def server(world):
    with FileServer(world.root / "sealed") as running:
        yield running


def test_each_byte_is_fetched_once_and_no_ciphertext_is_kept(world, server):
    result = world.open(server.url + "/", threads=2)
    assert result["changed"] and world.contents() == FILES
    on_disk = {"/" + str(path.relative_to(world.root / "sealed")): path.stat().st_size for path in (world.root / "sealed").rglob("*") if path.is_file()}
    assert {path.replace("%20", " ").replace("%2B", "+").replace("%25", "%"): size for path, size in server.served.items()} == on_disk
    assert sorted(path.name for path in world.memory.iterdir()) == ["model", "model.complete", "sessions"]
    assert not world.open(server.url)["changed"]


def test_tls_is_verified(world, tmp_path):
    with FileServer(world.root / "sealed", tls=tmp_path) as server:
        assert "ca_path" in world.refused("model-remote-tls", server.url, allow_http=False)
        wrong_name = server.url.replace("127.0.0.1", "localhost")
        world.refused("model-remote-tls", wrong_name, allow_http=False, ca_path=server.ca_path)
        assert world.open(server.url, allow_http=False, ca_path=server.ca_path)["changed"] and world.contents() == FILES
        world.memory.joinpath("model.complete").unlink()
        shutil.rmtree(world.memory / "model")
        world.refused("model-remote", server.url.replace("https", "http"), allow_http=False)


@pytest.mark.parametrize("faults", [
    [Fault(LARGE, cut=1000)], [Fault(LARGE, times=5, cut=70)], [Fault("manifest.json", cut=10)], [Fault(LARGE, status=503, times=2)],
    [Fault("b.bin", cut=0, times=3)],
])  # fmt: skip
def test_a_cut_is_taken_up_where_it_was(world, server, faults):
    server.faults = faults
    assert world.open(server.url)["changed"] and world.contents() == FILES


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(LARGE, times=99, cut=0), "model-remote"),
        (Fault(LARGE, times=99, status=500), "model-remote"),
        (Fault(LARGE, status=404), "model-file-missing"),
        (Fault(LARGE, status=403), "model-remote-denied"),
        (Fault(LARGE, status=204), "model-remote"),
        (Fault(LARGE, shift=4096), "model-remote-range"),
        (Fault(LARGE, size=10**9), "model-file-size"),
        (Fault(LARGE, whole=True, times=9), "model-remote-range"),
        (Fault(LARGE, headers={"Content-Encoding": "gzip"}), "model-remote-range"),
        (Fault(LARGE, headers={"Content-Range": "bytes 0-1,3-4/9"}), "model-remote-range"),
        (Fault(LARGE, headers={"Content-Length": "999999"}), "model-remote-range"),
        (Fault(LARGE, endless=True), "model-remote-range"),
        (Fault("manifest.json", endless=True), "format"),
        (Fault("manifest.json", status=302, headers={"Location": "https://elsewhere.example.org/x"}), "model-remote-redirect"),
        (Fault(LARGE, status=302, headers={"Location": "ftp://127.0.0.1/"}), "model-remote"),
        (Fault("manifest.json", status=302, times=99, headers={"Location": "/model-manifest.json"}), "model-remote-redirect"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_server_is_refused_and_nothing_is_left(world, server, monkeypatch, fault, code):
    monkeypatch.setattr(web, "MAX_SIZE", 1 << 20)
    server.faults = [fault]
    world.refused(code, server.url)


def test_a_slow_drip_ends(world, server):
    server.faults = [Fault(LARGE, drip=True, times=99)]
    begin = time.monotonic()
    world.refused("model-remote-slow", server.url, timeout=1, minimum_rate=10_000)
    assert time.monotonic() - begin < 4


@pytest.mark.parametrize("tls", [False, True])
def test_a_head_or_a_handshake_that_drips_ends(world, monkeypatch, tls):
    monkeypatch.setattr(web, "_ATTEMPTS", 2)
    stop = threading.Event()

    def drip(listener):
        while not stop.is_set():
            try:
                connection, _address = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    for byte in (b"\x16\x03\x03\x40\x00" if tls else b"HTTP/1.1 200 OK\r\nX: ") + b"a" * 1000:
                        connection.sendall(bytes([byte]))
                        if stop.wait(0.1):
                            return
                except OSError:
                    continue

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        server = threading.Thread(target=drip, args=(listener,), daemon=True)
        server.start()
        begin = time.monotonic()
        world.refused("model-remote", f"http{'s' * tls}://127.0.0.1:{listener.getsockname()[1]}/", timeout=1)
        assert time.monotonic() - begin < 10
        stop.set()
    server.join()


def test_a_file_that_is_replaced_meanwhile_is_refused(world, tmp_path):
    other = tmp_path / "served"
    shutil.copytree(world.root / "sealed", other)
    large = other / "weights/a b+%.bin.tink"
    with FileServer(other) as server:
        real = web.WebFile.read_into

        def replacing(self, buffer, offset):
            if offset > 65536:
                large.write_bytes(bytes(large.stat().st_size))
            real(self, buffer, offset)

        web.WebFile.read_into = replacing
        try:
            world.refused("model-source-changed", server.url)
        finally:
            web.WebFile.read_into = real


@pytest.mark.parametrize(("change", "code"), [
    (lambda large, small: large.write_bytes(large.read_bytes()[:-1]), "model-file-size"),
    (lambda large, small: large.write_bytes(bytes([large.read_bytes()[0]]) + bytes(large.stat().st_size - 1)), "model-header"),
    (lambda large, small: large.write_bytes(swapped(large.read_bytes())), "model-tag"),
])  # fmt: skip
def test_bad_content_is_refused(world, tmp_path, change, code):
    other = tmp_path / "served"
    shutil.copytree(world.root / "sealed", other)
    change(other / "weights/a b+%.bin.tink", other / "weights/b.bin.tink")
    with FileServer(other) as server:
        world.refused(code, server.url)


def swapped(data: bytes) -> bytes:
    """Segments 1 and 2 in each other's place."""
    return data[:4096] + data[8192:12288] + data[4096:8192] + data[12288:]


def test_redirects_only_to_hosts_that_are_named_and_without_headers(world, server, tmp_path):
    with FileServer(tmp_path) as front:
        for path in (world.root / "sealed").rglob("*"):
            if path.is_file():
                name = str(path.relative_to(world.root / "sealed")).replace("%", "%25").replace(" ", "%20").replace("+", "%2B")
                front.faults.append(Fault(name, status=307, times=99, headers={"Location": f"{server.url.replace('127.0.0.1', 'localhost')}/{name}"}))
        headers = {"Authorization": "Bearer not-for-others"}
        assert "localhost" in world.refused("model-remote-redirect", front.url, headers=headers)
        assert world.open(front.url, headers=headers, redirect_hosts=["localhost"])["changed"] and world.contents() == FILES
        assert all(sent.get("Authorization") for _path, _span, sent in front.requests)
        assert server.requests and not any("Authorization" in sent for _path, _span, sent in server.requests)


def test_presigned_addresses_are_used_and_not_shown(world, server):
    names = [str(path.relative_to(world.root / "sealed")) for path in (world.root / "sealed").rglob("*") if path.is_file()]
    urls = {name: f"{server.url}/{name.replace('%', '%25').replace(' ', '%20').replace('+', '%2B')}?X-Amz-Signature=secret" for name in names}
    assert world.open("http://127.0.0.1:9/nowhere", urls=urls)["changed"]
    assert all(path.endswith("?X-Amz-Signature=secret") for path, _span, _headers in server.requests)
    world.memory.joinpath("model.complete").unlink()
    shutil.rmtree(world.memory / "model")
    server.faults = [Fault(LARGE, status=403)]
    assert "secret" not in world.refused("model-remote-denied", server.url, urls=urls)
    assert "secret" not in repr(Order(dest="/x", urls=urls))


@pytest.mark.parametrize("src", ["https://user:password@127.0.0.1/x", "https://", "gopher://127.0.0.1/", "https://127.0.0.1/\nx", "https://127.0.0.1:port/"])
def test_unusable_addresses(world, src):
    assert "password" not in world.refused("model-remote", src)


def test_an_image_is_fetched_to_its_place_and_goes_on_after_a_cut(world, tmp_path, monkeypatch):
    manifest = world.encrypt("image", profile="image")
    place, size = tmp_path / "place.img", manifest.image.size
    with FileServer(world.root / "image") as server:
        source = Order(dest="/x", src=server.url, allow_http=True).source()
        monkeypatch.setattr(download, "_BLOCK", 4096)
        download.check(source, manifest.image, str(place))
        server.faults = [Fault(f"/{IMAGE}", times=0)]
        told = []
        real = web.WebFile.read_into

        def failing(self, buffer, offset):
            if offset >= 150_000:
                raise OSError("the power was cut")
            real(self, buffer, offset)

        web.WebFile.read_into = failing
        try:
            with pytest.raises(AttestedError):
                download.fetch(source, manifest.image, str(place), 1, lambda *counts: told.append(counts))
        finally:
            web.WebFile.read_into = real
        assert not place.exists() and (tmp_path / "place.img.partial").exists() and told == [(65536, size)]
        del server.requests[:]
        assert download.fetch(source, manifest.image, str(place), 2, lambda *counts: told.append(counts))
        assert place.read_bytes() == (world.root / "image" / IMAGE).read_bytes()
        begins = {int(span[6:].partition("-")[0]) for _path, span, _headers in server.requests}
        assert begins == set(range(0, size, 65536)) - {65536}, "what was there was not fetched again"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["place.img"]
        assert not download.fetch(source, manifest.image, str(place), 2, lambda *counts: None)
        world.refused("model-image-place", server.url)


def test_threads_share_one_file(world, server):
    """The order in which threads come does not matter."""
    source = Order(dest="/x", src=server.url, allow_http=True).source()
    path = world.root / "sealed" / "weights/a b+%.bin.tink"
    expected, found = path.read_bytes(), bytearray(path.stat().st_size)
    offsets = [*range(0, len(found), 4096)]
    random.Random(3).shuffle(offsets)
    with source.open("weights/a b+%.bin.tink", len(found)) as opened:

        def work():
            while offsets:
                try:
                    offset = offsets.pop()
                except IndexError:
                    return
                opened.read_into(memoryview(found)[offset : offset + 4096], offset)

        crew = [threading.Thread(target=work) for _number in range(4)]
        for helper in crew:
            helper.start()
        for helper in crew:
            helper.join()
    source.close()
    assert bytes(found) == expected
