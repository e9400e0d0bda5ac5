# SPDX-License-Identifier: GPL-3.0-or-later
"""The role inference_pod where it asks no cluster: drafts, pods from elsewhere, what is refused. With a cluster: tests/peers."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit/inference_pod"))

import pod_lab  # noqa: E402


def run(folder, *words, **variables):
    key = folder / "sealed.pem"
    values = {"inference_pod_state": "draft", "inference_pod_manifest": str(folder / "draft.yml"), "inference_pod_description": pod_lab.described(),
              "inference_pod_sealing_key": str(key) if key.exists() else pod_lab.key_file(folder), **variables}  # fmt: skip
    play = [{"hosts": "localhost", "gather_facts": False, "roles": ["attested.ai.inference_pod"], "vars": values}]
    (folder / "play.json").write_text(json.dumps(play))
    environment = dict(os.environ, ANSIBLE_LOCALHOST_WARNING="false", ANSIBLE_NOCOLOR="true", ANSIBLE_LOCAL_TEMP=str(folder / "local"), COLUMNS="400")
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-c", "local", str(folder / "play.json"), *words]
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=300)


def test_a_draft_is_written_once_and_its_secrets_stay(tmp_path):
    draft = tmp_path / "draft.yml"
    checked = run(tmp_path, "--check", "--diff")
    assert checked.returncode == 0 and not draft.exists() and "changed=1" in checked.stdout, checked.stdout
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout
    text = draft.read_text()
    objects = list(yaml.safe_load_all(text))
    assert [one["kind"] for one in objects] == ["NetworkPolicy", "ConfigMap", "Secret", "Service", "Deployment"] and "*id0" not in text
    again = run(tmp_path)
    assert again.returncode == 0 and "changed=0" in again.stdout and draft.read_text() == text, again.stdout


def test_the_articles_pod_is_explained_and_drafted(tmp_path):
    told = run(tmp_path, inference_pod_seed_pod=pod_lab.SEED, inference_pod_description={"tee": "snp", "namespace": "inference"})
    assert told.returncode != 0 and "it does not say server, model, cpus, memory" in told.stdout, told.stdout
    assert all(words in told.stdout for words in ("No such variable exists", "mounts the volume on the host, in the clear", "nvidia.com/pgpu: 1"))
    assert not (tmp_path / "draft.yml").exists()
    whole = pod_lab.described(server="given", command=["/serve"], model={"source": "layers", "path": "/models", "keys": ["kbs:///default/key/model-7"]})
    done = run(tmp_path, inference_pod_seed_pod=pod_lab.SEED, inference_pod_description={key: whole[key] for key in whole if key != "name"})
    assert done.returncode == 0 and "-> kata-qemu-nvidia-gpu-snp" in done.stdout, done.stdout
    pod = list(yaml.safe_load_all((tmp_path / "draft.yml").read_text()))[-1]["spec"]["template"]["spec"]
    assert pod["runtimeClassName"] == "kata-qemu-nvidia-gpu-snp" and not any("csi" in volume for volume in pod["volumes"])


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"inference_pod_description": pod_lab.described(image="registry.example.com/a:v1", env={"HF_TOKEN": "hunter2"})}, "[image-tag]"),
        ({"inference_pod_description": {**pod_lab.described(), "name": "x\n---\nkind: Pod"}}, "inference_pod_description needs name"),
        ({"inference_pod_description": {**pod_lab.described(), "hostNetwork": True}}, "unknown: 'hostNetwork'"),
        ({"inference_pod_manifest": ""}, "Say where the draft is to be written"),
        ({"inference_pod_sealing_key": "/nonexistent/sealed.pem"}, "/nonexistent/sealed.pem"),
    ],
)
def test_what_is_refused_says_why_and_writes_nothing(tmp_path, variables, words):
    done = run(tmp_path, **variables)
    assert done.returncode != 0 and words in done.stdout and "Traceback" not in done.stdout, done.stdout
    assert "hunter2" not in done.stdout.split("TASK", 1)[1] and not (tmp_path / "draft.yml").exists()


def test_without_kubernetes_core_it_is_said_what_to_install(tmp_path):
    try:
        there = importlib.util.find_spec("ansible_collections.kubernetes.core") is not None
    except ImportError:
        there = False
    if there:
        pytest.skip("kubernetes.core is here; what a cluster answers is in tests/peers")
    done = run(tmp_path, inference_pod_state="present")
    assert done.returncode != 0 and "ansible-galaxy collection install kubernetes.core" in done.stdout, done.stdout
