# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of images share: a real skopeo, images made for the run, and a registry on loopback."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.server
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ansible_collections.attested.ai.plugins.module_utils.ocicrypt import layout, reference, store
from ansible_collections.attested.ai.plugins.plugin_utils import ocicrypt_keyprovider
from ansible_collections.attested.ai.plugins.plugin_utils.skopeo import Skopeo

REPO = Path(__file__).resolve().parents[3]
PROVIDER = ocicrypt_keyprovider.__file__
KID = "kbs:///default/key/test"
# Programs around CoCo's own crates, built by whoever has them: `coco-peer KEY DESCRIPTOR.json LAYER OUT` opens a layer, `coco-policy` beside it reads a policy.
COCO_PEER = os.environ.get("ATTESTED_COCO_PEER", "")
TAR = "application/vnd.oci.image.layer.v1.tar"


def tool() -> object:
    spec = importlib.util.spec_from_file_location("attested_skopeo_tool", REPO / "tools" / "images" / "skopeo.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def secret(path: Path, data: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(data)
    return path


def tarred(**files: bytes) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def blob(folder: Path, data: bytes) -> dict:
    digest = layout.digest_of(data)
    Path(layout.blob_path(str(folder), digest)).write_bytes(data)
    return {"digest": digest, "size": len(data)}


def image(folder: Path, tag: str, *layers: tuple[str, bytes], architecture: str = "amd64", name: bool = True) -> dict:
    """Write an image of (kind of compression, tar) into a layout; returns its descriptor."""
    store.begin(str(folder))
    described = []
    for kind, data in layers:
        packed = gzip.compress(data, mtime=0) if kind.endswith("+gzip") else data
        described.append({"mediaType": kind, **blob(folder, packed)})
    ids = [layout.digest_of(data) for _kind, data in layers]
    root = {"type": "layers", "diff_ids": ids}
    config = json.dumps({"architecture": architecture, "os": "linux", "config": {"Env": [f"TAG={tag}"]}, "rootfs": root}).encode()
    document = {
        "schemaVersion": 2, "mediaType": layout.OCI_MANIFEST, "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **blob(folder, config)},
        "layers": described,
    }  # fmt: skip
    raw = json.dumps(document).encode()
    if name:
        store.name(str(folder), tag, raw)
    return {"mediaType": layout.OCI_MANIFEST, **blob(folder, raw), "platform": {"os": "linux", "architecture": architecture}}


def plain(folder: Path, tag: str = "1", word: bytes = b"the weights") -> Path:
    image(folder, tag, (TAR + "+gzip", tarred(server=b"#!/bin/sh\n")), (TAR, tarred(weights=word * 20000)))
    return folder


def local(text: str, written: bool = False) -> reference.Reference:
    return reference.parse(text, "test", lambda path: path, written)


def inspect(folder: Path, tag: str = "1") -> layout.Image:
    raw = layout.find(str(folder), tag)
    assert raw is not None
    return layout.image(raw, str(folder))


def by_hand(skopeo: Skopeo, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """skopeo as a person calls it, with our provider."""
    config = folder / "keyprovider.json"
    config.write_text(json.dumps(ocicrypt_keyprovider.configuration()))
    environment = dict(os.environ, OCICRYPT_KEYPROVIDER_CONFIG=str(config))
    environment.pop("PYTHONPATH", None)
    return subprocess.run([skopeo.path, "--insecure-policy", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120)


def wrapper(path: Path, skopeo: Skopeo, script: str) -> str:
    """A program in skopeo's place: a few lines of Python before it, which see and change ``arguments``."""
    text = f"#!{sys.executable}\nimport json, os, sys\narguments = sys.argv[1:]\n{script}\nos.execv({skopeo.path!r}, [{skopeo.path!r}, *arguments])\n"
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def playbook(folder: Path, *tasks: tuple[str, dict], arguments: tuple[str, ...] = ()) -> tuple[str, list[dict]]:
    named = [{f"attested.ai.{name}": options, "register": f"task{number}", "ignore_errors": True} for number, (name, options) in enumerate(tasks)]
    content = "RESULTS:{{ [%s] | to_json | b64encode }}:" % ", ".join(f"task{number}" for number in range(len(tasks)))
    play = [{"hosts": "localhost", "gather_facts": False, "tasks": [*named, {"ansible.builtin.debug": {"msg": content}}]}]
    (folder / "play.json").write_text(json.dumps(play))
    done = run_playbook(folder, folder / "play.json", "-vvv", *arguments)
    found = re.search(r"RESULTS:([A-Za-z0-9+/=]+):", done.stdout)
    assert done.returncode == 0 and found, done.stdout
    return done.stdout, json.loads(base64.b64decode(found.group(1)))


def run_playbook(folder: Path, path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, ANSIBLE_LOCALHOST_WARNING="false", ANSIBLE_NOCOLOR="true", ANSIBLE_LOCAL_TEMP=str(folder / "local"))
    environment.setdefault("ANSIBLE_COLLECTIONS_PATH", os.pathsep.join(sys.path))
    return subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-c", "local", str(path), *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120, cwd=folder,
    )  # fmt: skip


class _Handler(http.server.BaseHTTPRequestHandler):
    """As much of the distribution specification as skopeo and a guest need: also tokens and ranges."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments: object) -> None:
        pass

    def _say(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _missing(self, code: str) -> None:
        words = {"MANIFEST_UNKNOWN": "manifest unknown", "BLOB_UNKNOWN": "blob unknown"}
        self._say(404, json.dumps({"errors": [{"code": code, "message": words[code]}]}).encode(), Content_Type="application/json")

    def _allowed(self) -> bool:
        wanted = self.server.account  # type: ignore[attr-defined]
        if self.server.tokens is not None:  # type: ignore[attr-defined]
            return self._has_token()
        if not wanted or self.headers.get("Authorization") == "Basic " + base64.b64encode(wanted.encode()).decode():
            return True
        self._say(401, b'{"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}', WWW_Authenticate='Basic realm="test"')
        return False

    def _has_token(self) -> bool:
        left = self.server.tokens.get(self.headers.get("Authorization", ""), 0)  # type: ignore[attr-defined]
        if left:
            self.server.tokens[self.headers["Authorization"]] = left - 1  # type: ignore[attr-defined]
            return True
        challenge = f'Bearer realm="{self.server.realm}",service="test",scope="repository:all:pull,push"'  # type: ignore[attr-defined]
        self._say(401, b"{}", WWW_Authenticate=challenge)
        return False

    def _token(self, query: str) -> None:
        """Good for eight requests, and told to whoever has the password."""
        self.server.asked.append((query, self.headers.get("Authorization", "")))  # type: ignore[attr-defined]
        if self.headers.get("Authorization", "") != "Basic " + base64.b64encode(self.server.account.encode()).decode():  # type: ignore[attr-defined]
            self._say(401, b"{}")
            return
        token = os.urandom(8).hex()
        self.server.tokens["Bearer " + token] = 8  # type: ignore[attr-defined]
        self._say(200, json.dumps({"token": token}).encode())

    def _blob(self, data: bytes) -> None:
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if span is None:
            self._say(200, data, Content_Type="application/octet-stream")
            return
        first, last = int(span[1]), min(int(span[2]), len(data) - 1)
        self._say(206, data[first : last + 1], Content_Type="application/octet-stream", Content_Range=f"bytes {first}-{last}/{len(data)}")

    def do_GET(self) -> None:  # noqa: N802
        if self.path.startswith("/token?"):
            self._token(self.path.partition("?")[2])
            return
        if not self._allowed():
            return
        path = self.path.partition("?")[0]
        if path == "/v2/":
            self._say(200, b"{}")
        elif match := re.fullmatch(r"/v2/(.+)/manifests/(.+)", path):
            raw = self.server.manifests.get(match.groups())  # type: ignore[attr-defined]
            if raw is None:
                self._missing("MANIFEST_UNKNOWN")
            else:
                kind = json.loads(raw).get("mediaType", layout.OCI_MANIFEST)
                self._say(200, raw, Content_Type=kind, Docker_Content_Digest=layout.digest_of(raw))
        elif (match := re.fullmatch(r"/v2/.+/blobs/(sha256:.+)", path)) and match.group(1) in self.server.blobs:  # type: ignore[attr-defined]
            self._blob(self.server.blobs[match.group(1)])  # type: ignore[attr-defined]
        else:
            self._missing("BLOB_UNKNOWN")

    do_HEAD = do_GET  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def do_POST(self) -> None:  # noqa: N802
        self._body()
        if self._allowed():
            self._say(202, Location=self.path.partition("?")[0] + os.urandom(4).hex(), Range="0-0")

    def do_PATCH(self) -> None:  # noqa: N802
        data = self._body()
        if self._allowed():
            self.server.uploads[self.path] = self.server.uploads.get(self.path, b"") + data  # type: ignore[attr-defined]
            self._say(202, Location=self.path, Range=f"0-{len(self.server.uploads[self.path]) - 1}")  # type: ignore[attr-defined]

    def do_PUT(self) -> None:  # noqa: N802
        data = self._body()
        if not self._allowed():
            return
        path, _mark, query = self.path.partition("?")
        if match := re.fullmatch(r"/v2/(.+)/manifests/(.+)", path):
            name, tag = match.groups()
            self.server.manifests[name, tag] = self.server.manifests[name, layout.digest_of(data)] = data  # type: ignore[attr-defined]
            self._say(201, Docker_Content_Digest=layout.digest_of(data))
            return
        data = self.server.uploads.pop(path, b"") + data  # type: ignore[attr-defined]
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        assert digest.replace(":", "%3A") in query or digest in query
        self.server.blobs[digest] = data  # type: ignore[attr-defined]
        self._say(201, Docker_Content_Digest=digest)


class Registry(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.manifests: dict[tuple[str, str], bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.uploads: dict[str, bytes] = {}
        self.account = ""
        # Where tokens are made and how often each may still be shown; None: passwords are taken at once. What was asked for them, and with what.
        self.realm = f"http://{self.host}/token"
        self.tokens: dict[str, int] | None = None
        self.asked: list[tuple[str, str]] = []

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


@contextmanager
def registry() -> Iterator[Registry]:
    with Registry() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def damage(folder: Path, digest: str) -> None:
    path = Path(layout.blob_path(str(folder), digest))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def copied(folder: Path, dest: Path) -> Path:
    shutil.copytree(folder, dest)
    return dest
