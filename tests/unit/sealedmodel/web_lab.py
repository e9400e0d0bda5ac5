# SPDX-License-Identifier: GPL-3.0-or-later
"""A server of files on loopback that knows ranges, with or without TLS, and can be told to misbehave."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import re
import ssl
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Fault:
    """How the next ``times`` answers to paths that contain ``match`` differ. ``cut`` ends the connection after so many bytes, ``drip`` sends a byte
    now and then, ``shift`` answers with a later part, ``endless`` never stops."""

    match: str
    times: int = 1
    status: int = 0
    headers: dict = field(default_factory=dict)
    cut: int | None = None
    drip: bool = False
    shift: int = 0
    size: int = 0
    endless: bool = False
    whole: bool = False


class FileServer:
    def __init__(self, root: Path, tls: Path | None = None) -> None:
        self.root, self.faults, self.served = root, [], Counter()
        self.requests: list[tuple[str, str, dict]] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        # What a client breaks off is not worth a word.
        self._server.handle_error = lambda *_ignored: None
        self.ca_path = None
        if tls is not None:
            self.ca_path = str(tls / "tls.pem")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(_self_signed(tls / "tls.pem"))
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> FileServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_error) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _fault(self, target: str) -> Fault:
        with self._lock:
            found = next((fault for fault in self.faults if fault.match in target and fault.times > 0), None)
            if found is None:
                return Fault("")
            found.times -= 1
            return found

    def _handler(self):
        lab = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_args):
                pass

            def do_GET(self):
                fault = lab._fault(self.path)
                lab.requests.append((self.path, self.headers.get("Range", ""), dict(self.headers)))
                path = lab.root / unquote(urlsplit(self.path).path).lstrip("/")
                if not path.is_file() and not fault.status:
                    fault = Fault("", status=404)
                data = path.read_bytes() if path.is_file() else b""
                etag = '"%s"' % hashlib.sha256(data).hexdigest()[:16]
                if fault.status:
                    return self.reply(fault.status, {"Content-Length": "0", **fault.headers}, b"", fault)
                if self.headers.get("If-Match", etag) != etag:
                    return self.reply(412, {"Content-Length": "0"}, b"", fault)
                span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
                if span is None or fault.whole:
                    return self.reply(200, {"Content-Length": str(len(data)), "ETag": etag, **fault.headers}, data, fault)
                first, last = int(span[1]) + fault.shift, min(int(span[2]) + fault.shift, len(data) - 1)
                if first >= len(data):
                    return self.reply(416, {"Content-Length": "0"}, b"", fault)
                part = data[first : last + 1]
                head = {"Content-Range": f"bytes {first}-{last}/{fault.size or len(data)}", "Content-Length": str(len(part)), "ETag": etag}
                return self.reply(206, {**head, **fault.headers}, part, fault)

            def reply(self, status, headers, body, fault):
                if fault.endless:
                    headers.pop("Content-Length", None)
                    self.close_connection = True
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    if fault.cut is not None:
                        self.wfile.write(body[: fault.cut])
                        self.close_connection = True
                    elif fault.drip:
                        for offset in range(len(body)):
                            self.wfile.write(body[offset : offset + 1])
                            time.sleep(0.05)
                    elif fault.endless:
                        while True:
                            self.wfile.write(bytes(1 << 16))
                    else:
                        self.wfile.write(body)
                        lab.served[urlsplit(self.path).path] += len(body)
                except OSError:
                    self.close_connection = True

        return Handler


def _self_signed(path: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    made = made.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
    made = made.add_extension(x509.BasicConstraints(True, None), True)
    signed = made.sign(key, hashes.SHA256())
    plain = serialization.NoEncryption()
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain) + signed.public_bytes(serialization.Encoding.PEM))
    return path
