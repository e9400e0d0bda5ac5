# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""model_release: attest a guest with a key of its own, then hand a model's data key to that key; or have it fetch the key from a key broker."""

from __future__ import annotations

import getpass
import os
import secrets
import typing as t
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import parse_public_jwk
from ansible_collections.attested.ai.plugins.module_utils.formats.jwk import thumbprint
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.counter import Counter
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.ledger import Entry
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.release import format_time, parse_time, seal
from ansible_collections.attested.ai.plugins.plugin_utils.action_failure import failure_as_result
from ansible_collections.attested.ai.plugins.plugin_utils.attestation import Attestation, Attested
from ansible_collections.attested.ai.plugins.plugin_utils.attestation_options import ATTESTATION
from ansible_collections.attested.ai.plugins.plugin_utils.edge_source import EdgeSource, is_edge
from ansible_collections.attested.ai.plugins.plugin_utils.guest import Guest
from ansible_collections.attested.ai.plugins.plugin_utils.key_source import KekSource
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import local_path
from ansible_collections.attested.ai.plugins.plugin_utils.public_key import public_key
from ansible_collections.attested.ai.plugins.plugin_utils.release_counter import counter_of
from ansible_collections.attested.ai.plugins.plugin_utils.release_offer import Offer, load_offer, minimum_release
from ansible_collections.attested.ai.plugins.plugin_utils.release_pull import KBS_SPEC, pull, refuse_other_mode
from ansible_collections.attested.ai.plugins.plugin_utils.release_records import ReleaseRecords, all_counters, counters_of

RELEASED, REFUSED = "released", "refused"

PUSH, PULL = "push", "pull"
ARGUMENT_SPEC: t.Final[dict[str, dict[str, t.Any]]] = {
    **ATTESTATION,
    "mode": {"type": "str", "choices": [PUSH, PULL], "default": PUSH},
    "policy": {"type": "raw"},
    "model": {"type": "path"},
    "kek": {"type": "raw", "no_log": False},
    "signer": {"type": "raw"},
    "ledger": {"type": "path"},
    "ledger_key": {"type": "path", "no_log": False},
    "counter": {"type": "dict"},
    "kbs": {"type": "dict", "options": KBS_SPEC},
    "resource": {"type": "str"},
    "init_data": {"type": "path"},
    "minimum_release": {"type": "int"},
    "requester": {"type": "str"},
    "session_directory": {"type": "path", "default": "/run/attested-ai"},
    "lifetime": {"type": "int", "default": 300},
}


@dataclass(frozen=True)
class HandOver:
    """One guest, its session, and what it is to get."""

    guest: Guest
    session: str
    options: t.Mapping[str, t.Any]
    offer: Offer
    records: ReleaseRecords

    def guest_key(self, **arguments: t.Any) -> dict[str, t.Any]:
        return self.guest.run("guest_key", session=self.session, directory=self.options["session_directory"], **arguments)

    def make_key(self) -> tuple[dict[str, str], str]:
        """The guest's new public key and when it expires, both as the guest says it: held to their form, proven by nothing yet."""
        made, where = self.guest_key(lifetime=self.options["lifetime"]), f"key of {self.guest.name}"
        return parse_public_jwk(made.get("jwk"), where), format_time(parse_time(made.get("expires_at"), where + " expires_at"))

    def record(self, attested: Attested, decision: str, guest_jwk: t.Mapping[str, str], reasons: t.Sequence[str] = ()) -> dict[str, t.Any]:
        """Write one entry of the ledger; return what a task may show of it."""
        verdict, manifest = attested.result, self.offer.manifest
        return self.records.append(Entry(
            at=format_time(datetime.now(timezone.utc)),
            who=self.options["requester"] or _user(),
            host=self.guest.name,
            key_id=manifest.key_id,
            model_id=manifest.model_id,
            release=manifest.release,
            evidence_digest=verdict.evidence_digest,
            policy_id=verdict.policy_id,
            policy_digest=verdict.policy_digest,
            anchor=verdict.anchor,
            guest_key_thumbprint=thumbprint(guest_jwk),
            decision=decision,
            reasons=tuple(reason[:1000] for reason in reasons[:16]),
        ))

    def sweep(self) -> None:
        """Best effort: if the guest cannot be reached now, its watchdog sweeps the session."""
        with suppress(AnsibleError, AttestedError):
            self.guest_key(state="absent")


REQUIRED: t.Final = [("mode", PUSH, ["policy", "model", "kek", "signer", "ledger"]), ("mode", PULL, ["kbs", "resource"])]


