# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Verify Intel TDX quotes."""

from __future__ import annotations

from ansible_collections.attested.ai.plugins.module_utils.verify.tdx_claims import TdxClaims

__all__ = ["TdxClaims"]
