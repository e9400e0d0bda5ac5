# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From what is wanted of Kata to the values of its chart. Each shim is named with all that the chart's own defaults may lose."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.kubernetes.findings import Findings
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.kata import KataError, Shim, below, known, shims

_DIGEST = re.compile(r"[a-z0-9][a-zA-Z0-9./_:-]*@sha256:[0-9a-f]{64}\Z")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}\Z")
_ANNOTATION = re.compile(r"[a-z0-9_]{1,64}\Z")
# Decided here, so that nobody's further values open what was closed.
_OURS = ("shims", "debug", "devkit", "image", "kubectlImage", "job", "deploymentMode", "k8sDistribution", "nodeSelector", "tolerations", "runtimeClasses",
         "node-feature-discovery", "snapshotter", "env", "customRuntimes", "containerd", "defaultShim")  # fmt: skip


@dataclass(frozen=True)
class Wish:
    """An installation of Kata on a cluster. ``annotations`` are those that pods may set, by shim; ``release`` is Kata's, not the chart's."""

    chart: str
    release: str
    shims: Tuple[Shim, ...]
    annotations: Mapping[str, Tuple[str, ...]]
    images: Mapping[str, str]
    allow_tags: bool
    distribution: str
    mode: str
    node_selector: Mapping[str, str]
    tolerations: Tuple[Mapping[str, Any], ...]
    nfd: bool
    guest_pull: str
    extra: Mapping[str, Any]


def allowlist(wanted: Sequence[Shim], given: Any, found: Findings) -> Dict[str, Tuple[str, ...]]:
    """Annotations by shim. Without a word: init-data where guests take it, and nothing else."""
    if not isinstance(given, Mapping):
        raise KataError("it is no dictionary of shims and annotations", where="annotations")
    listed: Dict[str, Tuple[str, ...]] = {shim.name: (known()["init_data"],) if shim.coco else () for shim in wanted}
    for name, names in given.items():
        if name not in listed:
            raise KataError("%s is none of the shims that are installed" % ascii(name)[:60], where="annotations")
        if not isinstance(names, (list, tuple)) or not all(isinstance(one, str) and _ANNOTATION.match(one) for one in names):
            raise KataError("it is no list of names such as cc_init_data; patterns are not taken", where="annotations.%s" % name)
        listed[name] = tuple(sorted(set(names)))
        for one in listed[name]:
            why = known()["dangerous_annotations"].get(one)
            if why and (shims()[name].coco or one != "kernel_params"):
                found.refuse("annotation-dangerous", "the annotation %s of %s: %s" % (one, name, why),
                             "Leave it out; init-data is the way to configure guests")  # fmt: skip
            elif why:
                found.note("The annotation %s of %s: %s" % (one, name, why))
        if shims()[name].coco and known()["init_data"] not in listed[name]:
            found.refuse("init-data-closed", "without the annotation %s guests of %s take no init-data, and can prove nothing to a KBS"
                         % (known()["init_data"], name), "Add it")  # fmt: skip
    return listed


def drop_in(shim: Shim, allowed: Sequence[str]) -> str:
    """Kata's own configuration, laid over what the release ships: the chart's allowedHypervisorAnnotations only adds to that."""
    return "[hypervisor.%s]\nenable_annotations = [%s]\n" % (shim.hypervisor, ", ".join('"%s"' % one for one in allowed))


def containerd_drop_in(wanted: Sequence[Shim], allowed: Mapping[str, Sequence[str]]) -> str:
    """Which annotations containerd hands to a shim. kata-deploy 4.1 hands over io.katacontainers.*, and reads this file after its own."""
    prefix = known()["annotation_prefix"]
    parts = []
    for shim in wanted:
        names = ", ".join('"%s%s"' % (prefix, one) for one in allowed[shim.name])
        parts.append("[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.%s]\n  pod_annotations = [%s]\n" % (shim.handler, names))
    return "".join(parts)


def images(wish: Wish, found: Findings) -> Dict[str, Any]:
    values: Dict[str, Any] = {}
    for name, row in known()["images"].items():
        if row.get("mode", wish.mode) != wish.mode:
            continue
        given = wish.images.get(name, "")
        if given and _DIGEST.match(given):
            place = values
            for key in row["at"][:-1]:
                place = place.setdefault(key, {})
            place[row["at"][-1]] = {"reference": given, "tag": ""}
        elif given:
            found.refuse("image-tag", "images.%s is %s, and no reference by digest" % (name, ascii(given)[:100]), "Give it as %s@sha256:..." % row["reference"])
        elif wish.allow_tags:
            found.note("The image %s is taken by a tag that its registry can move (it %s)" % (row["reference"], row["use"]))
        else:
            found.refuse("image-not-pinned", "the image %s, which %s, would be taken by a tag" % (row["reference"], row["use"]),
                         "Give images.%s as %s@sha256:... (skopeo inspect shows the digest), or set allow_image_tags" % (name, row["reference"]))  # fmt: skip
    for name in wish.images:
        if name not in known()["images"]:
            raise KataError("%s is no image of the chart" % ascii(name)[:60], where="images", fix="Known are %s" % ", ".join(known()["images"]))
    return values


