# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The argument spec behind the documentation fragment attested.ai.attestation."""

from __future__ import annotations

import typing as t

COLLECTION: t.Final[dict[str, dict[str, t.Any]]] = {
    "tsm_path": {"type": "path", "default": "/sys/kernel/config/tsm/report"},
    "method": {"type": "str", "choices": ["auto", "configfs", "ioctl"], "default": "auto"},
    "device": {"type": "path", "default": "/dev/sev-guest"},
    "privlevel": {"type": "int"},
    "ssh_dir": {"type": "path", "default": "/etc/ssh"},
}

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
