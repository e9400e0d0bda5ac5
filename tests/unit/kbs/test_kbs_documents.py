# SPDX-License-Identifier: GPL-3.0-or-later
"""Sealed secrets, init-data, policies of the agent and shapes of evidence, against the published vectors."""

from __future__ import annotations

import base64
import gzip
import importlib
import json
import tomllib

import kbs_lab
import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.attested.ai.plugins.filter import initdata as initdata_filter
from ansible_collections.attested.ai.plugins.filter import kata_agent_policy as policy_filter
from ansible_collections.attested.ai.plugins.filter import sealed_secret as sealed_filter
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_report import parse_report
from ansible_collections.attested.ai.plugins.module_utils.kbs import agent_policy, evidence, initdata, protocol, sealed
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from softkbs import snp


def code_of(act) -> str:
    with pytest.raises(AttestedError) as caught:
        act()
    return caught.value.code


@pytest.fixture
def key_file(tmp_path):
    return str(kbs_lab.secret(tmp_path / "sealed.pem", kbs_lab.private_pem(ec.generate_private_key(ec.SECP256R1()))))


# -- sealed secrets ---------------------------------------------------------------------------------------------------------


def test_published_sealed_secrets_verify_and_say_what_they_are_known_to_say(vectors):
    published = json.loads((vectors / "coco/kata/sealed-secret/precreated.json").read_text())
    names = {name: sealed.verify(text, published["public_jwk"]) for name, text in published["sealed"].items()}
    assert {name: found.payload["name"] for name, found in names.items()} == {
        "SEALED_SECRET_PRECREATED_TEST": "kbs:///default/sealed-secret/test", "SEALED_SECRET_PRECREATED_NIM_INSTRUCT": "kbs:///default/ngc-api-key/instruct",
        "SEALED_SECRET_PRECREATED_NIM_EMBEDQA": "kbs:///default/ngc-api-key/embedqa",
    }  # fmt: skip
    assert {found.kid for found in names.values()} == {published["kid_resource"]}
    other = sealed.public_key(ec.generate_private_key(ec.SECP256R1()))
    for text in published["sealed"].values():
        assert code_of(lambda text=text: sealed.verify(text, other)) == "sealed-secret-signature"


def test_ours_has_the_very_bytes_of_the_published_ones_but_for_the_signature(vectors, key_file):
    published = json.loads((vectors / "coco/kata/sealed-secret/precreated.json").read_text())["sealed"]["SEALED_SECRET_PRECREATED_TEST"]
    ours = sealed_filter.sealed_secret("kbs:///default/sealed-secret/test", key_file)
    assert ours.rsplit(".", 1)[0] == published.rsplit(".", 1)[0]
    assert sealed_filter.sealed_secret_payload(ours, sealed_filter.sealed_secret_jwk(key_file))["name"] == "kbs:///default/sealed-secret/test"


def test_published_payloads_are_accepted(vectors):
    for name in ("vault-1", "vault-2", "envelope-1"):
        sealed.check_payload(json.loads((vectors / f"coco/guest-components/sealed-secret/{name}.json").read_text()))


def test_what_did_not_change_is_not_sealed_anew(key_file):
    first = sealed_filter.sealed_secret("default/a/b", key_file)
    assert sealed_filter.sealed_secret("kbs:///default/a/b", key_file, previous=first) == first
    assert sealed_filter.sealed_secret("kbs:///default/a/c", key_file, previous=first) != first
    assert sealed_filter.sealed_secret("kbs:///default/a/b", key_file, kid="other", previous=first) != first
    assert sealed_filter.sealed_secret("default/a/b", key_file, previous="sealed.rubbish") != "sealed.rubbish"


def test_envelopes(key_file):
    given_ = {"provider": "aws", "key_id": "k", "encrypted_key": "a", "encrypted_data": "b", "iv": "c"}
    text = sealed_filter.sealed_secret(given_, key_file)
    found = sealed_filter.sealed_secret_payload(text, sealed_filter.sealed_secret_jwk(key_file))
    assert found["type"] == "envelope" and found["wrap_type"] == "A256GCM" and found["provider_settings"] == {}
    for bad in ({**given_, "provider": "kbs"}, {**given_, "more": 1}, {"provider": "aws"}, {**given_, "iv": ""}, [], 3):
        with pytest.raises(AnsibleFilterError):
            sealed_filter.sealed_secret(bad, key_file)


