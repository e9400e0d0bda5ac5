# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook for a fleet: a machine that cannot be reached stops no other one, and stands in the table."""

from __future__ import annotations

import json
import os
import subprocess
import sys


def test_a_whole_batch_that_is_not_reached_stops_nobody(tmp_path):
    (tmp_path / "ssh").write_text("#!/bin/sh\necho 'No route to host' >&2\nexit 255\n")
    (tmp_path / "ssh").chmod(0o755)
    shared = {"ansible_connection": "ssh", "ansible_ssh_executable": str(tmp_path / "ssh")}
    hosts = {"one": {}, "two": {}, "three": {}}
    inventory = {"all": {"vars": shared, "children": {"tdx_hosts": {"hosts": hosts}}}}
    (tmp_path / "inventory.json").write_text(json.dumps(inventory))
    environment = dict(os.environ, ANSIBLE_LOCALHOST_WARNING="false", ANSIBLE_NOCOLOR="true", ANSIBLE_LOCAL_TEMP=str(tmp_path / "local"), COLUMNS="200")
    environment.setdefault("ANSIBLE_COLLECTIONS_PATH", os.pathsep.join(sys.path))
    command = [sys.executable, "-m", "ansible", "playbook", "-i", str(tmp_path / "inventory.json"), "attested.ai.hosts", "-e", "batch=1"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=200)
    table = done.stdout.partition("Hosts\n")[2]
    assert done.returncode == 2, done.stdout
    for name in hosts:
        assert any(line.split()[:2] == [name, "fail"] and "not reached" in line for line in table.splitlines()), done.stdout
