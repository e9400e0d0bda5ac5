# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles kata and coco with real Helm, Kata's real chart and a real kube-apiserver where they are named; and what needs none of these."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent))

import kata_lab  # noqa: E402
import pod_api_lab  # noqa: E402

pytestmark = pytest.mark.skipif(importlib.util.find_spec("kubernetes") is None, reason="Python's kubernetes is not installed, which kubernetes.core needs")
NEW = {"kata_version": "4.1.0", "kata_shims": ["qemu-snp", "qemu-coco-dev"], "kata_verify_image": kata_lab.IMAGE}


@pytest.fixture
def cluster(tmp_path):
    if kata_lab.missing():
        pytest.skip(kata_lab.missing())
    with kata_lab.cluster(tmp_path) as found:
        yield found


def chart(version: str) -> str:
    return str(Path(kata_lab.CHARTS) / version)


def test_kata_comes_changes_and_goes(cluster, tmp_path):
    api, nodes = cluster
    given = {**NEW, "kata_chart": chart("4.1.0")}
    checked = kata_lab.run(api, tmp_path, "--check", "--diff", **given)
    assert checked.returncode == 0 and "changed=0" not in checked.stdout and kata_lab.classes(api) == [], checked.stdout
    assert not kata_lab.result(checked)["verified"] and api.get("Namespace", "kata-system") is None

    done = kata_lab.run(api, tmp_path, **given)
    assert done.returncode == 0 and kata_lab.classes(api) == ["kata-qemu-coco-dev", "kata-qemu-snp"], done.stdout
    told = kata_lab.result(done)
    rows = {row["shim"]: row for row in told["classes"]}
    assert told["verified"] and told["attested"] is False and told["kata"] == "4.1.0" and told["action"] == "install"
    # node1 carries SNP's label; its pod ended as if in a VM, and nothing calls that protected.
    assert rows["qemu-snp"]["pod"] == "pass" and "only attestation" in rows["qemu-snp"]["what"] and "protects nothing" in rows["qemu-coco-dev"]["what"]
    assert api.request("GET", "/api/v1/namespaces/default/pods")["items"] == [], "pods that verify do not stay"
    again = kata_lab.run(api, tmp_path, **given)
    assert again.returncode == 0 and "changed=0" in again.stdout and kata_lab.result(again)["action"] == "none", again.stdout

    # Kata 4.1 leaves handlers of shims that go on the nodes: it has to be removed and installed again, and somebody has to say so.
    fewer = {**given, "kata_shims": ["qemu-coco-dev", "qemu-tdx"]}
    refused = kata_lab.run(api, tmp_path, **fewer)
    assert refused.returncode != 0 and "[replace-needed]" in refused.stdout and "qemu-snp" in refused.stdout, refused.stdout
    assert kata_lab.classes(api) == ["kata-qemu-coco-dev", "kata-qemu-snp"]
    done = kata_lab.run(api, tmp_path, **fewer, kata_replace_confirm="kata-deploy")
    assert done.returncode == 0 and kata_lab.classes(api) == ["kata-qemu-coco-dev", "kata-qemu-tdx"], done.stdout
    rows = {row["shim"]: row for row in kata_lab.result(done)["classes"]}
    # No node has TDX: nothing ran, and it is said.
    assert rows["qemu-tdx"]["pod"] == "not_checked" and "stay Pending" in rows["qemu-tdx"]["what"] and rows["qemu-tdx"]["nodes"] == []

    gone = kata_lab.run(api, tmp_path, **fewer, kata_state="absent")
    assert gone.returncode == 0 and kata_lab.classes(api) == [] and kata_lab.result(gone)["state"] == "absent", gone.stdout
    space = api.get("Namespace", "kata-system")
    # Its finalizer is for a controller that is not there.
    assert space is None or space["metadata"].get("deletionTimestamp")


def test_an_upgrade_keeps_what_is_asked_for(cluster, tmp_path):
    api, _nodes = cluster
    old = {**NEW, "kata_version": "4.0.0", "kata_chart": chart("4.0.0"), "kata_shims": ["qemu-snp"]}
    assert kata_lab.run(api, tmp_path, **old).returncode == 0
    done = kata_lab.run(api, tmp_path, **{**old, "kata_version": "4.1.0", "kata_chart": chart("4.1.0")})
    assert done.returncode == 0 and kata_lab.result(done)["action"] == "upgrade", done.stdout
    item = api.request("GET", "/apis/node.k8s.io/v1/runtimeclasses/kata-qemu-snp")
    assert item["metadata"]["annotations"]["katacontainers.io/kata-version"] == "4.1.0"
    mode = kata_lab.run(api, tmp_path, **{**old, "kata_version": "4.1.0", "kata_chart": chart("4.1.0"), "kata_deployment_mode": "job"})
    assert mode.returncode != 0 and "daemonset mode, which cannot change" in mode.stdout, mode.stdout


