# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The errors of the KBS clients."""

from __future__ import annotations

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError


class KbsError(AttestedError):
    """A key broker does not answer, refuses, or says what cannot be used. ``status`` is 0 where there was no answer at all."""

    default_code = "kbs"

    def __init__(self, what: str, where: str = "", fix: str = "", code: str = "", status: int = 0, variant: str = "") -> None:
        super().__init__(what, where, fix, code)
        self.status = status
        self.variant = variant
