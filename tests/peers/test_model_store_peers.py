# SPDX-License-Identifier: GPL-3.0-or-later
"""A model in an S3 store of others, which checks every signature: put there by botocore, opened by a guest from presigned addresses, in ranges."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from ansible_collections.attested.ai.plugins.filter.s3_presigned import FilterModule
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import web
from ansible_collections.attested.ai.plugins.module_utils.target.memory import memory_filesystem
from ansible_collections.attested.ai.tests.unit.model_open.open_lab import FILES, World

pytestmark = pytest.mark.skipif(not memory_filesystem("/dev/shm").safe, reason="needs memory without swap at /dev/shm")
s3_presigned = FilterModule().filters()["s3_presigned"]
KEY = {"access_key": "guest-test", "secret_key": "made/for+this=test"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Its endpoint and the folder it keeps things in."""
    pytest.importorskip("nanio")
    folder = tmp_path_factory.mktemp("store")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "NANIO_ACCESS_KEY": KEY["access_key"], "NANIO_SECRET_KEY": KEY["secret_key"]}
    command = [sys.executable, "-m", "nanio", "serve", "--data-dir", str(folder), "--host", "127.0.0.1", "--port", str(port), "--log-level", "error"]
    server = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, cwd=folder)
    try:
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None and time.monotonic() < deadline, "the store did not come up"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}", folder
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    memory = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="open-store-test-"))
    yield World(tmp_path_factory.mktemp("model"), memory)
    shutil.rmtree(memory)


def upload(endpoint: str, sealed: Path) -> list[str]:
    session = pytest.importorskip("botocore.session").get_session()
    client = session.create_client("s3", endpoint_url=endpoint, aws_access_key_id=KEY["access_key"], aws_secret_access_key=KEY["secret_key"],
                                   region_name="us-east-1")  # fmt: skip
    client.create_bucket(Bucket="models")
    names = sorted(str(path.relative_to(sealed)) for path in sealed.rglob("*") if path.is_file())
    for name in names:
        client.put_object(Bucket="models", Key=f"m-1/{name}", Body=(sealed / name).read_bytes())
    return names


def test_a_model_goes_to_a_store_and_opens_from_it(store, world, monkeypatch):
    endpoint, folder = store
    names = upload(endpoint, world.root / "sealed")
    assert all((folder / "models/m-1" / name).read_bytes() == (world.root / "sealed" / name).read_bytes() for name in names)
    monkeypatch.setattr(web, "_WINDOW", 65536)
    monkeypatch.setattr(web.WebSource, "batch_bytes", 65536)
    monkeypatch.setattr(web, "_PAUSE", 0.01)
    options = {"bucket": "models", "prefix": "m-1/", "endpoint": endpoint, "path_style": True}
    # In the middle of a file the line is cut, once for each thread that is there.
    real, cut = web._Stream.read_into, []

    def cutting(self, buffer):
        if self.position % 65536 and len(cut) < 2:
            cut.append(self.position)
            raise ConnectionResetError("cut")
        return real(self, buffer)

    monkeypatch.setattr(web._Stream, "read_into", cutting)
    assert world.open(f"{endpoint}/models/m-1", urls=s3_presigned(names, **KEY, **options), threads=2)["changed"]
    assert world.contents() == FILES and len(cut) == 2
    shutil.rmtree(world.memory / "model")
    (world.memory / "model.complete").unlink()
    for changed in ({"secret_key": "another"}, {"time": int(time.time()) - 7200}, {"access_key": "nobody"}):
        said = world.refused("model-remote-denied", f"{endpoint}/models/m-1", urls=s3_presigned(names, **{**KEY, **options, **changed}))
        assert "Signature" not in said and "presigned" in said
    # An address reads what it names, and nothing else.
    first, second = s3_presigned(names, **KEY, **options)["config.json.tink"], "weights/b.bin.tink"
    exchanged = {**s3_presigned(names, **KEY, **options), "model-manifest.json": first.replace("config.json.tink", second)}
    world.refused("model-remote-denied", f"{endpoint}/models/m-1", urls=exchanged)
