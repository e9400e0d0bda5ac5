# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster offers after Kata was installed, what pods in it showed, and what stays after removal. Nothing is called protected."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import kata_unit_lab as lab  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.kubernetes import kata, platforms  # noqa: E402
from ansible_collections.attested.ai.plugins.plugin_utils import kata as core  # noqa: E402

try:
    import kubernetes_validate
except ImportError:
    kubernetes_validate = None
IMAGE = "registry.example.com/busybox@sha256:" + "c" * 64


def failed(found):
    return [one["id"] for one in found["failed"]]


def test_what_is_there_is_told_with_what_it_means():
    found = core.state(lab.options(shims=["qemu-snp", "qemu-tdx", "qemu-coco-dev", "qemu"]),
                       [lab.runtime_class("kata-qemu-snp", selector={**lab.INSTALLED, **lab.SNP}), lab.runtime_class("kata-qemu-coco-dev"),
                        lab.runtime_class("kata-qemu-tdx", selector={"intel.feature.node.kubernetes.io/tdx": "true"}), lab.runtime_class("kata-qemu")],
                       [lab.node()])  # fmt: skip
    assert found["failed"] == []
    rows = {row["shim"]: row for row in found["classes"]}
    assert rows["qemu-snp"]["nodes"] == ["n1"] and "only attestation" in rows["qemu-snp"]["what"] and rows["qemu-snp"]["pod"] == "not_checked"
    assert rows["qemu-tdx"]["what"] == "no node takes its pods, for none has intel.feature.node.kubernetes.io/tdx=true: they stay Pending"
    assert "protects nothing" in rows["qemu-coco-dev"]["what"] and "host reads all" in rows["qemu"]["what"]


@pytest.mark.parametrize(
    ("classes", "nodes", "code"),
    [
        ([], [lab.node()], "kata.class.qemu-snp"),
        ([lab.runtime_class("kata-qemu-snp", "runc")], [lab.node()], "kata.class.qemu-snp"),
        ([lab.runtime_class("kata-qemu-snp")], [lab.node(), lab.node("n2", labels={})], "kata.nodes"),
        ([lab.runtime_class("kata-qemu-snp")], [lab.node(labels={"katacontainers.io/kata-runtime": "false"})], "kata.nodes"),
        ([lab.runtime_class("kata-qemu-snp")], [], "kata.nodes"),
        ([lab.runtime_class("kata-qemu-snp"), lab.runtime_class("kata-clh")], [lab.node()], "kata.stale-classes"),
    ],
)
def test_what_is_not_as_asked_for_fails(classes, nodes, code):
    found = core.state(lab.options(), classes, nodes)
    assert failed(found) == [code] and found["failed"][0]["fix"]


def test_other_installations_have_classes_of_their_own():
    other = lab.runtime_class("kata-clh-dev")
    other["metadata"]["labels"]["kata-deploy/instance"] = "dev"
    assert failed(core.state(lab.options(), [lab.runtime_class("kata-qemu-snp"), other, lab.runtime_class("mine", ours=False)], [lab.node()])) == []


def test_what_stays_after_removal_is_named():
    assert all(one["outcome"] == "pass" for one in core.left("kata", ["qemu-snp"], [lab.runtime_class("kata-qemu-snp", ours=False)], [lab.node(labels={})]))
    found = core.left("kata", ["qemu-snp"], [lab.runtime_class("kata-qemu-snp")], [lab.node(labels={"katacontainers.io/kata-runtime": "cleanup"})])
    assert [one["outcome"] for one in found] == ["fail", "fail"] and "kata-qemu-snp" in found[0]["detail"] and "n1" in found[1]["detail"]


def rows():
    return core.state(lab.options(shims=["qemu-snp", "qemu-nvidia-gpu-snp"]),
                      [lab.runtime_class("kata-qemu-snp"), lab.runtime_class("kata-qemu-nvidia-gpu-snp")], [lab.node()])["classes"]  # fmt: skip


@pytest.mark.parametrize("version", ["1.30", "1.35"])
def test_pods_that_verify_are_pods_of_kubernetes_and_closed(version):
    (pod,) = core.pods(rows(), IMAGE, "default", [lab.node()])
    spec = pod["spec"]
    assert spec["runtimeClassName"] == "kata-qemu-snp" and spec["containers"][0]["env"] == [{"name": "HOST_KERNELS", "value": "6.12.48-amd64"}]
    assert spec["automountServiceAccountToken"] is False and "hostPath" not in str(pod)
    if kubernetes_validate is not None:
        kubernetes_validate.validate(pod, version, strict=True)


