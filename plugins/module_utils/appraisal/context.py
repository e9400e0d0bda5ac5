# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an appraisal of one item gets to see. All of it is given by the caller: no file, socket or clock is touched here."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Callable, Container, Dict, Optional, Tuple, TypeVar, Union

from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import Policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValues
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import TrustRoots, load_roots
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.result import UNCHECKED, Unchecked

T = TypeVar("T")


@dataclass(frozen=True)
class Endorsements:
    """What the relying party brings, for all items, as raw bytes. Untrusted: whatever is used of it must lead to a pinned root.

    ``certificates`` and ``crls``: DER, path material of AMD's reports. ``tdx``: JSON objects with Intel's collateral (the field names
    of QuoteCollateralV3). ``cca``: JSON documents with CPAKs. ``rims``: NVIDIA's reference manifests in XML. ``ocsp``: responses in DER.
    ``launch_endorsements``: serialised VMLaunchEndorsement. ``jwks``: JSON Web Key Sets of attestation services.
    """

    certificates: Tuple[bytes, ...] = ()
    crls: Tuple[bytes, ...] = ()
    tdx: Tuple[bytes, ...] = ()
    cca: Tuple[bytes, ...] = ()
    rims: Tuple[bytes, ...] = ()
    ocsp: Tuple[bytes, ...] = ()
    launch_endorsements: Tuple[bytes, ...] = ()
    jwks: Tuple[bytes, ...] = ()
    _made: Dict[str, Any] = field(init=False, repr=False, compare=False, default_factory=dict)

    def once(self, name: str, make: Callable[[Endorsements], T]) -> T:
        """What ``make`` makes of these endorsements, such as an index, made once: a fleet's work must not grow with its square."""
        if name not in self._made:
            self._made[name] = make(self)
        found: T = self._made[name]
        return found

    def __add__(self, other: Endorsements) -> Endorsements:
        """Both, each piece once."""
        others = other.pieces()
        return Endorsements(**{kind: tuple(dict.fromkeys(found + others[kind])) for kind, found in self.pieces().items()})

    def pieces(self) -> Dict[str, Tuple[bytes, ...]]:
        """All of them, by kind."""
        return {part.name: getattr(self, part.name) for part in fields(self) if part.init}


@dataclass(frozen=True)
class ItemContext:
    """``expected_report_data`` (64 bytes) and ``expected_device_nonce`` (32 bytes) may be the explicit opt-out; ``seen`` holds the
    identities of evidence seen before, None to not look. ``roots`` are AMD's, ``roots_of`` gives those of any other kind."""

    policy: Policy
    reference_values: ReferenceValues
    endorsements: Endorsements
    roots: TrustRoots
    expected_report_data: Union[bytes, Unchecked]
    at: datetime
    seen: Optional[Container[str]] = None
    cache: Optional[VerificationCache] = None
    expected_device_nonce: Union[bytes, Unchecked] = UNCHECKED

    def roots_of(self, kind: str) -> TrustRoots:
        """The roots for one kind of evidence (endorsements.roots): the vendor's, and the policy's own."""
        return load_roots(self.policy, kind)
