# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an admin may ask of a KBS. There is no call that lists or reads resources or attestation policies back."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.kbs.explain import clock_skew, explain
from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError
from ansible_collections.attested.ai.plugins.module_utils.kbs.protocol import POLICY_IDS, PREFIX, Resource, check_reference_name, policy_text
from ansible_collections.attested.ai.plugins.module_utils.kbs.transport import Answer, Transport

_JSON = "application/json"


@dataclass(frozen=True)
class AdminClient:
    """``token`` gives a bearer token for each call, so that none is older than it must be. ``where`` names the KBS in errors."""

    transport: Transport
    token: Callable[[], str]
    where: str

    def set_resource(self, resource: Resource, data: bytes) -> None:
        self._call("POST", "/resource/" + resource.path, data, "application/octet-stream", "store %s" % resource.path)

    def delete_resource(self, resource: Resource) -> bool:
        """True if it was there. What was not there and a storage that fails look the same from here, so the second is ruled out by a value that is
        written and taken away again: beside it, for a guest that asks in between must not get that as its key."""
        doing = "delete %s" % resource.path
        try:
            self._call("DELETE", "/resource/" + resource.path, None, "", doing)
            return True
        except KbsError as error:
            if error.variant != "PluginInternalError":
                raise
        beside = Resource(resource.repository, resource.kind, "attested-ai-" + os.urandom(8).hex())
        self.set_resource(beside, b"none")
        self._call("DELETE", "/resource/" + beside.path, None, "", doing)
        return False

    def set_resource_policy(self, rego: str) -> None:
        self._post("/resource-policy", {"policy": policy_text(rego)}, "set the resource policy")

    def set_attestation_policy(self, policy_id: str, rego: str) -> None:
        if policy_id not in POLICY_IDS:
            raise KbsError("%s has no effect, the attestation service evaluates %s" % (strict.quoted(policy_id), ", ".join(POLICY_IDS)), where="policy_id",
                           code="kbs-policy-id")
        self._post("/attestation-policy", {"type": "rego", "policy_id": policy_id, "policy": policy_text(rego)}, "set the attestation policy %s" % policy_id)

    def policies(self) -> List[str]:
        """Names of policies of the KBS; their text is not given out."""
        found = self._json(self._call("GET", "/resource-policy", None, "", "list policies"), "list policies")
        if not isinstance(found, list):
            raise self._unusable("list policies")
        return [str(name)[:128] for name in found]

    def reference_value(self, name: str) -> Any:
        """The value that is in force, None if there is none."""
        doing = "read the reference value %s" % check_reference_name(name)
        try:
            return self._json(self._call("GET", "/reference-value/" + name, None, "", doing), doing)
        except KbsError as error:
            # The same status and name as for a failure; only the text differs.
            if error.variant == "RvpsError" and "No reference value found" in error.what:
                return None
            raise

    def set_reference_values(self, values: Mapping[str, Any]) -> None:
        for name in values:
            check_reference_name(name)
        payload = strict.encode_base64(json.dumps(dict(values), sort_keys=True).encode("utf-8"))
        self._post("/reference-value", {"version": "0.1.0", "type": "sample", "payload": payload}, "set reference values")

    def _post(self, path: str, body: Mapping[str, Any], doing: str) -> None:
        self._call("POST", path, json.dumps(body).encode("utf-8"), _JSON, doing)

    def _call(self, method: str, path: str, body: Optional[bytes], kind: str, doing: str) -> Answer:
        headers = {"Authorization": "Bearer " + self.token()}
        if kind:
            headers["Content-Type"] = kind
        answer = self.transport(method, PREFIX + path, body, headers)
        if answer.status != 200:
            raise explain(answer, doing, self.where)
        return answer

    def _json(self, answer: Answer, doing: str) -> Any:
        try:
            return strict.loads(answer.body, "answer")
        except AttestedError:
            raise self._unusable(doing) from None

    def _unusable(self, doing: str) -> KbsError:
        return KbsError("cannot %s: the answer is not what a KBS says" % doing, where=self.where, fix="Compare the address", code="kbs-answer")


@dataclass(frozen=True)
class Health:
    """What anybody can see. ``open_admin`` is True if the KBS lets admins in without a token."""

    healthy: bool
    clock_skew: Optional[int]
    open_admin: bool
    counters: Tuple[Tuple[str, float], ...]

    def to_dict(self) -> Dict[str, Any]:
        return {"healthy": self.healthy, "clock_skew": self.clock_skew, "open_admin": self.open_admin, "counters": dict(self.counters)}


def look(transport: Transport, where: str) -> Health:
    """Look from outside, without a token. Raises KbsError if there is no KBS."""
    answer = transport("GET", "/healthz", None, {})
    if answer.status != 200:
        raise explain(answer, "see whether it is healthy", where)
    opened = open_admin(transport, where)
    metrics = transport("GET", "/metrics", None, {})
    return Health(True, clock_skew(answer), opened, _counters(metrics) if metrics.status == 200 else ())


def open_admin(transport: Transport, where: str) -> bool:
    """Whether it lets an admin in without a token. Raises KbsError if what answers is no KBS."""
    unasked = transport("GET", PREFIX + "/resource-policy", None, {})
    if unasked.status == 200:
        return True
    refusal = explain(unasked, "list policies", where)
    if not refusal.variant:
        raise refusal
    return False


def _counters(answer: Answer) -> Tuple[Tuple[str, float], ...]:
    """The counters without labels: those with labels name resources."""
    found = []
    for line in answer.body.decode("utf-8", "replace").splitlines():
        name, _blank, value = line.partition(" ")
        if line.startswith("#") or "{" in name or not name.endswith("_total"):
            continue
        try:
            found.append((name[:80], float(value)))
        except ValueError:
            continue
    return tuple(sorted(found)[:64])
