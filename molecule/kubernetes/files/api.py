# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubernetes for the scenario: the cluster of KUBECONFIG, or a bare API (kube-apiserver with etcd) on loopback.

``check`` ends with 77 where there is neither, and says what to do. ``up`` starts the bare API and writes a kubeconfig; ``down`` ends it. With KUBECONFIG both
do nothing. The programs are named by KUBE_APISERVER and ETCD.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

CANNOT_RUN = 77
HOME = Path(__file__).resolve().parents[3] / ".cache" / "kubernetes"
SECONDS = 600


def programs() -> dict[str, str]:
    return {name: os.environ.get(name, "") for name in ("KUBE_APISERVER", "ETCD")}


def check() -> int:
    if os.environ.get("KUBECONFIG"):
        if not Path(os.environ["KUBECONFIG"].split(":")[0]).is_file():
            print("KUBECONFIG names no file: %s" % os.environ["KUBECONFIG"])
            return 1
        return 0
    wrong = ["%s names no program" % name for name, path in programs().items() if not (path and os.access(path, os.X_OK))]
    if wrong:
        print("no Kubernetes: set KUBECONFIG to that of a cluster for tests, or KUBE_APISERVER and ETCD to the two programs; %s" % ", ".join(wrong))
        return CANNOT_RUN
    return 0


def port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def up() -> int:
    if os.environ.get("KUBECONFIG"):
        return 0
    code = check()
    if code:
        return code
    down()
    HOME.mkdir(parents=True, mode=0o700)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    account = HOME / "account.key"
    account.touch(mode=0o600)
    account.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    token, store, peer, api = secrets.token_hex(16), port(), port(), port()
    tokens = HOME / "tokens"
    tokens.touch(mode=0o600)
    tokens.write_text("%s,admin,1,system:masters\n" % token)
    etcd = [programs()["ETCD"], "--data-dir", str(HOME / "etcd"), "--listen-client-urls", f"http://127.0.0.1:{store}", "--advertise-client-urls",
            f"http://127.0.0.1:{store}", "--listen-peer-urls", f"http://127.0.0.1:{peer}", "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}",
            "--initial-cluster", f"default=http://127.0.0.1:{peer}"]  # fmt: skip
    server = [programs()["KUBE_APISERVER"], f"--etcd-servers=http://127.0.0.1:{store}", f"--secure-port={api}", "--bind-address=127.0.0.1",
              f"--cert-dir={HOME / 'certs'}", "--authorization-mode=RBAC", f"--token-auth-file={tokens}", "--service-account-issuer=https://lab.example.org",
              f"--service-account-key-file={account}", f"--service-account-signing-key-file={account}", "--service-cluster-ip-range=198.51.100.0/24",
              "--disable-admission-plugins=ServiceAccount", "--allow-privileged=true"]  # fmt: skip
    started = []
    with (HOME / "log").open("wb") as log:
        for command in (etcd, server):
            started.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True))
            (HOME / "pids").write_text("\n".join(str(one.pid) for one in started))
    if not ready(f"https://127.0.0.1:{api}", token, started):
        print("the API does not come up:\n" + (HOME / "log").read_text(errors="replace")[-3000:])
        down()
        return 1
    # Last: whoever finds it finds a cluster.
    config = HOME / "kubeconfig"
    config.touch(mode=0o600)
    config.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "bare", "users": [{"name": "bare", "user": {"token": token}}],
        "clusters": [{"name": "bare", "cluster": {"server": f"https://127.0.0.1:{api}", "certificate-authority": str(HOME / "certs" / "apiserver.crt")}}],
        "contexts": [{"name": "bare", "context": {"cluster": "bare", "user": "bare"}}],
    }))  # fmt: skip
    return 0


def ready(address: str, token: str, started: list[subprocess.Popen[bytes]]) -> bool:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and all(one.poll() is None for one in started):
        try:
            context = ssl.create_default_context(cafile=str(HOME / "certs" / "apiserver.crt"))
            request = urllib.request.Request(address + "/api/v1/namespaces/default", headers={"Authorization": "Bearer " + token})
            with urllib.request.urlopen(request, timeout=30, context=context):
                return True
        except (OSError, ValueError, urllib.error.URLError):
            time.sleep(1)
    return False


def ours(pid: int) -> bool:
    """Whether it is still the program that was started: numbers are given again."""
    try:
        return str(HOME).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def down() -> int:
    numbers = [int(one) for one in (HOME / "pids").read_text().split()] if (HOME / "pids").exists() else []
    for sign in (signal.SIGTERM, signal.SIGKILL):
        # The API first; etcd is at the beginning.
        for pid in reversed([one for one in numbers if ours(one)]):
            os.kill(pid, sign)
        deadline = time.monotonic() + 30
        while any(ours(one) for one in numbers) and time.monotonic() < deadline:
            time.sleep(0.2)
    shutil.rmtree(HOME, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit({"check": check, "up": up, "down": down}[sys.argv[1]]())
