# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who may reach a pod, and where it may go: the description of its NetworkPolicy."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any, Mapping, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.forms import labels
from ansible_collections.attested.ai.plugins.module_utils.vm.fields import Fields


@dataclass(frozen=True)
class Peer:
    """Pods by labels of theirs and of their namespace, or addresses."""

    namespace: Mapping[str, str]
    pods: Mapping[str, str]
    cidr: str


@dataclass(frozen=True)
class Exit:
    cidr: str
    ports: Tuple[int, ...]


@dataclass(frozen=True)
class Traffic:
    """``open_egress``: the pod may go anywhere, which was said."""

    peers: Tuple[Peer, ...]
    exits: Tuple[Exit, ...]
    open_egress: bool


def parse_traffic(given: Any) -> Traffic:
    """Raises FormatError."""
    fields = Fields(given if given is not None else {}, "pod.network")
    peers = tuple(_peer(item, "pod.network.from[%d]" % index) for index, item in enumerate(fields.listed("from")))
    exits = tuple(_exit(item, "pod.network.to[%d]" % index) for index, item in enumerate(fields.listed("to")))
    found = Traffic(peers, exits, fields.choice("egress", ("listed", "any"), "listed") == "any")
    fields.done()
    return found


def _peer(given: Any, where: str) -> Peer:
    fields = Fields(given, where)
    fields.seen.update(("namespace", "pods", "cidr"))
    namespace, pods = (labels(fields.given.get(name), "%s.%s" % (where, name)) for name in ("namespace", "pods"))
    cidr = _cidr(fields.given["cidr"], where) if fields.given.get("cidr") else ""
    fields.done()
    if bool(cidr) == bool(namespace or pods):
        raise FormatError("it needs labels (namespace, pods) or a cidr", where=where)
    return Peer(namespace, pods, cidr)


def _exit(given: Any, where: str) -> Exit:
    fields = Fields(given, where)
    fields.seen.update(("cidr", "ports"))
    ports = fields.listed("ports")
    if not ports or not all(isinstance(port, int) and not isinstance(port, bool) and 0 < port < 65536 for port in ports):
        raise FormatError("it needs ports, as numbers", where=where)
    cidr = _cidr(fields.given.get("cidr"), where)
    fields.done()
    return Exit(cidr, tuple(ports))


def _cidr(value: Any, where: str) -> str:
    try:
        if not isinstance(value, str) or "/" not in value:
            raise ValueError
        return str(ipaddress.ip_network(value))
    except ValueError:
        raise FormatError("%s is no network" % ascii(value)[:60], where=where, fix="Write it as 192.0.2.0/24, with no bits set behind the length") from None
