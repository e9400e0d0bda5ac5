# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The parts of the pod: containers, volumes, probes, where it may run."""

from __future__ import annotations

import posixpath
from typing import Any, Dict, List, Mapping, Tuple

from ansible_collections.attested.ai.plugins.module_utils.kubernetes import platforms, secrets
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.guard import guarded
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.parts import Opener
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.platforms import Platform, RuntimeClass, server
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.quantity import written
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.sizing import Sizing
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.spec import PodSpec

CIPHERTEXT = "/ciphertext"
# What the guest's data hub answers on, in each container.
HUB = "http://127.0.0.1:8006/cdh/resource"
STORE_DEVICE = "/dev/trusted_store"
PERIOD = 10
Object = Dict[str, Any]


def pod_spec(spec: PodSpec, platform: Platform, runtime: RuntimeClass, sizing: Sizing) -> Object:
    """spec of the pod template."""
    found: Object = {
        "runtimeClassName": runtime.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 60,
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": spec.uid, "runAsGroup": spec.gid, "fsGroup": spec.gid, "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_server(spec, sizing)],
        "volumes": _volumes(spec, sizing),
    }  # fmt: skip
    if spec.groups:
        found["securityContext"]["supplementalGroups"] = list(spec.groups)
    selector = node_selector(spec, platform)
    if selector:
        found["nodeSelector"] = selector
    if spec.tolerations:
        found["tolerations"] = [dict(one) for one in spec.tolerations]
    if spec.image_pull_secret:
        found["imagePullSecrets"] = [{"name": spec.image_pull_secret}]
    if spec.model.opener is not None:
        found["initContainers"] = [_opener(spec, spec.model.opener, sizing)]
    return found


def node_selector(spec: PodSpec, platform: Platform) -> Dict[str, str]:
    known = platforms.table("platforms")
    found: Dict[str, str] = dict(spec.node_selector)
    if platform.tee_labels:
        found.update(known["labels"].get(spec.tee, {}))
    if spec.gpus is not None:
        found.update(known["gpu"]["ready"])
        found[known["gpu"]["mode_label"]] = spec.gpus.mode
    return found


def command(spec: PodSpec) -> Tuple[str, ...]:
    """What starts the server, without the guard."""
    kind = server(spec.server)
    places = {"path": spec.model.path, "port": str(spec.port), "gpus": str(spec.gpus.count if spec.gpus else 0), "name": spec.name,
              "certificate": posixpath.join(secrets.PUBLIC, secrets.TLS_CERTIFICATE), "key": posixpath.join(secrets.DIRECTORY, secrets.TLS_KEY)}  # fmt: skip
    words = list(spec.command or kind.command)
    words += kind.gpus if spec.gpus and not spec.command else ()
    words += kind.tls if spec.tls and not spec.command else ()
    if not spec.command:
        words = [word.format(**places) for word in words]
    return (*words, *spec.args)


def _server(spec: PodSpec, sizing: Sizing) -> Object:
    kind, wanted = server(spec.server), secrets.wanted(spec)
    words = command(spec)
    if not spec.guard_waiver:
        words = guarded(words, [one.env for one in wanted if one.env], [posixpath.join(secrets.DIRECTORY, one.file) for one in wanted if one.file])
    limits: Dict[str, str] = {"cpu": str(spec.cpus), "memory": written(sizing.limit)}
    if spec.gpus is not None:
        known = platforms.table("platforms")["gpu"]
        limits[spec.gpus.resource or known["resource"]] = str(spec.gpus.count)
        if spec.gpus.mode in known["switches"]:
            limits[known["switch"]] = str(known["switches"][spec.gpus.mode])
    found: Object = {
        "name": "server",
        "image": spec.image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(words),
        "env": _environment({"HOME": "/tmp", "USER": "inference", **kind.env, **spec.env})
        + [{"name": one.env, "valueFrom": {"secretKeyRef": {"name": secret_name(spec), "key": one.name}}} for one in wanted if one.env],
        "ports": [{"name": kind.protocol, "containerPort": spec.port, "protocol": "TCP"}],
        "resources": {"limits": limits, "requests": dict(limits)},
        "securityContext": _closed(spec),
        "volumeMounts": _mounts(spec, sizing),
        **_probes(spec),
    }
    if spec.trusted_store is not None:
        found["volumeDevices"] = [{"name": "trusted-store", "devicePath": STORE_DEVICE}]
    return found


