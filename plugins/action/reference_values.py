# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Compute, record, keep and sign the measurements that are ours, on the controller."""

from __future__ import annotations

import dataclasses
import typing as t
from datetime import datetime

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import appraise
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import STAGES
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import TEES, ReferenceValue, ReferenceValues, read_value
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.measure import initdata, tdvf
from ansible_collections.attested.ai.plugins.module_utils.measure.record import DEFAULT_RTMRS, recorded
from ansible_collections.attested.ai.plugins.module_utils.measure.snp_launch import VMMS, SnpLaunch, launch_digest
from ansible_collections.attested.ai.plugins.plugin_utils.action_failure import failure_as_result
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import Inputs, evaluation_time, parse_nonce, plain
from ansible_collections.attested.ai.plugins.plugin_utils.endorsement_inputs import read_endorsements
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import local_path
from ansible_collections.attested.ai.plugins.plugin_utils.public_key import read_public_key
from ansible_collections.attested.ai.plugins.plugin_utils.reference_document import Document

SOURCES = ("value", "snp", "tdx", "record")
ARGUMENT_SPEC: dict[str, dict[str, t.Any]] = {
    "path": {"type": "path", "required": True},
    "state": {"type": "str", "choices": ["present", "absent", "verified"], "default": "present"},
    "image": {"type": "str"},
    "source": {"type": "str"},
    "covers": {"type": "str", "choices": list(STAGES)},
    "not_after": {"type": "str"},
    "replace": {"type": "bool", "default": False},
    "tee": {"type": "str", "choices": list(TEES)},
    "value": {"type": "dict"},
    "snp": {
        "type": "dict",
        "options": {
            "ovmf": {"type": "path", "required": True},
            "vcpus": {"type": "int", "required": True},
            "vcpu_type": {"type": "str", "default": "EPYC-v4"},
            "kernel": {"type": "path"},
            "initrd": {"type": "path"},
            "append": {"type": "str"},
            "guest_features": {"type": "str", "default": "0x1"},
            "vmm": {"type": "str", "choices": list(VMMS), "default": "qemu"},
        },
    },
    "tdx": {
        "type": "dict",
        "options": {
            "tdvf": {"type": "path", "required": True},
            "order": {"type": "str", "choices": list(tdvf.ORDERS), "default": "page"},
            "rtmr": {"type": "dict", "default": {}},
        },
    },
    "record": {
        "type": "dict",
        "options": {
            "evidence": {"type": "raw", "required": True},
            "nonce": {"type": "str", "required": True},
            "policy": {"type": "raw", "required": True},
            "certificates": {"type": "list", "elements": "path", "default": []},
            "crl": {"type": "list", "elements": "path", "default": []},
            "collateral": {"type": "list", "elements": "path", "default": []},
            "collateral_key": {"type": "raw", "no_log": False},
            "at": {"type": "str"},
            "registers": {"type": "list", "elements": "str", "choices": ["0", "1", "2", "3"], "default": list(DEFAULT_RTMRS)},
        },
    },
    "init_data": {"type": "path"},
    "init_data_algorithm": {"type": "str", "choices": list(initdata.ALGORITHMS), "default": "sha256"},
    "signing_key": {"type": "path", "no_log": False},
    "create_signing_key": {"type": "bool", "default": False, "no_log": False},
    "public_key": {"type": "raw", "no_log": False},
    "rvps": {"type": "path"},
}


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    @failure_as_result
    def run(self, tmp: t.Any = None, task_vars: dict | None = None) -> dict:
        super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(
            argument_spec=ARGUMENT_SPEC,
            mutually_exclusive=[SOURCES],
            required_if=[
                ("state", "present", SOURCES, True),
                ("state", "present", ("image", "source", "not_after")),
                ("state", "absent", ("image",)),
                ("state", "verified", ("public_key",)),
            ],
        )
        inputs = Inputs.of_action(self)
        try:
            document = Document.read(local_path(self, options["path"]))
            if options["state"] == "verified":
                return document.verified(read_public_key(options["public_key"], inputs))
            kept = changed_values(document.values, options, inputs)
            return document.keep(
                kept,
                signing_key=local_path(self, options["signing_key"]) if options["signing_key"] else None,
                create_signing_key=options["create_signing_key"],
                rvps=local_path(self, options["rvps"]) if options["rvps"] else None,
                at=evaluation_time(None),
                check_mode=self._task.check_mode,
                diff=self._task.diff,
            )
        except AttestedError as error:
            raise AnsibleActionFail(str(error), result={"code": error.code}) from None


