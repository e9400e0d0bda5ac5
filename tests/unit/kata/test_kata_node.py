# SPDX-License-Identifier: GPL-3.0-or-later
"""containerd and Kata of a node: what somebody widened, what an upgrade left, and the one line of containerd's configuration that is edited."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent))

import kata_unit_lab as lab  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError  # noqa: E402
from ansible_collections.attested.ai.plugins.plugin_utils import kata as core  # noqa: E402

CONFIG = "/etc/kata/qemu-snp/configuration.toml"
TARGET, MAIN = "/etc/containerd/conf.d/attested-ai-kata.toml", "/etc/containerd/config.toml"
OPEN = '["io.katacontainers.*"]'


def failed(facts, **changed):
    checks = core.node({"version": "4.3.0", "shims": ["qemu-snp"], **changed}, facts)
    assert all(one["fix"] for one in checks if one["outcome"] == "fail")
    return [one["id"] for one in checks if one["outcome"] == "fail"]


def files(text, over=""):
    return {CONFIG: text, **({"/etc/kata/qemu-snp/config.d/50-x.toml": over} if over else {})}


def test_a_node_as_it_shall_be():
    assert failed(lab.facts()) == [] and failed(lab.facts(), shims=[]) == []
    # As containerd 1.7 writes it.
    assert failed(lab.facts(lab.handler(table="io.containerd.grpc.v1.cri"), containerd="1.7.24")) == []
    assert core.node_files(lab.facts()["dump"]) == {"read": [CONFIG], "folders": ["/etc/kata/qemu-snp/config.d"], "stat": ["/opt/kata/bin/shim"]}


@pytest.mark.parametrize(
    ("facts", "codes"),
    [
        (lab.facts(containerd="1.6.20"), ["kata.containerd"]),
        (lab.facts("[plugins]\n"), ["kata.handlers"]),
        (lab.facts(lab.handler(), lab.handler("clh")), ["kata.handlers-stale"]),
        (lab.facts(lab.handler(), lab.handler("qemu-snp-debug")), ["kata.handlers-stale"]),
        (lab.facts(lab.handler(forwarded=OPEN)), ["kata.qemu-snp.forwarded"]),
        (lab.facts(lab.handler(forwarded='["%scc_init_data", "%skernel_params"]' % (lab.PREFIX, lab.PREFIX))), ["kata.qemu-snp.forwarded"]),
        (lab.facts(lab.handler(forwarded="[]")), ["kata.qemu-snp.init-data"]),
        (lab.facts(files=files('[hypervisor.qemu]\nenable_annotations = ["cc_init_data", "virtio_fs_extra_args"]\n')), ["kata.qemu-snp.annotations"]),
        (lab.facts(files=files('[hypervisor.qemu]\nenable_annotations = [".*"]\n')), ["kata.qemu-snp.annotations", "kata.qemu-snp.init-data"]),
        # The last file wins as a whole: somebody put one after ours.
        (lab.facts(files=files('[hypervisor.qemu]\nenable_annotations = ["cc_init_data"]\n', '[hypervisor.qemu]\nenable_annotations = ["path"]\n')),
         ["kata.qemu-snp.annotations", "kata.qemu-snp.init-data"]),
        (lab.facts(files=files("[hypervisor.qemu]\n")), ["kata.qemu-snp.init-data"]),
        (lab.facts(files=files("[runtime]\n")), ["kata.qemu-snp.annotations", "kata.qemu-snp.init-data"]),
        (lab.facts(files={}), ["kata.qemu-snp.files"]),
        ({**lab.facts(), "present": []}, ["kata.qemu-snp.files"]),
        (lab.facts(release="3.28.0\n"), ["kata.release"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found(facts, codes):
    assert failed(facts) == codes


def test_the_reason_names_the_danger():
    checks = core.node({"shims": ["qemu-snp"]}, lab.facts(files=files('[hypervisor.qemu]\nenable_annotations = ["cc_init_data", "path"]\n')))
    assert "the pod names the hypervisor" in next(one["fix"] for one in checks if one["id"] == "kata.qemu-snp.annotations")


@pytest.mark.parametrize("changed", [{"dump": "[x"}, {"containerd": "no"}, {"files": {CONFIG: "[x"}}])
def test_what_cannot_be_read_is_an_error_in_words(changed):
    with pytest.raises(AttestedError):
        core.node({"shims": ["qemu-snp"]}, {**lab.facts(), **changed})


TEXTS = {
    "nothing": "",
    "version": "version = 3\n",
    "comments": '# imports = ["/x"]\nversion = 4\n# more\n\n[plugins."io.containerd.cri.v1.runtime"]\n  imports = ["/not/mine"]\n',
    "one": "version = 3\nimports = ['/a.toml']\n[debug]\n  level = 'info'\n",
    "two": 'version = 3\nimports = [ "/a.toml", "/b/*.toml", ]  # of the site\n',
    "empty": "version = 3\nimports = []\n",
    "end": "version = 3",
}


@pytest.mark.parametrize("name", TEXTS)
def test_an_import_comes_and_goes_and_all_else_stays(name):
    text = TEXTS[name]
    there = core.imports(text, TARGET, MAIN, True)
    assert there["changed"] and TARGET in tomllib.loads(there["after"])["imports"]
    assert not core.imports(there["after"], TARGET, MAIN, True)["changed"], "once"
    back = core.imports(there["after"], TARGET, MAIN, False)
    assert back["changed"] and tomllib.loads(back["after"] or "") == tomllib.loads(text)
    if "imports = [" not in text.replace('# imports = ["/x"]', "").replace('  imports = ["/not/mine"]', ""):
        assert back["after"] == text, "not a character is left"
    assert not core.imports(text, TARGET, MAIN, False)["changed"]


@pytest.mark.parametrize("text", ["imports = ['/etc/containerd/conf.d/*.toml']\nversion = 3\n", "version = 3\nimports = ['conf.d/*.toml']\n"])
def test_what_is_imported_already_is_not_touched(text):
    assert not core.imports(text, TARGET, MAIN, True)["changed"]
    assert not core.imports("version = 3\n", TARGET, MAIN, True, "imports = ['/etc/containerd/conf.d/*.toml']\n")["changed"]


@pytest.mark.parametrize(
    "text", ["version = 3\nimports = [\n  '/a.toml',\n]\n", "version = 2\n", "disabled_plugins = ['cri']\n", "[x", "version = 3\nimports = 'x'\n"]
)
def test_what_cannot_be_edited_safely_is_refused(text):
    with pytest.raises(AttestedError) as caught:
        core.imports(text, TARGET, MAIN, True)
    assert caught.value.fix or "no TOML" in str(caught.value) or "no list" in str(caught.value)


@given(st.lists(st.sampled_from(["/a.toml", "/b/*.toml", TARGET + "x"]), max_size=3, unique=True), st.booleans(), st.sampled_from(["", "  # why", " #"]))
def test_imports_of_any_order_survive(names, trailing, comment):
    text = "version = 3\nimports = [%s%s]%s\n[a]\nb = 1\n" % (", ".join('"%s"' % one for one in names), "," if trailing and names else "", comment)
    there = core.imports(text, TARGET, MAIN, True)["after"]
    assert tomllib.loads(there)["imports"] == [*names, TARGET]
    assert tomllib.loads(core.imports(there, TARGET, MAIN, False)["after"]) == tomllib.loads(text)