def test_what_guests_refuse_is_refused(key_file):
    good = sealed_filter.sealed_secret("default/a/b", key_file)
    jwk = sealed_filter.sealed_secret_jwk(key_file)
    head, body, tail = good[len("sealed."):].split(".")
    unsigned = f"sealed.fakejwsheader.{body}.fakesignature"
    none = "sealed.%s.%s.%s" % (base64.urlsafe_b64encode(b'{"alg":"none","kid":"a"}').rstrip(b"=").decode(), body, tail)
    for bad in (good + "\n", good + "=", unsigned, none, "", "plain", f"sealed.{head}.{body}", f"sealed.{body}.{head}.{tail}", good[:-2] + "AA", 7):
        with pytest.raises(AttestedError):
            sealed.verify(bad, jwk)


# -- init-data --------------------------------------------------------------------------------------------------------------


def test_published_digests(vectors):
    for case in json.loads((vectors / "coco/generated/hash/initdata-digests.json").read_text())["cases"]:
        text = (vectors / "coco" / case["file"]).read_text()
        found = initdata.accept(text)
        assert len(text.encode()) == case["bytes"] and found.digest == case["digest"][found.algorithm]
        assert found.fields["sev-snp"] == case["snp_host_data"][found.algorithm]
        assert found.fields["tdx"] == case["tdx_mr_config_id"][found.algorithm]
        assert found.fields["cca"] == case["cca_rpv_64"][found.algorithm]
        assert initdata.unpacked(found.annotation) == text


def test_the_image_of_kata_is_read(vectors):
    assert initdata.from_image((vectors / "coco/kata/initdata/initdata.img").read_bytes()) == "some content"
    for bad in (b"", b"initdata", b"initdata" + b"\xff" * 8, b"initdato" + bytes(60)):
        assert code_of(lambda bad=bad: initdata.from_image(bad)) == "init-data-form"


def test_the_same_parts_give_the_same_bytes_and_gzip_that_others_read():
    parts = initdata_filter.initdata_kbs("https://kbs.example.org:8080", cert=kbs_lab.Authority().pem, image_security_policy_uri="kbs:///default/p/x")
    parts["policy.rego"] = "package agent_policy\n\ndefault X := false\n"
    one, two = initdata_filter.initdata(parts), initdata_filter.initdata(dict(parts))
    assert one == two and gzip.decompress(base64.b64decode(one["annotation"])).decode() == one["toml"]
    document = tomllib.loads(one["toml"])
    assert document["version"] == "0.1.0" and document["data"]["policy.rego"] == parts["policy.rego"]
    assert tomllib.loads(document["data"]["cdh.toml"])["kbc"]["url"] == "https://kbs.example.org:8080"
    assert tomllib.loads(document["data"]["cdh.toml"])["image"]["image_security_policy_uri"] == "kbs:///default/p/x"
    assert initdata_filter.initdata_read(one["annotation"]) == one == initdata_filter.initdata(one["toml"])


@pytest.mark.parametrize("text", [
    'version = "0.1.1"\nalgorithm = "sha256"\n[data]\n', 'version = "0.1.0"\nalgorithm = "sha1"\n[data]\n',
    'version = "0.1.0"\nalgorithm = "sha256"\n[data]\na = 1\n',
    'version = "0.1.0"\nalgorithm = "sha256"\nmore = 1\n[data]\n', "not toml", 'version = "0.1.0"\nalgorithm = "sha256"\n[data]\n"aa.toml" = "= broken"\n',
    'version = "0.1.0"\nalgorithm = "sha256"\n[data]\n"key" = "-----BEGIN ' + 'PRIVATE KEY-----"\n',
    'version = "0.1.0"\nalgorithm = "sha256"\n[data]\na = "\ud800"\n',
])  # fmt: skip
def test_documents_that_kata_or_trustee_would_not_take(text):
    with pytest.raises(AnsibleFilterError):
        initdata_filter.initdata(text)
    for bad in (({"aa.toml": 1},), ({"x": "y"}, "md5"), (3,)):
        with pytest.raises(AnsibleFilterError):
            initdata_filter.initdata(*bad)
    with pytest.raises(AnsibleFilterError, match="certificate"):
        initdata_filter.initdata_kbs("https://kbs.example.org")


