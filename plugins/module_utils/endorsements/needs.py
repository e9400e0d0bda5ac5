# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What collateral evidence needs, and from which service each piece comes.

Evidence is read here to know what to ask for, not to judge it: forged evidence can make us ask for something useless, nothing more.
Certificates that came along and prove themselves are taken instead of asking for them again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import datetime
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.endorsements import kds, ocsp_service, pcs, proofs, rim_service
from ansible_collections.attested.ai.plugins.module_utils.endorsements.client import Client
from ansible_collections.attested.ai.plugins.module_utils.endorsements.fetch import Need
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import AMD, INTEL, NVIDIA_DEVICE, NVIDIA_RIM, TrustRoots
from ansible_collections.attested.ai.plugins.module_utils.endorsements.store import Piece, Store
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, EndorsementError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.azure_evidence import AZ_SNP, AZ_TDX, parse_azure_evidence
from ansible_collections.attested.ai.plugins.module_utils.formats.der import pem_to_der
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import EvidenceDocument, EvidenceItem
from ansible_collections.attested.ai.plugins.module_utils.formats.hcl_report import parse_hcl_report
from ansible_collections.attested.ai.plugins.module_utils.formats.nvidia_opaque import GPU, SWITCH, parse_opaque
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_certtable import parse_certtable
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_report import SIGNING_KEY_VLEK, parse_report
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_tcb import TcbVersion, layout_of_product
from ansible_collections.attested.ai.plugins.module_utils.formats.spdm import parse_spdm_report

RootsOf = Callable[[str], TrustRoots]


@dataclass(frozen=True)
class Sources:
    """Where to ask. Addresses have no slash at their end. ``rim_token`` is a secret."""

    kds: str = kds.URL
    pcs: pcs.Service = field(default_factory=pcs.Service)
    rim: str = rim_service.URL
    ocsp: str = ocsp_service.URL
    rim_token: str = field(default="", repr=False)


@dataclass(frozen=True)
class Wishes:
    """``tcbs``: for which of a report's TCBs VCEKs are wanted (kds.TCB_NAMES). ``view`` and ``number`` choose among Intel's answers.
    ``revocation``: whether lists and statuses of revocation are wanted."""

    tcbs: Tuple[str, ...] = ("reported",)
    view: str = "standard"
    number: Optional[int] = None
    revocation: bool = True


