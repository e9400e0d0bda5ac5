# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Intel's collateral for one FMSPC in one JSON object, under the names of QuoteCollateralV3, and the answers of PCS and PCCS.

The signed members are kept as the exact text that was served: the signatures cover these bytes. Nothing here decides about trust.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Mapping, Optional, Tuple, Union

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict

COLLATERAL_MAX = 8 << 20
WHERE = "TDX collateral"
_MEMBERS = (
    "pck_crl_issuer_chain", "root_ca_crl", "pck_crl", "tcb_info_issuer_chain", "tcb_info", "tcb_info_signature", "qe_identity_issuer_chain",
    "qe_identity", "qe_identity_signature",
)  # fmt: skip
# Some tools keep a machine's own certificate beside its collateral. It is not needed: the quote has it.
_IGNORED = ("pck_certificate_chain",)
_TEXT_MAX = 4 << 20
_FMSPC = re.compile(r'"fmspc"\s*:\s*"([0-9a-fA-F]{12})"')
_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True)
class TdxCollateral:
    """Collateral, not proven. Chains are PEM (signer, root), revocation lists DER, signatures 64 bytes r and s, ``tcb_info`` and
    ``qe_identity`` the exact signed text. ``sha256`` is hexadecimal, over the bytes as received.

    ``fmspc`` (lower-case hexadecimal, None if there is none) and ``ca`` ("platform" or "processor") only help to choose among several:
    they are read off before anything is proven.
    """

    pck_crl_issuer_chain: bytes
    root_ca_crl: bytes
    pck_crl: bytes
    tcb_info_issuer_chain: bytes
    tcb_info: str
    tcb_info_signature: bytes
    qe_identity_issuer_chain: bytes
    qe_identity: str
    qe_identity_signature: bytes
    sha256: str

    @property
    def fmspc(self) -> Optional[str]:
        match = _FMSPC.search(self.tcb_info)
        return match.group(1).lower() if match else None

    @property
    def ca(self) -> str:
        return "processor" if b"Intel SGX PCK Processor CA" in self.pck_crl else "platform"


def _hex(value: Any, name: str, size: Optional[int] = None) -> bytes:
    text = strict.text_of(value, "%s %s" % (WHERE, name), _TEXT_MAX)
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    # Spaces between digits would be skipped: then the text is longer than its bytes.
    if 2 * len(data) != len(text) or len(data) != (len(data) if size is None else size):
        raise FormatError("%s hexadecimal digits were expected" % ("an even number of" if size is None else 2 * size), where="%s %s" % (WHERE, name))
    return data


def _chain(value: Any, name: str) -> bytes:
    try:
        return strict.text_of(value, "%s %s" % (WHERE, name), _TEXT_MAX).encode("ascii")
    except UnicodeEncodeError:
        raise FormatError("it is not ASCII text", where="%s %s" % (WHERE, name)) from None


def parse_collateral(data: Union[bytes, Mapping[str, Any]]) -> TdxCollateral:
    """Read one JSON object with all nine members and no unknown one, from its bytes (at most 8 MiB) or already decoded. Raises FormatError."""
    if isinstance(data, (bytes, bytearray)):
        if len(data) > COLLATERAL_MAX:
            raise FormatError("it is %d bytes, at most %d are read" % (len(data), COLLATERAL_MAX), where=WHERE)
        document, digest = strict.loads(data, WHERE), hashlib.sha256(data).hexdigest()
    else:
        document = data
        digest = hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()
    strict.members(document, _MEMBERS, _IGNORED, WHERE)
    return TdxCollateral(
        pck_crl_issuer_chain=_chain(document["pck_crl_issuer_chain"], "pck_crl_issuer_chain"),
        root_ca_crl=_hex(document["root_ca_crl"], "root_ca_crl"),
        pck_crl=_hex(document["pck_crl"], "pck_crl"),
        tcb_info_issuer_chain=_chain(document["tcb_info_issuer_chain"], "tcb_info_issuer_chain"),
        tcb_info=strict.text_of(document["tcb_info"], WHERE + " tcb_info", _TEXT_MAX),
        tcb_info_signature=_hex(document["tcb_info_signature"], "tcb_info_signature", 64),
        qe_identity_issuer_chain=_chain(document["qe_identity_issuer_chain"], "qe_identity_issuer_chain"),
        qe_identity=strict.text_of(document["qe_identity"], WHERE + " qe_identity", _TEXT_MAX),
        qe_identity_signature=_hex(document["qe_identity_signature"], "qe_identity_signature", 64),
        sha256=digest,
    )


def extract_signed_member(body: bytes, name: str) -> Tuple[str, bytes]:
    """(exact text of the member ``name``, signature of 64 bytes) of an answer ``{name: {...}, "signature": "<128 hexadecimal digits>"}`` of PCS
    or PCCS. The text is cut out and never written again: the signature covers these bytes. Raises FormatError for any other answer."""
    if len(body) > COLLATERAL_MAX:
        raise FormatError("it is %d bytes, at most %d are read" % (len(body), COLLATERAL_MAX), where=name)
    # The strict reader has seen all of it: what follows only finds out where the member begins and ends.
    document = strict.members(strict.loads(body, name), (name, "signature"), where=name)
    if not isinstance(document[name], dict):
        raise FormatError("it is no JSON object", where=name)
    signature = _hex(document["signature"], "signature", 64)
    text = body.decode("utf-8")
    decoder = json.JSONDecoder()
    position = text.index("{") + 1
    while True:
        member, position = decoder.raw_decode(text, _skip(text, position))
        start = _skip(text, _skip(text, position) + 1)
        _value, position = decoder.raw_decode(text, start)
        if member == name:
            return text[start:position], signature
        position = _skip(text, position) + 1


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position
