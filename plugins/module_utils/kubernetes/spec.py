# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an inference pod shall be: one small, strict description, from which all objects of Kubernetes are made.

What has a wrong form is refused here. Whether what has the right form is safe and can work is decided in decide.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Optional, Pattern, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.forms import (
    CLAIM, ENVIRONMENT, GROUP_NAME, LABEL_VALUE, NAME, PRINTABLE, REFERENCE, RESOURCE, URL, labels,
)  # fmt: skip
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.platforms import PLATFORMS, SERVERS, TEES, server
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.quantity import mebibytes
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.traffic import Traffic, parse_traffic
from ansible_collections.attested.ai.plugins.module_utils.planning.tables import gpus as known_gpus
from ansible_collections.attested.ai.plugins.module_utils.vm.fields import PATH, Fields

SOURCES = ("layers", "ciphertext", "public")
ARGUMENTS_MAX = 200


@dataclass(frozen=True)
class Opener:
    """The program that fetches ciphertext and opens it before the server starts: an image of yours."""

    image: str
    command: Tuple[str, ...]
    args: Tuple[str, ...]


@dataclass(frozen=True)
class Model:
    """``layers``: in layers of the image that are encrypted; ``ciphertext``: fetched and opened in the guest; ``public``: nothing to hide."""

    source: str
    path: str
    url: str
    keys: Tuple[str, ...]
    size_mib: int
    opener: Optional[Opener]


@dataclass(frozen=True)
class Gpus:
    """``model`` as attested.ai.plan names it, or empty."""

    count: int
    model: str
    mode: str
    resource: str


@dataclass(frozen=True)
class Secret:
    """A secret that only the guest gets to see. ``env`` or ``file`` is where the server finds it."""

    name: str
    resource: str
    sealed: str
    env: str
    file: str


@dataclass(frozen=True)
class Tls:
    certificate: str
    key: str


@dataclass(frozen=True)
class Store:
    """The block device that holds the unpacked image, encrypted by the guest: one that is there, or one of this size."""

    claim: str
    size_mib: int
    storage_class: str


@dataclass(frozen=True)
class Csi:
    name: str
    driver: str
    attributes: Mapping[str, str]
    path: str


@dataclass(frozen=True)
class PodSpec:
    """One inference service."""

    name: str
    namespace: str
    platform: str
    tee: str
    runtime_class: str
    allow_unprotected: bool
    server: str
    image: str
    image_size_mib: int
    image_pull_secret: str
    model: Model
    gpus: Optional[Gpus]
    cpus: int
    memory_mib: int
    scratch_mib: int
    replicas: int
    command: Tuple[str, ...]
    args: Tuple[str, ...]
    port: int
    probe: str
    env: Mapping[str, str]
    secrets: Tuple[Secret, ...]
    tls: Optional[Tls]
    allow_plaintext: bool
    initdata: Any
    agent_policy_allow: Tuple[str, ...]
    allow_http_kbs: bool
    grant_resources: Tuple[str, ...]
    trusted_store: Optional[Store]
    traffic: Traffic
    node_selector: Mapping[str, str]
    tolerations: Tuple[Mapping[str, str], ...]
    uid: int
    gid: int
    groups: Tuple[int, ...]
    writable_root: bool
    start_seconds: int
    guard_waiver: str
    csi_volumes: Tuple[Csi, ...]
    allow_csi_volumes: bool

    @property
    def device(self) -> str:
        return "gpu" if self.gpus is not None else "cpu"

    @property
    def protected(self) -> bool:
        return self.tee != "none"


