# SPDX-License-Identifier: GPL-3.0-or-later
"""The service itself: started by hand as its help says, and the manners that the other tests build on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from bmc.faults import Fault, parse
from bmc.machine import Machine, Refused
from bmc.models import MODELS
from bmc_support import Clock, desired, patience, wants
from ansible_collections.attested.ai.plugins.module_utils.redfish.acts import Options
from ansible_collections.attested.ai.plugins.module_utils.redfish.client import Client, Credentials
from ansible_collections.attested.ai.plugins.module_utils.redfish.machine import discover
from ansible_collections.attested.ai.plugins.module_utils.redfish.staging import converge
from ansible_collections.attested.ai.plugins.module_utils.redfish.wire import make_opener, parse_address, tls_context

TOOLS = Path(__file__).resolve().parents[3] / "tools" / "redfish"


def test_started_by_hand_it_serves_until_it_is_told_to_stop(tmp_path):
    (tmp_path / "password").write_text("x7-example\n")
    command = [sys.executable, "-m", "bmc", "hpe-snp", "--ca", str(tmp_path / "ca.pem"), "--password-file", str(tmp_path / "password"), "--boot-looks", "1"]
    with subprocess.Popen(
        [*command, "--fault", "drop-after:POST:Reset"], env={**os.environ, "PYTHONPATH": str(TOOLS)}, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            address = re.match(r"(\S+) is a hpe-snp with the user admin", process.stdout.readline())[1]
            clock = Clock()
            opener = make_opener(parse_address(address), tls_context(True, str(tmp_path / "ca.pem")), 20)
            with Client(opener, Credentials("admin", "x7-example"), address, clock=clock, sleep=clock.sleep) as client:
                target = discover(client, wait=patience(clock))
                made = converge(client, target, wants(target, desired("snp")), Options(reboot_ok=True), clock, clock.sleep)
            assert made.reboots == 2
        finally:
            process.send_signal(2)
            last = process.stdout.read()
    assert last.startswith("2 resets, ") and last.endswith(" 0 sessions left open\n")


def test_faults_are_written_as_the_help_says():
    assert parse("throttle:GET:/Bios:3:2:7") == Fault("throttle", "GET", "/Bios", 3, 2, "7")
    assert parse("redirect:::::https://elsewhere.example/x").value == "https://elsewhere.example/x"
    with pytest.raises(ValueError, match="no such fault 'explode'; there are drop-before"):
        parse("explode")


@pytest.mark.parametrize("model", sorted(MODELS))
def test_each_machine_keeps_its_rules(model):
    machine = Machine(MODELS[model], boot_looks=0)
    before = dict(machine.current)
    closed = [attr for attr in machine.model.attributes if machine.closed(attr)]
    assert closed
    for attr in closed:
        with pytest.raises(Refused):
            machine.write({attr.name: attr.values[-1] if attr.values else attr.upper})
    with pytest.raises(Refused):
        machine.write({"NoSuchAttribute": 1})
    free = next(attr for attr in machine.model.attributes if attr.values and not machine.closed(attr))
    other = next(value for value in free.values if value != free.default)
    with pytest.raises(Refused):
        machine.write({free.name: "nonsense", free.name + "x": other})
    assert machine.current == before and not machine.pending
    machine.write({free.name: other})
    assert machine.current == before and machine.pending == {free.name: other}
    machine.reset("ForceRestart")
    if machine.model.jobs:
        # Without a job a reset applies nothing.
        assert machine.current == before
        machine.schedule()
        machine.reset("ForceRestart")
    assert machine.current == {**before, free.name: other} and not machine.pending
