# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of the role snp_host in real runs: confirmations, the cache of VCEKs against a key distribution service on loopback, the table for guests."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import datetime, timezone

import pytest
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import load_roots
from ansible_collections.attested.ai.plugins.module_utils.endorsements.store import Store
from ansible_collections.attested.ai.plugins.module_utils.errors import EndorsementError
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_certtable import parse_certtable
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import Inputs
from ansible_collections.attested.ai.plugins.plugin_utils.snp_certificates import certificate_table
from collateral_lab import Fault, Lab, Services
from role_lab import play
from snp_lab import GOOD

pytestmark = pytest.mark.costly
TCB = {"bootloader": 4, "tee": 10, "snp": 24, "microcode": 219}


@pytest.fixture(scope="module")
def lab():
    return Lab()


@pytest.fixture
def services(lab):
    with Services(lab) as running:
        running.crl_issued = datetime.now(timezone.utc).replace(microsecond=0)
        yield running


def recording(lab, *numbers, **changes):
    document = json.loads(json.dumps(GOOD))
    document["sev"]["get-id"] = b"".join(lab.chip(number) for number in numbers).hex()
    document["sev"].update(changes)
    return document


def settings(services, directory, **more):
    (directory / "policy.json").write_text(json.dumps(services.lab.policy()))
    given = {
        "snp_host_collateral_store": str(directory / "store"),
        "snp_host_kds_url": services.url,
        "snp_host_collateral_policy": str(directory / "policy.json"),
    }
    return {**given, **more}


def test_a_fleet_fills_one_store_and_asks_for_each_certificate_once(lab, services, tmp_path):
    hosts = {
        "two-sockets": {"recording": recording(lab, 1, 2), "snp_host_certificates": str(tmp_path / "guests" / "one.bin")},
        # The reported TCB is held back: the certificate for the current one is fetched, too.
        "held-back": {"recording": recording(lab, 3, **{"snp-platform-status": "01370103180000000000000000000000040a0000000019db040a0000000018db"})},
        "same-again": {"recording": recording(lab, 1, 2)},
    }
    services.faults.append(Fault("/vcek/v1/Genoa/%s" % lab.chip(2).hex(), status=429, headers={"Retry-After": "1"}))
    status, output = play(tmp_path, hosts, "collateral", **settings(services, tmp_path))
    assert status == 0, output
    veks = [entry for entry in Store(str(tmp_path / "store")).index().entries.values() if entry.kind == "amd-vek"]
    assert len(veks) == 4
    asked = {number: services.asked_for(lab.chip(number).hex()) for number in (1, 2, 3)}
    assert asked == {1: 1, 2: 2, 3: 2}, asked  # the second chip was refused once
    table = parse_certtable((tmp_path / "guests" / "one.bin").read_bytes())
    assert [name for name, _data in table.entries] == ["vcek", "ask", "ark"]
    assert table.get("vcek") == lab.vcek("genoa", lab.chip(1), TCB)[1]
    before = sum(services.asked.values())
    status, output = play(tmp_path, hosts, "collateral", **settings(services, tmp_path))
    assert status == 0 and "changed=1" not in output and sum(services.asked.values()) == before, output


def test_a_host_that_hides_its_chips_and_a_service_that_fails_stop_that_host_alone(lab, services, tmp_path):
    services.faults.append(Fault(lab.chip(9).hex(), times=99, status=404))
    hosts = {"hidden": {"recording": recording(lab)}, "unknown": {"recording": recording(lab, 9)}, "good": {"recording": recording(lab, 1)}}
    status, output = play(tmp_path, hosts, "collateral", **settings(services, tmp_path))
    assert status == 2 and "does not tell its chips" in output and "hidden" in output.split("PLAY RECAP")[1]
    recap = {line.split()[0]: line for line in output.split("PLAY RECAP")[1].splitlines() if ":" in line}
    assert "failed=1" in recap["hidden"] and "failed=1" in recap["unknown"] and "failed=0" in recap["good"]


