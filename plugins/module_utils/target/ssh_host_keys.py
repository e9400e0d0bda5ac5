# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The SSH host keys of this machine: their fingerprints, and whether the private halves lie in memory or on a disk.

A guest binds these fingerprints to its evidence, so that the verifier can tell that its SSH connection ends inside the TEE. That
proves something only for keys that were made inside and never lay where the host can read them.
"""

from __future__ import annotations

import base64
import binascii
import glob
import hashlib
import os
import re
import shlex
import struct
from dataclasses import dataclass
from typing import Callable, List, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import CollectError
from ansible_collections.attested.ai.plugins.module_utils.target.memory import MemoryFs, memory_filesystem

DEFAULT_DIRECTORY = "/etc/ssh"
KEYS_MAX = 16
FILE_MAX = 64 * 1024
STORAGE_MEMORY, STORAGE_DISK, STORAGE_UNKNOWN = "memory", "disk", "unknown"
_TYPE = re.compile(r"[A-Za-z0-9@.+-]{1,64}\Z")


@dataclass(frozen=True)
class SshHostKeys:
    """``fingerprints`` sorted, as OpenSSH prints them; ``storage`` memory, disk or unknown; ``paths`` of the public keys read."""

    fingerprints: Tuple[str, ...]
    storage: str
    paths: Tuple[str, ...]


def fingerprint(blob: bytes) -> str:
    """SHA256:<base64 without padding> of a public key blob (RFC 4253 section 6.6), as ssh-keygen -l prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii").rstrip("=")


def parse_public_key(line: str, where: str = "") -> bytes:
    """Return the blob of a line `type base64 comment`. Raises CollectError, also if the type in the blob is another one."""
    fields = line.split(None, 2)
    if len(fields) < 2 or not _TYPE.match(fields[0]):
        raise CollectError("it is not an OpenSSH public key", where=where, fix="Run ssh-keygen -A", code="ssh-key-invalid")
    try:
        blob = base64.b64decode(fields[1].encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        raise CollectError("its base64 is damaged", where=where, code="ssh-key-invalid") from None
    name = fields[0].encode("ascii")
    if blob[:4 + len(name)] != struct.pack(">I", len(name)) + name or len(blob) == 4 + len(name):
        raise CollectError("the key is not of the type %s that its line names" % fields[0], where=where, code="ssh-key-invalid")
    return blob


def configured_keys(directory: str) -> Optional[List[str]]:
    """The paths of HostKey in sshd_config and the files that it includes, or None if there is no such line."""
    paths: List[str] = []
    _read_config(os.path.join(directory, "sshd_config"), directory, paths, 0)
    # sshd uses each file once, however often it is named.
    return list(dict.fromkeys(paths)) or None


def collect(directory: str = DEFAULT_DIRECTORY, classify: Callable[[str], MemoryFs] = memory_filesystem) -> SshHostKeys:
    """Read the host keys that sshd would use. Raises CollectError if there are none, or more than KEYS_MAX."""
    private = configured_keys(directory) or _default_keys(directory)
    # sshd starts without the keys that do not exist, so their absence is no error while one is there.
    found = [name for name in private if os.path.exists(name + ".pub")]
    if not found:
        fix = "Run ssh-keygen -A, or set bind_ssh_host_keys to false"
        raise CollectError("there is no public SSH host key", where=directory, fix=fix, code="no-ssh-host-keys")
    if len(found) > KEYS_MAX:
        raise CollectError("there are %d SSH host keys, at most %d can be bound" % (len(found), KEYS_MAX), where=directory, code="too-many-ssh-host-keys")
    fingerprints = {fingerprint(parse_public_key(_read(name + ".pub"), name + ".pub")) for name in found}
    return SshHostKeys(tuple(sorted(fingerprints)), _storage(found, classify), tuple(name + ".pub" for name in found))


def _default_keys(directory: str) -> List[str]:
    return sorted(name[:-len(".pub")] for name in glob.glob(os.path.join(glob.escape(directory), "ssh_host_*_key.pub")))


def _storage(private: List[str], classify: Callable[[str], MemoryFs]) -> str:
    """memory only if every private key lies in safe memory; unknown if one cannot be seen and none is on a disk."""
    kinds = []
    for name in private:
        state = classify(os.path.realpath(name)) if os.path.exists(name) else None
        if state is None or state.kind == "unknown":
            kinds.append(STORAGE_UNKNOWN)
        else:
            kinds.append(STORAGE_MEMORY if state.safe else STORAGE_DISK)
    for answer in (STORAGE_DISK, STORAGE_UNKNOWN):
        if answer in kinds:
            return answer
    return STORAGE_MEMORY


def _read_config(path: str, directory: str, paths: List[str], depth: int) -> None:
    # sshd itself stops at 16 levels of inclusion.
    if depth > 16 or not os.path.isfile(path):
        return
    for line in _read(path).splitlines():
        keyword, arguments = _directive(line)
        if keyword == "hostkey" and arguments and arguments[0] != "none":
            paths.append(os.path.join("/", arguments[0]))
        elif keyword == "include":
            for pattern in arguments:
                for included in sorted(glob.glob(os.path.join(directory, pattern))):
                    _read_config(included, directory, paths, depth + 1)


def _directive(line: str) -> Tuple[str, List[str]]:
    """Keyword in lower case and arguments of one line; `Key value` and `Key=value` are the same to sshd."""
    match = re.match(r"\s*([A-Za-z0-9]+)(?:\s*=\s*|\s+)(.*)", line)
    if match is None:
        return "", []
    try:
        return match.group(1).lower(), shlex.split(match.group(2), comments=True)
    except ValueError:
        return "", []


def _read(path: str) -> str:
    try:
        with open(path, "rb") as stream:
            data = stream.read(FILE_MAX + 1)
    except OSError as error:
        raise CollectError("it cannot be read (%s)" % error.strerror, where=path, fix="Run as root (become: true)", code="no-permission") from None
    if len(data) > FILE_MAX:
        raise CollectError("it is larger than %d bytes" % FILE_MAX, where=path, code="ssh-key-invalid")
    return data.decode("utf-8", "replace")