def test_a_guest_is_not_pointed_to_a_kbs_that_its_host_can_stand_for():
    with pytest.raises(AnsibleFilterError, match="without TLS the host answers"):
        initdata_filter.initdata_kbs("http://kbs.example.org:8080")
    told = initdata_filter.initdata_kbs("http://kbs.example.org:8080", allow_http=True)
    assert told["cdh.toml"]["kbc"]["url"] == "http://kbs.example.org:8080" and initdata_filter.initdata_kbs("http://127.0.0.1:8080")


def test_an_annotation_is_read_whole_or_not_at_all():
    annotation = initdata.render({"policy.rego": "package agent_policy\n"}, "sha256").annotation
    data = base64.b64decode(annotation)
    for bad in (data[:-8], data[:-1], data + data, data + b"\0"):
        with pytest.raises(AnsibleFilterError, match="breaks off"):
            initdata_filter.initdata_read(base64.b64encode(bad).decode("ascii"))


LEAVES = st.one_of(st.text(max_size=40), st.booleans(), st.integers(-(2**62), 2**62), st.lists(st.text(max_size=10), max_size=3))


@given(st.dictionaries(st.text(max_size=12), st.one_of(LEAVES, st.dictionaries(st.text(max_size=12), LEAVES, max_size=3)), max_size=5))
def test_toml_reads_back_as_what_was_given(value):
    try:
        text = initdata.toml_document(value)
        text.encode("utf-8")
    except (AttestedError, UnicodeEncodeError):
        return
    assert tomllib.loads(text) == value


@given(st.text(max_size=200))
def test_any_text_as_policy_reads_back(text):
    try:
        text.encode("utf-8")
        found = initdata.render({"policy.rego": text}, "sha256")
    except (AttestedError, UnicodeEncodeError):
        return
    assert tomllib.loads(found.toml)["data"]["policy.rego"] == text and initdata.unpacked(found.annotation) == found.toml


# -- the policy of the agent ------------------------------------------------------------------------------------------------


def test_a_policy_of_genpolicy_is_closed_and_an_open_one_is_not(vectors):
    text = tomllib.loads((vectors / "coco/trustee/initdata/init-data-with-policy.toml").read_text())["data"]["policy.rego"]
    assert policy_filter.kata_agent_policy(text) == text
    seen = policy_filter.kata_agent_policy_info(text)
    assert seen["open"] == [] and seen["containers"] == 2 and seen["images"], seen
    for name in agent_policy.OPENS:
        bad = text.replace(f"default {name} := false", f"default {name} := true")
        if bad == text:
            bad = f"package agent_policy\n\ndefault {name} := true\n"
        with pytest.raises(AnsibleFilterError, match=name):
            policy_filter.kata_agent_policy(bad)
        assert policy_filter.kata_agent_policy(bad, allow=[name]) == bad
    for form in ("{} = true", "{} if true", "{} if {{ true }}", "{} {{\n  true\n}}", "{} := true if {{ true }} # always"):
        with pytest.raises(AnsibleFilterError, match="ExecProcessRequest"):
            policy_filter.kata_agent_policy("package agent_policy\n\n" + form.format("ExecProcessRequest") + "\n")
    for form in ("{} if input.x", "{} if {{ true == input.x }}", "{} := false"):
        policy_filter.kata_agent_policy("package agent_policy\n\n" + form.format("ExecProcessRequest") + "\n")
    for bad in ("", "package policy\n", "package agent_policy\nallow if {", 'package agent_policy\n"'):
        with pytest.raises(AnsibleFilterError):
            policy_filter.kata_agent_policy(bad)
    with pytest.raises(AnsibleFilterError, match="none of"):
        policy_filter.kata_agent_policy(text, allow=["Everything"])


