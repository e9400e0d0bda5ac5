# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects: valid for each Kubernetes by its own schemas, and with the properties that make them safe, whatever was described."""

from __future__ import annotations

import base64
import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pod_lab as lab  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.kbs import initdata  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.kubernetes import guard, plan, spec  # noqa: E402

try:
    import kubernetes_validate
except ImportError:
    kubernetes_validate = None

# The oldest that is looked at, those that NVIDIA's reference architecture begins with, and the newest of the package.
VERSIONS = ("1.30", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37")
API = {"name": "api-key", "resource": "kbs:///default/tokens/api", "env": "VLLM_API_KEY"}
FILE = {"name": "licence", "resource": "kbs:///default/licence/x", "file": "licence.txt"}
# One of each kind that the description can make.
KINDS = {
    "vllm": lab.described(secrets=[API, FILE]),
    "vllm-gpu": lab.described(gpus={"count": 1, "model": "h100"}, tee="tdx"),
    "eight-gpus": lab.described(gpus={"count": 8, "model": "h200", "mode": "ppcie"}, groups=[44, 109], trusted_store={"size": "60Gi", "storage_class": "fast"}),
    "blackwell": lab.described(gpus={"count": 8, "model": "b200", "resource": "nvidia.com/GB100_B200"}, image_pull_secret="registry"),
    "triton": lab.described(server="triton", model={"source": "layers", "path": "/models", "keys": ["kbs:///default/key/m"]}),
    "llama": lab.described(server="llama.cpp", model=lab.ciphertext(path="/models/llama.gguf"), initdata=lab.document(lab.IMAGE, lab.OPENER)),
    "given": lab.described(server="given", command=["/serve", "--port", "8080"], probe="/ready", replicas=3,
                           tolerations=[{"key": "tee", "operator": "Exists"}]),
    "fetched": lab.described(model=lab.ciphertext(), initdata=lab.document(lab.IMAGE, lab.OPENER), trusted_store={"claim": "images"}),
    "openshift": lab.described(platform="openshift"),
    "openshift-gpu": lab.described(platform="openshift", tee="tdx", gpus={"count": 1, "model": "h100"}),
    "peer-pods": lab.described(platform="peer-pods"),
    "aks": lab.described(platform="aks", model={"source": "public", "path": "/models"}, tls=None, allow_plaintext=True),
    "trial": lab.described(tee="none", allow_unprotected=True, tls=None, allow_plaintext=True, network={"egress": "any"}),
    "csi": lab.described(allow_csi_volumes=True, csi_volumes=[{"name": "m", "driver": "secrets-store.csi.k8s.io", "path": "/data",
                                                               "attributes": {"secretProviderClass": "x"}}]),
    "unguarded": lab.described(secrets=[API], guard_waiver="the image has no shell"),
}  # fmt: skip


def made(description, draft=False):
    found = plan.plan(spec.parse_spec(description), {"tls.key": lab.seal("kbs:///default/tls/llama"), "api-key": lab.seal(API["resource"]),
                                                     "licence": lab.seal(FILE["resource"])}, draft)  # fmt: skip
    assert not found.refusals, [one.to_dict() for one in found.refusals]
    return found


def pod_of(found):
    return found.objects[-1]["spec"]["template"]["spec"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_object_fits_the_schema_of_each_kubernetes(kind, version):
    if kubernetes_validate is None:
        assert os.environ.get("CI", "").lower() not in ("1", "true"), "kubernetes-validate is missing, which CI must have"
        pytest.skip("the package kubernetes-validate is not installed")
    for one in made(KINDS[kind]).objects:
        kubernetes_validate.validate(one, version, strict=True)


def test_the_schemas_would_refuse_what_is_wrong():
    if kubernetes_validate is None:
        assert os.environ.get("CI", "").lower() not in ("1", "true"), "kubernetes-validate is missing, which CI must have"
        pytest.skip("the package kubernetes-validate is not installed")
    broken = copy.deepcopy(made(KINDS["vllm"]).objects[-1])
    broken["spec"]["template"]["spec"]["runtimeClass"] = "x"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


def check_safe(found):
    """What holds for all objects, whoever described them."""
    described = found.spec
    assert all(one["metadata"]["namespace"] == described.namespace for one in found.objects)
    assert all(one["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "attested.ai" for one in found.objects)
    assert all(len(one["metadata"]["name"]) <= 63 for one in found.objects)
    # No alias and no tag of YAML, and it reads back as the same, whoever writes it down.
    text = yaml.safe_dump_all(found.objects, sort_keys=False)
    assert list(yaml.safe_load_all(text)) == json.loads(json.dumps(found.objects)) and "*id0" not in text
    pod = pod_of(found)
    assert pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName", "shareProcessNamespace"} & set(pod)
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0
    kinds = [next(key for key in volume if key != "name") for volume in pod["volumes"]]
    allowed = {"emptyDir", "secret", "configMap", "persistentVolumeClaim"} | ({"csi"} if described.allow_csi_volumes else set())
    assert set(kinds) <= allowed, "hostPath and the like are never made"
    claims = [volume["name"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
    for container in pod["containers"] + pod.get("initContainers", []):
        context = container["securityContext"]
        assert context["privileged"] is False and context["allowPrivilegeEscalation"] is False and context["capabilities"] == {"drop": ["ALL"]}
        assert "@sha256:" in container["image"] and ":" not in container["image"].split("@")[0].split("/", 1)[1]
        resources = container["resources"]
        assert resources["limits"] == resources["requests"] and {"cpu", "memory"} <= set(resources["limits"]) and "nvidia.com/gpu" not in resources["limits"]
        # A file system of the host would be copied in; block devices only as devices.
        assert not any(mount["name"] in claims for mount in container["volumeMounts"])
        assert not any("subPath" in mount for mount in container["volumeMounts"])
        paths = [mount["mountPath"].rstrip("/") for mount in container["volumeMounts"]]
        assert len(set(paths)) == len(paths)
        for word in [*container.get("command", []), *container.get("args", []), *(one.get("value", "") for one in container.get("env", []))]:
            assert "$(" not in word and "$$" not in word and not word.startswith("sealed."), "the kubelet would expand it, or it is sealed"
        for one in container.get("env", []):
            assert ("value" in one) != ("valueFrom" in one)
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert "exec" not in container.get(probe, {})
    # Plaintext lies in memory, or on nothing.
    for volume in pod["volumes"]:
        if "emptyDir" in volume and volume["name"] != "ciphertext":
            assert volume["emptyDir"]["medium"] == "Memory" and volume["emptyDir"]["sizeLimit"]
    for one in found.objects:
        if one["kind"] == "Secret":
            assert all(text.startswith("sealed.") and text.count(".") == 3 for text in lab.decoded(one).values())
        if one["kind"] == "ConfigMap":
            assert "PRIVATE KEY" not in json.dumps(one)
        if one["kind"] == "NetworkPolicy":
            assert set(one["spec"]["policyTypes"]) == {"Ingress", "Egress"} and {} not in one["spec"]["ingress"]
    if found.spec.protected:
        assert not pod["runtimeClassName"].endswith(("-dev", "kata", "kata-qemu"))


@pytest.mark.parametrize("kind", KINDS)
def test_objects_are_safe(kind):
    check_safe(made(KINDS[kind]))


def test_the_init_data_is_in_the_annotation_that_kata_reads_and_reads_back():
    found = made(KINDS["vllm-gpu"])
    annotation = found.objects[-1]["spec"]["template"]["metadata"]["annotations"]
    assert list(annotation) == ["io.katacontainers.config.hypervisor.cc_init_data"]
    assert initdata.unpacked(annotation[initdata.ANNOTATION]) == KINDS["vllm-gpu"]["initdata"]


def test_aks_gets_the_policy_in_its_own_annotation():
    annotation = made(KINDS["aks"]).objects[-1]["spec"]["template"]["metadata"]["annotations"]
    assert list(annotation) == ["io.katacontainers.config.agent.policy"]
    assert base64.b64decode(annotation["io.katacontainers.config.agent.policy"]).decode() == lab.policy(lab.IMAGE)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("vllm", "kata-qemu-snp"), ("vllm-gpu", "kata-qemu-nvidia-gpu-tdx"), ("openshift", "kata-cc"), ("openshift-gpu", "kata-cc-nvidia-gpu"),
        ("peer-pods", "kata-remote"), ("aks", "kata-cc-isolation"), ("trial", "kata-qemu-coco-dev"),
    ],
)  # fmt: skip
def test_the_runtime_class_is_the_platforms(kind, name):
    assert pod_of(made(KINDS[kind]))["runtimeClassName"] == name


def test_gpus_are_asked_for_as_nodes_for_guests_offer_them():
    pod = pod_of(made(KINDS["eight-gpus"]))
    limits = pod["containers"][0]["resources"]["limits"]
    assert (limits["nvidia.com/pgpu"], limits["nvidia.com/nvswitch"]) == ("8", "4")
    assert pod["nodeSelector"] == {"amd.feature.node.kubernetes.io/snp": "true", "nvidia.com/cc.ready.state": "true", "nvidia.com/cc.mode.state": "ppcie"}
    assert pod["containers"][0]["volumeDevices"] == [{"name": "trusted-store", "devicePath": "/dev/trusted_store"}]
    other = pod_of(made(KINDS["blackwell"]))["containers"][0]["resources"]["limits"]
    assert other["nvidia.com/GB100_B200"] == "8" and "nvidia.com/nvswitch" not in other


def test_the_store_is_a_block_device_of_its_own():
    claim = next(one for one in made(KINDS["eight-gpus"]).objects if one["kind"] == "PersistentVolumeClaim")
    assert claim["spec"]["volumeMode"] == "Block" and claim["spec"]["storageClassName"] == "fast"
    assert not any(one["kind"] == "PersistentVolumeClaim" for one in made(KINDS["fetched"]).objects), "one that is there is not made"


def test_ciphertext_is_opened_before_the_server_starts():
    pod = pod_of(made(KINDS["llama"]))
    opener, server = pod["initContainers"][0], pod["containers"][0]
    told = {one["name"]: one["value"] for one in opener["env"]}
    assert told["ATTESTED_CDH_URL"] == "http://127.0.0.1:8006/cdh/resource" and told["ATTESTED_MODEL_KEYS"] == "default/key/model-7"
    assert {"name": "model", "mountPath": "/models", "readOnly": True} in server["volumeMounts"] and "/models/llama.gguf" in server["command"]
    assert "nvidia.com/pgpu" not in opener["resources"]["limits"]


@pytest.mark.parametrize("kind", ["vllm", "triton", "llama"])
def test_servers_are_started_with_tls(kind):
    command = " ".join(pod_of(made(KINDS[kind]))["containers"][0]["command"])
    assert "/etc/attested/public/tls.crt" in command and "/etc/attested/secrets/tls.key" in command


def test_tls_reaches_the_probe_too():
    assert pod_of(made(KINDS["vllm"]))["containers"][0]["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"
    assert pod_of(made(KINDS["trial"]))["containers"][0]["readinessProbe"]["httpGet"]["scheme"] == "HTTP"
    assert "tcpSocket" in pod_of(made(KINDS["triton"]))["containers"][0]["readinessProbe"]


def test_a_name_server_of_the_nodes_own_is_reached_by_udp_too():
    exits = made({**KINDS["vllm"], "network": {"to": [{"cidr": "169.254.20.10/32", "ports": [53]}]}}).objects[0]["spec"]["egress"]
    assert exits[-1]["ports"] == [{"protocol": "TCP", "port": 53}, {"protocol": "UDP", "port": 53}]
    assert exits[0]["ports"][0]["port"] == 53 and len(exits) == 2


SHELLS = [["dash"], ["bash", "--posix"], ["sh"]]


def guarded(tmp_path, shell, variables, text, names=("A_KEY",)):
    """Run what the container would run, with the file of the guest in another place."""
    secret = tmp_path / "key"
    if text is not None:
        secret.write_text(text)
    command = guard.guarded(["printf", "%s|", "served", "a b", "$HOME", "*"], names, [str(secret)])
    environment = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run([*shell, *command[1:]], env=environment, capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
@pytest.mark.parametrize(
    ("variables", "text", "words"),
    [
        ({"A_KEY": "opened"}, "opened\n", ""),
        ({"A_KEY": "a\nsealed b 'c' \"d\" $(e) `f`"}, "-----BEGIN\nx", ""),
        ({"A_KEY": "sealed.a.b.c"}, "opened", "A_KEY is still sealed"),
        ({"A_KEY": ""}, "opened", "A_KEY is empty"),
        ({}, "opened", "A_KEY is empty"),
        ({"A_KEY": "x", "OTHER": "sealed.a.b.c"}, "opened", "a variable is still sealed"),
        ({"A_KEY": "x", "OTHER": "sealed.a.b.c d'"}, "opened", "a variable is still sealed"),
        ({"A_KEY": "x"}, "sealed.a.b.c", "is still sealed"),
        ({"A_KEY": "x"}, "sealed.a.b.c\n", "is still sealed"),
        ({"A_KEY": "x"}, "", "is empty"),
        ({"A_KEY": "x"}, None, "is not there"),
    ],
)
def test_the_guard_lets_only_opened_secrets_through(tmp_path, shell, variables, text, words):
    try:
        done = guarded(tmp_path, shell, variables, text)
    except FileNotFoundError:
        if shell[0] in ("sh", "bash"):
            raise
        pytest.skip(f"{shell[0]} is not here; the shell that sh is was tried")
    if words:
        assert done.returncode == guard.STATUS and words in done.stderr and done.stdout == ""
        assert "sealed.a" not in done.stderr, "what is sealed is not repeated"
    else:
        assert (done.returncode, done.stdout, done.stderr) == (0, "served|a b|$HOME|*|", "")


def test_the_guard_of_a_pod_without_secrets_still_looks_at_the_variables():
    command = guard.guarded(["echo", "served"], [], [])
    run = [subprocess.run(["sh", *command[1:]], env={"PATH": os.environ["PATH"], "X": value}, capture_output=True, text=True, check=False, timeout=30)
           for value in ("plain", "sealed.a.b.c")]  # fmt: skip
    assert [one.returncode for one in run] == [0, guard.STATUS]


def test_the_guard_that_is_in_the_pod_is_the_one_that_was_tried():
    container = pod_of(made(KINDS["vllm"]))["containers"][0]
    assert container["command"][:2] == ["/bin/sh", "-c"] and "VLLM_API_KEY" in container["command"][2]
    assert "/etc/attested/secrets/tls.key /etc/attested/secrets/licence.txt" in container["command"][2] or "licence.txt" in container["command"][2]
    assert pod_of(made(KINDS["unguarded"]))["containers"][0]["command"][:2] == ["vllm", "serve"]


# Names of members that exist, with values that may be anything.
_ANY = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=40), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
    st.text(max_size=12), inner, max_size=3), max_leaves=8)  # fmt: skip


@given(st.dictionaries(st.sampled_from(sorted(spec.PodSpec.__dataclass_fields__) + ["memory", "network", "scratch", "image_size"]), _ANY, max_size=4))
def test_whatever_is_described_is_refused_or_safe(change):
    try:
        described = spec.parse_spec({**KINDS["vllm"], **change})
        found = plan.plan(described, {"tls.key": lab.seal("kbs:///default/tls/llama"), "api-key": lab.seal(API["resource"]),
                                      "licence": lab.seal(FILE["resource"])})  # fmt: skip
    except AttestedError as error:
        assert "\n" not in str(error)
        return
    assert bool(found.objects) != bool(found.refusals)
    if found.objects:
        check_safe(found)


_WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=60)


@given(st.lists(_WORDS, max_size=5), st.dictionaries(st.from_regex(r"[A-Z_]{1,12}\Z"), st.text(max_size=60), max_size=4))
def test_words_and_variables_come_through_as_they_are_or_not_at_all(words, variables):
    try:
        found = plan.plan(spec.parse_spec({**KINDS["trial"], "args": words, "env": variables}))
    except AttestedError:
        return
    if found.objects:
        check_safe(found)
        container = pod_of(found)["containers"][0]
        assert container["command"][len(container["command"]) - len(words):] == words
        assert variables.items() <= {one["name"]: one["value"] for one in container["env"]}.items()
