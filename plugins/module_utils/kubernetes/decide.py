# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Is a described pod safe, and can it work? Each reason against it, with the next step; nothing is changed silently."""

from __future__ import annotations

import re
from typing import Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError
from ansible_collections.attested.ai.plugins.module_utils.kbs.protocol import Resource
from ansible_collections.attested.ai.plugins.module_utils.kubernetes import platforms, secrets
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.findings import Findings
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.forms import REFERENCE
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.platforms import Platform, RuntimeClass
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.spec import PodSpec
from ansible_collections.attested.ai.plugins.module_utils.planning.tables import gpus as known_gpus

# Variables that the guard uses itself.
_GUARD = ("name", "value", "file", "line", "IFS", "PATH")
_SYSTEM = re.compile(r"/(bin|boot|dev|etc|lib|lib64|proc|root|run|sbin|sys|tmp|usr)?(/|\Z)")


def runtime(spec: PodSpec, platform: Platform, found: Findings) -> Optional[RuntimeClass]:
    """The runtime class, or None with the reason."""
    refused = platforms.table("platforms")["refused"].get(spec.tee)
    if refused:
        found.refuse("tee-unsupported", "no pod runs in %s" % spec.tee.upper(), refused)
        return None
    if not spec.protected and not spec.allow_unprotected:
        found.refuse("unprotected", "with tee none, whoever holds the node reads everything in the pod",
                     "Choose snp or tdx; for a trial, set allow_unprotected")  # fmt: skip
    usual = platform.runtime(spec.tee, spec.device)
    if usual is None:
        kinds = ", ".join(sorted(platform.classes))
        found.refuse("no-runtime-class", "%s has no runtime class for %s with %s" % (platform.title, spec.tee, "GPUs" if spec.gpus else "no GPU"),
                     "It has %s" % kinds, platform.source)  # fmt: skip
        return None
    if not spec.runtime_class:
        return usual
    return _named(spec, platform, usual, found)


def _named(spec: PodSpec, platform: Platform, usual: RuntimeClass, found: Findings) -> Optional[RuntimeClass]:
    name, kind = spec.runtime_class, "%s/%s" % (spec.tee, spec.device)
    owners = platform.belongs_to(name)
    if platforms.matches("debug", name):
        found.refuse("runtime-class-debug", "%s is a variant for debugging: the host may enter its guests" % name, "Use %s" % usual.name, platform.source)
    elif owners and kind not in owners:
        found.refuse("runtime-class-other", "%s is for %s, and the pod is for %s" % (name, " and ".join(owners), kind), "Use %s" % usual.name, platform.source)
    elif not owners and platforms.matches("unprotected", name):
        found.refuse("runtime-class-unprotected", "%s has no TEE: whoever holds the node reads everything in the pod" % name, "Use %s" % usual.name,
                     platform.source)  # fmt: skip
    elif not owners:
        if not usual.handlers:
            found.refuse("runtime-class-unknown", "%s is no class of %s, and what it leads to cannot be checked" % (name, platform.title),
                         "Use %s" % usual.name, platform.source)  # fmt: skip
        else:
            found.note("%s is a name of your own. It must lead to the handler %s, which the role checks in the cluster" % (name, " or ".join(usual.handlers)))
    return RuntimeClass(name, usual.handlers, usual.default_memory_mib, usual.overhead_mib)


def image(reference: str, where: str, found: Findings) -> None:
    match = REFERENCE.match(reference)
    registry = match.group("registry") if match else ""
    if "." not in registry and ":" not in registry:
        found.refuse("image-registry", "%s %s names no registry, so that the node's settings choose one" % (where, reference), "Write it with its registry")
    if match is None or not match.group("digest"):
        found.refuse("image-tag", "%s %s is named by a tag, which may point to another image tomorrow" % (where, reference),
                     "Name it by digest: name@sha256:... (skopeo inspect --format '{{.Name}}@{{.Digest}}' docker://...)")  # fmt: skip
    elif match.group("tag"):
        found.refuse("image-tag", "%s %s has a tag beside its digest, which means nothing" % (where, reference), "Leave the tag away")


