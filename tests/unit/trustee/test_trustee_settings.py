# SPDX-License-Identifier: GPL-3.0-or-later
"""Descriptions of key brokers: what comes of a good one, and what is refused."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from ansible_collections.attested.ai.plugins.filter.trustee_plan import FilterModule
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.trustee import plan, toml
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent))
from trustee_lab import DIGEST, HELM, IMAGES, ROLE, description  # noqa: E402  pylint: disable=wrong-import-position

WAYS = {
    "builtin": {},
    "services": {"layout": "services"},
    "containers": {"way": "quadlet", "layout": "services", "verifiers": {"snp_verifier": {"vcek_sources": [{"type": "OfflineStore"}, {"type": "KDS"}]}}},
    "helm": {"way": "helm", "layout": "services", "helm": HELM},
}


def configuration(made: dict) -> dict:
    return tomllib.loads(made["files"].get("kbs.toml") or made["render"]["configs"]["kbs-config.toml"])


@pytest.mark.parametrize("way", WAYS)
def test_a_key_broker_is_closed_speaks_tls_and_keeps_its_data(way):
    found = configuration(plan.make(description(**WAYS[way])))
    assert found["admin"]["authorization_mode"] == "AuthenticatedAuthorization"
    (provider,) = found["admin"]["authentication"]["bearer_jwt"]["identity_providers"]
    assert provider["issuer"] == "ops.example.org" and provider["audience"] == "KBS" and provider["public_key_uri"].startswith("/")
    assert found["admin"]["authorization"]["regex_acl"]["acls"] == [{"role": "admin", "allowed_endpoints": "^/kbs/.+$"}]
    assert found["http_server"]["insecure_http"] is False and found["http_server"]["tls_profile"] == "modern"
    assert found["storage_backend"]["storage_type"] == "LocalFs" and found["attestation_token"]["insecure_header_jwk"] is False
    assert found["session_storage_type"] == "Memory" and found["plugins"] == [{"name": "resource", "storage_backend_type": "kvstorage"}]


def test_services_have_their_own_files_and_reach_each_other_on_loopback():
    made = plan.make(description(**WAYS["containers"]))
    attestation, values = json.loads(made["files"]["as.json"]), json.loads(made["files"]["rvps.json"])
    assert attestation["verifier_config"]["snp_verifier"] and attestation["rvps_config"] == {"type": "GrpcRemote", "address": "http://127.0.0.1:50003"}
    # With the key "storage_backend", or an unknown one, RVPS starts and keeps nothing.
    assert values == {"storage": {"storage_type": "LocalFs", "backends": {"local_fs": {"dir_path": "/var/lib/trustee/reference-values"}}}}
    assert configuration(made)["attestation_service"]["as_addr"] == "http://127.0.0.1:50004"
    first, second, third = made["components"]
    assert (first["name"], second["name"], third["name"]) == ("rvps", "as", "kbs") and first["publish"] == ["0.0.0.0:8080:8080"]
    assert second["network"] == third["network"] == "container:trustee-rvps" and not third["publish"]
    seen = {one["name"]: one["read"] for one in made["components"]}
    assert not any(path.endswith("-ca.key") for paths in seen.values() for path in paths)
    assert "/etc/trustee/keys/token.key" in seen["as"] and "/etc/trustee/keys/token.key" not in seen["kbs"]


def test_what_the_chart_is_told():
    made = plan.make(description(**WAYS["helm"]))
    values = made["values"]
    assert values["secrets"] == {"useEphemeralGeneratedKeys": False, "existingSecretName": "trustee-keys"}
    assert all(values["storageBackend"]["localFs"]["persistence"].values()) and values["kbs"]["podSecurityContext"]["runAsNonRoot"] is True
    assert f"{values['as']['image']['repository']}:{values['as']['image']['tag']}" == IMAGES["as"]
    assert made["render"]["chart"] == "trustee-0.18.0" and made["seed"].rstrip().endswith("default allow := false")


ADMIN = description()["admin"]
BAD = {
    "demo issuer": ({"admin": {**ADMIN, "issuer": "TrusteeInDocker"}}, "demo setup"),
    "no issuer": ({"admin": {**ADMIN, "issuer": ""}}, "is no name"),
    "open rule": ({"admin": {**ADMIN, "acls": [{"role": "admin", "allowed_endpoints": ".*"}]}}, "does not begin with ^/kbs"),
    "no rule": ({"admin": {**ADMIN, "acls": []}}, "no admin may do anything"),
    "broken rule": ({"admin": {**ADMIN, "acls": [{"role": "admin", "allowed_endpoints": "^/kbs/($"}]}}, "no regular expression"),
    "keys by http": ({"admin": {**ADMIN, "providers": [{"issuer": "a", "audience": "b", "jwk_set_uri": "http://c.example.org"}]}}, "is no https address"),
    "insecure": ({"admin": {**ADMIN, "authorization_mode": "InsecureAllowAll"}}, "authorization_mode"),
    "tag": ({"way": "quadlet", "images": {"kbs": "ghcr.io/confidential-containers/staged-images/kbs:latest"}}, "names no digest"),
    "tag and digest": ({"way": "quadlet", "images": {"kbs": f"ghcr.io/x:latest\n@sha256:{DIGEST}"}}, "names no digest"),
    "no image": ({"way": "quadlet", "images": {}}, "it is not given"),
    "one service of a chart": ({"way": "helm", "helm": HELM}, "the Helm chart makes three services"),
    "name": ({"name": "../x"}, "is no name of small letters"),
    "nowhere": ({"listen": []}, "it listens nowhere"),
    "no address": ({"listen": ["kbs.example.org:8080"]}, "is no address with a port"),
    "six": ({"listen": ["::1:8080"]}, "is no address with a port"),
    "path": ({"data_dir": "/var/../etc"}, "is no absolute path"),
    "root": ({"data_dir": "/data"}, "at least two folders deep"),
    "nested": ({"data_dir": "/etc/trustee/data"}, "lie in one another"),
    "verifier": ({"verifiers": {"sample_verifier": {}}}, "is none of nvidia_verifier"),
    "program": ({"programs": {"kbs": "/usr/bin/kbs --insecure"}}, "is no absolute path"),
    "minutes": ({"token_minutes": 0}, "is no number from 1 to 60"),
    "unknown": ({"insecure_http": True}, "insecure_http"),
    "release": ({"way": "helm", "layout": "services", "helm": {**HELM, "release": "a" * 40}}, "would be cut off"),
    "exposed": ({"way": "helm", "layout": "services", "helm": {**HELM, "expose": "ingress"}}, "none of none, load_balancer, node_port"),
    "log": ({"log": "info\nExecStartPost=/bin/sh"}, "is no level of a log"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused(case):
    changed, said = BAD[case]
    with pytest.raises(AttestedError) as caught:
        plan.make(description(**changed))
    assert said in str(caught.value)


def test_what_should_be_known_is_said():
    given = description(layout="services", verifiers={"nvidia_verifier": {"type": "Local"}})
    told = " ".join(FilterModule().filters()["trustee_plan"](given)["warnings"])
    assert "every user of this machine can change them" in told and "GPUs stay contraindicated" in told


TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
VALUES = st.recursive(st.one_of(TEXT, st.integers(-(2**40), 2**40), st.booleans()), lambda inner: st.one_of(
    st.lists(inner, max_size=3), st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), inner, max_size=3)), max_leaves=12)  # fmt: skip


@settings(max_examples=40)
@given(st.dictionaries(st.from_regex(r"[a-z_-]{1,8}", fullmatch=True), VALUES, max_size=5))
def test_what_is_written_as_toml_is_read_as_the_same(document):
    assert tomllib.loads(toml.dumps(document)) == document


@pytest.mark.parametrize("value", ["\n", "é", "\x7f", 1.5, None])
def test_what_has_no_place_in_toml(value):
    with pytest.raises(AttestedError):
        toml.dumps({"a": value})


def test_options_of_the_role_are_those_of_its_defaults():
    options = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    assert set(options) - set(defaults) == {"trustee_storage_class", "trustee_kubeconfig", "trustee_context"} and set(defaults) <= set(options)
    for name, option in options.items():
        if "default" in option:
            assert option["default"] == defaults[name], name
