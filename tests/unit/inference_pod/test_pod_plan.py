# SPDX-License-Identifier: GPL-3.0-or-later
"""From a description to a plan: what is refused and why, what the grant holds, how much memory it comes to."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pod_lab as lab  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.kubernetes import platforms, secrets  # noqa: E402
from ansible_collections.attested.ai.plugins.plugin_utils.inference_pod import inference_pod  # noqa: E402

# Only the first line, and that only while the tests run.
KEY_HEADER = "-----BEGIN %sPRIVATE" + " KEY-----"


@pytest.fixture
def key(tmp_path):
    return lab.key_file(tmp_path)


def refused(result):
    return [one["id"] for one in result["refusals"]]


def test_a_good_description_makes_objects_and_a_grant(key):
    made = inference_pod(lab.described(gpus={"count": 1, "model": "h100"}), sealing_key=key)
    assert refused(made) == [] and made["protection"] == "sev-snp"
    assert [one["kind"] for one in made["objects"]] == ["NetworkPolicy", "ConfigMap", "Secret", "Service", "Deployment"], "the pod comes last"
    assert made["runtime_class"] == "kata-qemu-nvidia-gpu-snp"
    grant = made["grant"]
    assert set(grant["resources"]) == {"default/tls/llama", "default/signing-key/sealed-secret", "default/key/model-7", "default/security-policy/prod"}
    assert (grant["tees"], grant["gpu"], grant["switch"]) == (["snp"], 1, 0) and grant["init_data"][0]["digest"] == made["initdata"]["digest"]
    # 48 for the server, 20 for the image, 1 for each of /tmp and /dev/shm; 8 of the VM's own, 10 booked by the class.
    assert made["sizing"] == {"limit": "70Gi", "shared_memory": "1Gi", "model": "0", "image": "20Gi", "vm": "78Gi", "node": "80Gi"}


def test_the_same_description_makes_the_same_objects_while_the_secret_is_deployed(key):
    first = inference_pod(lab.described(), sealing_key=key)
    assert inference_pod(lab.described(), sealing_key=key, deployed=first["objects"])["objects"] == first["objects"]
    other = inference_pod(lab.described(), sealing_key=key)["objects"]
    assert other != first["objects"], "signatures differ, so the test above says something"


def test_a_secret_that_says_something_else_is_sealed_anew(key):
    first = inference_pod(lab.described(), sealing_key=key)
    moved = lab.described(tls={"certificate": lab.CERTIFICATE, "key": "kbs:///default/tls/other"})
    second = inference_pod(moved, sealing_key=key, deployed=first["objects"])
    text = lab.decoded(second["objects"][2])["tls.key"]
    assert secrets.read(text, "x")[1]["name"] == "kbs:///default/tls/other"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"image": "registry.example.com/ai-model:v1"}, "image-tag"),
        ({"image": f"registry.example.com/ai-model:v1@{lab.DIGEST}"}, "image-tag"),
        ({"image": f"library/model@{lab.DIGEST}"}, "image-registry"),
        ({"tee": "cca"}, "tee-unsupported"),
        ({"tee": "none"}, "unprotected"),
        ({"runtime_class": "kata-qemu"}, "runtime-class-unprotected"),
        ({"runtime_class": "runc"}, "runtime-class-unprotected"),
        ({"runtime_class": "kata-qemu-nvidia-gpu"}, "runtime-class-unprotected"),
        ({"runtime_class": "kata-clh-runtime-rs"}, "runtime-class-unprotected"),
        ({"runtime_class": "kata-qemu-tdx"}, "runtime-class-other"),
        ({"runtime_class": "kata-qemu-coco-dev"}, "runtime-class-other"),
        ({"runtime_class": "kata-qemu-nvidia-gpu-snp"}, "runtime-class-other"),
        ({"runtime_class": "kata-qemu-snp-debug"}, "runtime-class-debug"),
        ({"platform": "aks", "tee": "tdx"}, "no-runtime-class"),
        ({"platform": "peer-pods", "gpus": {"count": 1}}, "no-runtime-class"),
        ({"platform": "aks"}, "no-guest-components"),
        ({"platform": "openshift", "runtime_class": "kata-mine", "gpus": {"count": 1}}, "runtime-class-unknown"),
        ({"platform": "openshift", "trusted_store": {"size": "60Gi"}}, "no-trusted-store"),
        ({"gpus": {"count": 1, "resource": "nvidia.com/gpu"}}, "gpu-resource"),
        ({"gpus": {"count": 1, "resource": "amd.com/gpu"}}, "gpu-resource"),
        ({"gpus": {"count": 8, "model": "h100"}}, "gpu-shape"),
        ({"gpus": {"count": 2, "model": "h200", "mode": "ppcie"}}, "gpu-shape"),
        ({"gpus": {"count": 8, "model": "b200", "mode": "ppcie"}}, "gpu-shape"),
        ({"gpus": {"count": 4}}, "gpu-shape"),
        ({"env": {"NVIDIA_CC_MODE": "on"}}, "cc-mode-variable"),
        ({"env": {"HF_TOKEN": "x"}}, "secret-in-clear"),
        ({"env": {"db_password": "x"}}, "secret-in-clear"),
        ({"env": {"HOME_PAGE": "https://user:word@example.org"}}, "secret-in-clear"),
        ({"env": {"NOTE": KEY_HEADER % "EC "}}, "secret-in-clear"),
        ({"env": {"X": "sealed.a.b.c"}}, "sealed-in-the-open"),
        ({"env": {"X": " sealed.a.b.c"}}, "sealed-in-the-open"),
        ({"env": {"X": "$(VLLM_API_KEY)"}}, "expanded-by-host"),
        ({"args": ["--api-key", "abc"]}, "secret-in-clear"),
        ({"args": ["--api-key=abc"]}, "secret-in-clear"),
        ({"args": ["sealed.a.b.c"]}, "sealed-in-the-open"),
        ({"args": ["--name=$(HOSTNAME)"]}, "expanded-by-host"),
        ({"args": ["$$"]}, "expanded-by-host"),
        ({"server": "given"}, "no-command"),
        ({"secrets": [{"name": "a", "resource": "hunter2hunter2", "env": "A"}]}, "no-resource"),
        ({"secrets": [{"name": "a", "sealed": "sealed.fakejwsheader.e30.sig", "env": "A"}]}, "sealed-form"),
        ({"secrets": [{"name": "a", "resource": "kbs:///a/b/c", "env": "A"}, {"name": "a", "resource": "kbs:///a/b/d", "env": "B"}]}, "twice"),
        ({"secrets": [{"name": "a", "resource": "kbs:///a/b/c", "env": "A"}], "env": {"A": "1"}}, "twice"),
        ({"secrets": [{"name": "a", "resource": "kbs:///a/b/c", "env": "PATH"}]}, "guard-variable"),
        ({"secrets": [{"name": "a", "resource": "kbs:///a/b/c", "env": "value"}]}, "guard-variable"),
        ({"model": {"source": "layers", "path": "/models/llama"}}, "no-model-key"),
        ({"model": lab.ciphertext(keys=[])}, "no-model-key"),
        ({"model": lab.ciphertext(path="/etc/llama")}, "model-path"),
        ({"model": lab.ciphertext(path="/tmp")}, "model-path"),
        ({"model": lab.ciphertext(opener={"image": "registry.example.com/opener:v1"})}, "image-tag"),
        ({"model": lab.ciphertext(opener={"image": lab.OPENER, "args": ["--token=abc"]})}, "secret-in-clear"),
        ({"tls": None}, "no-tls"),
        ({"network": {}}, "no-exit"),
        ({"network": None}, "no-exit"),
        ({"trusted_store": {"size": "60Gi"}, "replicas": 2}, "store-shared"),
        ({"trusted_store": {"size": "20Gi"}}, "store-too-small"),
        ({"image_size": "400Gi"}, "image-too-large"),
        ({"image_size": None}, "image-size-unknown"),
        ({"csi_volumes": [{"name": "m", "driver": "secrets-store.csi.k8s.io", "path": "/models"}]}, "csi-volume"),
        ({"csi_volumes": [{"name": "m", "driver": "secrets-store.csi.k8s.io", "path": "/tmp/"}], "allow_csi_volumes": True}, "twice"),
        ({"node_selector": {"nvidia.com/cc.ready.state": "false"}}, "node-selector"),
        ({"initdata": None}, "no-init-data"),
        ({"initdata": 'version = "0.1.0"'}, "init-data-form"),
        ({"initdata": ["x"]}, "init-data-form"),
        ({"initdata": lab.document(policy_rego=None)}, "no-agent-policy"),
        ({"initdata": lab.document(policy_rego="package agent_policy\ndefault ExecProcessRequest := true\n")}, "agent-policy-open"),
        ({"initdata": lab.document(policy_rego="package agent_policy\nCreateContainerRequest if input.OCI.Version\n")}, "agent-policy-unknown"),
        ({"initdata": lab.document(f"registry.example.com/other@{lab.DIGEST}")}, "agent-policy-other"),
        ({"initdata": lab.document(cdh_toml=None)}, "no-kbs"),
        ({"initdata": lab.document(url="http://192.0.2.9:8080")}, "kbs-http"),
        ({"initdata": lab.document(cdh_toml={"skip_sealed_secret_verification": True, "kbc": {"url": "https://kbs.example.org"}})}, "sealed-unverified"),
    ],
)
def test_what_cannot_be_safe_or_cannot_work_is_refused(key, change, code):
    made = inference_pod(lab.described(**change), sealing_key=key)
    assert code in refused(made), made["refusals"]
    assert made["objects"] == [] and made["grant"] == {} and made["protection"] == "unprotected"
    for one in made["refusals"]:
        assert one["what"] and one["fix"], "each says what and the next step"


@pytest.mark.parametrize("value", ["hunter2hunter2", "kbs://host/a/b/c", KEY_HEADER % ""])
def test_a_secret_in_the_place_of_its_address_is_not_repeated(key, value):
    change = {"secrets": [{"name": "a", "resource": value, "env": "A"}], "model": {"source": "layers", "path": "/m", "keys": [value]}}
    assert value not in repr(inference_pod(lab.described(**change), sealing_key=key)["refusals"])


@pytest.mark.parametrize("name", ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "openai_api_key", "DB_PASSWORD", "TOKEN", "GOOGLE_CREDENTIALS", "AWS_ACCESS_KEY_ID"])
def test_names_that_are_secrets(name):
    assert secrets.looks_secret(name, "x") and not secrets.looks_secret(name, "")


@pytest.mark.parametrize("name", ["MAX_TOKENS", "TOKENIZER", "TOKENIZERS_PARALLELISM", "KEYBOARD", "SECRETARY", "API_KEYS_ALLOWED_HOST"])
def test_names_that_are_none(name):
    assert not secrets.looks_secret(name, "4096")


@pytest.mark.parametrize("words", [("--max-tokens", "5"), ("--api-key-file", "/x"), ("--tokenizer", "a"), ("--ssl-keyfile", "/etc/attested/secrets/tls.key")])
def test_options_that_hold_no_secret(words):
    assert secrets.option_with_secret(words) == ""


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a: b"}, {"name": "x\n---\nkind: Pod"}, {"name": "Llama"}, {"name": "l" * 64}, {"name": "-a"}, {"name": ["a"]}, {"name": 7},
        {"namespace": "{{ x }}"}, {"platform": "nomad"}, {"tee": "sgx"}, {"server": "ollama"},
        {"image": "x y"}, {"image": f"registry.example.com/a/../b@{lab.DIGEST}\n"}, {"image": f"registry.example.com/A@{lab.DIGEST}"},
        {"memory": "48"}, {"memory": "48GB"}, {"memory": 48}, {"memory": "-1Gi"}, {"memory": "9" * 400 + "Gi"}, {"memory": "999999999Ti"}, {"memory": "0Gi"},
        {"cpus": 0}, {"cpus": 10**9}, {"cpus": "500m"}, {"cpus": True}, {"replicas": -1}, {"port": 80}, {"port": 70000},
        {"unknown": 1}, {"hostNetwork": True}, {"privileged": True}, {"annotations": {"io.katacontainers.config.hypervisor.kernel_params": "x"}},
        {"model": {"source": "layers", "path": "/models/../etc"}}, {"model": {"source": "layers", "path": "models"}},
        {"model": {"source": "pvc", "path": "/m"}},
        {"model": lab.ciphertext(url="http://models.example.org/x")}, {"model": lab.ciphertext(url="https://u:p@models.example.org/x")},
        {"model": lab.ciphertext(url="https://models.example.org/x?sig=abc")}, {"model": lab.ciphertext(size=None)}, {"model": lab.ciphertext(opener=None)},
        {"env": {"A B": "x"}}, {"env": {"A": 1}}, {"env": {"A": "x" * 40000}}, {"env": ["A=1"]}, {"env": {"A": "a\0b"}},
        {"args": ["a\nb"]}, {"args": ["x"] * 300}, {"args": "--x"}, {"args": ["\ud800"]},
        {"secrets": [{"name": "a", "env": "A"}]}, {"secrets": [{"name": "a", "resource": "kbs:///a/b/c"}]},
        {"secrets": [{"name": "../a", "resource": "kbs:///a/b/c", "file": "x"}]}, {"secrets": [{"name": "a", "resource": "kbs:///a/b/c", "file": "../x"}]},
        {"secrets": [{"name": "a", "resource": "kbs:///a/b/c", "file": "..data"}]}, {"secrets": [{"name": "a", "value": "hunter2", "env": "A"}]},
        {"tls": {"certificate": "x", "key": "kbs:///a/b/c"}}, {"tls": {"certificate": lab.CERTIFICATE + KEY_HEADER % "", "key": "kbs:///a/b/c"}},
        {"network": {"to": [{"cidr": "192.0.2.1/24", "ports": [443]}]}}, {"network": {"to": [{"cidr": "kbs.example.org", "ports": [443]}]}},
        {"network": {"to": [{"cidr": "192.0.2.0/24"}]}}, {"network": {"from": [{}]}}, {"network": {"from": [{"cidr": "0.0.0.0/0", "pods": {"a": "b"}}]}},
        {"node_selector": {"a b": "c"}}, {"node_selector": {"a": True}}, {"tolerations": [{"key": "a", "effect": "Never"}]},
        {"uid": 0}, {"gid": 0}, {"groups": [0]}, {"groups": ["44"]}, {"trusted_store": {"size": "1Gi", "claim": "a"}}, {"start_seconds": 1},
        {"gpus": {"count": 0}}, {"gpus": {"count": 1, "model": "a100"}}, {"gpus": {"count": 1, "mode": "devtools"}}, {"guard_waiver": True},
    ],
)  # fmt: skip
def test_what_has_no_form_is_an_error_of_one_line(key, change):
    with pytest.raises(AttestedError) as caught:
        inference_pod({**lab.described(), **change}, sealing_key=key)
    text = str(caught.value)
    assert "\n" not in text and "hunter2" not in text and len(text) < 900


def test_what_is_not_said_is_told_at_once():
    made = inference_pod({"name": "llama"})
    assert refused(made) == ["incomplete"] and all(name in made["refusals"][0]["what"] for name in ("tee", "image", "model", "cpus", "memory"))


def test_an_alias_is_taken_only_where_its_handler_can_be_checked(key):
    made = inference_pod(lab.described(runtime_class="kata-cc"), sealing_key=key)
    assert refused(made) == [] and made["runtime_class"] == "kata-cc" and made["handlers"] == ["kata-qemu-snp", "kata-qemu-snp-runtime-rs"]
    assert any("which the role checks" in note for note in made["notes"])


def test_a_draft_needs_no_init_data_and_is_no_protection(key):
    made = inference_pod(lab.described(initdata=None), sealing_key=key, draft=True)
    assert refused(made) == [] and made["objects"] and made["protection"] == "unprotected" and made["grant"] == {}
    assert "annotations" not in made["objects"][-1]["spec"]["template"]["metadata"]


def test_what_the_policy_leaves_open_by_permission_is_told(key):
    text = lab.policy(lab.IMAGE).replace("default ExecProcessRequest := false", "default ReadStreamRequest := true")
    open_logs = lab.described(initdata=lab.document(policy_rego=text))
    assert "agent-policy-open" in refused(inference_pod(open_logs, sealing_key=key))
    made = inference_pod({**open_logs, "agent_policy_allow": ["ReadStreamRequest"]}, sealing_key=key)
    assert refused(made) == [] and any("the host reads what the containers print" in note for note in made["notes"])


def test_a_command_of_your_own_is_told_where_tls_is(key):
    made = inference_pod(lab.described(command=["/start"]), sealing_key=key)
    assert any("/etc/attested/secrets/tls.key" in note for note in made["notes"])


def test_without_a_tee_nothing_is_called_protected(key):
    made = inference_pod(lab.described(tee="none", allow_unprotected=True), sealing_key=key)
    assert refused(made) == [] and made["protection"] == "unprotected" and made["runtime_class"] == "kata-qemu-coco-dev"
    assert made["grant"]["tees"] == ["sample"] and any("unprotected" in note for note in made["notes"])


def test_without_a_signing_key_secrets_are_refused():
    assert refused(inference_pod(lab.described())) == ["no-signing-key"]


def test_a_sealed_secret_of_another_key_is_refused(key):
    with pytest.raises(AttestedError, match="another key"):
        other = lab.seal("kbs:///a/b/c")
        inference_pod(lab.described(secrets=[{"name": "a", "sealed": other[:-6] + "AAAAAA", "env": "A"}]), sealing_key=key)


@pytest.mark.parametrize("platform", platforms.PLATFORMS)
def test_every_platform_names_classes_of_its_own(platform):
    found = platforms.platform(platform)
    for kind, runtime in found.classes.items():
        assert runtime.name in found.others[kind] and not platforms.matches("unprotected", runtime.name) and not platforms.matches("debug", runtime.name)
        assert kind.split("/")[0] in platforms.TEES and kind.split("/")[1] in ("cpu", "gpu")


def test_kata_chart_and_our_names_agree(vectors):
    """The shims of the chart that the vectors hold are our classes with kata- before them."""
    import yaml

    shims = set()
    for path in (vectors / "coco/kata/helm-values").glob("*.yaml"):
        shims |= set(yaml.safe_load(path.read_text()).get("shims", {}))
    found = platforms.platform("upstream")
    names = {name for group in found.others.values() for name in group}
    assert names <= {f"kata-{shim}" for shim in shims}, names - {f"kata-{shim}" for shim in shims}
    plain = {f"kata-{shim}" for shim in shims if shim != "disableAll"} - names
    told = {name for name in plain if platforms.matches("unprotected", name)}
    assert plain - told <= {"kata-qemu-se", "kata-qemu-se-runtime-rs", "kata-remote", "kata-qemu-cca"}, plain - told
