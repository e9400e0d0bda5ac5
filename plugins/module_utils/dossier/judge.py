# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Judge a record of a dossier anew, at its own time and with what it was judged by. Pure: the content of its files is an argument."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import Endorsements, appraise
from ansible_collections.attested.ai.plugins.module_utils.appraisal.ear import OWN, read_ear
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import load_reference_values
from ansible_collections.attested.ai.plugins.module_utils.appraisal.result import Result
from ansible_collections.attested.ai.plugins.module_utils.appraisal.schema import parse_time
from ansible_collections.attested.ai.plugins.module_utils.appraisal.ssh import OVER_TLS
from ansible_collections.attested.ai.plugins.module_utils.checks import FAIL, PASS, Check, failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.dossier import guest
from ansible_collections.attested.ai.plugins.module_utils.dossier.record import LIST_MAX, SERVER, Record, endorsements_of
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import NONCE_MAX, NONCE_MIN, EvidenceDocument
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import chain
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwk as keys
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.ledger import RELEASES
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import Manifest
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.signature import verify_manifest
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.result import ANCHOR_VENDOR

Blobs = Mapping[str, bytes]


@dataclass(frozen=True)
class Judged:
    """A record and what it is worth today. ``checks`` are by id, in the order of the report."""

    record: Record
    result: Result
    checks: Mapping[str, Check]

    @property
    def accepted(self) -> bool:
        return all(check.outcome != FAIL for check in self.checks.values())

    def explain(self) -> str:
        """One line for a person: what failed first, or the verdict on the evidence."""
        wrong = [check.detail for check in self.checks.values() if check.outcome == FAIL]
        return wrong[0] if wrong else self.checks["appraisal"].detail


def appraise_record(record: Record, blobs: Blobs, endorsements: Optional[Endorsements] = None, cache: Optional[VerificationCache] = None) -> Result:
    """The verdict on its evidence at its time. With ``endorsements`` with these instead of its own. Raises AttestedError for files that cannot be read."""
    return appraise(
        EvidenceDocument.from_json(blobs[record.evidence], "evidence"),
        policy=load_policy(strict.loads(blobs[record.policy], "policy")),
        reference_values=load_reference_values(strict.loads(blobs[record.reference_values], "reference values")),
        endorsements=endorsements_of(record, blobs) if endorsements is None else endorsements,
        expected_nonce=strict.decode_base64(record.nonce, "nonce", NONCE_MIN, NONCE_MAX),
        at=parse_time(record.at, "at"),
        connection=OVER_TLS if record.source == SERVER else None,
        # What runs on somebody's data is to be known to its last stage, or to say why not.
        enforce_chain_of_trust=True,
        cache=cache,
    )


def judge(record: Record, blobs: Blobs, public_key: Mapping[str, Any], cache: Optional[VerificationCache] = None) -> Judged:
    """All checks of one record. ``public_key`` is the JWK of the dossier's signer, ``blobs`` the content of every file it names, each of that digest."""
    result = appraise_record(record, blobs, cache=cache)
    manifest, about_manifest = _manifest(record, blobs)
    decisions, about_releases = _releases(record, manifest, blobs)
    channel = _channel(record, result)
    checks: List[Check] = [
        _appraisal(result),
        _reproduced(record, result, blobs),
        _ear(record, result, blobs, public_key),
        channel,
        about_manifest,
        _served(record, manifest, blobs, result, channel, decisions),
        about_releases,
        _configuration(record),
        _guest(record, blobs),
    ]
    return Judged(record, result, {check.id: replace(check, detail=_printable(check.detail)) for check in checks})


def _appraisal(result: Result) -> Check:
    if not result.accepted:
        return failed("appraisal", result.explain())
    # Whatever is shown on the ground of this must carry it along.
    outside = "" if result.anchor == ANCHOR_VENDOR else "; its root is NOT a vendor's: it says nothing about any hardware"
    return passed("appraisal", result.explain() + outside)


def _printable(text: str) -> str:
    """Parts of a record are somebody else's words, and end on terminals."""
    return text if text.isprintable() else "".join(character if character.isprintable() else "?" for character in text)


def _reproduced(record: Record, result: Result, blobs: Blobs) -> Check:
    """Does the same come out as then, to the letter?"""
    if jcs.canonicalize(result.to_dict()) == blobs[record.result]:
        return passed("reproduced", "the same evidence, policy, reference values and collateral give the same result, check by check")
    then = _outcomes(strict.loads(blobs[record.result], "result"))
    now = _outcomes(result.to_dict())
    other = sorted(name for name in set(then) | set(now) if then.get(name) != now.get(name))
    detail = "the result is another one today (%s)" % (", ".join(other[:5]) or "in its words")
    return failed("reproduced", "%s. Verify it with version %s of the collection, which wrote it, to tell a change of the checks from a forgery"
                  % (detail, record.version or "unknown"))  # fmt: skip


def _outcomes(result: Any) -> Dict[str, str]:
    try:
        places = [("", result["checks"])] + [(name + " ", item["checks"]) for name, item in result["submods"].items()]
        return {"%s%s" % (place, check["id"]): str(check["outcome"]) for place, checks in places for check in checks}
    except (TypeError, KeyError, AttributeError):
        return {}


