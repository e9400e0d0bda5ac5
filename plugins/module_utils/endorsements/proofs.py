# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Prove collateral before it is kept, with the verifiers' own functions, and find out what a file is.

What has no signature of a vendor's (CPAKs, key sets) is kept if it can be read: who trusts it says so in the policy.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime
from typing import Callable, List, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.endorsements import kds, pcs, rim_service
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import AMD, INTEL, NVIDIA_RIM, TrustRoots
from ansible_collections.attested.ai.plugins.module_utils.endorsements.store import Entry, Piece, file_name
from ansible_collections.attested.ai.plugins.module_utils.errors import EndorsementError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.formats.cca_endorsement import parse_endorsement
from ansible_collections.attested.ai.plugins.module_utils.formats.der import Certificate, pem_to_der
from ansible_collections.attested.ai.plugins.module_utils.formats.gce_endorsement import parse_gce_endorsement
from ansible_collections.attested.ai.plugins.module_utils.formats.ocsp import parse_ocsp
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia_chain import DeviceChain, build_chain
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia_rim import verify_rim

RootsOf = Callable[[str], TrustRoots]


def rim_path(data: bytes, roots: TrustRoots, where: str) -> Tuple[Certificate, ...]:
    """The certificates of a proven manifest's signer, leaf first. Raises EndorsementError."""
    verified = verify_rim(data, roots)
    if not verified.proven or verified.path is None:
        offence = verified.format_offence or verified.signature_offence or verified.chain_offence
        raise EndorsementError("it is no genuine manifest (%s)" % offence, where=where, code="collateral-answer")
    return verified.path.certificates


def rim_prover(roots: TrustRoots) -> rim_service.Prover:
    """Proves digest, signature and path of a manifest; its signer's dates are told, not judged."""

    def prove(data: bytes, where: str) -> Tuple[str, str, datetime, datetime]:
        path = rim_path(data, roots, where)
        rim = verify_rim(data, roots).rim
        if rim is None:
            raise EndorsementError("it is no manifest", where=where, code="collateral-answer")
        return rim.product, rim.version, path[0].not_before, min(certificate.not_after for certificate in path)

    return prove


def tdx_prover(roots: TrustRoots) -> pcs.Prover:
    """Proves collateral of Intel's; its dates are told, not judged."""

    def prove(data: bytes, where: str) -> pcs.Proven:
        # Imported on use, like all that only Intel's evidence needs.
        from ansible_collections.attested.ai.plugins.module_utils.endorsements.intel_proofs import prove_tdx

        return prove_tdx(data, roots, where)

    return prove


def prove_entry(entry: Entry, data: bytes, roots_of: RootsOf, supplied: Sequence[bytes] = ()) -> Tuple[Piece, Entry]:
    """A file of a bundle again as a piece, and its entry with what the content itself says of dates. Raises EndorsementError."""
    piece = next(iter(identify(data, entry.path, roots_of, supplied)), None)
    # AMD's pieces are found by their path, so it must be the one that the content has. The others are found by what they hold.
    if piece is None or piece.kind != entry.kind or piece.kind.startswith("amd-") and piece.path != entry.path:
        raise EndorsementError("it is not what its place in the store says", where=entry.path, code="collateral-answer")
    piece = replace(piece, path=entry.path)
    return piece, replace(entry, issued_at=piece.issued_at, expires_at=piece.expires_at, about=piece.about)


def device_chain(pem: bytes, roots: TrustRoots) -> DeviceChain:
    """What is known of a device's certificates; ``proven`` says whether they lead to a pinned root."""
    return build_chain(pem, roots)


def identify(data: bytes, name: str, roots_of: RootsOf, supplied: Sequence[bytes] = ()) -> List[Piece]:
    """What a file that somebody brings holds: its pieces, each proven as far as that kind can be. Raises EndorsementError.

    ``name`` is that of the file, or its path in a store. ``supplied`` are CA certificates of AMD's (DER) besides those that are shipped.
    """
    start = data.lstrip()[:64]
    try:
        if start.startswith(b"<"):
            return [_rim(data, name, roots_of)]
        if start[:1] in (b"{", b"["):
            return [_json(data, name, roots_of)]
        if start.startswith(b"-----BEGIN X509 CRL"):
            return [kds.crl_piece(der, roots_of(AMD), name) for der in pem_to_der(data.decode("ascii", "replace"), "X509 CRL", name)]
        if start.startswith(b"-----BEGIN CERTIFICATE"):
            return _certificates(data, name, roots_of, supplied)
        return [_der(data, name, roots_of, supplied)]
    except FormatError as error:
        raise EndorsementError(error.what, where=error.where or name, fix=error.fix, code="collateral-file") from None


