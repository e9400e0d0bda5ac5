# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Prove Intel's collateral: who signed what, and which revocation lists can be used. Independent of any quote and of time, so that a fleet
pays once; the windows of validity are judged on every use.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import datetime
from typing import Callable, Dict, List, Optional, Sequence, Tuple, TypeVar

from ansible_collections.attested.ai.plugins.module_utils.checks import FAIL, PASS, Check, failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import TrustRoot, TrustRoots
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import der
from ansible_collections.attested.ai.plugins.module_utils.formats.der import Certificate, RevocationList
from ansible_collections.attested.ai.plugins.module_utils.formats.pck import PckExtensions
from ansible_collections.attested.ai.plugins.module_utils.formats.tcb_info import QeIdentity, TcbInfo, parse_qe_identity, parse_tcb_info
from ansible_collections.attested.ai.plugins.module_utils.formats.tdx_collateral import TdxCollateral, parse_collateral
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.intel_chain import (
    Authorities,
    crl_offence,
    prove_crl_issuer,
    prove_tcb_signer,
    revoked,
)
from ansible_collections.attested.ai.plugins.module_utils.verify.primitives import ecdsa_p256_raw_verifies, p256_key

T = TypeVar("T")

# Readers are pure: what the same bytes say is the same. Only reading is remembered here, for a few documents; signatures are
# verified every time, unless the caller brings a cache.
_collateral = functools.lru_cache(maxsize=8)(parse_collateral)
_tcb_info = functools.lru_cache(maxsize=8)(parse_tcb_info)
_qe_identity = functools.lru_cache(maxsize=8)(parse_qe_identity)
_crl = functools.lru_cache(maxsize=8)(der.parse_crl)

# In the order of telling. Those in TIMED are put by ``judge_windows``.
CHECKS = (
    "collateral-format", "crl-signature", "crl-issuer", "tcb-signer-role", "tcb-signer-revoked", "tcb-info-signature", "qe-identity-signature",
    "tcb-info-id", "qe-identity-id",
)  # fmt: skip
TIMED = ("collateral-not-yet-valid", "collateral-expired")
# (what, first moment, last moment)
Window = Tuple[str, datetime, datetime]


@dataclass(frozen=True)
class ProvenCollateral:
    """What is known of one piece of collateral. ``checks`` maps the ids of CHECKS to outcomes; members are None where they are not proven.
    ``signers`` are the certificates that signed TCB info and QE identity."""

    fmspc: Optional[str]
    ca: Optional[str]
    sha256: Optional[str]
    root: Optional[TrustRoot]
    tcb_info: Optional[TcbInfo]
    qe_identity: Optional[QeIdentity]
    crl_issuer: Optional[Certificate]
    signers: Tuple[Certificate, ...]
    root_crl: Optional[RevocationList]
    pck_crl: Optional[RevocationList]
    windows: Tuple[Window, ...]
    checks: Dict[str, Check]

    @property
    def proven(self) -> bool:
        """True if nothing failed and nothing was left open. Time is not judged."""
        return all(check.outcome == PASS for check in self.checks.values())

    @property
    def offence(self) -> str:
        """Why it cannot be used, empty if it can: the first failure, with its id."""
        return next(("%s: %s" % (check.id, check.detail) for check in self.checks.values() if check.outcome == FAIL), "")

    @property
    def issued(self) -> Optional[datetime]:
        """When the older of TCB info and QE identity was issued, None if one is not proven."""
        if self.tcb_info is None or self.qe_identity is None:
            return None
        return min(self.tcb_info.issue_date, self.qe_identity.issue_date)

    @property
    def not_before(self) -> Optional[datetime]:
        """The first moment at which every part is valid."""
        return max([window[1] for window in self.windows], default=None)

    @property
    def not_after(self) -> Optional[datetime]:
        """The last moment at which every part is valid."""
        return min([window[2] for window in self.windows], default=None)

    def current(self, at: datetime) -> bool:
        """True if every part is valid at ``at``."""
        return all(first <= at <= last for _what, first, last in self.windows)


def prove_collateral(data: bytes, roots: TrustRoots, cache: Optional[VerificationCache] = None, authorities: Optional[Authorities] = None) -> ProvenCollateral:
    """Parse and prove the raw JSON of one piece of collateral. With a ``cache`` proven collateral is not proven again; the key is every byte
    of it and of the roots. Never raises for bad collateral: ``offence`` says what is wrong."""
    data = bytes(data)
    key = ("tdx-collateral", data, roots.identity)
    found: Optional[ProvenCollateral] = cache.get(key) if cache is not None else None
    if found is None:
        found = _prove(data, authorities or Authorities(roots))
        if cache is not None and found.proven:
            cache.put(key, found)
    return found


