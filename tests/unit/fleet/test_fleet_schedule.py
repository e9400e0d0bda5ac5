# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role attestation_monitor writes for systemd and Kubernetes, judged by systemd itself and read as a manifest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

try:
    import kubernetes_validate
except ImportError:
    kubernetes_validate = None

# The oldest that is looked at, and the newest of the package.
VERSIONS = ("1.30", "1.37")
ROLE = Path(__file__).resolve().parents[3] / "roles" / "attestation_monitor"
NAMES = ("attested-monitor.service", "attested-monitor.timer", "cronjob.yml")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    directory = tmp_path_factory.mktemp("units")
    program = directory / "ansible playbook"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    variables = {
        "attestation_monitor_ansible_playbook": str(program), "attestation_monitor_inventories": ["/etc/attested/hosts.yml"],
        "attestation_monitor_variables": ["/etc/attested/monitor.yml"], "attestation_monitor_arguments": ["--extra-vars=a=100% of $HOME"],
        "attestation_monitor_environment": {"ANSIBLE_CONFIG": "/etc/attested/100%.cfg"}, "attestation_monitor_image": "registry.example.org/ee:1",
        "attestation_monitor_writable": ["/var/lib/prometheus/node-exporter"], "attestation_monitor_image_pull_secrets": ["pull"],
    }  # fmt: skip
    tasks = [{"ansible.builtin.template": {"src": f"{ROLE}/templates/{name}.j2", "dest": f"{directory}/{name}", "mode": "0644"}} for name in NAMES]
    play = [{"hosts": "localhost", "gather_facts": False, "vars_files": [f"{ROLE}/defaults/main.yml", f"{ROLE}/vars/main.yml", "given.json"], "tasks": tasks}]
    (directory / "given.json").write_text(json.dumps(variables))
    (directory / "play.yml").write_text(json.dumps(play))
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-c", "local", "play.yml"]
    done = subprocess.run(command, cwd=directory, env={**os.environ}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


def test_arguments_reach_the_program_as_they_are(rendered):
    text = (rendered / NAMES[0]).read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    assert line.endswith(
        '/ansible playbook" "attested.ai.monitor" "--inventory=/etc/attested/hosts.yml" "--extra-vars=@/etc/attested/monitor.yml"'
        ' "--extra-vars=a=100%% of $$HOME"'
    )
    assert "ReadWritePaths=-/var/lib/attested/monitor -/var/lib/prometheus/node-exporter" in text and '"ANSIBLE_CONFIG=/etc/attested/100%%.cfg"' in text


def test_systemd_takes_the_units(rendered):
    program = shutil.which("systemd-analyze")
    if not program:
        pytest.skip("systemd-analyze is not at hand: install systemd")
    for name in NAMES[:2]:
        done = subprocess.run([program, "verify", str(rendered / name)], capture_output=True, text=True, check=False)
        told = [line for line in done.stderr.splitlines() if "attested-monitor" in line]
        assert done.returncode == 0 and not told, done.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_the_cronjob_fits_the_schema_of_kubernetes(rendered, version):
    if kubernetes_validate is None:
        assert os.environ.get("CI", "").lower() not in ("1", "true"), "kubernetes-validate is missing, which CI must have"
        pytest.skip("the package kubernetes-validate is not installed")
    job = yaml.safe_load((rendered / NAMES[2]).read_text())
    kubernetes_validate.validate(job, version, strict=True)
    job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["volumes"][0]["persistentVolumeClaim"]["claim"] = "x"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, version, strict=True)


def test_the_cronjob_never_overlaps_and_holds_no_key(rendered):
    job = yaml.safe_load((rendered / NAMES[2]).read_text())
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert job["kind"] == "CronJob" and job["spec"]["concurrencyPolicy"] == "Forbid" and pod["restartPolicy"] == "Never"
    (container,), (keys,) = pod["containers"], pod["initContainers"]
    for one in (container, keys):
        assert one["securityContext"]["readOnlyRootFilesystem"] and one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounted = {mount["name"] for one in (container, keys) for mount in one["volumeMounts"]}
    assert mounted == set(volumes) and volumes["secrets"]["emptyDir"]["medium"] == "Memory"
    assert pod["imagePullSecrets"] == [{"name": "pull"}] and container["command"][1] == "attested.ai.monitor"
    assert {"name": "HOME", "value": "/tmp"} in container["env"]
