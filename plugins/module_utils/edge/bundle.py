# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""All that one gateway needs to judge guests and to release keys while it has no link: one file, signed by the centre.

A tar archive of plain files, read by the strict reader of collateral bundles: ``edge.json`` says for whom it is, from when until when, how often,
and the digest of every file; ``edge.jws`` is a detached signature over exactly these bytes. Then policy, reference values, a collateral bundle, and
for each model its manifest as it was signed and its data key, encrypted to the gateway's key. No key-encryption key is in it.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.endorsements.bundle import join_signed, split_signed
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError, KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwk as keys
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.release import format_time, parse_time

SCHEMA = "attested.ai/edge-bundle/1"
CLAIMS, SIGNATURE = "edge.json", "edge.jws"
POLICY, REFERENCES, COLLATERAL = "policy.json", "reference-values.json", "collateral.tar"
BUNDLE_MAX = 64 << 20
# What the archive's reader takes of one member.
COLLATERAL_MAX = 16 << 20
MODELS_MAX = 256
NUMBER_MAX = 2**53 - 1
_CLAIMS_MAX = 1 << 20
_FIXED = ("gateway", "gateway_key", "ledger_key", "sequence", "created_at", "not_before", "not_after", "collateral_until", "acknowledged", "models")
_MODEL = ("model_id", "release", "minimum_release", "key_id", "uses", "manifest_sha256", "signer")
_AGAIN = "Ask the centre for it again; nothing was taken from it"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}\Z")


@dataclass(frozen=True)
class Grant:
    """One model: what may be released, and how often under this bundle. ``signer`` is the public key that signed the manifest."""

    model_id: str
    release: int
    minimum_release: int
    key_id: str
    uses: int
    manifest_sha256: str
    signer: Mapping[str, str]

    def to_dict(self) -> Dict[str, Any]:
        return dict({name: getattr(self, name) for name in _MODEL}, signer=dict(self.signer))

    @classmethod
    def parse(cls, obj: Any, where: str) -> Grant:
        found = strict.members(obj, _MODEL, where=where)
        for name in ("model_id", "key_id"):
            if not strict.text_of(found[name], "%s %s" % (where, name), 256):
                raise FormatError("it is empty", where="%s %s" % (where, name))
        for name in ("release", "minimum_release", "uses"):
            _number(found[name], 1, "%s %s" % (where, name))
        strict.decode_hex(found["manifest_sha256"], where + " manifest_sha256", 32)
        signer = keys.check_public_jwk(found["signer"], keys.SIGNATURE_CURVES, where + " signer")
        return cls(**dict(found, signer=signer))


@dataclass(frozen=True)
class Bundle:
    """A bundle whose signature holds, or one to be signed. ``acknowledged`` is the last entry of the gateway's ledger that the centre has
    (number, SHA-256); ``collateral_until`` is when the first piece of its collateral ends, None if nothing does. Times are aware."""

    gateway: str
    gateway_key: str
    ledger_key: str
    sequence: int
    created_at: datetime
    not_before: datetime
    not_after: datetime
    collateral_until: Optional[datetime]
    acknowledged: Tuple[int, str]
    models: Tuple[Grant, ...]
    files: Mapping[str, bytes] = field(repr=False)

    def claims(self) -> Dict[str, Any]:
        """What is signed, but for the digests of files."""
        return {
            "schema": SCHEMA, "gateway": self.gateway, "gateway_key": self.gateway_key, "ledger_key": self.ledger_key, "sequence": self.sequence,
            "created_at": format_time(self.created_at), "not_before": format_time(self.not_before), "not_after": format_time(self.not_after),
            "collateral_until": None if self.collateral_until is None else format_time(self.collateral_until),
            "acknowledged": {"seq": self.acknowledged[0], "hash": self.acknowledged[1]}, "models": [grant.to_dict() for grant in self.models],
        }  # fmt: skip

    def grant(self, model_id: str) -> Tuple[int, Grant]:
        """(number, grant) of a model. Raises KeyReleaseError (edge-model)."""
        for number, grant in enumerate(self.models):
            if grant.model_id == model_id:
                return number, grant
        have = ", ".join(strict.quoted(grant.model_id) for grant in self.models[:8])
        raise KeyReleaseError("it grants nothing of the model %s; it has %s" % (strict.quoted(model_id), have), where="edge bundle %d" % self.sequence,
                              fix="Have the centre make a bundle with that model", code="edge-model")  # fmt: skip


def model_files(number: int) -> Tuple[str, str, str]:
    """(manifest, its signature, the key) of a model in the archive."""
    folder = "models/%d" % number
    return folder + "/model-manifest.json", folder + "/model-manifest.jws", folder + "/key.jwe"


def check_name(name: Any, where: str = "name") -> str:
    """The name of a gateway: it becomes the name of files. Raises FormatError."""
    if not isinstance(name, str) or not _NAME.match(name):
        raise FormatError("%s is no name of a gateway" % strict.quoted(name), where=where,
                          fix="Use small letters, digits, dots, dashes, underscores; at most 63")  # fmt: skip
    return name


