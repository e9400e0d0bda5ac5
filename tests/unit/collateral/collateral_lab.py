# SPDX-License-Identifier: GPL-3.0-or-later
"""A laboratory for collateral: evidence of many guests, and services in the shape of the vendors' that can be told to misbehave."""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

REPOSITORY = Path(__file__).resolve().parents[3]
if str(REPOSITORY / "tools" / "softtee") not in sys.path:
    sys.path.insert(0, str(REPOSITORY / "tools" / "softtee"))

from ansible_collections.attested.ai.plugins.module_utils.formats import evidence  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_certtable import CertificateTable, build_certtable  # noqa: E402
from softtee.snp_authority import SnpAuthority, pem  # noqa: E402
from softtee.snp_report import DEFAULT_TCB, build_report, sign_report  # noqa: E402

AT = datetime(2026, 11, 1, tzinfo=timezone.utc)
AT_TEXT = "2026-11-01T00:00:00Z"
NONCE = bytes(range(32))
ISSUED = datetime(2026, 10, 1, tzinfo=timezone.utc)


class Lab:
    """Keys and evidence. Made once: RSA keys are slow to draw."""

    def __init__(self):
        self.authority = SnpAuthority.create(products=("milan", "genoa", "turin"), rsa_bits=2048)
        self._vceks = {}

    def policy(self, **more):
        roots = [self.authority.ark_pem(product) for product in self.authority.products]
        policy = {
            "schema": "attested.ai/policy/1", "id": "lab", "allow_nonvendor_roots": True, "roots": roots, "measurements_required": False, "ssh_binding": "off",
        }  # fmt: skip
        return {**policy, **more}

    def chip(self, number, product="genoa"):
        return bytes([number % 256, number // 256]) * (32 if product != "turin" else 4)

    def vcek(self, product, chip, tcb):
        """(key, DER), the same for the same chip and TCB."""
        key = (product, chip, tuple(sorted(tcb.items())))
        if key not in self._vceks:
            self._vceks[key] = self.authority.vcek(product, chip, tcb, not_before=ISSUED)
        return self._vceks[key]

    def report(self, number=1, product="genoa", tcb=None, nonce=NONCE, **fields):
        tcb = tcb or DEFAULT_TCB[product]
        chip = self.chip(number, product)
        key, _der = self.vcek(product, chip, tcb)
        fields.setdefault("report_data", evidence.report_data("attested/1", nonce, evidence.Binding()))
        return bytes(sign_report(build_report(product, **{"chip_id": chip.ljust(64, b"\0"), **tcb_fields(tcb), **fields}), key))

    def document(self, number=1, product="genoa", with_vcek=False, report=None, **more):
        item = {"type": "sev-snp", "provider": "sev_guest", "evidence": b64(report or self.report(number, product, **more)), "auxiliary": {}}
        if with_vcek:
            vcek = self.vcek(product, self.chip(number, product), DEFAULT_TCB[product])[1]
            item["auxiliary"]["certificates"] = b64(build_certtable(CertificateTable((("vcek", vcek),))))
        return document_of(item)

    def crl(self, product, issued=ISSUED, days=60):
        """The same bytes for the same dates: signatures are drawn anew each time they are made."""
        if (product, issued, days) not in self._vceks:
            self._vceks[product, issued, days] = self.authority.crl(product, this_update=issued, next_update=issued + timedelta(days=days))
        return self._vceks[product, issued, days]


def document_of(*items):
    return {"schema": evidence.SCHEMA, "profile": "attested/1", "nonce": b64(NONCE), "binding": {}, "items": list(items), "observations": {}}


def tcb_fields(tcb):
    return {"reported_tcb": tcb, "current_tcb": tcb, "committed_tcb": tcb, "launch_tcb": tcb}


def b64(data):
    return base64.b64encode(data).decode("ascii")


@dataclass
class Fault:
    """How the next answers to paths that contain ``match`` differ; ``times`` of them."""

    match: str
    times: int = 1
    status: int = 200
    headers: dict = field(default_factory=dict)
    body: bytes | None = None
    cut: int | None = None
    delay: float = 0.0
    trickle: bool = False
    drop: bool = False


class Services:
    """KDS, and whatever ``routes`` adds: a function of (path, query, body) that gives (status, headers, body) or None."""

    def __init__(self, lab, tls=False, directory=None):
        self.lab = lab
        self.asked = Counter()
        self.log = []
        self.faults = []
        self.routes = [self._kds]
        self.delay = 0.0
        self.crl_issued = ISSUED
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.ca_path = None
        scheme = "http"
        if tls:
            scheme, self.ca_path = "https", os.path.join(directory, "ca.pem")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(make_tls(directory))
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_error):
        self._server.shutdown()
        self._server.server_close()

    @property
    def urls(self):
        return {"kds_url": self.url, "pcs_url": self.url, "root_crl_url": self.url + "/IntelSGXRootCA.der", "rim_url": self.url, "ocsp_url": self.url + "/ocsp"}

    def asked_for(self, part):
        return sum(count for path, count in self.asked.items() if part in path)

    def _kds(self, path, query, _body):
        parts = path.strip("/").split("/")
        if len(parts) < 4 or parts[1] != "v1" or parts[0] not in ("vcek", "vlek"):
            return None
        product = parts[2].lower()
        if product not in self.lab.authority.products:
            return 404, {}, b""
        if parts[3] == "cert_chain":
            return 200, {"Content-Type": "application/x-pem-file"}, "".join(pem(der) for der in self.lab.authority.chain(product, parts[0])).encode()
        if parts[3] == "crl":
            return 200, {"Content-Type": "application/octet-stream"}, self.lab.crl(product, self.crl_issued)
        names = {"blSPL": "bootloader", "teeSPL": "tee", "snpSPL": "snp", "ucodeSPL": "microcode", "fmcSPL": "fmc"}
        tcb = {names[name]: int(values[0]) for name, values in parse_qs(query).items()}
        return 200, {"Content-Type": "application/octet-stream"}, self.lab.vcek(product, bytes.fromhex(parts[3]), tcb)[1]

    def _answer(self, method, target, headers, body):
        url = urlsplit(target)
        with self._lock:
            self.asked[url.path] += 1
            self.log.append((method, target, headers))
            fault = next((fault for fault in self.faults if fault.match in target and fault.times > 0), None)
            if fault:
                fault.times -= 1
        time.sleep(self.delay)
        found = next((answer for answer in (route(url.path, url.query, body) for route in self.routes) if answer is not None), (404, {}, b""))
        return fault, found

    def _handler(self):
        services = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_args):
                pass

            def _serve(self):
                size = int(self.headers.get("Content-Length") or 0)
                fault, (status, headers, body) = services._answer(self.command, self.path, dict(self.headers), self.rfile.read(size))
                if fault:
                    time.sleep(fault.delay)
                    if fault.drop:
                        self.close_connection = True
                        self.connection.close()
                        return
                    status, headers = fault.status, {**headers, **fault.headers}
                    body = body if fault.body is None else fault.body
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if fault and fault.trickle:
                    for byte in body:
                        self.wfile.write(bytes([byte]))
                        time.sleep(0.05)
                elif fault and fault.cut is not None:
                    self.wfile.write(body[: fault.cut])
                    self.close_connection = True
                else:
                    self.wfile.write(body)

            def do_GET(self):
                try:
                    self._serve()
                except OSError:
                    self.close_connection = True

            do_POST = do_GET

        return Handler


