# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Prove Intel's collateral before it is kept, and find out which platform made a quote."""

from __future__ import annotations

from typing import Tuple

from ansible_collections.attested.ai.plugins.module_utils.endorsements.pcs import Proven
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import TrustRoots
from ansible_collections.attested.ai.plugins.module_utils.errors import EndorsementError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.der import parse_certificate, parse_crl
from ansible_collections.attested.ai.plugins.module_utils.formats.pck import chain_to_der, parse_pck_extensions
from ansible_collections.attested.ai.plugins.module_utils.formats.tcb_info import parse_qe_identity, parse_tcb_info
from ansible_collections.attested.ai.plugins.module_utils.formats.tdx_collateral import TdxCollateral, parse_collateral
from ansible_collections.attested.ai.plugins.module_utils.formats.tdx_quote import parse_quote
from ansible_collections.attested.ai.plugins.module_utils.verify import p256
from ansible_collections.attested.ai.plugins.module_utils.verify.intel_chain import PCK_CAS, crl_offence, prove_pck_ca, prove_tcb_signer


def platform_of(quote: bytes) -> Tuple[str, str]:
    """(FMSPC in hexadecimal, "platform" or "processor") by the PCK certificate in a quote. Raises FormatError."""
    leaf = parse_certificate(chain_to_der(parse_quote(quote).certification_data)[0])
    return parse_pck_extensions(leaf.extensions).fmspc.hex(), PCK_CAS.get(leaf.issuer_common_name or "", "platform")


def prove_tdx(data: bytes, roots: TrustRoots, where: str) -> Proven:
    """Every signature, every signer in its role; the dates are told, not judged. Raises EndorsementError (code "collateral-answer")."""
    try:
        return _prove(parse_collateral(data, where), roots, where)
    except FormatError as error:
        raise EndorsementError(error.what, where=error.where or where, code="collateral-answer") from None


def _prove(collateral: TdxCollateral, roots: TrustRoots, where: str) -> Proven:
    def need(offence: str) -> None:
        if offence:
            raise EndorsementError("it is not genuine (%s)" % offence, where=where, code="collateral-answer")

    tcb_signer = prove_tcb_signer(collateral.tcb_info_issuer_chain, roots)
    qe_signer = prove_tcb_signer(collateral.qe_identity_issuer_chain, roots)
    authority = prove_pck_ca(collateral.pck_crl_issuer_chain, roots)
    for what, path in (("TCB info", tcb_signer), ("QE identity", qe_signer), ("PCK list", authority)):
        need("" if path.proven else "%s: %s" % (what, path.offence or "its signer is not proven"))
    for what, path, text, signature in (
        ("TCB info", tcb_signer, collateral.tcb_info, collateral.tcb_info_signature),
        ("QE identity", qe_signer, collateral.qe_identity, collateral.qe_identity_signature),
    ):
        need("" if p256.raw_verifies(path.key, signature, text.encode("utf-8")) else "the signature over the %s is not its signer's" % what)
    root_crl, pck_crl = parse_crl(collateral.root_ca_crl), parse_crl(collateral.pck_crl)
    need(crl_offence(root_crl, authority.certificates[-1]))
    need(crl_offence(pck_crl, authority.certificates[0]))
    info, identity = parse_tcb_info(collateral.tcb_info), parse_qe_identity(collateral.qe_identity)
    ends = [info.next_update, identity.next_update] + [crl.next_update for crl in (root_crl, pck_crl) if crl.next_update is not None]
    ends += [certificate.not_after for path in (tcb_signer, qe_signer, authority) for certificate in path.certificates]
    issued = min(info.issue_date, identity.issue_date, root_crl.this_update, pck_crl.this_update)
    return Proven(info.fmspc.hex(), info.evaluation_number, PCK_CAS[authority.certificates[0].common_name or ""], issued, min(ends))
