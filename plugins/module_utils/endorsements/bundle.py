# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A store as one signed file, to carry it where there is no network.

A bundle is a tar archive that any tar lists and unpacks: ``manifest.json`` (what is in it, with digests), ``manifest.jws`` (a detached JWS over
exactly those bytes), then the files, sorted. The same content gives the same bytes, but for the signature, which is drawn anew each time.

It is read by a reader of its own, which knows plain files and nothing else: no links, devices, directories, long names, extensions, or
anything after the end. The signature is checked before anything else is looked at, and every file must be one that the manifest names.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.endorsements.store import (
    PATH_MAX,
    PIECE_MAX,
    Entry,
    format_time,
    parse_entries,
    parse_time,
)
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, EndorsementError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jws

SCHEMA = "attested.ai/collateral-bundle/1"
MANIFEST, SIGNATURE = "manifest.json", "manifest.jws"
BUNDLE_MAX = 256 << 20
MEMBERS_MAX = 50002
_MANIFEST_MAX = 16 << 20
_AGAIN = "Ask its maker for it again; nothing was taken from it"
_SIGNATURE_MAX = 4096
_BLOCK = 512
# name 100, mode 8, uid 8, gid 8, size 12, mtime 12, checksum 8, type 1, link 100, magic 6, version 2, user 32, group 32, device 16, prefix 155
_SIZE = slice(124, 136)
_OCTAL = re.compile(rb"[0-7]{11}\0\Z")
_NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._+/-]{0,%d}\Z" % (PATH_MAX - 1))


@dataclass(frozen=True)
class Bundle:
    """A bundle whose signature holds. ``files`` has the bytes of each entry."""

    created_at: datetime
    entries: Mapping[str, Entry]
    files: Mapping[str, bytes]


def write_bundle(entries: Mapping[str, Entry], files: Mapping[str, bytes], created_at: datetime, signing_key: Any) -> bytes:
    """The bytes of a bundle. ``signing_key`` is an EC private key on P-256 or P-384."""
    manifest = {
        "schema": SCHEMA,
        "created_at": format_time(created_at),
        "entries": {path: entries[path].to_dict() for path in sorted(entries)},
    }
    text = json.dumps(manifest, indent=1, ensure_ascii=True).encode("ascii") + b"\n"
    return join_signed((MANIFEST, SIGNATURE), text, [(path, files[path]) for path in sorted(entries)], signing_key, SCHEMA)


def join_signed(names: Tuple[str, str], text: bytes, members: Sequence[Tuple[str, bytes]], signing_key: Any, typ: str) -> bytes:
    """The archive that ``split_signed`` reads: ``text`` and the signature over it under these names, then the members."""
    signature = jcs.canonicalize(jws.sign_detached(text, signing_key, typ=typ)) + b"\n"
    return join([(names[0], text), (names[1], signature), *members])


def split_signed(data: bytes, names: Tuple[str, str], public_key: Any, typ: str, where: str, largest: int,
                 refused: Callable[..., AttestedError]) -> Tuple[bytes, List[Tuple[str, bytes]]]:  # fmt: skip
    """(the text that this key signed, the members after it). Raises FormatError for the form, and what ``refused`` makes of another signature."""
    members = split(data, where)
    if tuple(name for name, _content in members[:2]) != names:
        raise FormatError("it does not begin with %s and %s" % names, where=where)
    text, signature = members[0][1], members[1][1]
    if len(text) > largest or len(signature) > _SIGNATURE_MAX:
        raise FormatError("what it says of itself, or its signature, is too large", where=where)
    try:
        jws.verify_detached(strict.loads(signature, where), text, public_key, typ, where)
    except AttestedError as error:
        raise refused(error.what, where=error.where or where) from None
    return text, members[2:]


def join(members: Sequence[Tuple[str, bytes]]) -> bytes:
    """The archive that ``split`` reads: plain files in this order."""
    blocks: List[bytes] = []
    for name, data in members:
        blocks += [_header(name, len(data)), data, bytes(-len(data) % _BLOCK)]
    blocks.append(bytes(2 * _BLOCK))
    return b"".join(blocks)


def read_bundle(data: bytes, public_key: Any, where: str = "bundle") -> Bundle:
    """Read a bundle that this key signed (JWK or key object). Raises EndorsementError with a code that says what is wrong with it."""
    if public_key is None:
        raise EndorsementError("it is read only with the public key of its signer", where=where, fix="Give public_key", code="bundle-key")
    try:
        refused = partial(EndorsementError, fix=_AGAIN, code="bundle-signature")
        text, members = split_signed(data, (MANIFEST, SIGNATURE), public_key, SCHEMA, where, _MANIFEST_MAX, refused)
        return _judge(text, members, where)
    except FormatError as error:
        raise EndorsementError(error.what, where=error.where or where, fix=_AGAIN, code="bundle-format") from None


