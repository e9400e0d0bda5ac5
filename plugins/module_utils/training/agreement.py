# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What several owners agree on before any of them lets a guest have its data: attested.ai/training-agreement/1.

It is canonical JSON (RFC 8785), so that its SHA-256 names it. That digest is given to the guest at launch, in the field of its evidence that is measured for
that (HOST_DATA, MRCONFIGID, the personalisation value), and each owner's key broker asks for it there. Whoever changes a word of it has another guest.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import check_public_jwk, jwk_thumbprint, load_public_ec
from ansible_collections.attested.ai.plugins.module_utils.measure.initdata import FIELDS, field_value
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import check_model_id
from ansible_collections.attested.ai.plugins.module_utils.training.failure import TrainingError

SCHEMA = "attested.ai/training-agreement/1"
ALL = "all"
# What the program prints goes to this output, if there is one, and to nobody if not.
LOG = "log"
# What the program leaves while it runs. It is no output: an agreement that does not have the member has bytes and digest as before there was one.
CHECKPOINTS = "checkpoints"
KEEP_MAX = 64
# Of result keys: what owners' other keys are on as well.
CURVES = ("P-256",)
SIZE_MAX = 1 << 18
PARTIES_MAX = 32
OUTPUTS_MAX = 32
COMMAND_MAX = 128
WORD_MAX = 4096
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}\Z")


@dataclass(frozen=True)
class Party:
    """An owner: its data set, by the digest of its manifest and who signed that, and the key that its results are encrypted to."""

    id: str
    model_id: str
    manifest_sha256: str
    manifest_signer: str
    result_key: Mapping[str, str]

    @property
    def kid(self) -> str:
        return jwk_thumbprint(self.result_key)

    def to_dict(self) -> Dict[str, Any]:
        return {"id": self.id, "model_id": self.model_id, "manifest_sha256": self.manifest_sha256, "manifest_signer": self.manifest_signer,
                "result_key": dict(self.result_key)}  # fmt: skip


@dataclass(frozen=True)
class Checkpoints:
    """Who gets them, and how many of the newest are kept."""

    recipients: Tuple[str, ...]
    keep: int


@dataclass(frozen=True)
class Agreement:
    """``outputs`` are the names of folders that the program fills, each with the parties that get it."""

    job: str
    code: str
    command: Tuple[str, ...]
    parties: Tuple[Party, ...]
    outputs: Tuple[Tuple[str, Tuple[str, ...]], ...]
    checkpoints: Optional[Checkpoints] = None

    @classmethod
    def parse(cls, raw: bytes, where: str = "agreement") -> Agreement:
        """Raises AttestedError on anything that is not exactly what ``to_bytes`` writes."""
        if len(raw) > SIZE_MAX:
            raise _bad("it is longer than %d bytes" % SIZE_MAX, where)
        found = cls.of(strict.loads(raw, where), where)
        if found.to_bytes() != bytes(raw):
            raise _bad("it is not canonical JSON (RFC 8785)", where, "Use the file as attested.ai.training_agreement wrote it")
        return found

    @classmethod
    def of(cls, value: Any, where: str = "agreement") -> Agreement:
        """From its members. Raises AttestedError."""
        obj = strict.members(value, ("schema", "job", "code", "command", "parties", "outputs"), (CHECKPOINTS,), where)
        if obj["schema"] != SCHEMA:
            raise _bad("its schema is not %s" % SCHEMA, where)
        strict.decode_hex(obj["code"], where + " code", 32)
        parties = _parties(obj["parties"], where)
        ids = [party.id for party in parties]
        outputs, checkpoints = _outputs(obj["outputs"], ids, where), _checkpoints(obj, ids, where)
        if checkpoints and CHECKPOINTS in dict(outputs):
            raise _bad("checkpoints are no output where the agreement has them", where, "Give the output another name")
        return cls(_name(obj["job"], where + " job"), obj["code"], _command(obj["command"], where), parties, outputs, checkpoints)

    def to_bytes(self) -> bytes:
        """The bytes that everybody's digest is over."""
        members: Dict[str, Any] = {
            "schema": SCHEMA, "job": self.job, "code": self.code, "command": list(self.command), "parties": [party.to_dict() for party in self.parties],
            "outputs": {name: self._said(who) for name, who in self.outputs},
        }  # fmt: skip
        if self.checkpoints:
            members[CHECKPOINTS] = {"recipients": self._said(self.checkpoints.recipients), "keep": self.checkpoints.keep}
        return jcs.canonicalize(members)

    def _said(self, who: Tuple[str, ...]) -> Any:
        return ALL if who == tuple(party.id for party in self.parties) else list(who)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def fields(self) -> Dict[str, str]:
        """What the evidence of a guest holds that was launched for it, by kind of evidence."""
        return {tee: field_value(self.to_bytes(), "sha256", tee)[1] for tee in FIELDS}

    def released(self) -> Dict[str, Tuple[str, ...]]:
        """What is encrypted to whom: the outputs, and checkpoints where there are any."""
        return {**dict(self.outputs), **({CHECKPOINTS: self.checkpoints.recipients} if self.checkpoints else {})}

    def recipients(self, output: str) -> Tuple[Party, ...]:
        return tuple(party for party in self.parties if party.id in self.released()[output])

    def party(self, name: str) -> Party:
        """Raises TrainingError."""
        for party in self.parties:
            if party.id == name:
                return party
        raise TrainingError("%s is no party of the agreement" % strict.quoted(name), where=self.job, code="agreement-party")

    def party_of(self, kid: str) -> Party:
        """Whose result key it is, by its thumbprint. Raises TrainingError."""
        for party in self.parties:
            if party.kid == kid:
                return party
        raise TrainingError("it is the result key of no party of the agreement", where=self.job, code="agreement-party")


