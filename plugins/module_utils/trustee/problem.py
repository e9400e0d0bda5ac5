# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The errors of what sets a key broker up."""

from __future__ import annotations

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError


class TrusteeError(AttestedError):
    """A key broker cannot be set up, saved, restored or proven as it shall be."""

    default_code = "trustee"
