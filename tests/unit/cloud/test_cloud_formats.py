# SPDX-License-Identifier: GPL-3.0-or-later
"""The parsers alone: any bytes, round trips, and every length."""

from __future__ import annotations

import importlib
import struct
import sys
from pathlib import Path

import pytest
from cloud_lab import NONCE, PCRS, build_hcl, build_quote, runtime_json
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.attested.ai.plugins.module_utils.appraisal.azure_policy import KEYS, AzurePolicy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import load_policy
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError, PolicyError
from ansible_collections.attested.ai.plugins.module_utils.formats import tpm2
from ansible_collections.attested.ai.plugins.module_utils.formats.azure_evidence import AzureEvidence, parse_azure_evidence
from ansible_collections.attested.ai.plugins.module_utils.formats.hcl_report import parse_hcl_report

FUZZ = Path(__file__).resolve().parents[2] / "fuzz"
PARSERS = {
    "hcl": parse_hcl_report, "quote": tpm2.parse_quote, "signature": tpm2.parse_signature, "public": tpm2.parse_public,
    "snp": lambda data: parse_azure_evidence(data, "az-snp-vtpm"), "tdx": lambda data: parse_azure_evidence(data, "az-tdx-vtpm"),
}


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.binary(max_size=3000))
def test_any_bytes(name, data):
    try:
        PARSERS[name](data)
    except FormatError:
        pass


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["keys", "kid", "n", "user-data", "vm-configuration", "secure-boot"]), inner),
    max_leaves=8,
)


@given(members=st.fixed_dictionaries({}, optional={"keys": json_values, "user-data": json_values, "vm-configuration": json_values}), size=st.integers(0, 4000))
def test_any_json_in_a_report(azure, members, size):
    try:
        parse_hcl_report(build_hcl(bytes(1184), runtime_json(azure.ak, **members), size=size))
    except FormatError:
        pass


@given(extra=st.binary(max_size=66), pcrs=st.sets(st.integers(0, 23)), clock=st.integers(0, 2**64 - 1))
def test_what_a_quote_says_is_read(extra, pcrs, clock):
    chosen = tuple(sorted(pcrs))
    data = build_quote(extra, [PCRS[number] for number in chosen], chosen)
    position = 4 + 2 + 2 + 34 + 2 + len(extra)
    quote = tpm2.parse_quote(data[:position] + struct.pack(">Q", clock) + data[position + 8:])
    assert (quote.extra_data, quote.clock, quote.safe) == (extra, clock, True)
    assert quote.selections == (tpm2.PcrSelection(tpm2.ALG_SHA256, chosen),)


@given(st.sampled_from([tpm2.ALG_RSASSA, tpm2.ALG_RSAPSS]), st.sampled_from(sorted(tpm2.HASH_NAMES)), st.binary(max_size=512))
def test_rsa_signatures_round_trip(scheme, algorithm, value):
    signature = tpm2.Signature(scheme, algorithm, value)
    assert tpm2.parse_signature(tpm2.build_signature(signature)) == signature


@given(st.integers(0, 2**384), st.integers(0, 2**384))
def test_ecdsa_signatures_round_trip(r, s):
    signature = tpm2.Signature(tpm2.ALG_ECDSA, tpm2.ALG_SHA384, r=r, s=s)
    assert tpm2.parse_signature(tpm2.build_signature(signature)) == signature


@given(st.sampled_from(["az-snp-vtpm", "az-tdx-vtpm"]), st.sampled_from([1, 2]), st.binary(max_size=60), st.binary(max_size=60),
       st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=24))
def test_evidence_round_trips(tee, version, first, second, pcrs):
    evidence = AzureEvidence(tee, version, first, second, first, tuple(pcrs), second)
    assert parse_azure_evidence(evidence.to_json(), tee) == evidence


