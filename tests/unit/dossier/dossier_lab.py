# SPDX-License-Identifier: GPL-3.0-or-later
"""The action evidence_dossier in this process, with evidence of a TDX platform that is made here, and a model that is sealed here."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
import types
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tdx"))

import tdx_lab  # noqa: E402
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator  # noqa: E402
from ansible_collections.attested.ai.plugins.action import evidence_dossier  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.dossier.record import Record  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import Binding, EvidenceDocument, EvidenceItem  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import public_jwk  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.keysource import create_kek  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.signingkey import create_signing_key  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.encrypt import encrypt  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.plan import Keys, Request, make_plan  # noqa: E402
from ansible_collections.attested.ai.plugins.plugin_utils import dossier_files  # noqa: E402

NONCE = bytes(range(32))
MRTD = b"\x11" * 48


class _Dossier(evidence_dossier.ActionModule):
    def __init__(self, task, loader, find):  # pylint: disable=super-init-not-called
        self._task, self._loader, self._find_needle = task, loader, find


class Lab:
    """The action in this process, with evidence and collateral that are made here."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tdx = folder, tdx_lab.lab()
        (folder / "collateral.json").write_bytes(self.tdx.collateral())
        root = tdx_lab.pem(self.tdx.root)
        self.policy = {"schema": "attested.ai/policy/1", "id": "records", "allow_nonvendor_roots": True, "roots": [root],
                       "chain_of_trust": {"waiver": "the lab has no image"}}  # fmt: skip
        value = {"tee": "tdx", "measurement": MRTD.hex(), "covers": "launch", "image": "i", "source": "here", "not_after": "2027-01-01T00:00:00Z"}
        self.values = {"schema": "attested.ai/reference-values/1", "values": [value]}

    def evidence(self, mrtd=MRTD, nonce=NONCE, binding=Binding()):  # noqa: B008 - frozen
        template = EvidenceDocument("attested/1", nonce, binding, (), {})
        quote = self.tdx.quote(tdx_lab.td_report(reportdata=template.expected_report_data(nonce), mrtd=mrtd))
        return EvidenceDocument("attested/1", nonce, binding, (EvidenceItem("tdx", "tdx_guest", quote, {}),), {}).to_dict()

    def run(self, check=False, **options):
        given = ArgumentSpecValidator(evidence_dossier.ARGUMENT_SPEC, **evidence_dossier.ActionModule.rules).validate({"path": "dossier", **options})
        assert not given.error_messages, given.error_messages
        loader = types.SimpleNamespace(get_basedir=lambda: str(self.folder), get_real_file=lambda path: path)
        action = _Dossier(types.SimpleNamespace(check_mode=check, diff=False), loader, lambda _kind, path: os.path.join(self.folder, path))
        return action.work(given.validated_parameters)

    def add(self, at="2026-11-01T00:00:00Z", check=False, evidence=None, binding=Binding(), **more):  # noqa: B008 - frozen
        drawn = NONCE if evidence else os.urandom(32)
        evidence = evidence or self.evidence(nonce=drawn, binding=binding)
        return self.run(check, operation="add", **{**self.common(at), "evidence": evidence, "nonce": base64.b64encode(drawn).decode(), **more})

    def common(self, at):
        return {"deployment": "triage", "signing_key": "dossier.pem", "create_signing_key": True, "policy": self.policy, "reference_values": self.values,
                "collateral": ["collateral.json"], "at": at}  # fmt: skip

    def verify(self, **more):
        return self.run(operation="verify", **{"public_key": "dossier/dossier.pub.jwk", "at": "2026-11-01T12:00:00Z", **more})

    def forge(self, change, extra=()):
        """What whoever holds the signing key can do: the first record once more, and changed."""
        files = dossier_files.DossierFiles(str(self.folder / "dossier"))
        key = evidence_dossier.load_signing_key(str(self.folder / "dossier.pem"))
        line = files.verify(public_jwk(key)).entries[0]
        record = Record.parse({name: value for name, value in line.items() if name not in ("seq", "prev", "hash")})
        blobs = {**files.blobs_of(record), **{hashlib.sha256(data).hexdigest(): data for data in extra}}
        files.append(replace(record, **change), blobs, key, jcs.canonicalize(public_jwk(key)) + b"\n")


def outcomes(entry):
    return {check["id"]: check["outcome"] for check in entry["checks"]}


def seal(lab):
    """Release 2 of the model m."""
    kek, signer = create_kek(str(lab.folder / "kek.jwk")), create_signing_key(str(lab.folder / "model.pem"))
    (lab.folder / "plain").mkdir()
    (lab.folder / "plain" / "weights.bin").write_bytes(os.urandom(3000))
    keys = Keys(kek, signer)
    encrypt(make_plan(Request(str(lab.folder / "plain"), str(lab.folder / "sealed"), "m", 2, 4096), keys), keys, "2026-01-31T12:00:00Z")
    (lab.folder / "model.pub").write_text(json.dumps(public_jwk(signer)))
    return {"model": "sealed", "signer": "model.pub"}
