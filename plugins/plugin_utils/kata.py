# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Between the roles kata and coco and the core: options as variables of a role, answers as data for its tasks."""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.module_utils.kubernetes import coco, kata_cluster, kata_imports, kata_node, kata_pod
from ansible_collections.attested.ai.plugins.module_utils.kubernetes import kata_values as values
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.findings import Findings
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.kata import KataError, advisories, chosen, known, version

_DEFAULTS: dict[str, t.Any] = {
    "chart": "kata", "version": "", "kata_release": "", "shims": [], "annotations": {}, "images": {}, "allow_image_tags": False, "distribution": "k8s",
    "mode": "daemonset", "node_selector": {}, "tolerations": [], "nfd": False, "guest_pull": "nydus", "extra_values": {}, "accept_advisories": {},
}  # fmt: skip
_CHOICES = {"chart": ("kata", "coco"), "mode": ("daemonset", "job"), "guest_pull": ("nydus", "forced")}


def _options(given: t.Any) -> dict[str, t.Any]:
    if not isinstance(given, dict) or set(given) - set(_DEFAULTS):
        raise KataError("unknown: %s" % ", ".join(sorted(set(given) - set(_DEFAULTS))) if isinstance(given, dict) else "it is no dictionary", where="options")
    options = {**_DEFAULTS, **given}
    for name, default in _DEFAULTS.items():
        if not isinstance(options[name], type(default)):
            raise KataError("it is no %s" % type(default).__name__, where=name)
    for name, words in {**_CHOICES, "distribution": tuple(known()["distributions"])}.items():
        if options[name] not in words:
            raise KataError("%s is none of %s" % (ascii(options[name])[:60], ", ".join(words)), where=name)
    return options


def _wish(options: dict[str, t.Any], found: Findings) -> tuple[values.Wish, str]:
    """The wish and the version of the chart."""
    wanted = chosen(options["shims"], found)
    chart_version = options["version"]
    version(chart_version, "version")
    release = options["kata_release"] or (chart_version if options["chart"] == "kata" else coco.release_of(chart_version))
    if not release:
        found.refuse("release-unknown", "which Kata Confidential Containers %s brings is not known here, so that nobody can say which advisories are for it"
                     % chart_version, "See its release notes, and set coco_kata_release")  # fmt: skip
        release = known()["charts"]["kata"]["floor"]
    version(release, "kata_release")
    return values.Wish(
        options["chart"], release, tuple(wanted), values.allowlist(wanted, options["annotations"], found), options["images"], options["allow_image_tags"],
        options["distribution"], options["mode"], options["node_selector"], tuple(options["tolerations"]), options["nfd"], options["guest_pull"],
        options["extra_values"],
    ), chart_version  # fmt: skip


def plan(given: t.Any, release: t.Any, classes: t.Any, nodes: t.Any, replace: bool = False) -> dict[str, t.Any]:
    """What has to happen, the chart's values, and what stands against it. ``release``: of helm_info, None or empty where there is none."""
    options, found = _options(given), Findings()
    wish, chart_version = _wish(options, found)
    values.floor(wish, chart_version, found)
    advisories(wish.release, wish.shims, options["accept_advisories"], found)
    there, machines = kata_cluster.listed(classes, "runtime_classes"), kata_cluster.listed(nodes, "nodes")
    kata_cluster.nodes_for(wish, machines, found)
    kata_cluster.classes_before(wish, there, release or None, found)
    action, gone = kata_cluster.act(wish, release or None, bool(replace), found)
    made = values.values_of(wish, found)
    if not kata_cluster.closes_containerd(wish, machines):
        inner = made
        for name in known()["charts"][wish.chart]["under"]:
            inner = inner[name]
        del inner["containerd"]
    return {"action": action, "removed": gone, "chart_values": made, "kata": wish.release, "classes": [shim.handler for shim in wish.shims],
            "refusals": [one.to_dict() for one in found.refusals], "notes": found.notes}  # fmt: skip


def state(given: t.Any, classes: t.Any, nodes: t.Any) -> dict[str, t.Any]:
    wish, _version = _wish(_options(given), Findings())
    rows, checks = kata_cluster.after(wish, kata_cluster.listed(classes, "runtime_classes"), kata_cluster.listed(nodes, "nodes"))
    return {"classes": rows, "checks": checks, "failed": [one for one in checks if one["outcome"] == "fail"]}


def left(chart: str, shims: t.Any, classes: t.Any, nodes: t.Any) -> list[dict[str, t.Any]]:
    return kata_cluster.left(chart, kata_cluster.listed(classes, "runtime_classes"), kata_cluster.listed(nodes, "nodes"), shims)


def installed(release: t.Any, chart: str) -> list[str]:
    return values.installed_shims((release or {}).get("values") or {}, chart)


