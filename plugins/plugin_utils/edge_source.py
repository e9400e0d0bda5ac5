# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The key source ``edge`` of model_release: policy, reference values, collateral, manifest and data key of the bundle that is installed on this gateway."""

from __future__ import annotations

import os
import typing as t
from dataclasses import dataclass, field

from ansible_collections.attested.ai.plugins.module_utils.edge.bundle import COLLATERAL, POLICY, REFERENCES, Bundle, model_files
from ansible_collections.attested.ai.plugins.module_utils.edge.limits import Standing
from ansible_collections.attested.ai.plugins.module_utils.errors import KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.counter import Counter
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwe import unwrap_flattened
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.modelkey import ModelKey
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import Manifest
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.signature import verify_manifest
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import plain
from ansible_collections.attested.ai.plugins.plugin_utils.edge_gateway import Gateway, GatewayRecords, now
from ansible_collections.attested.ai.plugins.plugin_utils.key_source import EDGE
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import local_path
from ansible_collections.attested.ai.plugins.plugin_utils.public_key import public_key
from ansible_collections.attested.ai.plugins.plugin_utils.release_offer import Offer

# What the bundle decides: given besides, it would look as if it counted.
_DECIDED = ("policy", "reference_values", "certificates", "crl", "collateral", "collateral_key", "at", "model", "signer", "ledger", "ledger_key")


@dataclass(frozen=True)
class EdgeOffer(Offer):
    """What the bundle has of one model. The data key is opened by the gateway's key, only when it is needed."""

    sealed: t.Any = field(default=None, repr=False)

    def _data_key(self) -> bytes:
        manifest, where = self.manifest, f"edge key of {self.manifest.model_id}"
        found = ModelKey.from_json(unwrap_flattened(self.sealed, self.kek.key, where), where)
        # Encrypting to a public key proves no sender: the bundle's signature covers it, and it must be for just this manifest.
        if (found.model_id, found.release, found.key_id) != (manifest.model_id, manifest.release, manifest.key_id):
            raise KeyReleaseError("it is of another model or release", where=where, fix="Have the centre make the bundle again", code="edge-key")
        if dict(found.manifest_signer) != dict(self.signer):
            raise KeyReleaseError("it is for a model that another key signed", where=where, fix="Have the centre make the bundle again", code="edge-key")
        return found.key


@dataclass(frozen=True)
class _GatewayKey:
    """In the place of a key-encryption key: the private key object of the gateway."""

    kid: str
    key: t.Any = field(repr=False)


def is_edge(arguments: t.Mapping[str, t.Any]) -> bool:
    """Whether a task's ``kek`` names an edge bundle."""
    kek = arguments.get("kek")
    return isinstance(kek, t.Mapping) and kek.get("source") == EDGE


class EdgeSource:
    """``kek: {source: edge, gateway: <directory>, signer: <public key>, model_id: <name>}``. Reads and judges when it is made. Raises AttestedError."""

    def __init__(self, action: t.Any, options: t.Mapping[str, t.Any]) -> None:
        strange = [name for name in _DECIDED if options[name]]
        if options["mode"] != "push" or strange:
            raise KeyReleaseError("%s is not for kek with source edge, where the bundle decides" % (", ".join(strange) or "mode pull"), where="model_release",
                                  fix="Leave it out", code="edge-option")  # fmt: skip
        given = strict.members(plain(options["kek"], "kek"), ("source", "gateway", "signer", "model_id"), where="kek")
        self._signer = public_key(given["signer"], action)
        self._gateway = Gateway(local_path(action, strict.text_of(given["gateway"], "kek gateway", 4096)))
        self._model_id = strict.text_of(given["model_id"], "kek model_id", 256)
        with self._gateway.locked(action._task.check_mode):
            at = now()
            found = self._gateway.found(self._signer)
            if not action._task.check_mode:
                # Also where it refuses: an end that was seen stays seen, whatever the clock says later.
                found = self._gateway.see(found, at)
            self._state, self._standing = found.state, found.standing(at)
        self._records: GatewayRecords | None = None

    @property
    def bundle(self) -> Bundle:
        return self._standing.bundle

    def refuse(self) -> None:
        self._standing.refuse(self._model_id)

    def told(self) -> dict[str, t.Any]:
        """What is left, for the task's result."""
        current: Standing = self._standing if self._records is None or self._records.last is None else self._records.last
        return {"edge": current.to_dict()}

    def options(self, options: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """The task's options with those that the bundle decides."""
        files, (_number, grant) = self.bundle.files, self.bundle.grant(self._model_id)
        collateral = [os.path.join(self._gateway.root, self._gateway.collateral_name(self._state.bundle_sha256))] if COLLATERAL in files else []
        return {
            **options,
            "policy": strict.loads(files[POLICY], POLICY),
            "reference_values": strict.loads(files[REFERENCES], REFERENCES),
            "collateral": collateral,
            "collateral_key": self._signer if collateral else None,
            "minimum_release": max(grant.minimum_release, options["minimum_release"] or 1),
            "ledger": self._gateway.records,
        }

    def offer(self) -> Offer:
        offer = edge_offer(self.bundle, self._model_id, self._gateway.key())
        offer.prove()
        return offer

    def records(self, besides: Counter | None) -> GatewayRecords:
        self._records = GatewayRecords(self._gateway, self._signer, besides)
        return self._records


def edge_offer(bundle: Bundle, model_id: str, gateway_key: t.Any) -> EdgeOffer:
    """The model of a bundle, its manifest verified by its own signer. Raises AttestedError."""
    number, grant = bundle.grant(model_id)
    raw, signature, sealed = (bundle.files[path] for path in model_files(number))
    verify_manifest(raw, signature, grant.signer, "edge bundle %s" % model_files(number)[1])
    manifest = Manifest.parse(raw, "edge bundle %s" % model_files(number)[0])
    if (manifest.model_id, manifest.release, manifest.key_id, manifest.digest()) != (grant.model_id, grant.release, grant.key_id, grant.manifest_sha256):
        raise KeyReleaseError("its manifest is of another model", where="edge bundle %s" % model_files(number)[0], code="edge-key")
    return EdgeOffer(manifest, grant.signer, _GatewayKey(bundle.gateway, gateway_key), strict.loads(sealed, "edge key"))  # type: ignore[arg-type]
