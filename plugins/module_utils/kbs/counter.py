# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Minimum releases in a KBS: a reference value for each model, the one thing that a KBS gives back to an admin."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ansible_collections.attested.ai.plugins.module_utils.errors import KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.kbs.admin import AdminClient
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import counter

_PREFIX = "attested-ai-minimum-"
_NAME_MAX = 128


@dataclass(frozen=True)
class KbsCounter:
    """A KBS has no check-and-set: two controllers that raise the same model in the same moment may leave the lower of the two. What was written is read
    back. A value ends after twelve months, so that each release writes it anew."""

    client: AdminClient

    def minimum(self, model_id: str) -> int:
        found = self.client.reference_value(name_of(model_id))
        if found in (None, []):
            return 1
        number = found[0] if isinstance(found, list) and len(found) == 1 else found
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number < 2**53:
            raise KeyReleaseError("it holds no minimum release", where=self._where(model_id), fix="Set it to the highest release in the ledger",
                                  code="counter-damaged")
        return number

    def raise_to(self, model_id: str, release: int) -> int:
        counter.check_value(model_id, release)
        before = self.minimum(model_id)
        if release < before:
            raise counter.lower(model_id, before, release, self._where(model_id))
        self.client.set_reference_values({name_of(model_id): [release]})
        after = self.minimum(model_id)
        if after != release:
            raise KeyReleaseError("it is %d after %d was written: another controller is at work" % (after, release), where=self._where(model_id),
                                  fix="Run it again, one controller at a time", code="counter-busy")
        return release

    def _where(self, model_id: str) -> str:
        return "%s reference value %s" % (self.client.where, name_of(model_id))


def name_of(model_id: str) -> str:
    """The name of the reference value of a model."""
    name = _PREFIX + model_id
    return name if len(name) <= _NAME_MAX else _PREFIX + hashlib.sha256(model_id.encode("utf-8")).hexdigest()
