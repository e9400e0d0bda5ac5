# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which host keys does this ssh connection accept? Asked of OpenSSH itself, with the options that Ansible gives it.

A relay in front of a genuine guest must show the client a host key of its own. If every key that the client
would accept for this host is one that the guest bound into its evidence, no such relay can be in between.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import shlex
import subprocess
import typing as t

from ansible_collections.attested.ai.plugins.module_utils.appraisal.ssh import ConnectionBinding

# ssh_config(5): with any other value an unknown or changed key may be accepted without being compared.
STRICT_VALUES = frozenset(["true", "yes", "ask", "accept-new"])
SSH_TRANSPORTS = frozenset(["ssh", "ansible.builtin.ssh"])
# Others that speak SSH, each with rules of its own for host keys.
_OTHER_SSH = ("ssh", "paramiko")
# First of all options, because ssh keeps the first value: it holds for sftp and scp, too, which may have arguments of their own.
_PIN = "-o StrictHostKeyChecking=yes"
# keyword of ssh -G: (values, what is wrong with them)
_OBSTACLES: t.Final[t.Mapping[str, tuple[frozenset[str], str]]] = {
    "verifyhostkeydns": (frozenset(["true", "yes"]), "VerifyHostKeyDNS is on: DNS may vouch for a key that known_hosts does not hold; turn it off"),
    "nohostauthenticationforlocalhost": (frozenset(["true", "yes"]), "NoHostAuthenticationForLocalhost is on: no key of this machine is compared; turn it off"),
    "gssapikeyexchange": (frozenset(["true", "yes"]), "GSSAPIKeyExchange is on: Kerberos may take the place of the host key; turn it off"),
}
_TIMEOUT = 20

Runner = t.Callable[[t.Sequence[str]], "tuple[int, str]"]


