# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A dossier as a folder to hand over: the dossier itself, each record in files with names, and a play that verifies all of it."""

from __future__ import annotations

import os
import typing as t

import yaml

from ansible_collections.attested.ai.plugins.module_utils.dossier.record import Record
from ansible_collections.attested.ai.plugins.module_utils.errors import LedgerError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.ledger import RELEASES, LedgerReport
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.secretfile import replace_file
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.tree import MANIFEST, SIGNATURE
from ansible_collections.attested.ai.plugins.plugin_utils.dossier_files import FILES, PUBLIC, RECORDS, DossierFiles, make_folders
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import content

_SUFFIX = {"tdx": "json", "cca": "json", "jwks": "json", "rims": "xml", "launch_endorsements": "binarypb"}
_NAMES = {"evidence": "evidence.json", "policy": "policy.json", "reference_values": "reference-values.json", "result": "result.json", "ear": "ear.jwt",
          "manifest": MANIFEST, "signature": SIGNATURE, "guest": "guest.json"}  # fmt: skip
_HEAD = """---
# SPDX-License-Identifier: GPL-3.0-or-later
# Verifies this folder, offline: the chain and every record of the dossier, then the evidence of each record at its own time.
#
#   ansible-playbook verify.yml -e key="$PWD/<the public key of the dossier's signer, as you got it from the signer>" [-e known_head=<the head that you kept>]
"""


def export(files: DossierFiles, dest: str, public_key: t.Mapping[str, t.Any], check: bool) -> dict[str, t.Any]:
    """Write what is not there already. Raises LedgerError, OSError."""
    changed, seen = False, t.cast("set[str]", set())
    with files.unchanged():
        report = files.verify(public_key)
        _check_dest(files, dest)
        for path, data in _content(files, report, public_key):
            if path in seen:
                continue
            seen.add(path)
            target = os.path.join(dest, path)
            if content(target) == data:
                continue
            changed = True
            if not check:
                make_folders(os.path.dirname(target))
                replace_file(target, data)
    return {"changed": changed, "dest": dest, "files": len(seen)}


def _check_dest(files: DossierFiles, dest: str) -> None:
    """What lies there is nothing, or an earlier export of this dossier: of two, the one would pass for part of the other. Raises LedgerError."""
    there = content(os.path.join(dest, "dossier", RECORDS))
    if there is not None and not (content(files.records) or b"").startswith(there):
        raise LedgerError("another dossier was exported to it", where=dest, fix="Give a folder that is not there", code="dossier-dest")


def _content(files: DossierFiles, report: LedgerReport, public_key: t.Mapping[str, t.Any]) -> t.Iterator[tuple[str, bytes]]:
    """(path below the folder, content), one after the other: a dossier may be larger than memory. What makes it whole comes last."""
    tasks: list[dict[str, t.Any]] = [{
        "name": "Verify the dossier",
        "attested.ai.evidence_dossier": {"operation": "verify", "path": "{{ playbook_dir }}/dossier", "public_key": "{{ key }}",
                                         "known_head": "{{ known_head | default('') }}"},
    }]  # fmt: skip
    for line in report.entries:
        record = Record.parse({name: value for name, value in line.items() if name not in ("seq", "prev", "hash")})
        blobs = files.blobs_of(record)
        for digest, data in blobs.items():
            yield f"dossier/{FILES}/{digest[:2]}/{digest}", data
        folder = f"records/{line['seq']:06d}-{record.deployment}"
        collateral = []
        for name, data in _named(record, line, blobs):
            yield f"{folder}/{name}", data
            if name.startswith("collateral/"):
                collateral.append(f"{{{{ playbook_dir }}}}/{folder}/{name}")
        tasks.append({
            "name": f"Verify the evidence of record {line['seq']}",
            "attested.ai.evidence_verify": {
                **{option: f"{{{{ playbook_dir }}}}/{folder}/{_NAMES[option]}" for option in ("evidence", "policy", "reference_values")},
                "nonce": record.nonce, "at": record.at, "collateral": collateral, "fail_on_refusal": record.accepted,
            },
        })  # fmt: skip
    for name in (RECORDS, RECORDS + ".head"):
        data = content(os.path.join(files.root, name))
        if data is None:
            raise LedgerError("it is missing", where=os.path.join(files.root, name), fix="Restore it from a copy of the dossier", code="dossier-file")
        yield "dossier/" + name, data
    yield "dossier/" + PUBLIC, jcs.canonicalize(dict(public_key)) + b"\n"
    play = [{"name": "Verify a dossier", "hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]
    yield "verify.yml", (_HEAD + yaml.safe_dump(play, sort_keys=False, width=150)).encode("utf-8")


def _named(record: Record, line: t.Mapping[str, t.Any], blobs: t.Mapping[str, bytes]) -> t.Iterator[tuple[str, bytes]]:
    yield "record.json", jcs.canonicalize(dict(line)) + b"\n"
    for member, name in _NAMES.items():
        if getattr(record, member):
            yield name, blobs[getattr(record, member)]
    for name, key in (("signer.jwk", record.signer), ("ledger.jwk", record.ledger_key)):
        if key is not None:
            yield name, jcs.canonicalize(dict(key)) + b"\n"
    if record.releases:
        yield f"{RELEASES.entry_type.split('/')[1]}.jsonl", b"".join(blobs[digest] + b"\n" for digest in record.releases)
    for kind, digests in record.endorsements.items():
        for number, digest in enumerate(digests, 1):
            yield f"collateral/{kind}-{number:03d}.{_SUFFIX.get(kind, 'der')}", blobs[digest]
    for name, digest in record.configuration.items():
        yield "configuration/" + name, blobs[digest]
