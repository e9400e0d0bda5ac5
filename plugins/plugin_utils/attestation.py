# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What attest and model_release share: draw a nonce, have the guest answer it, appraise the answer."""

from __future__ import annotations

import json
import os
import typing as t
from dataclasses import dataclass
from datetime import datetime

from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import appraise
from ansible_collections.attested.ai.plugins.module_utils.appraisal.ear import sign_ear
from ansible_collections.attested.ai.plugins.module_utils.appraisal.result import Result
from ansible_collections.attested.ai.plugins.module_utils.appraisal.ssh import SSH
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.fleet.record import sign_record
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import EvidenceDocument
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import Inputs, draw_nonce, evaluation_time, parse_nonce
from ansible_collections.attested.ai.plugins.plugin_utils.endorsement_inputs import read_endorsements
from ansible_collections.attested.ai.plugins.plugin_utils.guest import Guest
from ansible_collections.attested.ai.plugins.plugin_utils.ssh_binding import connection_binding, pin


@dataclass(frozen=True)
class Attested:
    """A guest's answer and the verdict on it."""

    evidence: EvidenceDocument
    result: Result
    inputs: Inputs

    def to_dict(self) -> dict[str, t.Any]:
        return {"evidence": self.evidence.to_dict(), "result": self.result.to_dict()}

    def ear(self, key_path: str) -> str:
        """The verdict as a signed EAR; it is issued at the time of evaluation."""
        return sign_ear(self.result, self.inputs.signing_key(key_path), issued_at=self.result.evaluated_at)

    def record(self, host: str, key: t.Any) -> str:
        """The verdict and the name of the host under one signature, as the monitor keeps it."""
        return sign_record(host, self.result.to_dict(), key)

    def save(self, path: str, record: str | None = None) -> bool:
        """Write the signed record, or without one the result as JSON, whole or not at all. Results are no secrets."""
        partial = f"{path}.{os.getpid()}.partial"
        try:
            with open(partial, "w", encoding="utf-8") as stream:
                stream.write((json.dumps(self.result.to_dict(), indent=2, sort_keys=True) if record is None else record) + "\n")
            os.replace(partial, path)
        except OSError as error:
            raise AttestedError("it cannot be written: %s" % (error.strerror or error), where=path, fix="Choose another result_file") from None
        return True


class Attestation:
    """Everything that one task brings to an appraisal. Files are read, and errors in them told, before a guest is asked."""

    def __init__(self, options: t.Mapping[str, t.Any], action: t.Any, *, enforce_chain_of_trust: bool = False) -> None:
        self._options = options
        self._inputs = Inputs.of_action(action)
        self._enforce_chain_of_trust = enforce_chain_of_trust
        self.policy = self._inputs.policy(options["policy"])
        self._reference_values = self._inputs.reference_values(options["reference_values"])
        self._endorsements = read_endorsements(options, self._inputs)
        self._fixed_time: datetime | None = evaluation_time(options["at"]) if options["at"] else None
        self._connection = connection_binding(action._connection) if self.policy.ssh_binding != "off" else None
        if self._connection is not None and self._connection.strict:
            pin(action._connection)

    def signing_key(self, path: str) -> t.Any:
        """What signs a record. A bad key is told before a guest is asked, too."""
        return self._inputs.signing_key(path)

    def of(
        self,
        guest: Guest,
        *,
        nonce: str | None = None,
        tee_pubkey: t.Mapping[str, str] | None = None,
        tls_certificate: str | None = None,
    ) -> Attested:
        """Attest ``guest`` with a nonce that is fresh unless one is given (base64)."""
        challenge = parse_nonce(nonce or draw_nonce())
        over_ssh = self._connection is not None and self._connection.transport == SSH
        document = guest.evidence(challenge, self._options, bind_ssh_host_keys=over_ssh, tee_pubkey=tee_pubkey, tls_certificate=tls_certificate)
        result = appraise(
            document,
            policy=self.policy,
            reference_values=self._reference_values,
            endorsements=self._endorsements,
            expected_nonce=challenge,
            at=self._fixed_time or evaluation_time(None),
            connection=self._connection,
            enforce_chain_of_trust=self._enforce_chain_of_trust,
        )
        return Attested(document, result, self._inputs)
