# SPDX-License-Identifier: GPL-3.0-or-later
"""Two owners with encrypted data, an agreement, a guest that was launched for it, and brokers that are functions."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

from ansible_collections.attested.ai.plugins.module_utils.errors import KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import EvidenceItem
from ansible_collections.attested.ai.plugins.module_utils.kbs.own_evidence import OwnEvidence
from ansible_collections.attested.ai.plugins.module_utils.kbs.transport import Server
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import guest, keysource
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.modelkey import ModelKey
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import jwk_thumbprint, public_jwk
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.pull import Order
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.release import KeyRelease, seal
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.encrypt import encrypt
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.plan import Keys, Request, make_plan, unwrap_dek
from ansible_collections.attested.ai.plugins.module_utils.target.collect import Request as Collection
from ansible_collections.attested.ai.plugins.module_utils.training import code, job, result
from ansible_collections.attested.ai.plugins.module_utils.training.agreement import SCHEMA, Agreement
from cryptography.hazmat.primitives.asymmetric import ec
from softtee.snp_report import build_report

PROGRAM = """import pathlib, sys
data, out = map(pathlib.Path, sys.argv[1:])
print("seen", sorted(path.name for path in data.iterdir() if path.is_dir()))
if "stop" in (data / "a" / "rows").read_text():
    sys.exit(3)
for name in ("metrics", "model"):
    (out / name).mkdir()
    (out / name / "n").write_text("%s of " % name + "".join((data / who / "rows").read_text() for who in "ab"))
"""


@dataclass
class Owner:
    kek: object
    signer: object
    result: object = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))


class Lab:
    def __init__(self, folder: Path, memory: Path, rows: str = "1 2\n") -> None:
        self.folder, self.memory = folder, memory
        self.owners = {name: Owner(keysource.new_kek()[0], ec.generate_private_key(ec.SECP256R1())) for name in "ab"}
        self.manifests = {}
        for name in self.owners:
            (folder / "plain" / name).mkdir(parents=True)
            (folder / "plain" / name / "rows").write_text(rows + name)
            self.manifests[name] = self.encrypt(name, 2)
        (folder / "code").mkdir()
        (folder / "code" / "go.py").write_text(PROGRAM)
        self.agreement = Agreement.of(self.members())
        (folder / "agreement.json").write_bytes(self.agreement.to_bytes())
        self.launched = self.agreement.digest
        self.asked: list = []
        self.refusing = ""
        self.other_key = ""
        self.stored_for = self.agreement.digest

    def data(self, name: str) -> Path:
        return self.folder / "data" / name

    def encrypt(self, name: str, release: int):
        keys = Keys(self.owners[name].kek, self.owners[name].signer)
        request = Request(str(self.folder / "plain" / name), str(self.data(name)), "rows-" + name, release, replace=True)
        return encrypt(make_plan(request, keys), keys, "2026-01-01T00:00:00Z")

    def members(self) -> dict:
        parties = [
            {"id": name, "model_id": "rows-" + name, "manifest_sha256": self.manifests[name].digest(),
             "manifest_signer": jwk_thumbprint(public_jwk(owner.signer)),
             "result_key": public_jwk(owner.result)} for name, owner in self.owners.items()
        ]  # fmt: skip
        return {"schema": SCHEMA, "job": "count", "code": code.digest_of(str(self.folder / "code")), "parties": parties,
                "command": [sys.executable, "{code}/go.py", "{data}", "{out}"], "outputs": {"log": "all", "metrics": "all", "model": ["a"]}}  # fmt: skip

    def gather(self, _request: object) -> SimpleNamespace:
        return SimpleNamespace(items=[EvidenceItem("sev-snp", "test", bytes(build_report(host_data=bytes.fromhex(self.launched))))])

    def job(self, **changes: object) -> job.Job:
        own = OwnEvidence(Collection(nonce="", method="configfs", tsm_path=str(self.folder / "tsm")), gather=self.gather)
        sources = tuple(job.Source(name, str(self.data(name)), self._order(name)) for name in self.owners)
        values = {"agreement": str(self.folder / "agreement.json"), "code": str(self.folder / "code"), "dest": str(self.memory / "count"),
                  "results": str(self.folder / "results"), "sources": sources, "own": own, "session_directory": str(self.memory / "sessions"),
                  "isolation": "process", **changes}  # fmt: skip
        return job.Job(**values)

    def _order(self, name: str):
        def order(session):
            wish = guest.Wish(session, directory=str(self.memory / "sessions"))
            return Order(Server("http://127.0.0.1:1"), "kbs:///default/rows/" + name, wish), OwnEvidence(Collection(nonce=""))

        return order

    def fetch(self, order: Order, _own: OwnEvidence, _check: bool) -> dict:
        """The broker of the party at the end of the resource's name."""
        name = order.resource[-1]
        self.asked.append(name)
        assert not (self.memory / "count").exists(), "opened before the last key was there"
        if name == self.refusing:
            raise KeyReleaseError("its policy refuses", where=order.resource, code="kbs-policy-denied")
        made, manifest, owner = guest.apply(order.session, False), self.manifests[name], self.owners[self.other_key or name]
        until = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(seconds=60)
        key = bytes(unwrap_dek(manifest.dek, self.owners[name].kek))
        # As it is stored for the agreement that the owners signed off, and read in a guest for the one that this guest runs.
        stored = ModelKey(manifest.model_id, manifest.release, 1, manifest.key_id, public_jwk(owner.signer), key, self.stored_for,
                          result.tag_key(self.owners[name].result, self.agreement))  # fmt: skip
        order.keep_tag_key(ModelKey.from_json(stored.to_json(), order.resource, order.agreement).tag_key)
        release = KeyRelease(manifest.model_id, manifest.release, order.minimum_release, key, manifest.key_id, public_jwk(owner.signer), "00" * 32, until)
        guest.apply(guest.Wish(order.session.session, directory=order.session.directory, release=seal(release, made["jwk"])), False)
        return {"model_id": manifest.model_id, "release": manifest.release, "key_id": manifest.key_id, "resource": order.resource, "anchored": False}

    def run(self, check_mode: bool = False, **changes: object) -> dict:
        return job.run(self.job(**changes), check_mode, lambda _argv: (1, "", "no unit here"), self.fetch)

    def agree(self, **members: object) -> None:
        """Another agreement, as if it had been this one from the beginning."""
        self.agreement = Agreement.of({**self.members(), **members})
        self.launched = self.stored_for = self.agreement.digest
        (self.folder / "agreement.json").write_bytes(self.agreement.to_bytes())

    def tag_keys(self) -> dict:
        return {name: result.tag_key(owner.result, self.agreement) for name, owner in self.owners.items()}

    def left(self) -> list:
        """Plaintext, keys and ciphertext of results that are somewhere."""
        found = [path for path in self.memory.rglob("*") if path.is_file() and path.name != ".lock" and path.suffix != ".done"]
        return found + list(self.folder.glob("results*"))

    def close(self) -> None:
        shutil.rmtree(self.memory, ignore_errors=True)


def text(value: dict) -> bytes:
    return json.dumps(value).encode()
