# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guest is like after the role, seen without Ansible."""


def test_the_server_uses_keys_in_memory_and_no_others(host):
    keys = [line.split()[1] for line in host.check_output("sshd -T").splitlines() if line.startswith("hostkey ")]
    assert keys == ["/run/attested_hostkeys/ed25519_key", "/run/attested_hostkeys/ecdsa_key"]
    for key in keys:
        assert host.file(key).mode == 0o600 and host.check_output("stat -f -c %T " + key) == "tmpfs"
    assert host.file("/run/attested_hostkeys").mode == 0o700


def test_what_the_server_shows_is_the_key_in_memory(host):
    """A key exchange with the server itself, over its standard input."""
    options = "StrictHostKeyChecking=yes GlobalKnownHostsFile=none UserKnownHostsFile=/tmp/known BatchMode=yes".split()
    script = "ssh %s -o ProxyCommand='/usr/sbin/sshd -i' x true 2>&1 || true" % " ".join("-o " + option for option in options)
    host.check_output("sed 's/^/x /' /run/attested_hostkeys/ed25519_key.pub /run/attested_hostkeys/ecdsa_key.pub >/tmp/known")
    assert "Permission denied" in host.run(script).stdout
    host.check_output("sed 's/^/x /' /etc/ssh/ssh_host_ed25519_key.pub >/tmp/known")
    assert "verification failed" in host.run(script).stdout


def test_nothing_is_left_that_would_undo_it(host):
    assert "attested" not in host.check_output("systemctl list-timers --all --no-legend")


def test_swap_and_agent_stay_off(host):
    assert host.run("systemctl is-enabled swap.target qemu-guest-agent").stdout.split() == ["masked", "masked"]
    assert not host.service("qemu-guest-agent").is_running
    assert host.file("/var/lib/attested-ai/tee-guest/masked").content_string.split() == ["swap.target", "qemu-guest-agent.service"]
