# SPDX-License-Identifier: GPL-3.0-or-later
"""ssh_binding asks real OpenSSH programs, with known_hosts files that the test writes."""

from __future__ import annotations

import subprocess

import pytest

from ansible_collections.attested.ai.plugins.plugin_utils.ssh_binding import connection_binding, parse_client_config, parse_known_hosts, pin


class Connection:
    """The documented options of the ssh connection plugin, and nothing else of it."""

    transport = "ssh"
    ansible_name = "ansible.builtin.ssh"

    def __init__(self, known_hosts, **options):
        self._options = {
            "ssh_executable": "ssh",
            "ssh_args": "-F none -C",
            "ssh_common_args": f"-o UserKnownHostsFile={known_hosts} -o GlobalKnownHostsFile=none",
            "ssh_extra_args": "",
            "host_key_checking": True,
            "port": 2222,
            "remote_user": "root",
            "host": "127.0.0.1",
        }
        self._options.update(options)

        self.resets = 0

    def get_option(self, name):
        return self._options[name]

    def set_option(self, name, value):
        self._options[name] = value

    def reset(self):
        self.resets += 1


@pytest.fixture
def keys(tmp_path):
    """Two host keys: the base64 blob and the fingerprint that ssh-keygen prints."""
    made = []
    for name, kind in (("a", "ed25519"), ("b", "ecdsa")):
        path = tmp_path / name
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(path)], check=True)
        shown = subprocess.run(["ssh-keygen", "-l", "-E", "sha256", "-f", str(path) + ".pub"], check=True, capture_output=True, text=True).stdout
        made.append((path.with_suffix(".pub").read_text().rsplit(" ", 1)[0], shown.split()[1]))
    return made


def test_fingerprints_are_those_openssh_prints(tmp_path, keys):
    known = tmp_path / "known_hosts"
    known.write_text("".join(f"[127.0.0.1]:2222 {line}\n" for line, _print in keys) + f"other {keys[0][0]}\n")
    found = connection_binding(Connection(known))
    assert found.strict
    assert list(found.known_host_fingerprints) == [shown for _line, shown in keys]


def test_hashed_names_are_found(tmp_path, keys):
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:2222 {keys[0][0]}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(known)], check=True, capture_output=True)
    assert "127.0.0.1" not in known.read_text()
    assert connection_binding(Connection(known)).known_host_fingerprints == (keys[0][1],)


def test_port_22_and_alias_use_the_plain_name(tmp_path, keys):
    known = tmp_path / "known_hosts"
    known.write_text(f"127.0.0.1 {keys[0][0]}\nguest-7 {keys[1][0]}\n")
    assert connection_binding(Connection(known, port=22)).known_host_fingerprints == (keys[0][1],)
    aliased = Connection(known, ssh_extra_args="-o HostKeyAlias=guest-7")
    assert connection_binding(aliased).known_host_fingerprints == (keys[1][1],)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"host_key_checking": False}, "StrictHostKeyChecking"),
        ({"ssh_extra_args": "-o StrictHostKeyChecking=no"}, "StrictHostKeyChecking"),
        ({"ssh_extra_args": "-o StrictHostKeyChecking=off"}, "StrictHostKeyChecking"),
        ({"ssh_extra_args": "-o VerifyHostKeyDNS=yes"}, "VerifyHostKeyDNS"),
        ({"ssh_extra_args": "-o NoHostAuthenticationForLocalhost=yes"}, "NoHostAuthenticationForLocalhost"),
        ({"ssh_extra_args": "-o GSSAPIKeyExchange=yes"}, "GSSAPIKeyExchange"),
        ({"host_key_checking": False, "ssh_extra_args": "-o StrictHostKeyChecking=yes"}, "StrictHostKeyChecking"),
        ({"ssh_common_args": "-o UserKnownHostsFile=relative"}, "full path"),
        ({"ssh_extra_args": "-o 'KnownHostsCommand=/bin/echo %H'"}, "KnownHostsCommand"),
        ({"ssh_executable": "/nonexistent/ssh"}, "ssh -G failed"),
        ({"port": 2223}, "no key of [127.0.0.1]:2223"),
    ],
)
def test_whatever_is_not_compared_is_not_strict(tmp_path, keys, options, words):
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:2222 {keys[0][0]}\n")
    found = connection_binding(Connection(known, **options))
    assert not found.strict
    assert words in found.detail


def test_certificate_authority_is_not_comparable_and_revoked_is_ignored(tmp_path, keys):
    known = tmp_path / "known_hosts"
    known.write_text(f"@cert-authority [127.0.0.1]:2222 {keys[0][0]}\n[127.0.0.1]:2222 {keys[1][0]}\n")
    found = connection_binding(Connection(known))
    assert not found.strict and "cert-authority" in found.detail
    known.write_text(f"@revoked [127.0.0.1]:2222 {keys[0][0]}\n[127.0.0.1]:2222 {keys[1][0]}\n")
    assert connection_binding(Connection(known)).known_host_fingerprints == (keys[1][1],)


def test_names_are_looked_up_as_ssh_does(tmp_path, keys):
    """In lower case, which a hashed name does not forgive; without the port only if there is nothing with it."""
    known = tmp_path / "known_hosts"
    known.write_text(f"guest {keys[1][0]}\n")
    assert connection_binding(Connection(known, host="GUEST")).known_host_fingerprints == (keys[1][1],)
    known.write_text(f"[guest]:2222 {keys[0][0]}\nguest {keys[1][0]}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(known)], check=True, capture_output=True)
    assert connection_binding(Connection(known, host="GUEST")).known_host_fingerprints == (keys[0][1],)
    assert connection_binding(Connection(known, host="GUEST", port=22)).known_host_fingerprints == (keys[1][1],)


def test_options_of_the_inventory_come_before_common_arguments(tmp_path, keys):
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:2222 {keys[0][0]}\n[127.0.0.1]:2223 {keys[1][0]}\n")
    assert connection_binding(Connection(known, ssh_extra_args="-o Port=2223")).known_host_fingerprints == (keys[0][1],)


def test_pinned_connection_is_opened_anew_and_takes_known_keys_only(tmp_path, keys):
    connection = Connection(tmp_path / "known_hosts", ssh_common_args="-o StrictHostKeyChecking=accept-new")
    pin(connection)
    pin(connection)
    assert connection.get_option("ssh_args") == "-o StrictHostKeyChecking=yes -F none -C"
    assert connection.resets == 2


@pytest.mark.parametrize("name", ["paramiko_ssh", "ansible.netcommon.libssh", "community.general.sshjail"])
def test_other_ways_to_speak_ssh_are_refused(tmp_path, name):
    other = Connection(tmp_path)
    other.transport = other.ansible_name = name
    found = connection_binding(other)
    assert found.transport == "ssh" and not found.strict and "ansible.builtin.ssh" in found.detail


def test_other_transports_have_no_host_key(tmp_path):
    local = Connection(tmp_path)
    local.transport, local.ansible_name = "local", "ansible.builtin.local"
    found = connection_binding(local)
    assert found.transport == "local" and not found.strict


def test_first_value_of_a_keyword_counts():
    assert parse_client_config("Port 22\nport 23\nhostname a\n") == {"port": "22", "hostname": "a"}


def test_unreadable_known_hosts_line_is_an_obstacle():
    found, obstacles = parse_known_hosts("host ssh-ed25519 ???\nhost\n# comment\n")
    assert not found and len(obstacles) == 2
