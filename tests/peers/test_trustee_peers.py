# SPDX-License-Identifier: GPL-3.0-or-later
"""The way helm of the role trustee with real Helm and the chart of Trustee itself, into a real kube-apiserver.

HELM names Helm 3, TRUSTEE_CHART the packed chart of Trustee 0.21.0 (deployment/helm-chart, without its dependency on PostgreSQL), KUBE_APISERVER and ETCD the
API. Nothing runs pods there.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(REPO / "tests/unit/trustee")]

import pod_api_lab  # noqa: E402
import trustee_lab  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.trustee import plan  # noqa: E402

HELM, CHART = os.environ.get("HELM", ""), os.environ.get("TRUSTEE_CHART", "")
pytestmark = pytest.mark.skipif(not HELM or not CHART, reason="no real Helm with Trustee's chart: HELM and TRUSTEE_CHART name neither")
GIVEN = {"way": "helm", "layout": "services", "helm": trustee_lab.HELM}


def rendered(folder: Path, **values) -> subprocess.CompletedProcess:
    made = plan.make(trustee_lab.description(**GIVEN))
    (folder / "values.json").write_text(json.dumps({**made["values"], **values}))
    (folder / "settings.json").write_text(json.dumps(made["render"]))
    script = folder / "post-render"
    script.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{trustee_lab.ROLE}/files/post_render.py' '{folder}/settings.json'\n")
    script.chmod(0o700)
    line = [HELM, "template", "trustee", CHART, "-n", "coco-trustee", "-f", str(folder / "values.json"), "--post-renderer", str(script)]
    return subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)


def test_the_chart_itself_is_set_right(tmp_path):
    done = rendered(tmp_path)
    assert done.returncode == 0, done.stderr
    objects = list(yaml.safe_load_all(done.stdout))
    assert sorted(one["kind"] for one in objects) == ["ConfigMap"] * 3 + ["Deployment"] * 3 + ["NetworkPolicy"] * 2 + ["Service"] * 4
    assert "insecure_http = true" not in done.stdout and "latest" not in done.stdout and "emptyDir" in done.stdout
    for version in ("1.30", "1.33"):
        for one in objects:
            kubernetes_validate.validate(one, version, strict=True)


@pytest.mark.parametrize(("values", "said"), [
    ({"kbs": {"image": {"repository": "ghcr.io/x/kbs", "tag": "latest"}}}, "has no digest"),
    ({"storageBackend": {"type": "LocalFs"}}, "would lose its data"),
    ({"ingress": {"enabled": True}}, "of the kind Ingress, which is not known"),
])  # fmt: skip
def test_what_the_chart_would_do_otherwise_is_refused(tmp_path, values, said):
    done = rendered(tmp_path, **values)
    assert done.returncode != 0 and said in done.stderr, done.stderr


def test_the_role_brings_it_into_a_cluster_and_takes_it_away(tmp_path):
    if not all(pod_api_lab.REAL) or importlib.util.find_spec("kubernetes") is None:
        pytest.skip("no real API: KUBE_APISERVER and ETCD name no programs, or Python's kubernetes is missing")
    controller = tmp_path / "controller"
    controller.mkdir(mode=0o700)
    # The KBS does not run there, so its policy cannot be set: as if it had been.
    (controller / "kbs.json").write_text("{}")
    with pod_api_lab.real(tmp_path) as api:
        given = {
            "trustee_way": "helm", "trustee_url": "https://kbs.example.org:8080", "trustee_issuer": "ops.example.org", "trustee_directory": str(controller),
            "trustee_images": trustee_lab.IMAGES, "trustee_chart": CHART, "trustee_chart_sha256": hashlib.sha256(Path(CHART).read_bytes()).hexdigest(),
            "trustee_kubeconfig": pod_api_lab.kubeconfig(api, tmp_path / "kubeconfig"), "trustee_helm": HELM, "trustee_verify": False,
        }  # fmt: skip
        first = play(tmp_path, given)
        assert first.returncode == 0 and all(secret not in first.stdout for secret in secrets(controller)), first.stdout
        pods = {one["metadata"]["name"]: one for one in api.request("GET", "/apis/apps/v1/namespaces/coco-trustee/deployments")["items"]}
        assert sorted(pods) == ["trustee-as", "trustee-kbs", "trustee-rvps"]
        kept = api.get("Secret", "trustee-keys", "coco-trustee")["data"]
        assert kept["KBS_ADMIN_PRIVATE_KEY"] == "a2VwdCBieSB0aGUgYWRtaW4K" and len(kept["AS_TOKEN_SIGNING_PRIVATE_KEY"]) > 200
        again = play(tmp_path, given)
        assert again.returncode == 0 and "changed=0" in again.stdout, again.stdout
        wrong = play(tmp_path, {**given, "trustee_chart_sha256": "0" * 64})
        assert wrong.returncode == 2 and "Pack the chart of Trustee" in wrong.stdout, wrong.stdout
        gone = play(tmp_path, {**given, "trustee_state": "absent"})
        assert gone.returncode == 0, gone.stdout
        assert api.request("GET", "/apis/apps/v1/namespaces/coco-trustee/deployments")["items"] == []
        claims = [one["metadata"]["name"] for one in api.request("GET", "/api/v1/namespaces/coco-trustee/persistentvolumeclaims")["items"]]
        assert claims == ["trustee-as", "trustee-kbs", "trustee-rvps"]


def secrets(controller: Path) -> list[str]:
    return [path.read_text().splitlines()[1][20:60] for path in controller.glob("*.key")]


def play(folder: Path, given: dict) -> subprocess.CompletedProcess:
    (folder / "play.json").write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "roles": ["attested.ai.trustee"], "vars": given}]))
    environment = dict(os.environ, ANSIBLE_LOCALHOST_WARNING="false", ANSIBLE_NOCOLOR="true", ANSIBLE_LOCAL_TEMP=str(folder / "local"), COLUMNS="400",
                       K8S_AUTH_KUBECONFIG="", TMPDIR=str(folder), HOME=str(folder))  # fmt: skip
    environment.setdefault("ANSIBLE_COLLECTIONS_PATH", os.pathsep.join(sys.path))
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-c", "local", str(folder / "play.json"), "-vv"]
    command += ["-e", json.dumps({"ansible_python_interpreter": sys.executable, "__trustee_wait": False})]
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=900)
