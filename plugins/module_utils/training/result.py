# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What came out of a job, as ciphertext for those who are to have it.

An output is encrypted like a model, for the result keys of its recipients, and lies beside a statement of which agreement it came from, and whether the
program succeeded. A public key tells nobody who encrypted to it. So the statement bears a tag for each recipient, made with a tag key that this recipient's
broker gives out together with the data key for this agreement. It comes from the private half of the recipient's result key, so that nobody else can make it:
besides owner and broker, only guests have it that the broker released it to. Who got the data key for another agreement, or for a model, has no tag key.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwe, keysource
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import SIGNATURE_CURVES, check_public_jwk, load_public_ec, public_jwk
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import tree
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.encrypt import encrypt
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import MAX_SIZE
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.plan import Keys, Request, make_plan
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.publish import sync_directory, write_file
from ansible_collections.attested.ai.plugins.module_utils.target.memory import wipe
from ansible_collections.attested.ai.plugins.module_utils.training.agreement import CHECKPOINTS, CURVES, Agreement
from ansible_collections.attested.ai.plugins.module_utils.training.failure import TrainingError

SCHEMA = "attested.ai/training-result/1"
STATEMENT = "training-result.json"
CIPHERTEXT = "sealed"
SIZE_MAX = 1 << 16
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")


# Whole numbers that each reader of JSON takes for the same.
NUMBER_MAX = (1 << 53) - 1


@dataclass(frozen=True)
class Checkpoint:
    """Which one: its number, as the program gave it, and the run of the program that it is of, a random word. The tags cover both."""

    run: str
    number: int


@dataclass(frozen=True)
class Statement:
    """``signer`` signed the manifest and was made for this run; ``tags`` are the recipients' by id. ``succeeded`` is False for the log of a failure."""

    agreement: str
    job: str
    output: str
    succeeded: bool
    manifest_sha256: str
    signer: Mapping[str, str]
    made_at: str
    tags: Mapping[str, str]
    checkpoint: Optional[Checkpoint] = None

    @classmethod
    def parse(cls, raw: bytes, where: str = STATEMENT) -> Statement:
        """Raises AttestedError."""
        if len(raw) > SIZE_MAX:
            raise TrainingError("it is longer than %d bytes" % SIZE_MAX, where=where, code="result-form")
        names = ("schema", "agreement", "job", "output", "succeeded", "manifest_sha256", "signer", "made_at", "tags")
        obj = strict.members(strict.loads(raw, where), names, ("checkpoint",), where)
        if obj["schema"] != SCHEMA or not isinstance(obj["tags"], Mapping) or not isinstance(obj["succeeded"], bool):
            raise TrainingError("it is no %s" % SCHEMA, where=where, code="result-form")
        for name in ("agreement", "manifest_sha256"):
            strict.decode_hex(obj[name], "%s %s" % (where, name), 32)
        for tag in obj["tags"].values():
            strict.decode_hex(tag, where + " tag", 32)
        if not _TIME.match(strict.text_of(obj["made_at"], where + " made_at", 20)):
            raise TrainingError("made_at is no time in UTC", where=where, code="result-form")
        texts = {name: strict.text_of(obj[name], "%s %s" % (where, name), 64) for name in ("job", "output")}
        signer = check_public_jwk(obj["signer"], SIGNATURE_CURVES, where + " signer")
        return cls(obj["agreement"], texts["job"], texts["output"], obj["succeeded"], obj["manifest_sha256"], signer, obj["made_at"], dict(obj["tags"]),
                   _checkpoint(obj, where))  # fmt: skip

    def signed_bytes(self) -> bytes:
        return jcs.canonicalize(self._members())

    def to_bytes(self) -> bytes:
        return jcs.canonicalize(dict(self._members(), tags=dict(self.tags)))

    def _members(self) -> Dict[str, Any]:
        found = {"schema": SCHEMA, "agreement": self.agreement, "job": self.job, "output": self.output, "succeeded": self.succeeded,
                 "manifest_sha256": self.manifest_sha256, "signer": dict(self.signer), "made_at": self.made_at}  # fmt: skip
        return found if self.checkpoint is None else dict(found, checkpoint={"run": self.checkpoint.run, "number": self.checkpoint.number})

    def check(self, agreement: Agreement, output: str, where: str) -> None:
        """Is it about this output of this agreement? Raises TrainingError."""
        if self.agreement != agreement.digest or self.job != agreement.job:
            raise TrainingError("it came from another agreement, %s of the job %s" % (self.agreement, strict.quoted(self.job)), where=where,
                                fix="Use the agreement that you signed off, and results of it", code="result-other")  # fmt: skip
        if self.output != output:
            raise TrainingError("it is the output %s" % strict.quoted(self.output), where=where, code="result-other")
        if (self.checkpoint is not None) != (output == CHECKPOINTS and agreement.checkpoints is not None):
            raise TrainingError("it is no checkpoint" if self.checkpoint is None else "it is a checkpoint", where=where, code="result-other")


