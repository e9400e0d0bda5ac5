# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A pod as people write it for confidential containers, taken as input: what it means, and each thing that is done otherwise, with the reason.

Nothing is dropped in silence: what is not understood is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.strict import quoted
from ansible_collections.attested.ai.plugins.module_utils.kubernetes import secrets
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.failure import PodError
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.platforms import table

# Fields of the pod that say nothing which the description does not say better, or which are made anew.
_MADE_ANEW = ("restartPolicy", "terminationGracePeriodSeconds", "enableServiceLinks", "dnsPolicy", "schedulerName", "securityContext", "imagePullPolicy",
              "terminationMessagePath", "terminationMessagePolicy", "startupProbe", "readinessProbe", "livenessProbe", "stdin", "tty")  # fmt: skip
_HOST = ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace")
_POD = ("runtimeClassName", "containers", "volumes", "nodeSelector", "tolerations", "imagePullSecrets", "automountServiceAccountToken", "serviceAccountName",
        "serviceAccount", *_HOST, *_MADE_ANEW)  # fmt: skip
_CONTAINER = ("name", "image", "command", "args", "env", "ports", "resources", "volumeMounts", *_MADE_ANEW)


@dataclass(frozen=True)
class Correction:
    """One thing that is done otherwise. ``becomes`` says what stands in its place."""

    id: str
    where: str
    given: str
    becomes: str

    def to_dict(self) -> Dict[str, Any]:
        return {"id": self.id, "where": self.where, "given": self.given, "becomes": self.becomes, **table("corrections")["corrections"][self.id]}


class _Pod:
    def __init__(self) -> None:
        self.description: Dict[str, Any] = {}
        self.corrections: List[Correction] = []

    def correct(self, code: str, where: str, given: Any, becomes: str) -> None:
        self.corrections.append(Correction(code, where, quoted(given), becomes))


def translate(pod: Any) -> Tuple[Dict[str, Any], List[Correction]]:
    """A description, of which parts may be missing, and what was corrected. Takes a Pod, or what has a pod template. Raises PodError, FormatError.

    The runtime class is not taken over: the platform and the TEE say which it is.
    """
    if not isinstance(pod, Mapping) or pod.get("kind") not in ("Pod", "Deployment", "StatefulSet", "Job"):
        raise PodError("it is no Pod, Deployment, StatefulSet or Job", where="seed_pod",
                       fix="Give the manifest as a dictionary: lookup('file', ...) | from_yaml")  # fmt: skip
    found = _Pod()
    metadata = _mapping(pod.get("metadata"), "seed_pod.metadata")
    template = pod if pod["kind"] == "Pod" else _mapping(_mapping(pod.get("spec"), "seed_pod.spec").get("template"), "seed_pod.spec.template")
    if pod["kind"] != "Pod" and "replicas" in pod["spec"]:
        found.description["replicas"] = pod["spec"]["replicas"]
    for name, target in (("name", "name"), ("namespace", "namespace")):
        if metadata.get(name):
            found.description[target] = metadata[name]
    _annotations(found, _mapping(template.get("metadata"), "seed_pod.metadata"))
    spec = _mapping(template.get("spec"), "seed_pod.spec")
    _known(spec, _POD, "seed_pod.spec")
    _host(found, spec)
    containers = _list(spec.get("containers"), "seed_pod.spec.containers")
    if len(containers) != 1:
        raise PodError("it has %d containers, and one is needed" % len(containers), where="seed_pod.spec",
                       fix="Describe the server alone; what else there is belongs into its image, or into a pod of its own")  # fmt: skip
    container = _mapping(containers[0], "seed_pod.spec.containers[0]")
    _container(found, container)
    _volumes(found, spec, container)
    for name, target in (("nodeSelector", "node_selector"), ("tolerations", "tolerations")):
        if spec.get(name):
            found.description[target] = spec[name]
    pulls = _list(spec.get("imagePullSecrets"), "seed_pod.spec.imagePullSecrets")
    if len(pulls) > 1:
        raise PodError("there are several, and one is taken", where="seed_pod.spec.imagePullSecrets", fix="Put the credentials into one")
    if pulls:
        found.description["image_pull_secret"] = _mapping(pulls[0], "seed_pod.spec.imagePullSecrets[0]").get("name")
    return found.description, found.corrections


