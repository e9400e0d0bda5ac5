# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
"""The role in real runs over recorded machines: table, files and exit status; and the shape behind it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.plugin_utils import preflight_view

pytestmark = pytest.mark.costly
RECORDED = Path(__file__).parent / "recorded"
HOSTILE = "<script>alert(1)</script>{{ 7 * 7 }}"


def probe(outcome, name="a.b"):
    return {"id": name, "area": "cpu", "outcome": outcome, "observed": "seen", "expected": "x", "source": "y", "fix": "do"}


def view(*outcomes, waivers=None, **more):
    found = {"probes": [probe(outcome, "p.%d" % number) for number, outcome in enumerate(outcomes)], **more}
    return preflight_view.view({"h": {"v": found}}, ["h"], "v", waivers or {})


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [(["pass", "skipped"], "ready"), (["pass", "fail", "unknown"], "not-ready"), (["pass", "unknown"], "unknown"), (["skipped"], "unknown"), ([], "unknown")],
)
def test_the_verdict_is_closed(outcomes, verdict):
    shown = view(*outcomes)
    assert shown["hosts"][0]["verdict"] == verdict and shown["ready"] is (verdict == "ready") and shown["rows"]


def test_waivers_open_what_they_name_and_are_shown():
    shown = view("fail", "pass", waivers={"p.0": "we know", "p.9": "never"})
    assert shown["ready"] and shown["unused_waivers"] == ["p.9"]
    assert shown["rows"] == [{"host": "h", "outcome": "waived", "check": "p.0", "found": "seen. Waived: we know"}]
    assert not view("fail", waivers={"p.1": "another"})["ready"]


@pytest.mark.parametrize("waivers", [{"p.0": ""}, {"p.0": None}, ["p.0"]])
def test_a_waiver_needs_a_reason(waivers):
    with pytest.raises(FormatError):
        view("fail", waivers=waivers)


def test_a_host_without_a_result_is_not_ready():
    shown = preflight_view.view({"a": {}, "b": {"v": {"msg": "no python"}}}, ["a", "b", "c"], "v", {})
    assert not shown["ready"] and [host["verdict"] for host in shown["hosts"]] == ["not-ready"] * 3
    assert shown["hosts"][1]["reason"] == "no python"
    assert not preflight_view.view({}, [], "v", {})["ready"]


def test_what_is_no_probe_is_refused():
    with pytest.raises(FormatError):
        view("maybe")


def play(directory, names, **variables):
    hosts = {}
    for name in names:
        document = json.loads((RECORDED / (name.split("+")[0] + ".json")).read_text())
        if name.endswith("+hostile"):
            document["kernel_log"]["lines"][-1] = "virt/tdx: initialization failed: " + HOSTILE
        # A recording is data: what it holds must not be taken for a template.
        (directory / (name + ".json")).write_text(json.dumps(document))
        hosts[name] = {"preflight_recording": "{{ lookup('ansible.builtin.file', '%s/%s.json') | ansible.builtin.from_json }}" % (directory, name)}
    shared = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "preflight_become": False}
    (directory / "inventory.json").write_text(json.dumps({"all": {"hosts": hosts, "vars": shared}}))
    given = {"preflight_directory": str(directory / "out"), **variables}
    program = shutil.which("ansible-playbook") or str(Path(sys.executable).parent / "ansible-playbook")
    command = [program, "attested.ai.preflight", "-i", str(directory / "inventory.json"), "-e", json.dumps(given)]
    environment = dict(os.environ, COLUMNS="200", ANSIBLE_LOCALHOST_WARNING="0", ANSIBLE_HOME=str(directory / "home"))
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False)


def test_good_machines_open_the_gate_and_a_second_run_changes_nothing(tmp_path):
    for changed in (True, False):
        done = play(tmp_path, ["tdx-good", "snp-good"])
        assert done.returncode == 0, done.stdout
        assert ("changed=0" in done.stdout.split("snp-good  ")[-1] and "changed=3" in done.stdout) is changed
    document = json.loads((tmp_path / "out" / "preflight.json").read_text())
    assert document["ready"] and [host["host"] for host in document["hosts"]] == ["tdx-good", "snp-good"]


def test_broken_machines_close_it_and_stay_text_on_the_page(tmp_path):
    done = play(tmp_path, ["tdx-good", "tdx-hibernation+hostile", "snp-broken"])
    assert done.returncode == 2, done.stdout
    assert "tdx.kernel-nohibernate" in done.stdout and "snp.iommu-translation" in done.stdout
    page = (tmp_path / "out" / "preflight.html").read_text()
    assert "<script" not in page and "{{ 7 * 7 }}" in page and page.count("<section>") == 3
    assert (tmp_path / "out" / "preflight.json").stat().st_mode & 0o777 == 0o640


def test_the_gate_can_be_left_open_and_the_files_out(tmp_path):
    done = play(tmp_path, ["snp-broken"], preflight_gate=False, preflight_html_file="", preflight_json_file="")
    assert done.returncode == 0, done.stdout
    assert not (tmp_path / "out").exists()
