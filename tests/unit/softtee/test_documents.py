# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

"""What a relying party is given: reference values and policy, read by the collection's own loaders."""

import json
from datetime import datetime, timezone

import pytest
import yaml
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import load_reference_values
from softtee import documents
from softtee.machine import Machine, measurement, old_tcb
from softtee.machines import Guest, open_guest
from softtee.snp_report import DEFAULT_TCB


@pytest.mark.parametrize("product", ["milan", "genoa", "turin"])
@pytest.mark.parametrize("key", ["vcek", "vlek"])
def test_the_policy_is_one(tmp_path, product, key):
    machine = Machine.open(tmp_path, product, key, rsa_bits=2048)
    policy = load_policy(yaml.safe_load(documents.policy(Guest(tmp_path, machine, None))))
    assert policy.allow_nonvendor_roots and policy.roots == (machine.authority.ark_pem(product),)
    assert policy.sev_snp.products == (product,) and policy.sev_snp.signing_keys == (key,)
    assert dict(policy.sev_snp.min_tcb.everywhere) == dict(policy.sev_snp.min_launch_tcb.everywhere) == DEFAULT_TCB[product]
    assert policy.chain_of_trust.must_reach == "service" and "protects nothing" in policy.chain_of_trust.waiver
    assert any(old_tcb(product)[part] < least for part, least in policy.sev_snp.min_tcb.everywhere)
    assert not policy.sev_snp.allow_debug and policy.measurements_required


def test_the_reference_value_is_one(tmp_path):
    now = datetime(2026, 11, 1, tzinfo=timezone.utc)
    (value,) = load_reference_values(json.loads(documents.reference_values(open_guest(tmp_path), now))).values
    assert value.measurement == measurement().hex() and value.covers == "launch"
    assert (value.not_after - now).days == 90


def test_the_command_prints_both(idle):
    assert load_policy(yaml.safe_load(idle.run("policy").stdout)).id == "soft-tee-genoa"
    assert load_reference_values(json.loads(idle.run("reference-values").stdout)).values
    assert idle.run("roots").stdout.startswith("-----BEGIN CERTIFICATE-----\n")


def test_a_machine_stays_what_it_was(tmp_path):
    first = Machine.open(tmp_path, "turin", "vlek")
    again = Machine.open(tmp_path)
    assert (again.product, again.key_kind, again.chip_id) == ("turin", "vlek", first.chip_id)
    other = Machine.open(tmp_path, "genoa")
    assert len(first.chip_id) == 8 and len(other.chip_id) == 64
    assert Machine.open(tmp_path, "turin").chip_id == first.chip_id
