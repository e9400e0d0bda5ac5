# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""model_encrypt: runs on the controller, whatever the host of the task."""

from __future__ import annotations

import datetime
import os
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, ModelError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwe, signingkey
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import load_public_ec, public_jwk
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import profiles, progress, tree
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.encrypt import encrypt, refresh_state
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import FILES, PROFILES, Manifest
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.plan import Keys, Plan, Request, make_plan
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.segments import DEFAULT_SEGMENT
from ansible_collections.attested.ai.plugins.plugin_utils.action_failure import failure_as_result
from ansible_collections.attested.ai.plugins.plugin_utils.key_source import KekSource
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import local_path
from ansible_collections.attested.ai.plugins.plugin_utils import openssf_signature

ARGUMENT_SPEC: dict[str, dict[str, t.Any]] = {
    "src": {"type": "path", "required": True},
    "dest": {"type": "path", "required": True},
    "model_id": {"type": "str", "required": True},
    "release": {"type": "int", "required": True},
    # Places of keys, not keys: masking them would only hide which key was used.
    "kek": {"type": "raw", "required": True, "no_log": False},
    "create_kek": {"type": "bool", "default": False, "no_log": False},
    "signing_key": {"type": "path", "required": True, "no_log": False},
    "create_signing_key": {"type": "bool", "default": False, "no_log": False},
    "openssf_key": {"type": "path", "no_log": False},
    "recipients": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"kid": {"type": "str", "required": True}, "jwk": {"type": "raw", "required": True}},
    },
    "key_uris": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "profile": {"type": "str", "choices": list(PROFILES), "default": FILES},
    "segment_size": {"type": "int", "default": DEFAULT_SEGMENT},
    "threads": {"type": "int"},
    "verify": {"type": "str", "choices": ["stat", "content"], "default": "stat"},
    "replace": {"type": "bool", "default": False},
}


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    @failure_as_result
    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        _validated, options = self.validate_argument_spec(ARGUMENT_SPEC)
        try:
            result.update(self._encrypt(options))
        except AttestedError as error:
            raise AnsibleActionFail(str(error), result={"code": error.code}) from None
        return result

    def _encrypt(self, options: dict[str, t.Any]) -> dict[str, t.Any]:
        check = bool(self._task.check_mode)
        request = Request(
            src=self._local(options["src"]),
            dest=self._local(options["dest"]),
            model_id=options["model_id"],
            release=options["release"],
            segment_size=options["segment_size"],
            threads=options["threads"] or min(8, os.cpu_count() or 1),
            verify=options["verify"],
            replace=options["replace"],
            key_uris=tuple(options["key_uris"]),
            profile=options["profile"],
        )
        openssf_key = self._local(options["openssf_key"]) if options["openssf_key"] else None
        if openssf_key is not None:
            openssf_signature.require_library()
        keys, made = self._keys(options, check)
        meter = progress.Throttle(lambda *counters: Display().display(progress.line(request.model_id, *counters)))
        plan = make_plan(request, keys, meter)
        manifest = plan.before if not plan.changed else None
        unsigned = ""
        if openssf_key is not None and not plan.changed:
            unsigned = openssf_signature.problem(request.dest, openssf_key, request.verify == "content")
        if not check and keys is not None:
            if plan.changed:
                now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
                manifest = encrypt(plan, keys, now, meter, _signer(openssf_key))
            elif plan.stale_state:
                refresh_state(plan, keys)
            if unsigned and openssf_key is not None:
                openssf_signature.sign(request.dest, openssf_key)
        return self._result(plan, manifest, keys, made, unsigned)

    def _result(self, plan: Plan, manifest: Manifest | None, keys: Keys | None, made: list[str], unsigned: str) -> dict[str, t.Any]:
        request = plan.request
        result: dict[str, t.Any] = {
            "changed": plan.changed or bool(made) or bool(unsigned),
            "reason": unsigned or plan.reason,
            "manifest_path": os.path.join(request.dest, tree.MANIFEST),
            "model_id": request.model_id,
            "release": request.release,
            "profile": request.profile,
            "files": len(plan.files),
            "bytes": sum(file.size for file in plan.files),
            "ciphertext_bytes": profiles.ciphertext_size(request.profile, request.segment_size, plan.files),
            "keys_created": made,
        }
        if manifest is not None:
            published = [*manifest.ciphertexts, tree.MANIFEST, tree.SIGNATURE]
            beside = os.path.lexists(os.path.join(request.dest, tree.BESIDE))
            result.update(key_id=manifest.key_id, manifest_sha256=manifest.digest(), published=published + [tree.BESIDE] * beside)
        if keys is not None:
            result["signer"] = public_jwk(keys.signer)
        if self._task.diff:
            result["diff"] = [_diff(plan)]
        return result

    def _keys(self, options: dict[str, t.Any], check: bool) -> tuple[Keys | None, list[str]]:
        """The keys, and which of them were made. In check mode none is made: then there are no keys if one is missing."""
        source, signing_key = KekSource(self, options["kek"]), self._local(options["signing_key"])
        openssf_key = self._local(options["openssf_key"]) if options["openssf_key"] else None
        for name, path in (("kek", source.path), ("signing_key", signing_key), ("openssf_key", openssf_key)):
            for place in (self._local(options["src"]), self._local(options["dest"])):
                if path is not None and os.path.commonpath([path, place]) == place:
                    fix = "Keep it elsewhere: what lies there is handed out with the model, and replaced with it"
                    raise ModelError("the key lies in the model", where=f"{name} {path}", fix=fix, code="model-key-place")
        places = {"kek": source.name, "signing_key": signing_key}
        missing = [name for name, there in (("kek", source.exists()), ("signing_key", os.path.lexists(signing_key))) if not there]
        for name in missing:
            if not options[f"create_{name}"]:
                raise ModelError("there is no such key", where=f"{name} {places[name]}", fix=f"Set create_{name}: true to have one made", code="model-no-key")
        made = [places[name] for name in missing]
        if missing and check:
            return None, made
        signer = signingkey.create_signing_key(signing_key) if "signing_key" in missing else signingkey.load_signing_key(signing_key)
        kek = source.create() if "kek" in missing else source.load(lambda: signer.private_numbers().private_value.to_bytes(32, "big"))
        return Keys(kek, signer, tuple(self._recipient(entry) for entry in options["recipients"])), made

    def _recipient(self, entry: dict[str, t.Any]) -> jwe.Recipient:
        jwk, where = entry["jwk"], f"recipient {entry['kid']}"
        if isinstance(jwk, str):
            try:
                with open(self._local(jwk), "rb") as stream:
                    jwk = strict.loads(stream.read(1 << 16), where)
            except OSError as error:
                raise ModelError(f"its key cannot be read ({error.strerror})", where=where) from None
        return jwe.Recipient(entry["kid"], "ECDH-ES+A256KW", load_public_ec(jwk, where=where))

    def _local(self, path: str) -> str:
        return local_path(self, path)


def _signer(key: str | None) -> t.Callable[[str], None] | None:
    return None if key is None else lambda directory: openssf_signature.sign(directory, key)


def _diff(plan: Plan) -> dict[str, str]:
    """Names and sizes, before and after: the diff shows no content."""
    before = plan.before
    after = {file.path: file.size for file in plan.files}
    return {
        "before_header": plan.request.dest,
        "after_header": plan.request.dest,
        "before": _listing(before.model_id, before.release, {entry.path: entry.size for entry in before.files}) if before is not None else "",
        "after": _listing(plan.request.model_id, plan.request.release, after),
    }


def _listing(model_id: str, release: int, sizes: dict[str, int]) -> str:
    lines = [f"{model_id} release {release}"] + [f"{path} {size} bytes" for path, size in sizes.items()]
    return "\n".join(lines) + "\n"
