# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The front: TLS 1.3 with the attested key, one thread for each connection up to a limit; and numbers, on an address of their own."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Dict, Optional

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.modelserver import upstream
from ansible_collections.attested.ai.plugins.module_utils.modelserver.budget import Budget
from ansible_collections.attested.ai.plugins.module_utils.modelserver.desk import Desk
from ansible_collections.attested.ai.plugins.module_utils.modelserver.guard import Guard
from ansible_collections.attested.ai.plugins.module_utils.modelserver.handler import Handler
from ansible_collections.attested.ai.plugins.module_utils.modelserver.identity import Identity
from ansible_collections.attested.ai.plugins.module_utils.modelserver.metrics import Metrics
from ansible_collections.attested.ai.plugins.module_utils.modelserver.seen import Seen
from ansible_collections.attested.ai.plugins.module_utils.modelserver.settings import Settings

_SERVED_MAX = 1 << 16


class Front(ThreadingHTTPServer):
    """One thread for each connection, up to a limit. The handshake happens in that thread: who says nothing keeps nobody else waiting."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, listener: socket.socket, settings: Settings, identity: Identity, desk: Desk, metrics: Metrics) -> None:
        super().__init__(listener.getsockname()[:2], Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.settings, self.identity, self.desk, self.metrics = settings, identity, desk, metrics
        self.seen = Seen()
        self.budget = Budget(settings.bodies_max)
        self.guard = Guard(time.monotonic)
        self._room = threading.BoundedSemaphore(settings.connections)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.metrics.add("requests_total", kind="connection", outcome="no-room")
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        self.metrics.add("connections", 1)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.metrics.add("connections", -1)
            self._room.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(self.settings.header_seconds)
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            with self.guard.within(request, self.settings.header_seconds):
                channel = self.identity.context.wrap_socket(request, server_side=True)
        except (OSError, ValueError):
            self.metrics.add("requests_total", kind="handshake", outcome="failed")
            return
        try:
            Handler(channel, client_address, self)
        finally:
            self.shutdown_request(channel)

    def service_actions(self) -> None:
        self.guard.look()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nothing to tell of, and what else went wrong must not tell of its request."""
        self.metrics.add("requests_total", kind="connection", outcome="broken")

    def served(self) -> Optional[Dict[str, Any]]:
        """Which model answers now, as the instance wrote it; None if none does."""
        try:
            with open(self.settings.served, "rb") as stream:
                found = strict.members(strict.loads(stream.read(_SERVED_MAX)), ("model_id", "release", "manifest_sha256"))
            return dict(found)
        except (OSError, AttestedError):
            return None


class MetricsServer(ThreadingHTTPServer):
    """Numbers on an address of their own, for loopback: clients do not learn how busy the server is."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, metrics: Metrics, front: Front, path: str) -> None:
        super().__init__(listener.getsockname()[:2], MetricsHandler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.metrics, self.front, self.path = metrics, front, path

    def handle_error(self, request: Any, client_address: Any) -> None:
        """As for the front."""


class MetricsHandler(BaseHTTPRequestHandler):
    server: MetricsServer
    timeout = 10

    def do_GET(self) -> None:
        if self.path != "/metrics":
            self.send_error(404)
            return
        front = self.server.front
        self.server.metrics.put("up", float(front.served() is not None and upstream.connects(front.settings.socket)))
        text = self.server.metrics.text().encode("ascii")
        if self.server.path:
            text += self._of_the_model()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _of_the_model(self) -> bytes:
        try:
            status, _headers, data = upstream.fetch(self.server.front.settings.socket, 10.0, "GET", self.server.path, {}, None, 4 << 20)
        except (OSError, http.client.HTTPException):
            return b""
        return data if status == 200 else b""

    def log_message(self, *_arguments: Any) -> None:
        """Nothing."""
