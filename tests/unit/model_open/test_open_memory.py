# SPDX-License-Identifier: GPL-3.0-or-later
"""What a process that opens a model needs of memory, whatever the model's size: at most 200 MB, and no more for a large one than for a small one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.segments import DEFAULT_SEGMENT
from ansible_collections.attested.ai.plugins.module_utils.target.memory import memory_filesystem
from ansible_collections.attested.ai.tests.unit.model_open.open_lab import World
from ansible_collections.attested.ai.tests.unit.sealedmodel.web_lab import FileServer

pytestmark = pytest.mark.skipif(not memory_filesystem("/dev/shm").safe, reason="needs memory without swap at /dev/shm")
MOST, GROWTH, LARGE = 200_000_000, 16_000_000, 64 << 20
# Of this process alone since it began: getrusage counts what its parent had before exec, too. Files in a tmpfs are in no process.
CODE = """
import json, re, sys
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.opening import Order, run
assert run(Order(**json.load(sys.stdin)))["changed"]
print(int(re.search(r"VmHWM:\\s+([0-9]+) kB", open("/proc/self/status").read()).group(1)) * 1024)
"""


def peak(world: World, src: str) -> int:
    shutil.rmtree(world.memory)
    world.memory.mkdir(mode=0o700)
    order = {"src": src, "dest": str(world.memory / "model"), "session": world.session(), "session_directory": str(world.memory / "sessions"),
             "allow_http": True, "threads": 2}  # fmt: skip
    done = subprocess.run([sys.executable, "-c", CODE], input=json.dumps(order), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert sum(path.stat().st_size for path in (world.memory / "model").iterdir()) == sum(file.size for file in world.manifest.files)
    return int(done.stdout)


def test_memory_does_not_grow_with_the_model(tmp_path):
    memory = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="open-memory-test-"))
    try:
        small, large = (World(tmp_path / str(size), memory, {"model.bin": bytes(size)}, DEFAULT_SEGMENT) for size in (1 << 20, LARGE))
        base = peak(small, str(small.root / "sealed"))
        peaks = {"directory": peak(large, str(large.root / "sealed"))}
        with FileServer(large.root / "sealed") as server:
            peaks["server"] = peak(large, server.url)
    finally:
        shutil.rmtree(memory)
    assert max(peaks.values()) <= MOST, peaks
    assert max(peaks.values()) - base <= GROWTH, (base, peaks)
