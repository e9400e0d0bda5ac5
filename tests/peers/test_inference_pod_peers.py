# SPDX-License-Identifier: GPL-3.0-or-later
"""The role inference_pod with the real modules of kubernetes.core, before a small API, and before a real kube-apiserver where one is named."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(REPO / "tests/unit/inference_pod"), str(REPO / "tests/unit/kbs")]

import kbs_lab  # noqa: E402
import pod_api_lab  # noqa: E402
import pod_lab  # noqa: E402
from ansible_collections.attested.ai.plugins.plugin_utils.inference_pod import inference_pod  # noqa: E402

pytestmark = pytest.mark.skipif(importlib.util.find_spec("kubernetes") is None, reason="Python's kubernetes is not installed, which kubernetes.core needs")
MADE = ["ConfigMap/llama-public", "Deployment/llama", "NetworkPolicy/llama", "Secret/llama-sealed", "Service/llama"]


@pytest.fixture(params=["small", "real"])
def api(request, tmp_path):
    if request.param == "small":
        with pod_api_lab.small() as found:
            yield found
        return
    if not all(pod_api_lab.REAL):
        pytest.skip("no real API: KUBE_APISERVER and ETCD name no programs")
    with pod_api_lab.real(tmp_path) as found:
        yield found


@pytest.fixture
def small(tmp_path):
    with pod_api_lab.small() as found:
        yield found


def run(api, tmp_path, *words, description=None, defaults=None, **options):
    key = tmp_path / "sealed.pem"
    values = {
        "inference_pod_description": description if description is not None else pod_lab.described(), "inference_pod_wait": False,
        "inference_pod_kubeconfig": pod_api_lab.kubeconfig(api, tmp_path / "kubeconfig"), "inference_pod_wait_poll": 1,
        "inference_pod_sealing_key": str(key) if key.exists() else pod_lab.key_file(tmp_path), **options,
    }  # fmt: skip
    tasks = [{"name": "Tell", "ansible.builtin.debug": {"msg": "state={{ inference_pod_result.state }} ready={{ inference_pod_result.ready }}"}}]
    play = [{"hosts": "localhost", "gather_facts": False, "roles": ["attested.ai.inference_pod"], "vars": values, "tasks": tasks,
             "module_defaults": {"group/attested.ai.all": defaults or {}}}]  # fmt: skip
    (tmp_path / "play.json").write_text(json.dumps(play))
    environment = dict(os.environ, ANSIBLE_LOCALHOST_WARNING="false", ANSIBLE_NOCOLOR="true", ANSIBLE_LOCAL_TEMP=str(tmp_path / "local"), COLUMNS="400")
    environment.update(K8S_AUTH_KUBECONFIG="", TMPDIR=str(tmp_path))
    environment.setdefault("ANSIBLE_COLLECTIONS_PATH", os.pathsep.join(sys.path))
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-c", "local", str(tmp_path / "play.json"), *words]
    command += ["-e", json.dumps({"ansible_python_interpreter": sys.executable})]
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=900)


def test_it_is_applied_once_and_removed_again(api, tmp_path):
    checked = run(api, tmp_path, "--check", "--diff")
    assert checked.returncode == 0 and "changed=0" not in checked.stdout and api.names("inference") == [], checked.stdout
    done = run(api, tmp_path)
    assert done.returncode == 0 and api.names("inference") == MADE, done.stdout
    assert [call for call in api.calls if call.startswith("make")][-1:] in ([], ["make Deployment/llama"]), "the pod comes last"
    before = api.get("Deployment", "llama", "inference")
    api.run_pods("llama")
    again = run(api, tmp_path, inference_pod_wait=True, inference_pod_wait_timeout=20)
    assert again.returncode == 0 and "changed=0" in again.stdout and "state=present ready=1" in again.stdout, again.stdout
    assert api.get("Deployment", "llama", "inference") == before, "the sealed secrets stay, so nothing changes"
    removed = run(api, tmp_path, inference_pod_state="absent")
    assert removed.returncode == 0 and api.names("inference") == [] and "state=absent" in removed.stdout, removed.stdout
    nothing = run(api, tmp_path, inference_pod_state="absent")
    assert nothing.returncode == 0 and "changed=0" in nothing.stdout, nothing.stdout


def test_a_change_is_applied_and_what_is_not_needed_goes(api, tmp_path):
    described = pod_lab.described(trusted_store={"size": "60Gi"}, secrets=[{"name": "k", "resource": "kbs:///default/tokens/api", "env": "VLLM_API_KEY"}])
    assert run(api, tmp_path, description=described).returncode == 0
    assert "PersistentVolumeClaim/llama-store" in api.names("inference")
    done = run(api, tmp_path, description=pod_lab.described(tls=None, allow_plaintext=True, cpus=8))
    assert done.returncode == 0, done.stdout
    left = [name for name in api.names("inference") if not name.startswith("PersistentVolumeClaim")]
    assert left == ["Deployment/llama", "NetworkPolicy/llama", "Service/llama"]
    # A real claim stays until its protection is lifted by a controller, which is not there.
    claim = api.get("PersistentVolumeClaim", "llama-store", "inference")
    assert claim is None or claim["metadata"].get("deletionTimestamp")
    container = api.get("Deployment", "llama", "inference")["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["cpu"] == "8" and not any("valueFrom" in one for one in container["env"]) and "volumeDevices" not in container


def test_a_closed_namespace_takes_the_pod(api, tmp_path):
    """Made by the role with the Pod Security Standard restricted, which a real API enforces."""
    described = pod_lab.described(namespace="closed", model=pod_lab.ciphertext(), initdata=pod_lab.document(pod_lab.IMAGE, pod_lab.OPENER))
    checked = run(api, tmp_path, "--check", description=described, inference_pod_create_namespace=True)
    assert checked.returncode == 0 and api.get("Namespace", "closed") is None, checked.stdout
    done = run(api, tmp_path, description=described, inference_pod_create_namespace=True)
    assert done.returncode == 0, done.stdout
    assert api.get("Namespace", "closed")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert "would violate PodSecurity" not in done.stdout
    api.run_pods("llama", "closed")
    if api.context is not None:
        api.request("DELETE", "/api/v1/namespaces/closed/pods/llama-1?gracePeriodSeconds=0")
        with pytest.raises(Exception, match="403"):
            api.run_pods("llama", "closed", change=lambda spec: spec["containers"][0]["securityContext"].pop("capabilities"))


def test_the_wait_ends_well_only_for_what_was_planned(small, tmp_path):
    """Changed on the way, then not ready with a reason, then ready later: one cluster, since a run takes seconds."""
    assert run(small, tmp_path).returncode == 0
    small.run_pods("llama", change=lambda spec: spec["containers"].append({"name": "mesh", "image": "registry.example.com/mesh:v1"}))
    done = run(small, tmp_path, inference_pod_wait=True, inference_pod_wait_timeout=2)
    assert done.returncode != 0 and "'mesh', which was put in" in done.stdout and "state=present" not in done.stdout, done.stdout
    small.request("DELETE", "/api/v1/namespaces/inference/pods/llama-1")
    small.run_pods("llama", ready=False)
    status = {"status": {"phase": "Running", "containerStatuses": [
        {"name": "server", "ready": False, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 97}}}]}}
    small.request("PATCH", "/api/v1/namespaces/inference/pods/llama-1/status", status, "application/merge-patch+json")
    done = run(small, tmp_path, inference_pod_wait=True, inference_pod_wait_timeout=2)
    assert done.returncode != 0 and "a secret was not opened" in done.stdout and "state=present" not in done.stdout, done.stdout
    small.request("DELETE", "/api/v1/namespaces/inference/pods/llama-1")
    thread = threading.Timer(8, lambda: small.run_pods("llama"))
    thread.start()
    done = run(small, tmp_path, inference_pod_wait=True, inference_pod_wait_timeout=120)
    thread.join()
    assert done.returncode == 0 and "ready=1" in done.stdout, done.stdout


def test_what_the_cluster_cannot_do_changes_nothing(api, tmp_path):
    done = run(api, tmp_path, description=pod_lab.described(gpus={"count": 1, "model": "h100"}))
    assert done.returncode != 0 and "no node has the label nvidia.com/cc.ready.state=true" in done.stdout and "Traceback" not in done.stdout, done.stdout
    assert api.names("inference") == []


def test_what_others_made_is_left_alone(api, tmp_path):
    api.create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "llama", "namespace": "inference", "labels": {"app": "theirs"}},
                "spec": {"ports": [{"port": 80}]}})  # fmt: skip
    done = run(api, tmp_path)
    assert done.returncode != 0 and "Service llama in inference was not made by this role" in done.stdout, done.stdout
    removed = run(api, tmp_path, inference_pod_state="absent")
    assert removed.returncode == 0 and api.names("inference") == ["Service/llama"], removed.stdout


def test_a_secret_in_the_clear_that_is_deployed_is_not_shown(small, tmp_path):
    clear = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "llama-sealed", "namespace": "inference", "labels": {
        "app.kubernetes.io/instance": "llama", "app.kubernetes.io/managed-by": "attested.ai"}}, "data": {"tls.key": "aHVudGVyMmh1bnRlcjI="}}
    small.create(clear)
    for words in (("--check", "--diff", "-vvv"), ("--diff", "-vvv")):
        done = run(small, tmp_path, *words)
        assert done.returncode == 0 and "changed=0" not in done.stdout, done.stdout
        assert "hunter2" not in done.stdout and "aHVudGVyMm" not in done.stdout, "neither as it is nor in base64"
    small.request("PATCH", "/api/v1/namespaces/inference/secrets/llama-sealed", {"data": clear["data"]}, "application/merge-patch+json")
    done = run(small, tmp_path, "--diff", "-vvv", inference_pod_state="absent")
    assert done.returncode == 0 and small.names("inference") == [] and "aHVudGVyMm" not in done.stdout, done.stdout


def test_the_kbs_lets_the_pod_have_its_keys_before_it_starts_and_takes_them_back(small, tmp_path):
    other = {"name": "theirs", "resources": ["default/tokens/theirs"], "init_data": ["ab" * 32]}
    with kbs_lab.soft_peer(tmp_path, tls=False) as peer:
        kbs_lab.secret(tmp_path / "admin.pem", kbs_lab.private_pem(peer.admin_key))
        defaults = {"url": [peer.url], "admin_key": str(tmp_path / "admin.pem"), "issuer": kbs_lab.ISSUER, "state_path": str(tmp_path / "kbs.json"),
                    "attempts": 1, "timeout": 5}  # fmt: skip
        lost = run(small, tmp_path, defaults=defaults, inference_pod_kbs_policy=True)
        assert lost.returncode != 0 and "Name the grants of all others" in lost.stdout and small.calls == [], lost.stdout
        told = {"defaults": defaults, "inference_pod_kbs_policy": True, "inference_pod_kbs_grants": [other]}
        done = run(small, tmp_path, **told)
        assert done.returncode == 0, done.stdout
        policy = peer.server.kbs.policy
        digest = inference_pod(pod_lab.described(), sealing_key=str(tmp_path / "sealed.pem"))["initdata"]["digests"]["sev-snp"]
        assert digest in policy and "inference-llama" in policy and "theirs" in policy
        removed = run(small, tmp_path, inference_pod_state="absent", **told)
        assert removed.returncode == 0, removed.stdout
        assert digest not in peer.server.kbs.policy and "theirs" in peer.server.kbs.policy and small.names("inference") == []
    unreachable = run(small, tmp_path, **told)
    assert unreachable.returncode != 0 and "kbs-unreachable" in unreachable.stdout and small.names("inference") == [], "no pod without its keys"
