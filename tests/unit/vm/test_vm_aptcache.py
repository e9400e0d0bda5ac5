# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy of the test machines keeps what never changes, and nothing else."""

from __future__ import annotations

import http.client
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools/vm"))

import aptcache  # noqa: E402

DEB = "/debian/pool/main/l/linux/linux-image_1_amd64.deb"
LIST = "/debian/dists/trixie/main/binary-amd64/by-hash/SHA256/" + "a" * 64


class Mirror(BaseHTTPRequestHandler):
    asked: list[str] = []
    short = False
    named = True

    def do_GET(self) -> None:  # noqa: N802
        Mirror.asked.append(self.path)
        if self.path.endswith("gone.deb"):
            self.send_error(404)
            return
        body = f"body of {self.path}".encode()
        self.send_response(200)
        if Mirror.named:
            self.send_header("Content-Length", str(len(body) + (9 if Mirror.short else 0)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def lab(tmp_path):
    Mirror.asked, Mirror.short, Mirror.named = [], False, True
    mirror, proxy = ThreadingHTTPServer(("127.0.0.1", 0), Mirror), aptcache.serve(tmp_path / "kept")
    for server in (mirror, proxy):
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def get(path: str, whole: str = "") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", proxy.server_address[1], timeout=10)
        connection.request("GET", whole or f"http://127.0.0.1:{mirror.server_address[1]}{path}")
        answer = connection.getresponse()
        return answer.status, answer.read()

    yield get
    for server in (mirror, proxy):
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("path", [DEB, LIST])
def test_what_never_changes_is_asked_once(lab, path):
    first = lab(path)
    assert first == (200, f"body of {path}".encode()) == lab(path) and Mirror.asked == [path]


@pytest.mark.parametrize("path", ["/debian/dists/trixie/InRelease", "/debian/dists/trixie/main/binary-amd64/Packages.xz"])
def test_what_may_change_is_asked_each_time(lab, path, tmp_path):
    assert lab(path) == lab(path) and Mirror.asked == [path, path] and not list((tmp_path / "kept").iterdir())


def test_a_refusal_is_passed_on_and_not_kept(lab, tmp_path):
    assert lab("/debian/pool/main/g/gone.deb")[0] == 404 and not list((tmp_path / "kept").iterdir())


def test_a_package_that_ends_too_early_is_not_kept(lab, tmp_path):
    Mirror.short = True
    with pytest.raises(http.client.IncompleteRead):
        lab(DEB)
    Mirror.short = False
    assert lab(DEB)[0] == 200 and len(list((tmp_path / "kept").iterdir())) == 1


def test_an_answer_without_a_length_is_refused(lab):
    Mirror.named = False
    assert lab(DEB)[0] == 502


@pytest.mark.parametrize("url", ["http://127.0.0.1/secret", "file:///etc/passwd", "/etc/passwd", "https://example.org/debian/pool/x.deb", "http:///pool/x.deb"])
def test_it_is_no_proxy_for_anything_else(lab, url):
    assert lab("", whole=url)[0] == 403 and not Mirror.asked


def test_a_mirror_that_does_not_answer_is_told(lab):
    assert lab("", whole="http://127.0.0.1:1/debian/pool/x.deb")[0] == 502


def test_what_nobody_wanted_for_long_is_removed(tmp_path):
    import os

    old = tmp_path / "old"
    old.write_text("x")
    os.utime(old, (1, 1))
    (tmp_path / "new").write_text("x")
    aptcache.serve(tmp_path).server_close()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
