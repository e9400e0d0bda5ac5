# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A trial of a key broker in service that changes nothing there and is let in nowhere.

A guest of the sample TEE, which proves nothing, goes through the whole handshake. A sound key broker verifies its evidence, issues a token that is signed by
its own key and calls nothing affirming, and refuses it every resource. That is what is asked for: the production policy stays as it is.
"""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.kbs import evidence
from ansible_collections.attested.ai.plugins.module_utils.kbs.admin import AdminClient, look
from ansible_collections.attested.ai.plugins.module_utils.kbs.explain import LEEWAY
from ansible_collections.attested.ai.plugins.module_utils.kbs.guest import Challenge, Collected, GuestClient
from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError
from ansible_collections.attested.ai.plugins.module_utils.kbs.transport import Transport
from ansible_collections.attested.ai.plugins.module_utils.trustee import eartoken

PASS, FAIL, UNKNOWN = "pass", "fail", "not_checked"
TLS = {
    "new": (PASS, "TLS 1.3 only"),
    "old": (FAIL, "it takes TLS 1.2: set tls_profile of [http_server] to modern"),
    "none": (FAIL, "it speaks without TLS"),
    "unknown": (UNKNOWN, "the connection for it was not taken"),
}


@dataclass(frozen=True)
class Check:
    id: str
    outcome: str
    detail: str

    def to_dict(self) -> Dict[str, str]:
        return {"id": self.id, "outcome": self.outcome, "detail": self.detail}


@dataclass(frozen=True)
class Trial:
    """``tls`` tells what of TLS the KBS takes: a key of TLS. ``token_authority`` is PEM, empty if it is not known here."""

    transport: Transport
    where: str
    admin: Optional[AdminClient]
    tls: Callable[[], str]
    token_authority: str = ""
    attestation: bool = True
    clock: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.timezone.utc)

    def run(self) -> List[Check]:
        """All checks. Raises KbsError if no KBS answers at all."""
        found = self._outside()
        found.append(self._admin())
        found.append(self._unattested())
        if not self.attestation:
            return [*found, *(Check(name, UNKNOWN, "left out") for name in ("binding", "handshake", "token", "sample-refused"))]
        found.append(self._binding())
        return [*found, *self._handshake()]

    def _outside(self) -> List[Check]:
        health = look(self.transport, self.where)
        found = [
            Check("healthy", PASS, "it answers"),
            Check("admin-closed", FAIL if health.open_admin else PASS,
                  "it lets admins in without a token: write [admin] into its configuration" if health.open_admin else "no admin without a token"),
        ]  # fmt: skip
        skew = health.clock_skew
        if skew is None:
            found.append(Check("clock", UNKNOWN, "it does not tell its time"))
        else:
            found.append(Check("clock", PASS if abs(skew) <= LEEWAY else FAIL, "its clock is %+d seconds from ours" % skew))
        found.append(Check("tls-1.3", *TLS[self.tls()]))
        return found

    def _admin(self) -> Check:
        if self.admin is None:
            return Check("admin-token", UNKNOWN, "no admin key or token was given")
        try:
            return Check("admin-token", PASS, "accepted; policies: %s" % (", ".join(self.admin.policies()) or "none"))
        except KbsError as error:
            return Check("admin-token", FAIL, str(error))

    def _unattested(self) -> Check:
        """A guest that attested nothing."""
        path = _nowhere()
        try:
            answer = self.transport("GET", "/kbs/v0/resource/" + path, None, {})
        except KbsError as error:
            return Check("unattested-refused", FAIL, str(error))
        if answer.status in (401, 403):
            return Check("unattested-refused", PASS, "nothing without a token")
        return Check("unattested-refused", FAIL, "it answers %d to a guest that attested nothing" % answer.status)

    def _binding(self) -> Check:
        """Evidence for another challenge must be refused, before any token."""
        guest = GuestClient(self.transport, self.where)
        try:
            guest.attest("sample", lambda challenge: Collected(evidence.sample(bytes(48))))
        except KbsError as error:
            if error.code == "kbs-evidence":
                return Check("binding", PASS, "evidence that binds another challenge is refused")
            return Check("binding", FAIL, str(error))
        return Check("binding", FAIL, "it issued a token for evidence that binds another challenge")

    def _handshake(self) -> List[Check]:
        guest = GuestClient(self.transport, self.where)
        try:
            token = guest.attest("sample", _sample)
        except KbsError as error:
            left = (Check(name, UNKNOWN, "there was no token") for name in ("token", "sample-refused"))
            return [Check("handshake", FAIL, str(error)), *left]
        return [Check("handshake", PASS, "evidence was verified, a token was issued"), self._token(token), self._refused(guest)]

    def _token(self, token: str) -> Check:
        if not self.token_authority:
            return Check("token", UNKNOWN, "the authority of tokens is not known here")
        try:
            found = eartoken.verify(token, self.token_authority, self.clock())
        except AttestedError as error:
            return Check("token", FAIL, str(error))
        good = sorted(name for name, status in found.statuses.items() if status == "affirming")
        if good:
            return Check("token", FAIL, "the sample TEE, which proves nothing, is affirming in %s: correct the attestation policy" % ", ".join(good))
        told = ", ".join("%s %s" % pair for pair in found.statuses.items())
        return Check("token", PASS, "signed by its own key, for %d seconds; %s" % (found.expires - found.issued, told))

    def _refused(self, guest: GuestClient) -> Check:
        try:
            guest.resource(_nowhere())
        except KbsError as error:
            if error.code == "kbs-policy-denied":
                return Check("sample-refused", PASS, "the resource policy refuses the sample TEE")
            if error.code == "kbs-plugin-failed":
                return Check("sample-refused", FAIL, "the resource policy lets the sample TEE in, which proves nothing. Set it with attested.ai.kbs_policy")
            return Check("sample-refused", FAIL, str(error))
        except AttestedError as error:
            return Check("sample-refused", FAIL, str(error))
        return Check("sample-refused", FAIL, "the sample TEE, which proves nothing, was given a resource")


def _sample(challenge: Challenge) -> Collected:
    return Collected(evidence.sample(challenge.report_data()))


def _nowhere() -> str:
    """A path at which nothing is: a policy is asked before a resource is looked for."""
    return "attested-ai/smoke/%s" % os.urandom(8).hex()


def failed(checks: List[Check]) -> List[Check]:
    return [check for check in checks if check.outcome == FAIL]


def summary(checks: List[Check]) -> List[Dict[str, Any]]:
    return [check.to_dict() for check in checks]
