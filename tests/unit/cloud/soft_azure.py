# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest of Azure in software: swtpm with an attestation key and an HCL report, a paravisor that makes new reports, and its metadata service."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
from typing import Any

from cloud_lab import AzureLab, build_hcl, number, runtime_json

from ansible_collections.attested.ai.plugins.module_utils.formats import tpm2
from ansible_collections.attested.ai.plugins.module_utils.target import azure_vtpm
from ansible_collections.attested.ai.plugins.module_utils.target.tpm import NV_OWNERREAD, NV_OWNERWRITE, Tpm

AVAILABLE = shutil.which("swtpm") is not None
# libtpms has NV indices of at most 2048 bytes; Azure's has 2600.
HCL_SIZE = 2048
_OWNER = 0x40000001
_CREATE_PRIMARY, _EVICT_CONTROL, _PCR_EXTEND, _STARTUP = 0x131, 0x120, 0x182, 0x144
_SIGN_RESTRICTED = 0x50072  # fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign


class SoftTpm:
    """swtpm on a Unix socket. An instance is a transport."""

    def __init__(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="swtpm")
        path = os.path.join(self.directory, "sock")
        self.process = subprocess.Popen(
            ["swtpm", "socket", "--tpm2", "--tpmstate", "dir=" + self.directory, "--server", "type=unixio,path=" + path,
             "--ctrl", "type=unixio,path=" + path + ".ctrl", "--flags", "not-need-init,startup-clear"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.socket = socket.socket(socket.AF_UNIX)
        for _attempt in range(200):
            try:
                self.socket.connect(path)
                break
            except OSError:
                time.sleep(0.05)
        self.seen: list[tuple[bytes, bytes]] = []

    def __call__(self, command: bytes) -> bytes:
        self.socket.sendall(command)
        response = self.socket.recv(65536)
        while len(response) < 10 or len(response) < int.from_bytes(response[2:6], "big"):
            response += self.socket.recv(65536)
        self.seen.append((command, response))
        return response

    def close(self) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait(20)
        shutil.rmtree(self.directory, ignore_errors=True)


class Provisioning(Tpm):
    """The commands that only whoever makes the machine needs."""

    def make_ak(self, scheme: int = tpm2.ALG_RSASSA, restricted: bool = True, handle: int = azure_vtpm.AK_HANDLE, ecc: bool = False) -> tpm2.Public:
        attributes = _SIGN_RESTRICTED if restricted else _SIGN_RESTRICTED & ~(1 << 16)
        if ecc:
            detail = struct.pack(">HHHHH", tpm2.ALG_NULL, tpm2.ALG_ECDSA, tpm2.ALG_SHA256, 3, tpm2.ALG_NULL) + struct.pack(">HH", 0, 0)
        else:
            detail = struct.pack(">HHHHI", tpm2.ALG_NULL, scheme, tpm2.ALG_SHA256, 2048, 0) + struct.pack(">H", 0)
        public = struct.pack(">HHIH", tpm2.ALG_ECC if ecc else tpm2.ALG_RSA, tpm2.ALG_SHA256, attributes, 0) + detail
        arguments = struct.pack(">HHH", 4, 0, 0) + struct.pack(">H", len(public)) + public + struct.pack(">HI", 0, 0)
        head, reader = self.created(arguments)
        self._run("EvictControl", _EVICT_CONTROL, struct.pack(">II", _OWNER, head), struct.pack(">I", handle), sessions=True).close()
        return self.read_public(handle)

    def created(self, arguments: bytes) -> tuple[int, bytes]:
        # The response has a handle before its parameters, which the collector's commands never have.
        body = struct.pack(">I", _OWNER) + struct.pack(">I", 9) + struct.pack(">IHBH", 0x40000009, 0, 0, 0) + arguments
        response = self._transport(struct.pack(">HII", 0x8002, 10 + len(body), _CREATE_PRIMARY) + body)
        assert int.from_bytes(response[6:10], "big") == 0, response.hex()
        return int.from_bytes(response[10:14], "big"), response[14:]

    def write_report(self, data: bytes, define: bool = True) -> None:
        index = azure_vtpm.HCL_REPORT_INDEX
        if define:
            public = struct.pack(">IHIHH", index, tpm2.ALG_SHA256, NV_OWNERWRITE | NV_OWNERREAD, 0, len(data))
            self._run("NV_DefineSpace", 0x12A, struct.pack(">I", _OWNER), struct.pack(">HH", 0, len(public)) + public, sessions=True).close()
        for offset in range(0, len(data), 512):
            part = data[offset:offset + 512]
            arguments = struct.pack(">H", len(part)) + part + struct.pack(">H", offset)
            self._run("NV_Write", 0x137, struct.pack(">II", _OWNER, index), arguments, sessions=True).close()

    def extend(self, pcr: int, digest: bytes) -> None:
        arguments = struct.pack(">IH", 1, tpm2.ALG_SHA256) + digest
        self._run("PCR_Extend", _PCR_EXTEND, struct.pack(">I", pcr), arguments, sessions=True).close()


class SoftGuest:
    """A guest whose paravisor vouches for the key in its TPM. An instance is a transport that the paravisor watches."""

    def __init__(self, lab: AzureLab, watch: bool = True, **ak: Any) -> None:
        self.lab = lab
        self.tpm = SoftTpm()
        self.watch = watch
        self.reports = 0
        self.provisioning = Provisioning(self.tpm)
        self.ak = self.provisioning.make_ak(**ak)
        for number_, digest in ((4, b"\x44" * 32), (7, b"\x77" * 32), (11, b"\xbb" * 32)):
            self.provisioning.extend(number_, digest)
        self.provisioning.write_report(self.report(bytes(64)))

    def key(self) -> dict:
        head = {"kid": "HCLAkPub", "key_ops": ["sign"]}
        if self.ak.type == tpm2.ALG_ECC:
            x, y = (base64.urlsafe_b64encode(value).rstrip(b"=").decode() for value in (self.ak.x, self.ak.y))
            return {**head, "kty": "EC", "crv": "P-256", "x": x, "y": y}
        return {**head, "kty": "RSA", "e": number(self.ak.exponent), "n": number(int.from_bytes(self.ak.modulus, "big"))}

    def report(self, user_data: bytes) -> bytes:
        runtime = runtime_json(None, user_data, keys=[self.key()])
        return build_hcl(self.lab.report(runtime, report_data=hashlib.sha256(runtime).digest(), measurement=b"\x33" * 48), runtime, size=HCL_SIZE)

    def __call__(self, command: bytes) -> bytes:
        response = self.tpm(command)
        code, result = int.from_bytes(command[6:10], "big"), int.from_bytes(response[6:10], "big")
        if self.watch and code == 0x137 and not result and command[14:18] == struct.pack(">I", azure_vtpm.USER_DATA_INDEX):
            size = int.from_bytes(command[31:33], "big")
            self.reports += 1
            self.provisioning.write_report(self.report(command[33:33 + size].ljust(64, b"\0")), define=False)
        return response

    def close(self) -> None:
        self.tpm.close()


class SoftImds:
    """The metadata service on a loopback port. ``answers`` maps a path to (status, headers, body); ``requests`` are what came."""

    def __init__(self, answers: dict) -> None:
        self.answers, self.requests = answers, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.requests.append((self.command, self.path, dict(self.headers), body))
                status, headers, content = outer.answers.get(self.path, (404, {}, b"{}"))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = answer

            def log_message(self, *_arguments: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = "http://127.0.0.1:%d" % self.server.server_address[1]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def thim(vcek_pem: str) -> tuple:
    return 200, {"Content-Type": "application/json"}, json.dumps({"vcekCert": vcek_pem, "certificateChain": "", "tcbm": "00", "cacheControl": "1"}).encode()
