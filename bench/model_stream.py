# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast models are encrypted and decrypted, next to a plain copy with the same threads, in the same run.

Files lie in memory (--directory, a tmpfs). Rounds are interleaved, so that a disturbance hits all variants alike. Prints two tables, and JSON
with --json: "new files", where each output is made anew, as model_encrypt and model_open do and as a copy would; and "pages there", where the
outputs were written before, which leaves only the copying and the cipher.

"aes" is the cipher alone on buffers in the cache: encrypting cannot be faster than copying and ciphering one after the other, and the last
line of each table says how near it comes to that bound.

The targets are for new files: nine tenths of a plain copy, 2.5 times the program age, 5 times Tink. It ends with 1 where one is missed; a peer that is
not installed is named, and leaves its target open.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.segments import HEADER_SIZE, associated_data
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.tink_stream import StreamEngine, read_header

KEY = bytes(range(32))
AAD = associated_data("bench", 1, "model.safetensors")
# Least speed as a multiple of each one's own.
TARGETS = {"copy": 0.9, "age": 2.5, "tink": 5.0}


def copy(source: int, dest: int, size: int, threads: int, block: int) -> None:
    """A plain copy with preadv and pwrite, blocks shared among threads as the engine shares segments."""

    def one(buffer: memoryview, offset: int) -> None:
        count = os.preadv(source, [buffer[: min(block, size - offset)]], offset)
        os.pwrite(dest, buffer[:count], offset)

    share(one, size, threads, block)


