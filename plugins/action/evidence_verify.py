# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Appraise evidence on the controller, offline, at a stated time."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass
from datetime import datetime, timedelta

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import APPRAISERS, UNCHECKED, Endorsements, appraise, appraise_report
from ansible_collections.attested.ai.plugins.module_utils.appraisal.ear import jwks, sign_ear
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import Policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValues
from ansible_collections.attested.ai.plugins.module_utils.appraisal.result import Result
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import DEVICE_NONCE_SIZE, DEVICE_TYPES, REPORT_DATA_SIZE
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.plugin_utils.action_failure import failure_as_result
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import Inputs, evaluation_time, parse_nonce, parse_report_data
from ansible_collections.attested.ai.plugins.plugin_utils.endorsement_inputs import read_endorsements

ARGUMENT_SPEC = {
    "evidence": {"type": "raw"},
    "report": {"type": "path"},
    "tee": {"type": "str", "choices": list(APPRAISERS), "default": "sev-snp"},
    "auxiliary": {"type": "dict", "options": {"certificates": {"type": "path"}, "event_log": {"type": "path"}}},
    "nonce": {"type": "raw"},
    "report_data": {"type": "str"},
    "freshness": {"type": "str", "choices": ["checked", "unchecked"], "default": "checked"},
    "certificates": {"type": "list", "elements": "path", "default": []},
    "crl": {"type": "list", "elements": "path", "default": []},
    "collateral": {"type": "list", "elements": "path", "default": []},
    "collateral_key": {"type": "raw", "no_log": False},
    "policy": {"type": "raw"},
    "reference_values": {"type": "raw"},
    "at": {"type": "str"},
    "ear_key": {"type": "path", "no_log": False},
    "ear_lifetime": {"type": "int", "default": 300},
    "fail_on_refusal": {"type": "bool", "default": True},
}


@dataclass(frozen=True)
class Setting:
    """What all evidence of one task is judged by."""

    inputs: Inputs
    policy: Policy
    reference_values: ReferenceValues
    endorsements: Endorsements
    at: datetime
    ear_key: t.Any
    ear_lifetime: timedelta
    cache: VerificationCache


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    @failure_as_result
    def run(self, tmp: t.Any = None, task_vars: dict | None = None) -> dict:
        super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(
            argument_spec=ARGUMENT_SPEC,
            required_one_of=[("evidence", "report")],
            mutually_exclusive=[("evidence", "report"), ("nonce", "report_data")],
        )
        try:
            return verify(options, Inputs.of_action(self))
        except AttestedError as error:
            raise AnsibleActionFail(str(error)) from None


def verify(options: t.Mapping[str, t.Any], inputs: Inputs) -> dict:
    """The result of the task. Raises AttestedError."""
    check_options(options)
    setting = Setting(
        inputs=inputs,
        policy=inputs.policy(options["policy"]),
        reference_values=inputs.reference_values(options["reference_values"]),
        endorsements=read_endorsements(options, inputs),
        at=evaluation_time(options["at"]),
        ear_key=None if options["ear_key"] is None else inputs.signing_key(options["ear_key"]),
        ear_lifetime=timedelta(seconds=options["ear_lifetime"]),
        cache=VerificationCache(),
    )
    many = isinstance(options["evidence"], (list, tuple))
    if many:
        # Under one nonce the same evidence would stand for two guests.
        seen: set[str] | None = None if options["freshness"] == "unchecked" else set()
        judged = [judge_one_of_many(evidence, nonce, setting, seen) for evidence, nonce in zip(options["evidence"], nonces(options))]
        task = {"results": judged, "accepted": all(one["accepted"] for one in judged)}
        refused = [one for one in judged if not one["accepted"]]
        message = f"{len(judged) - len(refused)} of {len(judged)} accepted." + (f" {refused[0]['msg']}" if refused else "")
    else:
        task = judge_report(options, setting) if options["report"] is not None else judge_document(options["evidence"], options["nonce"], setting)
        message = task["msg"]
    if setting.ear_key is not None:
        task["jwks"] = jwks(setting.ear_key)
    return {**task, "changed": False, "failed": options["fail_on_refusal"] and not task["accepted"], "msg": message}


