# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From the options of tdx_registration_step to the step, and to what it returns."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Callable, Dict, Mapping

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.quoting import decision, services
from ansible_collections.attested.ai.plugins.module_utils.target.quoting.https import make_opener
from ansible_collections.attested.ai.plugins.module_utils.target.quoting.machine import Machine, blinded, found_to_dict

Options = Mapping[str, Any]


def take(machine: Machine, options: Options) -> Dict[str, Any]:
    """Raises AttestedError."""
    return _STEPS[options["step"]](machine, options)


def _look(machine: Machine, _options: Options) -> Dict[str, Any]:
    found, known = machine.look(), machine.record()
    verdict, why = decision.verdict_of(found, known)
    return {"changed": False, "found": found_to_dict(found), "verdict": verdict, "why": why, "record": None if known is None else known.text()}


def _keep(machine: Machine, options: Options) -> Dict[str, Any]:
    given = options["given"]
    try:
        data = None if given is None else base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        raise HostError("it is no base64", where="given", code="manifest-missing") from None
    before = options["digest"] in machine.kept()
    manifest = machine.keep_manifest(options["digest"], data)
    return {"changed": not before, "blinded": _blind(manifest, options["key"])}


def _record(machine: Machine, options: Options) -> Dict[str, Any]:
    known = machine.record()
    changed = known is None or known.text() != options["content"]
    if changed:
        machine.write_record(options["content"])
    return {"changed": changed}


def _collect(machine: Machine, options: Options) -> Dict[str, Any]:
    return {"changed": True, "blinded": _blind(machine.collect(options["digest"]), options["key"])}


def _register(machine: Machine, options: Options) -> Dict[str, Any]:
    manifest = machine.keep_manifest(options["digest"])
    return {"changed": True, "ppid": services.register_manifest(_opener(options), options["service_url"], manifest)}


def _deliver(machine: Machine, options: Options) -> Dict[str, Any]:
    services.deliver_platform(_opener(options), options["service_url"], machine.platform(options["digest"]), options["token"])
    return {"changed": True}


def _collateral(_machine: Machine, options: Options) -> Dict[str, Any]:
    services.put_collateral(_opener(options), options["service_url"], options["content"].encode("utf-8"), options["token"])
    return {"changed": True}


def _opener(options: Options) -> services.Opener:
    return make_opener(options["ca_path"] or "", options["proxy"] or "", options["validate_certs"])


def _blind(data: bytes, key: str) -> str:
    try:
        secret = bytes.fromhex(key)
    except ValueError:
        secret = b""
    if len(secret) < 16:
        raise HostError("it is no hexadecimal text of 16 bytes or more", where="key", code="step-options")
    return base64.b64encode(blinded(data, secret)).decode("ascii")


_STEPS: Dict[str, Callable[[Machine, Options], Dict[str, Any]]] = {
    "look": _look,
    "keep": _keep,
    "record": _record,
    "collect": _collect,
    "register": _register,
    "deliver": _deliver,
    "collateral": _collateral,
}
