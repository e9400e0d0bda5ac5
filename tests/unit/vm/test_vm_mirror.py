# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a machine has its Debian from: said, known to apt, or only written down for it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))

import debian_mirror  # noqa: E402

OLD = "# deb http://old.example.org/debian trixie main\ndeb [arch=amd64] http://one.example.org/debian trixie main\n"
NEW = "Types: deb\nURIs: http://two.example.org/debian/\nSuites: trixie\n"
OTHER = "Types: deb\nURIs: http://packages.example.org/something\nSuites: stable\n"


@pytest.fixture
def etc(tmp_path, monkeypatch):
    program = tmp_path / "bin/apt-get"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\ncat %s/targets\n" % tmp_path)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.delenv("ATTESTED_DEBIAN_MIRROR", raising=False)
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/a.sources").write_text(OTHER)
    (tmp_path / "targets").touch()
    return tmp_path


def test_what_is_named_counts_and_then_what_apt_knows_and_then_what_is_written_down(etc, monkeypatch):
    assert debian_mirror.mirror(etc) == ""
    (etc / "sources.list.d/debian.sources").write_text(NEW)
    assert debian_mirror.mirror(etc) == "http://two.example.org/debian/"
    (etc / "sources.list").write_text(OLD)
    assert debian_mirror.mirror(etc) == "http://one.example.org/debian"
    (etc / "targets").write_text("http://known.example.org/debian\nhttp://security.example.org/debian\n")
    assert debian_mirror.mirror(etc) == "http://known.example.org/debian"
    monkeypatch.setenv("ATTESTED_DEBIAN_MIRROR", "http://named.example.org/debian")
    assert debian_mirror.mirror(etc) == "http://named.example.org/debian"


def test_without_apt_there_is_none(etc, monkeypatch):
    (etc / "sources.list").write_text(OLD)
    monkeypatch.setenv("PATH", str(etc))
    assert debian_mirror.mirror(etc) == ""
