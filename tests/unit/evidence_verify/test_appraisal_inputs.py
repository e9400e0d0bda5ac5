# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import os
from datetime import timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError, PolicyError
from ansible_collections.attested.ai.plugins.plugin_utils import appraisal_inputs
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import (
    Inputs,
    draw_nonce,
    evaluation_time,
    load_text,
    parse_nonce,
    parse_report_data,
    plain,
)

VECTORS = Path(os.environ.get("ATTESTED_VECTORS", Path(__file__).resolve().parents[4] / "shared" / "vectors")) / "snp"
HEAD = "schema: attested.ai/policy/1\nid: x\n"


def write(tmp_path, text, name="file.yml"):
    path = tmp_path / name
    path.write_text(text) if isinstance(text, str) else path.write_bytes(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + "id: y\n", "line 3: the key 'id' occurs twice"),
        (HEAD + "sev_snp: {vmpl: [0], vmpl: [1]}\n", "'vmpl' occurs twice"),
        (HEAD + "a: &x 1\nb: *x\n", "line 4: anchors and aliases"),
        (HEAD + "sev_snp: [\n", "line"),
        ("a: !!python/object:os.system {}\n", "line 1"),
        ("- a\n--- b\n- c\n", "line"),
        ("? [a]\n: b\n", "line"),
        ("\0", "not YAML"),
        ("a: 2026-99-99\n", "unknown key"),
        (HEAD + "<<: {id: z}\n", "line 3"),
        ("", "mapping was expected"),
    ],
)
def test_a_policy_file_is_read_strictly_and_errors_name_file_and_line(tmp_path, text, words):
    path = write(tmp_path, text)
    with pytest.raises(AttestedError) as caught:
        Inputs().policy(path)
    assert words in str(caught.value) and path in str(caught.value) and "\n" not in str(caught.value)


def test_deep_and_large_files_are_refused(tmp_path, monkeypatch):
    with pytest.raises(FormatError):
        load_text("[" * 5000, "file")
    monkeypatch.setattr(appraisal_inputs, "FILE_MAX", 10)
    with pytest.raises(FormatError, match="larger"):
        Inputs().policy(write(tmp_path, HEAD))


def test_times_in_yaml_stay_text(tmp_path):
    value = "measurement: '%s'\n    tee: sev-snp\n    covers: launch\n    image: i\n    source: s\n    not_after: 2027-01-01T00:00:00Z\n" % ("ab" * 48)
    path = write(tmp_path, "schema: attested.ai/reference-values/1\nvalues:\n  - " + value)
    (read,) = Inputs().reference_values([path, path]).values
    assert read.not_after.year == 2027
    assert Inputs().reference_values(None).values == ()


def test_no_policy_means_the_strict_one():
    assert Inputs().policy().id == "default" and Inputs().policy().measurements_required


@pytest.mark.parametrize("wrong", [5, ["a"], True])
def test_other_things_than_policies(wrong):
    with pytest.raises(PolicyError):
        Inputs().policy(wrong)


def test_data_of_templates_becomes_builtin():
    class Tagged(str):
        pass

    made = plain({Tagged("a"): [Tagged("b"), True, 1, None]}, "x")
    assert made == {"a": ["b", True, 1, None]} and [type(value) for value in made["a"][:2]] == [str, bool]
    with pytest.raises(FormatError, match="no JSON value"):
        plain({"a": object()}, "x")
    deep = current = []
    for _level in range(40):
        current.append([])
        current = current[0]
    with pytest.raises(FormatError, match="nested"):
        plain(deep, "x")


@pytest.mark.skipif(not VECTORS.is_dir(), reason="the vectors are not where ATTESTED_VECTORS says")
def test_certificates_and_lists_in_pem_and_der(tmp_path):
    both = write(tmp_path, (VECTORS / "amd-ask-milan.pem").read_text() + (VECTORS / "amd-ark-milan.pem").read_text(), "chain.pem")
    made = Inputs().endorsements([both, str(VECTORS / "real-turin-v5-oak.vek.der")], str(VECTORS / "synth-crl-milan-ok.crl"))
    assert [der[:1] for der in made.certificates + made.crls] == [b"\x30"] * 4
    with pytest.raises(AttestedError, match="neither PEM nor DER"):
        Inputs().endorsements([write(tmp_path, "hello")])
    with pytest.raises(AttestedError, match="chain.pem"):
        Inputs().endorsements([], [both])
    with pytest.raises(FormatError, match="missing.der"):
        Inputs().endorsements(["missing.der"])


def test_the_signing_key_is_private(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x"))
    path = write(tmp_path, secret, "key.pem")
    os.chmod(path, 0o640)
    with pytest.raises(FormatError, match="chmod 0600"):
        Inputs().signing_key(path)
    os.chmod(path, 0o600)
    with pytest.raises(FormatError, match="unencrypted PEM"):
        Inputs().signing_key(path)


def test_nonce_report_data_and_time():
    assert len(parse_nonce(draw_nonce())) == 32 and draw_nonce() != draw_nonce()
    assert parse_report_data("ab" * 64) == b"\xab" * 64
    assert evaluation_time("2026-11-01T00:00:00Z").isoformat() == "2026-11-01T00:00:00+00:00"
    assert evaluation_time(None).tzinfo is timezone.utc
    for call in (lambda: parse_nonce("AAAA"), lambda: parse_nonce("=="), lambda: parse_report_data("AB" * 64), lambda: evaluation_time("now")):
        with pytest.raises(FormatError):
            call()


def test_evidence_from_a_file_refuses_doubled_members(tmp_path):
    with pytest.raises(FormatError, match="occurs twice"):
        Inputs().evidence(write(tmp_path, '{"schema": 1, "schema": 2}'))


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=80) | st.text(alphabet="[]{}:-&*!?|>#%@`'\"\n ab0", max_size=60))
def test_any_text_is_parsed_or_refused_in_one_line(text):
    try:
        load_text(text, "file")
    except FormatError as error:
        assert "\n" not in str(error)