def parse_spec(given: Any) -> PodSpec:
    """Raises FormatError for what is unknown or malformed."""
    fields = Fields(given, "pod")
    kind = fields.choice("server", SERVERS)
    spec = PodSpec(
        name=fields.text("name", NAME),
        namespace=fields.text("namespace", NAME),
        platform=fields.choice("platform", PLATFORMS, "upstream"),
        tee=fields.choice("tee", TEES),
        runtime_class=fields.text("runtime_class", GROUP_NAME, ""),
        allow_unprotected=fields.flag("allow_unprotected"),
        server=kind,
        image=fields.text("image", REFERENCE),
        image_size_mib=_memory(fields, "image_size"),
        image_pull_secret=fields.text("image_pull_secret", GROUP_NAME, ""),
        model=_model(fields),
        gpus=_gpus(fields),
        cpus=fields.number("cpus", 1, 1024),
        memory_mib=mebibytes(_taken(fields, "memory"), "pod.memory"),
        scratch_mib=_memory(fields, "scratch", 1024),
        replicas=fields.number("replicas", 0, 1000, 1),
        command=_words(fields, "command"),
        args=_words(fields, "args"),
        port=fields.number("port", 1024, 65535, server(kind).port),
        probe=fields.text("probe", PATH, server(kind).probe),
        env=_environment(fields),
        secrets=tuple(_secret(item, "pod.secrets[%d]" % index) for index, item in enumerate(fields.listed("secrets"))),
        tls=_tls(fields),
        allow_plaintext=fields.flag("allow_plaintext"),
        initdata=_taken(fields, "initdata"),
        agent_policy_allow=tuple(_one(item, ENVIRONMENT, "pod.agent_policy_allow") for item in fields.listed("agent_policy_allow")),
        allow_http_kbs=fields.flag("allow_http_kbs"),
        grant_resources=tuple(_one(item, PRINTABLE, "pod.grant_resources") for item in fields.listed("grant_resources")),
        trusted_store=_store(fields),
        traffic=parse_traffic(_taken(fields, "network")),
        node_selector=labels(_taken(fields, "node_selector"), "pod.node_selector"),
        tolerations=tuple(_toleration(item, "pod.tolerations[%d]" % index) for index, item in enumerate(fields.listed("tolerations"))),
        uid=fields.number("uid", 1, 2**31 - 1, 1000),
        gid=fields.number("gid", 1, 2**31 - 1, 1000),
        groups=tuple(_group(item) for item in fields.listed("groups")),
        writable_root=fields.flag("writable_root"),
        start_seconds=fields.number("start_seconds", 60, 86400, 1800),
        guard_waiver=fields.text("guard_waiver", PRINTABLE, ""),
        csi_volumes=tuple(_csi(item, "pod.csi_volumes[%d]" % index) for index, item in enumerate(fields.listed("csi_volumes"))),
        allow_csi_volumes=fields.flag("allow_csi_volumes"),
    )
    fields.done()
    return spec


def _taken(fields: Fields, name: str) -> Any:
    fields.seen.add(name)
    return fields.given.get(name)


def _one(value: Any, form: Pattern[str], where: str) -> str:
    if not isinstance(value, str) or not form.match(value):
        raise FormatError("%s does not have the form that is needed" % ascii(value)[:60], where=where, fix="It must match %s" % form.pattern)
    return value


def _memory(fields: Fields, name: str, default: int = 0) -> int:
    value = _taken(fields, name)
    return default if value is None or value == "" else mebibytes(value, fields.place(name))


def _words(fields: Fields, name: str) -> Tuple[str, ...]:
    words = tuple(_one(item, PRINTABLE, fields.place(name)) for item in fields.listed(name))
    if len(words) > ARGUMENTS_MAX:
        raise FormatError("there are more than %d" % ARGUMENTS_MAX, where=fields.place(name))
    return words


def _model(fields: Fields) -> Model:
    inner = Fields(_taken(fields, "model"), "pod.model")
    source = inner.choice("source", SOURCES)
    fetched = source == "ciphertext"
    opener = None
    if fetched:
        program = Fields(_taken(inner, "opener"), "pod.model.opener")
        opener = Opener(program.text("image", REFERENCE), _words(program, "command"), _words(program, "args"))
        program.done()
    found = Model(
        source=source,
        path=inner.text("path", PATH),
        url=inner.text("url", URL) if fetched else "",
        keys=tuple(_one(item, PRINTABLE, "pod.model.keys") for item in inner.listed("keys")) if source != "public" else (),
        size_mib=mebibytes(_taken(inner, "size"), "pod.model.size") if fetched else _memory(inner, "size"),
        opener=opener,
    )
    inner.done()
    return found


