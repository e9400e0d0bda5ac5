# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The guest's own evidence in the shapes of a KBS: collected by what the module tee_evidence collects with, bound as a KBS asks for it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Optional

from ansible_collections.attested.ai.plugins.module_utils.errors import CollectError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import PROFILE_KBS, EvidenceDocument, EvidenceItem, additional_evidence
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_certtable import parse_certtable
from ansible_collections.attested.ai.plugins.module_utils.kbs import evidence
from ansible_collections.attested.ai.plugins.module_utils.kbs.guest import Challenge, Collected
from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError
from ansible_collections.attested.ai.plugins.module_utils.target.collect import Request, collect_all

# Type of an item -> the name of the TEE in the protocol.
TEES = {"sev-snp": "snp", "tdx": "tdx", "cca": "cca"}
_CERTIFICATES = ("ark", "ask", "vcek", "vlek")


@dataclass
class OwnEvidence:
    """Evidence of this guest. ``digest`` names the document of the last handshake."""

    request: Request
    init_data: Optional[str] = None
    gather: Callable[[Request], EvidenceDocument] = field(default=lambda request: collect_all(request).document)
    digest: str = ""

    def tee(self) -> str:
        """What this guest is, as the protocol names it: asked of evidence that is thrown away, for the first step of the handshake wants to know."""
        nonce = strict.encode_base64(os.urandom(32))
        found = self.gather(self.request._replace(nonce=nonce, gpus="none", switches="none", event_log="none"))
        return tee_of(found.items[0])

    def __call__(self, challenge: Challenge) -> Collected:
        """Raises CollectError, KbsError, FormatError."""
        if challenge.algorithm != "sha384":
            raise KbsError("it asks for evidence over %s, which is not made here" % challenge.algorithm, where="key broker", code="kbs-hash",
                           fix="SHA-384 is what Trustee takes for this TEE")
        document = self.gather(self.request._replace(nonce=challenge.nonce, profile=PROFILE_KBS, tee_pubkey=challenge.jwk))
        additional = additional_evidence(PROFILE_KBS, document.items)
        if evidence.padded(challenge.report_data(additional)) != document.expected_report_data(document.nonce):
            raise CollectError("the evidence binds something else than was asked for", where="evidence", code="kbs-binding")
        self.digest = document.digest()
        return Collected(shape(document.items[0]), additional, self.init_data)


def tee_of(item: EvidenceItem) -> str:
    """Raises KbsError for a TEE whose evidence has no form here."""
    found = TEES.get(item.type)
    if found is None:
        raise KbsError("evidence of %s is not brought into the form of a KBS yet" % item.type, where="evidence", code="kbs-tee",
                       fix="Attest with attested.ai.model_release in mode push")
    return found


def shape(item: EvidenceItem) -> Any:
    """The primary evidence. Raises FormatError, KbsError."""
    kind = tee_of(item)
    if kind == "tdx":
        return evidence.tdx(item.evidence, item.auxiliary.get("event-log"))
    if kind == "cca":
        return {"token": list(item.evidence)}
    certificates: Dict[str, bytes] = {}
    if "certificates" in item.auxiliary:
        table = parse_certtable(item.auxiliary["certificates"])
        certificates = {name: der for name, der in table.entries if name in _CERTIFICATES}
    return evidence.snp(item.evidence, certificates)
