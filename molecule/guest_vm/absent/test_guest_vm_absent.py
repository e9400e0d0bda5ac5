# SPDX-License-Identifier: GPL-3.0-or-later
"""What the machine is like after it was taken back."""


def test_the_server_uses_its_keys_on_the_disk_again(host):
    assert "/etc/ssh/ssh_host_ed25519_key" in host.check_output("sshd -T | grep hostkey")
    assert host.check_output("sha256sum -c --status /root/before; echo $?") == "0" and host.service("ssh").is_running


def test_swap_may_come_back_at_the_next_boot(host):
    assert host.run("systemctl is-enabled swap.target").stdout.strip() == "static"


def test_nothing_of_ours_is_left(host):
    found = host.check_output("find /etc /var/lib /run -xdev '(' -name '*attested*' -o -name '*hostkeys*' ')'").split()
    assert found == ["/var/lib/attested-ai"] and host.check_output("ls /var/lib/attested-ai") == ""
