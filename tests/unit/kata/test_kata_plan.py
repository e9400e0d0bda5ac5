# SPDX-License-Identifier: GPL-3.0-or-later
"""From what is wanted of Kata to the values of its chart, and everything that is refused on the way."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent))

import kata_unit_lab as lab  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.kubernetes import kata  # noqa: E402
from ansible_collections.attested.ai.plugins.plugin_utils import kata as core  # noqa: E402

DIGEST = "@sha256:" + "0" * 64


def plan(release=None, classes=(), nodes=None, replace=False, **changed):
    return core.plan(lab.options(**changed), release, list(classes), [lab.node()] if nodes is None else nodes, replace)


def codes(found):
    return [one["id"] for one in found["refusals"]]


def test_all_is_off_but_what_is_named_and_annotations_are_closed():
    found = plan(shims=["qemu-snp", "qemu"])
    values = found["chart_values"]
    assert found["refusals"] == [] and found["action"] == "install" and found["classes"] == ["kata-qemu-snp", "kata-qemu"]
    assert values["shims"].pop("disableAll") is True and sorted(values["shims"]) == ["qemu", "qemu-snp"] and values["debug"] is False
    assert tomllib.loads(values["shims"]["qemu-snp"]["dropIn"]) == {"hypervisor": {"qemu": {"enable_annotations": ["cc_init_data"]}}}
    # Kata's own default for it would be five names; a shim without init-data has none.
    assert tomllib.loads(values["shims"]["qemu"]["dropIn"]) == {"hypervisor": {"qemu": {"enable_annotations": []}}}
    given = tomllib.loads(values["containerd"]["userDropIn"])["plugins"]["io.containerd.cri.v1.runtime"]["containerd"]["runtimes"]
    assert given == {"kata-qemu-snp": {"pod_annotations": [lab.PREFIX + "cc_init_data"]}, "kata-qemu": {"pod_annotations": []}}
    assert values["shims"]["qemu-snp"]["containerd"] == {"snapshotter": "nydus", "forceGuestPull": False} and values["snapshotter"] == {"setup": ["nydus"]}
    assert values["shims"]["qemu-snp"]["runtimeClass"]["nodeSelector"] == lab.SNP and "runtimeClass" not in values["shims"]["qemu"]


def test_guests_that_pull_by_force_need_no_snapshotter():
    values = plan(guest_pull="forced")["chart_values"]
    assert values["shims"]["qemu-snp"]["containerd"] == {"snapshotter": "", "forceGuestPull": True} and values["snapshotter"] == {"setup": []}


def test_every_value_is_one_that_the_chart_knows(vectors):
    """Kata's own values.yaml. dropIn stands there in a comment alone, as each shim may leave it out."""
    text = (vectors / "coco/kata/helm-values/values.yaml").read_text()
    known = yaml.safe_load(text)
    names = list(kata.shims())
    digests = {name: "registry.example.com/x" + DIGEST for name in ("kata_deploy", "kubectl", "dispatcher")}
    values = plan(shims=names, images=digests, mode="job", node_selector={"a": "b"}, tolerations=[{"key": "x"}])["chart_values"]
    assert "dropIn:" in text

    def walk(ours, theirs, where):
        for key, value in ours.items():
            if key in ("dropIn", "runtimeClass", "nodeSelector"):
                continue
            assert key in theirs, "%s.%s" % (where, key)
            if isinstance(value, dict) and theirs[key] is not None:
                walk(value, theirs[key], "%s.%s" % (where, key))

    rows = values.pop("shims")
    walk(values, known, "")
    assert rows.pop("disableAll") is True and set(rows) <= set(known["shims"])
    for name, row in rows.items():
        # One that has all of them; each shim may leave out what it does not need.
        walk(row, known["shims"]["qemu-snp"], "shims." + name)
    # What was read from the chart is what the table says.
    for name, shim in kata.shims().items():
        row = known["shims"][name]
        assert set(shim.arches) <= set(row["supportedArches"]) and shim.snapshotter == row["containerd"]["snapshotter"], name
        assert shim.guest_pull == bool(row.get("crio", {}).get("guestPull")), name