def _certificates(data: bytes, name: str, roots_of: RootsOf, supplied: Sequence[bytes]) -> List[Piece]:
    """VCEKs and VLEKs each as a piece of its own; CA certificates of AMD's together as one."""
    every = pem_to_der(data.decode("ascii", "replace"), where=name)
    leaves = [der for der in every if kds.is_vek(der)]
    roots = roots_of(AMD)
    if not leaves:
        return [kds.chain_piece(data, roots, name)]
    authorities = [der for der in every if der not in leaves] + list(supplied)
    return [kds.vek_piece(der, roots, authorities, name) for der in leaves]


def _der(data: bytes, name: str, roots_of: RootsOf, supplied: Sequence[bytes]) -> Piece:
    if kds.is_vek(data):
        return kds.vek_piece(data, roots_of(AMD), supplied, name)
    readers: Tuple[Callable[[bytes], Piece], ...] = (lambda found: kds.crl_piece(found, roots_of(AMD), name), _unproven_ocsp, _launch_endorsement)
    for read in readers:
        try:
            return read(data)
        except (FormatError, EndorsementError):
            continue
    raise EndorsementError("it is nothing that a store keeps", where=name, code="collateral-file",
                           fix="Known are VCEKs, VLEKs, CA certificates and revocation lists of AMD's under a pinned root, TDX collateral, manifests, "
                               "OCSP responses, CPAK documents, key sets and launch endorsements")  # fmt: skip


def _unproven_ocsp(data: bytes) -> Piece:
    """A response on its own does not tell whose certificate it is about; the verifier, which has the certificate, proves it."""
    entry = max(parse_ocsp(data).entries, key=lambda found: found.this_update)
    path = "nvidia/ocsp/%s-%x.der" % (entry.issuer_key_hash.hex()[:16], entry.serial)
    return Piece("ocsp", path, data, "revocation status of serial %x" % entry.serial, entry.this_update, entry.next_update)


def _launch_endorsement(data: bytes) -> Piece:
    parse_gce_endorsement(data)
    return Piece("launch-endorsement", "gce/%s.binarypb" % hashlib.sha256(data).hexdigest()[:32], data, "launch endorsement of Google Compute Engine")


def _rim(data: bytes, name: str, roots_of: RootsOf) -> Piece:
    product, version, issued, expires = rim_prover(roots_of(NVIDIA_RIM))(data, name)
    stem = name.rsplit("/", 1)[-1].rsplit(".", 1)[0] if "." in name else name
    return Piece("rim", "nvidia/rim/%s.xml" % file_name(stem), data, "manifest of %s %s" % (product, version), issued, expires)


def _json(data: bytes, name: str, roots_of: RootsOf) -> Piece:
    document = strict.loads(data, name)
    if isinstance(document, dict) and "tcb_info" in document:
        view = next((view for view in pcs.VIEWS if name.endswith("-%s.json" % view)), pcs.VIEWS[0])
        proven = tdx_prover(roots_of(INTEL))(data, name)
        return pcs.tdx_piece(data, pcs.Wanted(proven.fmspc, proven.ca, view), proven, name)
    if isinstance(document, dict) and isinstance(document.get("keys"), list):
        return Piece("jwks", "jwks/%s.json" % hashlib.sha256(data).hexdigest()[:32], data, "key set with %d keys" % len(document["keys"]))
    endorsement = parse_endorsement(data, name)
    about = "CPAKs of %d platforms" % len(endorsement.cpaks)
    return Piece("cca", "cca/%s.json" % hashlib.sha256(data).hexdigest()[:32], data, about, None, endorsement.not_after)