class Planner:
    """Collects needs. ``found`` are proven pieces that came with the evidence, by path, each with where it came from. ``notes`` says in words what
    is needed and no service has."""

    def __init__(self, sources: Sources, wishes: Wishes, roots_of: RootsOf, store: Store, at: datetime) -> None:
        self._sources = sources
        self._wishes = wishes
        self._roots_of = roots_of
        self._store = store
        self._at = at
        self._shared: Dict[int, pcs.Shared] = {}
        self._needs: Dict[str, Need] = {}
        self.found: Dict[str, Tuple[Piece, str]] = {}
        self.notes: List[str] = []

    @property
    def needs(self) -> List[Need]:
        return list(self._needs.values())

    def add_document(self, document: EvidenceDocument, name: str) -> None:
        """All that the items of one document need."""
        for item in document.items:
            reader = _READERS.get(item.type)
            if reader is None:
                self.notes.append("%s: %s needs nothing that can be fetched" % (name, item.type))
                continue
            try:
                reader(self, item, name)
            except AttestedError as error:
                self.notes.append("%s: %s" % (name, error))

    def add_snp_report(self, data: bytes, leaf: Optional[bytes], name: str) -> None:
        """``leaf``: the certificate that came with the report, in DER."""
        report = parse_report(data)
        roots = self._roots_of(AMD)
        harvested = self._take_vek(leaf, roots, name)
        if report.signing_key == SIGNING_KEY_VLEK:
            if not harvested:
                self.notes.append("%s: the report is signed with a VLEK, which only the cloud provider hands out: import it as a file" % name)
        elif report.product is None or report.chip_id_masked:
            what = "chip" if report.chip_id_masked else "product"
            self.notes.append("%s: the report does not say which %s: give amd with product, chip_id and tcb" % (name, what))
        for vcek in kds.vceks_of_report(report, self._wishes.tcbs):
            self.add_vcek(vcek)
        product = report.product or (harvested.split("/")[2] if harvested else None)
        if product is not None:
            self.add_product(product, "vlek" if report.signing_key == SIGNING_KEY_VLEK else "vcek")

    def add_vcek(self, vcek: kds.Vcek) -> None:
        self.add_product(vcek.product)
        if vcek.path not in self.found:
            roots = self._roots_of(AMD)
            self._need(vcek.path, "amd-vek", vcek.about, lambda client: kds.fetch_vcek(client, self._sources.kds, vcek, roots, chains(self._store)))

    def add_product(self, product: str, role: str = "vcek") -> None:
        """The revocation list of one of AMD's products, and its CA certificates where they are not shipped."""
        roots = self._roots_of(AMD)
        if kds.needs_chain(product, roots):
            path = kds.chain_path(product, role)
            self._need(path, "amd-chain", "CA certificates of %s" % product, lambda client: kds.fetch_chain(client, self._sources.kds, product, roots, role))
        if self._wishes.revocation:

            def get(client: Client) -> Tuple[Piece, str]:
                return kds.fetch_crl(client, self._sources.kds, product, roots, self._at)

            self._need(kds.crl_path(product), "amd-crl", "revocation list of %s" % product, get)

    def add_fmspc(self, fmspc: str, ca: str) -> None:
        wanted = pcs.Wanted(fmspc, ca, self._wishes.view, self._wishes.number)
        prove = proofs.tdx_prover(self._roots_of(INTEL))

        def get(client: Client) -> Tuple[Piece, str]:
            shared = self._shared.setdefault(id(client), pcs.Shared(client))
            return pcs.fetch(client, self._sources.pcs, wanted, prove, self._at, shared)

        self._need(wanted.path, "tdx", wanted.about, get)

    def add_device(self, kind: str, report: bytes, chain: bytes, name: str) -> None:
        """The manifests and the revocation statuses for a report of a GPU or a switch."""
        certificates = proofs.device_chain(chain, self._roots_of(NVIDIA_DEVICE))
        opaque = parse_opaque(parse_spdm_report(report).opaque, kind)
        ids = rim_service.ids_of(certificates.product, opaque)
        for rim_id in ids:
            self.add_rim(rim_id)
        if len(ids) < (1 if kind == SWITCH else 2):
            self.notes.append("%s: the report does not say all that the names of its manifests are made of: give rims" % name)
        if not certificates.proven:
            self.notes.append("%s: the device's certificates lead to no pinned root, so their revocation is not asked for" % name)
        elif self._wishes.revocation:
            for wanted in ocsp_service.wanted_of_device(certificates.certificates):
                self.add_ocsp(wanted)

    def add_tdx_quote(self, quote: bytes) -> None:
        """The collateral of the platform that made a quote, by the certificate in it."""
        # Imported on use, like all that only Intel's evidence needs.
        from ansible_collections.attested.ai.plugins.module_utils.endorsements.intel_proofs import platform_of

        self.add_fmspc(*platform_of(quote))

    def add_rim(self, rim_id: str) -> None:
        prove = proofs.rim_prover(self._roots_of(NVIDIA_RIM))

        def get(client: Client) -> Tuple[Piece, str]:
            return rim_service.fetch(client, self._sources.rim, rim_id, self._sources.rim_token, prove)

        self._need(rim_service.path_of(rim_service.check_id(rim_id)), "rim", "manifest %s" % rim_id, get)

    def add_ocsp(self, wanted: ocsp_service.Wanted) -> None:
        def get(client: Client) -> Tuple[Piece, str]:
            return ocsp_service.fetch(client, self._sources.ocsp, wanted, os.urandom(ocsp_service.NONCE_SIZE), self._at)

        self._need(wanted.path, "ocsp", wanted.about, get)

    def followers(self) -> List[Need]:
        """What the manifests that are in the store now need in turn: the revocation status of their signers."""
        before = len(self._needs)
        if self._wishes.revocation:
            index = self._store.index()
            for need in [need for need in self.needs if need.kind == "rim" and need.path in index.entries]:
                entry = index.entries[need.path]
                try:
                    path = proofs.rim_path(self._store.read(entry), self._roots_of(NVIDIA_RIM), entry.path)
                except EndorsementError:
                    continue
                for wanted in ocsp_service.wanted_of_rim(path):
                    self.add_ocsp(wanted)
        return self.needs[before:]

    def _take_vek(self, leaf: Optional[bytes], roots: TrustRoots, name: str) -> str:
        """Keep a certificate that came with the evidence and proves itself. Returns its path in the store, empty if there is none."""
        if leaf is None:
            return ""
        try:
            piece = kds.vek_piece(leaf, roots, chains(self._store), name)
        except EndorsementError:
            return ""
        self.found.setdefault(piece.path, (piece, "evidence of %s" % name))
        return piece.path

    def _need(self, path: str, kind: str, about: str, get: Callable[[Client], Tuple[Piece, str]]) -> None:
        self._needs.setdefault(path, Need(path, kind, about, get))


