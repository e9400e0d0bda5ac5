# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Minimum releases in a Vault: one secret of KV version 2, changed only over the version that was read (check-and-set)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import counter
from ansible_collections.attested.ai.plugins.module_utils.vault.client import VaultError
from ansible_collections.attested.ai.plugins.module_utils.vault.engines import Secrets

_TRIES = 5


@dataclass(frozen=True)
class VaultCounter:
    """Who may write this path and nothing else can raise what is in it, and could write a lower number: let the policy allow it to no one but the
    controller. A deletion shows; that somebody removed all versions does not, which is why the controller keeps its own beside it."""

    secrets: Secrets
    path: str

    def minimum(self, model_id: str) -> int:
        return self._read()[0].get(model_id, 1)

    def raise_to(self, model_id: str, release: int) -> int:
        counter.check_value(model_id, release)
        for _try in range(_TRIES):
            models, version = self._read()
            before = models.get(model_id, 1)
            if release < before:
                raise counter.lower(model_id, before, release, self._where)
            if model_id in models and release == before:
                return release
            try:
                self.secrets.write(self.path, counter.document(dict(models, **{model_id: release})), version)
                return release
            except VaultError as error:
                # Another controller was faster, or an answer was lost and this is our own: look again.
                if error.code != "vault-cas":
                    raise
        raise KeyReleaseError("others change it all the time", where=self._where, fix="Run it again", code="counter-busy")

    def _read(self) -> Tuple[Dict[str, int], int]:
        try:
            data, version = self.secrets.read(self.path)
        except VaultError as error:
            if error.code == "vault-missing":
                return {}, 0
            if error.code == "vault-deleted":
                raise KeyReleaseError("the minimum releases were deleted", where=self._where, fix="Undelete their last version, and find out who did it",
                                      code="counter-missing") from None
            raise
        return counter.read_document(data, self._where), version

    @property
    def _where(self) -> str:
        return "%s %s/%s" % (self.secrets.vault.where, self.secrets.mount, self.path)
