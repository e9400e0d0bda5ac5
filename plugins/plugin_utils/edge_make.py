# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The centre's side of edge_bundle: gather what one gateway needs, and encrypt each data key to that gateway's key."""

from __future__ import annotations

import json
import os
import typing as t
from dataclasses import replace
from datetime import datetime

from ansible_collections.attested.ai.plugins.module_utils.edge import bundle as bundles
from ansible_collections.attested.ai.plugins.module_utils.edge.bundle import COLLATERAL, COLLATERAL_MAX, POLICY, REFERENCES, Bundle, Grant, model_files
from ansible_collections.attested.ai.plugins.module_utils.edge.documents import Card
from ansible_collections.attested.ai.plugins.module_utils.endorsements import bundle as collateral_bundles
from ansible_collections.attested.ai.plugins.module_utils.endorsements.store import Store
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, EndorsementError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwe import wrap_flattened
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import jwk_thumbprint
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.release import format_time, parse_time
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.signingkey import load_signing_key
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import MAX_SIZE
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.tree import MANIFEST, SIGNATURE
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import Inputs, load_text, plain
from ansible_collections.attested.ai.plugins.plugin_utils.edge_centre import Centre, Record
from ansible_collections.attested.ai.plugins.plugin_utils.edge_files import read_file, write_file
from ansible_collections.attested.ai.plugins.plugin_utils.edge_gateway import now
from ansible_collections.attested.ai.plugins.plugin_utils.key_source import KekSource
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import local_path
from ansible_collections.attested.ai.plugins.plugin_utils.public_key import public_key
from ansible_collections.attested.ai.plugins.plugin_utils.release_offer import load_offer, minimum_release

MODEL_SPEC: dict[str, dict[str, t.Any]] = {
    "model": {"type": "path", "required": True},
    "kek": {"type": "raw", "required": True, "no_log": False},
    "signer": {"type": "raw", "required": True},
    "uses": {"type": "int", "required": True},
    "minimum_release": {"type": "int"},
}


def make(action: t.Any, options: t.Mapping[str, t.Any], check: bool) -> tuple[Bundle, bool]:
    """(bundle, whether it is a new one). The number is remembered before the bundle is written, so that no two ever share one. Raises AttestedError."""
    card_path, dest = local_path(action, options["card"]), local_path(action, options["dest"])
    card = Card.parse(read_file(card_path, 1 << 16, "card"), card_path)
    centre, signing_key = Centre(local_path(action, options["centre"]), card.name), load_signing_key(local_path(action, options["signing_key"]))
    with centre.locked(check):
        record = centre.record(card)
        wanted = _wanted(action, options, card, record, signing_key)
        present = _present(dest, signing_key)
        asked = options["sequence"]
        newest = present is not None and present.sequence == record.sequence and asked in (None, present.sequence)
        if present is not None and newest and _same(present, wanted, options["not_before"] is not None):
            return present, False
        if asked is not None and asked <= record.sequence:
            raise FormatError("bundle %d was made before" % record.sequence, where="sequence", fix="Give a higher number, or leave it out")
        data = bundles.write_bundle(wanted, signing_key)
        if not check:
            granted = {**record.granted, str(wanted.sequence): {grant.model_id: grant.uses for grant in wanted.models}}
            centre.remember(replace(record, sequence=wanted.sequence, granted=granted))
            write_file(dest, data)
    return wanted, True


def _wanted(action: t.Any, options: t.Mapping[str, t.Any], card: Card, record: Record, signing_key: t.Any) -> Bundle:
    at = now().replace(microsecond=0)
    begins = at if options["not_before"] is None else parse_time(options["not_before"], "not_before")
    ends = parse_time(options["not_after"], "not_after")
    if ends <= max(at, begins):
        raise FormatError("%s is not later than %s" % (format_time(ends), format_time(max(at, begins))), where="not_after", fix="Give a later time")
    inputs = Inputs.of_action(action)
    files: dict[str, bytes] = {POLICY: _json(_document(inputs, options["policy"], "policy"))}
    inputs.policy(json.loads(files[POLICY]))
    given = options["reference_values"]
    values = [_document(inputs, one, "reference values") for one in (given if isinstance(given, (list, tuple)) else [] if given is None else [given])]
    inputs.reference_values(values)
    files[REFERENCES] = _json(values)
    until = None
    if options["collateral"] is not None:
        files[COLLATERAL], until = _collateral(local_path(action, options["collateral"]), signing_key, at)
    grants = tuple(_grant(action, number, entry, card, files) for number, entry in enumerate(options["models"]))
    return Bundle(
        gateway=card.name, gateway_key=jwk_thumbprint(card.key), ledger_key=jwk_thumbprint(card.ledger_key),
        sequence=record.sequence + 1 if options["sequence"] is None else options["sequence"], created_at=at, not_before=begins, not_after=ends,
        collateral_until=until, acknowledged=(record.seq, record.hash), models=grants, files=files,
    )  # fmt: skip


