# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""edge_bundle: prepare a gateway, make its bundle at the centre, install it on the gateway, and say what is left of it."""

from __future__ import annotations

import hashlib
import typing as t
from dataclasses import replace

from ansible_collections.attested.ai.plugins.module_utils.edge.bundle import BUNDLE_MAX, COLLATERAL, POLICY, REFERENCES, Bundle, read_bundle
from ansible_collections.attested.ai.plugins.module_utils.edge.limits import Standing, standing
from ansible_collections.attested.ai.plugins.module_utils.endorsements import bundle as collateral_bundles
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import Inputs
from ansible_collections.attested.ai.plugins.plugin_utils.controller_action import ControllerAction
from ansible_collections.attested.ai.plugins.plugin_utils.edge_files import read_file
from ansible_collections.attested.ai.plugins.plugin_utils.edge_gateway import Found, Gateway, now
from ansible_collections.attested.ai.plugins.plugin_utils.edge_make import MODEL_SPEC, make
from ansible_collections.attested.ai.plugins.plugin_utils.edge_source import edge_offer
from ansible_collections.attested.ai.plugins.plugin_utils.public_key import public_key

PREPARED, MADE, INSTALLED, INSPECTED = "prepared", "made", "installed", "inspected"
ARGUMENT_SPEC: dict[str, dict[str, t.Any]] = {
    "state": {"type": "str", "required": True, "choices": [PREPARED, MADE, INSTALLED, INSPECTED]},
    "gateway": {"type": "path"},
    "name": {"type": "str"},
    "bundle": {"type": "path"},
    "signer": {"type": "raw"},
    "centre": {"type": "path"},
    "card": {"type": "path"},
    "dest": {"type": "path"},
    "signing_key": {"type": "path", "no_log": False},
    "policy": {"type": "raw"},
    "reference_values": {"type": "raw"},
    "collateral": {"type": "path"},
    "models": {"type": "list", "elements": "dict", "options": MODEL_SPEC},
    "not_before": {"type": "str"},
    "not_after": {"type": "str"},
    "sequence": {"type": "int"},
}
REQUIRED: t.Final = [
    ("state", PREPARED, ["gateway", "name"]),
    ("state", MADE, ["centre", "card", "dest", "signing_key", "policy", "models", "not_after"]),
    ("state", INSTALLED, ["gateway", "bundle", "signer"]),
    ("state", INSPECTED, ["signer"]),
]


