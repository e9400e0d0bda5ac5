# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""openmodel: the init container of a pod opens an encrypted model into memory, with the key that the guest's data hub gets for it.

Told by the environment, as attested.ai.inference_pod sets it:
  ATTESTED_MODEL_URL      where the ciphertext is: https://..., or a directory
  ATTESTED_MODEL_KEYS     resources with keys of models (attested.ai.kbs_model_key), repository/type/tag, separated by blanks
  ATTESTED_MODEL_PATH     the volume in memory, or the file in it that the server looks for
  ATTESTED_CDH_URL        where the data hub answers (http://127.0.0.1:8006/cdh/resource)
  ATTESTED_MODEL_CA       file with the certificates (PEM) that the server of the ciphertext is verified by (the system's)
  ATTESTED_MODEL_MINIMUM  lowest release that is opened, if what comes with the key does not ask for more
"""

from __future__ import annotations

import os
import sys
from datetime import datetime, timezone
from typing import Any, Dict, List, Mapping

from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.kbs.hub import ADDRESS, Hub, fetch
from ansible_collections.attested.ai.plugins.module_utils.kbs.protocol import Resource
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.modelkey import ModelKey
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import open as opener
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.source import Directory
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.volume import Opened, open_in
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.web import Web, WebSource
from ansible_collections.attested.ai.plugins.module_utils.target import memory
from ansible_collections.attested.ai.plugins.module_utils.target.signals import signals_as_errors

# The hub attests, and this program does not see the evidence: the release stays in this process.
_UNSEEN = "00" * 32
_NEVER = datetime(9999, 12, 31, tzinfo=timezone.utc)


def run(environment: Mapping[str, str]) -> Opened:
    """Raises AttestedError."""
    require_cryptography()
    memory.harden_process()
    where, path = _needed(environment, "ATTESTED_MODEL_URL"), _needed(environment, "ATTESTED_MODEL_PATH")
    resources = [Resource.parse(name, "ATTESTED_MODEL_KEYS") for name in _needed(environment, "ATTESTED_MODEL_KEYS").split()]
    hub = Hub(environment.get("ATTESTED_CDH_URL") or ADDRESS, timeout=120.0)
    least = _least(environment.get("ATTESTED_MODEL_MINIMUM") or "1")
    web = "://" in where
    source: Any = WebSource(Web(where, ca_path=environment.get("ATTESTED_MODEL_CA") or None)) if web else Directory(os.path.realpath(where))
    try:
        return open_in(path, source, where, lambda sealed: _release(sealed, hub, resources, least), min(8, len(os.sched_getaffinity(0))))
    finally:
        source.close()


def _release(sealed: opener.Sealed, hub: Hub, resources: List[Resource], least: int) -> Any:
    """The release for this manifest, of the first resource that is for it. Raises what the last one met."""
    last: AttestedError = KeyReleaseError("no resource is named", where="ATTESTED_MODEL_KEYS", code="model-no-key")
    for resource in resources:
        try:
            found = ModelKey.from_json(fetch(hub, resource), resource.uri).key_release(_UNSEEN, _NEVER, least)
            manifest = sealed.manifest
            # Of a single one it is told below what does not fit.
            if len(resources) == 1 or (found.model_id, found.release, found.key_id) == (manifest.model_id, manifest.release, manifest.key_id):
                return found
            last = KeyReleaseError("it is the key %s of release %d of %s" % (found.key_id, found.release, found.model_id), where=resource.uri,
                                   fix="Name the resource of this model's release", code="model-other-key")
        except AttestedError as error:
            last = error
    raise last


def _least(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text[:17]) < 2**53:
        raise KeyReleaseError("%s is no whole number from 1" % ascii(text[:40]), where="ATTESTED_MODEL_MINIMUM", code="counter-value")
    return int(text)


def _needed(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "").strip()
    if not value:
        raise KeyReleaseError("it is not set", where=name, code="environment")
    return value


def main(environment: Dict[str, str]) -> int:
    try:
        with signals_as_errors():
            found = run(environment)
    except AttestedError as error:
        print("openmodel: %s [%s]" % (error, error.code), file=sys.stderr)
        return 1
    print("openmodel: %s release %d, %d files, %d bytes: %s" % (
        found.model_id, found.release, found.files, found.size, "opened" if found.changed else "was open already"))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(dict(os.environ)))