class ActionModule(ActionBase):
    """Release a model's data key to the guest of this connection, or have the guest fetch it."""

    _requires_connection = True

    @failure_as_result
    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        answer = super().run(tmp, task_vars)
        # An edge bundle brings what a push needs.
        required = [] if is_edge(self._task.args) else REQUIRED
        _validation, options = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC, required_if=required)
        guest = Guest(self, task_vars or {})
        try:
            refuse_other_mode(options)
            besides = counter_of(self, options["counter"])
            if is_edge(options):
                return self._edge(guest, options, besides, answer)
            if options["mode"] == PULL:
                return {**answer, **pull(self, guest, options, besides, options["requester"] or _user())}
            return self._push(guest, options, besides, answer)
        except AttestedError as error:
            # With what was found before it failed: an entry of the ledger, for instance.
            return {**answer, "failed": True, "msg": str(error), "code": error.code}

    def _push(self, guest: Guest, options: t.Mapping[str, t.Any], besides: Counter | None, answer: dict[str, t.Any]) -> dict[str, t.Any]:
        attestation = Attestation(options, self, enforce_chain_of_trust=True)
        model, ledger = (local_path(self, options[name]) for name in ("model", "ledger"))
        offer = load_offer(model, KekSource(self, options["kek"]).load, public_key(options["signer"], self))
        if self._task.check_mode:
            return self._rehearsed(guest, options, offer, all_counters(counters_of(ledger), besides), attestation, answer)
        ledger_key = options["ledger_key"] and local_path(self, options["ledger_key"])
        return self._handed_over(guest, options, offer, ReleaseRecords(ledger, ledger_key, besides), attestation, answer)

    def _edge(self, guest: Guest, options: t.Mapping[str, t.Any], besides: Counter | None, answer: dict[str, t.Any]) -> dict[str, t.Any]:
        """A push by the bundle that is installed on this gateway. What is left of it is told in every outcome."""
        edge = EdgeSource(self, options)
        answer.update(edge.told())
        edge.refuse()
        options = edge.options(options)
        attestation, offer = Attestation(options, self, enforce_chain_of_trust=True), edge.offer()
        if self._task.check_mode:
            return self._rehearsed(guest, options, offer, all_counters(counters_of(options["ledger"]), besides), attestation, answer)
        try:
            return self._handed_over(guest, options, offer, edge.records(besides), attestation, answer)
        finally:
            answer.update(edge.told())

    def _rehearsed(self, guest: Guest, options: t.Mapping[str, t.Any], offer: Offer, known: Counter, attestation: Attestation,
                   answer: dict[str, t.Any]) -> dict[str, t.Any]:  # fmt: skip
        answer["key_id"] = offer.manifest.key_id
        minimum_release(offer.manifest, options["minimum_release"], known.minimum(offer.manifest.model_id))
        return {**answer, **_rehearse(attestation, guest)}

    def _handed_over(self, guest: Guest, options: t.Mapping[str, t.Any], offer: Offer, records: ReleaseRecords, attestation: Attestation,
                     answer: dict[str, t.Any]) -> dict[str, t.Any]:  # fmt: skip
        answer["key_id"] = offer.manifest.key_id
        hand_over = HandOver(guest, secrets.token_hex(10), options, offer, records)
        try:
            self._release(hand_over, attestation, answer)
        except BaseException:
            hand_over.sweep()
            raise
        return answer

    def _release(self, hand_over: HandOver, attestation: Attestation, answer: dict[str, t.Any]) -> None:
        """Fill ``answer``. Whatever is raised or refused here, the caller or this method has swept the session."""
        offer, options = hand_over.offer, hand_over.options
        lowest = minimum_release(offer.manifest, options["minimum_release"], hand_over.records.counters.minimum(offer.manifest.model_id))
        jwk, expires_at = hand_over.make_key()
        attested = attestation.of(hand_over.guest, tee_pubkey=jwk)
        answer.update(attested.to_dict())
        verdict = attested.result
        if not verdict.accepted:
            refusals = [f"{reason.id}: {reason.detail}" for reason in verdict.reasons]
            hand_over.sweep()
            answer.update(changed=False, failed=True, msg=verdict.explain(), ledger_entry=hand_over.record(attested, REFUSED, jwk, refusals))
            return
        if verdict.binding.get("tee_pubkey_thumbprint") != thumbprint(jwk):
            unbound = "the evidence does not bind the guest's key"
            answer["ledger_entry"] = hand_over.record(attested, REFUSED, jwk, [f"guest-key: {unbound}"])
            raise KeyReleaseError(unbound, where=hand_over.guest.name, fix="Do not release anything to this guest", code="guest-key-unbound")

        not_after = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(seconds=options["lifetime"])
        sealed = seal(offer.release(lowest, verdict.evidence_digest, not_after), jwk)
        # Both are written first: a release that was handed over is always in the ledger, and never below the counter.
        hand_over.records.counters.raise_to(offer.manifest.model_id, lowest)
        entry = hand_over.record(attested, RELEASED, jwk, _remarks(options))
        try:
            hand_over.guest_key(release=sealed)
        except (AnsibleError, AttestedError) as error:
            # Only the guest says so: whether it took the key before, nobody can know.
            failure = f"hand-over: the guest did not confirm entry {entry['seq']} and may hold the key all the same: {error}"
            answer["ledger_entry"] = hand_over.record(attested, REFUSED, jwk, [failure])
            raise
        answer.update(
            changed=True,
            session=hand_over.session,
            session_directory=options["session_directory"],
            expires_at=expires_at,
            ledger_entry=entry,
        )


def _rehearse(attestation: Attestation, guest: Guest) -> dict[str, t.Any]:
    """Check mode: attest without a guest key. The key would be released if the policy accepts the guest."""
    attested = attestation.of(guest)
    if attested.result.accepted:
        return {**attested.to_dict(), "changed": True}
    return {**attested.to_dict(), "changed": False, "failed": True, "msg": attested.result.explain()}


def _remarks(options: t.Mapping[str, t.Any]) -> list[str]:
    """What whoever reads the ledger has to know of a release beyond its policy."""
    return [f"at: judged as of {options['at']}, not of the time of release"] if options["at"] else []


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # In containers a number may have no name.
        return f"uid {os.getuid()}"
