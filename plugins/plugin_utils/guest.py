# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The guest at the other end of an action plugin's connection."""

from __future__ import annotations

import base64
import re
import typing as t

from ansible_collections.attested.ai.plugins.module_utils.errors import CollectError
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import EvidenceDocument
from ansible_collections.attested.ai.plugins.plugin_utils.attestation_options import PASSED_ON
from ansible_collections.attested.ai.plugins.plugin_utils.text_table import one_line

_SAID_MAX = 2000
# Option -> type of the items that must be there if it says required.
_DEVICES = {"gpus": "nvidia-gpu", "switches": "nvidia-switch"}
_CODE = re.compile(r"(?!None)[A-Za-z0-9-]{1,64}\Z")


class Guest:
    """Runs this collection's modules on the guest; their failures become CollectError with the guest's name."""

    def __init__(self, action: t.Any, task_vars: t.Mapping[str, t.Any]) -> None:
        self._action = action
        self._task_vars = task_vars
        self.name = str(action._task.delegate_to or task_vars.get("inventory_hostname", "guest"))

    def run(self, module: str, **arguments: t.Any) -> dict[str, t.Any]:
        """Run ``attested.ai.<module>`` and return its result."""
        given = {name: value for name, value in arguments.items() if value is not None}
        result = self._action._execute_module(module_name=f"attested.ai.{module}", module_args=given, task_vars=self._task_vars)
        if result.get("failed") or "msg" in result and result.get("rc"):
            # The guest's words, so not at any length, and nothing in them that draws on a terminal.
            said = one_line(result.get("msg") or "the module failed without a message")[:_SAID_MAX]
            code = str(result.get("code"))
            raise CollectError(said, where=f"{self.name} ({module})", code=code if _CODE.match(code) else "collect")
        return result

    def evidence(
        self,
        nonce: bytes,
        options: t.Mapping[str, t.Any],
        *,
        bind_ssh_host_keys: bool,
        tee_pubkey: t.Mapping[str, str] | None = None,
        tls_certificate: str | None = None,
    ) -> EvidenceDocument:
        """Have the guest answer ``nonce``; the document is parsed strictly and still unproven."""
        answer = self.run(
            "tee_evidence",
            nonce=base64.b64encode(nonce).decode("ascii"),
            **{name: options[name] for name in PASSED_ON},
            bind_ssh_host_keys=bind_ssh_host_keys,
            tee_pubkey=dict(tee_pubkey) if tee_pubkey is not None else None,
            tls_certificate=tls_certificate,
        )
        document = EvidenceDocument.parse(answer.get("evidence"), where=f"evidence of {self.name}")
        found = {item.type for item in document.items}
        for option, kind in _DEVICES.items():
            if options[option] == "required" and kind not in found:
                # Whoever answers for the guest may leave the devices out and say that all is well.
                raise CollectError(f"it holds no evidence of type {kind}, which was asked for", where=f"evidence of {self.name}", fix="Do not trust this guest")
        if tls_certificate is not None and document.binding.tls_spki is None:
            raise CollectError("it does not bind the TLS certificate that was asked for", where=f"evidence of {self.name}", fix="Do not trust this guest")
        return document