# -- evidence ---------------------------------------------------------------------------------------------------------------


def test_the_digest_that_evidence_binds_is_the_published_one(vectors):
    cases = json.loads((vectors / "coco/generated/hash/jcs-runtime-data.json").read_text())["cases"]
    (case,) = [case for case in cases if case["name"] == "kbs-runtime-data-shape"]
    value = case["value"]
    assert protocol.report_data(value["nonce"], value["tee-pubkey"], value["additional-evidence"]).hex() == case["sha384"]


def test_the_shape_of_a_report_is_that_of_trustees_own_example(vectors):
    published = json.loads((vectors / "coco/trustee/as/evidence.json").read_text())
    report = snp.report_bytes(published["attestation_report"])
    chain = {entry["cert_type"].lower(): bytes(entry["data"]) for entry in published["cert_chain"]}
    assert evidence.snp(report, chain) == published
    for path in sorted((vectors / "snp").glob("real-*-v[35]-*.report.bin")) + sorted((vectors / "coco/trustee/snp").glob("*.bin")):
        parsed = parse_report(path.read_bytes())
        if parsed.product is not None:
            assert snp.report_bytes(evidence.snp(parsed.raw)["attestation_report"]) == parsed.raw, path.name
    assert evidence.tdx(b"q") == {"cc_eventlog": None, "quote": "cQ=="}
    assert code_of(lambda: evidence.snp((vectors / "snp/real-milan-v2-virtee.report.bin").read_bytes())) == "format"


# -- documentation ----------------------------------------------------------------------------------------------------------


def differences(spec: dict, documented: dict, where: str) -> list[str]:
    found = [f"{where}.{name} is only in one of the two" for name in set(spec) ^ set(documented)]
    for name in set(spec) & set(documented):
        one, two = spec[name], documented[name]
        pairs = {key: (one.get(key), two.get(key)) for key in ("default", "elements", "choices")}
        pairs |= {"type": (one.get("type", "str"), two.get("type", "str")), "required": (bool(one.get("required")), bool(two.get("required")))}
        found += [f"{where}.{name}: {key} is {values}" for key, values in pairs.items() if values[0] != values[1]]
        found += differences(one.get("options", {}), two.get("suboptions", {}), f"{where}.{name}")
    return found


FRAGMENTS = {
    "attested.ai.kbs": ("kbs", "DOCUMENTATION"), "attested.ai.kbs.admin": ("kbs", "ADMIN"), "attested.ai.kbs.state": ("kbs", "STATE"),
    "attested.ai.key_source": ("key_source", "DOCUMENTATION"), "attested.ai.key_source.counter": ("key_source", "COUNTER"),
    "attested.ai.attestation": ("attestation", "DOCUMENTATION"),
}  # fmt: skip


@pytest.mark.parametrize("name", [
    "kbs_info", "kbs_resource", "kbs_policy", "kbs_reference_values", "kbs_model_key", "model_release", "model_rewrap", "model_encrypt",
])  # fmt: skip
def test_what_is_documented_is_what_the_task_takes(name):
    package = "ansible_collections.attested.ai.plugins"
    text, action = (importlib.import_module(f"{package}.{kind}.{name}") for kind in ("modules", "action"))
    documentation = yaml.safe_load(text.DOCUMENTATION)
    options: dict = {}
    for fragment, (module, part) in FRAGMENTS.items():
        if fragment in documentation["extends_documentation_fragment"]:
            options |= yaml.safe_load(getattr(importlib.import_module(f"{package}.doc_fragments.{module}").ModuleDocFragment, part))["options"]
    for option, own in documentation["options"].items():
        options[option] = {**options.get(option, {}), **own}
    assert differences(action.ARGUMENT_SPEC, options, name) == []
    for example in yaml.safe_load(text.EXAMPLES):
        used = example.get(f"attested.ai.{name}")
        assert used is None or set(used) <= set(action.ARGUMENT_SPEC)
    assert yaml.safe_load(text.RETURN)
