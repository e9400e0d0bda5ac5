# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import os
import shutil
import stat
import subprocess
from datetime import datetime, timezone

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from softtee.snp_authority import SnpAuthority, pem
from softtee.snp_report import DEFAULT_TCB, default_chip_id

PRODUCTS = ("milan", "genoa", "turin")
BASE = "1.3.6.1.4.1.3704.1."
DN = [("organizationalUnitName", "Engineering"), ("countryName", "US"), ("localityName", "Santa Clara"), ("stateOrProvinceName", "CA")]
DN.append(("organizationName", "Advanced Micro Devices"))

# A VCEK's serial number is 0, which RFC 5280 does not like.
pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")


def load(der):
    return x509.load_der_x509_certificate(der)


def verify_pss(certificate, issuer):
    pss = padding.PSS(padding.MGF1(hashes.SHA384()), 48)
    issuer.public_key().verify(certificate.signature, certificate.tbs_certificate_bytes, pss, hashes.SHA384())


def extensions(certificate):
    return {e.oid.dotted_string[len(BASE) :]: e.value.value for e in certificate.extensions if e.oid.dotted_string.startswith(BASE)}


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("role, kind, name", [("vcek", "ask", "SEV-%s"), ("vlek", "asvk", "SEV-VLEK-%s")])
def test_the_chain_verifies_and_bears_amds_names(authority, product, role, kind, name):
    ark = load(authority.ark_der(product))
    middle = load(authority.intermediate_der(product, role))
    _key, leaf_der = getattr(authority, role)(product)
    leaf = load(leaf_der)
    names = ["ARK-" + product.capitalize(), name % product.capitalize(), "SEV-" + role.upper()]
    for certificate, common_name in zip((ark, middle, leaf), names):
        assert [(a.oid._name, a.value) for a in certificate.subject] == [*DN, ("commonName", common_name)]
    verify_pss(ark, ark)
    verify_pss(middle, ark)
    verify_pss(leaf, middle)
    assert leaf.issuer == middle.subject and middle.issuer == ark.subject == ark.issuer
    assert ark.public_key().key_size == middle.public_key().key_size == 4096
    assert ark.extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(True, None)
    assert middle.extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(True, 0)
    assert ark.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    assert not middle.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    assert isinstance(leaf.public_key().curve, ec.SECP384R1)
    assert authority.intermediate_der(product, kind) == authority.intermediate_der(product, role)


def test_names_are_encoded_as_amd_encodes_them(authority):
    """Byte for byte: order, string types. From the subject of the genuine ARK-Milan."""
    head = bytes.fromhex("307b31143012060355040b0c0b456e67696e656572696e67310b30090603550406130255533114301206035504070c0b53616e746120436c617261")
    assert head in authority.ark_der("milan")


@pytest.mark.parametrize("product, struct, name", [("milan", 0, b"Milan-B0"), ("genoa", 0, b"Genoa-B1"), ("turin", 1, b"Turin")])
def test_vcek_extensions(authority, product, struct, name):
    tcb = {key: 0x80 + index for index, key in enumerate(DEFAULT_TCB[product])}
    hwid = bytes(range(8 if product == "turin" else 64))
    _key, der = authority.vcek(product, hwid, tcb)
    leaf = load(der)
    found = extensions(leaf)
    assert leaf.serial_number == 0
    assert found["1"] == bytes([2, 1, struct]) and found["2"] == bytes([0x16, len(name)]) + name
    assert found["4"] == hwid, "raw, no OCTET STRING inside"
    suffixes = {"bootloader": "3.1", "tee": "3.2", "snp": "3.3", "microcode": "3.8", "fmc": "3.9"}
    for component, value in tcb.items():
        assert found[suffixes[component]] == bytes([2, 2, 0, value]), "0x80 and above are padded"
    assert ("3.4" in found) == (product != "turin") and ("3.9" in found) == (product == "turin")
    assert "5" not in found


def test_vlek_extensions(authority):
    found = extensions(load(authority.vlek("milan", "CN=cc-nowhere.invalid")[1]))
    assert found["5"] == b"\x16\x15CN=cc-nowhere.invalid"
    assert "4" not in found and found["2"] == b"\x16\x05Milan"


