# SPDX-License-Identifier: GPL-3.0-or-later
"""The known_hosts file of one guest: real ssh is asked, and nothing but keys gets into the file."""

from __future__ import annotations

import base64
import json
import os
import struct
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.plugin_utils.known_hosts_file import key_lines, scan, text_of, wiring


class Connection:
    """The documented options of the ssh connection plugin, and nothing else of it."""

    transport = "ssh"
    ansible_name = "ansible.builtin.ssh"

    def __init__(self, arguments, **options):
        self.options = {
            "ssh_executable": "ssh",
            "ssh_args": "-F none",
            "ssh_common_args": arguments,
            "ssh_extra_args": "",
            "host_key_checking": True,
            "port": 2222,
            "remote_user": "root",
            "host": "guest1.example.org",
            **options,
        }

    def get_option(self, name):
        return self.options[name]


def key(kind="ssh-ed25519", filling=b"1" * 32):
    name = kind.encode()
    return kind + " " + base64.b64encode(struct.pack(">I", len(name)) + name + filling).decode()


def test_a_connection_that_reads_the_file_is_wired(tmp_path):
    path = str(tmp_path / "guest1")
    found = wiring(Connection(f"-o UserKnownHostsFile={path} -o GlobalKnownHostsFile=none"), path)
    assert (found.ssh, found.checked, found.wired, found.name, found.port, found.address) == (
        True,
        True,
        True,
        "[guest1.example.org]:2222",
        "2222",
        "guest1.example.org",
    )


def test_one_that_reads_another_file_is_not(tmp_path):
    found = wiring(Connection("-o UserKnownHostsFile=/nowhere/known_hosts"), str(tmp_path / "guest1"))
    assert found.checked and not found.wired and "/nowhere/known_hosts" in found.problem


def test_another_file_that_knows_the_guest_is_named(tmp_path):
    path, other = tmp_path / "guest1", tmp_path / "old"
    other.write_text("[guest1.example.org]:2222 %s\n" % key())
    found = wiring(Connection(f"-o 'UserKnownHostsFile={path} {other}' -o GlobalKnownHostsFile=none"), str(path))
    assert not found.wired and str(other) in found.problem and "ssh-keygen -R" in found.problem
    other.write_text("somebody.example.org %s\n" % key())
    assert wiring(Connection(f"-o 'UserKnownHostsFile={path} {other}' -o GlobalKnownHostsFile=none"), str(path)).wired


def test_one_that_compares_nothing_says_so(tmp_path):
    found = wiring(Connection("-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"), str(tmp_path / "guest1"))
    assert found.ssh and not found.checked and not found.wired


def test_other_connections_are_none_of_its_business(tmp_path):
    local = Connection("")
    local.ansible_name = "ansible.builtin.local"
    assert not wiring(local, str(tmp_path / "x")).ssh


def test_an_ssh_that_cannot_be_asked_is_an_error(tmp_path):
    with pytest.raises(AttestedError, match="ssh -G failed"):
        wiring(Connection("-o NoSuchOption=yes"), str(tmp_path / "x"))


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 !!!!",
        "ssh-ed25519 AAAA",
        key().replace("ssh-ed25519", "ssh-rsa"),
        "@cert-authority " + key(),
        "* " + key(),
        7,
        None,
        "ssh-ed25519\n@revoked AAAA",
        key("evil-type"),
    ],
)
def test_only_keys_get_into_the_file(bad):
    with pytest.raises(AttestedError) as error:
        key_lines([bad])
    assert error.value.code == "ssh-key-invalid"


def test_lines_are_sorted_and_without_comments():
    first, second = key(), key("ecdsa-sha2-nistp256", b"x" * 40)
    assert text_of("[a]:22", [first + " root@guest evil\x1b[0m", second, first]) == "[a]:22 %s\n[a]:22 %s\n" % (second, first)
    with pytest.raises(AttestedError, match="17 keys"):
        key_lines([key(filling=bytes([number]) * 32) for number in range(17)])


@given(st.lists(st.text(), max_size=4))
def test_whatever_a_guest_sends_is_one_line_a_key(texts):
    try:
        text = text_of("name", texts)
    except AttestedError:
        return
    assert all(line.startswith("name ") and len(line.split()) == 3 for line in text.splitlines())


