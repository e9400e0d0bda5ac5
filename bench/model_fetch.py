# SPDX-License-Identifier: GPL-3.0-or-later
"""What decrypting costs while a model is fetched, next to fetching the same bytes alone with the same connections; and memory for two sizes of a model.

A server of ranges runs in a process of its own on loopback. Without --rate it is faster than any network between machines, and both share the processors:
what decrypting adds shows at its worst. With --rate it sends as a line of so many gigabits per second would.
Files lie in memory (--directory, a tmpfs). Rounds are interleaved. Prints a table, and JSON with --json. It ends with 1 where decrypting takes more than
a tenth of the speed, or where memory goes over its limit.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import socketserver
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler

from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.segments import DEFAULT_SEGMENT, Layout, associated_data
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.tink_stream import StreamEngine, read_header
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.web import Web, WebSource

KEY = bytes(range(32))
AAD = associated_data("bench", 1, "model.safetensors")
# Least share of the speed of fetching alone, and most memory in MB for a model of any size.
SHARE, MEMORY = 0.9, 200


class Handler(BaseHTTPRequestHandler):
    """One file, in ranges, by sendfile."""

    protocol_version = "HTTP/1.1"
    path_of_file = ""
    # Bytes per second of all connections together, 0 for no limit, and when the next byte may go.
    rate, free_at, lock = 0.0, 0.0, threading.Lock()

    def log_message(self, *_args):
        pass

    def do_GET(self):
        with open(self.path_of_file, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups())
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
            self.send_header("Content-Length", str(last - first + 1))
            self.end_headers()
            self.wfile.flush()
            while first <= last:
                count = min(last - first + 1, 1 << 18) if self.rate else last - first + 1
                sent = os.sendfile(self.connection.fileno(), stream.fileno(), first, count)
                first += sent
                if self.rate:
                    self.wait(sent)

    def wait(self, sent: int) -> None:
        with self.lock:
            Handler.free_at = max(Handler.free_at, time.monotonic() - 0.005) + sent / self.rate
            pause = Handler.free_at - time.monotonic()
        if pause > 0:
            time.sleep(pause)


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    allow_reuse_address = True


def serve(path: str, gigabits: float) -> None:
    Handler.path_of_file, Handler.rate = path, gigabits * 1e9 / 8
    server = Server(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


def fetch(source: WebSource, size: int, dest: int, threads: int) -> None:
    """The same connections and ranges, each thread writing what it gets."""
    windows = list(range(0, size, source.batch_bytes))
    with source.open("x", size) as remote:

        def work() -> None:
            buffer = memoryview(bytearray(DEFAULT_SEGMENT))
            while windows:
                try:
                    begin = windows.pop(0)
                except IndexError:
                    return
                for offset in range(begin, min(begin + source.batch_bytes, size), len(buffer)):
                    part = buffer[: min(len(buffer), size - offset)]
                    remote.read_into(part, offset)
                    os.pwrite(dest, part, offset)

        crew = [threading.Thread(target=work) for _number in range(threads - 1)]
        for helper in crew:
            helper.start()
        work()
        for helper in crew:
            helper.join()


def open_remote(source: WebSource, plain_size: int, size: int, dest: int, threads: int) -> None:
    with StreamEngine(DEFAULT_SEGMENT, threads, None, source.batch_bytes // DEFAULT_SEGMENT) as engine, source.open("x", size) as remote:
        engine.decrypt(remote, dest, plain_size, KEY, AAD, read_header(remote))


def measure(mib: int, options: argparse.Namespace) -> dict:
    plain_size = mib << 20
    size = Layout(plain_size, DEFAULT_SEGMENT).cipher_size
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="model-fetch-") as root:
        names = {name: os.path.join(root, name) for name in ("plain", "sealed", "fetched", "opened")}
        files = {name: os.open(path, os.O_RDWR | os.O_CREAT) for name, path in names.items()}
        block = os.urandom(1 << 20)
        for offset in range(0, plain_size, len(block)):
            os.pwrite(files["plain"], block, offset)
        with StreamEngine(DEFAULT_SEGMENT, options.threads) as engine:
            engine.encrypt(files["plain"], files["sealed"], plain_size, KEY, AAD)
        server = subprocess.Popen([sys.executable, __file__, "--serve", names["sealed"], "--rate", str(options.rate)], stdout=subprocess.PIPE, text=True)
        try:
            source = WebSource(Web(f"http://127.0.0.1:{server.stdout.readline().strip()}", allow_http=True))
            variants = {
                "fetch": lambda: fetch(source, size, files["fetched"], options.threads),
                "fetch and decrypt": lambda: open_remote(source, plain_size, size, files["opened"], options.threads),
            }
            times: dict = {name: [] for name in variants}
            for number in range(options.rounds + 1):
                for name in sorted(variants, reverse=bool(number % 2)):
                    start = time.perf_counter()
                    variants[name]()
                    if number:
                        times[name].append(time.perf_counter() - start)
            source.close()
        finally:
            server.kill()
            server.wait()
        if os.pread(files["opened"], 1 << 20, plain_size // 2) != os.pread(files["plain"], 1 << 20, plain_size // 2):
            raise SystemExit("what was decrypted is not what was encrypted")
    paired = [one / two for one, two in zip(times["fetch"], times["fetch and decrypt"])]
    best = min(times["fetch"]) / min(times["fetch and decrypt"])
    return {"mib": mib, "seconds": times, "of_fetch_alone": statistics.median(paired), "best_of_fetch_alone": best}


def peak(mib: int, directory: str) -> int:
    """Peak memory in MB of a process that encrypts and decrypts so much. Its files, in a tmpfs, do not count."""
    code = (
        "import os,resource,sys,tempfile\n"
        "from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.tink_stream import StreamEngine, read_header\n"
        "size=int(sys.argv[1])<<20\n"
        "a,b,c=(tempfile.TemporaryFile(dir=sys.argv[2]) for _ in range(3))\n"
        "a.truncate(size)\n"
        "with StreamEngine(1<<20, 2) as engine:\n"
        "    engine.encrypt(a.fileno(), b.fileno(), size, bytes(32), b'x')\n"
        "    engine.decrypt(b.fileno(), c.fileno(), size, bytes(32), b'x', read_header(b.fileno()))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss//1000)\n"
    )
    return int(subprocess.run([sys.executable, "-c", code, str(mib), directory], check=True, capture_output=True, text=True).stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024, help="MiB of plaintext")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--rate", type=float, default=0, help="gigabits per second of the line, 0 for as fast as it goes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--directory", default="/dev/shm")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.rate)
        return 0
    result = measure(options.size, options)
    result["peak_mb"] = {mib: peak(mib, options.directory) for mib in (max(1, options.size // 8), options.size)}
    medians = {name: options.size * (1 << 20) / statistics.median(values) / 1e9 for name, values in result["seconds"].items()}
    print(f"{options.size} MiB, {options.threads} connections: fetch {medians['fetch']:.2f} GB/s, fetch and decrypt {medians['fetch and decrypt']:.2f} GB/s: "
          f"{100 * result['of_fetch_alone']:.0f} % of fetching alone (best rounds {100 * result['best_of_fetch_alone']:.0f} %)")
    print("peak memory of encrypting and decrypting: " + ", ".join(f"{mib} MiB: {value} MB" for mib, value in result["peak_mb"].items()))
    print(f"this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000} MB")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as stream:
            json.dump(result, stream, indent=1)
    share, memory = result["of_fetch_alone"], max(result["peak_mb"].values())
    print(f"target: {SHARE} of fetching alone: {share:.2f}, {'kept' if share >= SHARE else 'NOT kept'}")
    print(f"target: at most {MEMORY} MB: {memory}, {'kept' if memory <= MEMORY else 'NOT kept'}")
    return 0 if share >= SHARE and memory <= MEMORY else 1


if __name__ == "__main__":
    sys.exit(main())
