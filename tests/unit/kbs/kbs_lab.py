# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of KBS share: keys made for the run, our own soft KBS, and the real one where TRUSTEE_KBS names it.

TRUSTEE_KBS is the path of a binary (kbs of Trustee 0.21, with the built-in attestation service), which is started with a configuration of its own in a
temporary folder; or the https address of a KBS that runs, then TRUSTEE_KBS_CA, TRUSTEE_KBS_ADMIN_KEY, TRUSTEE_KBS_ISSUER and TRUSTEE_KBS_AUDIENCE go with it.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.attested.ai.plugins.module_utils.kbs import evidence
from ansible_collections.attested.ai.plugins.module_utils.kbs.admin import AdminClient
from ansible_collections.attested.ai.plugins.module_utils.kbs.guest import Challenge, Collected, GuestClient
from ansible_collections.attested.ai.plugins.module_utils.kbs.token import AdminKey, load_admin_key
from ansible_collections.attested.ai.plugins.module_utils.kbs.transport import Server as Address
from ansible_collections.attested.ai.plugins.module_utils.kbs.transport import make_transport
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools" / "softkbs"))

from softkbs import snp  # noqa: E402
from softkbs.server import Server  # noqa: E402
from softkbs.service import Admin, Kbs  # noqa: E402

REAL = os.environ.get("TRUSTEE_KBS", "")
ISSUER, AUDIENCE = "ops.example.org", "KBS"
ALLOW = "package policy\n\nimport rego.v1\n\ndefault allow := false\n\nallow if {\n  data.plugin == \"resource\"\n}\n"
DENY = "package policy\n\nimport rego.v1\n\ndefault allow := false\n"
SOFT_GUEST = """package policy

import rego.v1

default hardware := 97

trust_claims := {"executables": 3, "hardware": hardware, "configuration": 2, "file-system": 0, "instance-identity": 0, "runtime-opaque": 0,
  "storage-opaque": 0, "sourced-data": 0}

hardware := 2 if {
  input.snp.policy_debug_allowed == false
}
"""
AFFIRMING = """package policy

import rego.v1

default allow := false

allow if {
  data.plugin == "resource"
  input.submods.cpu0["ear.status"] == "affirming"
}
"""
BROKEN = "package policy\n\nallow if {\n  this is not rego\n"


def private_pem(key: Any) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def public_pem(key: Any) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def secret(path: Path, data: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(data)
    return path


class Authority:
    """A certificate authority for one run."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        self.certificate = self._sign(self.key.public_key(), self._name, True, None, datetime.timedelta(days=1))

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")

    def issue(self, *names: str, key: Any = None, days: float = 1) -> tuple[bytes, bytes, x509.Certificate]:
        """(certificate PEM, key PEM, certificate)."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0] if names else "token")])
        found = self._sign(key.public_key(), subject, False, names, datetime.timedelta(days=days))
        return found.public_bytes(serialization.Encoding.PEM), private_pem(key), found

    def _sign(self, public: Any, subject: x509.Name, is_ca: bool, names: tuple[str, ...] | None, life: datetime.timedelta) -> x509.Certificate:
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(public).serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=2)).not_valid_after(now + life)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False)
            .add_extension(x509.KeyUsage(not is_ca, False, False, False, False, is_ca, is_ca, False, False), True)
        )  # fmt: skip
        if names:
            found = [x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name) for name in names]
            builder = builder.add_extension(x509.SubjectAlternativeName(found), False)
        return builder.sign(self.key, hashes.SHA256())


@dataclass
class Peer:
    """A KBS under test."""

    url: str
    admin_key: Any = field(repr=False)
    ca: str = ""
    server: Server | None = None
    issuer: str = ISSUER
    audience: str = AUDIENCE
    log: Path | None = None

    @property
    def address(self) -> Address:
        return Address(self.url, ca=self.ca, timeout=10)

    def transport(self) -> Any:
        return make_transport(self.address)

    def admin(self, key: Any = None, **changes: Any) -> AdminClient:
        minted = AdminKey(key or self.admin_key, **{"issuer": self.issuer, "audience": self.audience, **changes})
        return AdminClient(self.transport(), minted.token, self.url)

    def guest(self, key: Any = None) -> GuestClient:
        return GuestClient(self.transport(), self.url, key)


def sample(challenge: Challenge) -> Collected:
    return Collected(evidence.sample(challenge.report_data()))


def with_init_data(text: str) -> Callable[[Challenge], Collected]:
    return lambda challenge: Collected(evidence.sample(challenge.report_data()), init_data=text)