def pods(rows: t.Any, image: str, namespace: str, nodes: t.Any) -> list[dict[str, t.Any]]:
    """A pod for each class that a node takes. GPUs are left to those who need them."""
    machines = kata_cluster.listed(nodes, "nodes")
    return [kata_pod.pod(row, image, namespace, machines) for row in rows if row["nodes"] and row["device"] == "cpu"]


def judged(rows: t.Any, made: t.Any) -> dict[str, t.Any]:
    """The classes with what their pods showed."""
    by_class = {kata_cluster.path(one, "spec", "runtimeClassName"): kata_pod.judge(one) for one in kata_cluster.listed(made, "pods")}
    found = [{**row, "pod": by_class[row["class"]]["outcome"], "pod_detail": by_class[row["class"]]["detail"]} if row["class"] in by_class else dict(row)
             for row in rows]  # fmt: skip
    return {"classes": found, "settled": all(one["outcome"] != "waits" for one in by_class.values()),
            "failed": ["%s: %s" % (row["class"], row["pod_detail"]) for row in found if row["pod"] in ("fail", "waits")]}  # fmt: skip


def node_files(dump: str) -> dict[str, list[str]]:
    """What has to be read on a node to judge it."""
    there = kata_node.handlers(str(dump))
    return {"read": sorted({one.config for one in there if one.config}), "folders": sorted({one.config_dir for one in there if one.config}),
            "stat": sorted({one.runtime_path for one in there if one.runtime_path})}  # fmt: skip


def node(given: t.Any, facts: t.Any) -> list[dict[str, t.Any]]:
    options, found = _options(given), Findings()
    wanted = chosen(options["shims"], found) if options["shims"] else []
    for one in found.refusals:
        raise KataError(one.what, where="shims", fix=one.fix)
    looked = wanted or [values.shims()[one.name[len("kata-"):]] for one in kata_node.handlers(facts["dump"]) if one.name[len("kata-"):] in values.shims()]
    given_for = {name: row for name, row in options["annotations"].items() if name in {shim.name for shim in looked}}
    return kata_node.look(wanted, values.allowlist(looked, given_for, found), facts, options["accept_advisories"])


def imports(text: str, target: str, where: str, present: bool, effective: str = "") -> dict[str, t.Any]:
    """``effective``: of ``containerd config dump``, which tells what containerd reads without a word in its file."""
    if present:
        kata_imports.fits(text, where)
    if present and kata_imports.covers(effective, target, where):
        return {"before": text, "after": text, "changed": False}
    edit = (kata_imports.added if present else kata_imports.removed)(text, target, where)
    return {"before": edit.before, "after": edit.after, "changed": edit.needed}


def drop_in(given: t.Any) -> dict[str, t.Any]:
    """For a node: shims with their places in the release, and what their configuration shall be."""
    options, found = _options(given), Findings()
    wanted = chosen(options["shims"], found)
    allowed = values.allowlist(wanted, options["annotations"], found)
    advisories(options["version"], wanted, options["accept_advisories"], found)
    prefix, rows = known()["annotation_prefix"], []
    for shim in wanted:
        place = "share/defaults/kata-containers/" + ("runtime-rs/" if shim.rust else "")
        rows.append({"name": shim.name, "handler": shim.handler, "tee": shim.tee, "shim": ("runtime-rs/" if shim.rust else "") + "bin/containerd-shim-kata-v2",
                     "config": "%sconfiguration-%s.toml" % (place, shim.name), "annotations": [prefix + one for one in allowed[shim.name]],
                     "drop_in": values.drop_in(shim, allowed[shim.name]) + _guest_pull(shim)})  # fmt: skip
    return {"shims": rows, "refusals": [one.to_dict() for one in found.refusals], "notes": found.notes}


def _guest_pull(shim: t.Any) -> str:
    """A node of its own has no snapshotter for guests: they are told to pull themselves."""
    if not shim.guest_pull:
        return ""
    return '[runtime]\nexperimental = ["force_guest_pull"]\n' if shim.rust else "[runtime]\nexperimental_force_guest_pull = true\n"


def platform_plan(key: str, tees: t.Any, rust: bool) -> dict[str, t.Any]:
    """Whether a chart brings it, and then with which shims."""
    classes = [one.name for one in coco.offers(key, tees)]
    return {"by_chart": coco.by_chart(key), "shims": coco.shims(key, tees, rust) if coco.by_chart(key) else [], "classes": classes}


def platform_state(key: str, tees: t.Any, classes: t.Any, nodes: t.Any) -> dict[str, t.Any]:
    rows, checks = coco.look(key, tees, kata_cluster.listed(classes, "runtime_classes"), kata_cluster.listed(nodes, "nodes"))
    return {"classes": rows, "checks": checks, "failed": [one for one in checks if one["outcome"] == "fail"]}