def test_what_does_not_isolate_or_does_not_come_is_a_failure(cluster, tmp_path):
    api, nodes = cluster
    given = {**NEW, "kata_chart": chart("4.1.0"), "kata_shims": ["qemu-coco-dev"]}
    nodes.lets_in = {"phase": "Failed", "exitCode": 90}
    done = kata_lab.run(api, tmp_path, **given)
    assert done.returncode != 0 and "it ran on the node's own kernel" in done.stdout and not kata_lab.result(done), done.stdout
    assert api.request("GET", "/api/v1/namespaces/default/pods")["items"] == []
    # Somebody else's class of Kata is there, and one that leads elsewhere.
    api.create({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": "kata-fc",
                "metadata": {"name": "kata-fc", "labels": {"app.kubernetes.io/managed-by": "kata-deploy"}}})  # fmt: skip
    done = kata_lab.run(api, tmp_path, **{**given, "kata_verify_image": "", "kata_timeout": 3})
    assert done.returncode != 0 and "[kata.stale-classes]" in done.stdout and "kata-fc" in done.stdout, done.stdout
    api.request("DELETE", "/apis/node.k8s.io/v1/runtimeclasses/kata-fc")
    # The nodes are not cleaned.
    nodes.leaves = True
    done = kata_lab.run(api, tmp_path, **{**given, "kata_state": "absent", "kata_timeout": 3})
    assert done.returncode != 0 and "[kata.nodes-clean] nodes still labelled: node1" in done.stdout, done.stdout


def test_refused_before_anything_changes(tmp_path):
    """The small API is enough: nothing is written. A run takes seconds; most reasons are in the tests of the filters."""
    if not kata_lab.HELM or not kata_lab.CHARTS:
        pytest.skip("no real Helm: HELM or KATA_CHARTS not set")
    open_ = {"kata_allow_image_tags": False, "kata_annotations": {"qemu-snp": ["cc_init_data", "virtio_fs_extra_args"]}, "kata_extra_values": {"debug": True}}
    with pod_api_lab.small() as api:
        kata_lab.prepared(api)
        api.calls.clear()
        for changed, words in (
            ({"kata_version": "4.0.0"}, ["is version 4.1.0, and kata_version says 4.0.0"]),
            (open_, ["[image-not-pinned]", "GHSA-rr59-xxvx-96qr", "[value-decided]"]),
            ({"kata_helm": "/nonexistent/helm"}, ["Helm 3.8 or later is needed"]),
        ):
            done = kata_lab.run(api, tmp_path, **{**NEW, "kata_chart": chart("4.1.0"), "kata_shims": ["qemu-snp"], **changed})
            assert done.returncode != 0 and all(word in done.stdout for word in words) and "Traceback" not in done.stdout and api.calls == [], done.stdout


def test_coco_puts_its_values_where_its_chart_has_katas(cluster, tmp_path):
    """A chart around Kata's with the name that Confidential Containers' has for it. Its own sources of that release were not at hand."""
    api, _nodes = cluster
    umbrella = tmp_path / "umbrella"
    (umbrella / "charts").mkdir(parents=True)
    shutil.copytree(chart("4.0.0"), umbrella / "charts" / "kata-deploy", ignore=shutil.ignore_patterns("charts"))
    inner = umbrella / "charts" / "kata-deploy" / "Chart.yaml"
    document = yaml.safe_load(inner.read_text())
    document.pop("dependencies", None)
    inner.write_text(yaml.safe_dump(document))
    depends = [{"name": "kata-deploy", "alias": "kata-as-coco-runtime", "version": "4.0.0", "repository": "", "condition": "kata-as-coco-runtime.enabled"}]
    (umbrella / "Chart.yaml").write_text(yaml.safe_dump({"apiVersion": "v2", "name": "confidential-containers", "version": "0.22.0", "dependencies": depends}))
    (umbrella / "values.yaml").write_text("kata-as-coco-runtime:\n  enabled: true\n")
    given = {"coco_chart": str(umbrella), "coco_tees": ["snp", "none"], "coco_verify_image": kata_lab.IMAGE}
    done = kata_lab.run(api, tmp_path, role="coco", **given)
    assert done.returncode == 0 and kata_lab.classes(api) == ["kata-qemu-coco-dev", "kata-qemu-snp"], done.stdout
    told = kata_lab.result(done)
    assert told["kata"] == "4.0.0" and told["attested"] is False and "GHSA-fmg6-v47x-52wr" in done.stdout
    again = kata_lab.run(api, tmp_path, role="coco", **given)
    assert again.returncode == 0 and "changed=0" in again.stdout, again.stdout
    gone = kata_lab.run(api, tmp_path, role="coco", coco_state="absent", **given)
    assert gone.returncode == 0 and kata_lab.classes(api) == [], gone.stdout


def test_a_platform_that_brings_its_own_is_looked_at(tmp_path):
    with pod_api_lab.small() as api:
        api.create({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "kata-cc"}, "handler": "kata-cc-intel"})
        done = kata_lab.run(api, tmp_path, role="coco", coco_platform="openshift", coco_tees=["snp"])
        assert done.returncode != 0 and "Its handler should be kata-cc-amd" in done.stdout and "Traceback" not in done.stdout, done.stdout
        done = kata_lab.run(api, tmp_path, role="coco", coco_platform="openshift", coco_tees=["tdx"])
        assert done.returncode == 0 and "changed=0" in done.stdout and kata_lab.result(done)["classes"][0]["class"] == "kata-cc", done.stdout
        assert kata_lab.result(done)["attested"] is False
