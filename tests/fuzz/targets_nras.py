# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens of NVIDIA's attestation service: the bundle, the key set, and the verifier over both."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from harness import Target

# A soft service makes what no public capture has: the key to sign with.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "nras"))

from ansible_collections.attested.ai.plugins.module_utils.formats.nras_token import parse_bundle, parse_jwks  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.verify.nras import verify_nras  # noqa: E402
from nras_lab import AT, ISSUER, NONCE, Service  # noqa: E402


@functools.lru_cache(maxsize=None)
def service() -> Service:
    return Service()


@functools.lru_cache(maxsize=None)
def bundles() -> tuple[bytes, ...]:
    soft = service()
    return soft.bundle(), soft.bundle(soft.devices(3)), soft.bundle(header={"alg": "none"})


@functools.lru_cache(maxsize=None)
def key_sets() -> tuple[bytes, ...]:
    return (service().jwks(),)


def verify(data: bytes) -> None:
    found = verify_nras(data, key_sets(), [service().pin], [], AT, NONCE, ISSUER)
    # Space around the tokens means nothing and nobody signed it; the tokens themselves may not differ.
    if found.authentic is True and not found.failed and parse_bundle(data) not in [parse_bundle(one) for one in bundles()]:
        raise AssertionError("a changed token was accepted")


def verify_with_keys(data: bytes) -> None:
    verify_nras(bundles()[0], [data], [service().pin], [], AT, NONCE, ISSUER)


TARGETS = {
    "nras-bundle": Target(lambda: list(bundles()), parse_bundle),
    "nras-jwks": Target(lambda: list(key_sets()), parse_jwks),
    "nras-verify": Target(lambda: list(bundles()), verify),
    "nras-verify-jwks": Target(lambda: list(key_sets()), verify_with_keys),
}
