# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which collateral is for the platform of a PCK certificate, and whether it holds there and then: identity, times, revocation."""

from __future__ import annotations

from datetime import datetime
from typing import Dict, List, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.checks import PASS, Check, failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.tdx_collateral import parse_collateral
from ansible_collections.attested.ai.plugins.module_utils.verify import tdx_collateral
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.intel_chain import Authorities, PckChain, revoked
from ansible_collections.attested.ai.plugins.module_utils.verify.tdx_collateral import ProvenCollateral, judge_windows, prove_collateral

REVOCATION = ("pck-ca-revoked", "pck-revoked")
_COLLATERAL_THERE = passed("collateral-missing", "there is collateral for this platform")
ABOUT_COLLATERAL = ("fmspc-mismatch", "pceid-mismatch") + tdx_collateral.CHECKS + tdx_collateral.TIMED + REVOCATION


def judge_collateral(
    chain: PckChain, collateral: Sequence[bytes], authorities: Authorities, at: datetime, cache: Optional[VerificationCache], checks: List[Check]
) -> Optional[ProvenCollateral]:
    """Append the checks of the collateral; returns it if it is proven and for this platform. Its times are judged, but do not hinder that."""
    if not collateral or chain.extensions is None:
        reason = "no collateral was given" if not collateral else "the PCK certificate cannot be read, so it is not known which is needed"
        checks.append(failed("collateral-missing", reason) if not collateral else not_checked("collateral-missing", reason))
        checks.extend([not_checked(name, reason) for name in ABOUT_COLLATERAL])
        return None
    checks.append(_COLLATERAL_THERE)
    fmspc = chain.extensions.fmspc.hex()
    candidates = _candidates(collateral, fmspc, chain.ca, cache)
    if not candidates:
        there = sorted({found or "?" for found, _ca in _described(collateral, cache)})
        checks.append(failed("fmspc-mismatch", "the PCK certificate is for FMSPC %s, there is collateral for %s" % (fmspc, ", ".join(there)[:200])))
        checks.extend([not_checked(name, "there is no collateral for this FMSPC") for name in ABOUT_COLLATERAL[1:]])
        return None
    proofs = [prove_collateral(data, authorities.roots, cache, authorities) for data in candidates]
    proof = proofs[0] if len(proofs) == 1 else max(proofs, key=lambda found: _rank(found, at))
    return proof if _judge_proof(chain, proof, at, checks) else None


def _described(collateral: Sequence[bytes], cache: Optional[VerificationCache]) -> List[Tuple[Optional[str], str]]:
    """(FMSPC, authority) of each piece as it calls itself; a fleet's pieces are looked at once."""
    key = ("tdx-index", tuple(collateral))
    found: Optional[List[Tuple[Optional[str], str]]] = cache.get(key) if cache is not None else None
    if found is None:
        found = []
        for data in collateral:
            try:
                parsed = parse_collateral(data)
                found.append((parsed.fmspc, parsed.ca))
            except FormatError:
                found.append((None, ""))
        if cache is not None:
            cache.put(key, found)
    return found


def _candidates(collateral: Sequence[bytes], fmspc: str, ca: Optional[str], cache: Optional[VerificationCache]) -> List[bytes]:
    """The pieces for this FMSPC; of them those of the authority, if there is one."""
    if len(collateral) == 1 and cache is None:
        # Whatever it is, it is the only one: it tells for itself what is wrong with it.
        return [bytes(collateral[0])]
    named = [(bytes(data), who) for data, (found, who) in zip(collateral, _described(collateral, cache)) if found == fmspc]
    return [data for data, who in named if who == ca] or [data for data, _who in named] or ([bytes(collateral[0])] if len(collateral) == 1 else [])


def _rank(found: ProvenCollateral, at: datetime) -> Tuple[bool, bool, int, float]:
    number = found.tcb_info.evaluation_number if found.tcb_info is not None else -1
    return found.proven, found.current(at), number, found.issued.timestamp() if found.issued is not None else 0.0


def _judge_proof(chain: PckChain, proof: ProvenCollateral, at: datetime, checks: List[Check]) -> bool:
    """Append the checks; True if the collateral is proven and for the platform of a proven chain."""
    found: Dict[str, Check] = dict(proof.checks)
    same = False
    if proof.tcb_info is None or chain.extensions is None:
        for name in ("fmspc-mismatch", "pceid-mismatch"):
            found[name] = not_checked(name, "the TCB info is not proven")
    else:
        same = tdx_collateral.same_platform(proof.tcb_info, chain.extensions, found)
        if not chain.proven:
            for name in ("fmspc-mismatch", "pceid-mismatch"):
                if found[name].outcome == PASS:
                    found[name] = not_checked(name, "it holds, but for a certificate that is not proven")
    if proof.windows:
        found[tdx_collateral.TIMED[0]], found[tdx_collateral.TIMED[1]] = judge_windows(proof.windows, at)
    else:
        for name in tdx_collateral.TIMED:
            found[name] = not_checked(name, "nothing of the collateral is proven")
    _judge_revocation(chain, proof, at, found)
    checks.extend([found[name] for name in ABOUT_COLLATERAL])
    return same and chain.proven and proof.proven


def _judge_revocation(chain: PckChain, proof: ProvenCollateral, at: datetime, found: Dict[str, Check]) -> None:
    """crl-issuer, pck-ca-revoked and pck-revoked. A list that is too old still proves that a certificate was revoked."""
    if not chain.proven or chain.leaf is None or chain.intermediate is None or chain.root is None:
        for name in REVOCATION:
            found[name] = not_checked(name, "the PCK chain is not proven")
        return
    issuer, pck_crl = proof.crl_issuer, proof.pck_crl
    if issuer is not None and (issuer.subject != chain.intermediate.subject or issuer.spki != chain.intermediate.spki):
        found["crl-issuer"] = failed("crl-issuer", "the PCK revocation list is that of %s, the PCK certificate was issued by %s" % (
            issuer.common_name, chain.intermediate.common_name if issuer.subject != chain.intermediate.subject else "another key of that name"
        ))  # fmt: skip
        pck_crl = None
    above = [chain.intermediate, chain.root.certificate] + ([issuer] if issuer is not None else [])
    for name, crl, certificates in (("pck-ca-revoked", proof.root_crl, above), ("pck-revoked", pck_crl, [chain.leaf])):
        if crl is None:
            found[name] = not_checked(name, "there is no usable revocation list of the issuer")
            continue
        bad = revoked(certificates, crl)
        if bad:
            found[name] = failed(name, "%s is revoked" % ", ".join(bad))
        elif crl.next_update is None or not crl.this_update <= at <= crl.next_update:
            found[name] = not_checked(name, "the revocation list is not current")
        else:
            found[name] = _NOT_REVOKED[name]


_NOT_REVOKED = {
    "pck-ca-revoked": passed("pck-ca-revoked", "the authority of the PCK certificate is not revoked"),
    "pck-revoked": passed("pck-revoked", "the PCK certificate is not revoked"),
}
