# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a key broker shall be, checked: nothing of it may open it to everybody, lose its data, or change by itself."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.formats.strict import members, quoted
from ansible_collections.attested.ai.plugins.module_utils.trustee.demo_keys import ISSUERS
from ansible_collections.attested.ai.plugins.module_utils.trustee.problem import TrusteeError

WAYS = ("helm", "quadlet", "binaries")
LAYOUTS = ("builtin", "services")
COMPONENTS = {"builtin": ("kbs",), "services": ("rvps", "as", "kbs")}
# Of deps/verifier/src/lib.rs of Trustee 0.21.0.
VERIFIERS = ("nvidia_verifier", "dcap_verifier", "snp_verifier", "tpm_verifier")
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?\Z")
_PATH = re.compile(r"(/[A-Za-z0-9._+-]+)+\Z")
_IMAGE = re.compile(r"[a-z0-9]+([.:/_-]+[a-z0-9]+)*@sha256:[0-9a-f]{64}\Z")
_ACL = re.compile(r"\^/kbs.*\$\Z")
_LOG = re.compile(r"[a-z0-9_,=:]{1,128}\Z")


@dataclass(frozen=True)
class Admin:
    """``providers`` are those of others, by JWKS; each with issuer and audience, so that no token of another service is taken."""

    issuer: str
    audience: str
    acls: Tuple[Tuple[str, str], ...]
    providers: Tuple[Tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class Settings:
    way: str
    layout: str
    name: str
    listen: Tuple[str, ...]
    config_dir: str
    data_dir: str
    admin: Admin
    programs: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    verifiers: Mapping[str, Any] = field(default_factory=dict)
    token_minutes: int = 5
    session_minutes: int = 5
    payload_mib: int = 2
    verbose_token: bool = False
    log: str = "info"

    @property
    def components(self) -> Tuple[str, ...]:
        """In the order in which they start."""
        return COMPONENTS[self.layout]

    @property
    def keys_dir(self) -> str:
        return self.config_dir + "/keys"

    @property
    def warnings(self) -> List[str]:
        found = []
        if self.way == "binaries" and self.layout == "services":
            found.append("attestation service and reference values listen on loopback without asking who comes: every user of this machine can change them. "
                         "Let nobody in there, or take the layout builtin")
        nvidia = self.verifiers.get("nvidia_verifier", {})
        if isinstance(nvidia, Mapping) and nvidia.get("type") == "Local":
            found.append("Trustee's own GPU policy does not know what the local NVIDIA verifier tells: GPUs stay contraindicated until a policy default_gpu of "
                         "yours is set")
        return found


_FIELDS = ("way", "layout", "name", "listen", "config_dir", "data_dir", "admin", "programs", "images", "verifiers", "token_minutes", "session_minutes",
           "payload_mib", "verbose_token", "log")  # fmt: skip


def parse(given: Any) -> Settings:
    """Raises TrusteeError, FormatError."""
    told = members(given, _FIELDS[:7], _FIELDS[7:], where="trustee")
    way, layout = _one_of(told["way"], WAYS, "way"), _one_of(told["layout"], LAYOUTS, "layout")
    if way == "helm" and layout != "services":
        raise _wrong("layout", "the Helm chart makes three services, this is %s" % quoted(layout), "Take the layout services")
    if not isinstance(told["name"], str) or not _NAME.match(told["name"]):
        raise _wrong("name", "%s is no name of small letters, digits and dashes" % quoted(told["name"]))
    listen = tuple(_socket(one) for one in _list(told["listen"], "listen"))
    if not listen:
        raise _wrong("listen", "it listens nowhere", "Give an address with a port, such as 0.0.0.0:8080")
    found = Settings(
        way, layout, told["name"], listen, _path(told["config_dir"], "config_dir"), _path(told["data_dir"], "data_dir"), _admin(told["admin"]),
        _programs(told.get("programs", {}), way, layout), _images(told.get("images", {}), way, layout), _verifiers(told.get("verifiers", {})),
        _number(told.get("token_minutes", 5), 1, 60, "token_minutes"), _number(told.get("session_minutes", 5), 1, 60, "session_minutes"),
        _number(told.get("payload_mib", 2), 1, 64, "payload_mib"), bool(told.get("verbose_token", False)), str(told.get("log", "info")),
    )  # fmt: skip
    if not _LOG.match(found.log):
        raise _wrong("log", "%s is no level of a log" % quoted(found.log))
    if (found.data_dir + "/").startswith(found.config_dir + "/") or (found.config_dir + "/").startswith(found.data_dir + "/"):
        raise _wrong("data_dir", "data and configuration lie in one another")
    return found


def _admin(given: Any) -> Admin:
    told = members(given, ("issuer", "audience", "acls"), ("providers",), where="trustee admin")
    for name in ("issuer", "audience"):
        _word(told[name], name)
    if told["issuer"] in ISSUERS:
        raise _wrong("issuer", "%s is the issuer of Trustee's demo setup, whose tokens live for ten years" % told["issuer"], "Take a name of your own")
    acls = []
    for one in _list(told["acls"], "acls"):
        row = members(one, ("role", "allowed_endpoints"), where="trustee acls")
        rule = str(row["allowed_endpoints"])
        if not _ACL.match(rule):
            raise _wrong("acls", "%s does not begin with ^/kbs and end with $, and the KBS would not start" % quoted(rule))
        try:
            re.compile(rule)
        except re.error as error:
            raise _wrong("acls", "%s is no regular expression (%s)" % (quoted(rule), error)) from None
        acls.append((_word(row["role"], "role"), rule))
    if not acls:
        raise _wrong("acls", "no admin may do anything", "Give a role with its endpoints")
    providers = []
    for one in _list(told.get("providers", []), "providers"):
        row = members(one, ("issuer", "audience", "jwk_set_uri"), where="trustee providers")
        if not str(row["jwk_set_uri"]).startswith("https://"):
            raise _wrong("providers", "%s is no https address: who stands in between would name the admins" % quoted(row["jwk_set_uri"]))
        providers.append((_word(row["issuer"], "issuer"), _word(row["audience"], "audience"), str(row["jwk_set_uri"])))
    return Admin(told["issuer"], told["audience"], tuple(acls), tuple(providers))


def _programs(given: Any, way: str, layout: str) -> Dict[str, str]:
    if way != "binaries":
        return {}
    told = dict(members(given, COMPONENTS[layout], [name for name in COMPONENTS["services"] if name not in COMPONENTS[layout]], where="trustee programs"))
    return {name: _path(told[name], "programs " + name) for name in COMPONENTS[layout]}


def _images(given: Any, way: str, layout: str) -> Dict[str, str]:
    if way == "binaries":
        return {}
    wanted = COMPONENTS[layout] + (("busybox",) if way == "helm" else ())
    told = given if isinstance(given, Mapping) else {}
    for name in wanted:
        image = str(told.get(name, ""))
        if not _IMAGE.match(image):
            what = "%s names no digest" % quoted(image) if image else "it is not given"
            raise _wrong("images " + name, "%s; what a tag names changes, and with it who may have the keys" % what,
                         "Give it as name@sha256:<64 hexadecimal digits>, of an image that you have verified")
    return {name: str(told[name]) for name in wanted}


def _verifiers(given: Any) -> Dict[str, Any]:
    if not isinstance(given, Mapping):
        raise _wrong("verifiers", "it is no dictionary")
    for name, value in given.items():
        if name not in VERIFIERS or not isinstance(value, Mapping):
            raise _wrong("verifiers", "%s is none of %s" % (quoted(name), ", ".join(VERIFIERS)))
    return {str(name): _plain(value) for name, value in given.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _socket(given: Any) -> str:
    host, _colon, port = str(given).rpartition(":")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
        number = int(port)
    except ValueError:
        raise _wrong("listen", "%s is no address with a port, such as 0.0.0.0:8080 or [::]:8080" % quoted(given)) from None
    if not 1 <= number <= 65535 or (address.version == 6) != host.startswith("["):
        raise _wrong("listen", "%s is no address with a port, such as 0.0.0.0:8080 or [::]:8080" % quoted(given))
    return "%s:%d" % ("[%s]" % address if address.version == 6 else address, number)


def _path(given: Any, where: str) -> str:
    text = str(given)
    if not _PATH.match(text) or ".." in text.split("/") or text.count("/") < 2:
        raise _wrong(where, "%s is no absolute path of letters, digits, dots, _, + and -, at least two folders deep" % quoted(text))
    return text


def _word(given: Any, where: str) -> str:
    if not isinstance(given, str) or not 1 <= len(given) <= 200 or not given.isascii() or not given.isprintable() or given != given.strip():
        raise _wrong(where, "%s is no name" % quoted(given), "The KBS takes every name where none is set, so it must be there")
    return given


def _number(given: Any, least: int, most: int, where: str) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or not least <= given <= most:
        raise _wrong(where, "%s is no number from %d to %d" % (quoted(given), least, most))
    return given


def _list(given: Any, where: str) -> List[Any]:
    if not isinstance(given, (list, tuple)):
        raise _wrong(where, "it is no list")
    return list(given)


def _one_of(given: Any, choices: Tuple[str, ...], where: str) -> str:
    if given not in choices:
        raise _wrong(where, "%s is none of %s" % (quoted(given), ", ".join(choices)))
    return str(given)


def _wrong(where: str, what: str, fix: Optional[str] = None) -> TrusteeError:
    return TrusteeError(what, where="trustee %s" % where, fix=fix or "", code="trustee-settings")