def values_of(wish: Wish, found: Findings) -> Dict[str, Any]:
    """The chart's values, below the key of the sub-chart where it is one."""
    table: Dict[str, Any] = {"disableAll": True}
    for shim in wish.shims:
        row: Dict[str, Any] = {"enabled": True, "supportedArches": list(shim.arches), "allowedHypervisorAnnotations": list(wish.annotations[shim.name]),
                               "containerd": {"snapshotter": shim.snapshotter}, "dropIn": drop_in(shim, wish.annotations[shim.name])}  # fmt: skip
        if shim.guest_pull:
            forced = wish.guest_pull == "forced"
            row["containerd"] = {"snapshotter": "" if forced else shim.snapshotter, "forceGuestPull": forced}
            row["crio"] = {"guestPull": True}
            row["agent"] = {"httpsProxy": "", "noProxy": ""}
        selector = _selector(shim)
        if selector:
            row["runtimeClass"] = {"nodeSelector": selector}
        table[shim.name] = row
    values: Dict[str, Any] = {
        "deploymentMode": wish.mode, "debug": False, "k8sDistribution": wish.distribution, "shims": table,
        "snapshotter": {"setup": sorted({row.snapshotter for row in wish.shims if row.snapshotter == "nydus"}) if wish.guest_pull != "forced" else []},
        # No class without a name of its own: what somebody calls kata shall not change with the chart.
        "runtimeClasses": {"enabled": True, "createDefault": False}, "defaultShim": {arch: "" for arch in ("amd64", "arm64", "s390x", "ppc64le")},
        "node-feature-discovery": {"enabled": wish.nfd}, "nodeSelector": dict(wish.node_selector), "tolerations": [dict(one) for one in wish.tolerations],
        "containerd": {"userDropIn": containerd_drop_in(wish.shims, wish.annotations)},
    }  # fmt: skip
    values.update(images(wish, found))
    return _with_extra(wish, values, found)


def _selector(shim: Shim) -> Dict[str, str]:
    """Where its pods may go. The chart's own defaults for these shims leave it from 4.2 on, and without NFD it sets none for TEEs."""
    from ansible_collections.attested.ai.plugins.module_utils.kubernetes.platforms import table

    labels: Dict[str, str] = {}
    document = table("platforms")
    if shim.device == "gpu":
        labels.update(document["gpu"]["ready"] if shim.tee != "vm" else {key: "false" for key in document["gpu"]["ready"]})
    labels.update(document["labels"].get(shim.tee, {}))
    if shim.tee == "se":
        labels["feature.node.kubernetes.io/cpu-security.se.enabled"] = "true"
    return labels


def _with_extra(wish: Wish, values: Dict[str, Any], found: Findings) -> Dict[str, Any]:
    """Further values are those of the chart that is installed, beside Kata's where that is one inside it."""
    under = known()["charts"][wish.chart]["under"]
    ours = tuple(under) or _OURS
    for name in reversed(under):
        values = {name: values}
    for name in wish.extra:
        if name in ours:
            found.refuse("value-decided", "the value %s of the chart is decided by the role" % name,
                         "Use the role's variables, and take it out of extra_values")  # fmt: skip
    return {**values, **{name: value for name, value in wish.extra.items() if name not in ours}}


def floor(wish: Wish, chart_version: str, found: Findings) -> None:
    row = known()["charts"][wish.chart]
    if below(chart_version, row["floor"], "version"):
        found.refuse("chart-too-old", "the chart %s is below %s. %s" % (chart_version, row["floor"], row["why"]), "Take %s or later" % row["floor"])
    elif chart_version not in row["read"]:
        found.note("The values were checked against the charts of Kata %s, not against %s" % (" and ".join(known()["charts"]["kata"]["read"]), chart_version))


def installed_shims(values: Any, chart: str) -> List[str]:
    """Those that a release has, from its values."""
    for name in known()["charts"][chart]["under"]:
        values = values.get(name) if isinstance(values, Mapping) else None
    table = values.get("shims") if isinstance(values, Mapping) else None
    if not isinstance(table, Mapping):
        return []
    everything = not table.get("disableAll")
    return sorted(str(name) for name, row in table.items()
                  if isinstance(row, Mapping) and (row.get("enabled") is True or (everything and row.get("enabled") is None)))  # fmt: skip


def is_name(text: Any) -> bool:
    return isinstance(text, str) and _NAME.match(text) is not None
