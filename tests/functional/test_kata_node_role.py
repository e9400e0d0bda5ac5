# SPDX-License-Identifier: GPL-3.0-or-later
"""The role kata on a node in a folder: there, again, another release, and back; what others changed; what it refuses. CONTAINERD names a real containerd."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit/kata"))

import kata_node_lab as lab  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.kubernetes import kata_node  # noqa: E402

WIDE = """version = 3
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.kata-qemu-snp]
pod_annotations = ["io.katacontainers.*"]
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.kata-clh]
runtime_type = 'io.containerd.kata-clh.v2'
"""
INIT_DATA = "io.katacontainers.config.hypervisor.cc_init_data"


@pytest.fixture
def node(tmp_path):
    return lab.Node(tmp_path / "node")


def test_there_widened_repaired_another_release_and_back(node, tmp_path):
    before = node.tree()
    go = lab.archive(tmp_path, "kata-go-static-4.3.0-amd64", "qemu-snp", "qemu-coco-dev")
    given = {"kata_archives": [go], "kata_shims": ["qemu-snp", "qemu-coco-dev"]}
    checked = node.run("--check", "--diff", **given)
    assert "changed=0" not in checked.stdout and node.tree() == before, checked.stdout

    done = node.run(**given)
    assert done.returncode == 0 and "state=checked attested=False" in done.stdout and node.restarts() == 1, done.stdout
    here = node.tree()
    assert here["opt/kata"].startswith(str(node.root / "opt/attested-ai-kata/4.3.0-")) and "opt/attested-ai-kata/archives" not in here
    runtimes = tomllib.loads(node.drop_in.read_text())["plugins"]["io.containerd.cri.v1.runtime"]["containerd"]["runtimes"]
    assert runtimes["kata-qemu-snp"]["pod_annotations"] == [INIT_DATA] and set(runtimes) == {"kata-qemu-snp", "kata-qemu-coco-dev"}
    assert node.config.read_text() == 'imports = ["%s"]  # attested.ai\n' % node.drop_in + before["etc/containerd/config.toml"]
    laid = tomllib.loads(here["etc/kata-containers/attested-ai/qemu-snp/config.d/50-attested-ai.toml"])
    assert laid == {"hypervisor": {"qemu": {"enable_annotations": ["cc_init_data"]}}, "runtime": {"experimental_force_guest_pull": True}}

    # Somebody puts files after ours, in both places.
    wide, other = node.root / "etc/kata-containers/attested-ai/qemu-snp/config.d/90-site.toml", node.root / "etc/containerd/zz.toml"
    wide.write_text('[hypervisor.qemu]\nenable_annotations = [".*"]\n')
    other.write_text(WIDE)
    node.config.write_text(node.config.read_text().replace('toml"]', 'toml", "%s"]' % other, 1))
    # The role puts its own right. What is somebody else's it leaves, and says that it is wrong.
    found, left = node.refusals({"kata_method": "check", "kata_shims": given["kata_shims"]}, given)
    assert all(code in found for code in ("[kata.qemu-snp.forwarded]", "[kata.qemu-snp.annotations]", "[kata.handlers-stale]")), found
    assert not wide.exists() and other.read_text() == WIDE and "[kata.qemu-snp.forwarded]" in left and "qemu-snp.annotations" not in left, left
    node.config.write_text(node.config.read_text().replace(', "%s"' % other, ""))
    other.unlink()

    # Another build, with another shim: what is not asked for any more goes, in Kata's configuration and in containerd's.
    rust = lab.archive(tmp_path, "kata-static-4.3.0-amd64", "qemu-tdx-runtime-rs", rust=True, mark="new")
    other_given = {"kata_archives": [go, rust], "kata_shims": ["qemu-snp", "qemu-tdx-runtime-rs"]}
    restarts = node.restarts()
    first, again = node.changes(other_given, other_given)
    assert first > 0 and again == 0 and node.restarts() == restarts + 1
    here = node.tree()
    assert "etc/kata-containers/attested-ai/qemu-coco-dev/configuration.toml" not in here
    assert "kata-qemu-coco-dev" not in node.drop_in.read_text() and "runtime-rs/bin/containerd-shim-kata-v2" in node.drop_in.read_text()
    assert len([name for name in here if name.startswith("opt/attested-ai-kata/") and name.count("/") == 2]) == 1, "the older release is gone"

    gone, again = node.changes({"kata_state": "absent"}, {"kata_state": "absent"})
    assert gone > 0 and again == 0 and node.restarts() == restarts + 2
    left = {name: text for name, text in node.tree().items() if text != "/"}
    assert left == {name: text for name, text in before.items() if text != "/"}


def test_nothing_that_cannot_be_right_begins_and_a_cut_run_is_finished(node, tmp_path):
    archive = lab.archive(tmp_path, "kata-go-static", "qemu-snp")
    given = {"kata_archives": [archive], "kata_shims": ["qemu-snp"]}
    before = node.tree()
    cases = (
        ({"kata_archives": []}, "Nothing is fetched without"),
        ({"kata_archives": [{**archive, "sha256": "0" * 64}]}, "and %s was asked for" % ("0" * 64)),
        ({"kata_version": "3.28.0"}, "[advisory] GHSA-q49m-57vm-c8cc"),
        ({"kata_shims": ["qemu-cca"]}, "[unknown-shim]"),
        ({"kata_archives": [archive], "kata_shims": ["qemu-snp", "qemu-tdx-runtime-rs"]}, "kata-static those that end with -runtime-rs"),
    )
    for said, (changed, words) in zip(node.refusals(*({**given, **changed} for changed, _words in cases)), cases):
        assert words in said, (changed, said)
    here = {name: text for name, text in node.tree().items() if not name.startswith("opt/attested-ai-kata")}
    assert here == before and node.restarts() == 0
    # What was unpacked half way is no release, and a folder of somebody else's is none of ours.
    places = [one for one in (node.root / "opt/attested-ai-kata").iterdir() if one.name.startswith("4.3.0")]
    assert places and not any((one / ".complete").exists() for one in places)
    done = node.run(**given)
    assert done.returncode == 0, done.stdout
    (node.root / "opt/kata").unlink()
    (node.root / "opt/kata").mkdir()
    (node.folder / "kvm").unlink()
    broken, refused = node.refusals({"kata_method": "check", "kata_shims": ["qemu-snp"]}, given)
    assert "[kata.qemu-snp.files]" in broken and "Half removed" in broken, broken
    assert "Switch virtualization on" in refused and "was not put there by this role" in refused, refused


@pytest.mark.skipif(not lab.REAL, reason="no real containerd: CONTAINERD names none")
def test_real_containerds_read_the_handlers_beside_their_own_configuration(tmp_path):
    """Each that is named: the file beside leaves all else there; one that is too old is refused, for what is beside takes all else away."""
    for number, program in enumerate(lab.REAL):
        node = lab.Node(tmp_path / str(number), "version = 3\n\n[plugins.'io.containerd.cri.v1.runtime']\n  max_container_log_line_size = 4711\n"
                        "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.mine]\n  runtime_type = 'io.containerd.runc.v2'\n", program)  # fmt: skip
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        done = node.run(kata_archives=[lab.archive(tmp_path / str(number), "kata-go-static", "qemu-snp")], kata_shims=["qemu-snp"])
        if kata_node.below(kata_node.containerd_version(said), "2.0"):
            assert done.returncode != 0 and "is too old" in done.stdout, done.stdout
            continue
        assert done.returncode == 0, done.stdout
        dump = subprocess.run([program, "--config", str(node.config), "config", "dump"], capture_output=True, text=True, check=True).stdout
        (kata,) = kata_node.handlers(dump)
        assert kata.forwarded == (INIT_DATA,) and "4711" in dump and "runtimes.mine" in dump, dump
