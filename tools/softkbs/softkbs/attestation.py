# SPDX-License-Identifier: GPL-3.0-or-later
"""The attestation service: the sample verifier, policies by class, reference values, and the token (EAR) that comes out."""

from __future__ import annotations

import base64
import hashlib
import json
import tomllib
from collections.abc import Callable
from typing import Any

from ansible_collections.attested.ai.plugins.module_utils.formats import jcs

from . import rego

# Rest on Trustee's own default for the CPU: only what it says of the sample TEE, the others are never recognised here.
DEFAULT_CPU = """package policy

import rego.v1

default executables := 33
default hardware := 97
default configuration := 36

trust_claims := {"executables": executables, "hardware": hardware, "configuration": configuration, "file-system": 0, "instance-identity": 0,
  "runtime-opaque": 0, "storage-opaque": 0, "sourced-data": 0}

executables := 3 if {
  input.sample.launch_digest in query_reference_value("launch_digest")
}

hardware := 2 if {
  input.sample.svn in query_reference_value("svn")
  input.sample.platform_version.major == query_reference_value("major_version")
  input.sample.platform_version.minor >= query_reference_value("minimum_minor_version")
}

configuration := 2 if {
  input.sample.debug == false
}
"""
_TIERS = ((96, "contraindicated"), (32, "warning"), (2, "affirming"))


class AttestationFailed(Exception):
    """Verification or policy failed; the reason is for the log."""


class AttestationService:
    def __init__(self, sign: Callable[[dict[str, Any]], str], clock: Callable[[], float], minutes: float = 5) -> None:
        self.policies = {"default_cpu": DEFAULT_CPU, "default_gpu": DEFAULT_CPU}
        self.references: dict[str, Any] = {}
        self._sign, self._clock, self._minutes = sign, clock, minutes
        # Of other TEEs, by their names: (primary evidence, 64 bytes of report data) -> claims. Raises AttestationFailed. None is here by itself.
        self.verifiers: dict[str, Callable[[dict[str, Any], bytes], dict[str, Any]]] = {}

    def register(self, message: str) -> None:
        """Raises ValueError with the text of the RVPS."""
        body = json.loads(message)
        if body.get("version", "0.1.0") != "0.1.0":
            raise ValueError(f"Version unmatched! Need 0.1.0, given {body['version']}.")
        if body["type"] != "sample":
            raise ValueError("parse message")
        self.references.update(json.loads(base64.b64decode(body["payload"], validate=True)))

    def evaluate(self, tee: str, evidence: dict[str, Any], runtime: dict[str, Any], init_data: dict[str, Any] | None) -> str:
        if evidence["additional_evidence"]:
            raise AttestationFailed("no verifier for devices is compiled in")
        primary = evidence["primary_evidence"]
        expected = hashlib.sha384(jcs.canonicalize({**runtime, "additional-evidence": evidence["additional_evidence"]})).digest()
        if tee == "sample":
            if base64.b64decode(primary.get("report_data", "")) != expected:
                raise AttestationFailed("REPORT_DATA is different from that in Sample Quote")
            claims = {"svn": primary["svn"], "launch_digest": "abcde", "platform_version": {"major": 1, "minor": 4}, "debug": False}
        elif tee in self.verifiers:
            claims = dict(self.verifiers[tee](primary, expected.ljust(64, b"\0")))
        else:
            raise AttestationFailed(f"feature `{tee}-verifier` is not enabled")
        annotated: dict[str, Any] = {}
        if init_data is not None:
            annotated["init_data"], annotated["init_data_claims"] = _init_data(init_data)
        if "init_data" in claims:
            # What the hardware says of it, HOST_DATA for instance, is told whether a document came along or not.
            annotated["init_data"] = claims.pop("init_data")
        annotated["report_data"] = primary["report_data"] if tee == "sample" else expected.hex()
        annotated["runtime_data_claims"] = {**runtime, "additional-evidence": evidence["additional_evidence"]}
        annotated[tee] = claims
        return self._token(annotated)

    def _token(self, annotated: dict[str, Any]) -> str:
        try:
            policy = rego.parse(self.policies["default_cpu"])
            vector = policy.evaluate("trust_claims", annotated, builtins={"query_reference_value": self.references.get})
        except rego.RegoError as error:
            raise AttestationFailed(str(error)) from error
        if vector is rego.UNDEFINED or not any(vector.values()):
            raise AttestationFailed("At least one policy claim must be set.")
        worst = max(vector.values())
        now = int(self._clock())
        return self._sign({
            "eat_profile": "tag:github.com,2024:confidential-containers/Trustee", "iat": now, "exp": now + int(self._minutes * 60),
            "iss": "CoCo-Attestation-Service", "ear.verifier-id": {"developer": "https://confidentialcontainers.org", "build": "softkbs"},
            "submods": {"cpu0": {
                "ear.status": next((name for least, name in _TIERS if worst >= least), "none"), "ear.trustworthiness-vector": vector,
                "ear.appraisal-policy-id": "default", "ear.veraison.annotated-evidence": annotated,
            }},
        })  # fmt: skip


def _init_data(given: dict[str, Any]) -> tuple[str, Any]:
    """(claim of the sample TEE, parsed data). The sample verifier compares nothing, and writes the digest in base64."""
    if given["format"] != "toml":
        raise AttestationFailed(f"Unsupported initdata format: {given['format']}")
    try:
        document = tomllib.loads(given["body"])
        digest = hashlib.new(document["algorithm"], given["body"].encode("utf-8")).digest()
        return base64.b64encode(digest).decode("ascii"), dict(document["data"])
    except (ValueError, KeyError, TypeError) as error:
        raise AttestationFailed("parse init data") from error
