# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The argument spec behind the documentation fragment attested.ai.attestation."""

from __future__ import annotations

import typing as t

COLLECTION: t.Final[dict[str, dict[str, t.Any]]] = {
    "tsm_path": {"type": "path", "default": "/sys/kernel/config/tsm/report"},
    "method": {"type": "str", "choices": ["auto", "configfs", "ioctl", "azure"], "default": "auto"},
    "device": {"type": "path", "default": "/dev/sev-guest"},
    "tpm_device": {"type": "path", "default": "/dev/tpmrm0"},
    "privlevel": {"type": "int"},
    "gpus": {"type": "str", "choices": ["none", "auto", "required"], "default": "none"},
    "switches": {"type": "str", "choices": ["none", "auto", "required"], "default": "auto"},
    "nvml_library": {"type": "str", "default": "libnvidia-ml.so.1"},
    "nscq_library": {"type": "str", "default": "libnvidia-nscq.so.2"},
    "event_log": {"type": "str", "choices": ["none", "auto", "required"], "default": "auto"},
    "event_log_path": {"type": "path", "default": "/sys/firmware/acpi/tables/data/CCEL"},
    "ssh_dir": {"type": "path", "default": "/etc/ssh"},
}
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
