# SPDX-License-Identifier: GPL-3.0-or-later
"""The actions of a centre and of a gateway in one process, with everything real but the clock and the guest."""

from __future__ import annotations

import os
import types
from datetime import datetime, timedelta, timezone
from pathlib import Path

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.attested.ai.plugins.action import edge_bundle, edge_report, model_release
from ansible_collections.attested.ai.plugins.module_utils.endorsements.store import Piece, Store
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import public_jwk
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.keysource import create_kek
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.ledger import Entry
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.release import format_time
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.signingkey import create_signing_key, load_signing_key
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.encrypt import encrypt
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.plan import Keys, Request, make_plan
from ansible_collections.attested.ai.plugins.plugin_utils import edge_gateway, edge_make, edge_source

MODULES = (edge_bundle, edge_report, edge_gateway, edge_make, edge_source)
START = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)
POLICY = {"schema": "attested.ai/policy/1", "id": "field"}


class Code:
    """How a task failed."""

    def __init__(self, error: AttestedError) -> None:
        self.code, self.text = error.code, str(error)


class _Bundle(edge_bundle.ActionModule):
    def __init__(self, task, loader, find):  # pylint: disable=super-init-not-called
        self._task, self._loader, self._find_needle = task, loader, find


class _Report(edge_report.ActionModule):
    def __init__(self, task, loader, find):  # pylint: disable=super-init-not-called
        self._task, self._loader, self._find_needle = task, loader, find


class Lab:
    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, START

    def later(self, **delta: float) -> Lab:
        self.clock += timedelta(**delta)
        return self

    def _task(self, check: bool):
        loader = types.SimpleNamespace(get_basedir=lambda: str(self.folder), get_real_file=lambda path: path)
        return types.SimpleNamespace(check_mode=check, diff=True), loader, lambda _kind, path: os.path.join(self.folder, path)

    def _call(self, kind, spec, required, check, options):
        given = ArgumentSpecValidator(spec, required_if=required).validate(options)
        assert not given.error_messages, given.error_messages
        try:
            return getattr(kind(*self._task(check)), "_" + options["state"])(given.validated_parameters, check)
        except AttestedError as error:
            return Code(error)

    def bundle(self, state: str, check: bool = False, **options):
        return self._call(_Bundle, edge_bundle.ARGUMENT_SPEC, edge_bundle.REQUIRED, check, {"state": state, **options})

    def report(self, state: str, check: bool = False, **options):
        return self._call(_Report, edge_report.ARGUMENT_SPEC, edge_report.REQUIRED, check, {"state": state, "report": "report.tar", **options})

    def prepare(self, gateway: str = "gw", name: str = "plant-1", **more):
        return self.bundle("prepared", gateway=gateway, name=name, **more)

    def make(self, gateway: str = "gw", dest: str = "bundle.tar", days: float = 30, uses: int = 2, check: bool = False, **more):
        model = {"model": "sealed", "kek": "kek.jwk", "signer": "model.pub", "uses": uses}
        return self.bundle("made", check=check, **{
            "centre": "centre", "card": f"{gateway}/card.json", "dest": dest, "signing_key": "centre.pem", "policy": POLICY, "collateral": "store",
            "models": [model], "not_after": format_time(START + timedelta(days=days)), **more,
        })  # fmt: skip

    def install(self, bundle: str = "bundle.tar", gateway: str = "gw", signer: str = "centre.pub", **more):
        return self.bundle("installed", gateway=gateway, bundle=bundle, signer=signer, **more)

    def inspect(self):
        return self.bundle("inspected", gateway="gw", signer="centre.pub")

    def release(self, check: bool = False, gateway: str = "gw", **more):
        """What model_release does with the source, but for the guest."""
        kek = {"source": "edge", "gateway": gateway, "signer": "centre.pub", "model_id": "m"}
        given = ArgumentSpecValidator(model_release.ARGUMENT_SPEC).validate({"policy": None, "kek": kek, **more})
        action = _Bundle(*self._task(check))
        try:
            source = edge_source.EdgeSource(action, given.validated_parameters)
            source.refuse()
            options, offer = source.options(given.validated_parameters), source.offer()
            key = offer.release(options["minimum_release"], "0" * 64, self.clock.replace(microsecond=0)).key
            source.records(None).append(Entry(
                at=format_time(self.clock), who="tester", key_id=offer.manifest.key_id, model_id="m", release=1, evidence_digest="0" * 64, policy_id="field",
                policy_digest="1" * 64, guest_key_thumbprint="t", decision="released", host="guest", anchor="vendor"))  # fmt: skip
            return {**source.told(), "key": key, "options": options}
        except AttestedError as error:
            return Code(error)


def make_ground(folder: Path) -> Path:
    kek, signer = create_kek(str(folder / "kek.jwk")), create_signing_key(str(folder / "model.pem"))
    for name in ("centre", "other"):
        create_signing_key(str(folder / f"{name}.pem"))
    for name in ("model", "centre", "other"):
        _public(folder, name)
    (folder / "plain").mkdir()
    (folder / "plain" / "weights.bin").write_bytes(os.urandom(3000))
    encrypt(make_plan(Request(str(folder / "plain"), str(folder / "sealed"), "m", 1, 4096), Keys(kek, signer)), Keys(kek, signer), "2026-01-31T12:00:00Z")
    piece = Piece("amd-crl", "amd/crl/genoa.der", b"a list", "a list", START - timedelta(days=1), START + timedelta(days=40))
    Store(str(folder / "store")).put([(piece, piece.entry("test", START))])
    return folder


def _public(folder: Path, name: str) -> None:
    from ansible_collections.attested.ai.plugins.module_utils.formats import jcs

    (folder / f"{name}.pub").write_bytes(jcs.canonicalize(public_jwk(load_signing_key(str(folder / f"{name}.pem")))))