def _grant(action: t.Any, number: int, entry: t.Mapping[str, t.Any], card: Card, files: dict[str, bytes]) -> Grant:
    where, model = f"models[{number}]", local_path(action, entry["model"])
    signer = public_key(entry["signer"], action)
    offer = load_offer(model, KekSource(action, entry["kek"], f"{where} kek").load, signer)
    manifest, lowest = offer.manifest, minimum_release(offer.manifest, entry["minimum_release"], 1)
    paths = model_files(number)
    for path, name in zip(paths, (MANIFEST, SIGNATURE)):
        files[path] = read_file(os.path.join(model, name), MAX_SIZE, "manifest")
    files[paths[2]] = _json(wrap_flattened(offer.model_key(lowest).to_json(), card.key))
    return Grant(manifest.model_id, manifest.release, lowest, manifest.key_id, entry["uses"], manifest.digest(), signer)


def _collateral(root: str, signing_key: t.Any, at: datetime) -> tuple[bytes, datetime | None]:
    store = Store(root)
    with store.reading() as index:
        entries = dict(index.entries)
        data = {name: store.read(entry) for name, entry in entries.items()}
    if not entries:
        raise EndorsementError("there is nothing in it", where=root, fix="Fetch first: attested.ai.collateral", code="store-missing")
    ends = {name: entry.expires_at for name, entry in entries.items() if entry.expires_at is not None}
    over = sorted(name for name, end in ends.items() if end <= at)
    if over:
        raise EndorsementError("%d pieces have ended, for example %s" % (len(over), over[0]), where=root, fix="Fetch again, then make the bundle",
                               code="edge-collateral-ended")  # fmt: skip
    created = max(entry.fetched_at for entry in entries.values())
    written = collateral_bundles.write_bundle(entries, data, created, signing_key)
    if len(written) > COLLATERAL_MAX:
        raise EndorsementError("it is %d bytes as a bundle, at most %d fit" % (len(written), COLLATERAL_MAX), where=root,
                               fix="Keep a store with no more than the site needs", code="edge-collateral-size")  # fmt: skip
    return written, (min(ends.values()).replace(microsecond=0) if ends else None)


def _present(path: str, signing_key: t.Any) -> Bundle | None:
    try:
        return bundles.read_bundle(read_file(path, bundles.BUNDLE_MAX, "bundle"), signing_key.public_key(), path)
    except AttestedError:
        return None


def _same(present: Bundle, wanted: Bundle, begins_given: bool) -> bool:
    """Whether the bundle that is there grants the same. What is drawn anew each time (keys as they are encrypted, signatures) is left out."""
    drawn = {"sequence", "created_at"} | (set() if begins_given else {"not_before"})
    one, other = ({name: value for name, value in bundle.claims().items() if name not in drawn} for bundle in (present, wanted))
    return one == other and _lasting(present) == _lasting(wanted)


def _lasting(bundle: Bundle) -> dict[str, t.Any]:
    found: dict[str, t.Any] = {path: data for path, data in bundle.files.items() if not path.endswith("key.jwe")}
    if COLLATERAL in found:
        # Its first member says what is in it, its second signs that.
        found[COLLATERAL] = [member for member in collateral_bundles.split(found[COLLATERAL]) if member[0] != collateral_bundles.SIGNATURE]
    return found


def _document(inputs: Inputs, value: t.Any, where: str) -> t.Any:
    if isinstance(value, str):
        return load_text(inputs.read_text(value, where), f"{where} {value}")
    return plain(value, where)


def _json(value: t.Any) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=True).encode("ascii") + b"\n"
