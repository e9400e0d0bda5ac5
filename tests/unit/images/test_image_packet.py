# SPDX-License-Identifier: GPL-3.0-or-later
"""The key provider: packets that guests and skopeo read, and everything that it refuses."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import images_lab
import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt import layout, packet, provider, record, verify
from hypothesis import given
from hypothesis import strategies as st

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
KID = images_lab.KID
OPTIONS = json.dumps({
    "symkey": base64.b64encode(b"s" * 32).decode(), "digest": "sha256:" + "ab" * 32, "cipheroptions": {"nonce": base64.b64encode(b"n" * 16).decode()},
}).encode()  # fmt: skip


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def wrap_request(*parameters: str, options: bytes = OPTIONS, name: str = packet.PROVIDER) -> bytes:
    config = {"Parameters": {name: [b64(text.encode()) for text in parameters]}, "DecryptConfig": {"Parameters": {}}}
    other = {"dc": None, "annotation": None}
    return json.dumps({"op": "keywrap", "keywrapparams": {"ec": config, "optsdata": b64(options)}, "keyunwrapparams": other}).encode()


def unwrap_request(annotation: bytes, *parameters: str) -> bytes:
    config = {"Parameters": {packet.PROVIDER: [b64(text.encode()) for text in parameters]}}
    other = {"ec": None, "optsdata": None}
    return json.dumps({"op": "keyunwrap", "keywrapparams": other, "keyunwrapparams": {"dc": config, "annotation": b64(annotation)}}).encode()


def ask(request: bytes, key: bytes = KEY) -> dict:
    return json.loads(provider.answer(request, lambda _path: key))


def wrapped(*parameters: str) -> bytes:
    return base64.b64decode(ask(wrap_request(*parameters or (f"keypath=/k::keyid={KID}::algorithm=A256GCM",)))["keywrapresults"]["annotation"])


def test_the_requests_that_skopeo_really_sent(vectors: Path):
    folder = vectors / "coco" / "generated" / "skopeo-1.18.0"
    key = base64.b64decode((folder / "kek.b64").read_text())
    stdin = json.loads((folder / "keyunwrap-stdin.json").read_text())
    stdin["keyunwrapparams"]["dc"]["Parameters"][packet.PROVIDER] = [b64(b"keypath=/kek.bin")]
    options = base64.b64decode(json.loads(provider.answer(json.dumps(stdin).encode(), lambda _path: key))["keyunwrapresults"]["optsdata"])
    assert len(packet.parse_options(options).symkey) == 32
    # Its parameter has no algorithm, and the options come back as they were sent.
    request = (folder / "keywrap-stdin.json").read_bytes()
    found = packet.Packet.parse(base64.b64decode(json.loads(provider.answer(request, lambda _path: key))["keywrapresults"]["annotation"]))
    assert found.kid == "kbs:///default/key/model1"
    assert found.open(key) == base64.b64decode(json.loads(request)["keywrapparams"]["optsdata"])


def test_an_image_that_skopeo_encrypted_for_another_provider(vectors: Path):
    folder = vectors / "coco" / "generated" / "skopeo-1.18.0"
    key = base64.b64decode((folder / "kek.b64").read_text())
    image = layout.image(layout.find(str(folder / "oci_enc"), "latest") or b"", "vector")
    keys = verify.layer_keys(image, key, "kbs:///default/key/model1", "vector")
    verify.check_content(str(folder / "oci_enc"), image, keys)
    plain = layout.image(layout.find(str(folder / "oci_plain"), "latest") or b"", "vector")
    verify.check_same(keys, plain, "vector")
    with pytest.raises(AttestedError, match="not the key") as caught:
        verify.layer_keys(image, OTHER, "kbs:///default/key/model1", "vector")
    assert caught.value.code == "image-wrong-key"


def test_packets_of_the_guests_own_tests(vectors: Path):
    folder = vectors / "coco" / "guest-components" / "annotation-packet"
    raw = (folder / "sample_kbc_annotation.json").read_bytes()
    found = packet.Packet.parse(raw)
    assert found.kid == "kbs:///default/key/1"
    # The form that we write, member by member.
    assert json.loads(found.to_bytes()) == json.loads(raw)
    # The other one names the KBS twice: no guest finds such a resource.
    with pytest.raises(AttestedError, match="repository/type/tag"):
        packet.Packet.parse((folder / "v1.json").read_bytes())


def test_wrapped_twice_is_never_the_same_and_opens_to_the_same():
    one, two = wrapped(), wrapped()
    assert json.loads(one)["iv"] != json.loads(two)["iv"] and one != two
    for annotation in (one, two):
        assert base64.b64decode(ask(unwrap_request(annotation, "keypath=/k"))["keyunwrapresults"]["optsdata"]) == OPTIONS
    assert set(json.loads(one)) == {"kid", "wrapped_data", "iv", "wrap_type"}


def test_the_newer_form_of_a_packet_is_read():
    document = {**json.loads(wrapped()), "version": "0.1.0", "provider": "kbs", "provider_settings": {}, "annotations": {}}
    assert packet.Packet.parse(json.dumps(document).encode()).open(KEY) == OPTIONS


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        (("keyid=" + KID,), "keypath is missing"),
        (("keypath=/k",), "keyid is missing"),
        (("keypath=/k::keyid=" + KID + "::sample=true",), "'sample'"),
        (("keypath=/k::keyid=" + KID + "::algorithm=A256CTR",), "A256CTR"),
        (("keypath=/k::keyid=" + KID + "::keyid=" + KID,), "each once"),
        (("keypath=::keyid=" + KID,), "with a value"),
        (("keypath",), "with a value"),
        (("keypath=/k::keyid=default/key/test",), "kbs:///repository/type/tag"),
        (("keypath=/k::keyid=kbs://kbs.example.org/default/key/test",), "kbs:///repository/type/tag"),
        (("keypath=/k::keyid=kbs:///default/key",), "repository/type/tag"),
        (("keypath=/k::keyid=" + KID, "keypath=/l::keyid=" + KID), "one parameter"),
        ((), "one parameter"),
    ],
)
def test_what_upstreams_provider_lets_pass_is_refused(parameters, words):
    with pytest.raises(AttestedError, match=words):
        ask(wrap_request(*parameters))


def test_another_providers_parameter_is_not_ours():
    with pytest.raises(AttestedError, match="one parameter"):
        ask(wrap_request(f"keypath=/k::keyid={KID}", name="attested-ai"))


@pytest.mark.parametrize("options", [b"{}", b"[]", b"x", OPTIONS.replace(b"sha256", b"sha512"), OPTIONS.replace(b"symkey", b"key")])
def test_options_that_are_none_are_not_wrapped_nor_shown(options):
    with pytest.raises(AttestedError) as caught:
        ask(wrap_request(f"keypath=/k::keyid={KID}", options=options))
    assert b64(b"s" * 32) not in str(caught.value)


@pytest.mark.parametrize("key", [b"", b"k" * 31, b"k" * 33, b64(KEY).encode()])
def test_a_key_that_guests_would_not_take(key):
    with pytest.raises(AttestedError, match="32 raw bytes") as caught:
        ask(wrap_request(f"keypath=/k::keyid={KID}"), key)
    assert not key or key.decode() not in str(caught.value)


def test_wrong_keys_and_changed_packets():
    annotation = wrapped()
    with pytest.raises(AttestedError, match="not the key"):
        ask(unwrap_request(annotation, "keypath=/k"), OTHER)
    with pytest.raises(AttestedError, match="not kbs:///default/key/other"):
        ask(unwrap_request(annotation, "keypath=/k::keyid=kbs:///default/key/other"))
    for name in ("wrapped_data", "iv"):
        document = json.loads(annotation)
        data = bytearray(base64.b64decode(document[name]))
        data[0] ^= 1
        with pytest.raises(AttestedError, match="changed"):
            ask(unwrap_request(json.dumps({**document, name: b64(bytes(data))}).encode(), "keypath=/k"))
    for change in ({"wrap_type": "A256CTR"}, {"provider": "aliyun"}, {"version": "0.2.0"}, {"extra": 1}, {"kid": 5}, {"iv": ""}):
        with pytest.raises(AttestedError):
            ask(unwrap_request(json.dumps({**json.loads(annotation), **change}).encode(), "keypath=/k"))


@given(st.one_of(st.binary(max_size=300), st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(
        ["op", "keywrap", "keywrapparams", "keyunwrapparams", "ec", "dc", "Parameters", "optsdata", "annotation", packet.PROVIDER]), inner, max_size=4)),
    max_leaves=20,
).map(lambda value: json.dumps(value).encode())))  # fmt: skip
def test_whatever_is_asked_the_answer_is_a_word_of_ours(request_bytes):
    with pytest.raises(AttestedError):
        provider.answer(request_bytes, lambda _path: KEY)


def test_a_record_is_of_one_image_source_and_key():
    document = {"schemaVersion": 2, "layers": [{"size": 5}], "annotations": {"a": "b"}}
    made = json.loads(record.written(document, KEY, KID, "sha256:1"))
    assert made["annotations"]["a"] == "b" and record.holds(made, KEY, KID, "sha256:1")
    assert not record.holds(made, OTHER, KID, "sha256:1")
    assert not record.holds(made, KEY, KID + "2", "sha256:1")
    assert not record.holds(made, KEY, KID, "sha256:2")
    assert not record.holds({**made, "layers": [{"size": 6}]}, KEY, KID, "sha256:1")
    assert not record.holds({**made, "annotations": {**made["annotations"], "a": "c"}}, KEY, KID, "sha256:1")
    assert not record.holds(document, KEY, KID, "sha256:1")
    for strange in ({"layers": [{"size": 1 << 70}]}, {"layers": [1e400]}, {"layers": "\ud800"}, {"annotations": {record.ANNOTATION: "\ud800"}}):
        assert not record.holds({**made, **strange}, KEY, KID, "sha256:1")
    # Nobody without the key sees of which source it is.
    assert "sha256:1" not in json.dumps(made)


def program(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([sys.executable, "-P", images_lab.PROVIDER, *arguments], input=stdin, capture_output=True, check=False, timeout=60, env=environment)


def test_the_program_finds_its_collection_and_tells_its_configuration():
    done = program("config")
    assert done.returncode == 0, done.stderr
    command = json.loads(done.stdout)["key-providers"]["attestation-agent"]["cmd"]
    assert command == {"path": sys.executable, "args": ["-P", images_lab.PROVIDER]}


def test_the_program_wraps_and_says_nothing_else(tmp_path: Path):
    key = images_lab.secret(tmp_path / "key", KEY)
    done = program(stdin=wrap_request(f"keypath={key}::keyid={KID}"))
    assert done.returncode == 0 and not done.stderr
    assert packet.Packet.parse(base64.b64decode(json.loads(done.stdout)["keywrapresults"]["annotation"])).open(KEY) == OPTIONS


def test_the_program_fails_in_one_line_and_answers_nothing(tmp_path: Path):
    open_key = tmp_path / "open"
    open_key.write_bytes(KEY)
    open_key.chmod(0o644)
    cases = [
        (wrap_request(f"keypath={open_key}::keyid={KID}"), b"chmod 600"), (wrap_request(f"keypath={tmp_path}/no::keyid={KID}"), b"there is no key"),
        (b"", b"not JSON"), (b"{" * 3000, b"JSON"), (b" " * (2 << 20), b"longer"),
    ]  # fmt: skip
    for stdin, words in cases:
        done = program(stdin=stdin)
        assert done.returncode == 1 and not done.stdout
        assert words in done.stderr and done.stderr.count(b"\n") == 1 and b"Traceback" not in done.stderr
    assert program("wrap").returncode == 2
