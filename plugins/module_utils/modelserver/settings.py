# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the front is told by its configuration, read strictly: a word that is not known is an error and not a setting that has no effect."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Mapping, Tuple

from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.modelserver.budget import SHARE
from ansible_collections.attested.ai.plugins.module_utils.modelserver.failure import ServingError
from ansible_collections.attested.ai.plugins.module_utils.modelserver.rate import Rate
from ansible_collections.attested.ai.plugins.module_utils.target.collect import Request

CONFIG_MAX = 1 << 20
# What of a request for evidence the configuration may say; the rest is this program's own.
_EVIDENCE = ("method", "tsm_path", "device", "tpm_device", "privlevel", "gpus", "switches", "nvml_library", "nscq_library", "event_log", "event_log_path")
_PREFIX = re.compile(r"/[A-Za-z0-9._~/-]{0,200}\Z")
_TOKEN = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class Settings:
    """``runtime`` is the directory of sockets and of the certificate; ``paths`` are the prefixes that clients may ask for; ``tokens`` the SHA-256 of bearer
    tokens, of which a client must hold one if there are any; ``evidence`` how the TEE is asked."""

    name: str
    address: str
    port: int
    runtime: str
    paths: Tuple[str, ...]
    user: str = ""
    body_max: int = 32 << 20
    bodies_max: int = 256 << 20
    connections: int = 256
    header_seconds: float = 15.0
    answer_seconds: float = 600.0
    lifetime: float = 300.0
    for_all: Rate = Rate(5.0, 20)
    for_each: Rate = Rate(0.5, 5)
    tokens: Tuple[str, ...] = ()
    metrics_address: str = "127.0.0.1"
    metrics_port: int = 0
    metrics_path: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def socket(self) -> str:
        return self.runtime + "/current/model.sock"

    @property
    def served(self) -> str:
        return self.runtime + "/current/served.json"

    @property
    def certificate(self) -> str:
        return self.runtime + "/front/tls.crt"

    def allows(self, target: str) -> bool:
        """Whether a client may ask for this path. A path that could mean another one than it says is refused."""
        path = target.split("?", 1)[0]
        if "%2f" in path.lower() or "%5c" in path.lower() or "%2e" in path.lower() or "\\" in path or "//" in path or "/./" in path or "/../" in path + "/":
            return False
        return any(path == prefix or path.startswith(prefix if prefix.endswith("/") else prefix + "/") for prefix in self.paths)

    def request(self, nonce: str, certificate: str, jwk: Mapping[str, str]) -> Request:
        """What the TEE is asked for."""
        return Request(nonce=nonce, tee_pubkey=dict(jwk), tls_certificate=certificate, **dict(self.evidence))


def load(path: str) -> Settings:
    """Read the configuration. Raises AttestedError."""
    try:
        with open(path, "rb") as stream:
            raw = stream.read(CONFIG_MAX + 1)
    except OSError as error:
        raise ServingError("it cannot be read (%s)" % error.strerror, where=path, fix="Run the role model_server again", code="config") from None
    if len(raw) > CONFIG_MAX:
        raise ServingError("it is longer than %d bytes" % CONFIG_MAX, where=path, code="config")
    return parse(strict.loads(raw, path), path)


def parse(obj: Any, where: str = "configuration") -> Settings:
    """Settings from parsed JSON. Raises AttestedError."""
    names = list(Settings.__dataclass_fields__)
    # The user, too: who leaves it empty says so.
    required = ("name", "address", "port", "runtime", "paths", "user")
    given = dict(strict.members(obj, required, [name for name in names if name not in required], where=where))
    for name in ("for_all", "for_each"):
        if name in given:
            one = strict.members(given[name], ("per_second", "burst"), where="%s %s" % (where, name))
            given[name] = Rate(_positive(one["per_second"], where, name), int(_positive(one["burst"], where, name)))
    for name in ("body_max", "bodies_max", "connections", "header_seconds", "answer_seconds", "lifetime"):
        if name in given:
            _positive(given[name], where, name)
    for name, lowest in (("port", 1), ("metrics_port", 0)):
        if name in given and not (strict.is_integer(given[name]) and lowest <= given[name] <= 65535):
            raise ServingError("%s is no port" % name, where=where, code="config")
    given["paths"] = _words(given["paths"], _PREFIX, "paths", where)
    given["tokens"] = _words(given.get("tokens", []), _TOKEN, "tokens", where)
    if given.get("body_max", Settings.body_max) * SHARE > given.get("bodies_max", Settings.bodies_max):
        raise ServingError("body_max is more than a quarter of bodies_max", where=where, code="config")
    if not given["paths"]:
        raise ServingError("paths is empty: nothing could be asked for", where=where, code="config")
    given["evidence"] = dict(strict.members(given.get("evidence", {}), (), _EVIDENCE, where=where + " evidence"))
    return Settings(**given)


def _words(value: Any, form: Any, name: str, where: str) -> Tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) and form.match(one) for one in value):
        raise ServingError("%s is no list of words of the form %s" % (name, form.pattern), where=where, code="config")
    return tuple(value)


def _positive(value: Any, where: str, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e12:
        raise ServingError("%s is no positive number" % name, where=where, code="config")
    return value