def _prove(data: bytes, authorities: Authorities) -> ProvenCollateral:
    checks: Dict[str, Check] = {}
    try:
        collateral = _collateral(data)
    except FormatError as error:
        checks["collateral-format"] = failed("collateral-format", "the collateral cannot be read: %s" % error)
        for name in CHECKS[1:]:
            checks[name] = not_checked(name, "the collateral cannot be read")
        return ProvenCollateral(None, None, None, None, None, None, None, (), None, None, (), checks)
    checks["collateral-format"] = passed("collateral-format", "all members are there")
    issuer, root_crl, pck_crl, crl_root = _prove_crls(collateral, authorities, checks)
    signers, root = _prove_signers(collateral, authorities, checks)
    _judge_signers_revoked(signers, root, root_crl, crl_root, checks)
    info, identity = _prove_members(collateral, signers, checks)
    return ProvenCollateral(
        fmspc=collateral.fmspc, ca=collateral.ca, sha256=collateral.sha256, root=root or crl_root, tcb_info=info, qe_identity=identity, crl_issuer=issuer,
        signers=signers, root_crl=root_crl, pck_crl=pck_crl, windows=_windows(info, identity, root_crl, pck_crl, signers, issuer, root or crl_root),
        checks={name: checks[name] for name in CHECKS},
    )  # fmt: skip


Crls = Tuple[Optional[Certificate], Optional[RevocationList], Optional[RevocationList], Optional[TrustRoot]]


def _prove_crls(collateral: TdxCollateral, authorities: Authorities, checks: Dict[str, Check]) -> Crls:
    """(issuer of PCK certificates, the root's list, the issuer's list, the root), each None if it cannot be used."""
    try:
        issuer, root = prove_crl_issuer(collateral.pck_crl_issuer_chain, authorities)
    except FormatError as error:
        checks["crl-issuer"] = failed("crl-issuer", "the issuer chain of the PCK revocation list: %s" % error.what)
        checks["crl-signature"] = not_checked("crl-signature", "the issuer of the revocation lists is not proven")
        return None, None, None, None
    lists: List[Optional[RevocationList]] = []
    wrong_issuer, wrong_list = [], []
    for name, data, signer in (("root", collateral.root_ca_crl, root.certificate), ("PCK", collateral.pck_crl, issuer)):
        try:
            crl = _crl(data)
            offence = crl_offence(crl, signer) if crl.issuer == signer.subject else ""
        except FormatError as error:
            wrong_list.append("%s revocation list: %s" % (name, error.what))
            lists.append(None)
            continue
        if crl.issuer != signer.subject:
            wrong_issuer.append("the %s revocation list was issued by %s, not by %s" % (name, ascii(der.common_name(crl.issuer)), signer.common_name))
        if offence:
            wrong_list.append("%s revocation list: %s" % (name, offence))
        lists.append(None if offence or crl.issuer != signer.subject else crl)
    for check_id, offences, good in (
        ("crl-signature", wrong_list, "root and PCK revocation lists are signed by their issuers"),
        ("crl-issuer", wrong_issuer, "root and %s" % issuer.common_name),
    ):
        checks[check_id] = failed(check_id, "; ".join(offences)) if offences else passed(check_id, good)
    if wrong_issuer and not wrong_list:
        checks["crl-signature"] = not_checked("crl-signature", "a revocation list is not its issuer's")
    return issuer, lists[0], lists[1], root


def _prove_signers(collateral: TdxCollateral, authorities: Authorities, checks: Dict[str, Check]) -> Tuple[Tuple[Certificate, ...], Optional[TrustRoot]]:
    """The certificates that signed TCB info and QE identity; empty if one of them is not the TCB signing key's."""
    signers: List[Certificate] = []
    root: Optional[TrustRoot] = None
    # As a rule both chains are the same text.
    chains = {"TCB info": collateral.tcb_info_issuer_chain, "QE identity": collateral.qe_identity_issuer_chain}
    proven: Dict[bytes, Certificate] = {}
    for name, pem in chains.items():
        try:
            if pem not in proven:
                proven[pem], root = prove_tcb_signer(pem, authorities)
        except FormatError as error:
            checks["tcb-signer-role"] = failed("tcb-signer-role", "issuer chain of the %s: %s" % (name, error.what))
            return (), None
        signers.append(proven[pem])
    checks["tcb-signer-role"] = passed("tcb-signer-role", "%s, issued by the root" % signers[0].common_name)
    return tuple(signers), root


def _judge_signers_revoked(
    signers: Sequence[Certificate], root: Optional[TrustRoot], crl: Optional[RevocationList], crl_root: Optional[TrustRoot], checks: Dict[str, Check]
) -> None:
    name = "tcb-signer-revoked"
    if crl is None or not signers or root is None or crl_root is None:
        checks[name] = not_checked(name, "the root's revocation list cannot be used" if signers else "the TCB signing key is not proven")
    elif root.certificate.der != crl_root.certificate.der:
        checks[name] = failed(name, "TCB signing certificate and revocation list lead to two different roots")
    else:
        bad = revoked(tuple(signers) + (root.certificate,), crl)
        checks[name] = failed(name, "%s is revoked" % ", ".join(bad)) if bad else passed(name, "the TCB signing certificate is not revoked")


