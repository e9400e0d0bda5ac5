# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The known_hosts file of one guest whose host keys are made anew at each boot. It holds that guest's keys, and nothing else."""

from __future__ import annotations

import base64
import binascii
import os
import re
import shlex
import typing as t
from dataclasses import dataclass

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.plugin_utils import ssh_binding

KEYS_MAX = 16
_TYPE = re.compile(r"(ssh|ecdsa|sk)-[A-Za-z0-9@.+-]{1,60}\Z")
Runner = t.Callable[[t.Sequence[str]], "tuple[int, str]"]


@dataclass(frozen=True)
class Wiring:
    """Whether the connection is ssh, whether it compares host keys at all, and whether it reads our file. ``name`` is the guest's in that file."""

    ssh: bool
    checked: bool
    wired: bool
    name: str
    port: str
    address: str
    problem: str


def wiring(connection: t.Any, path: str, run: Runner = ssh_binding.run) -> Wiring:
    """Ask ssh itself. Raises AttestedError if it cannot be asked."""
    transport = getattr(connection, "ansible_name", None) or connection.transport
    if transport not in ssh_binding.SSH_TRANSPORTS:
        return Wiring(False, False, False, "", "", "", f"the connection is {transport}, not ssh")
    status, output = run(ssh_binding.client_command(connection))
    if status != 0:
        raise AttestedError(f"ssh -G failed on the controller ({output.strip()[:200] or 'no output'})", where="ssh", code="ssh-client")
    config = ssh_binding.parse_client_config(output)
    name, port, address = ssh_binding.lookup_names(config)[0], config.get("port", "22"), config.get("hostname", "")
    checked = config.get("stricthostkeychecking", "") in ssh_binding.STRICT_VALUES
    files = shlex.split(config.get("userknownhostsfile", "")) + shlex.split(config.get("globalknownhostsfile", ""))
    places = [os.path.realpath(os.path.expanduser(one)) for one in files if one != "none"]
    if os.path.realpath(path) not in places:
        return Wiring(True, checked, False, name, port, address, f"this connection reads {' '.join(files) or 'no file'}, not {path}")
    others = [one for one in places if one != os.path.realpath(path) and os.path.isfile(one) and run(["ssh-keygen", "-F", name, "-f", one])[0] == 0]
    problem = f"{', '.join(others)} holds keys of {name}, too: they would still be accepted. Remove them with ssh-keygen -R" if others else ""
    return Wiring(True, checked, not others, name, port, address, problem)


def key_lines(keys: t.Sequence[str]) -> list[str]:
    """Each key as `type base64`. They come from a guest, or from a network: nothing but a key gets into the file."""
    lines = []
    for key in keys:
        words = key.split() if isinstance(key, str) else []
        try:
            blob = base64.b64decode(words[1], validate=True) if len(words) >= 2 and _TYPE.match(words[0]) else b""
        except (ValueError, binascii.Error):
            blob = b""
        size = len(words[0]) if blob else 0
        if not blob or blob[:4] != size.to_bytes(4, "big") or blob[4 : 4 + size] != words[0].encode("ascii"):
            raise AttestedError(f"{ascii(str(key)[:60])} is no public key of OpenSSH", where="keys", code="ssh-key-invalid")
        lines.append(f"{words[0]} {words[1]}")
    if not 0 < len(lines) <= KEYS_MAX:
        raise AttestedError(f"there are {len(lines)} keys, and 1 to {KEYS_MAX} are expected", where="keys", code="ssh-key-invalid")
    return sorted(set(lines))


def text_of(name: str, keys: t.Sequence[str]) -> str:
    return "".join(f"{name} {line}\n" for line in key_lines(keys))


def scan(name: Wiring, run: Runner = ssh_binding.run) -> list[str]:
    """What the address offers now. Nobody vouches for it: whoever sits in between offers keys of his own, which attestation then refuses."""
    status, output = run(["ssh-keyscan", "-T", "10", "-p", name.port, "--", name.address])
    found = [" ".join(line.split()[1:3]) for line in output.splitlines() if line and not line.startswith("#") and len(line.split()) >= 3]
    if status != 0 or not found:
        fix = "See whether the guest is up. Through a jump host ssh-keyscan does not reach it: give keys instead"
        raise AttestedError("no key was offered", where=f"{name.address} port {name.port}", fix=fix, code="ssh-unreachable")
    return found
