# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The argument spec behind the documentation fragment attested.ai.attestation."""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.module_utils.keyrelease import pull_options

COLLECTION: t.Final[dict[str, dict[str, t.Any]]] = {**pull_options.COLLECTION, "ssh_dir": {"type": "path", "default": "/etc/ssh"}}
# What of these the module tee_evidence takes as they are.
PASSED_ON: t.Final = tuple(COLLECTION)

APPRAISAL: t.Final[dict[str, dict[str, t.Any]]] = {
    "policy": {"type": "raw", "required": True},
    "reference_values": {"type": "raw"},
    "certificates": {"type": "list", "elements": "path", "default": []},
    "crl": {"type": "path"},
    "collateral": {"type": "list", "elements": "path", "default": []},
    "collateral_key": {"type": "raw", "no_log": False},
    "at": {"type": "str"},
}

ATTESTATION: t.Final[dict[str, dict[str, t.Any]]] = {**APPRAISAL, **COLLECTION}
