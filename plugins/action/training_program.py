# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""training_program: the files of an image that runs one job of several owners by itself, for the role guest_image."""

from __future__ import annotations

import hashlib
import os
import stat
import typing as t

from ansible_collections.attested.ai.plugins import module_utils
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.secretfile import replace_file
from ansible_collections.attested.ai.plugins.module_utils.modelserver.bundle import PACKAGE, build
from ansible_collections.attested.ai.plugins.module_utils.training.options import SETTINGS
from ansible_collections.attested.ai.plugins.module_utils.training.settings import settings_bytes
from ansible_collections.attested.ai.plugins.plugin_utils.controller_action import ControllerAction
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import content

UNIT: t.Final = "attested-training.service"
MOUNT: t.Final = "run-attested-training.mount"
# They are no secret, and are measured by whoever likes to.
MODE: t.Final = 0o644
PROGRAM: t.Final = "/usr/lib/attested-ai/training.pyz"
# What the mount is for: /run itself is small.
DIRECTORY: t.Final[dict[str, t.Any]] = {"type": "path", "default": "/run/attested/training"}


class ActionModule(ControllerAction):
    _supports_check_mode = True
    _supports_diff = True
    argument_spec: t.ClassVar[dict[str, dict[str, t.Any]]] = {**SETTINGS, "directory": DIRECTORY, "dest": {"type": "path", "required": True}}

    def work(self, options: dict[str, t.Any]) -> dict[str, t.Any]:
        folder = self.local(options["dest"])
        files = {path: (os.path.join(folder, os.path.basename(path)), data) for path, data in contents(options).items()}
        differ = {path: before for path, (place, data) in files.items() if (before := content(place)) != data or stat.S_IMODE(os.stat(place).st_mode) != MODE}
        if differ and not self._task.check_mode:
            os.makedirs(folder, exist_ok=True)
            for path in differ:
                replace_file(*files[path])
                os.chmod(files[path][0], MODE)
        told = {
            "changed": bool(differ), "dest": folder, "files": [{"src": place, "dest": path, "mode": "0644"} for path, (place, _data) in files.items()],
            "digests": {path: hashlib.sha256(data).hexdigest() for path, (_place, data) in files.items()}, "enable": [UNIT],
            "packages": ["python3-cryptography"],
        }  # fmt: skip
        if self._task.diff:
            told["diff"] = [_diff(path, before, files[path][1]) for path, before in differ.items()]
        return told


def contents(options: dict[str, t.Any]) -> dict[str, bytes]:
    """What lies at which path of the image. Raises AttestedError."""
    root = next(iter(module_utils.__path__))
    return {
        PROGRAM: build(root, PACKAGE + ".training.start"),
        "/etc/attested-ai/training.json": settings_bytes(options),
        "/usr/lib/systemd/system/" + UNIT: _data(root, UNIT),
        "/usr/lib/systemd/system/" + MOUNT: _data(root, MOUNT),
        "/usr/lib/sysusers.d/attested-training.conf": _data(root, "attested-training.conf"),
    }


def _data(root: str, name: str) -> bytes:
    with open(os.path.join(root, "training", "data", name), "rb") as stream:
        return stream.read()


def _diff(path: str, before: bytes | None, after: bytes) -> dict[str, str]:
    """The archive is no text: its digests stand for it."""
    shown = [_shown(path, data) for data in (before, after)]
    return {"before_header": path, "after_header": path, "before": shown[0], "after": shown[1]}


def _shown(path: str, data: bytes | None) -> str:
    if data is None:
        return ""
    return f"SHA-256 {hashlib.sha256(data).hexdigest()}\n" if path == PROGRAM else data.decode("utf-8", "replace")
