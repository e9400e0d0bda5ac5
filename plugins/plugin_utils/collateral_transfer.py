# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The operations export and import of the action collateral: a store as one signed bundle, and files that somebody brings."""

from __future__ import annotations

import os
import typing as t
from dataclasses import replace
from datetime import datetime

from ansible_collections.attested.ai.plugins.module_utils.endorsements import kds, proofs
from ansible_collections.attested.ai.plugins.module_utils.endorsements.bundle import BUNDLE_MAX, Bundle, read_bundle, write_bundle
from ansible_collections.attested.ai.plugins.module_utils.endorsements.fetch import ADDED, PLANNED, REPLACED, UNCHANGED, Outcome
from ansible_collections.attested.ai.plugins.module_utils.endorsements.needs import chains
from ansible_collections.attested.ai.plugins.module_utils.endorsements.store import Entry, Index, Piece, Store, format_time
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, EndorsementError
from ansible_collections.attested.ai.plugins.module_utils.formats.der import pem_to_der
from ansible_collections.attested.ai.plugins.plugin_utils.collateral_task import Task, now, told


def export_bundle(task: Task, path: str, signing_key: t.Any) -> dict[str, t.Any]:
    """Write the store as a bundle, unless the file there holds the same already. Raises AttestedError."""
    with task.store.reading() as index:
        entries = dict(index.entries)
        files = {name: task.store.read(entry) for name, entry in entries.items()}
    if not entries:
        raise EndorsementError("there is nothing in it to export", where=task.store.root, fix="Fetch first", code="store-missing")
    # As of the newest piece: the same store gives the same bundle, and a bundle never looks newer than what is in it.
    created_at = max(entry.fetched_at for entry in entries.values())
    same = _holds(path, signing_key, entries, created_at)
    if not same and not task.check:
        _write(path, write_bundle(entries, files, created_at, signing_key))
    return {
        "changed": not same,
        "bundle": {"path": path, "created_at": format_time(created_at), "entries": len(entries)},
        "msg": f"{len(entries)} pieces as of {format_time(created_at)}" + (", already there" if same else ""),
    }


def import_bundle(task: Task, path: str, public_key: t.Any, allow_older: bool) -> dict[str, t.Any]:
    """Take over the pieces of a bundle. Nothing is taken if anything in it is wrong. Raises AttestedError."""
    bundle = read_bundle(_read(path), public_key, f"bundle {path}")
    with task.store.reading() as index:
        if not allow_older:
            _refuse_older(bundle, index, task.store, path)
        supplied = [*chains(task.store), *_chains_in(bundle)]
        pieces = [_proven(task, entry, bundle.files[name], supplied, path) for name, entry in sorted(bundle.entries.items())]
        outcomes = [_outcome(task, piece, entry, index) for piece, entry in pieces]
    fresh = [part for part, outcome in zip(pieces, outcomes) if outcome.status != UNCHANGED]
    # A newer bundle with nothing new in it still moves the date below which no bundle is taken.
    later = index.bundle_created_at is None or bundle.created_at > index.bundle_created_at
    if not task.check and (fresh or later):
        task.store.put(fresh, bundle.created_at)
    result = told(outcomes)
    return {
        **result,
        "changed": result["changed"] or later,
        "bundle": {"path": path, "created_at": format_time(bundle.created_at), "entries": len(bundle.entries)},
        "msg": f"{len(fresh)} of {len(pieces)} pieces are new; the bundle is as of {format_time(bundle.created_at)}",
    }


def import_files(task: Task, paths: t.Sequence[str]) -> dict[str, t.Any]:
    """Take over single files, each proven as far as its kind can be. Raises AttestedError."""
    supplied = list(chains(task.store))
    pieces: dict[str, tuple[Piece, Entry]] = {}
    # CA certificates first: others may need them.
    contents = sorted(((path, task.inputs.read(path, "collateral")) for path in paths), key=lambda part: _has_leaf(part[1]))
    for path, data in contents:
        for piece in proofs.identify(data, path, task.roots_of, supplied):
            pieces[piece.path] = (piece, piece.entry(f"file {os.path.basename(path)}", now()))
            if piece.kind == "amd-chain":
                supplied.extend(pem_to_der(piece.data.decode("ascii", "replace"), where=path))
    index = task.store.index()
    outcomes = [_outcome(task, piece, entry, index) for piece, entry in pieces.values()]
    for outcome in outcomes:
        if outcome.before is not None and outcome.status != UNCHANGED and not task.options["allow_older"]:
            _refuse_older_entry(outcome.before, pieces[outcome.path][1], outcome.path)
    fresh = [pieces[outcome.path] for outcome in outcomes if outcome.status != UNCHANGED]
    if fresh and not task.check:
        task.store.put(fresh)
    return {**told(outcomes), "msg": f"{len(fresh)} of {len(pieces)} pieces are new"}


