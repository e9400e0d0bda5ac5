# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The error of benchmarks."""

from __future__ import annotations

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError


class BenchmarkError(AttestedError):
    """Nothing could be measured, or what was measured cannot be compared."""

    default_code = "benchmark"
