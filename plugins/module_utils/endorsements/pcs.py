# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Intel's provisioning certification service (PCS, version 4) and caches of it (PCCS): TCB info, QE identity and revocation lists.

One file per FMSPC, PCK authority and view holds all that a quote needs, under the names of QuoteCollateralV3. The signed members are kept
as the exact bytes that were served: their signatures cover nothing else. All of it is proven before it is kept.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Callable, Dict, Mapping, Optional, Tuple
from urllib.parse import unquote

from ansible_collections.attested.ai.plugins.module_utils.endorsements.client import Client, Response
from ansible_collections.attested.ai.plugins.module_utils.endorsements.store import Piece, format_time
from ansible_collections.attested.ai.plugins.module_utils.errors import EndorsementError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.formats.der import SEQUENCE, pem_to_der, whole

URL = "https://api.trustedservices.intel.com"
ROOT_CRL_URL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
VIEWS = ("standard", "early")
AUTHORITIES = ("platform", "processor")
_FMSPC = re.compile(r"[0-9a-f]{12}\Z")
# PCS and PCCS disagree over the types of these answers; what counts is that they can be read.
_TCB_HEADERS = ("tcb-info-issuer-chain", "sgx-tcb-info-issuer-chain")
_QE_HEADERS = ("sgx-enclave-identity-issuer-chain",)
_CRL_HEADERS = ("sgx-pck-crl-issuer-chain",)
_SUFFIX = re.compile(r"/(?:sgx|tdx)/certification/v\d+/*\Z")


@dataclass(frozen=True)
class Service:
    """Where to ask. With ``cache`` (a PCCS) everything comes from there, the root's revocation list too."""

    url: str = URL
    root_crl_url: str = ROOT_CRL_URL
    cache: Optional[str] = None

    @property
    def base(self) -> str:
        return _SUFFIX.sub("", (self.cache or self.url).rstrip("/")).rstrip("/")

    @property
    def root_crl(self) -> str:
        return self.root_crl_url if self.cache is None else self.base + "/sgx/certification/v4/rootcacrl"


@dataclass(frozen=True)
class Wanted:
    """Collateral for platforms with this FMSPC (12 lower-case hexadecimal digits) whose PCK certificates the authority ``ca`` issued.

    ``view`` is "standard" (Intel's delayed one, with a grace period) or "early"; ``number`` asks for one TCB evaluation data number
    instead.
    """

    fmspc: str
    ca: str = "platform"
    view: str = "standard"
    number: Optional[int] = None

    def __post_init__(self) -> None:
        if not _FMSPC.match(self.fmspc):
            raise EndorsementError("%s is not 12 lower-case hexadecimal digits" % strict.quoted(self.fmspc), where="fmspc")
        if self.ca not in AUTHORITIES or self.view not in VIEWS:
            what = "%s, %s is no authority and view of Intel's" % (strict.quoted(self.ca), strict.quoted(self.view))
            raise EndorsementError(what, where="fmspc " + self.fmspc)

    @property
    def choice(self) -> str:
        """Query parameter: the two exclude each other."""
        return "update=%s" % self.view if self.number is None else "tcbEvaluationDataNumber=%d" % self.number

    @property
    def path(self) -> str:
        return "intel/tdx/%s-%s-%s.json" % (self.fmspc, self.ca, self.view if self.number is None else "n%d" % self.number)

    @property
    def about(self) -> str:
        return "TDX collateral of FMSPC %s (%s CA, %s)" % (self.fmspc, self.ca, self.view if self.number is None else "evaluation number %d" % self.number)


@dataclass(frozen=True)
class Proven:
    """What genuine collateral says: FMSPC and TCB evaluation data number, the authority ``ca`` whose revocation list it holds, and from when
    and until when all of it counts."""

    fmspc: str
    number: int
    ca: str
    issued_at: datetime
    expires_at: datetime


# Proves collateral, or raises EndorsementError.
Prover = Callable[[bytes, str], Proven]