def _opener(spec: PodSpec, opener: Opener, sizing: Sizing) -> Object:
    """Fetches ciphertext, gets the key from the guest's data hub, opens the model into memory. What it does is its own; this is what it is told."""
    model = spec.model
    found: Object = {
        "name": "open-model",
        "image": opener.image,
        "imagePullPolicy": "IfNotPresent",
        "env": _environment({"HOME": "/tmp", "ATTESTED_CDH_URL": HUB, "ATTESTED_MODEL_URL": model.url, "ATTESTED_MODEL_KEYS": " ".join(_paths(model.keys)),
                             "ATTESTED_MODEL_CIPHERTEXT": CIPHERTEXT, "ATTESTED_MODEL_PATH": model.path}),
        "resources": {kind: {"cpu": str(spec.cpus), "memory": written(sizing.limit)} for kind in ("limits", "requests")},
        "securityContext": _closed(spec),
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}, {"name": "ciphertext", "mountPath": CIPHERTEXT},
                         {"name": "model", "mountPath": model_directory(spec)}],
    }  # fmt: skip
    for name, words in (("command", opener.command), ("args", opener.args)):
        if words:
            found[name] = list(words)
    return found


def _paths(uris: Tuple[str, ...]) -> List[str]:
    return [uri[len("kbs:///"):] if uri.startswith("kbs:///") else uri for uri in uris]


def _closed(spec: PodSpec) -> Object:
    return {"allowPrivilegeEscalation": False, "privileged": False, "readOnlyRootFilesystem": not spec.writable_root, "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]}}  # fmt: skip


def _environment(values: Mapping[str, str]) -> List[Object]:
    return [{"name": name, "value": value} for name, value in values.items()]


def _probes(spec: PodSpec) -> Object:
    """No commands: the agent's policy refuses them. The kubelet does not look at the certificate."""
    thresholds = {"startupProbe": -(-spec.start_seconds // PERIOD), "readinessProbe": 3, "livenessProbe": 6}
    return {name: {**_asked(spec), "periodSeconds": PERIOD, "timeoutSeconds": 5, "failureThreshold": times} for name, times in thresholds.items()}


def _asked(spec: PodSpec) -> Object:
    if not spec.probe:
        return {"tcpSocket": {"port": spec.port}}
    return {"httpGet": {"path": spec.probe, "port": spec.port, "scheme": "HTTPS" if spec.tls else "HTTP"}}


def secret_name(spec: PodSpec) -> str:
    return "%s-sealed" % spec.name


def public_name(spec: PodSpec) -> str:
    return "%s-public" % spec.name


def store_name(spec: PodSpec) -> str:
    store = spec.trusted_store
    return store.claim if store is not None and store.claim else "%s-store" % spec.name


def model_directory(spec: PodSpec) -> str:
    """What is mounted: llama.cpp opens a file in it."""
    return posixpath.dirname(spec.model.path) if spec.server == "llama.cpp" else spec.model.path


def _mounts(spec: PodSpec, sizing: Sizing) -> List[Object]:
    found: List[Object] = [{"name": "scratch", "mountPath": "/tmp"}]
    if sizing.shm:
        found.append({"name": "shm", "mountPath": "/dev/shm"})
    if spec.model.opener is not None:
        found.append({"name": "model", "mountPath": model_directory(spec), "readOnly": True})
    if any(one.file for one in secrets.wanted(spec)):
        found.append({"name": "sealed", "mountPath": secrets.DIRECTORY, "readOnly": True})
    if spec.tls is not None:
        found.append({"name": "public", "mountPath": secrets.PUBLIC, "readOnly": True})
    return found + [{"name": "csi-%s" % one.name, "mountPath": one.path, "readOnly": True} for one in spec.csi_volumes]


def _volumes(spec: PodSpec, sizing: Sizing) -> List[Object]:
    """In memory: there the host reads nothing, whatever the platform does with other kinds."""
    found: List[Object] = [{"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": written(spec.scratch_mib)}}]
    if sizing.shm:
        found.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": written(sizing.shm)}})
    if spec.model.opener is not None:
        # Ciphertext may lie anywhere. What is opened lies in memory.
        found += [{"name": "ciphertext", "emptyDir": {"sizeLimit": written(spec.model.size_mib * 11 // 10 + 1)}},
                  {"name": "model", "emptyDir": {"medium": "Memory", "sizeLimit": written(sizing.model)}}]  # fmt: skip
    files = [one for one in secrets.wanted(spec) if one.file]
    if files:
        items = [{"key": one.name, "path": one.file} for one in files]
        found.append({"name": "sealed", "secret": {"secretName": secret_name(spec), "defaultMode": 0o440, "items": items}})
    if spec.tls is not None:
        found.append({"name": "public", "configMap": {"name": public_name(spec), "defaultMode": 0o444}})
    if spec.trusted_store is not None:
        found.append({"name": "trusted-store", "persistentVolumeClaim": {"claimName": store_name(spec)}})
    return found + [{"name": "csi-%s" % one.name, "csi": {"driver": one.driver, "readOnly": True, "volumeAttributes": dict(one.attributes)}}
                    for one in spec.csi_volumes]  # fmt: skip
