# SPDX-License-Identifier: GPL-3.0-or-later
"""attest through a real sshd: the host key of the connection in use must be one that the guest bound."""

from __future__ import annotations

import subprocess

import pytest


def attest(soft_guest, directory, **options):
    return {
        "name": "Attest",
        "attested.ai.attest": {
            "policy": str(soft_guest.policy),
            "reference_values": str(soft_guest.reference_values),
            "tsm_path": str(soft_guest.tsm_path),
            "ssh_dir": str(directory),
            **options,
        },
        "register": "answer",
    }


def outcome(answer, check_id):
    checks = list(answer["result"]["checks"])
    for submod in answer["result"]["submods"].values():
        checks += submod["checks"]
    return next(check["outcome"] for check in checks if check["id"] == check_id)


def test_bound_host_key_is_accepted(play, sshd, soft_guest, client_key, tmp_path):
    server = sshd("guest")
    known = tmp_path / "known_hosts"
    known.write_text(server.known_host_line())
    done = play([attest(soft_guest, server.directory)], host=server.host(client_key, known))
    assert done.status == 0, done.output
    assert done["answer"]["result"]["accepted"] is True
    assert outcome(done["answer"], "ssh-host-key") == "pass"


def test_relay_in_front_of_a_genuine_guest_is_refused(play, sshd, soft_guest, client_key, tmp_path):
    """The client talks to a relay whose key it trusts; the evidence is genuine, but binds the guest's own keys."""
    guest, relay = sshd("guest"), sshd("relay")
    known = tmp_path / "known_hosts"
    known.write_text(relay.known_host_line())
    done = play([attest(soft_guest, guest.directory)], host=relay.host(client_key, known))
    assert done.status != 0
    assert done["answer"]["result"]["authentic"] is True
    assert done["answer"]["result"]["accepted"] is False
    assert outcome(done["answer"], "ssh-host-key") == "fail"
    assert "ssh-host-key" in done["answer"]["msg"]


@pytest.mark.parametrize("setting", ["-o StrictHostKeyChecking=no", "-o StrictHostKeyChecking=off"])
def test_unchecked_host_key_is_refused(play, sshd, soft_guest, client_key, tmp_path, setting):
    server = sshd("guest")
    known = tmp_path / "known_hosts"
    known.write_text(server.known_host_line())
    done = play([attest(soft_guest, server.directory)], host=server.host(client_key, known, setting))
    assert done.status != 0
    assert "StrictHostKeyChecking" in done["answer"]["msg"]


def test_two_known_keys_of_which_one_is_foreign_are_refused(play, sshd, soft_guest, client_key, tmp_path):
    server, other = sshd("guest"), sshd("other")
    known = tmp_path / "known_hosts"
    foreign = (other.directory / "ssh_host_ed25519_key.pub").read_text().split()[:2]
    known.write_text(server.known_host_line() + f"[127.0.0.1]:{server.port} {' '.join(foreign)}\n")
    done = play([attest(soft_guest, server.directory)], host=server.host(client_key, known))
    assert done.status != 0
    assert outcome(done["answer"], "ssh-host-key") == "fail"


def relayed(play, sshd, soft_guest, client_key, tmp_path, *extra, before=(), variables=None):
    """The operator knows the key of the guest only. At its address a relay answers, in front of a genuine guest."""
    guest, relay = sshd("guest"), sshd("relay")
    known = tmp_path / "known_hosts"
    known.write_text(guest.known_host_line(relay.port))
    return play([*before, attest(soft_guest, guest.directory)], host={**relay.host(client_key, known, *extra), **(variables or {})})


@pytest.mark.parametrize(
    ("extra", "variables", "words"),
    [
        ("-o StrictHostKeyChecking=yes", {"ansible_ssh_host_key_checking": False}, "StrictHostKeyChecking is 'false'"),
        ("-o NoHostAuthenticationForLocalhost=yes", {}, "NoHostAuthenticationForLocalhost is on"),
    ],
)
def test_relay_is_not_let_in_by_options(play, sshd, soft_guest, client_key, tmp_path, extra, variables, words):
    done = relayed(play, sshd, soft_guest, client_key, tmp_path, extra, variables=variables)
    assert done.status != 0 and words in done.output, done.output


def test_relay_is_not_let_in_by_a_connection_that_was_opened_before(play, sshd, soft_guest, client_key, tmp_path):
    weak = {"name": "Open", "ansible.builtin.ping": None, "vars": {"ansible_ssh_host_key_checking": False}}
    done = relayed(play, sshd, soft_guest, client_key, tmp_path, before=[weak])
    assert done.status != 0 and "Host key verification failed" in done.output, done.output


def test_key_that_is_known_without_the_port_is_compared(play, sshd, soft_guest, client_key, tmp_path):
    """ssh accepts it if it knows none with the port."""
    guest, relay = sshd("guest"), sshd("relay")
    known = tmp_path / "known_hosts"
    for server, expected in ((guest, "pass"), (relay, "fail")):
        known.write_text("127.0.0.1 " + " ".join(server.known_host_line().split()[1:]) + "\n")
        done = play([attest(soft_guest, guest.directory)], host=server.host(client_key, known))
        assert outcome(done["answer"], "ssh-host-key") == expected, done.output


def test_local_connection_says_that_nothing_was_compared(play, soft_guest, tmp_path):
    keys = tmp_path / "etc-ssh"
    keys.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / "ssh_host_ed25519_key")], check=True)
    done = play([attest(soft_guest, keys)])
    assert done.status == 0, done.output
    assert outcome(done["answer"], "ssh-host-key") == "not_checked"
