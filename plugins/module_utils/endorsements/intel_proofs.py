# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Prove Intel's collateral before it is kept, and find out which platform made a quote."""

from __future__ import annotations

from typing import Tuple

from ansible_collections.attested.ai.plugins.module_utils.endorsements.pcs import Proven
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import TrustRoots
from ansible_collections.attested.ai.plugins.module_utils.errors import EndorsementError
from ansible_collections.attested.ai.plugins.module_utils.formats.der import parse_certificate
from ansible_collections.attested.ai.plugins.module_utils.formats.pck import chain_to_der, parse_pck_extensions
from ansible_collections.attested.ai.plugins.module_utils.formats.tdx_quote import parse_quote
from ansible_collections.attested.ai.plugins.module_utils.verify.intel_chain import CA_NAMES, PLATFORM
from ansible_collections.attested.ai.plugins.module_utils.verify.tdx_collateral import prove_collateral


def platform_of(quote: bytes) -> Tuple[str, str]:
    """(FMSPC in hexadecimal, "platform" or "processor") by the PCK certificate in a quote. Raises FormatError."""
    leaf = parse_certificate(chain_to_der(parse_quote(quote).certification_data)[0])
    return parse_pck_extensions(leaf.extensions).fmspc.hex(), CA_NAMES.get(leaf.issuer_common_name or "", PLATFORM)


def prove_tdx(data: bytes, roots: TrustRoots, where: str) -> Proven:
    """Every signature, every signer in its role; the dates are told, not judged. Raises EndorsementError (code "collateral-answer")."""
    found = prove_collateral(data, roots)
    info, issuer, ends = found.tcb_info, found.crl_issuer, found.not_after
    if not found.proven or info is None or issuer is None or ends is None:
        raise EndorsementError("it is not genuine (%s)" % (found.offence or "not all of it is proven"), where=where, code="collateral-answer")
    # The oldest part: an answer is older than another if any part of it is.
    issued = min(window[1] for window in found.windows if not window[0].startswith("certificate"))
    return Proven(info.fmspc.hex(), info.evaluation_number, CA_NAMES.get(issuer.common_name or "", PLATFORM), issued, ends)
