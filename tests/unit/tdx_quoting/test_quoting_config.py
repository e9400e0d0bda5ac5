# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration files of QGS, QCNL and PCCS: parsed as their programs do, edited by key, given back."""

from __future__ import annotations

import json

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError, HostError
from ansible_collections.attested.ai.plugins.module_utils.target.quoting import commented_json, config_file, qgs_conf
from hypothesis import given
from hypothesis import strategies as st
from quoting_files import PCCS, QCNL, QGS


def test_shipped_files_are_read():
    assert commented_json.parse(QCNL) == {"pccs_url": "https://localhost:8081/sgx/certification/v4/", "use_secure_cert": True, "retry_times": 6}
    assert commented_json.parse(PCCS, trailing_comma=True)["sqlite"] == {"options": {"logging": False, "storage": "pckcache.db"}}
    assert qgs_conf.parse(QGS) == qgs_conf.QgsConf(4050, 4)
    assert qgs_conf.parse("") == qgs_conf.QgsConf(None, None)
    # Blanks count nowhere, and what QGS does not know it passes over (server_main.cpp).
    assert qgs_conf.parse("po rt=4 0\nfoo = bar = x\n  # port = 1\nno sign\n") == qgs_conf.QgsConf(40, None)


def test_only_what_is_set_changes():
    edited = commented_json.edit(QCNL, {"pccs_url": "https://pccs.example.com:8081/sgx/certification/v4/", "local_cache_only": False})
    assert edited == QCNL.replace("https://localhost:8081/", "https://pccs.example.com:8081/").replace(
        '"retry_times": 6\n', '"retry_times": 6,\n  "local_cache_only": false\n'
    )
    edited = commented_json.edit(PCCS, {"HTTPS_PORT": 8443, "LogLevel": "debug"}, trailing_comma=True)
    assert edited == PCCS.replace("8081", "8443").replace("}, \n    //", '},\n    "LogLevel": "debug", \n    //')
    assert commented_json.edit(QCNL, {"use_secure_cert": commented_json.REMOVED}) == QCNL.replace('  ,"use_secure_cert": true\n', "")
    assert commented_json.edit("{}", {"a": [1]}) == '{\n  "a": [1]\n}' and commented_json.edit('{"a": [1]}', {"a": commented_json.REMOVED}) == "{}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "{ was expected"),
        ("[]", "{ was expected"),
        ("{", "no end"),
        ('{"a": 1', "no end"),
        ('{"a" 1}', ": was expected"),
        ('{"a": 1,}', "a comma stands before }"),
        ('{"a": [1,]}', "a comma stands before ]"),
        ('{"a": 1 "b": 2}', "a comma or } was expected"),
        ('{"a": 1, "a": 2}', "twice"),
        ('{"a": 1} x', "something follows"),
        ('{"a": tru}', "a value was expected"),
        ('{"a": NaN}', "a value was expected"),
        ('{"a": 1 /* no end }', "a comma or } was expected"),
        ("{'a': 1}", "double quotes"),
        ('{"a": "\\x"}', "no JSON"),
        ('{"a": ' + "[" * 5000, "nested too deeply"),
        ("{" + " " * (1 << 20) + "}", "larger than"),
    ],
)
def test_what_their_programs_refuse_is_refused(text, said):
    with pytest.raises(FormatError, match=said):
        commented_json.parse(text)


@pytest.mark.parametrize(
    "text", ["port = 65536\n", "port = -1\n", "port =\n", "port = 0x10\n", "port = 1\nport = 2\n", "= 1\n", "number_threads = 256\n", "port = ²\n"]
)
def test_qgs_would_not_start(text):
    with pytest.raises(FormatError):
        qgs_conf.parse(text)


SCALARS = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=12)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=6)
OBJECTS = st.dictionaries(st.text(max_size=6), VALUES, max_size=5)
INSIDE = st.sampled_from(["", " ", "\n", "/* inside */", "// inside\n"])
NOISE = st.sampled_from(["", " ", "\n", "// a comment, with {\n", "/* and\none */", '//"x": 1,\n'])


@st.composite
def documents(draw):
    """Some object as a person writes it, commas before or after, comments anywhere."""
    members, text = draw(OBJECTS), "{" + draw(NOISE)
    for number, (key, value) in enumerate(members.items()):
        separator = "" if number == 0 else draw(NOISE) + "," + draw(NOISE)
        text += separator + json.dumps(key) + draw(INSIDE) + ":" + draw(INSIDE) + json.dumps(value)
    return members, text + draw(NOISE) + "}" + draw(NOISE)


