# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
"""The demo's embedding model as a plain model server on loopback, as vLLM and its like are: no TLS, no evidence. It also streams.

    python embedding_runtime.py --demo tools/demo --model DIR --port PORT

    GET  /healthz    POST /v1/embed    POST /v1/rank         as the demo's server
    POST /v1/stream  {"question", "candidates"}              the ranking as server-sent events, one for each candidate
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from http.server import ThreadingHTTPServer

parser = argparse.ArgumentParser()
parser.add_argument("--demo", required=True)
parser.add_argument("--model", required=True)
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--pause", type=float, default=0.0, help="seconds between two events")
OPTIONS = parser.parse_args()
sys.path.insert(0, OPTIONS.demo)

from embedding import EmbeddingModel  # noqa: E402
from embedding_server import Handler as DemoHandler  # noqa: E402
from embedding_server import RequestError  # noqa: E402


class Handler(DemoHandler):
    def do_POST(self) -> None:
        if self.path == "/v1/stream":
            return self._stream()
        self.path = self.path.removeprefix("/v1") if self.path.startswith("/v1/") else "/" + self.path
        return super().do_POST()

    def _stream(self) -> None:
        try:
            ranking = self._rank(self._body())["ranking"]
        except RequestError as error:
            return self._answer(400, {"error": str(error)})
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for entry in ranking:
            event = b"data: %s\n\n" % json.dumps(entry).encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.wfile.flush()
            time.sleep(OPTIONS.pause)
        self.wfile.write(b"0\r\n\r\n")
        return None


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", OPTIONS.port), Handler)
        self.model, self.model_id = EmbeddingModel(OPTIONS.model), "embedding"

    def handle_error(self, _request: object, _client_address: object) -> None:
        """The front looks whether it answers, and goes."""


if __name__ == "__main__":
    Server().serve_forever()
