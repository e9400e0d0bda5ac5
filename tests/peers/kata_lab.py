# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster for tests of the roles kata and coco: a real kube-apiserver, and a thread that does what controllers and kata-deploy would do on nodes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pod_api_lab
from pod_api_lab import Api

# Helm, and a folder with kata-deploy charts, each in a folder named by its version.
HELM, CHARTS = os.environ.get("HELM", ""), os.environ.get("KATA_CHARTS", "")
NEEDED = {"KUBE_APISERVER": pod_api_lab.REAL[0], "ETCD": pod_api_lab.REAL[1], "HELM": HELM, "KATA_CHARTS": CHARTS}
DAEMONSETS = "/apis/apps/v1/daemonsets"
# The name of the chart, or its alias where another chart brings it.
SETS = ("kata-deploy", "kata-as-coco-runtime")
LABEL = "katacontainers.io/kata-runtime"
IMAGE = "registry.example.com/busybox@sha256:" + "ab" * 32
MERGE = "application/merge-patch+json"


def missing() -> str:
    gone = [name for name, value in NEEDED.items() if not value]
    return "no real Helm and API: %s not set" % ", ".join(gone) if gone else ""


class Nodes:
    """``lets_in``: what becomes of a pod that verifies. ``leaves``: the label stays after removal, as where cleaning up fails."""

    def __init__(self, api: Api) -> None:
        self.api, self.lets_in, self.leaves, self.works = api, {"phase": "Succeeded", "exitCode": 0}, False, True
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Nodes:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.3):
            # Objects go while they are looked at.
            with contextlib.suppress(urllib.error.HTTPError):
                self._step()

    def _step(self) -> None:
        sets = [one for one in self.api.request("GET", DAEMONSETS)["items"] if one["metadata"]["name"] in SETS]
        for one in sets:
            place = "/apis/apps/v1/namespaces/%s/daemonsets/%s/status" % (one["metadata"]["namespace"], one["metadata"]["name"])
            counts = dict.fromkeys(("desiredNumberScheduled", "currentNumberScheduled", "updatedNumberScheduled", "numberReady", "numberAvailable"), 1)
            self.api.request("PATCH", place, {"status": {**counts, "numberMisscheduled": 0, "observedGeneration": one["metadata"]["generation"]}}, MERGE)
        if self.works and not (self.leaves and not sets):
            labels = {LABEL: "true", "kata-deploy.katacontainers.io/default": "true"} if sets else {LABEL: None, "kata-deploy.katacontainers.io/default": None}
            self.api.request("PATCH", "/api/v1/nodes/node1", {"metadata": {"labels": labels}}, MERGE)
        for job in self.api.request("GET", "/apis/batch/v1/jobs")["items"]:
            self._finish(job)
        for pod in self.api.request("GET", "/api/v1/namespaces/default/pods")["items"]:
            if pod.get("status", {}).get("phase") == "Pending":
                ended = {"exitCode": self.lets_in["exitCode"], "reason": "Error" if self.lets_in["exitCode"] else "Completed"}
                status = {"phase": self.lets_in["phase"], "containerStatuses": [
                    {"name": "verify", "image": IMAGE, "imageID": IMAGE, "ready": False, "restartCount": 0, "state": {"terminated": ended}}]}  # fmt: skip
                self.api.request("PATCH", "/api/v1/namespaces/default/pods/%s/status" % pod["metadata"]["name"], {"status": status}, MERGE)

    def _finish(self, job: dict[str, Any]) -> None:
        if job.get("status", {}).get("conditions"):
            return
        now = job["metadata"]["creationTimestamp"]
        done = [{"type": kind, "status": "True", "lastTransitionTime": now, "lastProbeTime": now} for kind in ("SuccessCriteriaMet", "Complete")]
        place = "/apis/batch/v1/namespaces/%s/jobs/%s/status" % (job["metadata"]["namespace"], job["metadata"]["name"])
        self.api.request("PATCH", place, {"status": {"startTime": now, "completionTime": now, "succeeded": 1, "conditions": done}}, MERGE)


def prepared(api: Api, containerd: str = "containerd://2.3.7", kubelet: str = "v1.36.3") -> None:
    """Without what the lab of pods leaves, and with nodes that say what they run."""
    for name in ("kata-qemu-snp", "kata-qemu-nvidia-gpu-snp"):
        api.request("DELETE", "/apis/node.k8s.io/v1/runtimeclasses/" + name)
    info = {"machineID": "1", "systemUUID": "1", "bootID": "1", "kernelVersion": "6.12.48-amd64", "osImage": "Debian", "containerRuntimeVersion": containerd,
            "kubeletVersion": kubelet, "kubeProxyVersion": "", "operatingSystem": "linux", "architecture": "amd64"}  # fmt: skip
    api.request("PATCH", "/api/v1/nodes/node1/status", {"status": {"nodeInfo": info}}, MERGE)


def classes(api: Api) -> list[str]:
    return sorted(one["metadata"]["name"] for one in api.request("GET", "/apis/node.k8s.io/v1/runtimeclasses")["items"])


def run(api: Api, folder: Path, *words: str, role: str = "kata", **options: Any) -> subprocess.CompletedProcess[str]:
    values = {
        role + "_kubeconfig": pod_api_lab.kubeconfig(api, folder / "kubeconfig"), role + "_poll": 1, role + "_timeout": 60, role + "_verify_timeout": 30,
        role + "_helm": HELM or "helm", role + "_allow_image_tags": True, **options,
    }  # fmt: skip
    told = {"name": "Tell", "ansible.builtin.debug": {"msg": "result={{ %s_result | to_json }}" % role}}
    play = [{"hosts": "localhost", "gather_facts": False, "roles": ["attested.ai." + role], "vars": values, "tasks": [told]}]
    (folder / "play.json").write_text(json.dumps(play))
    environment = dict(os.environ, ANSIBLE_LOCALHOST_WARNING="false", ANSIBLE_NOCOLOR="true", ANSIBLE_LOCAL_TEMP=str(folder / "local"), COLUMNS="400",
                       ANSIBLE_PIPELINING="1")  # fmt: skip
    environment.update(K8S_AUTH_KUBECONFIG="", TMPDIR=str(folder), HELM_CACHE_HOME=str(folder / "helm"), HELM_CONFIG_HOME=str(folder / "helm"))
    environment.update(HELM_DATA_HOME=str(folder / "helm"))
    environment.setdefault("ANSIBLE_COLLECTIONS_PATH", os.pathsep.join(sys.path))
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-c", "local", str(folder / "play.json"), *words]
    command += ["-e", json.dumps({"ansible_python_interpreter": sys.executable})]
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=600)


def result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What the role left, of the last line that tells it."""
    import re

    found = re.search(r'"msg": "result=(.*)"\n', done.stdout)
    return json.loads(json.loads('"%s"' % found.group(1))) if found else {}


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[tuple[Api, Nodes]]:
    with pod_api_lab.real(folder) as api:
        prepared(api)
        with Nodes(api) as nodes:
            yield api, nodes