def test_what_the_network_offers_is_taken_apart(tmp_path):
    path = str(tmp_path / "guest1")
    name = wiring(Connection(f"-o UserKnownHostsFile={path}"), path)
    asked = []

    def run(argv):
        asked.append(argv)
        return 0, "# guest1:2222 SSH-2.0-OpenSSH\n[guest1.example.org]:2222 %s\n" % key()

    assert scan(name, run) == [key()] and asked[0][:5] == ["ssh-keyscan", "-T", "10", "-p", "2222"]
    for answer in ((1, ""), (0, "# nothing\n")):
        with pytest.raises(AttestedError) as error:
            scan(name, lambda argv, answer=answer: answer)
        assert error.value.code == "ssh-unreachable"


def play(folder, *arguments, **options):
    tasks = [{"attested.ai.guest_known_hosts": {"path": "known_hosts.d/one", **options}, "register": "answer"}]
    shown = {
        "ansible.builtin.copy": {"content": "{{ answer | to_json }}", "dest": str(folder / "answer.json"), "mode": "0600"},
        "check_mode": False,
        "delegate_to": "localhost",
        "vars": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
    }
    (folder / "play.json").write_text(json.dumps([{"hosts": "one", "gather_facts": False, "tasks": [*tasks, shown]}]))
    common = "-F none -o UserKnownHostsFile={{ playbook_dir }}/known_hosts.d/one -o GlobalKnownHostsFile=none"
    (folder / "inventory.json").write_text(json.dumps({"all": {"hosts": {"one": {"ansible_host": "guest1.example.org", "ansible_ssh_common_args": common}}}}))
    command = [sys.executable, "-m", "ansible", "playbook", "-i", str(folder / "inventory.json"), str(folder / "play.json"), *arguments]
    done = subprocess.run(command, env={**os.environ, "ANSIBLE_NOCOLOR": "1"}, capture_output=True, text=True, check=False)
    return done, json.loads((folder / "answer.json").read_text()) if done.returncode == 0 else {}


def test_the_action_writes_keeps_and_replaces(tmp_path):
    """Nothing is sent over the connection: the guest of this test does not exist."""
    first, second = key(), key("ecdsa-sha2-nistp256", b"x" * 40)
    file = tmp_path / "known_hosts.d" / "one"
    done, answer = play(tmp_path, "--check", "--diff", keys=[first])
    assert done.returncode == 0 and answer["changed"] and answer["wired"] and not file.exists() and "+guest1.example.org ssh-ed25519" in done.stdout, (
        done.stdout + done.stderr
    )
    assert play(tmp_path, keys=[first])[1]["changed"] and file.read_text() == "guest1.example.org %s\n" % first
    assert play(tmp_path, keys=[second], keep=True)[1]["changed"] and len(file.read_text().splitlines()) == 2
    assert play(tmp_path, keys=[second])[1]["changed"] and file.read_text() == "guest1.example.org %s\n" % second
    assert not play(tmp_path, keys=[second])[1]["changed"]
    done, _answer = play(tmp_path, keys=["no key"])
    assert done.returncode == 2 and "is no public key of OpenSSH" in done.stdout and "Traceback" not in done.stdout + done.stderr
    assert file.read_text() == "guest1.example.org %s\n" % second


def test_a_scan_that_met_some_of_the_known_keys_is_no_news(tmp_path, monkeypatch):
    """As of a server that goes down: whoever waits for other keys would take it for the one that comes up."""
    one, two, new = (key(filling=filling * 32) for filling in (b"1", b"2", b"3"))
    program = tmp_path / "bin" / "ssh-keyscan"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    def offers(*keys):
        program.write_text("#!/bin/sh\n" + "".join(f"echo '[guest1.example.org]:22 {line}'\n" for line in keys))
        program.chmod(0o755)
        return play(tmp_path, keyscan=True)[1]

    assert offers(one, two)["changed"]
    known = tmp_path / "known_hosts.d" / "one"
    before = known.read_text()
    assert not offers(one)["changed"] and known.read_text() == before
    # One that is not known is another server, and nothing of the old one stays.
    assert offers(new)["changed"] and new.split()[1] in known.read_text() and one.split()[1] not in known.read_text()