def chains(store: Store) -> Sequence[bytes]:
    """The CA certificates of AMD's (DER) that a store holds."""
    found: List[bytes] = []
    for entry in store.index().entries.values():
        if entry.kind == "amd-chain":
            try:
                found.extend(pem_to_der(store.read(entry).decode("ascii", "replace"), where=entry.path))
            except AttestedError:
                continue
    return found


def vcek_of(product: str, chip_id: str, tcb: Dict[str, int]) -> kds.Vcek:
    """A VCEK that a user names: ``chip_id`` in hexadecimal, ``tcb`` by component. Raises EndorsementError."""
    known = kds.product_of(product)
    size = 8 if known == "turin" else 64
    try:
        hwid = bytes.fromhex(chip_id)
    except ValueError:
        hwid = b""
    if known == "turin" and len(hwid) == 64 and not any(hwid[8:]):
        hwid = hwid[:8]
    if len(hwid) != size:
        raise EndorsementError("a chip_id of %d hexadecimal digits was expected" % (2 * size), where="amd %s" % product)
    names = (("fmc",) if layout_of_product(known).fmc is not None else ()) + ("bootloader", "tee", "snp", "microcode")
    if set(tcb) != set(names) or not all(isinstance(value, int) and 0 <= value <= 255 for value in tcb.values()):
        raise EndorsementError("tcb must have exactly %s, each from 0 to 255" % ", ".join(names), where="amd %s" % product)
    return kds.Vcek(known, hwid, TcbVersion(tcb.get("fmc"), tcb["bootloader"], tcb["tee"], tcb["snp"], tcb["microcode"]))


def _snp(planner: Planner, item: EvidenceItem, name: str) -> None:
    table = item.auxiliary.get("certificates")
    entries: Dict[str, bytes] = {}
    if table is not None:
        try:
            entries = dict(parse_certtable(table).entries)
        except FormatError:
            entries = {}
    planner.add_snp_report(item.evidence, entries.get("vcek") or entries.get("vlek"), name)


def _az_snp(planner: Planner, item: EvidenceItem, name: str) -> None:
    azure = parse_azure_evidence(item.evidence, AZ_SNP)
    planner.add_snp_report(parse_hcl_report(azure.hcl_report).hardware, azure.endorsement, name)


def _tdx(planner: Planner, item: EvidenceItem, _name: str) -> None:
    planner.add_tdx_quote(item.evidence)


def _az_tdx(planner: Planner, item: EvidenceItem, _name: str) -> None:
    planner.add_tdx_quote(parse_azure_evidence(item.evidence, AZ_TDX).endorsement)


def _gpu(planner: Planner, item: EvidenceItem, name: str) -> None:
    planner.add_device(GPU, item.evidence, item.auxiliary.get("certificates", b""), name)


def _switch(planner: Planner, item: EvidenceItem, name: str) -> None:
    planner.add_device(SWITCH, item.evidence, item.auxiliary.get("certificates", b""), name)


def _cca(planner: Planner, _item: EvidenceItem, name: str) -> None:
    planner.notes.append("%s: CPAKs of CCA platforms come from the silicon vendor or the operator: import them as files" % name)


_READERS: Dict[str, Callable[[Planner, EvidenceItem, str], None]] = {
    "sev-snp": _snp,
    "az-snp-vtpm": _az_snp,
    "tdx": _tdx,
    "az-tdx-vtpm": _az_tdx,
    "nvidia-gpu": _gpu,
    "nvidia-switch": _switch,
    "cca": _cca,
}
