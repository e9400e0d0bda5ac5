# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From the options of redfish_bios to a run of the library, and from its outcome to what the task returns."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.attested.ai.plugins.module_utils.errors import RedfishError
from ansible_collections.attested.ai.plugins.module_utils.redfish import acts, maps
from ansible_collections.attested.ai.plugins.module_utils.redfish.client import Client, Credentials, Patience
from ansible_collections.attested.ai.plugins.module_utils.redfish.machine import Target, discover
from ansible_collections.attested.ai.plugins.module_utils.redfish.registry import Registry, Values
from ansible_collections.attested.ai.plugins.module_utils.redfish.resolve import Desired, resolve
from ansible_collections.attested.ai.plugins.module_utils.redfish.staging import Outcome, converge, look
from ansible_collections.attested.ai.plugins.module_utils.redfish.wire import make_opener, parse_address, tls_context

ARGUMENT_SPEC: dict[str, dict[str, t.Any]] = {
    "baseuri": {"type": "str", "required": True},
    "username": {"type": "str", "required": True},
    "password": {"type": "str", "required": True, "no_log": True},
    "auth": {"type": "str", "default": "session", "choices": ["session", "basic"]},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
    "system_id": {"type": "str"},
    "vendor": {"type": "str", "choices": list(maps.VENDORS)},
    "state": {"type": "str", "choices": list(maps.STATES)},
    "overrides": {"type": "dict", "default": {}},
    # Names of attributes, no secrets.
    "names": {"type": "dict", "default": {}, "no_log": False},
    "attributes": {"type": "dict", "default": {}},
    "keys_confirm": {"type": "bool", "default": False, "no_log": False},
    "reboot_ok": {"type": "bool", "default": False},
    "apply_time": {"type": "str", "default": "auto", "choices": ["auto", *acts.APPLY_TIMES]},
    "reset_type": {"type": "str", "default": "graceful", "choices": list(acts.RESETS)},
    "reboot_timeout": {"type": "int", "default": 1800},
    "poll_interval": {"type": "int", "default": 15},
    "settle_timeout": {"type": "int", "default": 300},
    "timeout": {"type": "int", "default": 30},
    "attempts": {"type": "int", "default": 6},
}


def bring(
    options: t.Mapping[str, t.Any], ca_path: str, check_mode: bool, tell: t.Callable[[str], None], trace: list[t.Mapping[str, t.Any]]
) -> dict[str, t.Any]:
    """Do it, or say what would be done. ``trace`` is filled on the way, so that it is there when an error comes. Raises AttestedError."""
    _check(options)
    address = parse_address(options["baseuri"], options["validate_certs"])
    context = tls_context(options["validate_certs"], ca_path) if address.scheme == "https" else None
    opener = make_opener(address, context, options["timeout"])
    credentials = Credentials(options["username"], options["password"])
    wish = Desired(options["state"], *(_plain(options[name]) for name in ("overrides", "names", "attributes")), options["keys_confirm"])
    settings = acts.Options(
        options["reboot_ok"], options["apply_time"], options["reset_type"], options["reboot_timeout"], options["poll_interval"], options["settle_timeout"]
    )
    end = time.monotonic() + options["settle_timeout"]

    def wait() -> bool:
        time.sleep(options["poll_interval"])
        return time.monotonic() < end

    with Client(opener, credentials, str(address).partition("://")[2], options["auth"], Patience(options["attempts"]), tell) as client:
        target = discover(client, options["vendor"] or "", options["system_id"] or "", wait)

        def wants(registry: Registry, current: Values) -> t.Any:
            return resolve(registry, current, target.vendor, wish)

        if check_mode:
            outcome = look(client, target, wants, settings)[0]
        else:
            outcome = converge(client, target, wants, settings, time.monotonic, time.sleep, tell, trace)
    return _result(outcome, target)


def warnings(options: t.Mapping[str, t.Any], result: t.Mapping[str, t.Any]) -> list[str]:
    """What a person should know although the task succeeds."""
    lines = []
    if not options["validate_certs"]:
        lines.append(f"{options['baseuri']}: the password was sent to whoever answered there, as validate_certs is false")
    lacking = [f"{entry['setting']} ({entry['reason']})" for entry in result["unresolved"]]
    if lacking and result["changed"]:
        lines.append(f"{options['baseuri']}: these settings were not looked after: {', '.join(lacking)}. See unresolved for what may be meant")
    unsure = [f"{entry['attribute']}={entry['value']}" for entry in result["settings"] if entry["mark"] == "unverified"]
    if unsure and result["changed"]:
        lines.append(f"{options['baseuri']}: these names come from sources that nobody has verified: {', '.join(unsure)}")
    if result["foreign"] and result["stages"]:
        lines.append(f"{options['baseuri']}: the same reboot applies what somebody else left pending: {', '.join(sorted(result['foreign']))}")
    return lines


def _plain(values: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The same without what ansible-core notes on values, as they go into requests and come back in results."""
    kinds = (str, int, float)
    return {
        str.__str__(name): next((kind(value) for kind in kinds if isinstance(value, kind) and not isinstance(value, bool)), value)
        for name, value in values.items()
    }


def _check(options: t.Mapping[str, t.Any]) -> None:
    if not options["state"] and not options["attributes"]:
        raise RedfishError("nothing is wanted", where="redfish_bios", fix="Give state, or attributes, or both", code="redfish-options")
    for name in ("reboot_timeout", "poll_interval", "settle_timeout", "timeout", "attempts"):
        if options[name] < (0 if name in ("poll_interval", "settle_timeout") else 1):
            raise RedfishError("it is too small", where=f"{name} {options[name]}", code="redfish-options")
    for option in ("overrides", "names", "attributes"):
        for name, value in options[option].items():
            allowed = (str,) if option == "names" else (str, int, float, bool, type(None)) if option == "overrides" else (str, int, float, bool)
            if not isinstance(name, str) or not isinstance(value, allowed):
                raise RedfishError("a name or one plain value was expected", where=f"{option}.{name}", code="redfish-options")


def _result(outcome: Outcome, target: Target) -> dict[str, t.Any]:
    return {
        "changed": outcome.changed,
        "needs_reboot": outcome.needs_reboot,
        "reboots": outcome.reboots,
        "vendor": target.vendor.key,
        "system": target.system,
        "settings_uri": target.settings,
        "before": dict(outcome.before),
        "after": dict(outcome.after),
        "pending": dict(outcome.pending_after),
        "foreign": dict(outcome.foreign),
        "stages": [{"changes": dict(stage.changes), "patch": dict(stage.patch), "guess": stage.guess} for stage in outcome.stages],
        "settings": [{"setting": want.setting, "attribute": want.attribute, "value": want.value, "how": want.how, "mark": want.mark} for want in outcome.wants],
        "unresolved": [{"setting": item.setting, "reason": item.reason, "candidates": list(item.candidates)} for item in outcome.unresolved],
        "trace": [dict(event) for event in outcome.trace],
        "diff": {
            "before": {"applied": dict(outcome.before), "pending": dict(outcome.pending_before)},
            "after": {"applied": dict(outcome.after), "pending": dict(outcome.pending_after)},
        },
    }
