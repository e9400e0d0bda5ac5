# SPDX-License-Identifier: GPL-3.0-or-later
"""A laboratory that makes CCA tokens with any one thing wrong."""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional, Sequence

REPOSITORY = Path(__file__).resolve().parents[3]
if str(REPOSITORY / "tools" / "softtee") not in sys.path:
    sys.path.insert(0, str(REPOSITORY / "tools" / "softtee"))

from softtee.cca_cbor import Raw, Tag, cose_key, encode, raw_point, sign1  # noqa: E402,F401  pylint: disable=unused-import
from softtee.cca_token import DROP, PROFILES, CcaPlatform, collection, default_components, measurement  # noqa: E402,F401  pylint: disable=unused-import

from ansible_collections.attested.ai.plugins.module_utils.verify.cca import Verification, verify_cca  # noqa: E402

AT = datetime(2026, 11, 22, tzinfo=timezone.utc)
CHALLENGE = bytes(range(64))


class Lab:
    """One platform with its endorsement."""

    at = AT

    def __init__(self) -> None:
        self.platform = CcaPlatform.open()
        self.endorsement = self.platform.endorsement()

    def token(self, profile: str = "2024", **options: Any) -> bytes:
        return self.platform.token(options.pop("challenge", CHALLENGE), profile, **options)

    def verify(
        self, token: Optional[bytes] = None, *, endorsements: Optional[Sequence[bytes]] = None, expected: Any = CHALLENGE, at: Any = AT,
        allow_nonvendor: bool = True, allow_test_keys: bool = False, vendor_documents: Any = frozenset(), cache: Any = None, **options: Any
    ) -> Verification:  # fmt: skip
        """Verify ``token``, or one made with ``options`` (as for CcaPlatform.token)."""
        data = self.token(**options) if token is None else token
        given = [self.endorsement] if endorsements is None else endorsements
        return verify_cca(data, given, expected, at, allow_test_keys, allow_nonvendor, vendor_documents, cache)


def failures(verification: Verification) -> list:
    return list(verification.failed)


def outcome(verification: Verification, check_id: str) -> str:
    (found,) = [check.outcome for check in verification.checks if check.id == check_id]
    return found