def replace(description: Dict[str, Any], corrections: List[Correction]) -> List[Correction]:
    """A volume of the host's that held the model gives way to the model, once that is described. Changes ``description``."""
    described = description.get("model")
    model: Mapping[str, Any] = described if isinstance(described, Mapping) else {}
    path = model.get("path")
    if not isinstance(path, str) or description.get("allow_csi_volumes"):
        return corrections
    inside = [one for one in description.get("csi_volumes", []) if one["path"] and (path + "/").startswith(one["path"].rstrip("/") + "/")]
    description["csi_volumes"] = [one for one in description.get("csi_volumes", []) if one not in inside]
    becomes = "left out; the model comes to %s from %s" % (path, {"layers": "encrypted layers of the image"}.get(str(model.get("source")), "what model says"))
    drivers = [quoted(one["driver"]) for one in inside]
    return [Correction(one.id, one.where, one.given, becomes) if one.id == "csi-volume" and one.given in drivers else one for one in corrections]


def finish(given: Any, corrections: List[Correction], runtime_class: str) -> List[Correction]:
    """Tell of the runtime class, once it is known which one the platform has."""
    if given and runtime_class and given != runtime_class:
        return [Correction("runtime-class", "spec.runtimeClassName", quoted(given), runtime_class), *corrections]
    return corrections


def runtime_class(pod: Mapping[str, Any]) -> Any:
    """The one that the seed asked for."""
    template = pod if pod["kind"] == "Pod" else pod["spec"]["template"]
    return template["spec"].get("runtimeClassName")


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise FormatError("it is no dictionary", where=where)
    return value