def test_every_length_of_every_structure():
    """Cut at every place and lengthened: never read as something else."""
    sys.path.insert(0, str(FUZZ))
    targets = importlib.import_module("targets_cloud")
    seeds = {"public": targets.publics(), "signature": [tpm2.build_signature(tpm2.Signature(tpm2.ALG_ECDSA, 11, r=5, s=6))], "quote": [build_quote(NONCE)]}
    for name, examples in seeds.items():
        for data in examples:
            PARSERS[name](data)
            for broken in [data[:size] for size in range(len(data))] + [data + b"\0"]:
                with pytest.raises(FormatError):
                    PARSERS[name](broken)


def test_what_an_attestation_key_must_be():
    sys.path.insert(0, str(FUZZ))
    rsa, ecc = (tpm2.parse_public(data) for data in importlib.import_module("targets_cloud").publics())
    assert rsa.signs_only_attestations and (rsa.exponent, len(rsa.modulus), rsa.scheme, rsa.scheme_hash) == (65537, 256, tpm2.ALG_RSASSA, tpm2.ALG_SHA256)
    assert ecc.signs_only_attestations and (ecc.curve, ecc.x) == (3, b"\x11" * 32)


@pytest.mark.parametrize("data", [
    "00080000", "0001000b000000720000" + "00100099", "0001000b000500720000" + "0010" + "0014000b" + "0800" + "00000000" + "0004" + "a5" * 4,
], ids=["keyed-hash", "scheme", "bits"])  # fmt: skip
def test_public_areas_that_are_not_for_quotes(data):
    with pytest.raises(FormatError):
        tpm2.parse_public(bytes.fromhex(data))


# The sections azure and gcp of a policy.


def load(section, values):
    return load_policy({"schema": "attested.ai/policy/1", "id": "p", section: values})


def test_defaults_are_strict_and_normal_forms_read_back():
    policy = load("azure", {})
    assert policy.azure == AzurePolicy() and policy.gcp.launch_endorsement == "off"
    assert set(policy.azure.to_dict()) == set(KEYS) and policy.azure.require_secure_boot and policy.azure.required_pcrs == (4, 7, 11)
    full = load("azure", {
        "required_pcrs": [11, 0], "quote_algorithms": ["ecdsa-sha384"], "min_rsa_bits": 3072, "require_secure_boot": False,
        "require_fresh_hardware_report": True, "init_data": ["00" * 32], "vm_ids": ["911B0EF8-9DBA-48B0-B275-4E4DF2D39252"],
    })  # fmt: skip
    assert load_policy(full.to_dict()) == full and full.azure.required_pcrs == (0, 11)
    assert load_policy(load("gcp", {"launch_endorsement": False}).to_dict()).gcp.launch_endorsement == "off"
    assert load("gcp", {"launch_endorsement": "required", "min_svn": 4}).gcp.to_dict() == {"launch_endorsement": "required", "min_svn": 4}


@pytest.mark.parametrize(("section", "values"), [
    ("azure", {"required_pcrs": []}), ("azure", {"required_pcrs": [24]}), ("azure", {"required_pcrs": ["4"]}), ("azure", {"quote_algorithms": []}),
    ("azure", {"quote_algorithms": ["rsassa-sha1"]}), ("azure", {"min_rsa_bits": 1024}), ("azure", {"min_rsa_bits": 8192}), ("azure", {"init_data": []}),
    ("azure", {"init_data": ["00"]}), ("azure", {"vm_ids": ["911b0ef8-9dba-48b0-b275-4e4df2d39252"]}), ("azure", {"vm_ids": [5]}), ("azure", {"pcr": 1}),
    ("azure", {"require_secure_boot": "yes"}), ("gcp", {"launch_endorsement": "on"}), ("gcp", {"launch_endorsement": True}), ("gcp", {"min_svn": -1}),
    ("gcp", {"svn": 1}),
], ids=str)
def test_sections_that_cannot_be_meant(section, values):
    with pytest.raises(PolicyError):
        load(section, values)
