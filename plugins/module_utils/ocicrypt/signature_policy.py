# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which images a guest lets in: the policy that lies in the KBS and is read by image-rs, in the form of containers-policy.json(5).

image-rs reads it more loosely than other programs: an empty list of requirements accepts every image, and a signature by cosign without a signed identity may
be that of any other image. Both are refused here, as is everything that accepts anything. Source: guest-components v0.21, image-rs/src/signature.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Sequence

from ansible_collections.attested.ai.plugins.module_utils.errors import PolicyError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.kbs.protocol import Resource
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt.reference import REPOSITORY, TAG

COSIGN, SIMPLE = "sigstoreSigned", "signedBy"
REJECT: Dict[str, str] = {"type": "reject"}
SCOPES_MAX = 1000
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?::[0-9]{1,5})?\Z")
_WILDCARD = re.compile(r"\*(?:\.[a-z0-9-]+){2,}\Z")
# What cosign writes into a signature is a repository without a tag; image-rs takes these two for it, and skopeo's matches for GPG.
_IDENTITIES = {
    COSIGN: {"matchRepository": (), "exactRepository": ("dockerRepository",)},
    SIMPLE: {"matchExact": (), "matchRepoDigestOrExact": (), "matchRepository": (), "exactReference": ("dockerReference",),
             "exactRepository": ("dockerRepository",)},
}  # fmt: skip


def generate(entries: Any) -> Dict[str, Any]:
    """The policy that rejects everything but images of these scopes that these keys signed. Raises PolicyError, FormatError, KbsError."""
    if not isinstance(entries, list) or not 0 < len(entries) <= SCOPES_MAX:
        raise _refused("it is not a list of 1 to %d scopes" % SCOPES_MAX, "image policy")
    scopes: Dict[str, List[Dict[str, Any]]] = {}
    for number, entry in enumerate(entries):
        where = "image policy entry %d" % number
        given = strict.members(entry, ("scope", "key"), ("kind", "identity"), where)
        scope = _scope(given["scope"], where)
        kind = given.get("kind", "cosign")
        if kind not in ("cosign", "gpg"):
            raise _refused("the kind %s is neither cosign nor gpg" % strict.quoted(kind), where)
        if scope in scopes:
            raise _refused("the scope %s is there twice" % scope, where)
        requirement: Dict[str, Any] = {"type": COSIGN} if kind == "cosign" else {"type": SIMPLE, "keyType": "GPGKeys"}
        requirement["keyPath"] = Resource.parse(given["key"], where).uri
        requirement["signedIdentity"] = (
            {"type": "exactRepository", "dockerRepository": _repository(given["identity"], where)} if given.get("identity") else {"type": "matchRepository"}
        )
        scopes[scope] = [requirement]
    return check({"default": [REJECT], "transports": {"docker": {scope: scopes[scope] for scope in sorted(scopes)}}})


def check(policy: Any) -> Dict[str, Any]:
    """The policy as it is, if it lets in nothing that nobody signed. Raises PolicyError, FormatError, KbsError."""
    where = "image policy"
    document = strict.members(policy, ("default", "transports"), where=where)
    if document["default"] != [REJECT]:
        raise _refused("default is not reject: what no scope covers would be let in", where)
    transports = strict.members(document["transports"], ("docker",), where=where + " transports")
    scopes = transports["docker"]
    if not isinstance(scopes, dict) or not 0 < len(scopes) <= SCOPES_MAX:
        raise _refused("transports.docker is not a mapping of 1 to %d scopes" % SCOPES_MAX, where)
    for scope, requirements in scopes.items():
        place = "%s scope %s" % (where, strict.quoted(scope))
        if not isinstance(requirements, list) or not requirements:
            raise _refused("it demands nothing, which lets everything in", place)
        if requirements == [REJECT] and scope == "":
            continue
        _scope(scope, place)
        for requirement in requirements:
            _requirement(requirement, place)
    return dict(document)


def _requirement(value: Any, where: str) -> None:
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind == "insecureAcceptAnything":
        raise _refused("it accepts anything", where)
    if kind == "reject":
        strict.members(value, ("type",), where=where)
        return
    if kind not in (COSIGN, SIMPLE):
        raise _refused("guests know no requirement %s" % strict.quoted(kind), where)
    members = ("type", "keyType", "keyPath", "signedIdentity") if kind == SIMPLE else ("type", "keyPath", "signedIdentity")
    if "keyData" in value:
        raise _refused("keyData is not taken: guests read it otherwise than other programs", where, "Store the key at the KBS and say keyPath: kbs:///...")
    if "signedIdentity" not in value:
        what = "signedIdentity is missing: a signature of any other image by the same key would do"
        raise _refused(what, where, "Say signedIdentity: {type: matchRepository}")
    strict.members(value, members, where=where)
    if kind == SIMPLE and value["keyType"] != "GPGKeys":
        raise _refused("keyType is not GPGKeys", where)
    if not isinstance(value["keyPath"], str) or not value["keyPath"].startswith("kbs:///"):
        raise _refused("keyPath is no kbs:///repository/type/tag: a guest has no other place that the host cannot change", where)
    Resource.parse(value["keyPath"], where)
    identity = value["signedIdentity"]
    name = identity.get("type") if isinstance(identity, Mapping) else None
    if name not in _IDENTITIES[kind]:
        raise _refused("guests accept no identity %s for %s" % (strict.quoted(name), kind), where, "Known are " + ", ".join(sorted(_IDENTITIES[kind])))
    strict.members(identity, ("type", *_IDENTITIES[kind][name]), where=where)
    if "dockerRepository" in identity:
        _repository(identity["dockerRepository"], where)


def _scope(value: Any, where: str) -> str:
    """A host, a namespace, a repository, or one of its tags; or all hosts of a domain."""
    text = strict.text_of(value, where, 512)
    name, colon, tag = text.rpartition(":")
    if colon and "/" not in tag and "/" in name and TAG.match(tag):
        text = name
    host = text.partition("/")[0]
    whole = "." in host or ":" in host or host == "localhost"
    if _WILDCARD.match(text) or (whole and (_HOST.match(text) or REPOSITORY.match(text))):
        return str(value)
    raise _refused("the scope %s is no HOST, HOST/NAME, HOST/NAME:TAG or *.DOMAIN, whole and in lower case" % strict.quoted(value), where)


def _repository(value: Any, where: str) -> str:
    text = strict.text_of(value, where, 512)
    if not REPOSITORY.match(text):
        raise _refused("%s is no HOST/NAME" % strict.quoted(text), where)
    return text


def _refused(what: str, where: str, fix: str = "") -> PolicyError:
    return PolicyError(what, where=where, fix=fix, code="image-policy-open" if "anything" in what or "everything" in what else "image-policy-form")


def keys(policy: Mapping[str, Any]) -> Sequence[str]:
    """The resources that guests fetch to check signatures: the resource policy must give them out, too."""
    found = {
        requirement["keyPath"] for requirements in policy["transports"]["docker"].values() for requirement in requirements if "keyPath" in requirement
    }
    return sorted(Resource.parse(key).path for key in found)
