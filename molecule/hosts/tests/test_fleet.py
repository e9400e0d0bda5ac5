# SPDX-License-Identifier: GPL-3.0-or-later
"""The two machines after the playbook for a fleet: the first was refused and stays as it was, the second was set up."""

import pytest

OURS = "find /etc -name '*attested-ai*'"


@pytest.fixture
def name(host):
    return host.check_output("hostname")


def test_the_first_was_left_alone(host, name):
    if name == "old":
        assert host.check_output(OURS) == ""
        assert host.check_output("uname -r").startswith("6.1.")


def test_the_second_was_set_up(host, name):
    if name == "new":
        assert len(host.check_output(OURS).split()) == 4
        release = host.check_output("uname -r").split(".")
        # Debian 12's own is 6.1.
        assert (int(release[0]), int(release[1])) >= (6, 12)
        assert "sev-snp-guest" in host.check_output("qemu-system-x86_64 -object help")


def test_there_are_these_two(name):
    assert name in ("old", "new")
