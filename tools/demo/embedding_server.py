# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
"""A small, real inference server for a model that was opened in a guest's memory. TLS 1.3 on loopback.

    python embedding_server.py start --model DIR --manifest FILE --state DIR    # returns when it answers; prints JSON
    python embedding_server.py stop --state DIR                                 # no error when nothing runs

    GET  /healthz                                     {"status": "ok", "model": ...}
    POST /embed  {"sentences": [...]}                 {"vectors": [[...], ...]}
    POST /rank   {"question": ..., "candidates": []}  {"ranking": [{"rank", "text", "score"}, ...]}

The state directory receives ``server.json`` (port, pid, digest of the TLS key) and ``tls.crt``, which the evidence binds. The TLS key
has no file. Requests and answers are never logged.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import typing as t
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import tls

MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs")
BODY_LIMIT = 1 << 20
TEXTS_LIMIT = 256
CLIENT_TIMEOUT = 10.0
START_TIMEOUT = 30.0
STOP_TIMEOUT = 5.0


class ServerError(Exception):
    """Why the server does not start or stop; one line for the person who runs it."""


class RequestError(Exception):
    """A request that cannot be answered; the text goes to the client."""


def check_model_directory(model: Path, manifest: Path) -> str:
    """Return the model's id if ``model`` is the opened form of the encrypted model that ``manifest`` describes, else ServerError."""
    try:
        described = json.loads(manifest.read_text(encoding="utf-8"))
        expected = {entry["path"]: entry["size"] for entry in described["files"]}
        model_id = str(described["model_id"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ServerError(f"{manifest} is no model manifest ({type(error).__name__}: {error})") from None
    kind = file_system_type(model)
    if kind not in MEMORY_FILE_SYSTEMS:
        raise ServerError(f"{model} lies on {kind}, not in memory; only a model opened in memory is served")
    found = {path.relative_to(model).as_posix(): path.stat().st_size for path in model.rglob("*") if path.is_file() and not path.is_symlink()}
    # Hidden files at the top are the opener's own notes; everything else must be what the manifest lists.
    found = {name: size for name, size in found.items() if not name.startswith(".")}
    if found != expected:
        differing = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        raise ServerError(f"{model} is not the opened model {model_id}: {', '.join(differing[:3])} differ from {manifest}; open it with model_open")
    return model_id


def file_system_type(path: Path) -> str:
    """Type of the file system that holds ``path``, by its device number in mountinfo."""
    try:
        device = path.stat().st_dev
    except OSError as error:
        raise ServerError(f"{path}: {error.strerror}") from None
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        before, _dash, after = line.partition(" - ")
        if before.split()[2] == wanted:
            return after.split()[0]
    return "an unknown file system"


class EmbeddingServer(ThreadingHTTPServer):
    """Threads for connections; the TLS handshake happens in the connection's thread, so that a silent client blocks nobody."""

    daemon_threads = True

    def __init__(self, model: t.Any, model_id: str, identity: tls.ServerIdentity, port: int) -> None:
        super().__init__((tls.HOST, port), Handler)
        self.model, self.model_id, self._context = model, model_id, identity.context

    def get_request(self) -> tuple[t.Any, t.Any]:
        connection, address = self.socket.accept()
        connection.settimeout(CLIENT_TIMEOUT)
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: t.Any, client_address: t.Any) -> None:
        """Broken connections are the client's affair; a trace could hold parts of a request."""


class Handler(BaseHTTPRequestHandler):
    server: EmbeddingServer
    server_version, sys_version = "attested-demo", ""
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/healthz":
            self._answer(200, {"status": "ok", "model": self.server.model_id})
        else:
            self._answer(404, {"error": "GET /healthz, POST /embed and POST /rank are what there is"})

    def do_POST(self) -> None:
        routes = {"/embed": self._embed, "/rank": self._rank}
        try:
            if self.path not in routes:
                return self._answer(404, {"error": "GET /healthz, POST /embed and POST /rank are what there is"})
            self._answer(200, routes[self.path](self._body()))
        except RequestError as error:
            self.close_connection = True
            self._answer(400, {"error": str(error)})

    def _embed(self, body: dict[str, t.Any]) -> dict[str, t.Any]:
        return {"vectors": self.server.model.embed(texts(body, "sentences")).tolist()}

    def _rank(self, body: dict[str, t.Any]) -> dict[str, t.Any]:
        question = body.get("question")
        if not isinstance(question, str):
            raise RequestError("question: a string is needed")
        return {"ranking": self.server.model.rank(question, texts(body, "candidates"))}

    def _body(self) -> dict[str, t.Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > BODY_LIMIT:
            raise RequestError(f"a Content-Length of at most {BODY_LIMIT} bytes is needed")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except ValueError:
            raise RequestError("the body is no JSON") from None
        if not isinstance(body, dict):
            raise RequestError("the body is no JSON object")
        return body

    def _answer(self, status: int, body: dict[str, t.Any]) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_arguments: t.Any) -> None:
        """Say nothing: the point of the exercise is that nobody else reads the requests."""


def texts(body: dict[str, t.Any], name: str) -> list[str]:
    value = body.get(name)
    if not isinstance(value, list) or not 1 <= len(value) <= TEXTS_LIMIT or not all(isinstance(item, str) for item in value):
        raise RequestError(f"{name}: a list of 1 to {TEXTS_LIMIT} strings is needed")
    return value


def serve(options: argparse.Namespace) -> None:
    """Load, write the state, answer until SIGTERM, take the state back."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    model_id = check_model_directory(options.model, options.manifest)
    from embedding import EmbeddingError, EmbeddingModel

    try:
        model = EmbeddingModel(options.model)
    except EmbeddingError as error:
        raise ServerError(str(error)) from None
    identity = tls.make_server_identity()
    server = EmbeddingServer(model, model_id, identity, options.port)
    # shutdown() waits for serve_forever(), which the signal handler interrupts: it must come from another thread.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    certificate, state = options.state / "tls.crt", options.state / "server.json"
    certificate.write_bytes(identity.certificate_pem)
    write_whole(state, {"url": f"https://{tls.HOST}:{server.server_port}", "pid": os.getpid(), "spki": identity.spki, "certificate": str(certificate)})
    try:
        server.serve_forever(poll_interval=0.1)
    finally:
        state.unlink(missing_ok=True)
        certificate.unlink(missing_ok=True)


def write_whole(path: Path, content: dict[str, t.Any]) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content), encoding="utf-8")
    partial.replace(path)


def start(options: argparse.Namespace) -> dict[str, t.Any]:
    """Start the server in a session of its own and wait until it answers; returns its state."""
    options.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    stop(options)
    command = [sys.executable, __file__, "serve"]
    for name in ("model", "manifest", "state", "port"):
        command += [f"--{name}", str(getattr(options, name))]
    with (options.state / "server.log").open("w", encoding="utf-8") as log:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        found = read_state(options.state)
        if found and found["pid"] == child.pid:
            return found
        if child.poll() is not None:
            said = (options.state / "server.log").read_text(encoding="utf-8").strip().splitlines()
            raise ServerError(said[-1].removeprefix("embedding_server: ") if said else f"the server ended with status {child.returncode}")
        time.sleep(0.02)
    child.kill()
    raise ServerError(f"the server did not answer within {START_TIMEOUT:.0f} s; see {options.state}/server.log")


def stop(options: argparse.Namespace) -> dict[str, t.Any]:
    """Stop the server of this state directory and wait for its end; ``stopped`` says whether there was one."""
    found = read_state(options.state)
    if not found or not is_ours(found["pid"]):
        return {"stopped": False}
    pid = found["pid"]
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            break
        deadline = time.monotonic() + STOP_TIMEOUT
        while is_ours(pid) and time.monotonic() < deadline:
            time.sleep(0.02)
    for name in ("server.json", "tls.crt"):
        (options.state / name).unlink(missing_ok=True)
    return {"stopped": True}


def is_ours(pid: int) -> bool:
    """Whether ``pid`` is still this server: the number of a dead process may belong to somebody else by now. A zombie has no arguments."""
    try:
        return Path(__file__).name.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def read_state(directory: Path) -> dict[str, t.Any] | None:
    try:
        return json.loads((directory / "server.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def main() -> int:
    parser = argparse.ArgumentParser(description="Serve an opened embedding model over TLS 1.3 on loopback.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("start", "serve", "stop"):
        command = commands.add_parser(name)
        command.add_argument("--state", type=Path, required=True, help="directory for server.json and tls.crt")
        if name != "stop":
            command.add_argument("--model", type=Path, required=True, help="the opened model, in memory")
            command.add_argument("--manifest", type=Path, required=True, help="model-manifest.json of the encrypted model")
            command.add_argument("--port", type=int, default=0, help="0 takes a free one")
    options = parser.parse_args()
    try:
        answer = {"start": start, "serve": serve, "stop": stop}[options.command](options)
    except (ServerError, OSError) as error:
        print(f"embedding_server: {error}", file=sys.stderr)
        return 1
    if answer is not None:
        print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
