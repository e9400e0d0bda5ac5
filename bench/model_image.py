# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast the encrypted image of a model is made, next to a plain copy with as many processes, in the same run. Files lie in memory (--directory).

Making it reads the model twice: the key of the image depends on the root hash of its tree. "hash" and "encrypt" are the two passes.
How long opening takes is measured in a machine: tools/vm/model_image.py --gib 10.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import tempfile
import time

from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import tree, workers
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.image_build import CHUNK, ImageEngine


def copy(source: int, dest: int, size: int, processes: int) -> None:
    def work(number: int, advance) -> None:
        buffer = memoryview(bytearray(CHUNK))
        for offset in range(number * CHUNK, size, processes * CHUNK):
            count = os.preadv(source, [buffer[: min(CHUNK, size - offset)]], offset)
            os.pwrite(dest, buffer[:count], offset)
            advance(count)

    workers.share(processes, work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="MiB of plaintext")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", default="/dev/shm")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    size = options.size << 20
    root = tempfile.mkdtemp(dir=options.directory, prefix="model-image-")
    try:
        os.mkdir(os.path.join(root, "model"))
        with open(os.path.join(root, "model", "weights.bin"), "wb") as stream:
            block = os.urandom(1 << 20)
            for _number in range(options.size):
                stream.write(block)
        files = tree.walk(os.path.join(root, "model"))
        times: dict = {"copy": [], "hash": [], "encrypt": []}
        for _round in range(options.rounds):
            source, copied, sealed = (os.open(os.path.join(root, name), os.O_RDWR | os.O_CREAT) for name in ("model/weights.bin", "copied", "sealed"))
            engine = ImageEngine(os.path.join(root, "model"), files, "12345678-1234-4234-8234-123456789abc", bytes(32), options.processes)
            for name, work in (
                ("copy", lambda: copy(source, copied, size, options.processes)),
                ("hash", lambda: engine.hash(sealed)),
                ("encrypt", lambda: engine.encrypt(sealed, bytes(range(64)))),
            ):
                start = time.perf_counter()
                work()
                times[name].append(time.perf_counter() - start)
            for descriptor in (source, copied, sealed):
                os.close(descriptor)
            for name in ("copied", "sealed"):
                os.unlink(os.path.join(root, name))
    finally:
        shutil.rmtree(root)
    both = [one + two for one, two in zip(times["hash"], times["encrypt"])]
    ratio = statistics.median(one / two for one, two in zip(times["copy"], both))
    for name, values in {**times, "hash and encrypt": both}.items():
        print(f"{name:18} {size / statistics.median(values) / 1e9:6.2f} GB/s")
    print(f"{options.size} MiB, {options.processes} processes: {100 * ratio:.0f} % of a plain copy")
    print(f"peak memory: {max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) // 1000} MB")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as stream:
            json.dump({"size": size, "processes": options.processes, "seconds": times, "of_copy": ratio}, stream, indent=1)


if __name__ == "__main__":
    main()