def changed_values(before: ReferenceValues, options: t.Mapping[str, t.Any], inputs: Inputs) -> ReferenceValues:
    """The values that the document should hold."""
    if options["state"] == "absent":
        return ReferenceValues(tuple(value for value in before.values if not concerns(value, options["image"], options["tee"])))
    new = made_value(options, inputs)
    kept = [value for value in before.values if not same_place(value, new) and not (options["replace"] and concerns(value, new.image, new.tee))]
    if new in before.values and len(kept) == len(before.values) - 1:
        return before
    return ReferenceValues((*kept, new))


def concerns(value: ReferenceValue, image: str, tee: str | None) -> bool:
    return value.image == image and tee in (None, value.tee)


def same_place(one: ReferenceValue, two: ReferenceValue) -> bool:
    """Whether a value takes the other's place: the same measurement of the same image, with other words around it."""
    return (one.tee, one.image, one.measurement, one.implementation_id) == (two.tee, two.image, two.measurement, two.implementation_id)


def made_value(options: t.Mapping[str, t.Any], inputs: Inputs) -> ReferenceValue:
    """The value that the task describes, computes or records. Raises AttestedError."""
    value = measured(options, inputs)
    if options["init_data"]:
        name, digest = initdata.field_value(inputs.read(options["init_data"], "init_data"), options["init_data_algorithm"], value["tee"])
        if value.get(name, digest) != digest:
            raise FormatError(f"the task says {value[name]}, the digest of the init-data is {digest}", where=name, fix="Leave one of the two away")
        value[name] = digest
    for name in ("image", "source", "not_after", "covers"):
        if options[name] is not None:
            value[name] = options[name]
    return read_value(value, "reference value")


def measured(options: t.Mapping[str, t.Any], inputs: Inputs) -> dict[str, t.Any]:
    if options["value"] is not None:
        value = dict(plain(options["value"], "value"))
        if options["tee"]:
            value.setdefault("tee", options["tee"])
        return value
    if options["snp"] is not None:
        return {"tee": "sev-snp", "measurement": launch_digest(snp_launch(options["snp"], inputs)).hex()}
    if options["tdx"] is not None:
        given = options["tdx"]
        found = tdvf.mrtd(inputs.read(given["tdvf"], "tdvf", tdvf.IMAGE_MAX), given["order"])
        return {"tee": "tdx", "measurement": found.hex(), **({"rtmr": plain(given["rtmr"], "rtmr")} if given["rtmr"] else {})}
    return from_run(options["record"], inputs)


def snp_launch(given: t.Mapping[str, t.Any], inputs: Inputs) -> SnpLaunch:
    paths = {name: None if given[name] is None else inputs.resolve(given[name]) for name in ("ovmf", "kernel", "initrd")}
    try:
        features = int(given["guest_features"], 0)
    except ValueError:
        raise FormatError("%r is no number such as 0x1" % given["guest_features"], where="guest_features") from None
    return SnpLaunch(vcpus=given["vcpus"], vcpu_type=given["vcpu_type"], append=given["append"], guest_features=features, vmm=given["vmm"], **paths)


def from_run(given: t.Mapping[str, t.Any], inputs: Inputs) -> dict[str, t.Any]:
    """Judge the evidence by everything but the measurement, which is what is to be learnt; then take it."""
    policy = dataclasses.replace(inputs.policy(given["policy"]), measurements_required=False)
    at: datetime = evaluation_time(given["at"])
    result = appraise(
        inputs.evidence(given["evidence"]), policy=policy, reference_values=ReferenceValues(), endorsements=read_endorsements(given, inputs),
        expected_nonce=parse_nonce(given["nonce"]), at=at, connection=None,
    )  # fmt: skip
    return recorded(result, given["registers"])
