# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The options of tdx_registration, and those of them that say where things are on the machine."""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.module_utils.target.quoting import decision, record, services

PLACES = ("efivars", "state_dir", "agent_log", "qgs", "qgs_conf", "retrieval_tool")
ARGUMENT_SPEC: dict[str, dict[str, t.Any]] = {
    "variant": {"type": "str", "required": True, "choices": [decision.NONE, *record.VARIANTS]},
    "directory": {"type": "path", "default": "tdx-registration"},
    "manifest_confirm": {"type": "str", "default": ""},
    "variant_confirm": {"type": "str", "default": ""},
    "reregister_ok": {"type": "bool", "default": False},
    "manifest_file": {"type": "path"},
    "send_from": {"type": "str", "default": "host", "choices": ["host", "controller"]},
    "service_url": {"type": "str", "default": services.INTEL},
    "ca_path": {"type": "path"},
    "proxy": {"type": "str", "default": ""},
    "pccs_url": {"type": "str"},
    "pccs_ca_path": {"type": "path"},
    "pccs_validate_certs": {"type": "bool", "default": True},
    "pccs_user_token": {"type": "str", "no_log": True},
    "pccs_admin_token": {"type": "str", "no_log": True},
    "collateral_file": {"type": "path"},
    "agent_ran": {"type": "bool", "default": False},
    "agent_timeout": {"type": "int", "default": 60},
    "efivars": {"type": "path", "default": "/sys/firmware/efi/efivars"},
    "state_dir": {"type": "path", "default": "/var/lib/attested-ai/tdx-registration"},
    "agent_log": {"type": "path", "default": "/var/log/mpa_registration.log"},
    "qgs": {"type": "str", "default": "auto"},
    "qgs_conf": {"type": "path", "default": "/etc/qgs.conf"},
    "retrieval_tool": {"type": "path", "default": "/opt/intel/sgx-pck-id-retrieval-tool/PCKIDRetrievalTool"},
}
