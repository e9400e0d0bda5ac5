# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundles, the store's index, and everything that services and people hand to the collection as collateral."""

from __future__ import annotations

import functools
import json
from datetime import datetime, timezone

from harness import Target
from targets_snp import read, vectors

from ansible_collections.attested.ai.plugins.module_utils.endorsements import bundle, pcs, proofs, rim_service
from ansible_collections.attested.ai.plugins.module_utils.endorsements.client import Client, Patience, Response
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import INTEL, NVIDIA_RIM, load_roots
from ansible_collections.attested.ai.plugins.module_utils.endorsements.store import Index, Piece, parse_index
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import public_jwk

AT = datetime(2026, 11, 1, tzinfo=timezone.utc)
RIM_ID = "NV_GPU_DRIVER_GH100_550.144.03"


@functools.lru_cache(maxsize=1)
def key():
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


@functools.lru_cache(maxsize=1)
def pieces() -> tuple[tuple[Piece, object], ...]:
    found = [
        Piece("jwks", "jwks/a.json", b'{"keys": []}', "key set"),
        Piece("amd-crl", "amd/crl/milan.der", read("snp", "synth-crl-milan-ok.crl"), "list", AT, AT),
        Piece("cca", "cca/b.json", read("cca", "cpak-synth-p384.jwk.json"), "CPAK"),
    ]
    return tuple((piece, piece.entry("https://example.com/x", AT)) for piece in found)


def bundles() -> list[bytes]:
    entries = {piece.path: entry for piece, entry in pieces()}
    return [bundle.write_bundle(entries, {piece.path: piece.data for piece, _entry in pieces()}, AT, key())]


def indexes() -> list[bytes]:
    return [Index({piece.path: entry for piece, entry in pieces()}, AT).to_json(), Index({}).to_json()]


def files() -> list[bytes]:
    """One of each kind that a store takes by hand."""
    nvidia = vectors() / "nvidia" / "attestation-sdk" / "rims"
    found = [read("snp", "real-milan-v2-virtee.vek.der"), read("snp", "synth-crl-milan-ok.crl"), read("snp", "amd-ask-milan.pem")]
    found += [read("cca", "cpak-synth-p384.jwk.json"), read("tdx", "b0c06f-2025-06.collateral.json"), b'{"keys": []}']
    return found + [path.read_bytes() for path in sorted(nvidia.glob("*switchVBIOSRim*"))[:1]]


def answers() -> list[bytes]:
    """Of Intel's service: TCB info as it is served."""
    parts = json.loads(read("tdx", "b0c06f-2025-06.collateral.json"))
    return [('{"tcbInfo":%s,"signature":"%s"}' % (parts["tcb_info"], parts["tcb_info_signature"])).encode()]


def tdx_answer(data: bytes) -> object:
    parts = json.loads(read("tdx", "b0c06f-2025-06.collateral.json"))
    chain = {name: parts["tcb_info_issuer_chain"].replace("\n", "%0A") for name in ("tcb-info-issuer-chain", "sgx-enclave-identity-issuer-chain")}
    chain["sgx-pck-crl-issuer-chain"] = parts["pck_crl_issuer_chain"].replace("\n", "%0A")
    return pcs.fetch(client(data, chain), pcs.Service("http://x"), pcs.Wanted("b0c06f000000"), proofs.tdx_prover(load_roots(None, INTEL)), AT)


def rim_answers() -> list[bytes]:
    return [json.dumps({"id": RIM_ID, "rim": "PGEvPg==", "sha256": None, "rim_format": "TCG"}).encode()]


def client(body: bytes, headers: dict[str, str]) -> Client:
    """A client whose every answer is this one."""
    import tempfile

    gates = tempfile.gettempdir() + "/attested-fuzz-gates"

    def opener(request):
        return Response(200, {"content-type": "application/json", **headers}, body)

    return Client(opener, Patience(attempts=1), gates, sleep=lambda seconds: None)


def rim_answer(data: bytes) -> object:
    return rim_service.fetch(client(data, {}), "http://x", RIM_ID, "", proofs.rim_prover(load_roots(None, NVIDIA_RIM)))


TARGETS = {
    "collateral-bundle": Target(bundles, lambda data: bundle.read_bundle(data, public_jwk(key()))),
    "collateral-archive": Target(bundles, bundle.split),
    "collateral-index": Target(indexes, parse_index),
    "collateral-file": Target(files, lambda data: proofs.identify(data, "file", lambda kind: load_roots(None, kind))),
    "collateral-pcs-answer": Target(answers, tdx_answer),
    "collateral-rim-answer": Target(rim_answers, rim_answer),
}
