# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
"""Ask the embedding model, over TLS 1.3 to an attested key, or directly from a plain model directory for comparison.

    python embedding_client.py --url https://127.0.0.1:PORT --spki sha256:HEX < request.json
    python embedding_client.py --model DIR < request.json

The request is ``{"question": ..., "candidates": [...]}``; the answer is JSON with the ranking.
With ``--model`` the request may hold the ranking of the attested model as ``attested``; the answer then has both scores as ``side_by_side``.
"""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import sys
import typing as t
import urllib.parse

import tls

TIMEOUT = 30.0


class ClientError(Exception):
    """Why there is no answer; one line."""


class PinnedConnection(http.client.HTTPSConnection):
    """HTTPS whose server is known by the digest of its public key, as an attestation result names it."""

    def __init__(self, host: str, port: int, spki: str) -> None:
        super().__init__(host, port, timeout=TIMEOUT, context=tls.client_context())
        self._spki = spki
        self.protocol = ""

    def connect(self) -> None:
        super().connect()
        try:
            tls.check_pin(self.sock, self._spki)
        except tls.PinError:
            self.close()
            raise
        self.protocol = str(self.sock.version())


def ask(url: str, spki: str, request: dict[str, t.Any], path: str = "/rank") -> dict[str, t.Any]:
    """Send ``request`` to the server whose key is ``spki``; returns its answer and the TLS version."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or not parts.port:
        raise ClientError(f"{url} is no https address with a port")
    connection = PinnedConnection(parts.hostname, parts.port, spki)
    try:
        connection.request("POST", path, json.dumps(request), {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, socket.timeout, http.client.HTTPException, ValueError) as error:
        raise ClientError(f"{url} gave no answer: {error}") from None
    finally:
        connection.close()
    if response.status != 200:
        raise ClientError(f"{url}{path} refused the request: {answer.get('error', response.status)}")
    return {**answer, "tls": connection.protocol, "spki": spki}


def ask_plain(model: str, request: dict[str, t.Any]) -> dict[str, t.Any]:
    from embedding import EmbeddingError, EmbeddingModel

    try:
        ranking = EmbeddingModel(model).rank(request["question"], request["candidates"])
    except EmbeddingError as error:
        raise ClientError(str(error)) from None
    except KeyError as error:
        raise ClientError(f"the request has no {error}") from None
    attested = {entry["text"]: entry["score"] for entry in request.get("attested", [])}
    beside = [{"rank": entry["rank"], "text": entry["text"], "attested": attested.get(entry["text"]), "plain": entry["score"]} for entry in ranking]
    return {"ranking": ranking, "side_by_side": beside}


def main() -> int:
    parser = argparse.ArgumentParser(description="Rank candidates for a question; the request comes as JSON on standard input.")
    parser.add_argument("--url", help="https address of the server")
    parser.add_argument("--spki", help="digest of the server's attested public key, sha256:<hex>")
    parser.add_argument("--model", help="a plain model directory, instead of a server")
    options = parser.parse_args()
    if bool(options.model) == bool(options.url) or bool(options.url) != bool(options.spki):
        parser.error("give either --url with --spki, or --model")
    try:
        request = json.load(sys.stdin)
        answer = ask_plain(options.model, request) if options.model else ask(options.url, options.spki, request)
    except (ClientError, tls.PinError, ValueError) as error:
        print(f"embedding_client: {error}", file=sys.stderr)
        return 1
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
