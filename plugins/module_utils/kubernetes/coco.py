# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Confidential Containers by platform: which shims or classes stand for what pods ask for. The map is the one that inference pods use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.kubernetes.kata import KataError, known
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.kata_cluster import check, name_of, path, selected
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.platforms import PLATFORMS, platform, table

TEES = ("snp", "tdx", "snp-gpu", "tdx-gpu", "none")


@dataclass(frozen=True)
class Offer:
    """What a platform has for a TEE. ``handlers`` is empty where it is not known."""

    tee: str
    device: str
    name: str
    handlers: Tuple[str, ...]
    rust: str


def offers(key: str, tees: Any) -> List[Offer]:
    """Raises KataError for what the platform cannot do."""
    if key not in PLATFORMS:
        raise KataError("%s is none of %s" % (ascii(key)[:60], ", ".join(PLATFORMS)), where="platform")
    if not isinstance(tees, (list, tuple)) or not tees:
        raise KataError("it names nothing", where="tees", fix="Name some of %s" % ", ".join(TEES))
    found = []
    for word in tees:
        if word == "cca":
            raise KataError("cca: %s" % table("platforms")["refused"]["cca"], where="tees")
        if word not in TEES:
            raise KataError("%s is none of %s" % (ascii(word)[:60], ", ".join(TEES)), where="tees")
        tee, _dash, device = str(word).partition("-")
        row = platform(key).runtime(tee, device or "cpu")
        if row is None:
            raise KataError("%s has no runtime class for %s" % (platform(key).title, word), where="tees",
                            fix="It has classes for %s" % ", ".join(sorted(platform(key).classes)))  # fmt: skip
        names = platform(key).others["%s/%s" % (tee, device or "cpu")]
        found.append(Offer(tee, device or "cpu", row.name, row.handlers, names[1] if len(names) > 1 else ""))
    return found


def shims(key: str, tees: Any, rust: bool) -> List[str]:
    """For the chart; each once."""
    names = [one.rust if rust and one.rust else one.name for one in offers(key, tees)]
    return [name[len("kata-"):] for name in dict.fromkeys(names)]


def by_chart(key: str) -> bool:
    return bool(table("platforms")["platforms"][key]["install"]["by"] == "chart")


def look(key: str, tees: Any, classes: Sequence[Mapping[str, Any]], nodes: Sequence[Mapping[str, Any]]) -> Tuple[List[Dict[str, Any]], List[Dict[str, Any]]]:
    """What a platform that brings its own offers now: (classes, checks)."""
    there = {name_of(item): item for item in classes}
    rows, checks = [], []
    fix = str(table("platforms")["platforms"][key]["install"]["help"])
    for one in offers(key, tees):
        item = there.get(one.name)
        handler = str(item.get("handler", "")) if item else ""
        good = item is not None and (not one.handlers or handler in one.handlers)
        detail = "there is no runtime class %s" % one.name if item is None else "%s leads to %s" % (one.name, handler)
        if item is not None and not one.handlers:
            detail += "; where it should lead is not known"
        wrong = "" if item is None else "Its handler should be %s: the cluster's TEE is another, or somebody changed the class. " % " or ".join(one.handlers)
        checks.append(check("coco.class.%s-%s" % (one.tee, one.device), good, detail, wrong + fix))
        fitting = [name_of(node) for node in selected(nodes, path(item, "scheduling", "nodeSelector") or {})] if good else []
        rows.append({"class": one.name, "handler": handler, "shim": "", "tee": one.tee, "device": one.device, "nodes": fitting, "pod": "not_checked",
                     "what": "asks for %s; only attestation of a pod shows that it has it" % one.tee if fitting else "no node takes its pods"})  # fmt: skip
    return rows, checks


def release_of(version: str) -> str:
    """Kata's, by Confidential Containers'; nothing where it is not known."""
    return str(known()["coco_releases"].get(version, ""))