def make_tls(directory):
    """A CA of its own (ca.pem) and a server certificate for 127.0.0.1 under it; returns the path of the server's PEM."""
    import ipaddress

    now = datetime.now(timezone.utc)

    def build(name, key, issuer, signer, is_ca):
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False)
            .add_extension(x509.KeyUsage(not is_ca, False, False, False, False, is_ca, is_ca, False, False), True)
        )
        if not is_ca:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        return builder.sign(signer, hashes.SHA256())

    authority, server = (ec.generate_private_key(ec.SECP256R1()) for _number in range(2))
    root = build("Lab CA", authority, "Lab CA", authority, True)
    leaf = build("127.0.0.1", server, "Lab CA", authority, False)
    encoding = serialization.Encoding.PEM
    Path(directory, "ca.pem").write_bytes(root.public_bytes(encoding))
    path = Path(directory, "server.pem")
    key = server.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(key + leaf.public_bytes(encoding))
    return str(path)


def signing_key(directory, curve=None, name="bundle.key"):
    """(path of a private key, its public JWK or PEM path) for bundles."""
    key = ec.generate_private_key(curve or ec.SECP256R1())
    path, public = Path(directory, name), Path(directory, name + ".pub")
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    path.chmod(0o600)
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return str(path), str(public), key


def make_task(store, check=False, opener=None, **options):
    """A task of the action with its defaults, without a playbook around it."""
    from ansible_collections.attested.ai.plugins.action.collateral import ARGUMENT_SPEC
    from ansible_collections.attested.ai.plugins.module_utils.endorsements.store import Store
    from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import Inputs
    from ansible_collections.attested.ai.plugins.plugin_utils.collateral_opener import make_opener
    from ansible_collections.attested.ai.plugins.plugin_utils.collateral_task import Task, check_options

    given = {name: spec.get("default") for name, spec in ARGUMENT_SPEC.items()}
    unknown = set(options) - set(given)
    assert not unknown, unknown
    given.update({"operation": "fetch", "store": store, "at": AT_TEXT, "timeout": 5, **options})
    check_options(given)
    said = []
    inputs = Inputs(str)
    return Task(given, inputs, Store(store), inputs.policy(given["policy"]), check, opener or make_opener(given["ca_path"]), said.append), said


def fetch(services, store, documents=(), check=False, token=None, **options):
    """Fetch in this process, over real sockets."""
    from ansible_collections.attested.ai.plugins.plugin_utils import collateral_refresh

    given = {"policy": services.lab.policy(), "evidence": list(documents) or None, "max_wait": 3, "parallelism": 4, **services.urls, **options}
    return collateral_refresh.fetch(make_task(store, check, **given)[0], token)


def play(directory, *tasks, hosts=("localhost",), forks=5, arguments=()):
    """Run tasks through a real ansible-playbook; returns (exit status, output)."""
    book = [{"hosts": "all", "gather_facts": False, "tasks": list(tasks)}]
    Path(directory, "play.json").write_text(json.dumps(book), encoding="utf-8")
    environment = dict(os.environ, ANSIBLE_LOCALHOST_WARNING="false", ANSIBLE_NOCOLOR="true", ANSIBLE_LOCAL_TEMP=str(Path(directory, "local")))
    environment.setdefault("ANSIBLE_COLLECTIONS_PATH", os.pathsep.join(sys.path))
    command = [sys.executable, "-m", "ansible", "playbook", "-i", ",".join(hosts) + ",", "-c", "local", "-f", str(forks)]
    done = subprocess.run(
        [*command, str(Path(directory, "play.json")), *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120,
    )  # fmt: skip
    return done.returncode, done.stdout
