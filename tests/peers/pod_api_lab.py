# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubernetes for tests of the role inference_pod: a small API in this process, or a real kube-apiserver with etcd where both are named.

Neither has controllers or a kubelet: ``Api.run_pods`` makes the pods of a Deployment, as those would. The small one takes server-side apply as a merge, and
proves no more than that the calls are well formed and come in the right order.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import shutil
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

# Paths of kube-apiserver and etcd.
REAL = (os.environ.get("KUBE_APISERVER", ""), os.environ.get("ETCD", ""))
TOKEN = "lab"
Object = dict[str, Any]
# group/version -> plural -> (kind, namespaced)
SERVED: dict[str, dict[str, tuple[str, bool]]] = {
    "v1": {"namespaces": ("Namespace", False), "nodes": ("Node", False), "pods": ("Pod", True), "secrets": ("Secret", True), "services": ("Service", True),
           "configmaps": ("ConfigMap", True), "persistentvolumeclaims": ("PersistentVolumeClaim", True)},
    "apps/v1": {"deployments": ("Deployment", True)},
    "networking.k8s.io/v1": {"networkpolicies": ("NetworkPolicy", True)},
    "node.k8s.io/v1": {"runtimeclasses": ("RuntimeClass", False)},
}  # fmt: skip
PLURALS = {kind: (version, plural, scoped) for version, group in SERVED.items() for plural, (kind, scoped) in group.items()}


@dataclass
class Api:
    """``calls`` are writes that were not dry runs, where the API is ours."""

    address: str
    calls: list[str] = field(default_factory=list)
    context: ssl.SSLContext | None = None

    def request(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data=data, method=method, headers={"Authorization": "Bearer " + TOKEN, "Content-Type": kind})
        with urllib.request.urlopen(request, timeout=30, context=self.context) as answer:
            return json.loads(answer.read())

    def create(self, item: Object) -> None:
        self.request("POST", _collection(item["kind"], item["metadata"].get("namespace")), item)

    def get(self, kind: str, name: str, namespace: str | None = None) -> Any:
        try:
            return self.request("GET", "%s/%s" % (_collection(kind, namespace), name))
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def names(self, namespace: str) -> list[str]:
        found = []
        for kind in ("Deployment", "Service", "Secret", "ConfigMap", "PersistentVolumeClaim", "NetworkPolicy"):
            found += ["%s/%s" % (kind, one["metadata"]["name"]) for one in self.request("GET", _collection(kind, namespace))["items"]]
        # Every namespace of a real API gets this one.
        return sorted(name for name in found if name != "ConfigMap/kube-root-ca.crt")

    def prepare(self) -> None:
        """What the collection's other roles leave in a cluster."""
        self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "inference"}})
        for name in ("kata-qemu-snp", "kata-qemu-nvidia-gpu-snp"):
            self.create({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": name,
                         "overhead": {"podFixed": {"memory": "2048Mi", "cpu": "1"}}})  # fmt: skip
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1", "labels": {"amd.feature.node.kubernetes.io/snp": "true"}},
                "status": {"allocatable": {"cpu": "64", "memory": "512Gi"}, "capacity": {"cpu": "64", "memory": "512Gi"}}}  # fmt: skip
        self.create(node)

    def run_pods(self, name: str, namespace: str = "inference", ready: bool = True, change: Callable[[Object], None] = lambda spec: None) -> None:
        """As the controllers and the kubelet would, at once."""
        template = self.get("Deployment", name, namespace)["spec"]["template"]
        item = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name + "-1", "namespace": namespace, "labels": template["metadata"]["labels"]},
                "spec": copy.deepcopy(template["spec"])}  # fmt: skip
        change(item["spec"])
        self.create(item)
        status = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]}}
        self.request("PATCH", "%s/%s-1/status" % (_collection("Pod", namespace), name), status, "application/merge-patch+json")


def _collection(kind: str, namespace: str | None) -> str:
    version, plural, scoped = PLURALS[kind]
    root = "/api/v1" if version == "v1" else "/apis/" + version
    return "%s/namespaces/%s/%s" % (root, namespace, plural) if scoped else "%s/%s" % (root, plural)


