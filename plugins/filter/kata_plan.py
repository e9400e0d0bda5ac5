# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters of the roles kata and coco: from what is wanted to the values of a chart, and from what a cluster or a node says to checks."""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.plugin_utils import kata as core
from ansible_collections.attested.ai.plugins.plugin_utils.filter_guard import guarded, unlazy


@guarded
def kata_plan(options: t.Any, release: t.Any, runtime_classes: t.Any, nodes: t.Any, replace: bool = False) -> dict[str, t.Any]:
    return core.plan(unlazy(options), unlazy(release), unlazy(runtime_classes), unlazy(nodes), replace)


@guarded
def kata_state(options: t.Any, runtime_classes: t.Any, nodes: t.Any) -> dict[str, t.Any]:
    return core.state(unlazy(options), unlazy(runtime_classes), unlazy(nodes))


@guarded
def kata_left(shims: t.Any, runtime_classes: t.Any, nodes: t.Any, chart: str = "kata") -> list[dict[str, t.Any]]:
    return core.left(chart, unlazy(shims), unlazy(runtime_classes), unlazy(nodes))


@guarded
def kata_installed(release: t.Any, chart: str = "kata") -> list[str]:
    return core.installed(unlazy(release), chart)


@guarded
def kata_pods(classes: t.Any, image: str, namespace: str, nodes: t.Any) -> list[dict[str, t.Any]]:
    return core.pods(unlazy(classes), str(image), str(namespace), unlazy(nodes))


@guarded
def kata_pods_judged(classes: t.Any, pods: t.Any) -> dict[str, t.Any]:
    return core.judged(unlazy(classes), unlazy(pods))


@guarded
def kata_node(options: t.Any, facts: t.Any) -> list[dict[str, t.Any]]:
    return core.node(unlazy(options), unlazy(facts))


@guarded
def kata_node_files(dump: t.Any) -> dict[str, list[str]]:
    return core.node_files(str(dump))


@guarded
def kata_node_plan(options: t.Any) -> dict[str, t.Any]:
    return core.drop_in(unlazy(options))


@guarded
def containerd_imports(text: t.Any, target: str, where: str, state: str = "present", effective: str = "") -> dict[str, t.Any]:
    return core.imports(str(text), str(target), str(where), state == "present", str(effective))


@guarded
def coco_platform(platform: t.Any, tees: t.Any, rust: bool = False) -> dict[str, t.Any]:
    return core.platform_plan(str(platform), unlazy(tees), rust)


@guarded
def coco_platform_state(platform: t.Any, tees: t.Any, runtime_classes: t.Any, nodes: t.Any) -> dict[str, t.Any]:
    return core.platform_state(str(platform), unlazy(tees), unlazy(runtime_classes), unlazy(nodes))


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "kata_plan": kata_plan, "kata_state": kata_state, "kata_left": kata_left, "kata_installed": kata_installed, "kata_pods": kata_pods,
            "kata_pods_judged": kata_pods_judged, "kata_node": kata_node, "kata_node_files": kata_node_files, "kata_node_plan": kata_node_plan,
            "containerd_imports": containerd_imports, "coco_platform": coco_platform, "coco_platform_state": coco_platform_state,
        }  # fmt: skip