def test_another_chips_certificate_never_gets_into_a_table(lab, services, tmp_path):
    play(tmp_path, {"one": {"recording": recording(lab, 1)}}, "collateral", **settings(services, tmp_path))
    store, roots = Store(str(tmp_path / "store")), load_roots(Inputs().policy(lab.policy()))
    chip = {"product": "genoa", "chip_id": lab.chip(1).hex(), "tcb": {**TCB, "fmc": None}}
    assert certificate_table(store, chip, roots)
    for wrong in ({**chip, "chip_id": lab.chip(2).hex()}, {**chip, "tcb": {**TCB, "snp": 25}}, {**chip, "product": "milan"}, {**chip, "chip_id": "00"}):
        with pytest.raises(EndorsementError):
            certificate_table(store, wrong, roots)
    # Under AMD's own roots alone it proves nothing.
    with pytest.raises(EndorsementError):
        certificate_table(store, chip, load_roots())
    entry = next(entry for entry in store.index().entries.values() if entry.kind == "amd-vek")
    path = tmp_path / "store" / entry.path
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(EndorsementError):
        certificate_table(store, chip, roots)


def stick(directory):
    """(path, SHA-256) of something of a hashstick's size."""
    (directory / "stick").write_bytes(b"x" * 432)
    return str(directory / "stick"), hashlib.sha256(b"x" * 432).hexdigest()


def test_nothing_is_done_without_its_confirmation(tmp_path):
    path, digest = stick(tmp_path)
    confirmed = {"snp_host_commit_confirm": "{{ inventory_hostname }}", "snp_host_config_confirm": "{{ inventory_hostname }}"}
    named = {"snp_host_vlek": path, "snp_host_vlek_confirm": "{{ inventory_hostname }}"}
    # What a host is given, and what it is told; None where it may go on.
    cases = {
        "nothing": ({}, None),
        "confirmed": ({"snp_host_commit": True, "snp_host_config": "reset", **confirmed}, None),
        "vlek": ({**named, "snp_host_vlek_sha256": digest}, None),
        "careless": ({"snp_host_commit": True, "snp_host_commit_confirm": "yes"}, "can never be rolled back"),
        "config": ({"snp_host_config": "reset"}, "Set snp_host_config_confirm"),
        "unused": ({"snp_host_mask_chip_id": True}, "count only with snp_host_config: set"),
        "table": ({"snp_host_certificates": "/x"}, "needs snp_host_collateral_store"),
        "unconfirmed": ({"snp_host_vlek": path, "snp_host_vlek_sha256": digest}, "snp_host_vlek_confirm"),
        "other": ({**named, "snp_host_vlek_sha256": "0" * 64}, "has the SHA-256 " + digest),
        "gone": ({**named, "snp_host_vlek": path + "2", "snp_host_vlek_sha256": digest}, "is not there"),
    }
    _status, output = play(tmp_path, {name: variables for name, (variables, _said) in cases.items()}, "assert")
    recap = {line.split()[0]: line for line in output.split("PLAY RECAP")[1].splitlines() if ":" in line}
    for name, (_variables, said) in cases.items():
        assert ("failed=1" in recap[name]) is (said is not None), output
        assert said is None or said in output


def test_without_firmware_the_acts_fail_by_name_and_leave_no_hashstick(tmp_path):
    path, _digest = stick(tmp_path)
    variables = {"snp_host_vlek": path, "snp_host_commit": True, "ansible_become": False}
    before = set(os.listdir("/run"))
    status, output = play(tmp_path, {"host1": {}}, "platform", **variables)
    assert status == 2 and "/dev/sev" in output and "Traceback" not in output, output
    assert [name for name in set(os.listdir("/run")) - before if "vlek" in name] == []
    status, output = play(tmp_path, {"host1": {}}, "platform", ["--check"], **variables)
    assert status == 0 and "...ignoring" in output


def test_check_mode_looks_at_the_hashstick_and_leaves_none(tmp_path):
    (tmp_path / "stick").write_bytes(b"x" * 431)
    before = set(os.listdir("/run"))
    variables = {"snp_host_vlek": str(tmp_path / "stick"), "ansible_become": False}
    status, output = play(tmp_path, {"host1": {}}, "platform", ["--check", "--diff"], **variables)
    assert status == 0 and "it is no wrapped VLEK hashstick" in output and "changed=0" in output, output
    assert [name for name in set(os.listdir("/run")) - before if "vlek" in name] == []
