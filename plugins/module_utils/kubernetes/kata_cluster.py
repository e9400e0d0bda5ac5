# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a cluster can get Kata as wished, what has to happen to a release that is there, and what came of it. Takes objects as Kubernetes returns them."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.kubernetes.findings import Findings
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.kata import KataError, Shim, below, known, shims
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.kata_values import Wish, installed_shims
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.platforms import table

_INSTANCE = "kata-deploy/instance"
_MANAGER = "app.kubernetes.io/managed-by"


def listed(given: Any, where: str) -> List[Mapping[str, Any]]:
    if not isinstance(given, (list, tuple)) or not all(isinstance(one, Mapping) for one in given):
        raise KataError("it is no list of objects of Kubernetes", where=where)
    return list(given)


def path(given: Any, *names: str) -> Any:
    for name in names:
        given = given.get(name) if isinstance(given, Mapping) else None
    return given


def labels(item: Mapping[str, Any]) -> Mapping[str, Any]:
    return path(item, "metadata", "labels") or {}


def name_of(item: Mapping[str, Any]) -> str:
    return str(path(item, "metadata", "name"))


def of_chart(item: Mapping[str, Any]) -> bool:
    """Whether Kata's chart made it. Helm writes its own name over the chart's managed-by; without Helm it stays."""
    return _INSTANCE in labels(item) or labels(item).get(_MANAGER) == "kata-deploy"


def selected(nodes: Sequence[Mapping[str, Any]], selector: Mapping[str, str]) -> List[Mapping[str, Any]]:
    return [node for node in nodes if selector.items() <= labels(node).items()]


def nodes_for(wish: Wish, nodes: Sequence[Mapping[str, Any]], found: Findings) -> None:
    """What the nodes' own words say about containerd, Kubernetes and its distribution."""
    chosen = selected(nodes, wish.node_selector)
    if not chosen:
        found.refuse("cluster-no-node", "no node has the labels %s" % ", ".join("%s=%s" % one for one in sorted(wish.node_selector.items()))
                     if wish.node_selector else "the cluster has no node", "Label nodes, or change node_selector")  # fmt: skip
    for node in chosen:
        try:
            _node(wish, name_of(node), path(node, "status", "nodeInfo") or {}, found)
        except KataError as error:
            found.refuse("node-unknown", "node %s does not say what it runs: %s" % (name_of(node), error.what), "See its status.nodeInfo")


def _node(wish: Wish, name: str, info: Mapping[str, Any], found: Findings) -> None:
    floors = known()["containerd"]
    _kubelet(wish, name, str(info.get("kubeletVersion", "")), found)
    runtime = str(info.get("containerRuntimeVersion", ""))
    kind, _sep, release = runtime.partition("://")
    if kind == "containerd":
        if below(release, floors["floor"], "node %s" % name):
            found.refuse("containerd-too-old", "node %s has containerd %s, and Kata needs %s" % (name, release, floors["floor"]),
                         "Take containerd %s" % floors["recommended"])  # fmt: skip
        elif below(release, floors["drop_in_floor"]):
            found.note("Node %s has containerd %s: annotations can only be closed in Kata's own configuration there, containerd hands over all of"
                       " io.katacontainers.*. containerd %s is recommended" % (name, release, floors["recommended"]))  # fmt: skip
        elif below(release, floors["recommended"]) and any(shim.guest_pull for shim in wish.shims):
            found.note("Node %s has containerd %s: pulling images in guests may fail below %s" % (name, release, floors["recommended"]))
    elif kind == "cri-o":
        found.note("Node %s has CRI-O, which this role cannot look into: who may set annotations there is not checked" % name)
    else:
        found.refuse("runtime-unknown", "node %s runs %s, which Kata is not installed into" % (name, ascii(runtime)[:60]), "Use containerd")