def _prove_members(collateral: TdxCollateral, signers: Sequence[Certificate], checks: Dict[str, Check]) -> Tuple[Optional[TcbInfo], Optional[QeIdentity]]:
    if not signers:
        for name in ("tcb-info-signature", "qe-identity-signature", "tcb-info-id", "qe-identity-id"):
            checks[name] = not_checked(name, "the TCB signing key is not proven")
        return None, None
    info = _member("tcb-info", "TCB info", collateral.tcb_info, collateral.tcb_info_signature, signers[0], _tcb_info, checks)
    identity = _member("qe-identity", "QE identity", collateral.qe_identity, collateral.qe_identity_signature, signers[1], _qe_identity, checks)
    return info, identity


def _member(
    prefix: str, what: str, text: str, signature: bytes, signer: Certificate, parse: Callable[[str], T], checks: Dict[str, Check]
) -> Optional[T]:
    """Prove the signature over the exact text, then read it: nothing is read before it is known to be Intel's."""
    signed, identified = prefix + "-signature", prefix + "-id"
    checks[identified] = not_checked(identified, "the %s is not proven" % what)
    try:
        message = text.encode("utf-8")
    except UnicodeEncodeError:
        message = b""
    if not message or not ecdsa_p256_raw_verifies(p256_key(signer.spki), signature, message):
        checks[signed] = failed(signed, "the signature of the %s is not one of %s over these bytes" % (what, ascii(signer.common_name)))
        return None
    checks[signed] = passed(signed, "signed by %s" % signer.common_name)
    try:
        found = parse(text)
    except FormatError as error:
        if error.code == identified:
            checks[identified] = failed(identified, error.what)
        else:
            checks["collateral-format"] = failed("collateral-format", "the %s has a form that is not known: %s" % (what, error))
        return None
    checks[identified] = passed(identified, "it is what it should be, in a known version")
    return found


def _windows(
    info: Optional[TcbInfo], identity: Optional[QeIdentity], root_crl: Optional[RevocationList], pck_crl: Optional[RevocationList],
    signers: Sequence[Certificate], issuer: Optional[Certificate], root: Optional[TrustRoot],
) -> Tuple[Window, ...]:  # fmt: skip
    windows: List[Window] = []
    if info is not None:
        windows.append(("TCB info", info.issue_date, info.next_update))
    if identity is not None:
        windows.append(("QE identity", identity.issue_date, identity.next_update))
    for name, crl in (("root revocation list", root_crl), ("PCK revocation list", pck_crl)):
        if crl is not None and crl.next_update is not None:
            windows.append((name, crl.this_update, crl.next_update))
    for certificate in tuple(signers) + ((issuer,) if issuer else ()) + ((root.certificate,) if root else ()):
        windows.append(("certificate %s" % ascii(certificate.common_name), certificate.not_before, certificate.not_after))
    return tuple(windows)


def judge_windows(windows: Sequence[Window], at: datetime) -> Tuple[Check, Check]:
    """(collateral-not-yet-valid, collateral-expired) at ``at``; both ends belong to a window."""
    early = ["%s only from %s" % (what, first.isoformat()) for what, first, _last in windows if at < first]
    late = ["%s only until %s" % (what, last.isoformat()) for what, _first, last in windows if at > last]
    return (
        failed(TIMED[0], "at %s it is too early: %s" % (at.isoformat(), "; ".join(early))) if early else _IN_TIME[0],
        failed(TIMED[1], "at %s it is too late: %s" % (at.isoformat(), "; ".join(late))) if late else _IN_TIME[1],
    )


_IN_TIME = (passed(TIMED[0], "everything was issued before"), passed(TIMED[1], "everything is still current"))


def same_platform(info: TcbInfo, pck: PckExtensions, checks: Dict[str, Check]) -> bool:
    """Puts fmspc-mismatch and pceid-mismatch; True if the TCB info is for the PCK certificate's kind of platform."""
    for name, have, want in (("fmspc-mismatch", info.fmspc, pck.fmspc), ("pceid-mismatch", info.pceid, pck.pceid)):
        what = "FMSPC" if name.startswith("fmspc") else "PCEID"
        if have == want:
            checks[name] = passed(name, "%s %s" % (what, want.hex()))
        else:
            checks[name] = failed(name, "the TCB info is for %s %s, the PCK certificate for %s" % (what, have.hex(), want.hex()))
    return checks["fmspc-mismatch"].outcome == PASS and checks["pceid-mismatch"].outcome == PASS
