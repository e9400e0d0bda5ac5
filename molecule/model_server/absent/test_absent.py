# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left when it has ended: nothing."""

from __future__ import annotations


def test_nothing_runs(host):
    assert host.run("systemctl list-units --all --plain --no-legend 'attested-model*'").stdout == ""
    assert host.run("pgrep -u attested-model,attested-front").stdout == ""
    assert ":8443" not in host.run("ss -ltn").stdout


def test_nothing_lies_there(host):
    for path in ("/var/lib/attested-model", "/run/attested-model", "/etc/attested-ai/model-server", "/usr/local/lib/attested-ai/model-server.pyz"):
        assert not host.file(path).exists, path
    assert host.run("find /etc/systemd/system -name 'attested-model*'").stdout == ""
    assert host.run("find /run/attested-ai -mindepth 1").stdout == ""


def test_memory_is_free_again(host):
    # No process holds a namespace in which the model is still mounted.
    assert host.run("grep -l attested-model/open /proc/[0-9]*/mountinfo 2>/dev/null").stdout == ""
