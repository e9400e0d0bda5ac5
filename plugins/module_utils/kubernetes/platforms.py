# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is known of platforms and inference servers: data files beside this one, checked where they are read."""

from __future__ import annotations

import functools
import json
import pkgutil
import re
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Tuple, cast

from ansible_collections.attested.ai.plugins.module_utils.kubernetes.failure import PodError

PLATFORMS = ("upstream", "openshift", "aks", "peer-pods")
SERVERS = ("vllm", "triton", "llama.cpp", "given")
TEES = ("snp", "tdx", "none", "cca")


@dataclass(frozen=True)
class RuntimeClass:
    """``name`` is what the pod asks for. ``handlers`` are what it may lead to, empty where that is not known."""

    name: str
    handlers: Tuple[str, ...]
    default_memory_mib: Optional[int]
    overhead_mib: Optional[int]


@dataclass(frozen=True)
class Platform:
    """Where pods run, and what it can do."""

    key: str
    title: str
    source: str
    mark: str
    init_data: bool
    guest_components: bool
    block_encrypted_emptydir: bool
    trusted_store: bool
    dns_ports: Tuple[int, ...]
    tee_labels: bool
    guest_on_node: bool
    policy_annotation: str
    classes: Mapping[str, RuntimeClass]
    others: Mapping[str, Tuple[str, ...]]

    def runtime(self, tee: str, device: str) -> Optional[RuntimeClass]:
        return self.classes.get("%s/%s" % (tee, device))

    def belongs_to(self, name: str) -> Tuple[str, ...]:
        """The kinds (snp/gpu and so on) that this platform has the class for."""
        return tuple(kind for kind, names in self.others.items() if name in names)


@dataclass(frozen=True)
class Server:
    """How an inference server is started. ``command``, ``gpus`` and ``tls`` hold places that are filled in."""

    key: str
    title: str
    port: int
    protocol: str
    command: Tuple[str, ...]
    gpus: Tuple[str, ...]
    tls: Tuple[str, ...]
    probe: str
    shm_mib: int
    env: Mapping[str, str]
    note: str


@functools.lru_cache(maxsize=None)
def table(name: str) -> Mapping[str, Any]:
    raw = pkgutil.get_data(__name__, "data/%s.json" % name)
    if raw is None:
        raise PodError("it is missing", where="data/%s.json" % name, fix="Install the collection again")
    return cast("Mapping[str, Any]", json.loads(raw))


@functools.lru_cache(maxsize=None)
def platform(key: str) -> Platform:
    document = table("platforms")
    row = document["platforms"][key]
    names: Dict[str, Tuple[str, ...]] = {kind: tuple(one["names"]) for kind, one in row["classes"].items()}
    return Platform(
        key, row["title"], document["sources"][row["source"]], row["mark"], row["init_data"], row["guest_components"], row["block_encrypted_emptydir"],
        row["trusted_store"], tuple(row["dns_ports"]), row["tee_labels"], row["guest_on_node"], row.get("policy_annotation", ""),
        {kind: RuntimeClass(one["names"][0], tuple(one["handlers"]), one["default_memory_mib"], one["overhead_mib"])
         for kind, one in row["classes"].items()},
        names,
    )  # fmt: skip


@functools.lru_cache(maxsize=None)
def server(key: str) -> Server:
    row = table("servers")["servers"][key]
    return Server(key, row["title"], row["port"], row["protocol"], tuple(row["command"]), tuple(row["gpus"]), tuple(row["tls"]), row["probe"],
                  row["shm_mib"], dict(row["env"]), row["note"])  # fmt: skip


def matches(group: str, name: str) -> bool:
    """Whether a runtime class is of the group ``unprotected`` or ``debug``."""
    return any(re.match(pattern + r"\Z", name) for pattern in table("platforms")[group]["patterns"])
