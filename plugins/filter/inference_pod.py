# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters of inference pods: from a description to objects of Kubernetes, and whether a cluster can run them."""

from __future__ import annotations

import importlib.util
import typing as t

from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.attested.ai.plugins.module_utils.kubernetes import cluster
from ansible_collections.attested.ai.plugins.plugin_utils import inference_pod as core
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import plain
from ansible_collections.attested.ai.plugins.plugin_utils.filter_guard import guarded


@guarded
def inference_pod(
    description: t.Any, seed_pod: t.Any = None, sealing_key: str | None = None, sealing_kid: str = "kbs:///default/signing-key/sealed-secret",
    deployed: t.Any = None, draft: t.Any = False,
) -> dict[str, t.Any]:  # fmt: skip
    return core.inference_pod(
        plain(description, "pod"), plain(seed_pod, "seed_pod"), str(sealing_key) if sealing_key else None, str(sealing_kid), plain(deployed, "deployed"),
        boolean(draft),
    )  # fmt: skip


@guarded
def inference_pod_cluster(plan: t.Any, runtime_classes: t.Any, nodes: t.Any = None) -> list[dict[str, t.Any]]:
    return cluster.look(plain(plan, "plan"), plain(runtime_classes, "runtime_classes"), plain(nodes, "nodes"))


@guarded
def inference_pod_running(plan: t.Any, deployments: t.Any, pods: t.Any) -> dict[str, t.Any]:
    return cluster.running(plain(plan, "plan"), plain(deployments, "deployments"), plain(pods, "pods"))


def collection_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec("ansible_collections.%s" % name) is not None
    except (ImportError, ValueError):
        return False


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"inference_pod": inference_pod, "inference_pod_cluster": inference_pod_cluster, "inference_pod_running": inference_pod_running,
                "collection_installed": collection_installed}  # fmt: skip
