# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a cluster can run a planned pod, and whether what runs in it is what was planned. Takes objects as Kubernetes returns them."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.findings import Findings
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.guard import STATUS
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.platforms import platform
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.quantity import MIB, written

_QUANTITY = re.compile(r"([0-9]+)([KMGT]i|[kMGTm])?\Z")
_FACTORS = {"": 1, "m": 0, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}


def look(plan: Any, runtime_classes: Any, nodes: Any) -> List[Dict[str, Any]]:
    """Reasons against running ``plan`` there. ``nodes`` None: whoever asked may not list nodes. Raises FormatError."""
    _planned(plan)
    found = Findings()
    name = plan["runtime_class"]
    overhead: Mapping[str, Any] = {}
    on_node = platform(plan["platform"]).guest_on_node
    listed = _listed(runtime_classes, "runtime_classes")
    names = [_path(one, "metadata", "name") for one in listed]
    if name not in names:
        close = sorted(str(one) for one in names if "kata" in str(one))
        found.refuse("cluster-no-runtime-class", "the cluster has no runtime class %s" % name,
                     "Install Kata or Confidential Containers there, or name another platform. It has %s"
                     % (", ".join(close)[:300] or "none of Kata's"))  # fmt: skip
    else:
        chosen = listed[names.index(name)]
        overhead = _path(chosen, "overhead", "podFixed") or {}
        _handler(plan, str(chosen.get("handler", "")), found)
    if nodes is not None and plan["objects"]:
        # A guest that is a machine of a cloud's takes no memory and no key of the node's.
        _nodes(plan["objects"][-1]["spec"]["template"]["spec"], overhead if on_node else None, _listed(nodes, "nodes"), found)
    return [one.to_dict() for one in found.refusals]


def _planned(plan: Any) -> None:
    if not isinstance(plan, Mapping) or not {"platform", "runtime_class", "handlers", "objects", "tee"} <= set(plan):
        raise FormatError("it is no result of the filter inference_pod", where="plan")


def _handler(plan: Mapping[str, Any], handler: str, found: Findings) -> None:
    if plan["handlers"] and handler not in plan["handlers"]:
        found.refuse("cluster-other-handler", "the runtime class %s leads to the handler %s, not to %s: it would start something else"
                     % (plan["runtime_class"], ascii(handler)[:60], " or ".join(plan["handlers"])),
                     "Correct the runtime class, or name the one that is meant")  # fmt: skip


