# SPDX-License-Identifier: GPL-3.0-or-later
"""What the machine is like after a real reboot."""

import pathlib

KNOWN = pathlib.Path(__file__).parents[3] / ".cache/vm/labs/guest_vm/known_hosts.d/one"


def test_it_came_up_with_other_keys_and_the_controller_knows_them(host):
    keys = host.check_output("cat /run/attested_hostkeys/*.pub")
    assert keys != host.check_output("cat /root/keys-before")
    shown = {line.split()[1] for line in keys.splitlines()}
    # All of them, and none of before.
    assert {line.split()[2] for line in KNOWN.read_text().splitlines() if line.strip()} == shown


def test_swap_stays_off(host):
    assert "/swap" in host.file("/etc/fstab").content_string
    assert host.file("/proc/swaps").content_string.count("\n") == 1


def test_nothing_failed(host):
    assert host.check_output("systemctl --failed --no-legend") == ""
    assert host.file("/proc/sys/kernel/core_pattern").content_string.strip() == "|/bin/false"
