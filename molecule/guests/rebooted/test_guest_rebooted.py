# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guest is like after a reboot."""


def test_the_keys_are_others_and_the_server_runs_with_them(host):
    assert host.check_output("cat /run/attested_hostkeys/*.pub") != host.check_output("cat /root/keys-before")
    assert host.service("ssh").is_running
    units = "ssh attested-ssh-host-key@ed25519 attested-ssh-host-key@ecdsa"
    assert host.check_output("systemctl is-active " + units).split() == ["active"] * 3
    assert host.check_output("systemctl --failed --no-legend") == ""


def test_keys_on_the_disk_are_untouched_and_unused(host):
    assert host.check_output("sha256sum -c --status /root/before; echo $?") == "0"
    assert "/etc/ssh/ssh_host" not in host.check_output("sshd -T | grep hostkey")


def test_what_was_masked_is_masked(host):
    assert host.run("systemctl is-enabled swap.target qemu-guest-agent").stdout.split() == ["masked", "masked"]
