# SPDX-License-Identifier: GPL-3.0-or-later
"""Peers for the tests of KBS."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import kbs_lab  # noqa: E402


@pytest.fixture(scope="session", params=["soft", "trustee"])
def peer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[kbs_lab.Peer]:
    """The same tests before our own KBS and before Trustee's."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "soft":
        acls = (("admin", "^/kbs/.+$"), ("reader", "^/kbs/v0/resource-policy$"))
        with kbs_lab.soft_peer(folder, admin={"acls": acls}) as found:
            yield found
        return
    if not kbs_lab.REAL:
        pytest.skip("no real KBS: TRUSTEE_KBS names neither a binary nor an address")
    with kbs_lab.real_peer(folder) as found:
        yield found


@pytest.fixture
def soft(tmp_path: Path) -> Iterator[kbs_lab.Peer]:
    """Our own, without TLS and fresh, for faults."""
    with kbs_lab.soft_peer(tmp_path, tls=False) as found:
        yield found


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder where secrets of a guest may lie."""
    made = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="attested-kbs-"))
    yield made
    shutil.rmtree(made)
