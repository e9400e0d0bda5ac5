# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests that are not this role's, in real runs of its tasks: they are neither replaced nor removed, and say who they belong to."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "hosts"))

from role_lab import play  # noqa: E402

pytestmark = pytest.mark.costly
ROLE = "confidential_vm"
MADE = {"refusals": [], "digest": "ab" * 32, "definition": "new\n"}


def failed(output: str) -> dict[str, bool]:
    return {line.split()[0]: "failed=1" in line for line in output.split("PLAY RECAP")[1].splitlines() if ":" in line}


def test_a_guest_of_the_other_driver_is_left_alone(tmp_path):
    unit = tmp_path / "attested-vm-guest.service"
    unit.write_text("[Service]\n")
    shared = {"confidential_vm_name": "guest-of-nobody", "confidential_vm_state": "absent"}
    hosts = {"libvirt": {"confidential_vm_driver": "libvirt"}, "auto": {}, "qemu": {"confidential_vm_driver": "qemu"}}
    _status, output = play(tmp_path, hosts, "elsewhere", role=ROLE, **shared, arguments=("--extra-vars", f"__confidential_vm_unit_path={unit}"))
    assert failed(output) == {"libvirt": True, "auto": True, "qemu": False}, output
    assert "is a guest of the driver qemu. Set confidential_vm_driver" in output


@pytest.mark.parametrize("replace", [False, True])
def test_only_what_this_role_made_is_replaced(tmp_path, replace):
    found = {"same": "ab" * 32, "ours": "cd" * 32, "theirs": ""}
    hosts = {name: {"__confidential_vm_found": {"exists": True, "running": True, "digest": digest}} for name, digest in found.items()}
    shared = {"confidential_vm_name": "guest", "confidential_vm_replace": replace, "confidential_vm_directory": str(tmp_path), "plan": MADE}
    (tmp_path / "guest").mkdir()
    (tmp_path / "guest/definition").write_text("old\n")
    _status, output = play(tmp_path, hosts, "refuse", ("--extra-vars", '{"__confidential_vm_plan": "{{ plan }}"}'), ROLE, **shared)
    assert failed(output) == {"same": False, "ours": not replace, "theirs": True}, output
    assert "(and not by this role), and runs. Remove it by hand" in output and (tmp_path / "guest/definition").read_text() == "old\n"
