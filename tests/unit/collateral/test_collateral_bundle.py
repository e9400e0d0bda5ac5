# SPDX-License-Identifier: GPL-3.0-or-later
"""One signed file: what comes out of a bundle is what went in, and nothing else ever does."""

from __future__ import annotations

import io
import json
import os
import tarfile

import pytest
from ansible_collections.attested.ai.plugins.module_utils.endorsements import bundle as bundles
from ansible_collections.attested.ai.plugins.module_utils.endorsements.store import Entry, Piece, Store
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, EndorsementError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import public_jwk
from ansible_collections.attested.ai.plugins.plugin_utils import collateral_transfer as transfer
from ansible_collections.attested.ai.plugins.plugin_utils.collateral_inputs import load
from collateral_lab import AT, ISSUED, fetch, make_task, signing_key
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())


def entry(path="jwks/a.json", data=b'{"keys": []}', kind="jwks", **more):
    piece = Piece(kind, path, data, "key set", **more)
    return path, piece.entry("test", AT), data


def make(*parts, key=KEY, at=AT):
    parts = parts or (entry(),)
    return bundles.write_bundle({path: found for path, found, _data in parts}, {path: data for path, _found, data in parts}, at, key)


def read(data, key=KEY):
    return bundles.read_bundle(data, public_jwk(key))


def test_the_round_trip():
    parts = [entry("jwks/a.json"), entry("cca/b.json", b"[]", "cca"), entry("amd/crl/milan.der", b"0\0", "amd-crl", issued_at=ISSUED, expires_at=AT)]
    found = read(make(*parts))
    assert found.created_at == AT and found.files == {path: data for path, _entry, data in parts}
    assert found.entries == {path: part for path, part, _data in parts}


@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1])
def test_both_curves_sign(curve):
    key = ec.generate_private_key(curve())
    assert read(make(key=key), key).files


def test_any_tar_reads_it():
    with tarfile.open(fileobj=io.BytesIO(make())) as archive:
        assert archive.getnames() == ["manifest.json", "manifest.jws", "jwks/a.json"]
        member = archive.getmember("jwks/a.json")
        assert (member.mode, member.uid, member.mtime) == (0o644, 0, 0) and archive.extractfile(member).read() == b'{"keys": []}'


def test_the_same_content_gives_the_same_bytes_but_for_the_signature():
    first, second = bundles.split(make()), bundles.split(make())
    assert [part for part in first if part[0] != bundles.SIGNATURE] == [part for part in second if part[0] != bundles.SIGNATURE]


def test_another_signer_is_refused():
    with pytest.raises(EndorsementError) as caught:
        read(make(key=OTHER))
    assert caught.value.code == "bundle-signature"
    with pytest.raises(EndorsementError) as caught:
        bundles.read_bundle(make(), None)
    assert caught.value.code == "bundle-key"


def test_the_signature_of_something_else_is_refused():
    from ansible_collections.attested.ai.plugins.module_utils.formats import jcs
    from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jws

    members = bundles.split(make())
    signature = jcs.canonicalize(jws.sign_detached(members[0][1], KEY, typ="attested.ai/ledger-head/1"))
    with pytest.raises(EndorsementError) as caught:
        read(rebuild([members[0], (bundles.SIGNATURE, signature), *members[2:]]))
    assert caught.value.code == "bundle-signature"


def rebuild(members):
    blocks = []
    for name, data in members:
        blocks += [bundles._header(name, len(data)), data, bytes(-len(data) % 512)]
    return b"".join(blocks) + bytes(1024)


def signed(members, manifest):
    """A bundle whose manifest is properly signed and whose members are whatever they are."""
    from ansible_collections.attested.ai.plugins.module_utils.formats import jcs
    from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jws

    text = json.dumps(manifest).encode()
    return rebuild([(bundles.MANIFEST, text), (bundles.SIGNATURE, jcs.canonicalize(jws.sign_detached(text, KEY, typ=bundles.SCHEMA))), *members])


def manifest(**entries):
    return {"schema": bundles.SCHEMA, "created_at": "2026-11-01T00:00:00Z", "entries": entries}


def as_dict(path="jwks/a.json", **more):
    found = entry(path)[1].to_dict()
    return {**found, **more}


@pytest.mark.parametrize(
    "path",
    ["../escape.json", "/etc/passwd", "jwks/../../x.json", "jwks/./x.json", "jwks//x.json", "jwks/x\n.json", "jwks/.hidden", "cca/a.json", "jwks/" + "a" * 100,
     "index.json", ".lock", "jwks/a.json.new", "jwks\\a.json", "jwks/ä.json"],
)  # fmt: skip
def test_a_signed_path_that_leads_astray_is_refused(path):
    with pytest.raises(EndorsementError) as caught:
        read(signed([], manifest(**{path: as_dict()})))
    assert caught.value.code == "bundle-format"