def code_digest(files: Mapping[str, Tuple[int, str]]) -> str:
    """SHA-256 that names a program: ``files`` are paths with size and SHA-256 of each."""
    entries = [{"path": path, "bytes": size, "sha256": digest} for path, (size, digest) in sorted(files.items(), key=lambda item: item[0].encode("utf-8"))]
    return hashlib.sha256(jcs.canonicalize({"schema": "attested.ai/training-code/1", "files": entries})).hexdigest()


def _parties(value: Any, where: str) -> Tuple[Party, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= PARTIES_MAX:
        raise _bad("parties is no list of 1 to %d parties" % PARTIES_MAX, where)
    found = tuple(_party(entry, "%s party %d" % (where, index)) for index, entry in enumerate(value))
    ids = [party.id for party in found]
    for what, seen in (("id", ids), ("model_id", [party.model_id for party in found]), ("result_key", [party.kid for party in found])):
        if len(set(seen)) != len(seen):
            raise _bad("two parties have the same %s" % what, where)
    if ids != sorted(ids):
        raise _bad("the parties are not in the order of their ids", where, "Sort them, so that everybody comes to the same digest")
    return found


def _party(value: Any, where: str) -> Party:
    obj = strict.members(value, ("id", "model_id", "manifest_sha256", "manifest_signer", "result_key"), where=where)
    strict.decode_hex(obj["manifest_sha256"], where + " manifest_sha256", 32)
    strict.decode_base64url(obj["manifest_signer"], where + " manifest_signer", 32, 32)
    return Party(
        _name(obj["id"], where + " id"), check_model_id(obj["model_id"], where + " model_id"), obj["manifest_sha256"], obj["manifest_signer"],
        _result_key(obj["result_key"], where + " result_key"),
    )  # fmt: skip


def _result_key(value: Any, where: str) -> Dict[str, str]:
    jwk = check_public_jwk(value, CURVES, where)
    # A point that is on no curve would only be found when there is something to encrypt.
    load_public_ec(jwk, CURVES, where)
    return jwk


def _outputs(value: Any, ids: Sequence[str], where: str) -> Tuple[Tuple[str, Tuple[str, ...]], ...]:
    if not isinstance(value, Mapping) or not 1 <= len(value) <= OUTPUTS_MAX:
        raise _bad("outputs is no object of 1 to %d outputs" % OUTPUTS_MAX, where)
    names = [_name(name, where + " output") for name in sorted(value, key=str)]
    return tuple((name, _recipients(value[name], ids, "%s output %s" % (where, name))) for name in names)


def _checkpoints(obj: Mapping[str, Any], ids: Sequence[str], where: str) -> Optional[Checkpoints]:
    if CHECKPOINTS not in obj:
        return None
    where += " checkpoints"
    value = strict.members(obj[CHECKPOINTS], ("recipients", "keep"), where=where)
    if not strict.is_integer(value["keep"]) or not 1 <= value["keep"] <= KEEP_MAX:
        raise _bad("keep is no number from 1 to %d" % KEEP_MAX, where)
    return Checkpoints(_recipients(value["recipients"], ids, where), value["keep"])


def _recipients(value: Any, ids: Sequence[str], where: str) -> Tuple[str, ...]:
    if value == ALL:
        return tuple(ids)
    if not isinstance(value, list) or not value:
        raise _bad('neither "all" nor a list of parties says who gets it', where)
    for one in value:
        if one not in ids:
            raise _bad("the recipient %s is no party" % strict.quoted(one), where)
    if value != sorted(set(value)):
        raise _bad("its recipients are not in order, or one is there twice", where)
    if value == list(ids):
        raise _bad('it names every party: write "all"', where)
    return tuple(value)


def _command(value: Any, where: str) -> Tuple[str, ...]:
    where += " command"
    if not isinstance(value, list) or not 1 <= len(value) <= COMMAND_MAX:
        raise _bad("it is no list of 1 to %d words" % COMMAND_MAX, where)
    for word in value:
        if not strict.text_of(word, where, WORD_MAX).isprintable():
            raise _bad("a word has characters that cannot be printed", where)
    if not value[0].startswith("/"):
        raise _bad("it does not begin with the absolute path of a program", where, "What a search path finds is not agreed on")
    return tuple(value)


def _name(value: Any, where: str) -> str:
    if not isinstance(value, str) or not _NAME.match(value):
        raise _bad("%s is no name of small letters, digits and dashes, at most 41" % strict.quoted(value), where)
    return value


def _bad(what: str, where: str, fix: str = "") -> TrainingError:
    return TrainingError(what, where=where, fix=fix, code="agreement-form")
