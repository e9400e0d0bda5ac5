# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The guest's SSH server: whether its host keys were made in memory, and lie there alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import List, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import CollectError
from ansible_collections.attested.ai.plugins.module_utils.target import ssh_host_keys
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import Probe, Question

KEYS = Question(
    "guest-os.ssh-host-keys",
    "ssh",
    "the private host keys lie in memory, and nowhere else",
    "sshd_config",
    "Have them made at each boot (tee_guest_ssh_host_keys: memory). A key that lay on a disk can be taken by whoever holds the disk",
)


@dataclass(frozen=True)
class Ssh:
    """``keys`` are public keys as `type base64`; ``problem`` says why there are none."""

    storage: str
    keys: Tuple[str, ...]
    paths: Tuple[str, ...]
    problem: str


def look(directory: str) -> Optional[Ssh]:
    """None where no SSH server is set up."""
    if not os.path.exists(os.path.join(directory, "sshd_config")):
        return None
    try:
        found = ssh_host_keys.collect(directory)
        lines: List[str] = []
        for path in found.paths:
            with open(path, "r", encoding="utf-8", errors="replace") as stream:
                lines.append(" ".join(stream.read().split()[:2]))
        return Ssh(found.storage, tuple(sorted(lines)), found.paths, "")
    except CollectError as error:
        return Ssh(ssh_host_keys.STORAGE_UNKNOWN, (), (), str(error))
    except OSError as error:
        return Ssh(ssh_host_keys.STORAGE_UNKNOWN, (), (), "a public key cannot be read (%s)" % error.strerror)


def probe_ssh(found: Optional[Ssh]) -> Probe:
    if found is None:
        return KEYS.skipped("no SSH server is set up")
    if found.problem:
        return KEYS.unknown(found.problem, "Run as root")
    where = ", ".join(path[: -len(".pub")] for path in found.paths)
    if found.storage == ssh_host_keys.STORAGE_UNKNOWN:
        return KEYS.unknown("the private key of one of %s cannot be seen" % where, "Run as root")
    return KEYS.judged(found.storage == ssh_host_keys.STORAGE_MEMORY, "%s: %s" % (found.storage, where))
