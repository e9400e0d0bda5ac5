# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and entries that are refused, and the strict manifest."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError, ModelError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import tree
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import FileEntry, Manifest
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.segments import Layout

DEK = {"protected": "e30", "recipients": [{}], "iv": "", "ciphertext": "", "tag": ""}


def entry(path: str, size: int = 10) -> FileEntry:
    return FileEntry(path, size, Layout(size, 4096).cipher_size, "ab" * 32)


GOOD = Manifest("minilm", 3, "2026-01-31T12:00:00Z", 4096, (entry("a"), entry("b/c", 5000)), DEK, "minilm-3-0123abcd", ("kbs:///x",))


def refused(directory) -> AttestedError:
    with pytest.raises(ModelError) as caught:
        tree.walk(str(directory))
    return caught.value


def test_files_are_found_in_the_order_of_their_bytes(tmp_path):
    for name in ("b", "a.d/x", "a/x", ".hidden", "\u00e9"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"12")
    (tmp_path / "empty-directory").mkdir()
    found = tree.walk(str(tmp_path))
    assert [file.path for file in found] == [".hidden", "a.d/x", "a/x", "b", "\u00e9"] and found[0].size == 2


@pytest.mark.parametrize("target", ["/etc/passwd", "file", "../outside", "missing"])
def test_symbolic_links_are_refused_and_the_cure_is_named(tmp_path, target):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(target)
    error = refused(tmp_path)
    assert error.code == "model-symlink" and "cp -rL" in str(error)


def test_a_linked_directory_is_refused(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "link").symlink_to("inside")
    assert refused(tmp_path).code == "model-symlink"


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert refused(tmp_path).code == "model-special-file"


@pytest.mark.parametrize("name", ["cafe\u0301", "new\nline", "zero\u200bwidth", "x" * 251])
def test_names_that_are_not_plain_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    assert refused(tmp_path).code == "model-path"


def test_names_that_are_not_utf8_are_refused(tmp_path):
    with open(os.fsencode(str(tmp_path)) + b"/\xff", "wb"):
        pass
    assert refused(tmp_path).code == "model-path"


@pytest.mark.parametrize("names", [("A", "a"), ("D/x", "d/y"), ("a", "a.tink/x"), ("model-manifest.json/x",), ("stra\u00dfe", "STRASSE")])
def test_names_that_collide_are_refused(tmp_path, names):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert refused(tmp_path).code == "model-path"


def test_an_empty_tree_and_a_missing_one_are_refused(tmp_path):
    (tmp_path / "directory").mkdir()
    assert "no files" in str(refused(tmp_path))
    assert "cannot be opened" in str(refused(tmp_path / "missing"))


def test_an_unreadable_file_is_found_before_anything_is_written(tmp_path, monkeypatch):
    (tmp_path / "secret").write_bytes(b"x")
    real = os.open

    def closed(path, flags, mode=0o777, *, dir_fd=None):
        if path == "secret":
            raise PermissionError(13, "Permission denied", path)
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", closed)
    error = refused(tmp_path)
    assert error.code == "model-unreadable" and "secret" in str(error) and "Permission denied" in str(error)


def test_nothing_is_opened_through_a_linked_directory(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"x")
    (tmp_path / "root" / "link").symlink_to("../outside")
    root = os.open(tmp_path / "root", os.O_RDONLY)
    for path in ("link/file", "../outside/file"):
        if path.startswith("link"):
            with pytest.raises(ModelError):
                tree.open_beneath(root, path, "here")
        with pytest.raises(ModelError):
            tree.check_path("/" + path)
    os.close(root)


@pytest.mark.parametrize("path", ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\0b", 7, None, "x/" * 64 + "y", "\ud800"])
def test_paths_that_do_not_stay_inside_are_refused(path):
    with pytest.raises(ModelError):
        tree.check_path(path)


def test_a_manifest_round_trips_and_is_canonical():
    raw = GOOD.to_bytes()
    assert Manifest.parse(raw) == GOOD and jcs.canonicalize(json.loads(raw)) == raw
    assert GOOD.size == 5010


def changed(**members) -> bytes:
    obj = json.loads(GOOD.to_bytes())
    obj.update(members)
    return jcs.canonicalize({name: value for name, value in obj.items() if value != "remove"})


FILE = GOOD.files[0].to_dict()


@pytest.mark.parametrize(
    "members",
    [
        {"schema": "attested.ai/model-manifest/2"},
        {"profile": "image"},
        {"extra": 1},
        {"dek": "remove"},
        {"model_id": "../x"},
        {"model_id": ""},
        {"release": 0},
        {"release": True},
        {"release": "3"},
        {"created_at": "yesterday"},
        {"segment_size": 56},
        {"segment_size": 1 << 40},
        {"files": []},
        {"files": [FILE, FILE]},
        {"files": [entry("b").to_dict(), entry("a").to_dict()]},
        {"files": [dict(FILE, path="../a")]},
        {"files": [dict(FILE, size=11)]},
        {"files": [dict(FILE, ciphertext_size=67)]},
        {"files": [dict(FILE, header_sha256="AB" * 32)]},
        {"files": [dict(FILE, more=1)]},
        {"files": [entry("A").to_dict(), entry("a").to_dict()]},
        {"dek": {}},
        {"dek": dict(DEK, zip="DEF")},
        {"dek": dict(DEK, recipients=[])},
        {"key_id": " x"},
        {"key_uris": "kbs:///x"},
        {"key_uris": [1]},
    ],
)
def test_a_manifest_with_anything_else_is_refused(members):
    with pytest.raises((FormatError, ModelError)):
        Manifest.parse(changed(**members))


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"\xff", GOOD.to_bytes() + b"\n", b" " + GOOD.to_bytes(), GOOD.to_bytes().replace(b'"release":3', b'"release":3,"release":3')]
)
def test_another_spelling_of_a_manifest_is_refused(raw):
    with pytest.raises(FormatError):
        Manifest.parse(raw)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_manifest_with_any_changed_byte_is_refused_or_another_one(data):
    raw = bytearray(GOOD.to_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        parsed = Manifest.parse(bytes(raw))
    except AttestedError:
        return
    assert parsed.to_bytes() == bytes(raw)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_any_accepted_path_stays_inside(text):
    try:
        path = tree.check_path(text)
    except ModelError:
        return
    assert os.path.normpath(os.path.join("/root", path)) == os.path.join("/root", path)
