# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Find the BIOS of a system on a Redfish service, and read it: links are followed, not guessed, except where a vendor does not give them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import RedfishError
from ansible_collections.attested.ai.plugins.module_utils.redfish.answers import checked_path
from ansible_collections.attested.ai.plugins.module_utils.redfish.client import ROOT, Client
from ansible_collections.attested.ai.plugins.module_utils.redfish.maps import Vendor, load_vendor, vendor_of
from ansible_collections.attested.ai.plugins.module_utils.redfish.registry import Registry, Value, parse_registry, spelled

IN_BIOS = (
    "PrimaryProcessorInitializationStarted", "BusInitializationStarted", "MemoryInitializationStarted", "SecondaryProcessorInitializationStarted",
    "PCIResourceConfigStarted", "SystemHardwareInitializationComplete",
)  # fmt: skip
_MEMBERS_MAX = 4096
_PAGES_MAX = 64
_ATTRIBUTES_MAX = 20000


@dataclass(frozen=True)
class Target:
    """Where the parts of one machine are. ``jobs`` is empty unless the vendor needs jobs."""

    vendor: Vendor
    system: str
    bios: str
    settings: str
    reset: str
    reset_types: Tuple[str, ...]
    registry: str
    jobs: str = ""


@dataclass(frozen=True)
class Snapshot:
    """What a machine says now. ``mark`` changes when it is reset, where it tells. ``apply_times`` are those that a request may name, ``apply_default``
    is what holds for one that names none, as far as it tells."""

    current: Mapping[str, Value]
    pending: Mapping[str, Value]
    etag: str
    power: str
    boot: str
    mark: str
    apply_times: Tuple[str, ...]
    messages: Tuple[str, ...]
    apply_default: str = ""


def link(document: Mapping[str, Any], *keys: str) -> str:
    """The ``@odata.id`` below ``keys``, empty if there is none."""
    found: Any = document
    for key in (*keys, "@odata.id"):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, str) else ""


def members(document: Mapping[str, Any]) -> List[str]:
    listed = document.get("Members")
    return [path for path in (link(entry) for entry in (listed if isinstance(listed, list) else [])[:_MEMBERS_MAX] if isinstance(entry, dict)) if path]


def collected(client: Client, path: str) -> List[str]:
    """All members of a collection. Some services show fifty at once, and a link to the rest."""
    found: List[str] = []
    for _page in range(_PAGES_MAX):
        document = client.get(path).body
        found += members(document)
        following = document.get("Members@odata.nextLink")
        if not following or len(found) > _MEMBERS_MAX:
            return found
        path = checked_path(following, client.where)
    return found


def strings(value: Any) -> Tuple[str, ...]:
    return tuple(item[:256] for item in value if isinstance(item, str) and item.isprintable()) if isinstance(value, list) else ()


def discover(client: Client, vendor: str = "", system_id: str = "", wait: Callable[[], bool] = lambda: False) -> Target:
    """Where everything is. A machine that is in its BIOS, from a run before this one perhaps, is waited for as long as ``wait`` (which may sleep)
    is true: some show no BIOS meanwhile, and a reset then would be one in the middle of another."""
    root = client.get(ROOT).body
    system = _system(client, link(root, "Systems") or "/redfish/v1/Systems", system_id)
    body = client.get(system).body
    while _in_bios(body) and wait():
        body = client.get(system).body
    known = load_vendor(vendor) if vendor else vendor_of(_claims(root, body))
    bios = link(body, "Bios")
    if not bios:
        raise RedfishError(
            "this system has no link to a BIOS",
            where=client.where + system,
            fix="Update the firmware of the management controller; " "some show the BIOS only after the machine was booted once",
            code="redfish-bios",
        )
    document = client.get(bios).body
    settings = link(document, "@Redfish.Settings", "SettingsObject") or ("%s/%s" % (bios.rstrip("/"), known.settings_path) if known.settings_path else "")
    if not settings:
        raise RedfishError(
            "the BIOS names no object for pending settings (@Redfish.Settings)",
            where=client.where + bios,
            fix="Update the firmware of the management controller",
            code="redfish-settings",
        )
    reset, types = _reset(client, system, body)
    return Target(
        known,
        system,
        bios,
        checked_path(settings, client.where),
        reset,
        types,
        _registry_path(client, root, bios, document),
        _jobs(client, body) if known.jobs else "",
    )


def read(client: Client, target: Target, registry: Optional[Registry] = None) -> Snapshot:
    """With ``registry`` the values are spelled as it spells them."""
    system = client.get(target.system).body
    bios = client.get(target.bios).body
    settings = client.get(target.settings)
    boot = system.get("BootProgress")
    stated = bios.get("@Redfish.Settings")
    stated = stated if isinstance(stated, dict) else {}
    times = strings(stated.get("SupportedApplyTimes"))
    offered = settings.body.get("@Redfish.SettingsApplyTime")
    default = offered.get("ApplyTime") if isinstance(offered, dict) else None
    if isinstance(offered, dict):
        times = times + strings(offered.get("ApplyTime@Redfish.AllowableValues"))
    noted = stated.get("Messages")
    said = [entry.get("Message") for entry in (noted if isinstance(noted, list) else []) if isinstance(entry, dict)]
    return Snapshot(
        spelled(registry, attributes(bios, client.where + target.bios, required=True)),
        spelled(registry, attributes(settings.body, client.where + target.settings)), settings.etag,
        str(system.get("PowerState") or ""), str(boot.get("LastState") or "") if isinstance(boot, dict) else "", str(system.get("LastResetTime") or ""),
        times, tuple(ascii(text)[1:-1][:300] for text in said if isinstance(text, str))[:3], default if isinstance(default, str) else "",
    )  # fmt: skip