def is_bundle(data: bytes) -> bool:
    """True if it begins as a bundle does. Says nothing of its signature."""
    return data[:len(MANIFEST) + 1] == MANIFEST.encode("ascii") + b"\0" and data[257:262] == b"ustar"


def _judge(text: bytes, members: Sequence[Tuple[str, bytes]], where: str) -> Bundle:
    document = strict.members(strict.loads(text, where), ("schema", "created_at", "entries"), where=where)
    if document["schema"] != SCHEMA:
        raise FormatError("the schema %s is not %s" % (strict.quoted(document["schema"]), SCHEMA), where=where)
    created_at = parse_time(document["created_at"], where + " created_at")
    entries = parse_entries(document["entries"], where)
    files: Dict[str, bytes] = {}
    for name, content in members:
        entry = entries.get(name)
        if entry is None:
            raise FormatError("the manifest does not name %s" % strict.quoted(name), where=where)
        if name in files:
            raise FormatError("%s occurs twice" % strict.quoted(name), where=where)
        if len(content) != entry.size or hashlib.sha256(content).hexdigest() != entry.sha256:
            raise FormatError("%s is not the file that was signed" % strict.quoted(name), where=where)
        files[name] = content
    missing = sorted(set(entries) - set(files))
    if missing:
        raise FormatError("%d files are missing, for example %s" % (len(missing), missing[0]), where=where)
    return Bundle(created_at, entries, files)


def split(data: bytes, where: str = "bundle") -> List[Tuple[str, bytes]]:
    """The members of a tar archive of plain files (POSIX ustar): (name, content) in order. Raises FormatError for anything else."""
    if len(data) > BUNDLE_MAX:
        raise FormatError("it is %d bytes, at most %d are read" % (len(data), BUNDLE_MAX), where=where)
    if len(data) % _BLOCK:
        raise FormatError("it was cut off: %d bytes are no whole number of blocks" % len(data), where=where)
    members: List[Tuple[str, bytes]] = []
    position = 0
    while True:
        header = data[position:position + _BLOCK]
        position += _BLOCK
        if len(header) < _BLOCK:
            raise FormatError("it was cut off: it has no end", where=where)
        if not any(header):
            # Some writers fill up the last record, so any number of blocks may follow. Only zeros.
            if not data[position:position + _BLOCK] or any(data[position:]):
                raise FormatError("something stands after its end, or the end is not whole", where=where)
            return members
        if len(members) == MEMBERS_MAX:
            raise FormatError("it has more than %d members" % MEMBERS_MAX, where=where)
        name, size = _read_header(header, where)
        content = data[position:position + size]
        padding = data[position + size:position + size + -size % _BLOCK]
        if len(content) != size or len(padding) != -size % _BLOCK or any(padding):
            raise FormatError("%s was cut off, or its padding is not zero" % strict.quoted(name), where=where)
        position += size + len(padding)
        members.append((name, content))


def _header(name: str, size: int) -> bytes:
    fields = (
        name.encode("ascii").ljust(100, b"\0"), b"0000644\0", b"0000000\0", b"0000000\0", b"%011o\0" % size, b"%011o\0" % 0, b" " * 8, b"0",
        bytes(100), b"ustar\0", b"00", bytes(32), bytes(32), b"0000000\0", b"0000000\0", bytes(155), bytes(12),
    )  # fmt: skip
    header = b"".join(fields)
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]


def _read_header(header: bytes, where: str) -> Tuple[str, int]:
    """(name, size) of a header that is exactly the one that we write for this name and size."""
    raw = header[:100].rstrip(b"\0")
    name = raw.decode("ascii", "replace")
    if not _NAME.match(raw) or any(part in (b"", b".", b"..") for part in raw.split(b"/")):
        raise FormatError("the name %s is not allowed" % strict.quoted(name), where=where)
    if not _OCTAL.match(header[_SIZE]):
        raise FormatError("the size of %s cannot be read" % strict.quoted(name), where=where)
    size = int(header[_SIZE][:11], 8)
    if size > max(PIECE_MAX, _MANIFEST_MAX):
        raise FormatError("%s is %d bytes, which is too large" % (strict.quoted(name), size), where=where)
    if header[156:157] != b"0" or any(header[157:257]):
        raise FormatError("%s is no plain file, or a link" % strict.quoted(name), where=where)
    if header != _header(name, size):
        raise FormatError("the header of %s is none of ours" % strict.quoted(name), where=where)
    return name, size