def _kubelet(wish: Wish, name: str, kubelet: str, found: Findings) -> None:
    floors = known()["kubernetes"]
    needed = floors["gpu_floor"] if any(shim.device == "gpu" for shim in wish.shims) else floors["floor"]
    if below(kubelet, needed + ".0", "node %s" % name):
        found.refuse("kubernetes-too-old", "node %s has Kubernetes %s, and %s is needed" % (name, kubelet, needed), "Upgrade it")
    match = re.search(r"\+(k3s|rke2|k0s)", kubelet)
    if match and match.group(1) != wish.distribution:
        found.refuse("distribution-other", "node %s runs %s, and distribution is %s: Kata would be configured where nothing looks for it"
                     % (name, match.group(1), wish.distribution), "Set distribution: %s" % match.group(1))  # fmt: skip


def closes_containerd(wish: Wish, nodes: Sequence[Mapping[str, Any]]) -> bool:
    """Whether every node's containerd takes a file beside its configuration; kata-deploy stops where one does not."""
    limit = known()["containerd"]["drop_in_floor"]
    runtimes = [str(path(node, "status", "nodeInfo", "containerRuntimeVersion")).partition("://") for node in selected(nodes, wish.node_selector)]
    try:
        return bool(runtimes) and all(kind == "containerd" and not below(release, limit) for kind, _sep, release in runtimes)
    except KataError:
        # Refused elsewhere, by the node's name.
        return False


def act(wish: Wish, release: Optional[Mapping[str, Any]], replace: bool, found: Findings) -> Tuple[str, List[str]]:
    """install, upgrade or replace, and the shims that go. ``release``: status of the Helm release, None where there is none."""
    if not release:
        return "install", []
    status = str(release.get("status", ""))
    if status.startswith("pending") or status in ("uninstalling", "unknown"):
        found.refuse("release-half", "the Helm release is %s: a run of Helm was cut off" % (status or "in no known state"),
                     "See helm history, then helm rollback to the last good revision, or state: absent")  # fmt: skip
        return "upgrade", []
    values = release.get("values") or {}
    gone = sorted(set(installed_shims(values, wish.chart)) - {shim.name for shim in wish.shims})
    mode = str(_under(values, wish.chart).get("deploymentMode", "daemonset"))
    reasons = []
    if gone and below(wish.release, known()["stale_handlers_below"]):
        reasons.append("%s would stay configured on the nodes and pods that ask for it would hang (Kata below %s leaves handlers behind)"
                       % (", ".join(gone), known()["stale_handlers_below"]))  # fmt: skip
    if mode != wish.mode:
        reasons.append("it was installed in %s mode, which cannot change" % mode)
    if not reasons:
        return "upgrade", gone
    if not replace:
        found.refuse("replace-needed", "the release has to be removed and installed again: %s" % "; ".join(reasons),
                     "Move Kata's pods away, and set kata_replace_confirm or coco_replace_confirm to the name of the release")  # fmt: skip
    return "replace", gone


def _under(values: Any, chart: str) -> Mapping[str, Any]:
    for name in known()["charts"][chart]["under"]:
        values = path(values, name)
    return values if isinstance(values, Mapping) else {}


def classes_before(wish: Wish, classes: Sequence[Mapping[str, Any]], release: Optional[Mapping[str, Any]], found: Findings) -> None:
    """Classes under our names that somebody else made: Helm would stop half way."""
    for item in classes:
        shim = shims().get(name_of(item)[len("kata-"):]) if name_of(item).startswith("kata-") else None
        if shim in wish.shims and not of_chart(item):
            found.refuse("class-of-others", "the runtime class %s is there and was not made by Kata's chart" % name_of(item),
                         "Remove it, or leave it and the shim out")  # fmt: skip
        elif shim in wish.shims and not release:
            found.refuse("class-left", "the runtime class %s is there, and no Helm release of this name: Kata was installed otherwise, or half removed"
                         % name_of(item), "Name that release, or remove what is left (docs/kubernetes-runtimes.md)")  # fmt: skip


