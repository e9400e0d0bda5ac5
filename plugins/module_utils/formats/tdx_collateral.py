# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Collateral for TDX quotes: what Intel's service gave, kept as exact bytes. One JSON object with the members of QuoteCollateralV3.

Strict about the form; what the parts say is read by formats/tcb_info.py and formats/der.py, and proven by verify/tdx_collateral.py.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Tuple, Union

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.formats.der import CRL_MAX, pem_to_der

MEMBERS = (
    "pck_crl_issuer_chain", "root_ca_crl", "pck_crl", "tcb_info_issuer_chain", "tcb_info", "tcb_info_signature", "qe_identity_issuer_chain",
    "qe_identity", "qe_identity_signature",
)  # fmt: skip
# dcap-qvl's own files may carry the PCK chain beside; a quote brings its own, so it counts for nothing.
_OPTIONAL = ("pck_certificate_chain",)
SIGNATURE_SIZE = 64
TEXT_MAX = 1024 * 1024
CHAIN_MAX = 64 * 1024
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})+\Z", re.ASCII)
_WHITE = " \t\r\n"


@dataclass(frozen=True)
class TdxCollateral:
    """Chains are DER certificates as given (signer first), lists DER, ``tcb_info`` and ``qe_identity`` the exact signed text, the
    signatures r and s (64 bytes)."""

    pck_crl_issuer_chain: Tuple[bytes, ...]
    root_ca_crl: bytes
    pck_crl: bytes
    tcb_info_issuer_chain: Tuple[bytes, ...]
    tcb_info: str
    tcb_info_signature: bytes
    qe_identity_issuer_chain: Tuple[bytes, ...]
    qe_identity: str
    qe_identity_signature: bytes


def parse_collateral(data: Union[bytes, str], where: str = "TDX collateral") -> TdxCollateral:
    """Read the JSON text. Raises FormatError."""
    obj = strict.members(strict.loads(data, where), MEMBERS, _OPTIONAL, where)
    return TdxCollateral(
        pck_crl_issuer_chain=_chain(obj["pck_crl_issuer_chain"], where + " pck_crl_issuer_chain"),
        root_ca_crl=_hex(obj["root_ca_crl"], where + " root_ca_crl"),
        pck_crl=_hex(obj["pck_crl"], where + " pck_crl"),
        tcb_info_issuer_chain=_chain(obj["tcb_info_issuer_chain"], where + " tcb_info_issuer_chain"),
        tcb_info=strict.text_of(obj["tcb_info"], where + " tcb_info", TEXT_MAX),
        tcb_info_signature=_hex(obj["tcb_info_signature"], where + " tcb_info_signature", SIGNATURE_SIZE),
        qe_identity_issuer_chain=_chain(obj["qe_identity_issuer_chain"], where + " qe_identity_issuer_chain"),
        qe_identity=strict.text_of(obj["qe_identity"], where + " qe_identity", TEXT_MAX),
        qe_identity_signature=_hex(obj["qe_identity_signature"], where + " qe_identity_signature", SIGNATURE_SIZE),
    )


def _chain(value: Any, where: str) -> Tuple[bytes, ...]:
    return tuple(pem_to_der(strict.text_of(value, where, CHAIN_MAX).replace("\0", ""), where=where))


def _hex(value: Any, where: str, size: int = 0) -> bytes:
    text = strict.text_of(value, where, 2 * CRL_MAX)
    if not _HEX.match(text) or size and len(text) != 2 * size:
        raise FormatError("%s hexadecimal digits were expected" % (2 * size if size else "an even number of"), where=where)
    return bytes.fromhex(text)


def extract_signed_member(body: Union[bytes, str], name: str, where: str = "PCS response") -> Tuple[str, bytes]:
    """Split a response ``{"<name>": {...}, "signature": "<hex>"}`` of Intel's service: the exact text of the signed member, which must
    never be written anew, and the signature (64 bytes). Raises FormatError for any other form."""
    document = strict.members(strict.loads(body, where), (name, "signature"), (), where)
    signature = _hex(document["signature"], where + " signature", SIGNATURE_SIZE)
    text = body if isinstance(body, str) else bytes(body).decode("utf-8")
    decoder = json.JSONDecoder()
    position = _skip(text, text.index("{") + 1)
    while True:
        # It parsed before: keys and values alternate, and only white space stands between them.
        key, position = decoder.raw_decode(text, position)
        position = _skip(text, _skip(text, position) + 1)
        _value, end = decoder.raw_decode(text, position)
        if key == name:
            return text[position:end], signature
        position = _skip(text, _skip(text, end) + 1)


def _skip(text: str, position: int) -> int:
    while text[position] in _WHITE:
        position += 1
    return position