def read_registry(client: Client, target: Target) -> Registry:
    return parse_registry(client.get(target.registry).body, client.where + target.registry)


def attributes(document: Mapping[str, Any], where: str, required: bool = False) -> Dict[str, Value]:
    """The scalar attributes of a resource; a service may put anything there, and what is no value is left out."""
    found = document.get("Attributes")
    if not isinstance(found, dict):
        if required:
            raise RedfishError("it shows no attributes", where=where, fix="Boot the machine once, or update the controller's firmware", code="redfish-bios")
        return {}
    if len(found) > _ATTRIBUTES_MAX:
        raise RedfishError("it shows %d attributes, at most %d are read" % (len(found), _ATTRIBUTES_MAX), where=where, code="redfish-answer")
    return {name: value for name, value in found.items() if name.isprintable() and isinstance(value, (str, int, float, bool)) and len(str(value)) <= 4096}


def _system(client: Client, collection: str, wanted: str) -> str:
    known = {path: path.rstrip("/").rpartition("/")[2] for path in collected(client, collection)}
    paths = [path for path in known if wanted in ("", known[path])]
    if len(paths) != 1:
        raise RedfishError(
            "it has %d systems%s" % (len(paths), " of this name" if wanted else ""),
            where=client.where + collection,
            fix="Name one with system_id%s" % (", one of %s" % ", ".join(ascii(name)[1:-1] for name in list(known.values())[:16]) if known else ""),
            code="redfish-system",
        )
    return checked_path(paths[0], client.where)


def _in_bios(system: Mapping[str, Any]) -> bool:
    boot = system.get("BootProgress")
    return system.get("PowerState") == "On" and isinstance(boot, dict) and boot.get("LastState") in IN_BIOS


def _claims(root: Mapping[str, Any], system: Mapping[str, Any]) -> List[str]:
    oem = root.get("Oem")
    texts = [system.get("Manufacturer"), root.get("Vendor"), *(oem if isinstance(oem, dict) else ())]
    return [text for text in texts if isinstance(text, str)]


def _reset(client: Client, system: str, body: Mapping[str, Any]) -> Tuple[str, Tuple[str, ...]]:
    actions = body.get("Actions")
    action = actions.get("#ComputerSystem.Reset") if isinstance(actions, dict) else None
    action = action if isinstance(action, dict) else {}
    path = action.get("target") or system.rstrip("/") + "/Actions/ComputerSystem.Reset"
    types = strings(action.get("ResetType@Redfish.AllowableValues"))
    info = action.get("@Redfish.ActionInfo")
    if not types and isinstance(info, str):
        document = client.find(info)
        parameters = document.body.get("Parameters") if document else None
        for parameter in parameters if isinstance(parameters, list) else []:
            if isinstance(parameter, dict) and parameter.get("Name") == "ResetType":
                types = strings(parameter.get("AllowableValues"))
    return checked_path(path, client.where), types


def _registry_path(client: Client, root: Mapping[str, Any], bios: str, document: Mapping[str, Any]) -> str:
    name = document.get("AttributeRegistry")
    if not isinstance(name, str) or not name:
        raise RedfishError(
            "the BIOS names no AttributeRegistry, so no name can be looked up",
            where=client.where + bios,
            fix="Update the firmware of the management controller",
            code="redfish-registry",
        )
    collection = link(root, "Registries") or "/redfish/v1/Registries"
    found = client.find(collection)
    paths = collected(client, collection) if found else []
    stem = name.partition(".")[0]
    last = {path: path.rstrip("/").rpartition("/")[2] for path in paths}
    # The very version first, then any file of that registry.
    near = [path for path in paths if last[path] == name] + [path for path in paths if last[path] != name and last[path].partition(".")[0] == stem]
    for path in near:
        location = _location(client.get(path).body)
        if location:
            return checked_path(location, client.where)
    for path in ("%s/%s" % (collection.rstrip("/"), name), bios.rstrip("/") + "/BiosRegistry"):
        entry = client.find(path)
        if entry is not None and isinstance(entry.body.get("RegistryEntries"), dict):
            return checked_path(path, client.where)
    raise RedfishError(
        "the registry %s is not to be found" % ascii(name)[:80],
        where=client.where + collection,
        fix="Boot the machine once: some controllers get it from the BIOS",
        code="redfish-registry",
    )


def _location(entry: Mapping[str, Any]) -> str:
    listed = entry.get("Location")
    languages: Dict[str, str] = {}
    for place in listed if isinstance(listed, list) else []:
        uri = place.get("Uri") if isinstance(place, dict) else None
        if isinstance(uri, dict):
            uri = uri.get("extref") or uri.get("@odata.id")
        if isinstance(uri, str) and uri:
            languages.setdefault(str(place.get("Language", ""))[:2].lower(), uri)
    return languages.get("en") or next(iter(languages.values()), "")


def _jobs(client: Client, system: Mapping[str, Any]) -> str:
    links = system.get("Links")
    managers = links.get("ManagedBy") if isinstance(links, dict) else None
    first: Optional[Any] = managers[0] if isinstance(managers, list) and managers else None
    path = link(first) if isinstance(first, dict) else ""
    return checked_path(path.rstrip("/") + "/Jobs", client.where) if path else ""
