# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of key sources share: a Vault in this process, and the real one where OPENBAO names its binary (bao of OpenBao 2.x)."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kbs_lab
import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultSecret
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.plugin_utils.key_source import KekSource
from ansible_collections.attested.ai.plugins.plugin_utils.release_counter import counter_of
from softbao import SoftBao

REAL = os.environ.get("OPENBAO", "")


@dataclass
class Bao:
    """A Vault under test, and what its administrator does with it."""

    url: str
    ca: Path
    root: str = field(repr=False)
    unseal_key: str = field(repr=False)
    folder: Path
    soft: SoftBao | None = None
    count: int = 0

    def call(self, method: str, path: str, body: dict | None = None, token: str | None = None, namespace: str = "") -> Any:
        request = urllib.request.Request(f"{self.url}/v1/{path}", None if body is None else json.dumps(body).encode(), method=method)
        request.add_header("X-Vault-Token", self.root if token is None else token)
        if namespace:
            request.add_header("X-Vault-Namespace", namespace)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=self.ca)))
        with opener.open(request, timeout=20) as answer:
            data = answer.read()
        return json.loads(data) if data else {}

    def token(self, *rules: tuple[str, str], ttl: int = 600) -> str:
        """A token that may do what ``rules`` say: (path, capabilities)."""
        self.count += 1
        name = f"test-{self.count}"
        text = "\n".join('path "%s" { capabilities=[%s] }' % (path, ",".join(f'"{one}"' for one in words.split())) for path, words in rules)
        self.call("POST", f"sys/policies/acl/{name}", {"policy": text})
        return self.call("POST", "auth/token/create", {"policies": [name], "ttl": f"{ttl}s", "no_default_policy": False})["auth"]["client_token"]

    def secret(self, text: str, name: str = "token") -> str:
        self.count += 1
        return str(kbs_lab.secret(self.folder / f"{name}-{self.count}", text.encode()))

    def server(self, token: str | None = None, **changes: Any) -> dict[str, Any]:
        """The dictionary of a task."""
        file = self.secret(self.root if token is None else token)
        return {"url": self.url, "ca_path": str(self.ca), "token_file": file, "attempts": 1, "timeout": 10, **changes}

    def seal(self) -> None:
        with contextlib.suppress(urllib.error.HTTPError):
            self.call("POST", "sys/seal", {})

    def unseal(self) -> None:
        self.call("POST", "sys/unseal", {"key": self.unseal_key}, "")
        if self.soft is None:
            _wait(lambda: self.call("GET", "auth/token/lookup-self"))


@contextlib.contextmanager
def soft(folder: Path, *names: str) -> Iterator[Bao]:
    authority, state = kbs_lab.Authority(), SoftBao()
    (folder / "ca.pem").write_text(authority.pem)
    with state.running(kbs_lab.loopback_certificate(folder, authority, *names)) as url:
        yield Bao(url, folder / "ca.pem", state.root, state.unseal_key, folder, state)


@contextlib.contextmanager
def real(folder: Path) -> Iterator[Bao]:
    authority = kbs_lab.Authority()
    (folder / "ca.pem").write_text(authority.pem)
    certificate, key = kbs_lab.loopback_certificate(folder, authority)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "bao.hcl").write_text(
        f'storage "inmem" {{}}\ndisable_mlock = true\napi_addr = "https://127.0.0.1:{port}"\n'
        f'listener "tcp" {{\n address = "127.0.0.1:{port}"\n cluster_address = "127.0.0.1:0"\n tls_cert_file = "{certificate}"\n tls_key_file = "{key}"\n}}\n'
    )
    with (folder / "bao.log").open("wb") as log:
        process = subprocess.Popen([REAL, "server", f"-config={folder}/bao.hcl"], stdout=log, stderr=log, env={"HOME": str(folder)})  # noqa: S603
    bao = Bao(f"https://127.0.0.1:{port}", folder / "ca.pem", "", "", folder)
    try:
        made = _wait(lambda: bao.call("POST", "sys/init", {"secret_shares": 1, "secret_threshold": 1}, ""))
        bao.root, bao.unseal_key = made["root_token"], made["keys"][0]
        bao.unseal()
        bao.call("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})
        bao.call("POST", "sys/mounts/transit", {"type": "transit"})
        for kind in ("approle", "jwt"):
            bao.call("POST", f"sys/auth/{kind}", {"type": kind})
        # KV answers 400 while it upgrades itself after the mount.
        _wait(lambda: bao.call("POST", "secret/data/ready", {"data": {}}))
        yield bao
    finally:
        process.terminate()
        process.wait(20)


def _wait(act: Any) -> Any:
    end = time.monotonic() + 60
    while True:
        try:
            return act()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


class Action:
    """As much of an action plugin as sources look at."""

    def __init__(self, *passwords: tuple[str, bytes]) -> None:
        self._loader = DataLoader()
        self._loader.set_vault_secrets([(name, VaultSecret(password)) for name, password in passwords])

    def _find_needle(self, _kind: str, path: str) -> str:
        return path


def code_of(act) -> str:
    with pytest.raises(AttestedError) as caught:
        act()
    assert str(caught.value) and "Traceback" not in str(caught.value)
    return caught.value.code


def transit(bao, key, token=None, **changes):
    return KekSource(Action(), {"source": "vault_transit", "key": key, "server": bao.server(token, **changes)})


def kv(bao, path, token=None, server=None, **more):
    return KekSource(Action(), {"source": "vault_kv", "path": path, "server": server or bao.server(token), **more})


def counter(bao, path, token=None):
    return counter_of(Action(), {"source": "vault_kv", "path": path, "server": bao.server(token)})
