# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Verify NVIDIA's reference integrity manifests, and find the one that belongs to a driver or firmware version.

Digest, signature and chain do not depend on time and are remembered by the bytes of the manifest: a fleet pays for each once.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import FrozenSet, List, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import TrustRoots
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import der
from ansible_collections.attested.ai.plugins.module_utils.formats.rim import SIGNATURE_SIZE, Rim, parse_rim
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia_x509 import Path, prove_path, validity_offence
from ansible_collections.attested.ai.plugins.module_utils.verify.primitives import ecdsa_p384_verifies, p384_key

EDITIONS = {"gpu": "GPU", "switch": "SWITCH"}
_VERSION_HINT = re.compile(rb"""\bcolloquialVersion=["']([^"'<>&]{1,64})["']""")
_PATH_MIN = 2


@dataclass(frozen=True)
class VerifiedRim:
    """One manifest and what speaks against it, whatever the time is; the offences are empty where all is well. ``rim`` is None
    if it cannot be read, ``path`` if its certificates cannot."""

    sha256: str
    rim: Optional[Rim]
    path: Optional[Path]
    format_offence: str = ""
    signature_offence: str = ""
    chain_offence: str = ""

    @property
    def proven(self) -> bool:
        return self.rim is not None and not (self.format_offence or self.signature_offence or self.chain_offence)


@dataclass(frozen=True)
class Candidate:
    """A manifest for the version that was asked for, and what speaks against it for this device at this time."""

    verified: VerifiedRim
    product_offence: str = ""
    time_offence: str = ""

    @property
    def usable(self) -> bool:
        """True if its values may be compared: genuine, and for this product. Whether it has expired is told apart."""
        return self.verified.proven and not self.product_offence


def verify_rim(data: bytes, roots: TrustRoots, cache: Optional[VerificationCache] = None) -> VerifiedRim:
    """Verify digest, signature and certificate path of one manifest. Never raises for bad input; only success is remembered."""
    key = ("nvidia-rim", data, roots.identity)
    found = None if cache is None else cache.get(key)
    if found is None:
        found = _verify(data, roots)
        if cache is not None and found.proven:
            cache.put(key, found)
    return found


def _verify(data: bytes, roots: TrustRoots) -> VerifiedRim:
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        rim = parse_rim(data)
    except FormatError as error:
        return VerifiedRim(sha256, None, None, format_offence=error.what)
    try:
        certificates = [der.parse_certificate(certificate) for certificate in rim.certificates]
    except FormatError as error:
        return VerifiedRim(sha256, rim, None, format_offence="a certificate of its signature cannot be read: %s" % error.what)
    signature_offence = ""
    if rim.digest != rim.digest_value:
        signature_offence = "the document is not the one that was signed (another SHA-384 digest)"
    else:
        half = SIGNATURE_SIZE // 2
        key = p384_key(certificates[0].spki)
        r, s = int.from_bytes(rim.signature[:half], "big"), int.from_bytes(rim.signature[half:], "big")
        if key is None or not ecdsa_p384_verifies(key, r, s, rim.signed_info):
            signature_offence = "the signature is not one of %s" % ascii(certificates[0].common_name)
    if len(certificates) < _PATH_MIN:
        return VerifiedRim(sha256, rim, None, signature_offence=signature_offence, chain_offence="%d certificate, that is no path" % len(certificates))
    path = prove_path(certificates, roots)
    return VerifiedRim(
        sha256, rim, path, signature_offence=signature_offence, chain_offence=path.root_offence or path.chain_offence or path.profile_offence
    )


def find_rims(
    rims: Sequence[bytes], kind: str, version: str, products: FrozenSet[str], roots: TrustRoots, at: datetime, cache: Optional[VerificationCache]
) -> List[Candidate]:
    """The manifests that say they are for ``version`` and have the least against them; empty if there is none for it.

    Boards that share a version of the VBIOS have manifests of their own, which do not name the board.
    """
    found: List[Candidate] = []
    for data in _naming(version, rims, cache):
        verified = verify_rim(data, roots, cache)
        # What was signed counts, not what a search in the text found.
        if verified.rim is not None and verified.rim.version != version:
            continue
        found.append(_candidate(verified, kind, products, at))
    least = min((_demerit(candidate) for candidate in found), default=0)
    return [candidate for candidate in found if _demerit(candidate) == least]


def _naming(version: str, rims: Sequence[bytes], cache: Optional[VerificationCache]) -> Sequence[bytes]:
    """The manifests whose text names this version: only a reason to look closer. A fleet asks again and again, so it is remembered."""
    key = ("nvidia-rims-naming", version, tuple(rims))
    found: Optional[Tuple[bytes, ...]] = None if cache is None else cache.get(key)
    if found is None:
        found = tuple([data for data in rims if _hint(data) == version])
        if cache is not None:
            cache.put(key, found)
    return found


def _hint(data: bytes) -> str:
    match = _VERSION_HINT.search(data)
    return match.group(1).decode("latin-1") if match else "?"


def _candidate(verified: VerifiedRim, kind: str, products: FrozenSet[str], at: datetime) -> Candidate:
    product_offence = time_offence = ""
    rim = verified.rim
    if rim is not None and (rim.product not in products or rim.edition != EDITIONS[kind]):
        product_offence = "the manifest is for %s (%s), the device is a %s (%s)" % (
            ascii(rim.product), ascii(rim.edition), " or ".join(sorted(products)) or "?", EDITIONS[kind]
        )  # fmt: skip
    if verified.path is not None:
        time_offence = validity_offence(verified.path.certificates, at)
    return Candidate(verified, product_offence, time_offence)


def _demerit(candidate: Candidate) -> int:
    verified = candidate.verified
    offences = (verified.format_offence, verified.signature_offence, verified.chain_offence, candidate.product_offence, candidate.time_offence)
    return sum(1 << place for place, offence in enumerate(reversed(offences)) if offence)