def after(wish: Wish, classes: Sequence[Mapping[str, Any]], nodes: Sequence[Mapping[str, Any]]) -> Tuple[List[Dict[str, Any]], List[Dict[str, Any]]]:
    """(what the cluster offers now, by class; checks). A check that fails makes the installation a failure."""
    there = {name_of(item): item for item in classes}
    rows, checks = [], []
    chosen = selected(nodes, wish.node_selector)
    label = known()["labels"]["installed"]
    ready = [node for node in chosen if labels(node).get(label) == "true"]
    checks.append(check("kata.nodes", bool(chosen) and len(ready) == len(chosen), "%d of %d nodes are labelled %s=true" % (len(ready), len(chosen), label),
                        "See the log of kata-deploy on %s" % ", ".join(name_of(node) for node in chosen if node not in ready)[:300]))  # fmt: skip
    for shim in wish.shims:
        item = there.get(shim.handler)
        handler = str(item.get("handler", "")) if item else ""
        checks.append(check("kata.class." + shim.name, handler == shim.handler,
                            "%s leads to %s" % (shim.handler, handler) if item else "there is no runtime class %s" % shim.handler,
                            "See helm status and the events of the release"))  # fmt: skip
        fitting = selected(ready, path(item, "scheduling", "nodeSelector") or {}) if item else []
        rows.append({"class": shim.handler, "handler": handler, "shim": shim.name, "tee": shim.tee, "device": shim.device,
                     "nodes": [name_of(node) for node in fitting], "pod": "not_checked", "what": _means(shim, fitting)})  # fmt: skip
    wanted = {shim.handler for shim in wish.shims}
    stale = sorted(name for name, item in there.items() if name not in wanted and of_chart(item)
                   and labels(item).get(_INSTANCE, "default") == "default")  # fmt: skip
    detail = "classes that nobody asked for: %s" % ", ".join(stale) if stale else "there is no other class of Kata's"
    checks.append(check("kata.stale-classes", not stale, detail,
                        "An upgrade left them, or another release has them. Pods that ask for them may hang: remove the release that made them"))  # fmt: skip
    return rows, checks


def _means(shim: Shim, nodes: Sequence[Mapping[str, Any]]) -> str:
    if not nodes:
        need = ", ".join("%s=%s" % one for one in table("platforms")["labels"].get(shim.tee, {}).items())
        return "no node takes its pods%s: they stay Pending" % (", for none has %s" % need if need else "")
    if shim.tee == "vm":
        return "a VM around the pod; the host reads all of it"
    if shim.tee == "none":
        return "no TEE: for trying, protects nothing from the host"
    return "asks for %s; only attestation of a pod shows that it has it" % shim.tee


def check(code: str, good: bool, detail: str, fix: str) -> Dict[str, Any]:
    return {"id": code, "outcome": "pass" if good else "fail", "detail": detail, "fix": "" if good else fix}


def left(chart: str, classes: Sequence[Mapping[str, Any]], nodes: Sequence[Mapping[str, Any]], gone: Sequence[str]) -> List[Dict[str, Any]]:
    """What stays after removal."""
    handlers = {"kata-" + name for name in gone}
    stay = sorted(name_of(item) for item in classes if of_chart(item) and name_of(item) in handlers)
    label = known()["labels"]["installed"]
    marked = sorted(name_of(node) for node in nodes if label in labels(node))
    return [
        check("kata.classes-gone", not stay, "runtime classes stay: %s" % ", ".join(stay) if stay else "no runtime class of it is left",
              "kubectl delete runtimeclass %s" % " ".join(stay)),
        check("kata.nodes-clean", not marked, "nodes still labelled: %s" % ", ".join(marked) if marked else "no node is labelled any more",
              "The cleanup did not end on them: see /opt/kata and containerd's configuration there with kata_method: check"),
    ]  # fmt: skip