def _gpus(fields: Fields) -> Optional[Gpus]:
    given = _taken(fields, "gpus")
    if given is None or given == {}:
        return None
    inner = Fields(given, "pod.gpus")
    found = Gpus(inner.number("count", 1, 16, 1), inner.choice("model", ("", *known_gpus()), ""), inner.choice("mode", ("on", "ppcie"), "on"),
                 inner.text("resource", RESOURCE, ""))  # fmt: skip
    inner.done()
    return found


def _environment(fields: Fields) -> Mapping[str, str]:
    given = _taken(fields, "env")
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise FormatError("it is no dictionary of names and texts", where="pod.env")
    for name, value in given.items():
        _one(name, ENVIRONMENT, "pod.env")
        if not isinstance(value, str) or len(value) > 32768 or "\0" in value:
            raise FormatError("it is no text, or too long", where="pod.env.%s" % name, fix="Put it into quotes")
    return dict(given)


def _secret(given: Any, where: str) -> Secret:
    inner = Fields(given, where)
    found = Secret(inner.text("name", CLAIM), inner.text("resource", PRINTABLE, ""), inner.text("sealed", PRINTABLE, ""), inner.text("env", ENVIRONMENT, ""),
                   inner.text("file", CLAIM, ""))  # fmt: skip
    inner.done()
    if bool(found.resource) == bool(found.sealed):
        raise FormatError("it needs one of resource and sealed", where=where)
    if bool(found.env) == bool(found.file):
        raise FormatError("it needs one of env and file, the place where the server finds it", where=where)
    return found


def _tls(fields: Fields) -> Optional[Tls]:
    given = _taken(fields, "tls")
    if given is None or given == {}:
        return None
    inner = Fields(given, "pod.tls")
    certificate = _taken(inner, "certificate")
    if not isinstance(certificate, str) or "-----BEGIN CERTIFICATE-----" not in certificate or len(certificate) > 1 << 18:
        raise FormatError("it is no certificate in PEM", where="pod.tls.certificate")
    if "PRIVATE KEY-----" in certificate:
        raise FormatError("it holds a private key, which the host would read", where="pod.tls.certificate", fix="Store the key in the KBS and name it in key")
    found = Tls(certificate if certificate.endswith("\n") else certificate + "\n", inner.text("key", PRINTABLE))
    inner.done()
    return found


def _store(fields: Fields) -> Optional[Store]:
    given = _taken(fields, "trusted_store")
    if given is None or given == {}:
        return None
    inner = Fields(given, "pod.trusted_store")
    found = Store(inner.text("claim", GROUP_NAME, ""), _memory(inner, "size"), inner.text("storage_class", GROUP_NAME, ""))
    inner.done()
    if bool(found.claim) == bool(found.size_mib):
        raise FormatError("it needs one of claim and size", where="pod.trusted_store")
    return found


def _toleration(given: Any, where: str) -> Mapping[str, str]:
    inner = Fields(given, where)
    found = {"key": inner.text("key", RESOURCE, ""), "operator": inner.choice("operator", ("Equal", "Exists"), "Equal"),
             "value": inner.text("value", LABEL_VALUE, ""), "effect": inner.choice("effect", ("", "NoSchedule", "PreferNoSchedule", "NoExecute"), "")}  # fmt: skip
    inner.done()
    return {name: value for name, value in found.items() if value}


def _group(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
        raise FormatError("%s is no number of a group other than root's" % ascii(value)[:40], where="pod.groups")
    return value


def _csi(given: Any, where: str) -> Csi:
    inner = Fields(given, where)
    attributes = _taken(inner, "attributes") or {}
    if not isinstance(attributes, Mapping) or not all(isinstance(part, str) for pair in attributes.items() for part in pair):
        raise FormatError("it is no dictionary of texts", where=where + ".attributes")
    found = Csi(inner.text("name", NAME), inner.text("driver", GROUP_NAME), dict(attributes), inner.text("path", PATH))
    inner.done()
    return found