def run(argv: t.Sequence[str]) -> tuple[int, str]:
    """Run a command on the controller in the C locale; return its exit status and standard output."""
    try:
        done = subprocess.run(
            list(argv), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT, check=False, env={**os.environ, "LC_ALL": "C"}
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return 255, str(exc)
    return done.returncode, done.stdout


def client_command(connection: t.Any) -> list[str]:
    """The ssh command line, less the remote command, that the connection's documented options ask for."""
    # In the order of the connection plugin: of an option that occurs twice, ssh takes the first.
    argv = [connection.get_option("ssh_executable") or "ssh", *shlex.split(connection.get_option("ssh_args") or "")]
    if connection.get_option("host_key_checking") is False:
        argv += ["-o", "StrictHostKeyChecking=no"]
    port = connection.get_option("port")
    if port:
        argv += ["-o", f"Port={port}"]
    user = connection.get_option("remote_user")
    if user:
        argv += ["-o", f"User={user}"]
    for option in ("ssh_common_args", "ssh_extra_args"):
        argv += shlex.split(connection.get_option(option) or "")
    return [*argv, "-G", "--", connection.get_option("host")]


def parse_client_config(text: str) -> dict[str, str]:
    """Parse the output of C(ssh -G): lower-case keyword, blank, value. The first value of a keyword counts."""
    config: dict[str, str] = {}
    for line in text.splitlines():
        keyword, _blank, value = line.partition(" ")
        config.setdefault(keyword.lower(), value.strip())
    return config


def lookup_names(config: t.Mapping[str, str]) -> list[str]:
    """The names under which ssh looks the host up in known_hosts (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT), one after the other."""
    alias = config.get("hostkeyalias", "")
    if alias and alias != "none":
        return [alias]
    name, port = config.get("hostname", "").lower(), config.get("port", "22")
    # If it finds nothing with the port, ssh goes on without it (check_host_key: "checking without port identifier").
    return [name] if port == "22" else [f"[{name}]:{port}", name]


def fingerprint(blob_base64: str) -> str | None:
    """The SHA256 fingerprint of a public key blob as OpenSSH prints it, or None if it is no base64."""
    try:
        blob = base64.b64decode(blob_base64, validate=True)
    except (ValueError, binascii.Error):
        return None
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii").rstrip("=")


def parse_known_hosts(text: str) -> tuple[list[str], list[str]]:
    """Parse lines found by C(ssh-keygen -F): return the fingerprints, and the reasons why a line cannot be compared."""
    fingerprints: list[str] = []
    obstacles: list[str] = []
    for line in text.splitlines():
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        if fields[0] == "@revoked":
            continue
        if fields[0].startswith("@"):
            obstacles.append(f"a {fields[0]} line accepts any key that this authority signed")
            continue
        digest = fingerprint(fields[2]) if len(fields) >= 3 else None
        if digest is None:
            obstacles.append("a line could not be read")
        elif digest not in fingerprints:
            fingerprints.append(digest)
    return fingerprints, obstacles


def connection_binding(connection: t.Any, runner: Runner = run) -> ConnectionBinding:
    """Say which host keys the connection accepts, and whether it really compares them."""
    transport = getattr(connection, "ansible_name", None) or connection.transport
    short = transport.rpartition(".")[2]

    def refuse(detail: str, found: t.Sequence[str] = ()) -> ConnectionBinding:
        return ConnectionBinding("ssh", tuple(found), False, detail)

    if transport not in SSH_TRANSPORTS:
        if any(name in short for name in _OTHER_SSH):
            return refuse(f"the connection plugin {transport} cannot be asked which host keys it accepts; connect with ansible.builtin.ssh")
        return ConnectionBinding(short, (), False, f"the connection is {transport}, not ssh: there is no host key to compare")
    status, output = runner(client_command(connection))
    if status != 0:
        return refuse(f"ssh -G failed on the controller ({output.strip()[:200] or 'no output'}); OpenSSH 6.8 or later is needed there")
    config = parse_client_config(output)
    checking = config.get("stricthostkeychecking", "")
    if checking not in STRICT_VALUES:
        return refuse(f"StrictHostKeyChecking is '{checking}': turn host_key_checking on and put the guest's key into known_hosts")
    if config.get("knownhostscommand", "none") != "none":
        return refuse("KnownHostsCommand is set: the accepted keys cannot be listed; use a known_hosts file")
    for keyword, (values, problem) in _OBSTACLES.items():
        if config.get(keyword) in values:
            return refuse(problem)

    files = shlex.split(config.get("userknownhostsfile", "")) + shlex.split(config.get("globalknownhostsfile", ""))
    paths = [os.path.expanduser(path) for path in files if path != "none"]
    for path in paths:
        if not os.path.isabs(path) or "%" in path or "$" in path:
            return refuse(f"the known_hosts file {path} cannot be told from the output of ssh -G: name it by a full path without blanks, % and $")
    names = lookup_names(config)
    found: list[str] = []
    obstacles: list[str] = []
    for name in names:
        for path in filter(os.path.isfile, paths):
            status, output = runner(["ssh-keygen", "-F", name, "-f", path])
            if status not in (0, 1):
                return refuse(f"ssh-keygen could not read {path}")
            keys, problems = parse_known_hosts(output)
            found += [key for key in keys if key not in found]
            obstacles += [f"{path}: {problem}" for problem in problems]
        if found or obstacles:
            break
    if obstacles:
        return refuse("; ".join(obstacles), found)
    if not found:
        return refuse(f"no key of {names[0]} is in {' '.join(files) or 'any known_hosts file'}: record it there first (ssh-keyscan over a trusted path)")
    return ConnectionBinding("ssh", tuple(found), True, f"{len(found)} known key(s) of {name}, no other is accepted")


def pin(connection: t.Any) -> None:
    """From here on ssh itself refuses every key that is not known, and no connection that was opened under other rules is used again."""
    given = connection.get_option("ssh_args") or ""
    if not given.startswith(_PIN):
        connection.set_option("ssh_args", f"{_PIN} {given}".rstrip())
    connection.reset()
