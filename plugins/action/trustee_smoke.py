# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Try key brokers that are in service, as a guest that has to be refused; on the controller."""

from __future__ import annotations

import socket
import ssl
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.kbs.transport import Server
from ansible_collections.attested.ai.plugins.module_utils.trustee.smoke import Trial, failed, summary
from ansible_collections.attested.ai.plugins.plugin_utils.action_failure import failure_as_result
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import Inputs
from ansible_collections.attested.ai.plugins.plugin_utils.kbs_task import ADMIN_SPEC, SERVER_SPEC, WITH_ADMIN, Kbs, brokers

ARGUMENT_SPEC: dict[str, dict[str, t.Any]] = {
    **SERVER_SPEC,
    **{name: spec for name, spec in ADMIN_SPEC.items() if name != "allow_open_admin"},
    "token_ca": {"type": "str", "default": "", "no_log": False},
    "attestation": {"type": "bool", "default": True},
    "waivers": {"type": "dict", "default": {}},
}


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    @failure_as_result
    def run(self, tmp: t.Any = None, task_vars: dict | None = None) -> dict:
        super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(
            argument_spec=ARGUMENT_SPEC, mutually_exclusive=[["admin_key", "admin_token"]], required_by=WITH_ADMIN)  # fmt: skip
        ca = Inputs.of_action(self).read_text(options["ca_path"], "ca_path") if options["ca_path"] else ""
        try:
            found = [(kbs, self._trial(kbs, ca, options).run()) for kbs in brokers(self, options)]
        except AttestedError as error:
            raise AnsibleActionFail(str(error), result={"code": error.code}) from None
        known = {check.id for _kbs, checks in found for check in checks}
        unknown = sorted(set(options["waivers"]) - known)
        if unknown:
            raise AnsibleActionFail(f"{', '.join(unknown)} in waivers is none of {', '.join(sorted(known))}", result={"code": "trustee-options"})
        result = {"changed": False, "kbs": [{"url": kbs.url, "checks": summary(checks)} for kbs, checks in found]}
        bad = [f"{kbs.url}: [{check.id}] {check.detail}" for kbs, checks in found for check in failed(checks) if check.id not in options["waivers"]]
        if bad:
            raise AnsibleActionFail("; ".join(bad), result={**result, "code": "trustee-smoke"})
        return result

    def _trial(self, kbs: Kbs, ca: str, options: t.Mapping[str, t.Any]) -> Trial:
        server = Server(kbs.url, ca, options["server_name"], tuple(options["pins"]), float(options["timeout"]), options["allow_http"])
        return Trial(kbs.transport, kbs.url, kbs.admin, lambda: tls_of(server), options["token_ca"], options["attestation"])


def tls_of(server: Server) -> str:
    """What of TLS it takes, a key of TLS. Nothing is sent over the connection."""
    scheme, host, port, _path = server.parts
    if scheme != "https":
        return "none"
    context = ssl.create_default_context(cadata=server.ca or None)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        with socket.create_connection((host, port), server.timeout) as channel:
            with context.wrap_socket(channel, server_hostname=server.server_name or host):
                return "old"
    except ssl.SSLCertVerificationError:
        # It came as far as its certificate.
        return "old"
    except (ssl.SSLError, ConnectionResetError):
        return "new"
    except OSError:
        return "unknown"
