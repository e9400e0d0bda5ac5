# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""model_image: runs on the controller, whatever the host of the task."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.attested.ai.plugins.module_utils.ocicrypt import layout, models, reference, tarlayer
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt.problem import ImageError
from ansible_collections.attested.ai.plugins.plugin_utils.image_action import ImageAction

ARGUMENT_SPEC: dict[str, dict[str, t.Any]] = {
    "src": {"type": "path", "required": True},
    "dest": {"type": "str", "required": True},
    "kind": {"type": "str", "choices": ["image", "modelpack"], "default": "image"},
    "path": {"type": "str", "default": "/models"},
    "base": {"type": "str"},
    "architecture": {"type": "str", "default": "amd64"},
    "split_size": {"type": "int", "default": tarlayer.SPLIT},
}


class ActionModule(ImageAction):
    argument_spec = ARGUMENT_SPEC

    def work(self, options: dict[str, t.Any]) -> dict[str, t.Any]:
        src = self.local(options["src"])
        dest = self._layout(options["dest"], "dest", written=True)
        if os.path.commonpath([src, dest.place]) in (src, dest.place):
            raise ImageError("the layout and the model lie in each other", where=f"dest {dest.place}", code="image-dest")
        draft = self._draft(options, src)
        there = layout.find(dest.place, dest.tag)
        changed = not draft.complete_at(dest.place, dest.tag)
        if changed and not self._task.check_mode:
            draft.write(dest.place, dest.tag)
        result: dict[str, t.Any] = {
            "changed": changed,
            "digest": draft.digest,
            "layers": len(draft.inherited) + len(draft.contents),
            "bytes": sum(content.layer.size for content in draft.contents),
            "encrypted": options["kind"] == "modelpack",
        }
        if self._task.diff:
            header = {"before_header": str(dest), "after_header": str(dest)}
            result["diff"] = [{**header, "before": _listing(there), "after": _listing(draft.raw)}]
        return result

    def _draft(self, options: dict[str, t.Any], src: str) -> models.Draft:
        if options["kind"] == "modelpack":
            given = [name for name in ("path", "base", "split_size", "architecture") if self._task.args.get(name) is not None]
            if given:
                raise ImageError(f"a ModelPack artifact has no {given[0]}", where=given[0], code="image-options")
            return models.artifact(src)
        if options["split_size"] < 1:
            raise ImageError("it is at least one byte", where="split_size", code="image-options")
        if not re.fullmatch(r"[a-z0-9]{1,32}", options["architecture"]):
            raise ImageError("it is no architecture as Go names them, such as amd64 and arm64", where="architecture", code="image-options")
        base = None
        if options["base"]:
            found = self._layout(options["base"], "base")
            raw = layout.find(found.place, found.tag)
            if raw is None:
                fix = "Fetch it: skopeo copy docker://HOST/NAME:TAG oci:FOLDER:TAG"
                raise ImageError("there is no such image", where=str(found), fix=fix, code="image-base")
            if layout.is_list(layout.parse(raw, str(found))):
                raw = layout.read_blob(found.place, layout.choose(raw, options["architecture"], str(found)))
            base = (found.place, raw)
        return models.container(src, options["path"], options["architecture"], base, options["split_size"])

    def _layout(self, text: str, where: str, written: bool = False) -> reference.Reference:
        found = reference.parse(text, where, self.local, written)
        if not found.local:
            raise ImageError("it is no layout on this machine", where=where, fix="Name oci:FOLDER:TAG, and copy to or from registries with skopeo",
                             code="image-reference")  # fmt: skip
        return found


def _listing(raw: bytes | None) -> str:
    """Kinds, sizes, and names where they are no secret anyway."""
    if raw is None:
        return ""
    lines = [f"manifest {layout.digest_of(raw)}"]
    with_layers = layout.parse(raw, "image").get("layers") or []
    for number, layer in enumerate(with_layers):
        found = layout.descriptor(layer, "image")
        lines.append(f"layer {number}: {found.media_type} {found.size} bytes {found.annotations.get(models.FILE_PATH, '')}".rstrip())
    return "\n".join(lines) + "\n"