@given(documents(), OBJECTS, st.sets(st.text(max_size=6), max_size=3))
def test_edits_set_what_they_shall_and_nothing_else(document, wanted, gone):
    members, text = document
    assert commented_json.parse(text) == members
    changes = {**wanted, **{key: commented_json.REMOVED for key in gone}}
    edited = commented_json.edit(text, changes)
    expected = {key: value for key, value in {**members, **wanted}.items() if key not in gone}
    assert commented_json.same(commented_json.parse(edited), expected)
    # Comments between members stay, and the second edit finds nothing to do.
    assert edited.count("// a comment, with {") == text.count("// a comment, with {") and commented_json.edit(edited, changes) == edited


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    for parse in (commented_json.parse, qgs_conf.parse, lambda text: qgs_conf.values(qgs_conf.edit(text, {"port": "1"}))):
        try:
            parse(text)
        except AttestedError as error:
            assert str(error)


@given(st.lists(st.tuples(st.sampled_from(["port", "number_threads", "# c", "x y"]), st.integers(0, 9)), max_size=6), st.none() | st.integers(0, 65535))
def test_qgs_settings_are_set_once(lines, port):
    text = "".join("%s = %d\n" % line for line in lines)
    edited = qgs_conf.edit(text, {"port": None if port is None else str(port)})
    assert qgs_conf.values(edited).get("port") == (None if port is None else str(port))
    assert edited.count("# c") == text.count("# c") and qgs_conf.edit(edited, {"port": None if port is None else str(port)}) == edited


def test_there_and_back_again():
    settings = {"pccs_url": "https://pccs.example.com/sgx/certification/v4/", "local_cache_only": False}
    first = config_file.plan(QCNL, None, "qcnl", settings, {}, True, "/etc/x")
    assert first.changed and '"local_cache_only": false' in first.text
    again = config_file.plan(first.text, first.record, "qcnl", settings, {}, True, "/etc/x")
    assert not again.changed and again.text == first.text and again.record == first.record
    # A key that is no longer named goes back, the other stays.
    fewer = config_file.plan(first.text, first.record, "qcnl", {"pccs_url": settings["pccs_url"]}, {}, True, "/etc/x")
    assert "local_cache_only" not in fewer.text and "pccs.example.com" in fewer.text
    back = config_file.plan(first.text, first.record, "qcnl", {}, {}, False, "/etc/x")
    assert back.record is None and commented_json.parse(back.text) == commented_json.parse(QCNL)
    # What somebody else has set since is theirs.
    theirs = commented_json.edit(first.text, {"pccs_url": "https://other.example.com/"})
    back = config_file.plan(theirs, first.record, "qcnl", {}, {}, False, "/etc/x")
    assert commented_json.parse(back.text)["pccs_url"] == "https://other.example.com/"


def test_the_port_goes_and_comes_back():
    first = config_file.plan(QGS, None, "qgs", {"port": None, "number_threads": 8}, {}, True)
    assert first.text == "#set port number\nnumber_threads = 8\n"
    assert qgs_conf.parse(config_file.plan(first.text, first.record, "qgs", {}, {}, False).text) == qgs_conf.parse(QGS)


def test_secrets_are_shown_and_recorded_nowhere():
    secret = {"ApiKey": "0123456789abcdef0123456789abcdef", "UserTokenHash": "ab" * 64}
    first = config_file.plan(PCCS, None, "pccs", {"CachingFillMode": "REQ"}, secret, True)
    for value in secret.values():
        assert value in first.text and value not in first.before + first.after + first.record
    another = config_file.plan(first.text, first.record, "pccs", {"CachingFillMode": "REQ"}, {**secret, "ApiKey": "fedc" * 8}, True)
    assert another.changed and "*** (another)" in another.after and "fedc" not in another.before + another.after + another.record
    assert secret["ApiKey"] not in another.before
    back = config_file.plan(first.text, first.record, "pccs", {}, {}, False)
    assert commented_json.parse(back.text, trailing_comma=True) == commented_json.parse(PCCS, trailing_comma=True) and "0123456789" not in back.before


@pytest.mark.parametrize(
    ("settings", "secrets"), [({"a": 1}, {"a": "x"}), ({"port": "1\n2"}, {}), ({"port": True}, {}), ({"port": [1]}, {}), ({"port": 70000}, {})]
)
def test_what_cannot_be_set(settings, secrets):
    with pytest.raises((HostError, FormatError)):
        config_file.plan(QGS, None, "qgs", settings, secrets, True)


def test_a_damaged_record_is_told():
    with pytest.raises(FormatError, match="damaged"):
        config_file.plan(QGS, '{"schema": 1}', "qgs", {}, {}, True)


SETTINGS = st.dictionaries(st.sampled_from(["pccs_url", "use_secure_cert", "new", "retry_times"]), SCALARS, max_size=4)


@given(st.lists(SETTINGS, min_size=1, max_size=4))
def test_whatever_was_set_in_between_all_comes_back(rounds):
    text, record = QCNL, None
    for settings in rounds:
        change = config_file.plan(text, record, "qcnl", settings, {}, True)
        text, record = change.text, change.record
        assert not config_file.plan(text, record, "qcnl", settings, {}, True).changed
    back = config_file.plan(text, record, "qcnl", {}, {}, False)
    assert commented_json.same(commented_json.parse(back.text), commented_json.parse(QCNL)) and back.record is None