class Shared:
    """Answers that several files of one run have in common: a list of revoked certificates is asked for once, not once per FMSPC."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._answers: Dict[str, Response] = {}

    def get(self, url: str) -> Response:
        with self._lock:
            if url not in self._answers:
                self._answers[url] = self._client.get(url)
            return self._answers[url]


def fetch(client: Client, service: Service, wanted: Wanted, prove: Prover, at: datetime, shared: Optional[Shared] = None) -> Tuple[Piece, str]:
    """All collateral of one FMSPC, and the address of its TCB info. Raises EndorsementError."""
    once = shared or Shared(client)
    base = service.base
    tcb_url = "%s/tdx/certification/v4/tcb?fmspc=%s&%s" % (base, wanted.fmspc, wanted.choice)
    qe_url = "%s/tdx/certification/v4/qe/identity?%s" % (base, wanted.choice)
    crl_url = "%s/sgx/certification/v4/pckcrl?ca=%s&encoding=der" % (base, wanted.ca)
    tcb, qe, crl, root_crl = client.get(tcb_url), once.get(qe_url), once.get(crl_url), once.get(service.root_crl)
    tcb_info, tcb_signature = _signed_member(tcb.body, "tcbInfo", tcb_url)
    identity, qe_signature = _signed_member(qe.body, "enclaveIdentity", qe_url)
    collateral = {
        "pck_crl_issuer_chain": _chain(crl, _CRL_HEADERS, crl_url),
        "root_ca_crl": _crl(root_crl.body, service.root_crl).hex(),
        "pck_crl": _crl(crl.body, crl_url).hex(),
        "tcb_info_issuer_chain": _chain(tcb, _TCB_HEADERS, tcb_url),
        "tcb_info": tcb_info,
        "tcb_info_signature": tcb_signature,
        "qe_identity_issuer_chain": _chain(qe, _QE_HEADERS, qe_url),
        "qe_identity": identity,
        "qe_identity_signature": qe_signature,
    }
    data = json.dumps(collateral, indent=1, ensure_ascii=True).encode("ascii") + b"\n"
    piece = tdx_piece(data, wanted, prove(data, tcb_url), tcb_url)
    if piece.expires_at is not None and piece.expires_at <= at:
        raise EndorsementError("the service sent collateral that ended at %s" % format_time(piece.expires_at), where=tcb_url, code="collateral-answer")
    return piece, tcb_url


def tdx_piece(data: bytes, wanted: Wanted, proven: Proven, where: str) -> Piece:
    """Proven collateral as a piece, if it is what was wanted. Raises EndorsementError."""
    if (proven.fmspc, proven.ca) != (wanted.fmspc, wanted.ca) or wanted.number not in (None, proven.number):
        said = "FMSPC %s (%s CA), evaluation number %d" % (proven.fmspc, proven.ca, proven.number)
        raise EndorsementError("it is for %s; wanted was: %s" % (said, wanted.about), where=where, code="collateral-answer")
    about = "%s, evaluation number %d, as of %s" % (wanted.about, proven.number, format_time(proven.issued_at))
    return Piece("tdx", wanted.path, data, about, proven.issued_at, proven.expires_at)


def _signed_member(body: bytes, name: str, where: str) -> Tuple[str, str]:
    """(exact text of the member ``name``, signature in hexadecimal) of an answer ``{name: {...}, "signature": "..."}``."""
    from ansible_collections.attested.ai.plugins.module_utils.formats.tdx_collateral import extract_signed_member

    try:
        text, signature = extract_signed_member(body, name)
    except FormatError as error:
        raise EndorsementError("the answer is none of the service's (%s)" % error.what, where=where, code="collateral-answer") from None
    return text, signature.hex()


def _chain(response: Response, names: Tuple[str, ...], where: str) -> str:
    """The issuer chain that travels URL-encoded in a header, as PEM."""
    headers: Mapping[str, Any] = response.headers
    encoded = next((headers[name] for name in names if headers.get(name)), None)
    if encoded is None:
        raise EndorsementError("the answer has no header %s" % names[0], where=where, code="collateral-answer",
                               fix="A proxy may have dropped it: ask the service directly, or through a PCCS")  # fmt: skip
    text = unquote(encoded)
    try:
        pem_to_der(text, where=where)
    except FormatError as error:
        raise EndorsementError("its issuer chain cannot be read (%s)" % error.what, where=where, code="collateral-answer") from None
    return text if text.endswith("\n") else text + "\n"


def _crl(body: bytes, where: str) -> bytes:
    """A revocation list in DER from the forms that services serve: DER, PEM, or hexadecimal text (PCCS)."""
    try:
        if body.lstrip()[:11] == b"-----BEGIN ":
            return pem_to_der(body.decode("ascii"), "X509 CRL", where)[0]
        data = body if body[:1] == b"\x30" and body[1:2] > b"\x7f" else bytes.fromhex(body.decode("ascii").strip().strip('"'))
        whole(data, SEQUENCE)
    except (FormatError, ValueError):
        raise EndorsementError("the answer is no revocation list", where=where, code="collateral-answer") from None
    return data