class ActionModule(ControllerAction):
    _supports_check_mode = True
    argument_spec = ARGUMENT_SPEC
    rules: t.ClassVar[dict[str, t.Any]] = {"required_if": REQUIRED}

    def work(self, options: dict[str, t.Any]) -> dict[str, t.Any]:
        return getattr(self, "_" + options["state"])(options, bool(self._task.check_mode))

    def _prepared(self, options: t.Mapping[str, t.Any], check: bool) -> dict[str, t.Any]:
        card, made = Gateway(self.local(options["gateway"])).prepare(options["name"], check)
        if not card.key:
            return {"changed": True, "msg": "the gateway %s would be made" % card.name}
        return {"changed": made, "card": card.to_dict(), "fingerprint": card.fingerprint}

    def _made(self, options: t.Mapping[str, t.Any], check: bool) -> dict[str, t.Any]:
        bundle, made = make(self, options, check)
        left = standing(bundle, now(), bundle.created_at, ()).to_dict()
        return {"changed": made, "edge": left, "sequence": bundle.sequence, "diff": self._diff("", _lines(bundle)) if made else {}}

    def _installed(self, options: t.Mapping[str, t.Any], check: bool) -> dict[str, t.Any]:
        gateway, path, signer = Gateway(self.local(options["gateway"])), self.local(options["bundle"]), public_key(options["signer"], self)
        data = read_file(path, BUNDLE_MAX, "bundle")
        bundle, digest = read_bundle(data, signer, path), hashlib.sha256(data).hexdigest()
        with gateway.locked(check):
            at = now()
            found = gateway.found(None)
            if not check:
                found = gateway.see(found, at)
            gateway.check_owner(bundle, found.state)
            current = standing(bundle, at, found.state.newest, found.report.entries)
            same = (found.state.sequence, found.state.bundle_sha256) == (bundle.sequence, digest)
            _refuse(current, found, bundle, same)
            self._prove(gateway, bundle, signer)
            before = self._before(gateway, signer)
            same = same and before == _lines(bundle)
            if not same and not check:
                newest = max(found.state.newest, bundle.created_at)
                state = replace(found.state, sequence=bundle.sequence, bundle_sha256=digest, newest=newest)
                gateway.install(data, gateway.at_head(state, found.report))
        return {"changed": not same, "edge": current.to_dict(), "sequence": bundle.sequence, "diff": {} if same else self._diff(before, _lines(bundle))}

    def _inspected(self, options: t.Mapping[str, t.Any], check: bool) -> dict[str, t.Any]:
        signer = public_key(options["signer"], self)
        if (options["gateway"] is None) == (options["bundle"] is None):
            raise AttestedError("one was expected, no more and no less", where="gateway, bundle", fix="Give the gateway's directory, or a bundle's file")
        if options["bundle"] is not None:
            path = self.local(options["bundle"])
            bundle = read_bundle(read_file(path, BUNDLE_MAX, "bundle"), signer, path)
            current = standing(bundle, now(), bundle.created_at, ())
        else:
            gateway = Gateway(self.local(options["gateway"]))
            with gateway.locked(check):
                current = gateway.found(signer).standing(now())
        return {"changed": False, "edge": current.to_dict(), "sequence": current.bundle.sequence}

    def _prove(self, gateway: Gateway, bundle: Bundle, signer: t.Mapping[str, t.Any]) -> None:
        """What would be found at the first release is found now: every key opens and fits its manifest; policy, values and collateral are read."""
        inputs, key = Inputs.of_action(self), gateway.key()
        inputs.policy(strict.loads(bundle.files[POLICY], POLICY))
        inputs.reference_values(strict.loads(bundle.files[REFERENCES], REFERENCES))
        if COLLATERAL in bundle.files:
            collateral_bundles.read_bundle(bundle.files[COLLATERAL], signer, COLLATERAL)
        for grant in bundle.models:
            edge_offer(bundle, grant.model_id, key).prove()

    def _before(self, gateway: Gateway, signer: t.Mapping[str, t.Any]) -> str:
        """What is installed now, for the diff. What cannot be read any more is replaced."""
        try:
            bundle = gateway.found(signer).bundle
        except AttestedError:
            return "(unreadable)\n"
        return "" if bundle is None else _lines(bundle)

    def _diff(self, before: str, after: str) -> dict[str, str]:
        return {"before_header": "edge bundle", "after_header": "edge bundle", "before": before, "after": after} if self._task.diff else {}


def _refuse(current: Standing, found: Found, bundle: Bundle, same: bool) -> None:
    """What is never installed: the older, the ended, one for a ledger that was put back. One that begins later may lie ready."""
    where = "edge bundle %d" % bundle.sequence
    if bundle.sequence < found.state.sequence:
        raise KeyReleaseError("bundle %d was installed before" % found.state.sequence, where=where, fix="Install the newest one", code="edge-older")
    if bundle.sequence == found.state.sequence and not same:
        raise KeyReleaseError("another bundle with this number was installed", where=where, fix="Have the centre make one with the next number",
                              code="edge-older")  # fmt: skip
    seq, digest = bundle.acknowledged
    if seq and (seq > found.report.count or found.report.entries[seq - 1]["hash"] != digest):
        raise KeyReleaseError("the centre has entry %d of this gateway's ledger, and it is not in it: the ledger was put back" % seq, where=where,
                              fix="Find out who did. Then prepare the gateway anew under another name", code="edge-counter-rolled-back")  # fmt: skip
    for problem in current.problems:
        if problem.code != "edge-not-yet":
            raise KeyReleaseError(problem.what, where=where, fix=problem.fix, code=problem.code)


def _lines(bundle: Bundle) -> str:
    """A bundle for people, line by line."""
    told = bundle.claims()
    lines = ["%s: %s" % (name, told[name]) for name in ("gateway", "sequence", "not_before", "not_after", "collateral_until")]
    lines += ["model %s release %d: %d uses" % (grant.model_id, grant.release, grant.uses) for grant in bundle.models]
    lines += ["%s sha256:%s" % (path, hashlib.sha256(data).hexdigest()[:16]) for path, data in sorted(bundle.files.items()) if not path.endswith(".jwe")]
    return "\n".join(lines) + "\n"
