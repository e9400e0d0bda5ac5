# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make a record of a dossier: ask or take the evidence, judge it, gather what it was judged by and what belongs to the deployment."""

from __future__ import annotations

import hashlib
import json
import os
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import Endorsements
from ansible_collections.attested.ai.plugins.module_utils.appraisal.ear import sign_ear
from ansible_collections.attested.ai.plugins.module_utils.appraisal.result import Result
from ansible_collections.attested.ai.plugins.module_utils.appraisal.schema import format_time
from ansible_collections.attested.ai.plugins.module_utils.dossier.judge import Judged, appraise_record, judge, outlived
from ansible_collections.attested.ai.plugins.module_utils.dossier.least import least
from ansible_collections.attested.ai.plugins.module_utils.dossier.record import DOCUMENT, LIST_MAX, PROTOCOL, SERVER, Record, check_name, check_served
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError, LedgerError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import EvidenceDocument
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import ledger
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import public_jwk
from ansible_collections.attested.ai.plugins.module_utils.modelserver.client import AttestedServer
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.tree import MANIFEST, SIGNATURE
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import FILE_MAX, Inputs, evaluation_time, parse_nonce, plain
from ansible_collections.attested.ai.plugins.plugin_utils.endorsement_inputs import read_endorsements
from ansible_collections.attested.ai.plugins.plugin_utils.public_key import read_public_key
from ansible_collections.attested.ai.plugins.plugin_utils.release_records import LEDGER, PUBLIC

MANIFEST_MAX = 64 << 20
LEDGER_MAX = 1 << 30


