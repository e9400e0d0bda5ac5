# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Trust roots: AMD's, and others only when they are asked for (skeleton; the interface is final)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional, Sequence, Tuple


@dataclass(frozen=True)
class TrustRoots:
    """Pinned roots and the intermediates that are shipped with them."""

    roots: Tuple[Any, ...]
    intermediates: Tuple[Any, ...] = ()


def trust_roots(pem: Sequence[str] = (), allow_nonvendor_roots: bool = False, vendor: bool = True) -> TrustRoots:
    """AMD's roots (unless ``vendor`` is false) and the CA certificates in the PEM texts."""
    raise NotImplementedError


def load_roots(policy: Optional[Any] = None) -> TrustRoots:
    """The roots of a policy (attributes ``roots``, a sequence of PEM texts, and ``allow_nonvendor_roots``)."""
    raise NotImplementedError