def trust_soft_guests(kbs: Kbs) -> None:
    """Any guest whose report its VCEK signed, which the verifier asks for, and that nobody debugs: of our own, for what the Soft TEE is."""
    kbs.attestation.verifiers["snp"], kbs.attestation.policies["default_cpu"] = snp.verify, SOFT_GUEST
    kbs.policy = AFFIRMING


def loopback_certificate(folder: Path, authority: Authority, *names: str) -> tuple[Path, Path]:
    certificate, key, _object = authority.issue(*(names or ("127.0.0.1", "localhost")))
    (folder / "tls.crt").write_bytes(certificate)
    return folder / "tls.crt", secret(folder / "tls.key", key)


@contextlib.contextmanager
def soft_peer(folder: Path, tls: bool = True, names: tuple[str, ...] = (), **settings: Any) -> Iterator[Peer]:
    """Our own. ``settings`` are those of Kbs; ``admin`` those of Admin."""
    key = ed25519.Ed25519PrivateKey.generate()
    authority = Authority()
    admin = Admin(**{"key": key.public_key(), "issuer": ISSUER, "audience": AUDIENCE, **settings.pop("admin", {})})
    server = Server(Kbs(admin, **settings), loopback_certificate(folder, authority, *names) if tls else None)
    with server.running():
        yield Peer(server.url, key, authority.pem if tls else "", server)


@contextlib.contextmanager
def real_peer(folder: Path) -> Iterator[Peer]:
    if REAL.startswith("http"):
        yield Peer(
            REAL, load_admin_key(os.environ["TRUSTEE_KBS_ADMIN_KEY"]), Path(os.environ["TRUSTEE_KBS_CA"]).read_text(encoding="ascii"),
            issuer=os.environ["TRUSTEE_KBS_ISSUER"], audience=os.environ["TRUSTEE_KBS_AUDIENCE"])  # fmt: skip
        return
    key, authority = ed25519.Ed25519PrivateKey.generate(), Authority()
    certificate, private = loopback_certificate(folder, authority)
    token_certificate, token_key, _object = authority.issue()
    for name, data in (("admin.pub", public_pem(key)), ("token.crt", token_certificate), ("ca.pem", authority.pem.encode("ascii"))):
        (folder / name).write_bytes(data)
    secret(folder / "token.key", token_key)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "kbs.toml").write_text(CONFIG.format(folder=folder, port=port, certificate=certificate, private=private, issuer=ISSUER, audience=AUDIENCE))
    log = folder / "kbs.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603
            [REAL, "--config-file", str(folder / "kbs.toml")], stdout=output, stderr=output, env={"RUST_LOG": "info", "PATH": "/usr/bin:/bin"}
        )
    peer = Peer(f"https://127.0.0.1:{port}", key, authority.pem, log=log)
    try:
        _wait(peer, process, log)
        yield peer
    finally:
        process.terminate()
        process.wait(10)


def _wait(peer: Peer, process: subprocess.Popen, log: Path) -> None:
    for _attempt in range(200):
        if process.poll() is not None:
            raise AssertionError(f"the KBS ended with {process.returncode}: {log.read_text(errors='replace')[-2000:]}")
        with contextlib.suppress(OSError), socket.create_connection(peer.address.parts[1:3], 1):
            return
        time.sleep(0.05)
    raise AssertionError("the KBS does not listen")


CONFIG = """session_storage_type = "Memory"

[http_server]
sockets = ["127.0.0.1:{port}"]
insecure_http = false
private_key = "{private}"
certificate = "{certificate}"
worker_count = 2

[attestation_token]
trusted_certs_paths = ["{folder}/ca.pem"]

[attestation_service]
type = "coco_as_builtin"
timeout = 5

[attestation_service.attestation_token_broker]
duration_min = 5

[attestation_service.attestation_token_broker.signer]
key_path = "{folder}/token.key"
cert_path = "{folder}/token.crt"

[attestation_service.rvps_config]
type = "BuiltIn"

[admin]
authorization_mode = "AuthenticatedAuthorization"

[admin.authentication.bearer_jwt]
identity_providers = [{{ issuer = "{issuer}", audience = "{audience}", public_key_uri = "{folder}/admin.pub" }}]

[admin.authorization.regex_acl]
acls = [{{ role = "admin", allowed_endpoints = "^/kbs/.+$" }}, {{ role = "reader", allowed_endpoints = "^/kbs/v0/resource-policy$" }}]

[storage_backend]
storage_type = "LocalFs"

[storage_backend.backends.local_fs]
dir_path = "{folder}/storage"

[[plugins]]
name = "resource"
storage_backend_type = "kvstorage"
"""