def _list(value: Any, where: str) -> List[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise FormatError("it is no list", where=where)
    return value


def _known(given: Mapping[str, Any], known: Tuple[str, ...], where: str) -> None:
    unknown = sorted(str(name) for name in given if name not in known)
    if unknown:
        raise PodError("%s is not understood" % quoted(unknown[0]), where=where, fix="Take it out, or write the description of the role by hand")


def _annotations(found: _Pod, metadata: Mapping[str, Any]) -> None:
    for name in _mapping(metadata.get("annotations"), "seed_pod.metadata.annotations"):
        if str(name).endswith(".kernel_params"):
            found.correct("kernel-params", "metadata.annotations", name, "left out; init-data says it")
        elif str(name).startswith("io.katacontainers."):
            found.correct("hypervisor-annotation", "metadata.annotations", name, "left out")


def _host(found: _Pod, spec: Mapping[str, Any]) -> None:
    for name in _HOST:
        if spec.get(name):
            found.correct("host-access", "spec." + name, spec[name], "left out")
    if spec.get("automountServiceAccountToken", True):
        found.correct("service-account", "spec.automountServiceAccountToken", spec.get("automountServiceAccountToken", "not said, which is true"), "false")
    for name in ("serviceAccountName", "serviceAccount"):
        if spec.get(name):
            found.correct("service-account", "spec." + name, spec[name], "left out")
    _users(found, _mapping(spec.get("securityContext"), "seed_pod.spec.securityContext"), "spec")


def _users(found: _Pod, context: Mapping[str, Any], where: str) -> None:
    for name, target in (("runAsUser", "uid"), ("runAsGroup", "gid"), ("supplementalGroups", "groups")):
        if context.get(name) == 0:
            found.correct("privileged", "%s.securityContext.%s" % (where, name), "root", "a user of its own")
        elif context.get(name):
            found.description[target] = context[name]


def _container(found: _Pod, container: Mapping[str, Any]) -> None:
    where = "spec.containers[0]"
    _known(container, _CONTAINER, "seed_pod." + where)
    context = _mapping(container.get("securityContext"), "seed_pod.%s.securityContext" % where)
    if context.get("privileged") or context.get("allowPrivilegeEscalation") or _mapping(context.get("capabilities"), where).get("add"):
        found.correct("privileged", where + ".securityContext", "privileged, or with capabilities", "no privileges")
    _users(found, context, where)
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = _mapping(container.get(probe), "seed_pod.%s.%s" % (where, probe))
        if "exec" in asked:
            found.correct("exec-probe", "%s.%s" % (where, probe), "exec", "the server's port")
        path = _mapping(asked.get("httpGet"), "seed_pod.%s.%s.httpGet" % (where, probe)).get("path")
        if path:
            found.description["probe"] = path
    image = container.get("image")
    found.description["image"] = image
    if isinstance(image, str) and "@sha256:" not in image:
        found.correct("image-tag", where + ".image", image, "the same image by digest, which you give in image")
    for name in ("command", "args"):
        if container.get(name):
            found.description[name] = container[name]
    ports = _list(container.get("ports"), "seed_pod.%s.ports" % where)
    if len(ports) > 1:
        raise PodError("there are several, and one is taken", where="seed_pod.%s.ports" % where, fix="Leave the one that clients use")
    if ports:
        found.description["port"] = _mapping(ports[0], "seed_pod.%s.ports[0]" % where).get("containerPort")
    _variables(found, _list(container.get("env"), "seed_pod.%s.env" % where), where)
    _resources(found, _mapping(container.get("resources"), "seed_pod.%s.resources" % where), where)


def _variables(found: _Pod, given: List[Any], where: str) -> None:
    kept: Dict[str, str] = {}
    for item in given:
        entry = _mapping(item, "seed_pod.%s.env" % where)
        name, value = str(entry.get("name", "")), entry.get("value", "")
        place = "%s.env.%s" % (where, name if re.match(r"\w{1,60}\Z", name) else "?")
        if name == "NVIDIA_CC_MODE":
            found.correct("cc-mode-variable", place, value, "nodes with nvidia.com/cc.ready.state=true")
        elif "valueFrom" in entry:
            if "secretKeyRef" not in _mapping(entry["valueFrom"], "seed_pod.%s" % place):
                raise PodError("only values and Secrets are understood", where="seed_pod.%s" % place, fix="Take it out, or give its value in env")
            found.correct("kubernetes-secret", place, "a Secret of Kubernetes", "left out; name the resource of the KBS in secrets (env: %s)" % name)
        elif secrets.looks_secret(name, str(value)):
            found.correct("secret-in-clear", place, "a value that is not repeated", "left out; name the resource of the KBS in secrets (env: %s)" % name)
        else:
            kept[name] = str(value)
    if kept:
        found.description["env"] = kept


def _resources(found: _Pod, resources: Mapping[str, Any], where: str) -> None:
    limits = _mapping(resources.get("limits"), "seed_pod.%s.resources.limits" % where)
    if resources.get("requests") and resources.get("requests") != resources.get("limits"):
        found.correct("requests", where + ".resources.requests", "other than the limits", "the limits")
    _known(limits, ("cpu", "memory", "nvidia.com/gpu", "nvidia.com/pgpu", "nvidia.com/nvswitch"), "seed_pod.%s.resources.limits" % where)
    if "memory" in limits:
        found.description["memory"] = limits["memory"]
    if "cpu" in limits:
        found.description["cpus"] = limits["cpu"]
    for name in ("nvidia.com/gpu", "nvidia.com/pgpu"):
        if name in limits:
            mode = "ppcie" if "nvidia.com/nvswitch" in limits else "on"
            found.description["gpus"] = {"count": limits[name], "mode": mode}
            if name == "nvidia.com/gpu":
                found.correct("gpu-resource", "%s.resources.limits" % where, "nvidia.com/gpu: %s" % limits[name], "nvidia.com/pgpu: %s" % limits[name])


def _volumes(found: _Pod, spec: Mapping[str, Any], container: Mapping[str, Any]) -> None:
    place = "seed_pod.spec.containers[0].volumeMounts"
    mounts = {str(_mapping(one, place).get("name")): one for one in _list(container.get("volumeMounts"), place)}
    for index, item in enumerate(_list(spec.get("volumes"), "seed_pod.spec.volumes")):
        where = "spec.volumes[%d]" % index
        volume = _mapping(item, "seed_pod." + where)
        name = str(volume.get("name"))
        path = str(_mapping(mounts.get(name), "seed_pod." + where).get("mountPath", ""))
        kind = next((one for one in volume if one != "name"), "")
        if kind == "csi":
            csi = _mapping(volume["csi"], "seed_pod." + where)
            found.description.setdefault("csi_volumes", []).append(
                {"name": name, "driver": csi.get("driver"), "attributes": dict(_mapping(csi.get("volumeAttributes"), "seed_pod." + where)), "path": path})
            found.correct("csi-volume", where, csi.get("driver"), "refused; describe in model what it held, or set allow_csi_volumes")
        elif kind in ("hostPath", "persistentVolumeClaim", "nfs"):
            found.correct("host-volume", where, "%s at %s" % (kind, path or "no path"), "left out; give model for what it held")
        elif kind == "image":
            found.correct("image-volume", where, "image at %s" % (path or "no path"), "left out; give model for what it held")
        elif kind == "secret":
            found.correct("kubernetes-secret", where, "a Secret of Kubernetes at %s" % (path or "no path"),
                          "left out; name the resources of the KBS in secrets (file)")  # fmt: skip
        elif kind != "emptyDir":
            raise PodError("a volume of the kind %s is not understood" % quoted(kind), where="seed_pod." + where,
                           fix="Take it out, and put what it held into the image")  # fmt: skip
