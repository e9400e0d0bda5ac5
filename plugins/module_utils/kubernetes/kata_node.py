# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What containerd and Kata of a node say: which handlers there are, where they lead, and which annotations of pods get through to them."""

from __future__ import annotations

import fnmatch
import os
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.kubernetes.findings import Findings
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.kata import KataError, Shim, advisories, below, known, shims
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.kata_cluster import check, path

# By the version of containerd's configuration.
_RUNTIMES = (("io.containerd.cri.v1.runtime", "containerd", "runtimes"), ("io.containerd.grpc.v1.cri", "containerd", "runtimes"))
_GLOB = re.compile(r"[*?\[\\]")


@dataclass(frozen=True)
class Handler:
    """One of Kata's entries in containerd's configuration."""

    name: str
    config: str
    runtime_path: str
    snapshotter: str
    forwarded: Tuple[str, ...]

    @property
    def config_dir(self) -> str:
        return os.path.join(os.path.dirname(self.config), "config.d")


def toml(text: str, where: str) -> Dict[str, Any]:
    """The controller has Python 3.11 and more. Raises KataError."""
    import tomllib

    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise KataError("it is no TOML: %s" % error, where=where, fix="Correct the file") from None


def containerd_version(text: Any) -> str:
    """Of ``containerd --version``. Raises KataError."""
    match = re.search(r"\sv?(\d+\.\d+\.\d+[^\s]*)", str(text))
    if match is None:
        raise KataError("containerd does not say its version: %s" % ascii(text)[:100], where="containerd --version")
    return match.group(1)


def handlers(dump: str) -> List[Handler]:
    """Kata's, of ``containerd config dump``. Raises KataError."""
    document = toml(dump, "containerd config dump")
    found = []
    for place in _RUNTIMES:
        table = path(document, "plugins", *place)
        for name, row in (table.items() if isinstance(table, Mapping) else ()):
            if not isinstance(row, Mapping) or not (str(name).startswith("kata") or str(row.get("runtime_type", "")).startswith("io.containerd.kata")):
                continue
            annotations = row.get("pod_annotations") or []
            found.append(Handler(str(name), str(path(row, "options", "ConfigPath") or ""), str(row.get("runtime_path") or ""),
                                 str(row.get("snapshotter") or ""), tuple(str(one) for one in annotations)))  # fmt: skip
    return sorted(found, key=lambda one: one.name)


def enabled(handler: Handler, files: Mapping[str, str]) -> List[Tuple[str, Tuple[str, ...]]]:
    """(hypervisor, annotations that Kata takes), as the file and those laid over it say together. Later ones win, as a whole."""
    found: Dict[str, Tuple[str, ...]] = {}
    over = sorted(name for name in files if os.path.dirname(name) == handler.config_dir)
    for name in [handler.config, *over]:
        for hypervisor, row in (path(toml(files[name], name), "hypervisor") or {}).items():
            if isinstance(row, Mapping) and "enable_annotations" in row:
                found[hypervisor] = tuple(str(one) for one in row["enable_annotations"])
            else:
                found.setdefault(hypervisor, ())
    return sorted(found.items())


def look(wanted: Sequence[Shim], allowed: Mapping[str, Sequence[str]], facts: Mapping[str, Any], accepted: Mapping[str, str]) -> List[Dict[str, Any]]:
    """Checks. Without ``wanted``, whatever is there is looked at. ``facts``: containerd, dump, files, release. Raises KataError."""
    release, files = str(facts.get("release", "")).strip(), facts["files"]
    running = containerd_version(facts["containerd"])
    floors, there = known()["containerd"], {one.name: one for one in handlers(facts["dump"])}
    checks = [check("kata.containerd", not below(running, floors["floor"]), "containerd %s" % running, "Take containerd %s" % floors["recommended"])]
    looked = list(wanted) or [shims()[name[len("kata-"):]] for name in there if name.startswith("kata-") and name[len("kata-"):] in shims()]
    gone = [shim.handler for shim in looked if shim.handler not in there]
    checks.append(check("kata.handlers", bool(looked) and not gone, "containerd has %s" % (", ".join(there) or "no handler of Kata's"),
                        "Missing are %s. Was containerd started again after Kata was installed?" % (", ".join(gone) or "all")))  # fmt: skip
    stale = sorted(set(there) - {shim.handler for shim in looked})
    checks.append(check("kata.handlers-stale", not stale, "handlers that nobody asked for: %s" % ", ".join(stale) if stale else "there is no other handler",
                        "An upgrade left them (Kata below %s does), or somebody added them; no runtime class should lead there. Remove them from"
                        " containerd's configuration, or install Kata again" % known()["stale_handlers_below"]))  # fmt: skip
    for shim in looked:
        if shim.handler in there:
            checks += _handler(shim, allowed[shim.name], there[shim.handler], files, set(facts.get("present", [])))
    if release:
        found = Findings()
        advisories(release, looked, accepted, found)
        checks.append(check("kata.release", not found.refusals, "; ".join([one.what for one in found.refusals] + found.notes) or "Kata %s" % release,
                            " ".join(one.fix for one in found.refusals)))  # fmt: skip
    return checks


def _handler(shim: Shim, allowed: Sequence[str], handler: Handler, files: Mapping[str, str], present: Any) -> List[Dict[str, Any]]:
    prefix, init_data = known()["annotation_prefix"], known()["init_data"]
    code = "kata.%s." % shim.name
    broken = [name for name in (handler.config, handler.runtime_path) if not name or (name not in files and name not in present)]
    if broken:
        return [check(code + "files", False, "%s leads to what is not there: %s" % (handler.name, ", ".join(broken) or "nothing"),
                      "Half removed: install Kata again, or remove the handler")]  # fmt: skip
    names = {prefix + one for one in allowed}
    wide = sorted(one for one in handler.forwarded if _GLOB.search(one) or one not in names)
    checks = [check(code + "forwarded", not wide, "containerd hands over %s" % (", ".join(handler.forwarded) or "no annotation"),
                    "Not wanted: %s. Any pod can set them; somebody widened it, or Kata is below 4.3 and its file comes last"
                    % ", ".join(wide)[:300])]  # fmt: skip
    taken = enabled(handler, files)
    open_ = sorted({one for _name, row in taken for one in row if one not in allowed})
    risks = ["%s: %s" % (one, known()["dangerous_annotations"][one]) for one in open_ if one in known()["dangerous_annotations"]]
    wanted = ", ".join(open_) or "its configuration names no hypervisor"
    checks.append(check(code + "annotations", not open_ and bool(taken),
                        "Kata takes %s" % (", ".join(sorted({one for _name, row in taken for one in row})) or "none"),
                        "Not wanted: %s%s. Set enable_annotations in %s"
                        % (wanted, " (%s)" % "; ".join(risks) if risks else "", handler.config_dir)))  # fmt: skip
    if shim.coco:
        through = any(fnmatch.fnmatchcase(prefix + init_data, one) for one in handler.forwarded) and any(init_data in row for _name, row in taken)
        checks.append(check(code + "init-data", through, "init-data %s its guests" % ("reaches" if through else "does not reach"),
                            "%s%s must be in pod_annotations, and %s in enable_annotations" % (prefix, init_data, init_data)))  # fmt: skip
    return checks
