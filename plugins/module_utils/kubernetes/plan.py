# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The plan of one inference service: what stands against it, its objects, and the grant that its KBS needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.kubernetes import channel, decide, secrets, sizing
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.channel import Channel
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.findings import Findings, Refusal
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.objects import objects
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.platforms import Platform, RuntimeClass, platform, server, table
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.sizing import Sizing
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.spec import PodSpec


@dataclass(frozen=True)
class PodPlan:
    """``objects`` are empty where something stands against the pod. ``grant`` is for attested.ai.kbs_policy, or None where nothing is to be released."""

    spec: PodSpec
    runtime: Optional[RuntimeClass]
    sizing: Optional[Sizing]
    refusals: Tuple[Refusal, ...]
    notes: Tuple[str, ...]
    objects: Tuple[Dict[str, Any], ...]
    grant: Optional[Dict[str, Any]]
    initdata: Optional[Dict[str, Any]]
    draft: bool

    def to_dict(self) -> Dict[str, Any]:
        spec = self.spec
        return {
            "name": spec.name, "namespace": spec.namespace, "platform": spec.platform, "tee": spec.tee, "draft": self.draft,
            "runtime_class": self.runtime.name if self.runtime else "", "handlers": list(self.runtime.handlers) if self.runtime else [],
            "sizing": self.sizing.to_dict() if self.sizing else {}, "refusals": [one.to_dict() for one in self.refusals], "notes": list(self.notes),
            "objects": list(self.objects), "grant": self.grant or {}, "initdata": self.initdata or {},
            # What was asked for. That the guest is one is proven by the KBS, which releases nothing otherwise, and by nothing in Kubernetes.
            "protection": "unprotected" if self.draft or not spec.protected or self.refusals else table("platforms")["evidence"][spec.tee],
            "proven_by": "kbs" if self.grant and spec.protected else "nothing",
            "model": {"layers": "encrypted layers", "ciphertext": "opened in the guest", "public": "not encrypted"}[spec.model.source],
        }  # fmt: skip


def plan(spec: PodSpec, sealed: Optional[Mapping[str, str]] = None, draft: bool = False) -> PodPlan:
    """``sealed`` are sealed secrets by name, for those that the description names by resource. A draft needs no init-data, for genpolicy."""
    found, where = Findings(), platform(spec.platform)
    runtime = decide.runtime(spec, where, found)
    images = tuple(dict.fromkeys([spec.image] + ([spec.model.opener.image] if spec.model.opener else [])))
    decide.image(spec.image, "image", found)
    if spec.model.opener:
        decide.image(spec.model.opener.image, "model.opener.image", found)
    decide.gpu(spec, found)
    decide.environment(spec, found)
    decide.confidential(spec, where, draft, found)
    decide.placement(spec, where, found)
    texts = _sealed(spec, sealed or {}, found)
    said = channel.read(spec, where, images, draft, found)
    sized = sizing.size(spec, runtime) if runtime else None
    if sized:
        sizing.check(spec, sized, found)
    _remarks(spec, where, found)
    made: List[Dict[str, Any]] = []
    if runtime and sized and not found.refusals:
        made = objects(spec, where, runtime, sized, said, texts)
        _mounts(made, found)
    return PodPlan(
        spec, runtime, sized, tuple(found.refusals), tuple(found.notes), () if found.refusals else tuple(made),
        None if found.refusals or draft else _grant(spec, where, said, texts),
        said.document.to_dict() if said else None, draft,
    )  # fmt: skip


def _sealed(spec: PodSpec, given: Mapping[str, str], found: Findings) -> Dict[str, str]:
    texts: Dict[str, str] = {}
    for one in secrets.wanted(spec):
        text = one.sealed or given.get(one.name, "")
        if not text:
            found.refuse("no-signing-key", "secrets.%s is not sealed yet, and there is no key to sign it with" % one.name,
                         "Give sealing_key, an EC P-256 key in PEM, or the sealed secret itself")  # fmt: skip
            continue
        try:
            secrets.read(text, "secrets.%s" % one.name)
            texts[one.name] = text
        except AttestedError as error:
            found.refuse(error.code, "%s: %s" % (error.where, error.what), error.fix)
    return texts


def _mounts(made: List[Dict[str, Any]], found: Findings) -> None:
    pod = made[-1]["spec"]["template"]["spec"]
    for container in pod["containers"] + pod.get("initContainers", []):
        paths = [mount["mountPath"].rstrip("/") for mount in container["volumeMounts"]]
        twice = sorted(path for path in set(paths) if paths.count(path) > 1)
        if twice:
            found.refuse("twice", "two volumes are mounted at %s" % twice[0], "Move one")


def _remarks(spec: PodSpec, where: Platform, found: Findings) -> None:
    if where.mark != "source":
        found.note("What is known of %s is unverified (%s)" % (where.title, where.source))
    if not spec.protected:
        found.note("This pod is unprotected: whoever holds the node reads everything in it")
    elif spec.tee == "snp":
        found.note("The number of CPUs is part of SEV-SNP's launch measurement: cpus and the class's own make other reference values")
    if spec.platform == "openshift":
        found.note("OpenShift lets a pod choose its user only by a SecurityContextConstraint such as nonroot-v2; else give uid and gid of the project's range")
    if spec.image_pull_secret:
        found.note("The host needs image_pull_secret for the manifest, and reads it: let it read that registry only")
    if spec.model.source == "public":
        found.note("The model is not encrypted: the host and the registry can read it. Questions and answers are protected, the model is not")
    if spec.model.source == "layers":
        found.note("That the layers of the model are encrypted is not looked at here: check the image with skopeo inspect --raw (+encrypted)")
    if any(one.file for one in secrets.wanted(spec)):
        found.note("The agent's policy pins variables, not files: the host can put one sealed secret of yours in the place of another file")
    if server(spec.server).note:
        found.note(server(spec.server).note)


def _grant(spec: PodSpec, where: Platform, said: Optional[Channel], texts: Mapping[str, str]) -> Optional[Dict[str, Any]]:
    """What attested.ai.kbs_policy takes: these resources, for what was launched with this init-data."""
    wanted: List[str] = []
    for name in sorted(texts):
        kid, payload = secrets.read(texts[name], name)
        wanted += [str(payload.get("name", "")), kid]
    wanted += [*spec.model.keys, *(said.resources if said else ()), *spec.grant_resources]
    resources = list(dict.fromkeys(_path(uri) for uri in wanted if "/" in uri))
    if not resources or said is None or not where.init_data:
        return None
    switches = table("platforms")["gpu"]["switches"].get(spec.gpus.mode, 0) if spec.gpus else 0
    return {
        "name": "%s-%s" % (spec.namespace, spec.name), "resources": resources, "tees": ["sample" if spec.tee == "none" else spec.tee],
        "gpu": spec.gpus.count if spec.gpus else 0, "switch": switches, "init_data": [said.document.to_dict()],
    }  # fmt: skip


def _path(uri: str) -> str:
    return uri[len("kbs:///"):] if uri.startswith("kbs:///") else uri