def _has_leaf(data: bytes) -> bool:
    """True if a file holds a VCEK or VLEK, which its issuer's certificate may be needed to prove."""
    if not data.startswith(b"-----BEGIN CERTIFICATE"):
        return kds.is_vek(data)
    try:
        return any(kds.is_vek(der) for der in pem_to_der(data.decode("ascii", "replace")))
    except AttestedError:
        return False


def _proven(task: Task, entry: Entry, data: bytes, supplied: t.Sequence[bytes], path: str) -> tuple[Piece, Entry]:
    try:
        return proofs.prove_entry(entry, data, task.roots_of, supplied)
    except EndorsementError as error:
        what = f"{error.where}: {error.what}; nothing was taken from it"
        raise EndorsementError(what, where=f"bundle {path}", fix=error.fix, code="bundle-content") from None


def _outcome(task: Task, piece: Piece, entry: Entry, index: Index) -> Outcome:
    before = index.entries.get(piece.path)
    if before is not None and before.sha256 == entry.sha256 and task.store.intact(before):
        return Outcome(piece.path, piece.kind, piece.about, UNCHANGED, before=before)
    status = PLANNED if task.check else ADDED if before is None else REPLACED
    return Outcome(piece.path, piece.kind, piece.about, status, before=before, after=entry)


def _refuse_older(bundle: Bundle, index: Index, store: Store, path: str) -> None:
    if index.bundle_created_at is not None and bundle.created_at < index.bundle_created_at:
        raise EndorsementError(
            "it is as of %s, the store took over one as of %s" % (format_time(bundle.created_at), format_time(index.bundle_created_at)),
            where=f"bundle {path}", fix="Take the newer one, or set allow_older if going back is really wanted", code="bundle-older",
        )  # fmt: skip
    for name, entry in bundle.entries.items():
        before = index.entries.get(name)
        if before is not None and before.sha256 != entry.sha256 and store.intact(before):
            _refuse_older_entry(before, entry, f"bundle {path}, {name}")


def _refuse_older_entry(before: Entry, after: Entry, where: str) -> None:
    if before.issued_at is not None and after.issued_at is not None and after.issued_at < before.issued_at:
        raise EndorsementError(
            "it was issued at %s, the store has one of %s" % (format_time(after.issued_at), format_time(before.issued_at)),
            where=where, fix="Take the newer one, or set allow_older if going back is really wanted", code="bundle-older",
        )  # fmt: skip


def _chains_in(bundle: Bundle) -> list[bytes]:
    found: list[bytes] = []
    for name, entry in bundle.entries.items():
        if entry.kind == "amd-chain":
            found.extend(pem_to_der(bundle.files[name].decode("ascii", "replace"), where=name))
    return found


def _holds(path: str, signing_key: t.Any, entries: t.Mapping[str, Entry], created_at: datetime) -> bool:
    """True if the file is a bundle that this key signed over exactly these entries."""
    try:
        bundle = read_bundle(_read(path), signing_key.public_key(), path)
    except AttestedError:
        return False
    return bundle.created_at == created_at and bundle.entries == {name: _seconds(entry) for name, entry in entries.items()}


def _seconds(entry: Entry) -> Entry:
    """An entry as it comes back from a file, where times are whole seconds."""
    times = {name: getattr(entry, name) for name in ("fetched_at", "issued_at", "expires_at")}
    return replace(entry, **{name: None if value is None else value.replace(microsecond=0) for name, value in times.items()})


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read(BUNDLE_MAX + 1)
    except OSError as error:
        raise EndorsementError("it cannot be read: %s" % (error.strerror or error), where=f"bundle {path}", code="bundle-file") from None


def _write(path: str, data: bytes) -> None:
    partial = f"{path}.{os.getpid()}.partial"
    try:
        with open(partial, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise EndorsementError("it cannot be written: %s" % (error.strerror or error), where=f"bundle {path}", code="bundle-file") from None
