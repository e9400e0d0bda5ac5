# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""NVIDIA's service of reference integrity manifests (RIM), version 1: one manifest per driver or firmware version.

The files keep the names that nvattest uses for its own offline directory (``<id>.xml``). NVIDIA's licence terms hold for what is fetched.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Callable, List, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.endorsements.client import Client
from ansible_collections.attested.ai.plugins.module_utils.endorsements.store import Piece
from ansible_collections.attested.ai.plugins.module_utils.errors import EndorsementError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.formats.nvidia_opaque import OpaqueData

URL = "https://rim.attestation.nvidia.com"
RIM_MAX = 1 << 20
SWITCH_PROJECT = "5612_0002_890"
_ID = re.compile(r"NV_[A-Z0-9][A-Za-z0-9._]{3,76}\Z", re.ASCII)
# Proves a manifest: raises EndorsementError, or returns (product, version, start and end of its signer's validity).
Prover = Callable[[bytes, str], Tuple[str, str, datetime, datetime]]


def check_id(rim_id: str) -> str:
    """Return ``rim_id`` if it is spelled as the service spells them. Raises EndorsementError."""
    if not _ID.match(rim_id):
        raise EndorsementError("%s is no id of a manifest, like NV_GPU_DRIVER_GH100_570.172.08" % strict.quoted(rim_id), where="rims")
    return rim_id


def path_of(rim_id: str) -> str:
    return "nvidia/rim/%s.xml" % rim_id


def ids_of(chip: Optional[str], opaque: OpaqueData) -> List[str]:
    """The ids of the manifests that a report needs, as far as it says what it runs: driver and VBIOS, or a switch's BIOS.

    ``chip`` is the chip of the device's certificates ("GH100", "GB100", "LS10").
    """
    found: List[str] = []
    if opaque.kind == "switch":
        if opaque.vbios:
            found.append("NV_SWITCH_BIOS_%s_%s" % (SWITCH_PROJECT, _compact(opaque.vbios)))
        return found
    if opaque.driver_version and chip:
        hopper = chip.startswith("GH")
        found.append("NV_GPU_%sDRIVER_%s_%s" % ("" if hopper else "CC_", "GH100" if hopper else opaque.chip_info or chip, opaque.driver_version))
    if opaque.vbios and opaque.project and opaque.project_sku and opaque.chip_sku:
        parts = (opaque.project, opaque.project_sku, opaque.chip_sku, _compact(opaque.vbios))
        found.append(("NV_GPU_VBIOS_%s_%s_%s_%s" % parts).upper())
    return [rim_id for rim_id in found if _ID.match(rim_id)]


def fetch(client: Client, base: str, rim_id: str, token: str, prove: Prover) -> Tuple[Piece, str]:
    """One manifest and its address. ``token`` is sent as a bearer token if it is not empty. Raises EndorsementError."""
    url = "%s/v1/rim/%s" % (base, check_id(rim_id))
    headers = {"Accept": "application/json"}
    if token:
        headers["Authorization"] = "Bearer " + token
    answer = client.get(url, headers, ("application/json",))
    try:
        document = strict.loads(answer.body, url)
        if not isinstance(document, dict) or document.get("id", rim_id) != rim_id:
            raise FormatError("it is for another manifest")
        if document.get("rim_format", "TCG") != "TCG":
            raise FormatError("the format %s cannot be read" % strict.quoted(document["rim_format"]))
        data = strict.decode_base64(document.get("rim"), "rim", 1, RIM_MAX)
        _check_digest(document.get("sha256"), data)
    except FormatError as error:
        raise EndorsementError("the answer is none of the service's (%s)" % error.what, where=url, code="collateral-answer") from None
    return rim_piece(data, rim_id, prove, url), url


def rim_piece(data: bytes, rim_id: str, prove: Prover, where: str) -> Piece:
    """A manifest that proves itself and is of the version that its id names. Raises EndorsementError."""
    product, version, issued, expires = prove(data, where)
    if _compact(version) not in _compact(rim_id):
        raise EndorsementError("the manifest is of the version %s" % strict.quoted(version), where=where, code="collateral-answer")
    return Piece("rim", path_of(rim_id), data, "manifest %s (%s)" % (rim_id, product), issued, expires)


def _check_digest(stated: object, data: bytes) -> None:
    """The service states a digest, of which the spelling is not documented: hexadecimal or base64 of SHA-256."""
    if stated is None:
        return
    digest = hashlib.sha256(data)
    if str(stated).lower() != digest.hexdigest() and str(stated) != strict.encode_base64(digest.digest()):
        raise FormatError("the digest beside the manifest is not that of it")


def _compact(version: str) -> str:
    return version.replace(".", "").upper()