def _ear(record: Record, result: Result, blobs: Blobs, public_key: Mapping[str, Any]) -> Check:
    at = parse_time(record.at, "at")
    if not record.ear:
        if not outlived(result, at):
            return failed("ear", "there is none, although what the verdict rests on had not expired")
        return not_checked("ear", "there is none: what the verdict rests on had expired, and no EAR outlives that")
    try:
        token = blobs[record.ear].decode("ascii", "replace")
        ear = read_ear(token, {"keys": [dict(public_key)]}, at=at, expected_nonce=result.nonce)
    except AttestedError as error:
        return failed("ear", str(error))
    told = {name: (part.status, dict(part.vector)) for name, part in ear.submods.items()}
    if ear.claims.get(OWN) != own_claims(result) or told != {name: (item.status, dict(item.vector)) for name, item in result.items.items()}:
        return failed("ear", "the EAR is about other evidence, or another verdict")
    return passed("ear", "signed by %s at %s: %s" % (ear.key_thumbprint[:16], record.at, ear.status))


def own_claims(result: Result) -> Dict[str, Any]:
    """What an EAR of ours holds beside the names of the draft."""
    return {name: value for name, value in result.to_dict().items() if name not in ("submods", "nonce", "status")}


def outlived(result: Result, at: datetime) -> bool:
    """Had what the verdict rests on expired? An EAR counts whole seconds."""
    return result.expires_at is not None and int(result.expires_at.timestamp()) <= int(at.timestamp())


def _channel(record: Record, result: Result) -> Check:
    if record.problem:
        return failed("channel", record.problem)
    if record.channel is None:
        return not_checked("channel", "the evidence came as a document: no connection was looked at")
    bound = result.binding.get("tls_spki")
    if bound is None or bound != record.channel["tls_spki"]:
        return failed("channel", "the connection showed the key %s, the evidence binds %s" % (record.channel["tls_spki"], bound or "none"))
    return passed("channel", "%s to the key %s, which the evidence binds" % (record.channel["protocol"], bound))


def _manifest(record: Record, blobs: Blobs) -> Tuple[Optional[Manifest], Check]:
    if not record.manifest or not record.signature or record.signer is None:
        return None, not_checked("manifest", "no model was named")
    try:
        verify_manifest(blobs[record.manifest], blobs[record.signature], record.signer)
        manifest = Manifest.parse(blobs[record.manifest])
    except AttestedError as error:
        return None, failed("manifest", str(error))
    text = "%s release %d: %d files of %d bytes, ciphertext only (profile %s), under the key %s; signed by %s" % (
        manifest.model_id, manifest.release, len(manifest.files), manifest.ciphertext_size, manifest.profile, manifest.key_id,
        keys.jwk_thumbprint(record.signer)[:16],
    )  # fmt: skip
    return manifest, passed("manifest", text)


def _served(record: Record, manifest: Optional[Manifest], blobs: Blobs, result: Result, channel: Check, decisions: Sequence[Mapping[str, Any]]) -> Check:
    """Is it this guest that has opened the model? A manifest alone is about no machine."""
    if manifest is None:
        return not_checked("served-model", "there is no manifest to compare with")
    if record.served is None:
        own = result.binding.get("tee_pubkey_thumbprint")
        if own is not None and any(entry["guest_key_thumbprint"] == own for entry in decisions):
            return passed("served-model", "the ledger gave the key of this model to the key in memory that this evidence binds")
        return not_checked("served-model", "neither the server nor the ledger says that this guest has opened the model")
    expected = {"model_id": manifest.model_id, "release": manifest.release, "manifest_sha256": hashlib.sha256(blobs[record.manifest]).hexdigest()}
    other = [name for name, value in expected.items() if record.served.get(name) != value]
    if other:
        return failed("served-model", "the server says that it opened another model (%s)" % ", ".join(other))
    if not result.accepted or channel.outcome != PASS:
        return not_checked("served-model", "the server says that it opened this manifest, but its evidence is refused")
    return passed("served-model", "the attested server says that it opened exactly this manifest, which a guest does in memory only")


def _releases(record: Record, manifest: Optional[Manifest], blobs: Blobs) -> Tuple[List[Dict[str, Any]], Check]:
    """Who got the data key, by the signed decisions: (those that are about this model, what came of it)."""
    if record.ledger_key is None or manifest is None:
        return [], not_checked("releases", "no ledger of key releases was named")
    if not record.releases:
        return [], not_checked("releases", "the ledger has no release of this model's key: it came to its guests by another way")
    found: List[Dict[str, Any]] = []
    for number, digest in enumerate(record.releases, 1):
        try:
            entry = chain.read_line(blobs[digest], keys.load_public_ec(record.ledger_key, ("P-256",), "ledger key"), RELEASES, "release %d" % number)
        except AttestedError as error:
            return [], failed("releases", str(error))
        if (entry["model_id"], entry["release"], entry["decision"]) != (manifest.model_id, manifest.release, "released"):
            return [], failed("releases", "entry %s of the ledger is about another model, or a refusal" % entry["seq"])
        found.append(entry)
    hosts = sorted({(entry["host"] or entry["guest_key_thumbprint"][:16], entry["policy_id"]) for entry in found})
    told = ", ".join("%s (policy %s)" % pair for pair in hosts[:5]) + (", ..." if len(hosts) > 5 else "")
    more = ", the last ones: there may be more" if len(found) == LIST_MAX else ""
    return found, passed("releases", "%d signed decisions of the ledger with the key %s%s: the model's key went to attested keys in the memory of %s"
                         % (len(found), keys.jwk_thumbprint(record.ledger_key)[:16], more, told))  # fmt: skip


def _configuration(record: Record) -> Check:
    if not record.configuration:
        return not_checked("configuration", "no file was named")
    return passed("configuration", ", ".join("%s sha256:%s" % (name, digest[:16]) for name, digest in sorted(record.configuration.items())[:8]))


def _guest(record: Record, blobs: Blobs) -> Check:
    # Never passed: no machine proves anything by saying it.
    return not_checked("guest", guest.told(blobs[record.guest]) if record.guest else "nothing was kept of what the guest says of itself")
