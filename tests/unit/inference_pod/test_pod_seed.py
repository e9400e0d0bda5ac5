# SPDX-License-Identifier: GPL-3.0-or-later
"""Pods written elsewhere: what they meant comes through, each thing that is done otherwise is told, nothing is dropped in silence."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pod_lab as lab  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.kubernetes import platforms, seed  # noqa: E402
from ansible_collections.attested.ai.plugins.plugin_utils.inference_pod import inference_pod  # noqa: E402

# What the article's pod does not say.
BESIDE = {
    "namespace": "inference", "tee": "tdx", "server": "given", "command": ["/serve"], "image": lab.IMAGE, "image_size": "20Gi", "cpus": 8, "memory": "32Gi",
    "model": {"source": "layers", "path": "/models", "keys": ["kbs:///default/key/model-7"]}, "initdata": lab.document(),
    "tls": {"certificate": lab.CERTIFICATE, "key": "kbs:///default/tls/llama"}, "network": {"to": [{"cidr": "192.0.2.0/24", "ports": [443]}]},
}  # fmt: skip


@pytest.fixture
def key(tmp_path):
    return lab.key_file(tmp_path)


def told(made):
    return {one["id"]: one for one in made["corrections"]}


def test_the_articles_pod_becomes_one_that_works(key):
    made = inference_pod(BESIDE, seed_pod=lab.SEED, sealing_key=key)
    assert made["refusals"] == [] and made["name"] == "confidential-inference" and made["protection"] == "tdx"
    pod = made["objects"][-1]["spec"]["template"]["spec"]
    assert pod["runtimeClassName"] == "kata-qemu-nvidia-gpu-tdx" and pod["nodeSelector"]["nvidia.com/cc.ready.state"] == "true"
    container = pod["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/pgpu"] == "1" and "nvidia.com/gpu" not in container["resources"]["limits"]
    assert "NVIDIA_CC_MODE" not in {one["name"] for one in container["env"]} and not any("csi" in volume for volume in pod["volumes"])
    assert set(told(made)) == {"runtime-class", "service-account", "image-tag", "cc-mode-variable", "gpu-resource", "csi-volume"}
    for one in made["corrections"]:
        assert all(one[name] for name in ("where", "given", "becomes", "why", "source")), one


def test_on_openshift_the_articles_runtime_class_is_right_without_a_gpu(key):
    pod = copy.deepcopy(lab.SEED)
    del pod["spec"]["containers"][0]["resources"]
    made = inference_pod({**BESIDE, "platform": "openshift"}, seed_pod=pod, sealing_key=key)
    assert made["refusals"] == [] and made["runtime_class"] == "kata-cc" and "runtime-class" not in told(made)


def test_corrections_are_told_before_all_is_said():
    made = inference_pod({}, seed_pod=lab.SEED)
    assert [one["id"] for one in made["refusals"]] == ["incomplete"] and "csi-volume" in told(made) and made["objects"] == []


def test_the_volume_is_refused_with_the_reason_where_no_model_takes_its_place(key):
    made = inference_pod({**BESIDE, "model": {**BESIDE["model"], "path": "/opt/model"}}, seed_pod=lab.SEED, sealing_key=key)
    assert [one["id"] for one in made["refusals"]] == ["csi-volume"] and "mounted by the host, which reads" in made["refusals"][0]["what"]


def test_the_volume_stays_only_by_the_switch_and_with_a_warning(key):
    made = inference_pod({**BESIDE, "allow_csi_volumes": True}, seed_pod=lab.SEED, sealing_key=key)
    pod = made["objects"][-1]["spec"]["template"]["spec"]
    assert any(volume.get("csi", {}).get("driver") == "secrets-store.csi.k8s.io" for volume in pod["volumes"])
    assert any(note.startswith("Warning") and "host reads" in note for note in made["notes"])


def test_every_correction_has_its_words():
    """Each id that the translation may use is in the data, and the other way round."""
    text = Path(seed.__file__).read_text()
    known = set(platforms.table("corrections")["corrections"])
    assert known == {name for name in known if '"%s"' % name in text}


def pod(**spec):
    found = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": [{"name": "m", "image": lab.IMAGE}]}}
    container = {name[2:]: spec.pop(name) for name in list(spec) if name.startswith("c_")}
    found["spec"]["containers"][0].update(container)
    found["spec"].update(spec)
    return found


@pytest.mark.parametrize(
    ("given_pod", "code"),
    [
        (pod(hostNetwork=True), "host-access"),
        (pod(c_securityContext={"privileged": True}), "privileged"),
        (pod(c_securityContext={"capabilities": {"add": ["SYS_ADMIN"]}}), "privileged"),
        (pod(securityContext={"runAsUser": 0}), "privileged"),
        (pod(volumes=[{"name": "m", "hostPath": {"path": "/models"}}]), "host-volume"),
        (pod(volumes=[{"name": "m", "persistentVolumeClaim": {"claimName": "m"}}]), "host-volume"),
        (pod(volumes=[{"name": "m", "image": {"reference": "x"}}]), "image-volume"),
        (pod(volumes=[{"name": "m", "secret": {"secretName": "x"}}]), "kubernetes-secret"),
        (pod(c_env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "x", "key": "y"}}}]), "kubernetes-secret"),
        (pod(c_env=[{"name": "HF_TOKEN", "value": "hunter2"}]), "secret-in-clear"),
        (pod(c_resources={"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi"}}), "requests"),
        (pod(c_livenessProbe={"exec": {"command": ["true"]}}), "exec-probe"),
        (pod(serviceAccountName="admin"), "service-account"),
        ({**pod(), "metadata": {"name": "x", "annotations": {"io.katacontainers.config.hypervisor.kernel_params": "agent.aa_kbc_params=x"}}}, "kernel-params"),
        ({**pod(), "metadata": {"name": "x", "annotations": {"io.katacontainers.config.hypervisor.default_memory": "1"}}}, "hypervisor-annotation"),
    ],
)
def test_each_habit_is_corrected_and_explained(key, given_pod, code):
    made = inference_pod({**BESIDE, "name": "x"}, seed_pod=given_pod, sealing_key=key)
    assert made["refusals"] == [] and code in told(made), made
    assert "hunter2" not in repr(made)


@pytest.mark.parametrize(
    "given_pod",
    [
        {}, {"kind": "ConfigMap"}, [], "pod", {"kind": "Pod", "spec": []}, pod(initContainers=[{}]), pod(containers=[]), pod(containers=[{}, {}]),
        pod(c_lifecycle={"postStart": {}}), pod(c_envFrom=[{}]), pod(affinity={}), pod(c_env=[{"name": "A", "valueFrom": {"fieldRef": {}}}]),
        pod(volumes=[{"name": "p", "projected": {}}]), pod(c_resources={"limits": {"amd.com/gpu": 1}}), pod(c_env={"A": "1"}), pod(containers=["x"]),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused(key, given_pod):
    if given_pod in ({}, []):
        given_pod = [1]
    with pytest.raises(AttestedError):
        inference_pod(BESIDE, seed_pod=given_pod, sealing_key=key)


def test_a_deployment_is_taken_like_its_pod(key):
    wrapped = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x", "namespace": "elsewhere"},
               "spec": {"replicas": 2, "template": {"metadata": {}, "spec": pod()["spec"]}}}  # fmt: skip
    made = inference_pod(BESIDE, seed_pod=wrapped, sealing_key=key)
    assert made["refusals"] == [] and made["objects"][-1]["spec"]["replicas"] == 2 and made["namespace"] == "inference", "what is said wins"


def test_katas_own_pods_for_nvidia_are_understood(vectors, key):
    """The manifest that Kata's tests for NIM use, with its placeholders filled."""
    text = (vectors / "coco/kata/manifests/nvidia-nim-llama-3-2-1b-instruct-tee.yaml.in").read_text()
    for place in ("POD_NAME_INSTRUCT", "CC_KBS_ADDR", "DOCKER_CONFIG_JSON", "NGC_API_KEY_SEALED_SECRET_INSTRUCT_BASE64"):
        text = text.replace("${%s}" % place, "nim")
    found = next(one for one in yaml.safe_load_all(text) if one and one["kind"] == "Pod")
    with pytest.raises(AttestedError, match="volumeDevices"):
        inference_pod(BESIDE, seed_pod=found, sealing_key=key)
    devices = found["spec"]["containers"][0].pop("volumeDevices")
    made = inference_pod({**BESIDE, "trusted_store": {"claim": devices[0]["name"]}, "memory": "48Gi"}, seed_pod=found, sealing_key=key)
    assert made["refusals"] == [] and made["runtime_class"] == "kata-qemu-nvidia-gpu-tdx"
    assert {"kernel-params", "kubernetes-secret", "image-tag"} <= set(told(made))


_ANY = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=20), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
    st.sampled_from(["name", "image", "csi", "hostPath", "env", "value", "valueFrom", "secretKeyRef", "limits", "exec", "httpGet", "path", "mountPath"]),
    inner, max_size=3), max_leaves=8)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["runtimeClassName", "volumes", "securityContext", "nodeSelector", "tolerations", "imagePullSecrets", "containers"]),
                       _ANY, max_size=3),
       st.dictionaries(st.sampled_from(["image", "command", "args", "env", "ports", "resources", "volumeMounts", "securityContext", "startupProbe"]), _ANY,
                       max_size=3))  # fmt: skip
def test_no_seed_ends_in_a_traceback(spec, container):
    seeded = pod()
    seeded["spec"]["containers"][0].update(container)
    seeded["spec"].update(spec)
    try:
        inference_pod({**BESIDE, "secrets": []}, seed_pod=seeded)
    except AttestedError as error:
        assert "\n" not in str(error)
