# SPDX-License-Identifier: GPL-3.0-or-later
"""A small Kubernetes API over HTTP on loopback: one node, its pods, evictions, and a cc-manager that acts on the node's label some looks later.

It answers what kubernetes.core asks for in a drain and a change of labels, and nothing else. It is no kube-apiserver, and proves no more than that the
modules' calls are well formed and come in the right order.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PREFIX = "nvidia.com/cc."
READY = {"on": "true", "ppcie": "true", "off": "false", "devtools": ""}


def _resource(name: str, kind: str, namespaced: bool, verbs: str = "get list patch delete create") -> dict[str, Any]:
    return {"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": verbs.split()}


DISCOVERY: dict[str, Any] = {
    "/version": {"major": "1", "minor": "33", "gitVersion": "v1.33.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [
        {"name": "policy", "versions": [{"groupVersion": "policy/v1", "version": "v1"}], "preferredVersion": {"groupVersion": "policy/v1", "version": "v1"}},
    ]},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [
        _resource("nodes", "Node", False), _resource("pods", "Pod", True),
        {**_resource("pods/eviction", "Eviction", True, "create"), "group": "policy", "version": "v1"},
    ]},
    "/apis/policy/v1": {"kind": "APIResourceList", "groupVersion": "policy/v1", "resources": [_resource("poddisruptionbudgets", "PodDisruptionBudget", True)]},
}  # fmt: skip


def pod(namespace: str, name: str, gpus: int = 0, owner: str = "ReplicaSet") -> dict[str, Any]:
    limits = {"nvidia.com/pgpu": str(gpus)} if gpus else {}
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "uid": f"{namespace}-{name}",
                     "ownerReferences": [{"apiVersion": "apps/v1", "kind": owner, "name": "x", "uid": "x", "controller": True}] if owner else []},
        "spec": {"nodeName": "gpu1", "containers": [{"name": "main", "image": "registry.example.com/x:1", "resources": {"limits": limits}}]},
        "status": {"phase": "Running"},
    }  # fmt: skip


@dataclass
class Cluster:
    """``verdict`` is what cc-manager comes to ('' for the mode that was asked for), after ``looks`` looks at the node."""

    labels: dict[str, str] = field(default_factory=lambda: {PREFIX + "capable": "true"})
    pods: list[dict[str, Any]] = field(default_factory=list)
    verdict: str = ""
    looks: int = 2
    calls: list[str] = field(default_factory=list)
    waiting: int = -1
    node: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu1", "labels": self.labels, "annotations": {}}, "spec": {}, "status": {}}

    def look(self) -> dict[str, Any]:
        if self.waiting == 0:
            labels, mode = self.node["metadata"]["labels"], self.node["metadata"]["labels"][PREFIX + "mode"]
            labels[PREFIX + "mode.state"] = self.verdict or mode
            labels[PREFIX + "ready.state"] = "" if self.verdict else READY[mode]
        self.waiting -= self.waiting >= 0
        return self.node

    def patch(self, change: dict[str, Any]) -> dict[str, Any]:
        before = self.node["metadata"]["labels"].get(PREFIX + "mode")
        _merge(self.node, change)
        if self.node["metadata"]["labels"].get(PREFIX + "mode") != before:
            self.waiting = self.looks
        return self.node


def _merge(target: dict[str, Any], change: dict[str, Any]) -> None:
    for key, value in change.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            _merge(target.setdefault(key, {}), value)
        else:
            target[key] = value


class Handler(BaseHTTPRequestHandler):
    cluster: Cluster

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, document: Any, status: int = 200) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _missing(self) -> None:
        self._answer({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404, "message": "not found"}, 404)

    def _body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")

    def do_GET(self) -> None:  # noqa: N802
        place = urlsplit(self.path)
        if place.path in DISCOVERY:
            return self._answer(DISCOVERY[place.path])
        if place.path == "/api/v1/nodes/gpu1":
            return self._answer(self.cluster.look())
        if place.path == "/api/v1/pods":
            asked = parse_qs(place.query).get("fieldSelector", [""])[0]
            found = self.cluster.pods if asked == "spec.nodeName=gpu1" else []
            return self._answer({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": found})
        for entry in self.cluster.pods:
            if place.path == f"/api/v1/namespaces/{entry['metadata']['namespace']}/pods/{entry['metadata']['name']}":
                return self._answer(entry)
        return self._missing()

    def do_PATCH(self) -> None:  # noqa: N802
        body = self._body()
        if urlsplit(self.path).path != "/api/v1/nodes/gpu1":
            return self._missing()
        if "dryRun" in self.path:
            return self._answer(self.cluster.node)
        self.cluster.calls.append("patch " + json.dumps({key: value for key, value in body.items() if key in ("metadata", "spec")}, sort_keys=True))
        return self._answer(self.cluster.patch({key: value for key, value in body.items() if key in ("metadata", "spec")}))

    def do_POST(self) -> None:  # noqa: N802
        self._body()
        words = urlsplit(self.path).path.split("/")
        if words[-1] != "eviction":
            return self._missing()
        self.cluster.calls.append(f"evict {words[4]}/{words[6]}")
        self.cluster.pods = [entry for entry in self.cluster.pods if (entry["metadata"]["namespace"], entry["metadata"]["name"]) != (words[4], words[6])]
        return self._answer({"kind": "Status", "apiVersion": "v1", "status": "Success"}, 201)


@contextlib.contextmanager
def serving(cluster: Cluster) -> Iterator[str]:
    """The address of the API while the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"cluster": cluster}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
