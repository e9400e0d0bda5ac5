# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of the roles for hosts: whether a reboot is needed; what is found wrong stops a host, and so does that nothing was looked at."""

from __future__ import annotations

import json
import os

import pytest
from role_lab import play
from snp_lab import RECORDED

pytestmark = pytest.mark.costly
GOOD, BROKEN = (json.loads((RECORDED / name).read_text()) for name in ("tdx-good.json", "tdx-hibernation.json"))
WRONG = {"tdx.kernel-nohibernate": "known", "tdx.module-initialized": "known", "tdx.kvm-param": "known"}


def test_a_host_is_ready_only_if_something_was_checked_and_all_that_is_wrong_is_waived_with_a_reason(tmp_path, monkeypatch):
    # Nothing is loaded on the machine that the tests run on.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "modprobe").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin" / "modprobe").chmod(0o755)
    monkeypatch.setenv("PATH", "%s:%s" % (tmp_path / "bin", os.environ["PATH"]))
    shared = {"tee_host_tee": "tdx", "tee_host_result": {"reboot_required": False, "reboot_reasons": [], "verdict": "unverified", "wrong": []}}
    # What a host is given, and what it is told; None where it is ready.
    cases = {
        "good": ({"recording": GOOD}, None),
        "broken": ({"recording": BROKEN}, "tdx.kernel-nohibernate: the kernel gave up"),
        "waived": ({"recording": BROKEN, "tee_host_waivers": WRONG}, None),
        "careless": ({"recording": BROKEN, "tee_host_waivers": dict(WRONG, **{"tdx.kvm-param": ""})}, "each waiver needs a reason"),
        "blind": ({"recording": GOOD, "tee_host_areas": ["guest"]}, "nothing was checked"),
    }
    _status, output = play(tmp_path, {name: given for name, (given, _said) in cases.items()}, "verify", role="tee_host", **shared)
    recap = {line.split()[0]: "failed=1" in line for line in output.split("PLAY RECAP")[1].splitlines() if ":" in line}
    assert recap == {name: said is not None for name, (_given, said) in cases.items()}, output
    for _given, said in cases.values():
        assert said is None or said in output, output


def test_check_mode_knows_of_the_reboot_that_parameters_of_modules_would_need(tmp_path):
    cmdline = {"reboot_required": False, "next_kernel": "", "running_kernel": "6.17"}
    shared = {"tee_host_owner": "made_up_host", "__tee_host_cmdline": cmdline, "tee_host_modules": {"no_such_module": ["x=1"]}, "ansible_become": False}
    hosts = {name: {"__tee_host_modprobe_file": {"changed": changed}} for name, changed in (("new", True), ("there", False))}
    status, output = play(tmp_path, hosts, "reboot", ["--check"], role="tee_host", **shared)
    assert status == 0 and "new needs a reboot for /etc/modprobe.d/attested-ai-made-up-host.conf" in output and "there needs" not in output, output
    status, output = play(tmp_path, hosts, "reboot", ["--check"], role="tee_host", tee_host_state="absent", **shared)
    assert status == 0 and "new needs a reboot" in output and "there needs" not in output, output
