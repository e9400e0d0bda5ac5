# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A pod that ends well only in a kernel of its own: it shows that a runtime class starts VMs. Whether one is a TEE only attestation shows."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Sequence

from ansible_collections.attested.ai.plugins.module_utils.kubernetes.kata import KataError, shims
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.kata_cluster import name_of, path

# The status tells all: agents of confidential guests give no log away, and not each carries files back.
SAME_KERNEL, NO_KERNEL = 90, 91
_SCRIPT = (
    'mine=$(cat /proc/sys/kernel/osrelease) && [ -n "$mine" ] || exit %d; '
    'for host in $HOST_KERNELS; do if [ "$mine" = "$host" ]; then exit %d; fi; done; exit 0' % (NO_KERNEL, SAME_KERNEL)
)
_IMAGE = re.compile(r"[a-z0-9][a-zA-Z0-9./_:-]*@sha256:[0-9a-f]{64}\Z")
_RELEASE = re.compile(r"[A-Za-z0-9._+~-]{1,80}\Z")


def pod(row: Mapping[str, Any], image: str, namespace: str, nodes: Sequence[Mapping[str, Any]]) -> Dict[str, Any]:
    if _IMAGE.match(str(image)) is None:
        raise KataError("%s is no image by digest" % ascii(image)[:100], where="verify_image", fix="Name a small one with /bin/sh, as registry/name@sha256:...")
    kernels = sorted({str(path(node, "status", "nodeInfo", "kernelVersion")) for node in nodes if name_of(node) in row["nodes"]})
    if not kernels or not all(_RELEASE.match(one) for one in kernels):
        raise KataError("the nodes do not say which kernel they run", where="nodes")
    shim = shims()[row["shim"]]
    limits: Dict[str, str] = {"cpu": "1", "memory": "256Mi"}
    if shim.device == "gpu":
        limits["nvidia.com/pgpu"] = "1"
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "attested-ai-verify-%s" % shim.name, "namespace": namespace, "labels": {"app.kubernetes.io/managed-by": "attested.ai"}},
        "spec": {
            "runtimeClassName": row["class"], "restartPolicy": "Never", "automountServiceAccountToken": False, "enableServiceLinks": False,
            "activeDeadlineSeconds": 1800,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65534, "runAsGroup": 65534, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "verify", "image": image, "command": ["/bin/sh", "-c", _SCRIPT], "env": [{"name": "HOST_KERNELS", "value": " ".join(kernels)}],
                "resources": {"limits": limits, "requests": limits},
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True},
            }],
        },
    }  # fmt: skip


def judge(item: Mapping[str, Any]) -> Dict[str, str]:
    """(outcome, detail) of such a pod: pass, fail, or waits."""
    status = path(item, "status") or {}
    ended: List[Mapping[str, Any]] = [path(one, "state", "terminated") for one in status.get("containerStatuses") or [] if path(one, "state", "terminated")]
    code = ended[0].get("exitCode") if ended else None
    if status.get("phase") == "Succeeded" and code == 0:
        return {"outcome": "pass", "detail": "its kernel is not the node's: it ran in a VM"}
    if code == SAME_KERNEL:
        return {"outcome": "fail", "detail": "it ran on the node's own kernel: the runtime class isolates nothing"}
    if status.get("phase") in ("Failed", "Succeeded"):
        return {"outcome": "fail", "detail": "it ended with %s (%s)" % (code, str((ended[0] if ended else status).get("reason", ""))[:100])}
    for one in status.get("conditions") or []:
        if one.get("type") == "PodScheduled" and one.get("status") == "False":
            return {"outcome": "waits", "detail": "not placed on a node: %s" % str(one.get("message", ""))[:200]}
    for one in status.get("containerStatuses") or []:
        waiting = path(one, "state", "waiting") or {}
        if waiting.get("reason"):
            return {"outcome": "waits", "detail": "%s: %s" % (waiting["reason"], str(waiting.get("message", ""))[:200])}
    return {"outcome": "waits", "detail": "it has not ended yet"}
