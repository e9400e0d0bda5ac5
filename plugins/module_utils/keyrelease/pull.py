# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A guest fetches a model's key by itself: session, handshake, key, all in one process and the session's memory."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.kbs.guest import GuestClient
from ansible_collections.attested.ai.plugins.module_utils.kbs.own_evidence import OwnEvidence
from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError
from ansible_collections.attested.ai.plugins.module_utils.kbs.protocol import Resource
from ansible_collections.attested.ai.plugins.module_utils.kbs.transport import Patience, Server, Transport, make_transport, patient
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import guest
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwk as keys
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import session as sessions
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.modelkey import ModelKey
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.release import KeyRelease, seal

# Part of the image. Where it is there, no other key broker counts, whoever asks.
ANCHOR = "/etc/attested-ai/kbs.json"
# The session at the broker ended between two steps: once more from the beginning.
_AGAIN = ("kbs-token-missing", "kbs-token-refused")


@dataclass(frozen=True)
class Order:
    """What to fetch from where, and what is known of it besides."""

    server: Server
    resource: str
    session: guest.Wish
    minimum_release: int = 1
    signer: Optional[Mapping[str, str]] = None
    anchor: str = ANCHOR
    # For a job: the SHA-256 of its agreement, and who takes what its results are tagged with.
    agreement: str = ""
    keep_tag_key: Optional[Callable[[bytes], None]] = field(default=None, repr=False)


def pull(order: Order, own: OwnEvidence, check_mode: bool, transport: Callable[[Server], Transport] = make_transport) -> Dict[str, Any]:
    """The return values of the module. Raises AttestedError; then no session is left."""
    place = Resource.parse(order.resource)
    anchored = check_anchor(order.server, order.anchor)
    if order.server.parts[0] == "https" and not order.server.pins:
        raise KbsError("its key is not pinned", where=order.server.url, fix="Give pins: whoever stands in between could give out keys of its own",
                       code="kbs-unpinned")
    if check_mode:
        return {"changed": True, "session": order.session.session, "filesystem": guest.apply(order.session, True)["filesystem"], "swept": [],
                "anchored": anchored}  # fmt: skip
    made = guest.apply(order.session, False)
    try:
        key = sessions.load_session(order.session.directory, order.session.session).private_key()
        client = GuestClient(patient(transport(order.server), Patience()), order.server.url, key)
        found, digest = _fetched(client, own, place, order.agreement)
        lifetime = timedelta(seconds=order.session.lifetime)
        if order.keep_tag_key is not None:
            order.keep_tag_key(found.tag_key)
        release = found.key_release(digest, datetime.now(timezone.utc).replace(microsecond=0) + lifetime, order.minimum_release, order.signer)
        guest.apply(replace(order.session, release=seal(release, made["jwk"])), False)
    except BaseException:
        guest.apply(replace(order.session, state="absent"), False)
        raise
    return {**_told(release), "session": made["session"], "expires_at": made["expires_at"], "thumbprint": made["thumbprint"], "swept": made["swept"],
            "filesystem": made["filesystem"], "anchored": anchored, "changed": True, "resource": place.uri}  # fmt: skip


def _fetched(client: GuestClient, own: OwnEvidence, place: Resource, agreement: str) -> Tuple[ModelKey, str]:
    tee = own.tee()
    client.attest(tee, own)
    try:
        data = client.resource(place)
    except KbsError as error:
        if error.code not in _AGAIN:
            raise
        client.attest(tee, own)
        data = client.resource(place)
    return ModelKey.from_json(data, "%s of %s" % (place.uri, client.where), agreement), own.digest


def _told(release: KeyRelease) -> Dict[str, Any]:
    """What may be shown."""
    return {
        "model_id": release.model_id, "release": release.release, "minimum_release": release.minimum_release, "key_id": release.key_id,
        "evidence_digest": release.evidence_digest, "manifest_signer": keys.jwk_thumbprint(release.manifest_signer),
    }


def check_anchor(server: Server, path: str = ANCHOR) -> bool:
    """Whether the image says which broker counts; then it has to be this one. Raises KeyReleaseError, FormatError."""
    if not os.path.lexists(path):
        return False
    try:
        with open(path, "rb") as stream:
            raw = stream.read(65537)
        obj = strict.members(strict.loads(raw[:65536], path), ("url", "pins"), where=path)
    except OSError as error:
        raise KeyReleaseError("it cannot be read (%s)" % error.strerror, where=path, code="kbs-anchor") from None
    pins = obj["pins"]
    if not isinstance(pins, list) or not pins or not all(isinstance(pin, str) for pin in pins):
        raise KeyReleaseError("its pins are no list of keys", where=path, code="kbs-anchor")
    if str(obj["url"]).rstrip("/") != server.url.rstrip("/") or not server.pins or set(server.pins) - set(pins):
        raise KeyReleaseError("this image takes keys from %s only, and with the keys that it names" % json.dumps(obj["url"])[:200], where=path,
                              fix="Name that key broker and its key; another one needs another image", code="kbs-anchor")
    return True
