# SPDX-License-Identifier: GPL-3.0-or-later
"""What the machine is like after the role, seen without Ansible."""

import pathlib

import pytest

KNOWN = pathlib.Path(__file__).parents[3] / ".cache/vm/labs/guest_vm/known_hosts.d/one"


def test_swap_is_off_now(host):
    assert host.file("/proc/swaps").content_string.count("\n") == 1
    assert host.run("systemctl is-enabled swap.target").stdout.strip() == "masked"


def test_a_process_that_crashes_leaves_nothing(host):
    assert host.file("/proc/sys/kernel/core_pattern").content_string.strip() == "|/bin/false"
    host.run("cd /root && ulimit -c unlimited; sh -c 'kill -SEGV $$'; true")
    assert host.check_output("find / -xdev -name 'core*' -newer /root/before -size +0 -type f -not -path '/usr/*' -not -path '/sys/*'") == ""


def test_chrony_keeps_the_time(host):
    assert host.service("chrony").is_running and host.service("chrony").is_enabled


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_the_keys_are_made_in_memory(host, kind):
    key = host.file(f"/run/attested_hostkeys/{kind}_key")
    assert key.mode == 0o600 and host.check_output("stat -f -c %T " + key.path) == "tmpfs"


def test_the_controller_knows_these_keys_and_no_others(host):
    shown = {line.split()[1] for line in host.check_output("cat /run/attested_hostkeys/*.pub").splitlines()}
    assert {line.split()[2] for line in KNOWN.read_text().splitlines() if line.strip()} == shown
