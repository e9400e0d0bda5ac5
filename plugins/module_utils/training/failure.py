# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The error of this package."""

from __future__ import annotations

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError


class TrainingError(AttestedError):
    """A job cannot be run as it was agreed, or what came out of it cannot be trusted."""

    default_code = "training"
