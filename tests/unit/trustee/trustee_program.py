# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for the program kbs: it reads the configuration that the role wrote, as Trustee would, and is a soft KBS with that.

It takes files and sockets, keys, the TLS profile and the storage from the configuration, and nothing from elsewhere.
"""

from __future__ import annotations

import base64
import signal
import ssl
import sys
import tomllib
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(REPO / "tools" / "softkbs"), str(REPO / ".cache" / "collections")]

from cryptography import x509  # noqa: E402
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key, load_pem_public_key  # noqa: E402
from softkbs.server import Fault, Server  # noqa: E402
from softkbs.service import DEFAULT_POLICY, Admin, Kbs  # noqa: E402

__all__ = ["DEFAULT_POLICY", "Fault", "Listening", "Program", "tomllib"]


class Stored(dict):
    """Resources as files, the names as LocalFs of Trustee has them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__({path.name.replace("\\x2F", "/"): path.read_bytes() for path in folder.iterdir()})
        self.folder = folder

    def __setitem__(self, name: str, value: bytes) -> None:
        super().__setitem__(name, value)
        (self.folder / name.replace("/", "\\x2F")).write_bytes(value)


class Program(Kbs):
    def __init__(self, config: dict[str, Any]) -> None:
        (provider,) = config["admin"]["authentication"]["bearer_jwt"]["identity_providers"]
        assert config["admin"]["authorization_mode"] == "AuthenticatedAuthorization"
        rules = tuple((one["role"], one["allowed_endpoints"]) for one in config["admin"]["authorization"]["regex_acl"]["acls"])
        key = load_pem_public_key(Path(provider["public_key_uri"]).read_bytes())
        super().__init__(Admin(key=key, issuer=provider["issuer"], audience=provider["audience"], acls=rules))
        signer = config["attestation_service"]["attestation_token_broker"]["signer"]
        self._signer = load_pem_private_key(Path(signer["key_path"]).read_bytes(), None)
        self._chain = x509.load_pem_x509_certificates(Path(signer["cert_path"]).read_bytes())
        self._root = Path(config["storage_backend"]["backends"]["local_fs"]["dir_path"])
        policy = self._root / "kbs" / "resource-policy.rego"
        policy.parent.mkdir(parents=True, exist_ok=True)
        if not policy.exists():
            policy.write_text(self.policy)
        self.policy = policy.read_text()
        self.resources = Stored(self._root / "repository")

    def _jwk(self) -> dict[str, Any]:
        return {**super()._jwk(), "x5c": [base64.b64encode(one.public_bytes(Encoding.DER)).decode("ascii") for one in self._chain]}

    def _set_resource_policy(self, body: bytes, rest: list[str]) -> Any:
        reply = super()._set_resource_policy(body, rest)
        (self._root / "kbs" / "resource-policy.rego").write_text(self.policy)
        return reply


class Listening(Server):
    def __init__(self, kbs: Kbs, http: dict[str, Any]) -> None:
        super().__init__(kbs, (Path(http["certificate"]), Path(http["private_key"])))
        handler, tls, kind = self._http.RequestHandlerClass, self._http.tls, type(self._http)
        self._http.server_close()
        host, _colon, port = http["sockets"][0].rpartition(":")
        kind.allow_reuse_address = True
        self._http = kind((host, int(port)), handler)
        self._http.daemon_threads, self._http.tls = True, tls
        if http["tls_profile"] == "modern":
            tls.minimum_version = ssl.TLSVersion.TLSv1_3


def main() -> int:
    config = tomllib.loads(Path(sys.argv[sys.argv.index("--config-file") + 1]).read_text())
    assert config["http_server"]["insecure_http"] is False
    signal.signal(signal.SIGTERM, lambda *_given: sys.exit(0))
    with Listening(Program(config), config["http_server"]).running():
        signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
