# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of roles in real runs of ansible-playbook, on hosts that are recordings."""

from __future__ import annotations

import json
import os
import subprocess
import sys


def play(directory, hosts, task, arguments=(), role="snp_host", **variables):
    """Include one file of the role's tasks on each host; returns (exit status, output)."""
    inventory = {}
    for name, own in hosts.items():
        inventory[name] = {key: value for key, value in own.items() if key != "recording"}
        if "recording" in own:
            (directory / (name + ".json")).write_text(json.dumps(own["recording"]))
            inventory[name]["__%s_recording" % role] = "{{ lookup('ansible.builtin.file', '%s/%s.json') | ansible.builtin.from_json }}" % (directory, name)
    shared = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, **variables}
    (directory / "inventory.json").write_text(json.dumps({"all": {"hosts": inventory, "vars": shared}}))
    step = {"name": "Include", "ansible.builtin.include_role": {"name": "attested.ai." + role, "tasks_from": task}}
    (directory / "play.json").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [step]}]))
    environment = dict(os.environ, ANSIBLE_LOCALHOST_WARNING="false", ANSIBLE_NOCOLOR="true", ANSIBLE_LOCAL_TEMP=str(directory / "local"), COLUMNS="400")
    environment.setdefault("ANSIBLE_COLLECTIONS_PATH", os.pathsep.join(sys.path))
    command = [sys.executable, "-m", "ansible", "playbook", "-i", str(directory / "inventory.json"), str(directory / "play.json"), *arguments]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=200)
    return done.returncode, done.stdout