def test_unlisted_doubled_missing_and_changed_members_are_refused():
    listed = manifest(**{"jwks/a.json": as_dict()})
    good = ("jwks/a.json", b'{"keys": []}')
    assert read(signed([good], listed)).files
    for members, what in (
        ([good, ("jwks/b.json", b"x")], "does not name"),
        ([good, good], "twice"),
        ([], "are missing"),
        ([("jwks/a.json", b'{"keys": [ ]}')], "not the file"),
        ([("jwks/a.json", b'{"keys": {}}')], "not the file"),
    ):
        with pytest.raises(EndorsementError, match=what):
            read(signed(members, listed))


@pytest.mark.parametrize(
    "change", [{"size": 0}, {"size": True}, {"size": 9 << 20}, {"sha256": "00"}, {"kind": "shell"}, {"about": "a\nb"}, {"fetched_at": "now"}, {"x": 1}]
)
def test_a_signed_manifest_that_is_none_is_refused(change):
    with pytest.raises(EndorsementError):
        read(signed([("jwks/a.json", b'{"keys": []}')], manifest(**{"jwks/a.json": as_dict(**change)})))


def tar_of(*infos):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for info, data in infos:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize(
    "type_, link",
    [
        (tarfile.SYMTYPE, "/etc"), (tarfile.LNKTYPE, "manifest.json"), (tarfile.DIRTYPE, ""), (tarfile.CHRTYPE, ""), (tarfile.FIFOTYPE, ""),
        (tarfile.REGTYPE, ""),
    ],
)
def test_only_plain_files_of_our_own_form_are_members(type_, link):
    info = tarfile.TarInfo("jwks/a.json")
    info.type, info.linkname, info.mtime = type_, link, 1
    with pytest.raises(FormatError):
        bundles.split(tar_of((info, b"")))


def test_long_names_and_extensions_are_refused():
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as archive:
            archive.addfile(tarfile.TarInfo("a" * 150), io.BytesIO())
        with pytest.raises(FormatError):
            bundles.split(out.getvalue())


def test_cut_off_anywhere_it_is_refused():
    data = make()
    for size in range(0, len(data), 97):
        with pytest.raises(AttestedError):
            read(data[:size])


def test_no_single_changed_byte_is_accepted():
    """Every byte: of the headers, the manifest, its signature, the files, the padding and the end."""
    data = make(entry(data=b"{}"))
    accepted = []
    public = public_jwk(KEY)
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        try:
            bundles.read_bundle(bytes(changed), public)
        except EndorsementError:
            continue
        accepted.append(position)
    assert accepted == []


@given(st.binary(max_size=3000))
def test_what_is_no_bundle_is_refused(data):
    with pytest.raises(EndorsementError):
        read(data)


@given(st.dictionaries(st.from_regex(r"jwks/[a-z0-9]{1,20}\.json", fullmatch=True), st.binary(min_size=1, max_size=600), max_size=5))
def test_every_store_survives_the_round_trip(files):
    parts = [entry(path, data) for path, data in files.items()]
    if parts:
        assert dict(read(make(*parts)).files) == files


# The operations


@pytest.fixture
def filled(lab, services, store_path):
    fetch(services, store_path, [lab.document(1), lab.document(2)])
    return store_path


def export(store, path, key, **options):
    from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import Inputs

    return transfer.export_bundle(make_task(store, options.pop("check", False), **options)[0], path, Inputs(str).signing_key(key))


def take(lab, store, path, key, check=False, allow_older=False, policy=None):
    task, _said = make_task(store, check, policy=policy or lab.policy())
    return transfer.import_bundle(task, path, public_jwk(key), allow_older)


def test_export_and_import_elsewhere(lab, filled, tmp_path):
    key_path, _public, key = signing_key(tmp_path)
    path, other = str(tmp_path / "collateral.tar"), str(tmp_path / "elsewhere")
    assert export(filled, path, key_path, check=True)["changed"] and not os.path.exists(path)
    assert export(filled, path, key_path)["changed"]
    before = open(path, "rb").read()
    assert not export(filled, path, key_path)["changed"] and open(path, "rb").read() == before
    planned = take(lab, other, path, key, check=True)
    assert planned["changed"] and not os.path.exists(other) and planned["diff"]["after"]
    result = take(lab, other, path, key)
    assert result["changed"] and result["counts"] == {"added": 4}
    assert load([other]) == load([filled]) == load([path], public_key=public_jwk(key))
    again = take(lab, other, path, key)
    assert not again["changed"] and again["counts"] == {"unchanged": 4}


def test_a_bundle_is_not_read_without_its_signers_key(filled, tmp_path):
    key_path, _public, _key = signing_key(tmp_path)
    path = str(tmp_path / "collateral.tar")
    export(filled, path, key_path)
    with pytest.raises(AttestedError, match="public key of its signer"):
        load([path])
    with pytest.raises(AttestedError):
        load([path], public_key=public_jwk(OTHER))