def aes(size: int, threads: int, block: int) -> None:
    """AES-256-GCM over as many bytes, without reading or writing a file."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    def one(buffer: memoryview, offset: int) -> None:
        cipher = Cipher(algorithms.AES(KEY), modes.GCM(offset.to_bytes(12, "big"))).encryptor()
        cipher.update_into(buffer, buffer)
        cipher.finalize()

    share(one, size, threads, block)


def share(one, size: int, threads: int, block: int) -> None:
    position, lock = [0], threading.Lock()

    def work() -> None:
        buffer = memoryview(bytearray(block))
        while True:
            with lock:
                offset = position[0]
                position[0] += block
            if offset >= size:
                return
            one(buffer, offset)

    crew = [threading.Thread(target=work) for _number in range(threads - 1)]
    for helper in crew:
        helper.start()
    work()
    for helper in crew:
        helper.join()


def tink_primitive(segment: int):
    """Tink itself, or None where it is not installed."""
    try:
        import tink
        from tink import cleartext_keyset_handle, streaming_aead
        from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2
    except ImportError:
        return None
    streaming_aead.register()
    params = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingParams(ciphertext_segment_size=segment, derived_key_size=32, hkdf_hash_type=common_pb2.SHA256)
    keyset = tink_pb2.Keyset(primary_key_id=1)
    entry = keyset.key.add()
    entry.key_data.type_url = "type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey"
    entry.key_data.value = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(version=0, params=params, key_value=KEY).SerializeToString()
    entry.key_data.key_material_type = tink_pb2.KeyData.SYMMETRIC
    entry.status, entry.key_id, entry.output_prefix_type = tink_pb2.ENABLED, 1, tink_pb2.RAW
    return cleartext_keyset_handle.read(tink.BinaryKeysetReader(keyset.SerializeToString())).primitive(streaming_aead.StreamingAead)


def tink_encrypt(primitive, source: str, dest: str, block: int) -> None:
    # r+b: the pages of the output are there already, as for the others.
    with open(source, "rb", buffering=0) as plain, primitive.new_encrypting_stream(open(dest, "r+b"), AAD) as out:
        while True:
            data = plain.read(block)
            if not data:
                return
            out.write(data)


def tink_decrypt(primitive, source: str, dest: str, block: int) -> None:
    with primitive.new_decrypting_stream(open(source, "rb"), AAD) as sealed, open(dest, "r+b", buffering=0) as out:
        while True:
            data = sealed.read(block)
            if not data:
                return
            out.write(data)


def age_variants(root: str, names: dict) -> dict:
    """The program age with a key of its own, or nothing where it is not installed."""
    if not shutil.which("age") or not shutil.which("age-keygen"):
        return {}
    key = os.path.join(root, "age.key")
    subprocess.run(["age-keygen", "-o", key], check=True, capture_output=True)
    recipient = subprocess.run(["age-keygen", "-y", key], check=True, capture_output=True, text=True).stdout.strip()
    return {
        "age encrypt": lambda: subprocess.run(["age", "-r", recipient, "-o", names["age-sealed"], names["plain"]], check=True),
        "age decrypt": lambda: subprocess.run(["age", "-d", "-i", key, "-o", names["age-opened"], names["age-sealed"]], check=True),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024, help="MiB of plaintext")
    parser.add_argument("--segment", type=int, default=1024, help="KiB per segment; the default is that of model_encrypt")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tink-rounds", type=int, default=2, help="rounds in which Tink and age take part, 0 for none")
    parser.add_argument("--directory", default="/dev/shm")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    size, segment, threads = options.size << 20, options.segment << 10, options.threads
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="model-stream-") as root:
        names = {name: os.path.join(root, name) for name in ("plain", "copied", "sealed", "opened", "tink-sealed", "tink-opened", "age-sealed", "age-opened")}
        files = {name: os.open(path, os.O_RDWR | os.O_CREAT) for name, path in names.items()}
        block = os.urandom(1 << 20)
        for offset in range(0, size, len(block)):
            os.pwrite(files["plain"], block[: size - offset], offset)
        engine = StreamEngine(segment, threads)
        primitive = tink_primitive(segment) if options.tink_rounds else None

        def decrypt() -> None:
            engine.decrypt(files["sealed"], files["opened"], size, KEY, AAD, read_header(files["sealed"]))

        def anew(name: str) -> None:
            """Another, empty file in the place of an output. What the old one held is given back before the clock starts."""
            os.close(files[name])
            os.unlink(names[name])
            files[name] = os.open(names[name], os.O_RDWR | os.O_CREAT)

        variants = {
            "copy": lambda: copy(files["plain"], files["copied"], size, threads, segment),
            "aes": lambda: aes(size, threads, min(segment, 1 << 20)),
            "encrypt": lambda: engine.encrypt(files["plain"], files["sealed"], size, KEY, AAD),
            "decrypt": decrypt,
        }
        if primitive is not None:
            variants["tink encrypt"] = lambda: tink_encrypt(primitive, names["plain"], names["tink-sealed"], segment)
            variants["tink decrypt"] = lambda: tink_decrypt(primitive, names["tink-sealed"], names["tink-opened"], segment)
        if options.tink_rounds:
            variants.update(age_variants(root, names))
        for work in variants.values():
            work()
        if os.pread(files["opened"], 1 << 20, size // 2) != os.pread(files["plain"], 1 << 20, size // 2):
            raise SystemExit("what was decrypted is not what was encrypted")
        tags = os.fstat(files["sealed"]).st_size - size - HEADER_SIZE
        outputs = {"copy": "copied", "encrypt": "sealed", "decrypt": "opened", "tink encrypt": "tink-sealed", "tink decrypt": "tink-opened"}
        outputs.update({"age encrypt": "age-sealed", "age decrypt": "age-opened"})
        results = {}
        for pages in ("new files", "pages there"):
            times: dict = {name: [] for name in variants}
            for number in range(options.rounds):
                # Another one first each time: who comes first after the old pages were given back pays for it.
                order = list(variants)[number % len(variants) :] + list(variants)[: number % len(variants)]
                for name in order:
                    work = variants[name]
                    if name.startswith(("tink", "age")) and number >= options.tink_rounds:
                        continue
                    if pages == "new files" and name in outputs:
                        anew(outputs[name])
                    start = time.perf_counter()
                    work()
                    times[name].append(time.perf_counter() - start)
            results[pages] = report(pages, times, size, options, tags)
        if options.json:
            with open(options.json, "w", encoding="utf-8") as stream:
                json.dump(results, stream, indent=1)
    return judge(results["new files"])


def judge(results: dict) -> int:
    """Say of each target whether it was reached; the status to end with."""
    missed = 0
    for peer, target in TARGETS.items():
        for way in ("encrypt", "decrypt"):
            name = peer if peer == "copy" else f"{peer} {way}"
            if name not in results["median_gb_s"]:
                print(f"target: {way} at {target} x {peer}: not measured, {peer} is not here or was not asked for")
                continue
            # With the copy of the same round; the others take part in fewer rounds.
            ratio = results["median_of_copy"][way] if peer == "copy" else results["median_gb_s"][way] / results["median_gb_s"][name]
            missed += ratio < target
            print(f"target: {way} at {target} x {peer}: {ratio:.2f} x, {'kept' if ratio >= target else 'NOT kept'}")
    return 1 if missed else 0


def report(pages: str, times: dict, size: int, options: argparse.Namespace, tags: int) -> dict:
    import cryptography

    medians = {name: size / statistics.median(values) / 1e9 for name, values in times.items()}
    best = {name: size / min(values) / 1e9 for name, values in times.items()}
    # Of the same round, so that a slow moment of the machine counts on both sides.
    paired = {name: statistics.median(one / two for one, two in zip(times["copy"], values)) for name, values in times.items()}
    print("%s: %d MiB, segments of %d KiB, %d threads, cryptography %s" % (pages, options.size, options.segment, options.threads, cryptography.__version__))
    print("%-14s %12s %12s %16s %16s" % ("", "median GB/s", "best GB/s", "median of copy", "best of copy"))
    for name in times:
        print("%-14s %12.2f %12.2f %15.0f%% %15.0f%%" % (name, medians[name], best[name], 100 * paired[name], 100 * best[name] / best["copy"]))
    for other in ("tink", "age"):
        if f"{other} encrypt" in medians:
            print("%s: encrypt is %.1f, decrypt %.1f times as fast" % (
                other, medians["encrypt"] / medians[f"{other} encrypt"], medians["decrypt"] / medians[f"{other} decrypt"]))
    bound = 1 / (1 / medians["copy"] + 1 / medians["aes"])
    print("copy, then aes: %.2f GB/s at best; encrypt reaches %.0f%%, decrypt %.0f%% of that" % (
        bound, 100 * medians["encrypt"] / bound, 100 * medians["decrypt"] / bound))
    return {
        "size": size, "segment": options.segment << 10, "threads": options.threads, "cryptography": cryptography.__version__, "tag_bytes": tags,
        "bound_gb_s": bound, "median_gb_s": medians, "best_gb_s": best, "median_of_copy": paired, "seconds": times,
    }


if __name__ == "__main__":
    sys.exit(main())
