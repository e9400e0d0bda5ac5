# SPDX-License-Identifier: GPL-3.0-or-later
"""A proxy for apt on loopback that keeps what never changes: packages, and lists that are named by their hash.

    python tools/vm/aptcache.py FOLDER LAB        # prints its port and serves until it is ended, or the folder of the lab is gone

Nobody needs to trust it: apt verifies signatures and hashes behind it. Only GET, only http, and only what looks like a repository.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REPOSITORY = re.compile(r"http://[^/?#\s]+/(?:[^?#\s]*/)?(?:dists|pool)/[^?#\s]+")
UNCHANGING = re.compile(r".*/(?:pool/.+\.deb|by-hash/SHA(?:256|512)/[0-9a-f]+)")
PASSED_ON = ("If-Modified-Since", "User-Agent", "Cache-Control")
KEPT_DAYS = 30


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path

    def do_GET(self) -> None:  # noqa: N802
        if not REPOSITORY.fullmatch(self.path):
            self.send_error(403, "no repository of packages")
            return
        if not UNCHANGING.fullmatch(self.path):
            self.fetch(None)
            return
        kept = self.folder / hashlib.sha256(self.path.encode()).hexdigest()
        if kept.is_file():
            os.utime(kept)
            with kept.open("rb") as stream:
                self.begin(200, {"Content-Length": str(kept.stat().st_size)})
                shutil.copyfileobj(stream, self.wfile)
            return
        self.fetch(kept)

    def fetch(self, kept: Path | None) -> None:
        headers = {name: self.headers[name] for name in PASSED_ON if name in self.headers}
        try:
            with urllib.request.urlopen(urllib.request.Request(self.path, headers=headers), timeout=60) as answer:
                self.pass_on(answer, kept)
        except urllib.error.HTTPError as error:
            self.begin(error.code, {"Content-Length": "0"})
        except OSError as error:
            self.send_error(502, str(error)[:80])

    def pass_on(self, answer, kept: Path | None) -> None:  # type: ignore[no-untyped-def]
        length = answer.headers.get("Content-Length")
        if length is None:
            self.send_error(502, "an answer without its length")
            return
        named = {name: answer.headers[name] for name in ("Content-Type", "Last-Modified") if name in answer.headers}
        self.begin(200, {"Content-Length": length, **named})
        if kept is None:
            shutil.copyfileobj(answer, self.wfile)
            return
        with tempfile.NamedTemporaryFile(dir=self.folder, prefix="part-", delete=False) as part:
            left, last = int(length), b""
            while block := answer.read(1 << 18):
                part.write(block)
                # One behind: who has the whole file can ask for it again at once, and it is kept by then.
                self.wfile.write(last)
                last = block
                left -= len(block)
        # A file that ended too early is not kept.
        if left == 0:
            os.replace(part.name, kept)
            self.wfile.write(last)
        else:
            os.unlink(part.name)
            self.close_connection = True

    def begin(self, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


class Cache(ThreadingHTTPServer):
    daemon_threads = True
    lab: Path | None = None

    def service_actions(self) -> None:
        # Whoever removes the lab by hand forgets this one.
        if self.lab is not None and not self.lab.is_dir():
            raise SystemExit


def serve(folder: Path) -> Cache:
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.stat().st_mtime < time.time() - KEPT_DAYS * 86400:
            path.unlink(missing_ok=True)
    handler = type("FolderHandler", (Handler,), {"folder": folder})
    return Cache(("127.0.0.1", 0), handler)


if __name__ == "__main__":
    cache = serve(Path(sys.argv[1]))
    cache.lab = Path(sys.argv[2])
    print(cache.server_address[1], flush=True)
    cache.serve_forever()
