# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Is the guest that we talk to over ssh the guest that the evidence speaks of?

A relay in front of a genuine guest must show a host key of its own. If every key that the connection would accept is one
that the guest bound into its evidence, no such relay is in between. It proves as much as the host key is worth: a key that
lay on a disk which the host can read may have been copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.checks import Check, failed, not_checked, passed

SSH = "ssh"
KEY_CHECK = "ssh-host-key"
STORAGE_CHECK = "ssh-host-key-storage"


@dataclass(frozen=True)
class ConnectionBinding:
    """Which host keys a connection accepts. ``transport`` is "ssh" or another connection type, ``known_host_fingerprints``
    are of the form SHA256:<base64>, ``strict`` says that no other key would be accepted, ``detail`` how we know."""

    transport: str
    known_host_fingerprints: Tuple[str, ...]
    strict: bool
    detail: str


OVER_TLS = ConnectionBinding("https", (), False, "the connection is https: its TLS key is compared with the attested one instead")


def check_host_key(mode: str, connection: Optional[ConnectionBinding], bound: Sequence[str], proven: bool) -> Check:
    """Compare the connection's known host keys with the ``bound`` ones. ``mode`` is the policy's ssh_binding: auto, required or off;
    ``proven`` says that authentic evidence covers ``bound``."""
    if mode == "off":
        return not_checked(KEY_CHECK, "ssh_binding is off in the policy: a relay between controller and guest would not show")
    if connection is None or connection.transport != SSH:
        detail = "no connection to the guest took part" if connection is None else connection.detail
        if mode == "required":
            return failed(KEY_CHECK, "%s, but ssh_binding is required; attest over ssh" % detail)
        return not_checked(KEY_CHECK, detail)
    if not connection.strict:
        return failed(KEY_CHECK, connection.detail)
    if not bound:
        return failed(KEY_CHECK, "the guest bound no ssh host keys into its evidence; collect it with bind_ssh_host_keys: true")
    if not proven:
        return failed(KEY_CHECK, "the bound host keys prove nothing, because the evidence that should cover them does not hold")
    if not connection.known_host_fingerprints:
        return failed(KEY_CHECK, "no host key is known for this guest; record it in known_hosts first")
    strangers = [key for key in connection.known_host_fingerprints if key not in bound]
    if strangers:
        return failed(KEY_CHECK, "%s is accepted by the connection but not bound by the guest (bound are %s): the guest got new keys, or another machine "
                      "answers in its place; compare them on its console" % (", ".join(strangers), ", ".join(bound)))
    return passed(KEY_CHECK, "every host key that the connection accepts is bound by the guest (%s)" % connection.detail)


def check_storage(in_memory: bool, observations: Mapping[str, Any], bound: Sequence[str], measured: bool) -> Check:
    """Where the guest says that its host keys lie. Its word counts only if its image is ``measured``, that is ours."""
    storage = str(observations.get("ssh_host_key_storage", "unknown"))
    said = {
        "memory": "the guest says that its host keys lie in memory",
        "disk": "the guest says that its host keys lie on a disk, which the host may be able to read",
        "unknown": "the guest does not say where its host keys lie",
    }[storage]
    worth = "its image is measured" if measured else "its image is not measured, so its word proves nothing"
    detail = "%s; %s" % (said, worth)
    if not bound:
        detail = "no ssh host keys are bound"
    if not in_memory:
        return not_checked(STORAGE_CHECK, detail)
    if storage == "memory" and measured and bound:
        return passed(STORAGE_CHECK, detail)
    return failed(STORAGE_CHECK, detail + "; ssh_keys_in_memory asks for keys made in the memory of a measured image")
