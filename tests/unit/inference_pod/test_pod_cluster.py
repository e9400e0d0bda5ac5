# SPDX-License-Identifier: GPL-3.0-or-later
"""A planned pod against a cluster: classes that lead elsewhere, nodes without the TEE, pods that somebody changed."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pod_lab as lab  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.kubernetes import cluster  # noqa: E402
from ansible_collections.attested.ai.plugins.plugin_utils.inference_pod import inference_pod  # noqa: E402

LABELS = {"amd.feature.node.kubernetes.io/snp": "true", "nvidia.com/cc.ready.state": "true", "nvidia.com/cc.mode.state": "on"}


def runtime_class(name="kata-qemu-nvidia-gpu-snp", handler="", overhead=None):
    return {"metadata": {"name": name}, "handler": handler or name, "overhead": {"podFixed": overhead or {"memory": "10240Mi", "cpu": "1"}}}


def node(labels=None, **allocatable):
    found = {"cpu": "64", "memory": "527942388Ki", "nvidia.com/pgpu": "8", "sev-snp.amd.com/esids": "99", **allocatable}
    return {"metadata": {"name": "n", "labels": LABELS if labels is None else labels}, "status": {"allocatable": found}}


@pytest.fixture
def plan(tmp_path):
    return inference_pod(lab.described(gpus={"count": 1, "model": "h100"}), sealing_key=lab.key_file(tmp_path))


def codes(found):
    return [one["id"] for one in found]


def test_a_cluster_that_can_has_nothing_against_it(plan):
    keys = {"memory": "10240Mi", "cpu": "1", "sev-snp.amd.com/esids": "1"}
    assert cluster.look(plan, [runtime_class(overhead=keys)], [node()]) == []
    assert cluster.look(plan, [runtime_class()], None) == []


@pytest.mark.parametrize(
    ("classes", "nodes", "code", "words"),
    [
        ([], [node()], "cluster-no-runtime-class", "none of Kata's"),
        ([runtime_class("kata-qemu")], [node()], "cluster-no-runtime-class", "It has kata-qemu"),
        ([runtime_class(handler="runc")], [node()], "cluster-other-handler", "it would start something else"),
        ([runtime_class(handler="kata-qemu")], [node()], "cluster-other-handler", "kata-qemu"),
        ([runtime_class()], [], "cluster-no-node", "amd.feature"),
        ([runtime_class()], [node({})], "cluster-no-node", "attested.ai.preflight"),
        ([runtime_class()], [node({**LABELS, "nvidia.com/cc.ready.state": "false"})], "cluster-no-node", "attested.ai.gpu_cc_node"),
        ([runtime_class()], [node({**LABELS, "nvidia.com/cc.mode.state": "off"})], "cluster-no-node", "of those that have the labels before it"),
        ([runtime_class()], [node(**{"nvidia.com/pgpu": "0"})], "cluster-no-room", "kata-sandbox-device-plugin"),
        ([runtime_class()], [node(memory="64Gi")], "cluster-no-room", "80Gi of memory"),
        ([runtime_class(overhead={"sev-snp.amd.com/esids": "1"})], [node(**{"sev-snp.amd.com/esids": "0"})], "cluster-no-room", "esids"),
    ],
)
def test_what_is_missing_is_told(plan, classes, nodes, code, words):
    found = cluster.look(plan, classes, nodes)
    assert codes(found) == [code] and words in found[0]["what"] + found[0]["fix"]


def test_an_alias_must_lead_to_a_handler_of_the_tee(tmp_path):
    plan = inference_pod(lab.described(runtime_class="kata-cc"), sealing_key=lab.key_file(tmp_path))
    assert cluster.look(plan, [runtime_class("kata-cc", "kata-qemu-snp")], None) == []
    assert codes(cluster.look(plan, [runtime_class("kata-cc", "kata-qemu")], None)) == ["cluster-other-handler"]
    assert codes(cluster.look(plan, [runtime_class("kata-cc", "kata-qemu-tdx")], None)) == ["cluster-other-handler"]


def pod(plan, ready=True, **change):
    spec = copy.deepcopy(plan["objects"][-1]["spec"]["template"]["spec"])
    spec.update(change)
    return {"metadata": {"name": "llama-1"}, "spec": spec, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}]}}


def test_what_was_planned_and_is_ready_is_settled(plan):
    found = cluster.running(plan, [plan["objects"][-1]], [pod(plan)])
    assert found == {"ready": 1, "wanted": 1, "settled": True, "differs": [], "waiting": []}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"runtimeClassName": None}, "runtime class None"),
        ({"runtimeClassName": "kata-qemu"}, "runtime class 'kata-qemu'"),
        ({"hostNetwork": True}, "hostNetwork is set"),
        ({"initContainers": [{"name": "sidecar", "image": "x"}]}, "'sidecar', which was put in"),
    ],
)
def test_what_somebody_changed_on_the_way_is_not_settled(plan, change, words):
    found = cluster.running(plan, [plan["objects"][-1]], [pod(plan, **change)])
    assert not found["settled"] and words in found["differs"][0]


def test_another_command_or_image_is_seen(plan):
    for member, value in (("command", ["/bin/sh"]), ("image", "x"), ("args", ["--more"])):
        changed = pod(plan)
        changed["spec"]["containers"][0][member] = value
        assert member in cluster.running(plan, [plan["objects"][-1]], [changed])["differs"][0]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes: insufficient nvidia.com/pgpu"}]}, "not placed on a node: 0/3"),
        ({"containerStatuses": [{"name": "server", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 97}}}]},
         "a secret was not opened"),
        ({"containerStatuses": [{"name": "server", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "denied"}}}]}, "ImagePullBackOff: denied"),
        ({"initContainerStatuses": [{"name": "open-model", "state": {"terminated": {"exitCode": 2, "reason": "Error"}}}]}, "open-model ended with status 2"),
        ({}, "not ready yet"),
    ],
)  # fmt: skip
def test_why_it_waits_is_told(plan, status, words):
    waiting = pod(plan, ready=False)
    waiting["status"] = {"phase": "Pending", **status}
    found = cluster.running(plan, [plan["objects"][-1]], [waiting])
    assert not found["settled"] and words in found["waiting"][0]


def test_words_that_are_not_said_are_not_changed(tmp_path):
    """The API leaves out lists that are empty."""
    description = lab.described(model=lab.ciphertext(opener={"image": lab.OPENER}), initdata=lab.document(lab.IMAGE, lab.OPENER))
    plan = inference_pod(description, sealing_key=lab.key_file(tmp_path))
    running = pod(plan)
    running["spec"]["initContainers"][0].update(command=None, args=[])
    assert cluster.running(plan, [plan["objects"][-1]], [running])["settled"]


def test_a_machine_of_a_clouds_needs_no_room_on_the_node(tmp_path):
    plan = inference_pod(lab.described(platform="peer-pods"), sealing_key=lab.key_file(tmp_path))
    assert cluster.look(plan, [runtime_class("kata-remote")], [node({}, memory="8Gi")]) == []


def test_pods_that_go_do_not_count(plan):
    going = pod(plan, runtimeClassName="x")
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not cluster.running(plan, [plan["objects"][-1]], [going])["settled"]
    assert cluster.running(plan, [plan["objects"][-1]], [going, pod(plan)])["settled"]
    assert not cluster.running(plan, [], [pod(plan)])["settled"]


@pytest.mark.parametrize("arguments", [({}, [], []), ("x", [], []), (None, [], [])])
def test_no_plan_is_an_error(arguments):
    with pytest.raises(AttestedError):
        cluster.running(*arguments)
    with pytest.raises(AttestedError):
        cluster.look(*arguments)


def test_no_list_is_an_error(plan):
    with pytest.raises(AttestedError):
        cluster.look(plan, {"items": []}, None)