@pytest.mark.parametrize("image", ["busybox", "busybox:1.37", "", "busybox@sha256:xyz"])
def test_pods_need_an_image_that_does_not_move(image):
    with pytest.raises(kata.KataError, match="by digest"):
        core.pods(rows(), image, "default", [lab.node()])


def status(phase, code=None, **more):
    ended = [{"state": {"terminated": {"exitCode": code, "reason": "Error"}}}] if code is not None else []
    return {"spec": {"runtimeClassName": "kata-qemu-snp"}, "status": {"phase": phase, "containerStatuses": ended, **more}}


@pytest.mark.parametrize(
    ("pod", "outcome", "words"),
    [
        (status("Succeeded", 0), "pass", "in a VM"),
        (status("Failed", 90), "fail", "isolates nothing"),
        # Whatever the phase says, the node's own kernel is no VM.
        (status("Succeeded", 90), "fail", "isolates nothing"),
        (status("Failed", 91), "fail", "ended with 91"),
        (status("Succeeded"), "fail", "ended with None"),
        (status("Failed", reason="DeadlineExceeded"), "fail", "DeadlineExceeded"),
        (status("Pending", conditions=[{"type": "PodScheduled", "status": "False", "message": "0/3 nodes: no esids"}]), "waits", "no esids"),
        ({"spec": {"runtimeClassName": "kata-qemu-snp"}}, "waits", "not ended"),
    ],
)
def test_a_pod_is_judged_by_how_it_ended(pod, outcome, words):
    found = core.judged(rows(), [pod])
    assert found["classes"][0]["pod"] == outcome and words in found["classes"][0]["pod_detail"] and found["classes"][1]["pod"] == "not_checked"
    assert found["settled"] == (outcome != "waits") and bool(found["failed"]) == (outcome != "pass")


def test_the_script_tells_kernels_apart(tmp_path):
    """By a shell, with this machine's kernel as the host's and as another."""
    import platform
    import subprocess

    from ansible_collections.attested.ai.plugins.module_utils.kubernetes import kata_pod

    for kernels, code in ((platform.release(), kata_pod.SAME_KERNEL), ("9.9.9 " + platform.release(), kata_pod.SAME_KERNEL), ("9.9.9-guest", 0)):
        done = subprocess.run(["/bin/sh", "-c", kata_pod._SCRIPT], env={"HOST_KERNELS": kernels, "PATH": "/bin:/usr/bin"}, check=False)
        assert done.returncode == code


def test_the_map_of_platforms_is_one_for_all():
    plan = core.platform_plan
    found = plan("upstream", ["snp", "none"], False)
    assert found == {"by_chart": True, "shims": ["qemu-snp", "qemu-coco-dev"], "classes": ["kata-qemu-snp", "kata-qemu-coco-dev"]}
    assert plan("upstream", ["snp-gpu", "tdx"], True)["shims"] == ["qemu-nvidia-gpu-snp-runtime-rs", "qemu-tdx-runtime-rs"]
    assert plan("peer-pods", ["snp", "tdx"], False)["shims"] == ["remote"]
    assert plan("openshift", ["snp"], False) == {"by_chart": False, "shims": [], "classes": ["kata-cc"]}
    for key in platforms.PLATFORMS:
        assert platforms.table("platforms")["platforms"][key]["install"]["help"]
    # Each class of the map that the chart makes is a shim that is known, of that TEE.
    for kind, row in platforms.table("platforms")["platforms"]["upstream"]["classes"].items():
        assert all(kata.shims()[name[len("kata-"):]].kind == kind for name in row["names"]), kind
    for word in ("cca", "sev", "none-gpu"):
        with pytest.raises(kata.KataError):
            plan("upstream", [word], False)
    with pytest.raises(kata.KataError):
        plan("gke", ["snp"], False)


def test_a_platform_with_classes_of_its_own_is_believed_in_nothing_else():
    cc = lab.runtime_class("kata-cc", "kata-cc-amd", ours=False)
    found = core.platform_state("openshift", ["snp"], [cc], [lab.node()])
    assert found["failed"] == [] and "only attestation" in found["classes"][0]["what"]
    assert failed(core.platform_state("openshift", ["tdx"], [cc], [lab.node()])) == ["coco.class.tdx-cpu"]
    assert failed(core.platform_state("aks", ["snp"], [], [lab.node()])) == ["coco.class.snp-cpu"]
    unknown = core.platform_state("openshift", ["snp-gpu"], [lab.runtime_class("kata-cc-nvidia-gpu", "x", ours=False)], [lab.node()])
    assert unknown["failed"] == [] and "where it should lead is not known" in unknown["checks"][0]["detail"]
