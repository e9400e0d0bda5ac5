# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The plan of one inference service, put together for the role: a seed translated, secrets sealed, those that are deployed kept."""

from __future__ import annotations

import base64
import binascii
import os
import typing as t

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.kbs import sealed
from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.signingkey import load_signing_key
from ansible_collections.attested.ai.plugins.module_utils.kubernetes import plan as core
from ansible_collections.attested.ai.plugins.module_utils.kubernetes import seed, template
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.secrets import wanted
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.spec import PodSpec, parse_spec

# Told together, since one at a time is tiresome.
_NEEDED = ("name", "namespace", "tee", "server", "image", "model", "cpus", "memory")


def inference_pod(
    description: t.Any, seed_pod: t.Any = None, sealing_key: str | None = None, sealing_kid: str = "kbs:///default/signing-key/sealed-secret",
    deployed: t.Any = None, draft: bool = False,
) -> dict[str, t.Any]:  # fmt: skip
    """Raises AttestedError for a description that is none. ``deployed`` are objects that may hold sealed secrets which still hold."""
    if not isinstance(description, dict):
        raise FormatError("it is no dictionary", where="pod")
    # Defaults of a role are empty, and mean that nothing was said.
    said = {name: value for name, value in description.items() if not _empty(value)}
    corrections: list[seed.Correction] = []
    asked = None
    if not _empty(seed_pod):
        given, corrections = seed.translate(seed_pod)
        asked = seed.runtime_class(seed_pod)
        said = {**given, **said}
        _gpus(said, given, description)
        corrections = seed.replace(said, corrections)
    missing = [name for name in _NEEDED if name not in said]
    if missing:
        return _incomplete(said, missing, corrections, draft)
    spec = parse_spec(said)
    result = core.plan(spec, _seal(spec, sealing_key, sealing_kid, deployed), draft).to_dict()
    return {**result, "corrections": [one.to_dict() for one in seed.finish(asked, corrections, result["runtime_class"])]}


def _incomplete(said: t.Mapping[str, t.Any], missing: list[str], corrections: list[seed.Correction], draft: bool) -> dict[str, t.Any]:
    """What was corrected is told all the same."""
    refusal = {"id": "incomplete", "what": "it does not say %s" % ", ".join(missing), "fix": "Say it, see docs/inference-pods.md", "source": ""}
    return {
        "name": str(said.get("name", "")), "namespace": str(said.get("namespace", "")), "platform": "upstream", "tee": str(said.get("tee", "")), "draft": draft,
        "runtime_class": "", "handlers": [], "sizing": {}, "refusals": [refusal], "notes": [], "objects": [], "grant": {}, "initdata": {},
        "protection": "unprotected", "proven_by": "nothing", "model": "", "corrections": [one.to_dict() for one in corrections],
    }  # fmt: skip


def _empty(value: t.Any) -> bool:
    return value is None or (isinstance(value, (str, dict, list)) and not value)


def _gpus(said: dict[str, t.Any], given: t.Mapping[str, t.Any], description: t.Mapping[str, t.Any]) -> None:
    """The model of the GPU may be said beside a seed that says how many."""
    if "gpus" in given and not _empty(description.get("gpus")):
        said["gpus"] = {**given["gpus"], **description["gpus"]}


def _seal(spec: PodSpec, sealing_key: str | None, kid: str, deployed: t.Any) -> dict[str, str]:
    """Sealed secrets for those that name a resource. One that is deployed, says the same and holds by this key stays: signatures differ each time."""
    resources = {one.name: one.resource for one in wanted(spec) if one.resource}
    if not resources or not sealing_key:
        return {}
    key, before = load_signing_key(os.path.expanduser(str(sealing_key))), _before(spec, deployed)
    found: dict[str, str] = {}
    for name, resource in resources.items():
        try:
            found[name] = sealed.seal(sealed.vault(resource), key, str(kid), before.get(name, ""))
        except KbsError:
            # No resource: decided, and told without the value, in the plan.
            continue
    for one in spec.secrets:
        if not one.sealed:
            continue
        try:
            # What was sealed elsewhere must hold by the same key, for guests look it up under one kid.
            sealed.verify(one.sealed, key.public_key())
        except KbsError as error:
            # What has no form is refused in the plan, with all else.
            if error.code != "sealed-secret-form":
                raise
    return found


def _before(spec: PodSpec, deployed: t.Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in deployed or ():
        metadata = item.get("metadata") if isinstance(item, dict) else None
        if not isinstance(metadata, dict) or item.get("kind") != "Secret" or metadata.get("name") != template.secret_name(spec):
            continue
        for name, value in (item.get("data") or {}).items():
            try:
                found[str(name)] = base64.b64decode(str(value), validate=True).decode("ascii")
            except (binascii.Error, ValueError):
                continue
    return found
