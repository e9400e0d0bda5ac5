# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import sys
from pathlib import Path

# The soft TEE's report writer shares no code with the parser under test.
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools" / "softtee"))

import pytest  # noqa: E402


@pytest.fixture(scope="session")
def soft():
    """An authority whose genoa, milan and turin roots come into being when a test needs them."""
    from softtee.snp_authority import SnpAuthority

    return SnpAuthority.create(None)
