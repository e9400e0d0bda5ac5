# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles kata and coco make, before the tools that read it: Kata's own charts rendered by Helm, and containerd's own reading of its configuration.

HELM names Helm, KATA_CHARTS a folder with kata-deploy charts, each in a folder named by its version, CONTAINERD containerds, with a colon between them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit/kata"))

import kata_unit_lab as lab  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.kubernetes import kata, kata_node  # noqa: E402
from ansible_collections.attested.ai.plugins.plugin_utils import kata as core  # noqa: E402

HELM, CHARTS = os.environ.get("HELM", ""), os.environ.get("KATA_CHARTS", "")
CONTAINERDS = [name for name in os.environ.get("CONTAINERD", "").split(":") if name]
VERSIONS = sorted(os.listdir(CHARTS)) if CHARTS else []
DIGEST = "@sha256:" + "ab" * 32
IMAGES = {name: row["reference"] + DIGEST for name, row in kata.known()["images"].items()}
needs_helm = pytest.mark.skipif(not (HELM and CHARTS), reason="no real Helm: HELM or KATA_CHARTS not set")
needs_containerd = pytest.mark.skipif(not CONTAINERDS, reason="no real containerd: CONTAINERD names none")


def rendered(version, tmp_path, **changed):
    plan = core.plan(lab.options(version=version, shims=list(kata.shims()), images=IMAGES, allow_image_tags=False,
                                 accept_advisories={"kata-4.3.0-dragonball": "rendered only"}, **changed), None, [], [lab.node()])  # fmt: skip
    assert plan["refusals"] == []
    (tmp_path / "values.yml").write_text(yaml.safe_dump(plan["chart_values"]))
    command = [HELM, "template", "kata-deploy", str(Path(CHARTS) / version), "-n", "kata-system", "-f", str(tmp_path / "values.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]})
    assert done.returncode == 0, done.stderr
    return plan, [one for one in yaml.safe_load_all(done.stdout) if one]


@needs_helm
@pytest.mark.parametrize("mode", ["daemonset", "job"])
@pytest.mark.parametrize("version", VERSIONS)
def test_katas_charts_take_every_value(version, mode, tmp_path):
    plan, objects = rendered(version, tmp_path, mode=mode)
    classes = {one["metadata"]["name"]: one for one in objects if one["kind"] == "RuntimeClass"}
    assert set(classes) == set(plan["classes"]) and all(one["handler"] == name for name, one in classes.items())
    configs = {name: body for one in objects if one["kind"] == "ConfigMap" for name, body in (one.get("data") or {}).items()}
    text = yaml.safe_dump_all([one for one in objects if one["kind"] != "ConfigMap"])
    # All images by digest, so none by a tag, and nothing for debugging.
    images = set(re.findall(r"\bimage: *[\"']?([^\s\"'\\]+)", "\n".join(json.dumps(one) for one in configs.values()) + text))
    assert images and all(one.endswith(DIGEST) for one in images), images
    assert "-debug" not in " ".join(classes) and "DEBUG: 'true'" not in text
    for name, shim in kata.shims().items():
        wanted = ["cc_init_data"] if shim.coco else []
        assert kata_node.toml(configs["dropin-%s.toml" % name], name)["hypervisor"][shim.hypervisor]["enable_annotations"] == wanted
    assert "io.katacontainers.*" not in configs["containerd-user-dropin.toml"]
    for one in objects:
        if one["apiVersion"] in ("v1", "apps/v1", "batch/v1", "node.k8s.io/v1", "rbac.authorization.k8s.io/v1"):
            for release in ("1.30", "1.33", "1.35"):
                kubernetes_validate.validate(one, release, strict=True)


@needs_helm
@pytest.mark.parametrize("version", VERSIONS)
def test_no_value_is_one_that_a_chart_does_not_know(version, tmp_path):
    """Helm takes any name in silence: here each is looked for in the chart's own values and templates."""
    chart = Path(CHARTS) / version
    known, used = yaml.safe_load((chart / "values.yaml").read_text()), "".join(one.read_text() for one in chart.glob("templates/*"))
    values = dict(core.plan(lab.options(version=version, images=IMAGES, mode="job"), None, [], [lab.node()])["chart_values"])
    shims = values.pop("shims")
    for key, value in values.items():
        assert key in known, key
        for inner in value if isinstance(value, dict) and key not in ("nodeSelector",) else ():
            assert inner in known[key] or "%s.%s" % (key, inner) in used, "%s.%s" % (key, inner)
    for key in shims["qemu-snp"]:
        assert key in known["shims"]["qemu-snp"] or "$shimConfig.%s" % key in used or ".shimConfig.%s" % key in used, key


def dump(program, *words):
    return subprocess.run([program, *words], capture_output=True, text=True, check=False)


@needs_containerd
@pytest.mark.parametrize("program", CONTAINERDS)
def test_containerd_lets_our_file_close_what_katas_opens(program, tmp_path):
    """kata-deploy 4.1's own file hands over io.katacontainers.*, that of the chart's userDropIn comes after it."""
    if kata.below(kata_node.containerd_version(dump(program, "--version").stdout), "2.0"):
        pytest.skip("a containerd below 2.0, for which the file is not made")
    files = tmp_path / "conf.d"
    files.mkdir()
    (files / "kata-deploy.toml").write_text(lab.handler(forwarded='["io.katacontainers.*"]'))
    main = tmp_path / "config.toml"
    for schema in (2, 3):
        main.write_text("version = %d\nimports = ['%s/*.toml']\n" % (schema, files))
        (one,) = kata_node.handlers(dump(program, "--config", str(main), "config", "dump").stdout)
        assert one.forwarded == ("io.katacontainers.*",)
    plan = core.plan(lab.options(), None, [], [lab.node()])
    (files / "zz-kata-deploy-user.toml").write_text(plan["chart_values"]["containerd"]["userDropIn"])
    for schema in (2, 3):
        main.write_text("version = %d\nimports = ['%s/*.toml']\n" % (schema, files))
        told = dump(program, "--config", str(main), "config", "dump").stdout
        checks = {one["id"]: one["outcome"] for one in core.node(lab.options(), {**lab.facts(), "dump": told})}
        assert checks["kata.qemu-snp.forwarded"] == checks["kata.qemu-snp.init-data"] == "pass", checks


@needs_containerd
@pytest.mark.parametrize("program", CONTAINERDS)
def test_containerd_reads_the_import_that_is_added(program, tmp_path):
    beside, main = tmp_path / "attested-ai-kata.toml", tmp_path / "config.toml"
    running = kata_node.containerd_version(dump(program, "--version").stdout)
    old = kata.below(running, "2.0")
    table = "io.containerd.grpc.v1.cri" if old else "io.containerd.cri.v1.runtime"
    beside.write_text("version = %d\n%s" % (2 if old else 3, lab.handler(table=table)))
    where = "io.containerd.grpc.v1.cri" if old else "io.containerd.cri.v1.runtime"
    theirs = '[plugins."%s"]\n  max_container_log_line_size = 4711\n' % where
    if old:
        main.write_text("version = 2\nimports = ['%s']\n%s" % (beside, theirs))
    else:
        main.write_text(core.imports("version = 3\n" + theirs, str(beside), str(main), True)["after"])
    told = dump(program, "--config", str(main), "config", "dump").stdout
    assert [one.name for one in kata_node.handlers(told)] == ["kata-qemu-snp"]
    # The reason why the role refuses containerd 1: what is beside takes the whole table's place.
    assert ("4711" in told) == (not old), told
    with pytest.raises(kata.KataError, match="its version is 2"):
        core.imports("version = 2\n" + theirs, str(beside), str(main), True)
    effective = dump(program, "--config", str(tmp_path / "none.toml"), "config", "dump").stdout
    covered = not core.imports("", "/etc/containerd/conf.d/x.toml", "/etc/containerd/config.toml", True, effective)["changed"]
    assert covered == (not kata.below(running, "2.2")), "containerd reads that folder by itself from 2.2 on"
