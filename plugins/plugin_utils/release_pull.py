# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""model_release in pull mode: the guest fetches the key, the controller says from where and remembers what was released."""

from __future__ import annotations

import secrets
import typing as t
from contextlib import suppress
from datetime import datetime, timezone

from ansible.errors import AnsibleError

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.kbs.transport import Server
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.counter import Counter, Counters
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.ledger import Entry
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.release import format_time
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import Inputs
from ansible_collections.attested.ai.plugins.plugin_utils.attestation_options import COLLECTION
from ansible_collections.attested.ai.plugins.plugin_utils.guest import Guest
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import local_path
from ansible_collections.attested.ai.plugins.plugin_utils.public_key import public_key
from ansible_collections.attested.ai.plugins.plugin_utils.release_records import ReleaseRecords, all_counters, counters_of

KBS_SPEC: t.Final[dict[str, dict[str, t.Any]]] = {
    "url": {"type": "str", "required": True},
    "pins": {"type": "list", "elements": "str", "default": []},
    "ca_path": {"type": "path"},
    "server_name": {"type": "str", "default": ""},
    "timeout": {"type": "int", "default": 20},
    "allow_http": {"type": "bool", "default": False},
}
# What each mode knows nothing of: silently ignored, it would look as if it counted.
_FOREIGN: t.Final = {
    "pull": ("policy", "reference_values", "model", "kek", "certificates", "crl", "collateral", "collateral_key", "at"),
    "push": ("kbs", "resource", "init_data"),
}
# Those that a KBS is not told of.
_NOT_COLLECTED = ("ssh_dir",)


def refuse_other_mode(options: t.Mapping[str, t.Any]) -> None:
    """Raises KeyReleaseError for options of the other mode."""
    strange = [name for name in _FOREIGN[options["mode"]] if options[name]]
    if strange:
        who = "the policies of the KBS decide" if options["mode"] == "pull" else "the controller hands the key over"
        raise KeyReleaseError("%s is not for mode %s, where %s" % (", ".join(strange), options["mode"], who), where="model_release", code="mode-option")


def pull(action: t.Any, guest: Guest, options: t.Mapping[str, t.Any], besides: Counter | None, requester: str) -> dict[str, t.Any]:
    """What the task returns. Raises AttestedError."""
    check_mode = action._task.check_mode
    ledger = None if options["ledger"] is None else local_path(action, options["ledger"])
    signer = None if options["signer"] is None else public_key(options["signer"], action)
    address = _address(action, options["kbs"])
    records = None
    counters: Counters | None = None if besides is None else Counters([besides])
    if ledger is not None and check_mode:
        counters = all_counters(counters_of(ledger), besides)
    elif ledger is not None:
        records = ReleaseRecords(ledger, options["ledger_key"] and local_path(action, options["ledger_key"]), besides)
        counters = records.counters
    least = options["minimum_release"] or 1
    session = secrets.token_hex(10)
    made = guest.run(
        "guest_key_pull",
        session=session,
        directory=options["session_directory"],
        lifetime=options["lifetime"],
        resource=options["resource"],
        # The guest does not know yet which model it will be: what is remembered of that is compared below.
        minimum_release=least,
        signer=signer,
        init_data=options["init_data"],
        **address,
        **{name: options[name] for name in COLLECTION if name not in _NOT_COLLECTED},
    )
    if check_mode:
        return {"changed": True, "anchored": made.get("anchored") is True}
    try:
        told = _Told.of(made, guest.name)
        if counters is not None:
            remembered = counters.minimum(told.model_id)
            if told.release < remembered:
                raise KeyReleaseError(
                    f"it gave out release {told.release} of {told.model_id}, but release {remembered} was the lowest allowed before",
                    where=options["kbs"]["url"], fix="Take the old key out of the KBS (attested.ai.kbs_model_key, state absent): the guest has had it",
                    code="model-rollback",
                )  # fmt: skip
            counters.raise_to(told.model_id, max(told.minimum_release, remembered))
        entry = None if records is None else records.append(told.entry(guest.name, requester, options))
    except BaseException:
        sweep(guest, session, options["session_directory"])
        raise
    found: dict[str, t.Any] = {
        "changed": True, "session": session, "session_directory": options["session_directory"], "expires_at": str(made.get("expires_at"))[:32],
        "key_id": told.key_id, "model_id": told.model_id, "release": told.release, "anchored": made.get("anchored") is True,
    }  # fmt: skip
    return found if entry is None else {**found, "ledger_entry": entry}


def sweep(guest: Guest, session: str, directory: str) -> None:
    """Best effort: if the guest cannot be reached now, its watchdog sweeps the session."""
    with suppress(AnsibleError, AttestedError):
        guest.run("guest_key", session=session, directory=directory, state="absent")


class _Told(t.NamedTuple):
    """What the guest says of the key that it got: held to its form, and no more than its word."""

    model_id: str
    release: int
    minimum_release: int
    key_id: str
    evidence_digest: str
    thumbprint: str

    @classmethod
    def of(cls, made: t.Mapping[str, t.Any], name: str) -> _Told:
        where = f"answer of {name}"
        for number in ("release", "minimum_release"):
            if isinstance(made.get(number), bool) or not isinstance(made.get(number), int):
                raise KeyReleaseError("it tells no %s" % number, where=where, code="guest-answer")
        strict.decode_hex(made.get("evidence_digest"), where + " evidence_digest", 32)
        texts = {field: strict.text_of(made.get(field), f"{where} {field}", 256) for field in ("model_id", "key_id", "evidence_digest", "thumbprint")}
        return cls(release=made["release"], minimum_release=made["minimum_release"], **texts)

    def entry(self, host: str, who: str, options: t.Mapping[str, t.Any]) -> Entry:
        return Entry(
            at=format_time(datetime.now(timezone.utc)), who=who, host=host, key_id=self.key_id, model_id=self.model_id, release=self.release,
            evidence_digest=self.evidence_digest, policy_id="kbs", policy_digest="", anchor="", guest_key_thumbprint=self.thumbprint, decision="released",
            reasons=("pull: %s of %s released it by its own policies, and the guest says so" % (options["resource"], options["kbs"]["url"]),),
        )  # fmt: skip


def _address(action: t.Any, kbs: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The options of the guest's module. What cannot be used is told here already."""
    ca = ""
    if kbs["ca_path"] is not None:
        ca = Inputs.of_action(action).read_text(kbs["ca_path"], "ca_path")
        if not ca.strip():
            raise KeyReleaseError("it is empty", where=f"ca_path {kbs['ca_path']}", fix="Give PEM", code="kbs-ca")
    Server(kbs["url"], ca, kbs["server_name"], tuple(kbs["pins"]), float(kbs["timeout"]), kbs["allow_http"])
    return {"url": kbs["url"], "ca": ca, "pins": list(kbs["pins"]), **{name: kbs[name] for name in ("server_name", "timeout", "allow_http")}}