def test_validity_begins_yesterday(authority):
    now = datetime.now(timezone.utc)
    for role, years in (("vcek", 7), ("vlek", 1)):
        leaf = load(getattr(authority, role)("genoa")[1])
        assert 0.99 < (now - leaf.not_valid_before_utc).total_seconds() / 86400 < 1.01
        assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).days == years * 365


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")
@pytest.mark.parametrize("product", PRODUCTS)
def test_openssl_reads_and_verifies_them(authority, product, tmp_path):
    intermediate, ark = authority.chain(product)
    for name, der in (("leaf", authority.vcek(product)[1]), ("ask", intermediate), ("ark", ark)):
        (tmp_path / name).write_text(pem(der))
    done = subprocess.run(["openssl", "verify", "-CAfile", "ark", "-untrusted", "ask", "leaf"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "leaf: OK\n", done.stderr
    text = subprocess.run(["openssl", "x509", "-in", "leaf", "-noout", "-text"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "Salt Length: 0x30" in text and "Hash Algorithm: sha384" in text and "Serial Number: 0 (0x0)" in text
    (tmp_path / "crl").write_bytes(authority.crl(product, ["ask"]))
    done = subprocess.run(
        ["openssl", "crl", "-inform", "DER", "-in", "crl", "-noout", "-CAfile", "ark"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "verify OK" in done.stderr
    # What openssl accepts must be what it would refuse when broken.
    broken = bytearray(authority.vcek(product)[1])
    broken[-1] ^= 1
    (tmp_path / "leaf").write_text(pem(bytes(broken)))
    done = subprocess.run(["openssl", "verify", "-CAfile", "ark", "-untrusted", "ask", "leaf"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0


def test_overrides_for_negative_tests(authority):
    make = authority.vcek
    when = datetime(2024, 2, 3, 4, 5, 6, tzinfo=timezone.utc)
    assert extensions(load(make("milan", omit=["3.8", "4"])[1])).keys().isdisjoint({"3.8", "4"})
    both = extensions(load(make("milan", both_extensions=True)[1]))
    assert both["4"] and both["5"]
    assert extensions(load(make("turin", b"12345678", wrap_hwid=True)[1]))["4"] == b"\x04\x0812345678"
    assert extensions(load(make("turin", replace={"3.9": b"\x05\0"})[1]))["3.9"] == b"\x05\0"
    assert extensions(load(make("milan", product_name="Genoa")[1]))["2"] == b"\x16\x05Genoa"
    assert isinstance(load(make("milan", curve=ec.SECP256R1())[1]).public_key().curve, ec.SECP256R1)
    dated = load(make("milan", not_before=when, not_after=when.replace(year=2055))[1])
    assert dated.not_valid_before_utc == when and dated.not_valid_after_utc == when.replace(year=2055)
    assert "SEV-VLEK-Milan" in load(make("milan", issuer="asvk")[1]).issuer.rfc4514_string()
    assert "CN=SEV-X" in load(make("milan", cn="SEV-X")[1]).subject.rfc4514_string()
    assert load(make("milan", serial=300)[1]).serial_number == 300
    ask = load(authority.intermediate_der("milan", "ask"))
    forged = load(make("milan", signer=authority.key("milan", "asvk"))[1])
    with pytest.raises(InvalidSignature):
        verify_pss(forged, ask)
    old = load(make("milan", scheme="pkcs1v15")[1])
    ask.public_key().verify(old.signature, old.tbs_certificate_bytes, padding.PKCS1v15(), hashes.SHA384())
    short = load(make("milan", salt=20)[1])
    with pytest.raises(InvalidSignature):
        verify_pss(short, ask)
    weak = load(make("milan", digest="sha256")[1])
    assert weak.signature_algorithm_oid.dotted_string == "1.2.840.113549.1.1.10"
    with pytest.raises(InvalidSignature):
        verify_pss(weak, ask)


def test_crls(authority):
    ark = authority.key("milan", "ark").public_key()
    when, end = (datetime(2026, month, 1, tzinfo=timezone.utc) for month in (1, 2))
    crl = x509.load_der_x509_crl(authority.crl("milan", ["ask", 4711], this_update=when, next_update=end, number=9))
    pss = padding.PSS(padding.MGF1(hashes.SHA384()), 48)
    ark.verify(crl.signature, crl.tbs_certlist_bytes, pss, hashes.SHA384())
    ask = load(authority.intermediate_der("milan", "ask"))
    assert {entry.serial_number for entry in crl} == {ask.serial_number, 4711}
    assert crl.last_update_utc == when and crl.next_update_utc == end
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 9
    assert list(x509.load_der_x509_crl(authority.crl("milan"))) == []
    forged = x509.load_der_x509_crl(authority.crl("milan", signer="ask"))
    with pytest.raises(InvalidSignature):
        ark.verify(forged.signature, forged.tbs_certlist_bytes, pss, hashes.SHA384())


def test_keys_are_kept_and_private(tmp_path):
    first = SnpAuthority.create(tmp_path / "ca", ["genoa"], rsa_bits=2048)
    ark = first.ark_pem("genoa")
    assert SnpAuthority.create(tmp_path / "ca", ["genoa"], rsa_bits=2048).ark_pem("genoa") == ark
    assert stat.S_IMODE(os.stat(tmp_path / "ca").st_mode) == 0o700
    files = list((tmp_path / "ca").iterdir())
    assert {path.name for path in files} == {"genoa-ark.key", "genoa-ark.der", "genoa-ark.lock"}, "the rest waits until it is needed"
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    with pytest.raises(ValueError, match="no ark of milan"):
        first.ark_pem("milan")
    with pytest.raises(ValueError, match="unknown product rome"):
        SnpAuthority.create(None, ["rome"])


def test_two_authorities_differ_and_chips_have_their_size():
    assert SnpAuthority.create(None, rsa_bits=2048).ark_pem("milan") != SnpAuthority.create(None, rsa_bits=2048).ark_pem("milan")
    assert len(default_chip_id("turin")) == 8 and len(default_chip_id("genoa")) == 64