@dataclass
class Draft:
    """A record in the making, with the content of the files that it will name."""

    record: Record
    blobs: dict[str, bytes] = field(default_factory=dict)

    def keep(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return digest

    def keep_json(self, value: t.Any) -> str:
        return self.keep(jcs.canonicalize(value))

    def state(self, **members: t.Any) -> None:
        self.record = replace(self.record, **members)


class Maker:
    """Reads all that a task names before it asks anybody."""

    def __init__(self, options: t.Mapping[str, t.Any], inputs: Inputs, version: str) -> None:
        """``inputs`` refuses what is vaulted: a record is in the clear."""
        self._options, self._inputs = options, inputs
        self._policy = inputs.policy(options["policy"])
        self._reference_values = inputs.reference_values(options["reference_values"])
        self._endorsements = read_endorsements(options, inputs)
        self._draft = Draft(Record(
            at=self._now(), deployment=check_name(options["deployment"], "deployment"), source=DOCUMENT, version=version, accepted=False, nonce="",
            evidence="", policy="", reference_values="", result="",
        ))  # fmt: skip
        self._draft.state(policy=self._draft.keep_json(self._policy.to_dict()), reference_values=self._draft.keep_json(self._reference_values.to_dict()))
        self._add_model()
        self._add_releases()
        self._add_configuration()

    def made(self, signing_key: t.Any) -> tuple[Draft, Judged]:
        """The record, signed verdict included, judged once more as whoever reads it will. Raises AttestedError."""
        document = self._from_server() if self._options["url"] else self._from_document()
        evidence = jcs.canonicalize(document.to_dict())
        if len(evidence) > FILE_MAX:
            raise FormatError(f"it is {len(evidence)} bytes, at most {FILE_MAX} are kept", where="evidence")
        # The time of the answer: who is slow is not overtaken by others that write into the same dossier.
        self._draft.state(evidence=self._draft.keep(evidence), at=self._now())
        cache = VerificationCache()
        result = appraise_record(self._draft.record, self._draft.blobs, self._endorsements, cache)
        verdict = jcs.canonicalize(result.to_dict())
        self._add_endorsements(verdict, cache)
        self._draft.state(result=self._draft.keep(verdict), ear=self._ear(result, signing_key))
        # What a record says it shows, it must show: what is named and does not hold is told now, not to an auditor.
        found = judge(self._draft.record, self._draft.blobs, public_jwk(signing_key))
        for name in ("reproduced", "ear", "manifest", "releases"):
            if found.checks[name].outcome == "fail":
                raise LedgerError(found.checks[name].detail, where=name, fix="Nothing was written", code="dossier-record")
        self._draft.state(accepted=found.accepted)
        return self._draft, found

    def _now(self) -> str:
        return format_time(evaluation_time(self._options["at"]))

    def _from_server(self) -> EvidenceDocument:
        """Evidence of a model server over a fresh nonce. Who answers, but not with the attested key, is kept with what is wrong."""
        asked: list[tuple[EvidenceDocument, bytes]] = []

        def take(document: EvidenceDocument, nonce: bytes) -> None:
            asked.append((document, nonce))

        server = AttestedServer(self._options["url"], take, timeout=float(self._options["timeout"]))
        try:
            seen = server.verify()
            served = None if seen.served is None else check_served(seen.served, "what the server says of its model")
            self._draft.state(channel={"protocol": PROTOCOL, "tls_spki": seen.spki}, served=served)
        except AttestedError as error:
            if not asked:
                raise
            self._draft.state(problem="".join(character if character.isprintable() else " " for character in str(error))[:2048])
        document, nonce = asked[0]
        self._draft.state(source=SERVER, nonce=strict.encode_base64(nonce))
        return document

    def _from_document(self) -> EvidenceDocument:
        self._draft.state(nonce=strict.encode_base64(parse_nonce(self._options["nonce"])))
        return self._inputs.evidence(self._options["evidence"])

    def _add_endorsements(self, verdict: bytes, cache: VerificationCache) -> None:
        def same(endorsements: Endorsements) -> bool:
            return jcs.canonicalize(appraise_record(self._draft.record, self._draft.blobs, endorsements, cache).to_dict()) == verdict

        needed = least(self._endorsements, same).pieces()
        self._draft.state(endorsements={kind: tuple(self._draft.keep(piece) for piece in pieces) for kind, pieces in needed.items() if pieces})

    def _ear(self, result: Result, signing_key: t.Any) -> str:
        if outlived(result, result.evaluated_at):
            return ""
        return self._draft.keep(sign_ear(result, signing_key, issued_at=result.evaluated_at).encode("ascii"))

    def _add_model(self) -> None:
        folder = self._options["model"]
        if folder is None:
            return
        real = self._inputs.resolve(folder)
        content = {name: self._inputs.read(os.path.join(real, name), "model", MANIFEST_MAX) for name in (MANIFEST, SIGNATURE)}
        signer = read_public_key(self._options["signer"], self._inputs)
        self._draft.state(manifest=self._draft.keep(content[MANIFEST]), signature=self._draft.keep(content[SIGNATURE]), signer=signer)

    def _add_releases(self) -> None:
        """Of each guest that the key of this model went to, the last decision."""
        if self._options["ledger"] is None:
            return
        folder = self._inputs.resolve(self._options["ledger"])
        path, public = os.path.join(folder, LEDGER), read_public_key(os.path.join(folder, PUBLIC), self._inputs)
        manifest = strict.loads(self._draft.blobs[self._draft.record.manifest], MANIFEST)
        model = (manifest.get("model_id"), manifest.get("release"))
        entries = ledger.verify(path, public).entries
        wanted = {entry["host"] or entry["guest_key_thumbprint"]: entry["hash"] for entry in entries
                  if entry["decision"] == "released" and (entry["model_id"], entry["release"]) == model}  # fmt: skip
        lines = {hashlib.sha256(line).hexdigest(): line for line in self._inputs.read(path, "ledger", LEDGER_MAX).splitlines()}
        # A guest's place is that of its last decision.
        last = sorted(wanted.values(), key={entry["hash"]: entry["seq"] for entry in entries}.__getitem__)[-LIST_MAX:]
        if not lines.keys() >= set(last):
            raise LedgerError("it was replaced while it was read", where=path, fix="Nothing was written. Run it again", code="ledger-replaced")
        kept = tuple(self._draft.keep(lines[digest]) for digest in last)
        self._draft.state(releases=kept, ledger_key=public)

    def _add_configuration(self) -> None:
        named = self._options["configuration"] or {}
        if len(named) > LIST_MAX:
            raise FormatError(f"{len(named)} files, at most {LIST_MAX} are kept", where="configuration")
        found = {check_name(name, "configuration"): self._draft.keep(self._inputs.read(str(path), "configuration")) for name, path in named.items()}
        guest = self._options["guest"]
        self._draft.state(configuration=found, guest="" if guest is None else self._draft.keep(_as_json(guest)))


def _as_json(guest: t.Any) -> bytes:
    """What a guest says, with the numbers that canonical JSON does not take: it is named by its digest alone. Raises FormatError."""
    try:
        return json.dumps(plain(guest, "guest"), sort_keys=True, allow_nan=False).encode("utf-8")
    except (ValueError, TypeError):
        raise FormatError("it holds a number, or names of several types, that JSON does not have", where="guest") from None