def test_the_values_of_katas_own_examples_are_read_back(vectors):
    found = yaml.safe_load((vectors / "coco/kata/helm-values/try-kata-tee.values.yaml").read_text())
    assert "qemu-snp" in core.installed({"values": found}, "kata") and "qemu" not in core.installed({"values": found}, "kata")
    # Not disableAll, and nothing said: on.
    assert core.installed({"values": {"shims": {"qemu": {"enabled": None}, "clh": {"enabled": False}}}}, "kata") == ["qemu"]
    assert core.installed({"values": {"kata-as-coco-runtime": {"shims": {"disableAll": True, "qemu": {"enabled": True}}}}}, "coco") == ["qemu"]


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"shims": []}, "no-shim"),
        ({"shims": ["qemu-cca"]}, "unknown-shim"),
        ({"shims": ["qemu", "qemu"]}, "shim-twice"),
        ({"version": "3.31.0"}, "chart-too-old"),
        ({"version": "3.28.0"}, "advisory"),
        ({"version": "4.3.0-rc1", "shims": ["dragonball"]}, "advisory"),
        ({"version": "4.1.0", "shims": ["dragonball"]}, "advisory"),
        ({"allow_image_tags": False}, "image-not-pinned"),
        ({"images": {"kata_deploy": "quay.io/kata-containers/kata-deploy:4.3.0"}}, "image-tag"),
        ({"annotations": {"qemu-snp": ["cc_init_data", "virtio_fs_extra_args"]}}, "annotation-dangerous"),
        ({"annotations": {"qemu-snp": ["cc_init_data", "kernel_params"]}}, "annotation-dangerous"),
        ({"annotations": {"qemu-snp": []}}, "init-data-closed"),
        ({"extra_values": {"shims": {"disableAll": False}}}, "value-decided"),
        ({"extra_values": {"customRuntimes": {"enabled": True}}}, "value-decided"),
        ({"chart": "coco", "version": "0.23.0"}, "release-unknown"),
        ({"node_selector": {"role": "kata"}}, "cluster-no-node"),
    ],
)
def test_refused(changed, code):
    found = plan(**changed)
    assert code in codes(found) and all(one["fix"] for one in found["refusals"])


@pytest.mark.parametrize(
    ("node", "code"),
    [
        (lab.node(runtime="containerd://1.6.20"), "containerd-too-old"),
        (lab.node(runtime="docker://27"), "runtime-unknown"),
        (lab.node(runtime="containerd://latest"), "node-unknown"),
        (lab.node(kubelet="v1.23.9"), "kubernetes-too-old"),
        (lab.node(kubelet="v1.36.3+k3s1"), "distribution-other"),
        ({"metadata": {"name": "n1"}}, "node-unknown"),
    ],
)
def test_nodes_that_cannot_are_refused_by_name(node, code):
    found = plan(nodes=[node])
    assert code in codes(found) and "n1" in found["refusals"][codes(found).index(code)]["what"]


def test_nodes_that_could_do_better_are_told_of():
    old = plan(nodes=[lab.node(), lab.node("n2", "containerd://1.7.24")])
    # kata-deploy stops where a node takes no file beside its configuration: the second lock is left out, and it is said.
    assert old["refusals"] == [] and "containerd" not in old["chart_values"] and any("n2" in text and "hands over all" in text for text in old["notes"])
    assert any("may fail below 2.3" in text for text in plan(nodes=[lab.node(runtime="containerd://2.2.1")])["notes"])
    assert any("CRI-O" in text for text in plan(nodes=[lab.node(runtime="cri-o://1.33.0")])["notes"])
    assert plan(nodes=[lab.node(kubelet="v1.36.3+k3s1", runtime="containerd://2.3.1-k3s1")], distribution="k3s")["refusals"] == []
    assert "kubernetes-too-old" in codes(plan(nodes=[lab.node(kubelet="v1.31.0")], shims=["qemu-nvidia-gpu-snp"]))


def test_advisories_are_told_or_accepted_with_a_reason():
    notes = " ".join(plan(version="4.0.0")["notes"])
    assert "GHSA-fmg6-v47x-52wr" in notes and "kata-4.3.0-annotations" in notes
    assert not any("GHSA" in text for text in plan(version="4.3.0")["notes"]) and any("not against 4.3.0" in text for text in plan(version="4.3.0")["notes"])
    # A plain VM has no agent policy.
    assert "GHSA-fmg6" not in " ".join(plan(version="4.0.0", shims=["qemu"])["notes"])
    accepted = plan(version="4.1.0", shims=["dragonball"], accept_advisories={"kata-4.3.0-dragonball": "no guests of others"})
    assert "advisory" not in codes(accepted) and any("Accepted: no guests of others" in text for text in accepted["notes"])


