# SPDX-License-Identifier: GPL-3.0-or-later
"""A Vault in this process, for tests: the calls that are used of the documented HTTP API (v1), with the refusals that OpenBao 2.7.2 gave to the same calls."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import secrets
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from softkbs import jwt


class Refused(Exception):
    def __init__(self, status: int, *errors: str, body: dict | None = None) -> None:
        self.status, self.body = status, {"errors": list(errors)} if body is None else body


class SoftBao:
    """The state. ``root`` is a token that may do everything. ``delay`` seconds pass before an answer; ``status`` answers in the place of it."""

    def __init__(self) -> None:
        self.root, self.unseal_key, self.sealed = "s." + secrets.token_hex(12), secrets.token_hex(16), False
        self.tokens: dict[str, tuple[list[str], float]] = {self.root: (["root"], float("inf"))}
        self.policies: dict[str, str] = {}
        self.kv: dict[str, dict[str, Any]] = {}
        self.namespaces, self.namespace, self.jwt = {""}, "", {}
        self.keys: dict[str, dict[str, Any]] = {}
        self.roles: dict[str, dict[str, Any]] = {}
        self.delay, self.status, self.between = 0.0, 0, None
        self.seen: list[tuple[str, str]] = []

    def answer(self, method: str, target: str, token: str, body: dict[str, Any], namespace: str = "") -> tuple[int, Any]:
        path, _mark, query = target[len("/v1/"):].partition("?")
        if namespace not in self.namespaces:
            raise Refused(404, "no handler for route")
        self.namespace = namespace
        self.seen.append((method, path))
        if path == "sys/unseal":
            self.sealed = body["key"] != self.unseal_key
            return 200, {"sealed": self.sealed}
        if self.sealed:
            raise Refused(503, "Vault is sealed")
        if path in ("auth/approle/login", "auth/jwt/login"):
            return 200, self._login(body)
        self._admit(method, path, token)
        mount, _slash, rest = path.partition("/")
        call = {"secret": self._kv, "transit": self._transit, "sys": self._sys, "auth": self._auth}.get(mount)
        if call is None:
            raise Refused(404, f'no handler for route "{path}". route entry not found.')
        return call(method, rest, query, body, token)

    def _admit(self, method: str, path: str, token: str) -> None:
        names, end = self.tokens.get(token, ([], 0.0))
        if end < time.time():
            raise Refused(403, "permission denied")
        if "root" in names or path == "auth/token/lookup-self":
            return
        wanted = {"GET": {"read"}, "DELETE": {"delete"}}.get(method, {"create", "update"})
        for name in names:
            for pattern, capabilities in re.findall(r'path "([^"]+)" \{ capabilities=\[([^\]]*)\] \}', self.policies.get(name, "")):
                fits = re.fullmatch(re.escape(pattern).replace(r"\+", "[^/]+").replace(r"\*", ".*"), path)
                if fits and wanted & set(re.findall(r"\w+", capabilities)):
                    return
        raise Refused(403, "1 error occurred:\n\t* permission denied\n\n")

    def _sys(self, method: str, rest: str, _query: str, body: dict[str, Any], _token: str) -> tuple[int, Any]:
        if rest == "seal":
            self.sealed = True
        elif rest.startswith("namespaces/"):
            self.namespaces.add(rest.partition("/")[2])
        elif rest.startswith("policies/acl/"):
            self.policies[rest.rpartition("/")[2]] = body["policy"]
        return 204, None

    def _auth(self, method: str, rest: str, _query: str, body: dict[str, Any], token: str) -> tuple[int, Any]:
        if rest == "token/create":
            made = "s." + secrets.token_hex(12)
            self.tokens[made] = (body["policies"], time.time() + float(body["ttl"].rstrip("s")))
            return 200, {"auth": {"client_token": made}}
        if rest == "token/revoke":
            self.tokens.pop(body["token"])
            return 204, None
        if rest == "token/lookup-self":
            return 200, {"data": {"policies": self.tokens[token][0]}}
        if rest.startswith("jwt/"):
            self.jwt[rest.rpartition("/")[2]] = body
            return 204, None
        role = rest.split("/")[2]
        if rest.endswith("/role-id"):
            return 200, {"data": {"role_id": self.roles[role]["role_id"]}}
        if rest.endswith("/secret-id"):
            self.roles[role]["secret_id"] = secrets.token_hex(8)
            return 200, {"data": {"secret_id": self.roles[role]["secret_id"]}}
        self.roles[role] = {"policies": body["token_policies"].split(","), "role_id": secrets.token_hex(8)}
        return 204, None

    def _login(self, body: dict[str, Any]) -> Any:
        if "jwt" in body:
            try:
                claims = jwt.verify(body["jwt"], load_pem_public_key(self.jwt["config"]["jwt_validation_pubkeys"][0].encode()), time.time())
                role = self.jwt[body["role"]]
                if claims["aud"] not in role["bound_audiences"]:
                    raise jwt.JwtError("audience")
            except (jwt.JwtError, KeyError):
                raise Refused(400, "error validating token") from None
            made = "s." + secrets.token_hex(12)
            self.tokens[made] = (role["token_policies"], time.time() + 60)
            return {"auth": {"client_token": made}}
        for role in self.roles.values():
            if role["role_id"] == body.get("role_id") and secrets.compare_digest(role.get("secret_id", ""), str(body.get("secret_id"))):
                made = "s." + secrets.token_hex(12)
                self.tokens[made] = (role["policies"], time.time() + 60)
                return {"auth": {"client_token": made}}
        raise Refused(400, "invalid role or secret ID")

    def _kv(self, method: str, rest: str, query: str, body: dict[str, Any], _token: str) -> tuple[int, Any]:
        kind, _slash, path = rest.partition("/")
        path = f"{self.namespace}:{path}"
        found = self.kv.setdefault(path, {"versions": []})
        if kind == "undelete":
            for number in body["versions"]:
                found["versions"][number - 1]["deletion_time"] = ""
            return 204, None
        if kind == "metadata" and method == "DELETE":
            del self.kv[path]
            return 204, None
        if kind != "data":
            raise Refused(404, body={"data": None, "warnings": ["Invalid path for a versioned K/V secrets engine."]})
        if method == "POST":
            # What another client does in between.
            if self.between is not None:
                between, self.between = self.between, None
                between()
            cas = body.get("options", {}).get("cas")
            if cas is not None and cas != len(found["versions"]):
                raise Refused(400, "check-and-set parameter did not match the current version")
            found["versions"].append({"data": body["data"], "deletion_time": "", "destroyed": False})
            return 200, {"data": {"version": len(found["versions"])}}
        number = int(dict(pair.split("=") for pair in query.split("&")).get("version", "0")) if query else 0
        number = number or len(found["versions"])
        if not 1 <= number <= len(found["versions"]):
            raise Refused(404)
        version = found["versions"][number - 1]
        metadata = {"version": number, "deletion_time": version["deletion_time"], "destroyed": False}
        if method == "DELETE":
            version["deletion_time"] = "2026-01-01T00:00:00Z"
            return 204, None
        if version["deletion_time"]:
            raise Refused(404, body={"data": {"data": None, "metadata": metadata}})
        return 200, {"data": {"data": version["data"], "metadata": metadata}}

    def _transit(self, method: str, rest: str, _query: str, body: dict[str, Any], _token: str) -> tuple[int, Any]:
        action, name, *more = rest.split("/")
        if action == "keys":
            return self._key(method, name, more, body)
        if action == "export":
            return 200, {"data": {"keys": {str(n): base64.b64encode(key).decode() for n, key in enumerate(self.keys[more[0]]["material"], 1)}}}
        if name not in self.keys:
            if action == "decrypt":
                raise Refused(400, "encryption key not found")
            # As the real one: where the policy lets it, an unknown name makes a key.
            self._key("POST", name, [], {})
        key = self.keys[name]
        if action == "encrypt":
            version = body.get("key_version") or len(key["material"])
            nonce = secrets.token_bytes(12)
            sealed = nonce + AESGCM(key["material"][version - 1]).encrypt(nonce, base64.b64decode(body["plaintext"]), None)
            return 200, {"data": {"ciphertext": f"vault:v{version}:{base64.b64encode(sealed).decode()}", "key_version": version}}
        _vault, version, text = body["ciphertext"].split(":")
        number, sealed = int(version[1:]), base64.b64decode(text)
        if number > len(key["material"]):
            raise Refused(400, "invalid ciphertext: version is too new")
        if number < key["least"]:
            raise Refused(400, "ciphertext or signature version is disallowed by policy (too old)")
        try:
            plain = AESGCM(key["material"][number - 1]).decrypt(sealed[:12], sealed[12:], None)
        except InvalidTag:
            raise Refused(400, "cipher: message authentication failed") from None
        return 200, {"data": {"plaintext": base64.b64encode(plain).decode()}}

    def _key(self, method: str, name: str, more: list[str], body: dict[str, Any]) -> tuple[int, Any]:
        if method == "GET":
            if name not in self.keys:
                raise Refused(404)
            key = self.keys[name]
            return 200, {"data": {"type": key["type"], "derived": key["derived"], "latest_version": len(key["material"]), "min_encryption_version": 0}}
        if more == ["rotate"]:
            self.keys[name]["material"].append(secrets.token_bytes(32))
        elif more == ["config"]:
            self.keys[name]["least"] = body["min_decryption_version"]
        else:
            kind, derived = body.get("type", "aes256-gcm96"), body.get("derived", False)
            self.keys[name] = {"type": kind, "derived": derived, "material": [secrets.token_bytes(32)], "least": 1}
        return 200, {"data": {}}

    @contextlib.contextmanager
    def running(self, tls: tuple[Any, Any]) -> Iterator[str]:
        state = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _do(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else {}
                time.sleep(state.delay)
                try:
                    if state.status:
                        raise Refused(state.status, body={})
                    token, namespace = self.headers.get("X-Vault-Token", ""), self.headers.get("X-Vault-Namespace", "")
                    status, found = state.answer(self.command, self.path, token, body, namespace)
                except Refused as refused:
                    status, found = refused.status, refused.body
                data = b"" if found is None else json.dumps(found).encode()
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

            do_GET = do_POST = do_DELETE = _do  # noqa: N815

            def log_message(self, *_arguments: object) -> None:
                """Paths name secrets."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join(10)
