# SPDX-License-Identifier: GPL-3.0-or-later
"""A front on loopback with a TEE that binds what it is told and proves nothing, and a model server on a Unix socket behind it."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import socketserver
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from ansible_collections.attested.ai.plugins.module_utils.errors import CollectError
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import PROFILE_ATTESTED, Binding, EvidenceDocument, EvidenceItem, report_data
from ansible_collections.attested.ai.plugins.module_utils.modelserver import settings as settings_module
from ansible_collections.attested.ai.plugins.module_utils.modelserver.client import AttestedServer
from ansible_collections.attested.ai.plugins.module_utils.modelserver.desk import Desk
from ansible_collections.attested.ai.plugins.module_utils.modelserver.failure import ServingError
from ansible_collections.attested.ai.plugins.module_utils.modelserver.front import listen
from ansible_collections.attested.ai.plugins.module_utils.modelserver.identity import client_context, make_identity
from ansible_collections.attested.ai.plugins.module_utils.modelserver.metrics import Metrics
from ansible_collections.attested.ai.plugins.module_utils.modelserver.proxy import Front
from ansible_collections.attested.ai.plugins.module_utils.modelserver.rate import Limiter, Rate

SERVED = {"model_id": "minilm", "release": 3, "manifest_sha256": "ab" * 32}


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class ModelServer(socketserver.ThreadingUnixStreamServer):
    """Answers with what it got, or with what a test puts into ``script``: bytes on the wire, one after the other."""

    daemon_threads = True

    def __init__(self, path):
        self.got, self.script, self.hold = [], None, threading.Event()
        self.gone = threading.Event()
        super().__init__(str(path), ModelHandler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


class ModelHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.client_address = ("unix", 0)

    def do_GET(self):
        self._do()

    def do_POST(self):
        self._do()

    def _do(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.got.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        if self.server.script is None:
            payload = json.dumps({"path": self.path, "sha256": hashlib.sha256(body).hexdigest()}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.send_header("Keep-Alive", "timeout=9")
            self.end_headers()
            self.wfile.write(payload)
            return
        self.close_connection = True
        try:
            for part in self.server.script:
                if part is None:
                    self.server.hold.wait(10)
                else:
                    self.wfile.write(part)
                    self.wfile.flush()
            # A client that went away shows as the end of what it sends.
            if self.rfile.read(1) == b"":
                self.server.gone.set()
        except OSError:
            self.server.gone.set()

    def log_message(self, *_arguments):
        pass


class Lab:
    def __init__(self, folder: Path):
        self.folder, self.clock, self.collected, self.fail = folder, Clock(), [], ""
        self.options = {"connections": 16, "header_seconds": 5.0, "answer_seconds": 10.0, "body_max": 100_000}

    def __enter__(self):
        self.identity = make_identity("lab")
        (self.folder / "a").mkdir()
        self.model = ModelServer(self.folder / "a" / "model.sock")
        (self.folder / "a" / "served.json").write_text(json.dumps(SERVED))
        os.symlink("a", self.folder / "current")
        self.start()
        return self

    def start(self, **more):
        """Front with further options."""
        obj = {"name": "lab", "address": "127.0.0.1", "port": 1, "user": "", "runtime": str(self.folder), "paths": ["/v1/", "/health"], **self.options, **more}
        self.settings = settings_module.parse(obj)
        self.listener = listen("127.0.0.1", 0)
        self.port = self.listener.getsockname()[1]
        self.desk = Desk(self.collect, lambda: b"d" * 32, self.clock, Limiter(Rate(1.0, 8), Rate(0.5, 4)), 300.0)
        self.metrics = Metrics()
        self.front = Front(self.listener, self.settings, self.identity, self.desk, self.metrics)
        threading.Thread(target=self.front.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def restart(self, **more):
        self.front.shutdown()
        self.listener.close()
        self.start(**more)

    def __exit__(self, *_ignored):
        self.model.hold.set()
        self.front.shutdown()
        self.listener.close()
        self.model.shutdown()
        self.model.server_close()

    def collect(self, nonce):
        self.collected.append(nonce)
        if self.fail:
            raise CollectError(self.fail)
        return self.document(nonce).to_dict()

    def document(self, nonce, spki=None, jwk=None):
        binding = Binding(tee_pubkey=jwk or self.identity.jwk, tls_spki=spki or self.identity.spki)
        item = EvidenceItem("sev-snp", "lab", report_data(PROFILE_ATTESTED, nonce, binding))
        return EvidenceDocument(PROFILE_ATTESTED, nonce, binding, (item,), {})

    @staticmethod
    def judge(document, nonce):
        """As an appraisal does: the report must cover the verifier's own nonce and everything that is bound."""
        if document.items[0].evidence != document.expected_report_data(nonce):
            raise ServingError("the report covers something else", code="refused")
        return "accepted"

    def server(self, **more):
        return AttestedServer(f"https://127.0.0.1:{self.port}", self.judge, timeout=10, **more)

    def verified(self, **more):
        server = self.server(**more)
        server.verify()
        return server

    def connect(self, context=None):
        plain = socket.create_connection(("127.0.0.1", self.port), 10)
        return (context or client_context()).wrap_socket(plain, server_hostname="lab")

    def raw(self, request: bytes) -> bytes:
        """What comes back until the front ends the connection, or for 10 seconds."""
        with self.connect() as channel:
            channel.sendall(request)
            parts = []
            try:
                while part := channel.recv(65536):
                    parts.append(part)
            except (TimeoutError, ssl.SSLError, ConnectionError):
                pass
            return b"".join(parts)

    def outcomes(self):
        """Wait for nothing: what was counted so far."""
        return self.metrics.text()


def wait_for(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
