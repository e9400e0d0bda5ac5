# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Results as they are kept: signed records of the monitor, signed EARs, and plain results, which nobody vouches for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Dict, Mapping, Optional, Sequence
from urllib.parse import quote, unquote

from ansible_collections.attested.ai.plugins.module_utils.appraisal import ear, jws
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.fleet.summary import RESULT, Summary, summarise
from ansible_collections.attested.ai.plugins.module_utils.formats import strict

RECORD = "attested.ai/record/1"
SUFFIXES = (".jws", ".jwt", ".ear", ".json")
NAME_MAX = 200


@dataclass(frozen=True)
class Kept:
    """What one file says of one host. ``proven`` only if a trusted key signed it; ``problem`` is empty unless it cannot be used or relied on."""

    host: str
    summary: Optional[Summary]
    proven: bool
    problem: str


def file_name(host: str) -> str:
    """The name of a host's record. A name of a host may hold anything, that of a file may not."""
    name = quote(host, safe="-_.~")
    if not host or len(name) > NAME_MAX:
        raise FormatError("a name of 1 to %d characters was expected" % NAME_MAX, where="host %s" % ascii(host)[:80])
    return name + SUFFIXES[0]


def host_of(name: str) -> str:
    """The host that a file is named for."""
    return unquote(next((name[: -len(suffix)] for suffix in SUFFIXES if name.endswith(suffix)), name))


def sign_record(host: str, result: Mapping[str, Any], key: Any) -> str:
    """The record of a host: its name and its whole result under one signature (ES256 or ES384)."""
    return jws.sign({"schema": RECORD, "host": host, "result": dict(result)}, key, "JWT")


def read_kept(data: bytes, name: str, trusted: Sequence[jws.TrustedKey]) -> Kept:
    """Read the file called ``name``. It never raises: what is damaged is told, and proves nothing."""
    host = host_of(name)
    try:
        if data[:1] == b"{":
            return Kept(host, summarise(strict.loads(data, name), name), False, "it is not signed")
        return _signed(data.decode("ascii", "replace").strip(), name, host, trusted)
    except AttestedError as error:
        return Kept(host, None, False, str(error))


def result_of(data: bytes, name: str) -> Any:
    """The whole result in the file called ``name``, whoever vouches for it. Raises FormatError."""
    if data[:1] == b"{":
        return strict.loads(data, name)
    return _result_of(_unverified(data.decode("ascii", "replace").strip(), name), name, host_of(name))


def _signed(token: str, name: str, host: str, trusted: Sequence[jws.TrustedKey]) -> Kept:
    if not trusted:
        return Kept(host, summarise(_result_of(_unverified(token, name), name, host), name), False, "its signature was not checked: no key is given")
    payload, _signer = jws.verify(token, trusted, name)
    if payload.get("schema") == RECORD:
        return Kept(host, summarise(_result_of(payload, name, host), name), True, "")
    # An EAR is short-lived for those who rely on it at once. Here it is a record, and its age is judged by whoever reads it.
    issued = ear.read_ear(token, {"keys": [dict(key.jwk) for key in trusted]}, at=_issued(payload, name), expected_nonce=None, where=name)
    return Kept(host, summarise(_result_of(issued.claims, name, host), name), True, "")


def _issued(payload: Mapping[str, Any], name: str) -> datetime:
    seconds = payload.get("iat")
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 0 <= seconds < 1 << 35:
        raise FormatError("iat is not a time in whole seconds", where=name)
    return datetime.fromtimestamp(seconds, tz=timezone.utc)


def _unverified(token: str, name: str) -> Dict[str, Any]:
    parts = token.split(".")
    if len(parts) != 3 or len(token) > jws.TOKEN_MAX:
        raise FormatError("it is neither a result nor a signed token", where=name)
    payload = strict.loads(strict.decode_base64url(parts[1], name, 1, jws.TOKEN_MAX), name)
    if not isinstance(payload, dict):
        raise FormatError("the payload is not an object", where=name)
    return payload


def _result_of(payload: Mapping[str, Any], name: str, host: str) -> Any:
    if payload.get("schema") == RECORD:
        if payload.get("host") != host:
            raise FormatError("it is the record of another host, %s" % ascii(payload.get("host"))[:80], where=name, fix="Attest this host again")
        return payload.get("result")
    own = payload.get(ear.OWN)
    if not isinstance(own, dict) or not isinstance(payload.get("submods"), dict):
        raise FormatError("it is neither a record of the monitor nor an EAR of attest", where=name)
    submods = {item: _submod(found, name) for item, found in payload["submods"].items()}
    return {**own, "schema": own.get("schema", RESULT), "status": payload.get("ear_status"), "submods": submods}


def _submod(found: Any, name: str) -> Dict[str, Any]:
    if not isinstance(found, dict) or not isinstance(found.get("ear_verifier_claims"), dict):
        raise FormatError("a submod of the EAR says nothing that attest says", where=name)
    verifier = found["ear_verifier_claims"]
    return {"tee": verifier.get("tee"), "status": found.get("ear_status"), "claims": found.get("ear_attester_claims", {})}
