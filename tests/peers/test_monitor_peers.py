# SPDX-License-Identifier: GPL-3.0-or-later
"""The monitor's acts and schedules by the real modules of other collections: a node is cordoned and opened by kubernetes.core and a CronJob made and taken
away, before a small API or a real kube-apiserver where one is named; a schedule by awx.awx before a double of AWX's interface. The small API and the
double prove our side only."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import awx_double  # noqa: E402
import pod_api_lab  # noqa: E402

COLLECTIONS = os.environ.get("AWX_COLLECTIONS", "")
needs_kubernetes = pytest.mark.skipif(
    importlib.util.find_spec("kubernetes") is None, reason="Python's kubernetes is not installed, which kubernetes.core needs"
)


@pytest.fixture(params=["small", "real"])
def api(request, tmp_path, monkeypatch):
    if request.param == "small":
        monkeypatch.setitem(pod_api_lab.SERVED, "batch/v1", {"cronjobs": ("CronJob", True)})
        monkeypatch.setitem(pod_api_lab.PLURALS, "CronJob", ("batch/v1", "cronjobs", True))
        with pod_api_lab.small() as found:
            yield found
        return
    if not all(pod_api_lab.REAL):
        pytest.skip("no real API: KUBE_APISERVER and ETCD name no programs")
    with pod_api_lab.real(tmp_path) as found:
        yield found


def run(tmp_path, *tasks, words=(), variables=None, **environment):
    play = [{"hosts": "localhost", "gather_facts": False, "tasks": list(tasks), "vars": variables or {}}]
    (tmp_path / "play.json").write_text(json.dumps(play))
    inventory = {"all": {"hosts": {"localhost": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}}}}
    inventory["all"]["hosts"].update((variables or {}).get("guests", {}))
    (tmp_path / "hosts.json").write_text(json.dumps(inventory))
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "0", "HOME": str(tmp_path), "K8S_AUTH_KUBECONFIG": "", **environment}
    environment.setdefault("ANSIBLE_COLLECTIONS_PATH", os.pathsep.join(sys.path))
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "hosts.json", "play.json", *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert "Traceback" not in done.stdout, done.stdout + done.stderr
    return done.returncode, done.stdout + done.stderr


def role(tasks_from="main"):
    return {"ansible.builtin.include_role": {"name": "attested.ai.attestation_monitor", "tasks_from": tasks_from}}


def tell(what):
    return {"ansible.builtin.debug": {"msg": "told " + what}}


@needs_kubernetes
def test_a_refused_guest_takes_its_node_out_of_service_and_brings_it_back(api, tmp_path):
    """A round whose guest gave nothing that anybody could read, and of which nothing can be foretold: its node is cordoned all the same. Then the way back,
    as the role goes it. One play, because starting Ansible takes the time."""
    api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node2"}, "spec": {"podCIDR": "10.0.0.0/24"}})
    kubeconfig = pod_api_lab.kubeconfig(api, tmp_path / "kubeconfig")
    seen = {"result": {"schema": "attested.ai/result/1"}, "evidence": {"schema": "none"}}
    steps = [{"kind": "cordon", "node": "node2", "kubeconfig": kubeconfig}]
    variables = {
        "guests": {"guest1": {"attestation_monitor_quarantine": steps, "attestation_monitor_seen": seen}}, "attestation_monitor_hosts": ["guest1"],
        "attestation_monitor_directory": str(tmp_path / "kept"), "attestation_monitor_rules": {"quarantine_after": 1}, "attestation_monitor_fail_on": "acts",
        "attestation_monitor_collateral_store": str(tmp_path / "store"), "__attestation_monitor_act": {"host": "guest1", "act": "release"},
    }  # fmt: skip
    look = {"kubernetes.core.k8s_info": {"kubeconfig": kubeconfig, "api_version": "v1", "kind": "Node", "name": "node2"}, "register": "node"}
    tasks = [
        {"block": [role("round")], "rescue": [tell("{{ ansible_failed_result.msg }}")]},
        look, tell("closed {{ node.resources[0].spec.unschedulable }}"),
        {"ansible.builtin.set_fact": {"__attestation_monitor_done": [], "__attestation_monitor_failed": []}},
        role("host"), tell("failed {{ __attestation_monitor_failed }} done {{ __attestation_monitor_done | map(attribute='act') }}"),
    ]  # fmt: skip
    status, said = run(tmp_path, *tasks, variables=variables)
    assert status == 0 and "told forecast: " in said and "told closed True" in said and "told failed [] done ['release']" in said, said
    assert json.loads((tmp_path / "kept" / "state.json").read_text())["hosts"]["guest1"]["quarantined"] is True
    assert not api.get("Node", "node2")["spec"].get("unschedulable")


@needs_kubernetes
def test_the_cronjob_is_made_once_and_taken_away(api, tmp_path):
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "attested-monitor"}})
    variables = {
        "attestation_monitor_scheduler": "kubernetes", "attestation_monitor_image": "registry.example.org/ee:1",
        "attestation_monitor_kubeconfig": pod_api_lab.kubeconfig(api, tmp_path / "kubeconfig"),
        "attestation_monitor_inventories": ["/etc/attested/config/hosts.yml"],
    }  # fmt: skip
    changed = tell("changed {{ __attestation_monitor_cronjob.changed }} schedule {{ __attestation_monitor_found.resources | map(attribute='spec.schedule') }}")
    gone = {**role(), "vars": {"attestation_monitor_state": "absent"}}
    status, said = run(tmp_path, role(), changed, role(), changed, gone, changed, variables=variables)
    assert status == 0, said
    told = [line.split('"')[3] for line in said.splitlines() if '"told changed' in line]
    assert told == [
        "told changed True schedule ['17 * * * *']", "told changed False schedule ['17 * * * *']", "told changed True schedule []",
    ]  # fmt: skip
    assert api.get("CronJob", "attested-monitor", "attested-monitor") is None


@pytest.mark.skipif(not COLLECTIONS, reason="set AWX_COLLECTIONS to a folder with ansible_collections/awx/awx")
def test_the_schedule_of_awx_is_made_once_changed_and_taken_away(tmp_path):
    double = awx_double.Double()
    organization = double.add("organizations", name="Default")
    template = double.add("job_templates", name="Attestation monitor", organization=organization["id"])
    server = awx_double.serve(double)
    environment = {
        "CONTROLLER_HOST": f"http://127.0.0.1:{server.server_address[1]}", "CONTROLLER_OAUTH_TOKEN": "token-of-the-test",
        "ANSIBLE_COLLECTIONS_PATH": f"{os.environ.get('ANSIBLE_COLLECTIONS_PATH', os.pathsep.join(sys.path))}:{COLLECTIONS}",
    }  # fmt: skip

    def changes(*words, **more):
        variables = {"attestation_monitor_scheduler": "awx", **more}
        double.writes.clear()
        status, said = run(tmp_path, role(), words=words, variables=variables, **environment)
        assert status == 0 and "token-of-the-test" not in said, said
        assert bool(double.writes) == ("changed=0" not in said) or "--check" in words
        return bool(double.writes)

    try:
        assert not changes("--check")
        assert changes()
        (schedule,) = double.stored["schedules"].values()
        assert (schedule["unified_job_template"], schedule["enabled"]) == (template["id"], True) and "FREQ=HOURLY" in schedule["rrule"]
        assert not changes()
        assert changes(attestation_monitor_awx_rrule="DTSTART:20260101T003000Z RRULE:FREQ=HOURLY;INTERVAL=2")
        (schedule,) = double.stored["schedules"].values()
        assert "INTERVAL=2" in schedule["rrule"]
        assert changes(attestation_monitor_state="absent") and double.stored["schedules"] == {}
        assert not changes(attestation_monitor_state="absent")
    finally:
        server.shutdown()
        server.server_close()