def kubeconfig(api: Api, path: Path) -> str:
    cluster = {"server": api.address, **({"insecure-skip-tls-verify": True} if api.context else {})}
    path.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "x", "users": [{"name": "x", "user": {"token": TOKEN}}],
        "clusters": [{"name": "x", "cluster": cluster}], "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    }))  # fmt: skip
    return str(path)


class _Handler(BaseHTTPRequestHandler):
    store: dict[tuple[str, str, str], Object]
    api: Api
    lock: threading.Lock

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, document: Any, status: int = 200) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _fail(self, status: int, message: str) -> None:
        self._answer({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "message": message, "reason": "NotFound"}, status)

    def _place(self) -> tuple[str, str, str, str] | None:
        """(kind, namespace, name, subresource) of the path."""
        words = urlsplit(self.path).path.strip("/").split("/")
        version, rest = ("v1", words[2:]) if words[0] == "api" else ("/".join(words[1:3]), words[3:])
        namespace = ""
        if rest[:1] == ["namespaces"] and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        if not rest or rest[0] not in SERVED.get(version, {}):
            return None
        return SERVED[version][rest[0]][0], namespace, rest[1] if len(rest) > 1 else "", rest[2] if len(rest) > 2 else ""

    def _body(self) -> Any:
        # Server-side apply is sent as YAML, of which JSON is a part.
        return yaml.safe_load(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")

    def do_GET(self) -> None:  # noqa: N802
        path = urlsplit(self.path).path
        if path == "/version":
            return self._answer({"major": "1", "minor": "36", "gitVersion": "v1.36.0"})
        if path == "/api":
            return self._answer({"kind": "APIVersions", "versions": ["v1"]})
        if path == "/apis":
            groups = [one for one in SERVED if "/" in one]
            return self._answer({"kind": "APIGroupList", "apiVersion": "v1", "groups": [
                {"name": one.split("/")[0], "versions": [{"groupVersion": one, "version": "v1"}], "preferredVersion": {"groupVersion": one, "version": "v1"}}
                for one in groups]})  # fmt: skip
        version = path[len("/apis/"):] if path.startswith("/apis/") else path[len("/api/"):]
        if version in SERVED:
            return self._answer({"kind": "APIResourceList", "groupVersion": version, "resources": [
                {"name": plural, "singularName": "", "namespaced": scoped, "kind": kind, "verbs": ["get", "list", "patch", "delete", "create"]}
                for plural, (kind, scoped) in SERVED[version].items()]})  # fmt: skip
        place = self._place()
        if place is None:
            return self._fail(404, "no such path")
        kind, namespace, name, _sub = place
        with self.lock:
            if name:
                found = self.store.get((kind, namespace, name))
                return self._answer(found) if found else self._fail(404, "%s %s not found" % (kind, name))
            asked = parse_qs(urlsplit(self.path).query).get("labelSelector", [""])[0]
            wanted = dict(one.split("=", 1) for one in asked.split(",") if one)
            there = [one for (a, b, _c), one in self.store.items() if a == kind and b == namespace]
            items = [one for one in there if wanted.items() <= one["metadata"].get("labels", {}).items()]
        return self._answer({"kind": kind + "List", "apiVersion": PLURALS[kind][0], "metadata": {}, "items": items})

    def _write(self, method: str) -> None:
        place, body = self._place(), self._body()
        if place is None:
            return self._fail(404, "no such path")
        kind, namespace, name, sub = place
        name = name or body["metadata"]["name"]
        query = parse_qs(urlsplit(self.path).query)
        dry = "dryRun" in query
        with self.lock:
            if namespace and ("Namespace", "", namespace) not in self.store:
                return self._fail(404, 'namespaces "%s" not found' % namespace)
            before = self.store.get((kind, namespace, name))
            if method == "DELETE":
                if before is None:
                    return self._fail(404, "%s %s not found" % (kind, name))
                if not dry:
                    self.api.calls.append("delete %s/%s" % (kind, name))
                    del self.store[(kind, namespace, name)]
                return self._answer({"kind": "Status", "apiVersion": "v1", "status": "Success"})
            if method == "PATCH" and "apply" in self.headers.get("Content-Type", ""):
                assert query.get("fieldManager") == ["attested.ai"], "who applies is named"
            after = _merged(before or {"apiVersion": PLURALS[kind][0], "kind": kind}, body)
            after["metadata"].setdefault("uid", "%s-%s" % (kind, name))
            after.setdefault("apiVersion", PLURALS[kind][0])
            if not dry and after != before:
                self.store[(kind, namespace, name)] = after
                if not sub:
                    self.api.calls.append("%s %s/%s" % ("change" if before else "make", kind, name))
        return self._answer(after, 200 if before else 201)

    def do_PATCH(self) -> None:  # noqa: N802
        self._write("PATCH")

    def do_POST(self) -> None:  # noqa: N802
        self._write("POST")

    def do_DELETE(self) -> None:  # noqa: N802
        self._write("DELETE")


def _merged(before: Any, change: Any) -> Any:
    if not isinstance(before, dict) or not isinstance(change, dict):
        return copy.deepcopy(change)
    found = dict(before)
    for key, value in change.items():
        found[key] = _merged(found.get(key), value)
    return found


@contextlib.contextmanager
def small() -> Iterator[Api]:
    api = Api("")
    bound = type("Bound", (_Handler,), {"store": {}, "api": api, "lock": threading.Lock()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), bound)
    api.address = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        api.prepare()
        api.calls.clear()
        yield api
    finally:
        server.shutdown()
        server.server_close()


def _port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def real(folder: Path) -> Iterator[Api]:
    """etcd and kube-apiserver on loopback, with keys of their own, until the block ends."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    store, peer, port = _port(), _port(), _port()
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (folder / "sa.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))  # fmt: skip
    (folder / "sa.key").chmod(0o600)
    (folder / "tokens").write_text(f"{TOKEN},admin,1,system:masters\n")
    etcd = [REAL[1], "--data-dir", str(folder / "etcd"), "--listen-client-urls", f"http://127.0.0.1:{store}", "--advertise-client-urls",
            f"http://127.0.0.1:{store}", "--listen-peer-urls", f"http://127.0.0.1:{peer}", "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}",
            "--initial-cluster", f"default=http://127.0.0.1:{peer}"]  # fmt: skip
    server = [REAL[0], f"--etcd-servers=http://127.0.0.1:{store}", f"--secure-port={port}", "--bind-address=127.0.0.1", f"--cert-dir={folder / 'certs'}",
              "--authorization-mode=RBAC", f"--token-auth-file={folder / 'tokens'}", "--service-account-issuer=https://lab.example.org",
              f"--service-account-key-file={folder / 'sa.key'}", f"--service-account-signing-key-file={folder / 'sa.key'}",
              "--service-cluster-ip-range=198.51.100.0/24", "--disable-admission-plugins=ServiceAccount",
              # As every cluster that runs node agents has it: Kata's chart installs with a privileged container.
              "--allow-privileged=true"]  # fmt: skip
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    api = Api(f"https://127.0.0.1:{port}", context=context)
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((folder / "log").open("wb"))
        for command in (etcd, server):
            process = subprocess.Popen(command, stdout=log, stderr=log)
            stack.callback(process.wait, 60)
            stack.callback(process.terminate)
        deadline = time.monotonic() + 180
        while True:
            try:
                api.request("GET", "/api/v1/namespaces/default")
                break
            except (OSError, ValueError):
                if time.monotonic() > deadline or process.poll() is not None:
                    raise AssertionError("the API does not come up:\n" + (folder / "log").read_text(errors="replace")[-3000:]) from None
                time.sleep(0.5)
        api.prepare()
        try:
            yield api
        finally:
            stack.close()
            shutil.rmtree(folder / "etcd", ignore_errors=True)
