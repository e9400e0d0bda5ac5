# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What one instance of a model server is to do: written by the module model_instance into memory, read by the instance. There is no secret in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.modelserver.failure import ServingError

ORDER_MAX = 1 << 20
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}\Z")
INSTANCE = re.compile(r"[0-9a-f]{16}\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")
COPIES = ("keep", "drop_after_ready")


@dataclass(frozen=True)
class Order:
    """``src`` is the ciphertext, ``dest`` a directory that only this unit sees, ``runtime`` the directory of the instance with its socket.

    ``command`` starts the model server; {path}, {port} and {name} are filled in. ``file`` is the one file in the model that {path} names, or empty. It must
    answer ``probe`` (or take a connection) on its loopback within ``start_seconds``. ``copy`` says whether the plaintext stays when it does."""

    name: str
    src: str
    dest: str
    runtime: str
    command: Tuple[str, ...]
    user: str
    front_user: str
    session: str
    session_directory: str
    port: int = 8000
    file: str = ""
    probe: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    start_seconds: float = 900.0
    drain_seconds: float = 30.0
    restarts: int = 3
    copy: str = "keep"
    threads: Optional[int] = None


def parse(obj: Any, where: str = "order") -> Order:
    """An order from parsed JSON. Raises AttestedError."""
    required = ("name", "src", "dest", "runtime", "command", "user", "front_user", "session", "session_directory")
    given = dict(strict.members(obj, required, [name for name in Order.__dataclass_fields__ if name not in required], where=where))
    command, env = given["command"], given.get("env", {})
    if not isinstance(command, list) or not command or not all(isinstance(word, str) and "\0" not in word for word in command):
        raise _wrong("command is no list of words", where)
    if not isinstance(env, dict) or not all(_VARIABLE.match(name) and isinstance(value, str) and "\0" not in value for name, value in env.items()):
        raise _wrong("env is no dictionary of variables and their texts", where)
    if not isinstance(given["name"], str) or not NAME.match(given["name"]):
        raise _wrong("name %s is no name of small letters, digits and dashes" % strict.quoted(given["name"]), where)
    port = given.get("port", 8000)
    if not strict.is_integer(port) or not 1024 <= port <= 65535:
        raise _wrong("port is no number from 1024 to 65535", where)
    if given.get("copy", "keep") not in COPIES:
        raise _wrong("copy is none of %s" % ", ".join(COPIES), where)
    file = given.get("file", "")
    if not isinstance(file, str) or file.startswith("/") or ".." in file.split("/"):
        raise _wrong("file leads out of the model", where)
    given["command"] = tuple(command)
    return Order(**given)


def load(path: str) -> Order:
    """Read an order. Raises AttestedError."""
    try:
        with open(path, "rb") as stream:
            raw = stream.read(ORDER_MAX)
    except OSError as error:
        raise ServingError("it cannot be read (%s)" % error.strerror, where=path, fix="Start instances with attested.ai.model_instance", code="order") from None
    return parse(strict.loads(raw, path), path)


def _wrong(what: str, where: str) -> ServingError:
    return ServingError(what, where=where, fix="Correct the variables of the role model_server", code="order")
