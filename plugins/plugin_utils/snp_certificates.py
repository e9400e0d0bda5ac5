# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The certificate table that an SEV-SNP host hands to its guests, made of what a collateral store holds and proves."""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.module_utils.endorsements import kds
from ansible_collections.attested.ai.plugins.module_utils.endorsements.needs import chains, vcek_of
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import TrustRoots
from ansible_collections.attested.ai.plugins.module_utils.endorsements.store import Store
from ansible_collections.attested.ai.plugins.module_utils.errors import EndorsementError
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_certtable import CertificateTable, build_certtable, parse_certtable
from ansible_collections.attested.ai.plugins.module_utils.verify.amd_chain import build_chain


def certificate_table(store: Store, chip: t.Mapping[str, t.Any], roots: TrustRoots) -> bytes:
    """VCEK, ASK and ARK for ``chip`` (product, chip_id, tcb) in the form of the GHCB specification. Raises EndorsementError if the store has no VCEK for
    exactly this chip and TCB, or if it does not lead to a pinned root."""
    wanted = vcek_of(chip["product"], chip["chip_id"], {name: value for name, value in chip["tcb"].items() if value is not None})
    with store.reading() as index:
        entry = index.entries.get(wanted.path)
        if entry is None:
            raise EndorsementError(
                "the store has no %s" % wanted.about, where=store.root, fix="Fetch it with attested.ai.collateral, option amd", code="vcek-missing"
            )
        data, supplied = store.read(entry), chains(store)
    piece = kds.vek_piece(data, roots, supplied, entry.path)
    if piece.path != wanted.path:
        raise EndorsementError("it is the %s, not the %s" % (piece.about, wanted.about), where=entry.path, code="vcek-missing")
    chain = build_chain(data, supplied, roots, None)
    if chain.intermediate is None or chain.root is None:
        raise EndorsementError("it leads to no pinned root", where=entry.path, code="vcek-missing")
    entries = (("vcek", data), ("ask", chain.intermediate.der), ("ark", chain.root.certificate.der))
    table = build_certtable(CertificateTable(entries))
    if parse_certtable(table).entries != entries:
        raise EndorsementError("the table that was built does not read as it was meant", where=entry.path, code="vcek-missing")
    return table