def _nodes(pod: Mapping[str, Any], overhead: Optional[Mapping[str, Any]], nodes: Sequence[Mapping[str, Any]], found: Findings) -> None:
    left = list(nodes)
    for number, (key, value) in enumerate(pod.get("nodeSelector", {}).items()):
        fitting = [node for node in left if (_path(node, "metadata", "labels") or {}).get(key) == value]
        if not fitting:
            found.refuse("cluster-no-node", "no node has the label %s=%s%s" % (key, value, ", of those that have the labels before it" if number else ""),
                         _label_help(key))  # fmt: skip
            return
        left = fitting
    if overhead is None:
        return
    # The class books its overhead on the node, a key of the TEE among it.
    limits = pod["containers"][0]["resources"]["limits"]
    needed = {key: (_amount(limits.get(key, "0")) + _amount(overhead.get(key, "0"))) for key in {*limits, *overhead} if key != "cpu"}
    for key in sorted(needed):
        if not any(_amount((_path(node, "status", "allocatable") or {}).get(key, "0")) >= needed[key] for node in left):
            amount = written(-(-needed[key] // MIB)) if key == "memory" else str(needed[key])
            found.refuse("cluster-no-room", "no node that fits has %s of %s" % (amount, key),
                         "See the nodes' status.allocatable"
                         + ("; NVIDIA's kata-sandbox-device-plugin offers GPUs" if key.startswith("nvidia.com/") else ""))  # fmt: skip
            return


def _label_help(key: str) -> str:
    if key.startswith("nvidia.com/cc."):
        return "Bring a node's GPUs into the mode (role attested.ai.gpu_cc_node)"
    if key.startswith(("amd.feature", "intel.feature")):
        return "Deploy Node Feature Discovery, and see with attested.ai.preflight why no host offers the TEE"
    return "Label a node, or change node_selector"


def _amount(value: Any) -> int:
    match = _QUANTITY.match(str(value))
    return int(match.group(1)) * _FACTORS[match.group(2) or ""] if match else 0


def running(plan: Any, deployments: Any, pods: Any) -> Dict[str, Any]:
    """How far it has come, and what is not as planned: somebody in the cluster may have changed it on the way."""
    _planned(plan)
    if not plan["objects"]:
        raise FormatError("something stands against it, so that nothing can run", where="plan")
    planned = plan["objects"][-1]["spec"]["template"]["spec"]
    differs: List[str] = []
    listed = _listed(deployments, "deployments")
    if not listed:
        differs.append("the Deployment is not there")
    told: List[str] = []
    ready = 0
    for pod in _listed(pods, "pods"):
        if _path(pod, "metadata", "deletionTimestamp") or _path(pod, "status", "phase") in ("Failed", "Succeeded"):
            continue
        name = str(_path(pod, "metadata", "name"))
        differs += ["%s: %s" % (name, text) for text in _changed(planned, _path(pod, "spec") or {})]
        conditions = {one.get("type"): one for one in _path(pod, "status", "conditions") or []}
        good = conditions.get("Ready", {}).get("status") == "True"
        ready += good
        if not good:
            told.append("%s: %s" % (name, _why(pod, conditions)))
    wanted = plan["objects"][-1]["spec"]["replicas"]
    return {"ready": ready, "wanted": wanted, "settled": ready >= wanted and not differs and bool(listed), "differs": differs, "waiting": told}


def _changed(planned: Mapping[str, Any], spec: Mapping[str, Any]) -> List[str]:
    found: List[str] = []
    if spec.get("runtimeClassName") != planned["runtimeClassName"]:
        found.append("it runs in the runtime class %s" % ascii(spec.get("runtimeClassName"))[:60])
    for kind in ("containers", "initContainers"):
        want = {one["name"]: one for one in planned.get(kind, [])}
        have = {one.get("name"): one for one in spec.get(kind) or []}
        found += ["it has the container %s, which was put in" % ascii(name)[:60] for name in have if name not in want]
        for name, one in want.items():
            for member in ("image", "command", "args"):
                if name in have and (have[name].get(member) or None) != (one.get(member) or None):
                    found.append("%s of its container %s was changed" % (member, name))
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            found.append("%s is set" % name)
    return found


def _why(pod: Mapping[str, Any], conditions: Mapping[Any, Mapping[str, Any]]) -> str:
    """The kubelet's or the scheduler's own words, cut."""
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return "not placed on a node: %s" % str(scheduled.get("message", ""))[:200]
    for kind in ("initContainerStatuses", "containerStatuses"):
        for one in _path(pod, "status", kind) or []:
            if one.get("ready") and kind == "containerStatuses":
                continue
            # How it ended says more than that it waits to be started again.
            for ended in (_path(one, "state", "terminated") or {}, _path(one, "lastState", "terminated") or {}):
                if ended.get("exitCode") == STATUS:
                    return "the guard ended it: a secret was not opened. Its log says which, and the KBS why"
                if ended.get("exitCode"):
                    return "%s ended with status %s (%s)" % (one.get("name"), ended["exitCode"], ended.get("reason", ""))
            waiting = _path(one, "state", "waiting") or {}
            if waiting.get("reason") not in (None, "PodInitializing"):
                return "%s: %s" % (waiting["reason"], str(waiting.get("message", ""))[:200])
    return "not ready yet"


def _listed(given: Any, where: str) -> List[Mapping[str, Any]]:
    if not isinstance(given, (list, tuple)) or not all(isinstance(one, Mapping) for one in given):
        raise FormatError("it is no list of objects", where=where)
    return list(given)


def _path(given: Any, *names: str) -> Any:
    for name in names:
        given = given.get(name) if isinstance(given, Mapping) else None
    return given
