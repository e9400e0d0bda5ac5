# SPDX-License-Identifier: GPL-3.0-or-later
"""Data about distributions: each says how far it is known, and templates over it choose, refuse and explain."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.template import Templar, trust_as_template

ROLES = Path(__file__).resolve().parents[3] / "roles"
PROOF = {"run", "listed", "documented", "unverified"}


def variables(role):
    return yaml.safe_load((ROLES / role / "vars" / "main.yml").read_text())


def evaluated(role, distribution, version, name, **more):
    """A variable of the role on such a machine."""
    facts = {"distribution": distribution, "distribution_version": version, "distribution_major_version": version.split(".")[0], "distribution_release": "x"}

    def trusted(value):
        if isinstance(value, dict):
            return {key: trusted(item) for key, item in value.items()}
        if isinstance(value, list):
            return [trusted(item) for item in value]
        return trust_as_template(value) if isinstance(value, str) and "{{" in value else value

    defaults = yaml.safe_load((ROLES / role / "defaults" / "main.yml").read_text())
    known = {key: trusted(value) for key, value in {**defaults, **variables(role)}.items()}
    return Templar(variables={**known, "ansible_facts": facts, **more}).template(known[name])


@pytest.mark.parametrize("role", ["tdx_host", "snp_host"])
def test_each_distribution_says_how_far_it_is_known(role):
    for name, data in variables(role)["__%s_distributions" % role].items():
        assert data["proof"] in PROOF and {"suite", "kernel", "guest", "libvirt"} <= set(data), name
        assert ("because" in data) is (data["proof"] == "unverified"), name
    assert not set(variables(role)["__%s_distributions" % role]) & set(variables(role)["__%s_why_not" % role])


@pytest.mark.parametrize(
    ("role", "distribution", "version", "known", "reason"),
    [
        ("tdx_host", "Debian", "13.4", True, ""),
        ("tdx_host", "Debian", "12.11", False, "6.12"),
        ("tdx_host", "Ubuntu", "26.04", True, ""),
        ("tdx_host", "Ubuntu", "24.04", False, "no longer supported"),
        ("tdx_host", "SLES", "16.0", False, "6.12"),
        ("tdx_host", "RedHat", "9.6", True, ""),
        ("tdx_host", "CentOS", "9", True, ""),
        ("tdx_host", "Gentoo", "2.17", False, ""),
        ("snp_host", "Debian", "12.11", True, ""),
        ("snp_host", "Ubuntu", "24.04", False, "25.04"),
        ("snp_host", "SLES", "16.0", True, ""),
        ("snp_host", "Rocky", "9.5", False, ""),
    ],
)
def test_a_machine_is_taken_or_refused_with_the_reason(role, distribution, version, known, reason):
    assert evaluated(role, distribution, version, "__%s_known" % role) is known
    assert reason in evaluated(role, distribution, version, "__%s_reason" % role)
    assert bool(evaluated(role, distribution, version, "__%s_reason" % role)) is bool(reason)
    if known:
        packages = evaluated(role, distribution, version, "__%s_packages" % role)
        assert packages and all(isinstance(package, str) for package in packages)
        repositories = evaluated(role, distribution, version, "__%s_repositories" % role)
        assert (distribution == "Debian") is bool(repositories)


def test_a_tcb_that_is_held_back_on_purpose_is_no_fault():
    own = "__snp_host_own_waivers"
    assert evaluated("snp_host", "Debian", "13", own) == {}
    held = {"snp_host_config": "set", "snp_host_reported_tcb": {"snp": 1}}
    assert set(evaluated("snp_host", "Debian", "13", own, **held)) == {"snp.tcb-match"}
    assert set(evaluated("snp_host", "Debian", "13", own, **held, snp_host_mask_chip_id=True)) == {"snp.tcb-match", "snp.firmware-chip-id"}
    assert evaluated("snp_host", "Debian", "13", own, **{**held, "snp_host_config": "keep"}) == {}
