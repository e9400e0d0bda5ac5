# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""image_encrypt: runs on the controller, whatever the host of the task."""

from __future__ import annotations

import os
import typing as t

from ansible.errors import AnsibleError
from ansible.parsing.vault import is_encrypted
from ansible.utils.display import Display
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.secretfile import SECRET_MAX, read_secret
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt import layout, packet, reference
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt.problem import ImageError
from ansible_collections.attested.ai.plugins.plugin_utils.image_action import ImageAction
from ansible_collections.attested.ai.plugins.plugin_utils.image_task import Plan, Request, carry_out, make_plan
from ansible_collections.attested.ai.plugins.plugin_utils.skopeo import Skopeo

DISPLAY = Display()
ARGUMENT_SPEC: dict[str, dict[str, t.Any]] = {
    "src": {"type": "str", "required": True},
    "dest": {"type": "str", "required": True},
    # The name of a key and the path of its file, no key.
    "key": {"type": "str", "required": True, "no_log": False},
    "key_file": {"type": "path", "required": True, "no_log": False},
    "architecture": {"type": "str", "default": "amd64"},
    "verify": {"type": "str", "choices": ["manifest", "content"], "default": "manifest"},
    "replace": {"type": "bool", "default": False},
    "policy": {"type": "path"},
    "authfile": {"type": "path"},
    "cert_dir": {"type": "path"},
    "tls_verify": {"type": "bool", "default": True},
    "skopeo": {"type": "str", "default": "skopeo"},
    "work_path": {"type": "path"},
    "timeout": {"type": "int", "default": 3600},
}


class ActionModule(ImageAction):
    argument_spec = ARGUMENT_SPEC

    def work(self, options: dict[str, t.Any]) -> dict[str, t.Any]:
        if not 1 <= options["timeout"] <= 7 * 86400:
            raise ImageError("it is 1 second to 7 days", where="timeout", code="image-options")
        request = Request(
            source=reference.parse(options["src"], "src", self.local),
            dest=reference.parse(options["dest"], "dest", self.local, written=True),
            kid=packet.check_kid(options["key"], "key"),
            key=self._key(options["key_file"]),
            architecture=options["architecture"],
            policy=self._optional(options["policy"]) or "",
            work=self._optional(options["work_path"]),
            content=options["verify"] == "content",
            replace=options["replace"],
        )
        name = options["skopeo"]
        skopeo = Skopeo.find(
            self.local(name) if "/" in name else name,
            authfile=self._optional(options["authfile"]) or "",
            cert_dir=self._optional(options["cert_dir"]) or "",
            tls_verify=options["tls_verify"],
            timeout=options["timeout"],
        )
        try:
            plan = make_plan(request, skopeo)
        except ImageError as error:
            if not self._task.check_mode or error.code != "image-source-missing" or not request.source.local:
                raise
            DISPLAY.warning(f"{error}. Without check mode a task before this one has to make it")
            told = {"key": request.kid, "source": str(request.source), "skopeo_version": skopeo.version}
            return {"changed": True, "reason": "the source is not there yet", **told}
        image = carry_out(request, plan, skopeo) if plan.changed and not self._task.check_mode else None if plan.changed else plan.before
        result = _result(request, plan, image, skopeo)
        if self._task.diff:
            header = {"before_header": str(request.dest), "after_header": str(request.dest)}
            result["diff"] = [{**header, "before": _listing(plan.before), "after": _wanted(request, plan)}]
        return result

    def _key(self, path: str) -> bytes:
        """Exactly the bytes that kbs_resource stores. What Ansible Vault holds is decrypted in memory only."""
        found = self.local(path)
        if self._task.check_mode and not os.path.lexists(found):
            DISPLAY.warning(f"key_file {found}: there is no key. Without check mode a task before this one has to make it")
            # Any key will do: what is made with one that is not there yet opens nothing that is.
            return os.urandom(packet.KEY_SIZE)
        try:
            with open(found, "rb") as stream:
                vaulted = is_encrypted(stream.read(len(b"$ANSIBLE_VAULT")))
        except OSError:
            vaulted = False
        if not vaulted:
            return packet.check_key(read_secret(found, "key"))
        try:
            with open(found, "rb") as stream:
                return packet.check_key(self._loader._vault.decrypt(stream.read(SECRET_MAX)))
        except (AnsibleError, OSError) as error:
            raise ImageError("it cannot be decrypted: %s" % " ".join(str(error).split())[:200], where=f"key_file {path}", code="image-key") from None

    def _optional(self, path: str | None) -> str | None:
        return self.local(path) if path else None


def _result(request: Request, plan: Plan, image: layout.Image | None, skopeo: Skopeo) -> dict[str, t.Any]:
    result: dict[str, t.Any] = {"changed": plan.changed, "reason": plan.reason, "key": request.kid, "layers": len(plan.source.layers),
                                "source": str(plan.pinned), "skopeo_version": skopeo.version}  # fmt: skip
    if image is not None:
        result.update(digest=image.digest, bytes=sum(layer.size for layer in image.layers), encrypted=True)
        if not request.dest.local:
            result["image"] = f"{request.dest.place}@{image.digest}"
    return result


def _listing(image: layout.Image | None) -> str:
    if image is None:
        return ""
    return "".join(f"layer {number}: {layer.media_type} {layer.size} bytes\n" for number, layer in enumerate(image.layers))


def _wanted(request: Request, plan: Plan) -> str:
    """Kinds and sizes: encryption keeps the sizes. No digest of the plain image, which a log would keep."""
    if not plan.changed:
        return _listing(plan.before)
    kinds = {"tar": "tar", "gzip": "tar+gzip"}
    lines = []
    for number, layer in enumerate(plan.source.layers):
        kind = kinds["gzip" if layer.media_type.endswith("gzip") else "tar"]
        lines.append(f"layer {number}: application/vnd.oci.image.layer.v1.{kind}+encrypted {layer.size} bytes\n")
    return "".join(lines)