def test_an_older_bundle_is_refused_unless_it_is_wanted(lab, filled, tmp_path):
    key_path, _public, key = signing_key(tmp_path)
    old, new, other = (str(tmp_path / name) for name in ("old.tar", "new.tar", "elsewhere"))
    export(filled, old, key_path)
    store = Store(filled)
    index = store.index()
    crl = index.entries["amd/crl/genoa.der"]
    from datetime import timedelta

    data = lab.crl("genoa", ISSUED + timedelta(days=10))
    later = Piece("amd-crl", crl.path, data, crl.about, ISSUED + timedelta(days=10), ISSUED + timedelta(days=70))
    store.put([(later, later.entry("test", crl.fetched_at + timedelta(days=10)))])
    export(filled, new, key_path)
    take(lab, other, new, key)
    with pytest.raises(AttestedError) as caught:
        take(lab, other, old, key)
    assert caught.value.code == "bundle-older" and "allow_older" in str(caught.value)
    assert load([other]).crls == (data,)
    assert take(lab, other, old, key, allow_older=True)["changed"] and load([other]).crls == (lab.crl("genoa"),)
    # Going back once is no licence: the date of the newest bundle stays.
    with pytest.raises(AttestedError):
        take(lab, other, old, key)


def test_a_bundle_with_an_older_piece_is_refused(lab, services, filled, tmp_path):
    """Also by a store that never saw a bundle, but fetched by itself."""
    from datetime import timedelta

    key_path, _public, key = signing_key(tmp_path)
    path, other = str(tmp_path / "old.tar"), str(tmp_path / "elsewhere")
    export(filled, path, key_path)
    services.crl_issued = ISSUED + timedelta(days=5)
    fetch(services, other, [lab.document(1)])
    with pytest.raises(AttestedError) as caught:
        take(lab, other, path, key)
    assert caught.value.code == "bundle-older" and "amd/crl/genoa.der" in str(caught.value)


def test_signed_content_that_proves_nothing_is_refused(lab, filled, tmp_path):
    """The signer vouches that it is complete, not that a certificate is AMD's: that is proven again."""
    key_path, _public, key = signing_key(tmp_path)
    path, other = str(tmp_path / "bundle.tar"), str(tmp_path / "elsewhere")
    export(filled, path, key_path)
    with pytest.raises(AttestedError) as caught:
        take(lab, other, path, key, policy={"schema": "attested.ai/policy/1", "id": "strict"})
    assert caught.value.code == "bundle-content" and not os.path.exists(os.path.join(other, "index.json"))


def test_a_file_at_another_files_place_is_refused(lab, tmp_path):
    data = lab.crl("genoa")
    parts = {"amd/crl/milan.der": Entry("amd-crl", "amd/crl/milan.der", __import__("hashlib").sha256(data).hexdigest(), len(data), "x", "y", AT)}
    path = tmp_path / "bundle.tar"
    path.write_bytes(bundles.write_bundle(parts, {"amd/crl/milan.der": data}, AT, KEY))
    with pytest.raises(AttestedError) as caught:
        take(lab, str(tmp_path / "store"), str(path), KEY)
    assert caught.value.code == "bundle-content"


def test_files_by_hand(lab, tmp_path, vectors):
    from softtee.snp_authority import pem

    store = str(tmp_path / "store")
    vlek = lab.authority.vlek("milan", not_before=ISSUED)[1]
    (tmp_path / "vlek.der").write_bytes(vlek)
    (tmp_path / "chain.pem").write_text("".join(pem(der) for der in lab.authority.chain("milan", "vlek")))
    (tmp_path / "crl.pem").write_text(pem(lab.crl("milan"), "X509 CRL"))
    (tmp_path / "cpaks.json").write_bytes((vectors / "cca" / "cpak-synth-p384.jwk.json").read_bytes())
    files = [str(tmp_path / name) for name in ("vlek.der", "chain.pem", "crl.pem", "cpaks.json")]
    task, _said = make_task(store, policy=lab.policy())
    assert transfer.import_files(task, files)["counts"] == {"added": 4}
    assert not transfer.import_files(task, files)["changed"]
    found = load([store])
    assert vlek in found.certificates and found.crls == (lab.crl("milan"),) and len(found.cca) == 1
    # The same files, named one by one, are the same endorsements.
    assert set(load(files).certificates) == set(found.certificates)


@pytest.mark.parametrize("content", [b"", b"hello", b"{}", b"<a/>", b"0\x03\x02\x01\x01", b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"])
def test_a_file_that_is_nothing_known_is_refused(lab, tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    task, _said = make_task(str(tmp_path / "store"), policy=lab.policy())
    with pytest.raises(AttestedError):
        transfer.import_files(task, [str(path)])
    assert not os.path.exists(tmp_path / "store")


def test_an_export_of_nothing_and_to_nowhere_is_told(lab, filled, tmp_path):
    key_path, _public, _key = signing_key(tmp_path)
    with pytest.raises(AttestedError, match="nothing in it"):
        export(str(tmp_path / "empty"), str(tmp_path / "b.tar"), key_path)
    with pytest.raises(AttestedError, match="cannot be written"):
        export(filled, str(tmp_path / "no" / "such" / "b.tar"), key_path)