def check_options(options: t.Mapping[str, t.Any]) -> None:
    """Freshness is either proven or expressly left unchecked; there is no third way."""
    proof = "nonce" if options["evidence"] is not None else "report_data"
    other = "report_data" if proof == "nonce" else "nonce"
    if options[other] is not None:
        raise AttestedError(f"{other} does not go with {'evidence' if proof == 'nonce' else 'report'}", fix=f"Give {proof}", where="options")
    if options["freshness"] == "unchecked" and options[proof] is not None:
        raise AttestedError(f"{proof} and freshness=unchecked exclude each other", where="options")
    if options["freshness"] == "checked" and options[proof] is None:
        raise AttestedError(
            f"{proof} is missing, so old evidence could not be told from new", where="options",
            fix=f"Give the {proof} of this run, or set freshness=unchecked, which marks the result",
        )
    if isinstance(options["evidence"], (list, tuple)) and not options["evidence"]:
        raise AttestedError("the list is empty, so there is nothing to judge", where="evidence")
    if options["report"] is None and options["auxiliary"]:
        raise AttestedError("auxiliary goes with report; an evidence document carries its own", where="options")
    if options["ear_lifetime"] < 1:
        raise AttestedError("it must be at least 1 second", where="ear_lifetime")


def nonces(options: t.Mapping[str, t.Any]) -> list:
    """One nonce for each document of a list: a list of the same length, or one that all of them answer."""
    count, nonce = len(options["evidence"]), options["nonce"]
    if not isinstance(nonce, (list, tuple)):
        return [nonce] * count
    if len(nonce) != count:
        raise AttestedError(f"{len(nonce)} nonces for {count} evidence documents", where="nonce", fix="Give one for each, in the same order")
    if None in nonce:
        raise AttestedError("number %d is null, so old evidence could not be told from new" % (nonce.index(None) + 1), where="nonce", fix="Give one for each")
    return list(nonce)


def judge_one_of_many(evidence: t.Any, nonce: t.Any, setting: Setting, seen: set[str] | None) -> dict:
    """Like judge_document, but a document that cannot be read is a refusal of its own and does not stop the others. ``seen`` holds the identities
    of what was accepted before in this task, None to not look."""
    try:
        return judge_document(evidence, nonce, setting, seen)
    except AttestedError as error:
        return {"accepted": False, "result": None, "msg": str(error)}


def judge_document(evidence: t.Any, nonce: t.Any, setting: Setting, seen: set[str] | None = None) -> dict:
    result = appraise(
        setting.inputs.evidence(evidence),
        policy=setting.policy,
        reference_values=setting.reference_values,
        endorsements=setting.endorsements,
        expected_nonce=UNCHECKED if nonce is None else parse_nonce(nonce),
        at=setting.at,
        connection=None,
        seen=seen,
        cache=setting.cache,
    )
    if seen is not None and result.accepted:
        seen.update(item.identity for item in result.items.values() if item.identity is not None)
    return report(result, setting)


def judge_report(options: t.Mapping[str, t.Any], setting: Setting) -> dict:
    expected, tee = options["report_data"], options["tee"]
    size = DEVICE_NONCE_SIZE if tee in DEVICE_TYPES else REPORT_DATA_SIZE
    auxiliary = {name.replace("_", "-"): path for name, path in (options["auxiliary"] or {}).items() if path is not None}
    result = appraise_report(
        setting.inputs.read(options["report"], "report"),
        tee=tee,
        auxiliary={name: setting.inputs.read(path, f"auxiliary {name}") for name, path in auxiliary.items()},
        policy=setting.policy,
        reference_values=setting.reference_values,
        endorsements=setting.endorsements,
        expected_report_data=UNCHECKED if expected is None else parse_report_data(expected, size),
        at=setting.at,
        cache=setting.cache,
    )
    return report(result, setting)


def report(result: Result, setting: Setting) -> dict:
    found: dict = {"accepted": result.accepted, "result": result.to_dict(), "msg": result.explain()}
    # A verdict that rests on something expired cannot be signed: there is no time in which it would hold.
    if setting.ear_key is not None and (result.expires_at is None or result.expires_at > setting.at):
        found["ear"] = sign_ear(result, setting.ear_key, issued_at=setting.at, lifetime=setting.ear_lifetime)
    return found