def write_bundle(bundle: Bundle, signing_key: Any) -> bytes:
    """The bytes of a bundle. ``signing_key`` is an EC private key on P-256 or P-384. Raises FormatError if it would be too large."""
    digests = {path: hashlib.sha256(data).hexdigest() for path, data in sorted(bundle.files.items())}
    text = json.dumps(dict(bundle.claims(), files=digests), indent=1, ensure_ascii=True).encode("ascii") + b"\n"
    data = join_signed((CLAIMS, SIGNATURE), text, sorted(bundle.files.items()), signing_key, SCHEMA)
    # Read once as a gateway will: what it would refuse is told here.
    read_bundle(data, signing_key.public_key(), "the bundle to be made")
    return data


def read_bundle(data: bytes, public_key: Any, where: str = "edge bundle") -> Bundle:
    """Read a bundle that this key (JWK or key object) signed. Raises KeyReleaseError: edge-signature, edge-format."""
    try:
        if len(data) > BUNDLE_MAX:
            raise FormatError("it is larger than %d bytes" % BUNDLE_MAX, where=where)
        refused = partial(KeyReleaseError, fix=_AGAIN, code="edge-signature")
        text, members = split_signed(data, (CLAIMS, SIGNATURE), public_key, SCHEMA, where, _CLAIMS_MAX, refused)
        return _parse(text, members, where)
    except FormatError as error:
        raise KeyReleaseError(error.what, where=error.where or where, fix=error.fix or _AGAIN, code="edge-format") from None


def _parse(text: bytes, members: List[Tuple[str, bytes]], where: str) -> Bundle:
    found = strict.members(strict.loads(text, where), ("schema", "files") + _FIXED, where=where)
    if found["schema"] != SCHEMA:
        raise FormatError("the schema %s is not %s" % (strict.quoted(found["schema"]), SCHEMA), where=where)
    models = found["models"]
    if not isinstance(models, list) or not 1 <= len(models) <= MODELS_MAX:
        raise FormatError("1 to %d models were expected" % MODELS_MAX, where=where)
    grants = tuple(Grant.parse(entry, "%s model %d" % (where, number)) for number, entry in enumerate(models))
    if len({grant.model_id for grant in grants}) != len(grants):
        raise FormatError("a model occurs twice", where=where)
    for name in ("gateway_key", "ledger_key"):
        if not isinstance(found[name], str) or not _THUMBPRINT.match(found[name]):
            raise FormatError("it is no thumbprint of a key", where="%s %s" % (where, name))
    acknowledged = strict.members(found["acknowledged"], ("seq", "hash"), where=where + " acknowledged")
    strict.decode_hex(acknowledged["hash"], where + " acknowledged hash", 32)
    times = {name: parse_time(found[name], "%s %s" % (where, name)) for name in ("created_at", "not_before", "not_after")}
    if times["not_after"] <= times["not_before"]:
        raise FormatError("it would end before it begins", where=where, fix="Correct not_before and not_after")
    until = found["collateral_until"]
    return Bundle(
        gateway=check_name(found["gateway"], where + " gateway"), gateway_key=found["gateway_key"], ledger_key=found["ledger_key"],
        sequence=_number(found["sequence"], 1, where + " sequence"), collateral_until=None if until is None else parse_time(until, where + " collateral_until"),
        acknowledged=(_number(acknowledged["seq"], 0, where + " acknowledged"), acknowledged["hash"]), models=grants,
        files=_files(found["files"], members, len(grants), where), **times,
    )  # fmt: skip


def _files(digests: Any, members: List[Tuple[str, bytes]], models: int, where: str) -> Dict[str, bytes]:
    """The files, exactly those that are signed, and only ones that a bundle has."""
    needed = {POLICY, REFERENCES} | {path for number in range(models) for path in model_files(number)}
    if not isinstance(digests, dict) or set(digests) - {COLLATERAL} != needed:
        raise FormatError("the files that it names are not those of a bundle with %d models" % models, where=where)
    files: Dict[str, bytes] = {}
    for name, content in members:
        if name in files:
            raise FormatError("%s occurs twice" % strict.quoted(name), where=where)
        if name not in digests:
            raise FormatError("%s is none of the files that were signed" % strict.quoted(name), where=where)
        if hashlib.sha256(content).hexdigest() != digests[name]:
            raise FormatError("%s is not the file that was signed" % strict.quoted(name), where=where)
        files[name] = content
    missing = sorted(set(digests) - set(files))
    if missing:
        raise FormatError("%d files are missing, for example %s" % (len(missing), strict.quoted(missing[0])), where=where)
    return files


def _number(value: Any, least: int, where: str) -> int:
    if not strict.is_integer(value) or not least <= value <= NUMBER_MAX:
        raise FormatError("a whole number from %d was expected" % least, where=where)
    return int(value)