def gpu(spec: PodSpec, found: Findings) -> None:
    given = spec.gpus
    if given is None:
        return
    known = platforms.table("platforms")["gpu"]
    source = "NVIDIA's reference architecture 1.1.0"
    if given.resource == "nvidia.com/gpu":
        found.refuse("gpu-resource", "nvidia.com/gpu is what NVIDIA's plugin for ordinary containers hands out, and no node with GPUs for guests offers it",
                     "Leave gpus.resource away: it is %s" % known["resource"], source)  # fmt: skip
    elif given.resource and not given.resource.startswith("nvidia.com/"):
        found.refuse("gpu-resource", "%s is no resource of NVIDIA's" % given.resource, "Leave gpus.resource away: it is %s" % known["resource"], source)
    if given.model:
        shapes = known_gpus()[given.model].shapes
        if given.count not in shapes.get(given.mode, ()):
            can = "; ".join("%s: %s" % (mode, ", ".join(str(number) for number in numbers)) for mode, numbers in shapes.items())
            found.refuse("gpu-shape", "%d GPUs %s in mode %s do not go to one guest" % (given.count, known_gpus()[given.model].title, given.mode),
                         "What goes: %s" % can, source)  # fmt: skip
    elif (given.mode, given.count) not in (("on", 1), ("ppcie", 8)):
        found.refuse("gpu-shape", "whether %d GPUs in mode %s go to one guest depends on the GPU" % (given.count, given.mode), "Say which it is: gpus.model",
                     source)  # fmt: skip


def environment(spec: PodSpec, found: Findings) -> None:
    for name, value in spec.env.items():
        where = "env.%s" % name
        if name == "NVIDIA_CC_MODE":
            found.refuse("cc-mode-variable", "%s does nothing: no such variable exists" % where,
                         "Leave it away. The mode is the node's (label nvidia.com/cc.mode, role attested.ai.gpu_cc_node); the pod waits for ready nodes",
                         "k8s-cc-manager, main.py")  # fmt: skip
        elif secrets.is_sealed(value):
            found.refuse("sealed-in-the-open", "%s is a sealed secret that nobody looks at before it is used" % where, "Move it to secrets, as sealed")
        elif secrets.looks_secret(name, value):
            found.refuse("secret-in-clear", "%s looks like a secret, which Kubernetes and the host would read" % where,
                         "Store it in the KBS (attested.ai.kbs_resource) and name it in secrets")  # fmt: skip
        _expanded(where, (value,), found)
    taken = [name for name in spec.env if name in {secret.env for secret in spec.secrets}]
    if taken:
        found.refuse("twice", "%s is in env and in secrets" % taken[0], "Leave one away")
    for where, words in _commands(spec).items():
        _expanded(where, words, found)
        named = secrets.option_with_secret(words)
        if named:
            found.refuse("secret-in-clear", "%s holds a secret (%s), which Kubernetes and the host would read" % (where, ascii(named)),
                         "Store it in the KBS and name it in secrets, as a variable or a file")  # fmt: skip
        if any(secrets.is_sealed(word) for word in words):
            found.refuse("sealed-in-the-open", "%s holds a sealed secret: only variables and files are opened by the guest" % where, "Move it to secrets")


def _commands(spec: PodSpec) -> Mapping[str, Tuple[str, ...]]:
    found = {"command": spec.command, "args": spec.args}
    if spec.model.opener:
        found.update({"model.opener.command": spec.model.opener.command, "model.opener.args": spec.model.opener.args})
    return found


def _expanded(where: str, words: Tuple[str, ...], found: Findings) -> None:
    if any("$(" in word or "$$" in word for word in words):
        found.refuse("expanded-by-host", "%s holds $( or $$, which the kubelet expands on the host, before the guest opens any secret" % where,
                     "Let a program in the image read the variable")  # fmt: skip