@pytest.mark.parametrize(
    "changed",
    [{"typo": 1}, {"shims": "qemu"}, {"version": "latest"}, {"version": ""}, {"mode": "operator"}, {"annotations": {"qemu": ["x"]}},
     {"annotations": {"qemu-snp": [".*"]}},
     {"images": {"sidecar": "x"}}, {"accept_advisories": {"GHSA-q49m-57vm-c8cc": ""}}, {"accept_advisories": {"GHSA-0": "x"}}, {"distribution": "kind"}],
)  # fmt: skip
def test_what_is_no_wish_is_an_error_in_words(changed):
    with pytest.raises(kata.KataError) as caught:
        plan(**changed)
    assert str(caught.value) and caught.value.where


def test_a_release_that_is_there_is_upgraded_or_replaced_or_left():
    assert plan(lab.release("qemu-snp"))["action"] == "upgrade"
    # From 4.2 on Kata takes handlers away that nobody asks for any more.
    new = plan(lab.release("qemu-snp", "qemu"))
    assert new["action"] == "upgrade" and new["removed"] == ["qemu"] and new["refusals"] == []
    old = plan(lab.release("qemu-snp", "qemu"), version="4.1.0")
    assert codes(old) == ["replace-needed"] and "qemu would stay configured" in old["refusals"][0]["what"]
    said = plan(lab.release("qemu-snp", "qemu"), version="4.1.0", replace=True)
    assert said["action"] == "replace" and said["refusals"] == []
    assert codes(plan(lab.release("qemu-snp", deploymentMode="job"))) == ["replace-needed"]
    for status in ("pending-upgrade", "uninstalling"):
        assert codes(plan(lab.release("qemu-snp", status=status))) == ["release-half"]


def test_classes_of_others_are_left_alone():
    assert codes(plan(classes=[lab.runtime_class("kata-qemu-snp", ours=False)])) == ["class-of-others"]
    assert codes(plan(classes=[lab.runtime_class("kata-qemu-snp")])) == ["class-left"]
    assert codes(plan(lab.release("qemu-snp"), classes=[lab.runtime_class("kata-qemu-snp"), lab.runtime_class("mine", ours=False)])) == []


def test_in_another_chart_the_values_go_below_its_key():
    digests = {"kata_deploy": "registry.example.com/k" + DIGEST, "kubectl": "registry.example.com/c" + DIGEST}
    found = plan(chart="coco", version="0.22.0", images=digests, allow_image_tags=False, extra_values={"peerpods": {"enabled": True}})
    assert found["refusals"] == [] and found["kata"] == "4.0.0" and sorted(found["chart_values"]) == ["kata-as-coco-runtime", "peerpods"]
    inner = found["chart_values"]["kata-as-coco-runtime"]
    assert inner["image"] == {"reference": digests["kata_deploy"], "tag": ""} and inner["kubectlImage"]["tag"] == "" and inner["shims"]["disableAll"]
    assert "value-decided" in codes(plan(chart="coco", version="0.22.0", extra_values={"kata-as-coco-runtime": {"shims": {}}}))
    assert "containerd" not in plan(chart="coco", version="0.22.0", nodes=[lab.node(runtime="containerd://1.7.24")])["chart_values"]["kata-as-coco-runtime"]


def test_for_a_node_the_release_is_read_from_where_it_is():
    found = core.drop_in({"version": "4.3.0", "shims": ["qemu-snp", "qemu-tdx-runtime-rs"]})
    go, rust = found["shims"]
    assert go["shim"] == "bin/containerd-shim-kata-v2" and go["config"] == "share/defaults/kata-containers/configuration-qemu-snp.toml"
    assert rust["shim"] == "runtime-rs/bin/containerd-shim-kata-v2" and "/runtime-rs/configuration-qemu-tdx-runtime-rs.toml" in rust["config"]
    assert tomllib.loads(go["drop_in"])["runtime"] == {"experimental_force_guest_pull": True}
    closed = {"hypervisor": {"qemu": {"enable_annotations": ["cc_init_data"]}}}
    assert tomllib.loads(rust["drop_in"]) == {**closed, "runtime": {"experimental": ["force_guest_pull"]}}
    assert [one["id"] for one in core.drop_in({"version": "3.20.0", "shims": ["clh"]})["refusals"]] == ["advisory", "advisory"]