def _checkpoint(obj: Mapping[str, Any], where: str) -> Optional[Checkpoint]:
    if "checkpoint" not in obj:
        return None
    value = strict.members(obj["checkpoint"], ("run", "number"), where=where + " checkpoint")
    strict.decode_hex(value["run"], where + " run", 16)
    if not strict.is_integer(value["number"]) or not 1 <= value["number"] <= NUMBER_MAX:
        raise TrainingError("the number of the checkpoint is none", where=where, code="result-form")
    return Checkpoint(value["run"], value["number"])


def tag_key(result_key: Any, agreement: Agreement) -> bytes:
    """From the private half of a party's result key; good for nothing but the tags of one agreement. Only the owner calls it."""
    scalar = bytearray(result_key.private_numbers().private_value.to_bytes(32, "big"))
    try:
        return hmac.new(scalar, b"attested.ai/training-result/1\0" + bytes.fromhex(agreement.digest), hashlib.sha256).digest()
    finally:
        wipe(scalar)


def seal(
    agreement: Agreement, output: str, source: str, dest: str, tag_keys: Mapping[str, bytes], succeeded: bool = True, checkpoint: Optional[Checkpoint] = None
) -> Statement:
    """Encrypt the folder ``source`` for the recipients of ``output`` into the new folder ``dest``. Raises AttestedError."""
    require_cryptography()
    from cryptography.hazmat.primitives.asymmetric import ec

    signer = ec.generate_private_key(ec.SECP256R1())
    parties = agreement.recipients(output)
    # The format wants a key-encryption key. Nobody keeps this one: only the recipients can open it.
    kek, _jwk = keysource.new_kek()
    recipients = tuple(jwe.Recipient(party.kid, jwe.ECDH, load_public_ec(party.result_key, CURVES)) for party in parties)
    keys = Keys(kek, signer, recipients)
    at = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    request = Request(source, os.path.join(dest, CIPHERTEXT), "%s.%s" % (agreement.job, output), checkpoint.number if checkpoint else 1)
    os.mkdir(dest, 0o755)
    manifest = encrypt(make_plan(request, keys), keys, at)
    os.unlink(request.state)
    unsigned = Statement(agreement.digest, agreement.job, output, succeeded, manifest.digest(), public_jwk(signer), at, {}, checkpoint)
    statement = replace(unsigned, tags={party.id: _tag(unsigned, tag_keys[party.id]) for party in parties})
    write_file(os.path.join(dest, STATEMENT), statement.to_bytes())
    sync_directory(dest)
    return statement


def verify(statement: Statement, party: str, key: bytes, where: str) -> None:
    """Was it made by who has this party's tag key? Raises TrainingError."""
    tag = statement.tags.get(party)
    if tag is None:
        raise TrainingError("it is not for %s" % strict.quoted(party), where=where, code="result-recipient")
    if not hmac.compare_digest(tag, _tag(statement, key)):
        raise TrainingError("it was not made by a guest that had the tag key of %s for this agreement, or was changed" % strict.quoted(party), where=where,
                            fix="Do not use it", code="result-tag")  # fmt: skip


def finished(folder: str, agreement: Agreement) -> Tuple[Statement, ...]:
    """What lies there and says that it is all outputs of this very agreement, of a program that succeeded; else nothing. Anybody could have written it."""
    found = []
    for output, _who in agreement.outputs:
        try:
            with open(os.path.join(folder, output, STATEMENT), "rb") as stream:
                statement = Statement.parse(stream.read(SIZE_MAX + 1))
            statement.check(agreement, output, output)
            with open(os.path.join(folder, output, CIPHERTEXT, tree.MANIFEST), "rb") as stream:
                digest = hashlib.sha256(stream.read(MAX_SIZE + 1)).hexdigest()
        except (OSError, AttestedError):
            return ()
        if not statement.succeeded or digest != statement.manifest_sha256:
            return ()
        found.append(statement)
    return tuple(found)


def verify_all(statements: Sequence[Statement], agreement: Agreement, tag_keys: Mapping[str, bytes], where: str) -> None:
    """Each of them, by the tag of each of its recipients. Raises TrainingError."""
    for statement in statements:
        for party in agreement.recipients(statement.output):
            verify(statement, party.id, tag_keys[party.id], where)


def _tag(statement: Statement, key: bytes) -> str:
    return hmac.new(key, statement.signed_bytes(), hashlib.sha256).hexdigest()
