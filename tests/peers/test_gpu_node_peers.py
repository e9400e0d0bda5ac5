# SPDX-License-Identifier: GPL-3.0-or-later
"""The role gpu_cc_node with the real modules of kubernetes.core before a small API: the order of its acts, what it refuses, what a failure leaves."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "tools" / "softgpu"))

from softgpu.kube import PREFIX, Cluster, pod, serving  # noqa: E402

pytestmark = pytest.mark.skipif(importlib.util.find_spec("kubernetes") is None, reason="Python's kubernetes is not installed, which kubernetes.core needs")
MODE, STATE, NOTE = PREFIX + "mode", PREFIX + "mode.state", "attested.ai/gpu-cc-change"


def run(cluster: Cluster, tmp_path: Path, mode: str = "on", *words: str, **options: object) -> subprocess.CompletedProcess:
    values = {"gpu_cc_node_mode": mode, "gpu_cc_node_name": "gpu1", "gpu_cc_node_poll": 1, "gpu_cc_node_timeout": 20, **options}
    with serving(cluster) as address:
        access = {
            "apiVersion": "v1", "kind": "Config", "current-context": "x", "users": [{"name": "x", "user": {"token": "t"}}],
            "clusters": [{"name": "x", "cluster": {"server": address}}], "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        }  # fmt: skip
        (tmp_path / "kubeconfig").write_text(json.dumps(access))
        values["gpu_cc_node_kubeconfig"] = str(tmp_path / "kubeconfig")
        play = [{"hosts": "localhost", "gather_facts": False, "roles": ["attested.ai.gpu_cc_node"], "vars": values}]
        (tmp_path / "play.json").write_text(json.dumps(play))
        environment = dict(os.environ, ANSIBLE_LOCALHOST_WARNING="false", ANSIBLE_NOCOLOR="true", ANSIBLE_LOCAL_TEMP=str(tmp_path / "local"))
        environment.update(K8S_AUTH_KUBECONFIG="", TMPDIR=str(tmp_path))
        environment.setdefault("ANSIBLE_COLLECTIONS_PATH", os.pathsep.join(sys.path))
        command = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-c", "local", str(tmp_path / "play.json"), *words]
        command += ["-e", json.dumps({"ansible_python_interpreter": sys.executable})]
        return subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=900)


def test_a_node_is_drained_labelled_awaited_and_opened_again(tmp_path):
    cluster = Cluster(pods=[pod("shop", "model-1", gpus=1), pod("gpu-operator", "cc-manager-x", owner="DaemonSet"), pod("shop", "web-1")])
    done = run(cluster, tmp_path)
    assert done.returncode == 0, done.stdout
    kinds = [call.split(" ", 1)[0] for call in cluster.calls]
    label = next(number for number, call in enumerate(cluster.calls) if MODE in call)
    assert {"evict shop/model-1", "evict shop/web-1"} <= set(cluster.calls[:label]), "user workloads go before the label is set"
    assert not any("cc-manager" in call for call in cluster.calls) and kinds[0] == "patch" and NOTE in cluster.calls[0]
    assert cluster.node["metadata"]["labels"][STATE] == "on" and NOTE not in cluster.node["metadata"]["annotations"]
    assert not cluster.node["spec"].get("unschedulable")
    before = len(cluster.calls)
    done = run(cluster, tmp_path)
    assert done.returncode == 0 and "changed=0" in done.stdout and len(cluster.calls) == before, done.stdout


def test_check_mode_changes_nothing(tmp_path):
    cluster = Cluster(pods=[pod("shop", "model-1", gpus=1)])
    done = run(cluster, tmp_path, "on", "--check")
    assert done.returncode == 0, done.stdout
    assert cluster.calls == [] and "changed=0" not in done.stdout


def test_a_failed_switch_leaves_the_node_closed_and_the_next_run_knows(tmp_path):
    cluster = Cluster(verdict="failed")
    done = run(cluster, tmp_path, "ppcie")
    assert done.returncode != 0 and "cc-manager says failed" in done.stdout and "stays closed" in done.stdout
    assert cluster.node["spec"]["unschedulable"] and cluster.node["metadata"]["annotations"][NOTE] == "open"
    done = run(cluster, tmp_path, "ppcie")
    assert done.returncode != 0 and "delete the pod so that it tries again" in done.stdout
    cluster.verdict = ""
    done = run(cluster, tmp_path, "off")
    assert done.returncode == 0, done.stdout
    assert cluster.node["metadata"]["labels"][PREFIX + "ready.state"] == "false" and not cluster.node["spec"].get("unschedulable")


def test_a_cc_manager_that_says_nothing_is_not_waited_for_for_ever(tmp_path):
    cluster = Cluster(looks=10**6)
    done = run(cluster, tmp_path, gpu_cc_node_timeout=2)
    assert done.returncode != 0 and "cc-manager says nothing" in done.stdout and "gpu_cc_node_timeout" in done.stdout
    assert cluster.node["spec"]["unschedulable"]


def test_a_daemonset_that_holds_a_gpu_stops_it(tmp_path):
    cluster = Cluster(pods=[pod("shop", "monitor-1", gpus=1, owner="DaemonSet")])
    done = run(cluster, tmp_path)
    assert done.returncode != 0 and "shop/monitor-1 on gpu1 asks for GPUs" in done.stdout and MODE not in cluster.node["metadata"]["labels"]


def test_a_pod_that_nothing_starts_again_is_not_evicted(tmp_path):
    cluster = Cluster(pods=[pod("shop", "bare", gpus=1, owner="")])
    done = run(cluster, tmp_path)
    assert done.returncode != 0 and MODE not in cluster.node["metadata"]["labels"] and "evict shop/bare" not in cluster.calls


def test_a_node_that_was_closed_before_stays_closed(tmp_path):
    cluster = Cluster()
    cluster.node["spec"]["unschedulable"] = True
    done = run(cluster, tmp_path)
    assert done.returncode == 0, done.stdout
    assert cluster.node["spec"]["unschedulable"] and cluster.node["metadata"]["labels"][STATE] == "on"


@pytest.mark.parametrize(("labels", "name", "words"), [({}, "gpu1", "does not say that gpu1 can do this"), ({}, "gpu9", "Kubernetes has no node gpu9")])
def test_a_node_without_the_operator_or_without_a_name_is_refused(tmp_path, labels, name, words):
    cluster = Cluster(labels=dict(labels))
    done = run(cluster, tmp_path, gpu_cc_node_name=name)
    assert done.returncode != 0 and words in done.stdout and cluster.calls == []