def confidential(spec: PodSpec, platform: Platform, draft: bool, found: Findings) -> None:
    """Secrets, keys and TLS."""
    wanted = secrets.wanted(spec)
    if not platform.guest_components and (wanted or spec.model.source != "public"):
        found.refuse("no-guest-components", "on %s nothing is known in the guest that fetches keys and opens sealed secrets" % platform.title,
                     "Only models that need no key run there (model.source public), without secrets", platform.source)  # fmt: skip
    for kind, values in (("name", [one.name for one in wanted]), ("variable", [one.env for one in wanted if one.env]),
                         ("file", [one.file for one in wanted if one.file])):  # fmt: skip
        if len(set(values)) != len(values):
            found.refuse("twice", "a %s of secrets occurs twice" % kind, "Name each once")
    for one in wanted:
        if one.resource:
            _resource(one.resource, "secrets.%s" % one.name, found)
        if one.env in _GUARD:
            found.refuse("guard-variable", "the variable %s is used by the guard before the server starts" % one.env, "Name it otherwise")
    for key in spec.model.keys:
        _resource(key, "model.keys", found)
    if spec.model.source != "public" and not spec.model.keys:
        found.refuse("no-model-key", "no key is named for the model, so that no policy of a KBS can release it to this pod alone",
                     "Name it in model.keys (kbs:///repository/type/tag); for a model that is no secret, set model.source to public")  # fmt: skip
    if spec.model.source == "ciphertext" and _SYSTEM.match(spec.model.path):
        found.refuse("model-path", "model.path %s is a place of the system's" % spec.model.path, "Take one such as /models/name")
    if spec.guard_waiver:
        found.note("No guard (%s): should a secret not be opened, the server gets the text sealed.... in its place" % spec.guard_waiver)
    _tls(spec, found)


def _resource(value: str, where: str, found: Findings) -> None:
    try:
        Resource.parse(value)
    except KbsError:
        # The value is not repeated: it may be the secret itself.
        found.refuse("no-resource", "%s is no resource of a KBS" % where, "Write it as kbs:///repository/type/tag, and never the secret itself")


def _tls(spec: PodSpec, found: Findings) -> None:
    if spec.tls is None and not spec.allow_plaintext:
        found.refuse("no-tls", "without TLS the host reads every question and every answer: the network is not part of the guest",
                     "Give tls with a certificate and the resource of its key, or set allow_plaintext for a trial")  # fmt: skip
    elif spec.tls is None:
        found.note("No TLS: the host reads every question and every answer")
    elif spec.server == "given" or spec.command:
        found.note("TLS is for your command to use: the server finds its certificate in %s/%s and the key in %s/%s"
                   % (secrets.PUBLIC, secrets.TLS_CERTIFICATE, secrets.DIRECTORY, secrets.TLS_KEY))  # fmt: skip


def placement(spec: PodSpec, platform: Platform, found: Findings) -> None:
    """Command, network, storage, node."""
    if spec.server == "given" and not spec.command:
        found.refuse("no-command", "what starts the server is not known, and the guard must start it", "Give command, as in the image's ENTRYPOINT")
    if not spec.traffic.exits and not spec.traffic.open_egress:
        found.refuse("no-exit", "the guest fetches its image and its keys itself, and network.to names neither the registry nor the KBS",
                     "Name their networks and ports in network.to, or set network.egress to any")  # fmt: skip
    if not spec.traffic.peers:
        found.note("network.from names nobody: no pod reaches the server")
    if spec.trusted_store is not None:
        if not platform.trusted_store:
            found.refuse("no-trusted-store", "whether guests of %s take a block device for their images is not known" % platform.title,
                         "Leave trusted_store away and give the guest memory for the image", platform.source)  # fmt: skip
        if spec.replicas > 1:
            found.refuse("store-shared", "several pods cannot have one block device", "Set replicas to 1, and make one service for each")
    for volume in spec.csi_volumes:
        if not spec.allow_csi_volumes:
            found.refuse(
                "csi-volume",
                "the volume %s (%s) is mounted by the host, which reads what is in it; the guest gets a copy, once" % (volume.name, volume.driver),
                "Put the model into encrypted layers or fetch it as ciphertext, and secrets into secrets. Only where its content is ciphertext already, "
                "set allow_csi_volumes",
                "kata-containers, fs_share_linux.go; genpolicy stops at such volumes",
            )  # fmt: skip
        else:
            found.note("Warning: the host reads what is in the volume %s (%s). It is copied into the guest's memory once, and genpolicy stops at it:"
                       " the agent's policy has to be written by hand" % (volume.name, volume.driver))  # fmt: skip
    for name, value in spec.node_selector.items():
        if name.startswith("nvidia.com/cc.") or name in {key for group in platforms.table("platforms")["labels"].values() for key in group}:
            found.refuse("node-selector", "%s=%s is for the role to say" % (name, value), "Leave it away")
