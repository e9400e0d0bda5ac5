# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an inference pod shall be: one small, strict description, from which all objects of Kubernetes are made.

What has a wrong form is refused here. Whether what has the right form is safe and can work is decided in decide.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.forms import (
    ENVIRONMENT, GROUP_NAME, LABEL_VALUE, NAME, PRINTABLE, REFERENCE, RESOURCE, labels,
)  # fmt: skip
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.parts import (
    Csi, Gpus, Model, Secret, Store, Tls, amount, matching, parse_csi, parse_gpus, parse_model, parse_secret, parse_store, parse_tls, taken, words,
)  # fmt: skip
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.platforms import PLATFORMS, SERVERS, TEES, server
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.quantity import mebibytes
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.traffic import Traffic, parse_traffic
from ansible_collections.attested.ai.plugins.module_utils.vm.fields import PATH, Fields


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
        image_size_mib=amount(fields, "image_size"),
        image_pull_secret=fields.text("image_pull_secret", GROUP_NAME, ""),
        model=parse_model(fields),
        gpus=parse_gpus(fields),
        cpus=fields.number("cpus", 1, 1024),
        memory_mib=mebibytes(taken(fields, "memory"), "pod.memory"),
        scratch_mib=amount(fields, "scratch", 1024),
        replicas=fields.number("replicas", 0, 1000, 1),
        command=words(fields, "command"),
        args=words(fields, "args"),
        port=fields.number("port", 1024, 65535, server(kind).port),
        probe=fields.text("probe", PATH, server(kind).probe),
        env=_environment(fields),
        secrets=tuple(parse_secret(item, "pod.secrets[%d]" % index) for index, item in enumerate(fields.listed("secrets"))),
        tls=parse_tls(fields),
        allow_plaintext=fields.flag("allow_plaintext"),
        initdata=taken(fields, "initdata"),
        agent_policy_allow=tuple(matching(item, ENVIRONMENT, "pod.agent_policy_allow") for item in fields.listed("agent_policy_allow")),
        allow_http_kbs=fields.flag("allow_http_kbs"),
        grant_resources=tuple(matching(item, PRINTABLE, "pod.grant_resources") for item in fields.listed("grant_resources")),
        trusted_store=parse_store(fields),
        traffic=parse_traffic(taken(fields, "network")),
        node_selector=labels(taken(fields, "node_selector"), "pod.node_selector"),
        tolerations=tuple(_toleration(item, "pod.tolerations[%d]" % index) for index, item in enumerate(fields.listed("tolerations"))),
        uid=fields.number("uid", 1, 2**31 - 1, 1000),
        gid=fields.number("gid", 1, 2**31 - 1, 1000),
        groups=tuple(_group(item) for item in fields.listed("groups")),
        writable_root=fields.flag("writable_root"),
        start_seconds=fields.number("start_seconds", 60, 86400, 1800),
        guard_waiver=fields.text("guard_waiver", PRINTABLE, ""),
        csi_volumes=tuple(parse_csi(item, "pod.csi_volumes[%d]" % index) for index, item in enumerate(fields.listed("csi_volumes"))),
        allow_csi_volumes=fields.flag("allow_csi_volumes"),
    )
    fields.done()
    return spec


def _environment(fields: Fields) -> Mapping[str, str]:
    given = taken(fields, "env")
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise FormatError("it is no dictionary of names and texts", where="pod.env")
    for name, value in given.items():
        matching(name, ENVIRONMENT, "pod.env")
        if not isinstance(value, str) or len(value) > 32768 or "\0" in value:
            raise FormatError("it is no text, or too long", where="pod.env.%s" % name, fix="Put it into quotes")
    return dict(given)


def _toleration(given: Any, where: str) -> Mapping[str, str]:
    inner = Fields(given, where)
    found = {
        "key": inner.text("key", RESOURCE, ""), "operator": inner.choice("operator", ("Equal", "Exists"), "Equal"),
        "value": inner.text("value", LABEL_VALUE, ""), "effect": inner.choice("effect", ("", "NoSchedule", "PreferNoSchedule", "NoExecute"), ""),
    }  # fmt: skip
    inner.done()
    return {name: value for name, value in found.items() if value}


def _group(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
        raise FormatError("%s is no number of a group other than root's" % ascii(value)[:40], where="pod.groups")
    return value
