# SPDX-License-Identifier: GPL-3.0-or-later
"""AMD's pins, roots that are not AMD's, and the table of TCB floors."""

from __future__ import annotations

import base64
import hashlib
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.attested.ai.plugins.module_utils.endorsements import amd, floors, roots
from ansible_collections.attested.ai.plugins.module_utils.errors import EndorsementError, PolicyError
from ansible_collections.attested.ai.plugins.module_utils.formats.der import pem_to_der
from ansible_collections.attested.ai.plugins.module_utils.verify.primitives import rsa_key, signed_by

# certificate: DER SHA-256, SPKI SHA-256, not before, not after. From reference/attestation-snp.md section 4, typed in anew.
PINS = {
    "ARK-Milan": (
        "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
        "9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9",
        "2020-10-22", "2045-10-22",
    ),
    "ARK-Genoa": (
        "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
        "429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831",
        "2022-01-26", "2047-01-26",
    ),
    "ARK-Turin": (
        "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a",
        "4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08",
        "2023-05-15", "2048-05-15",
    ),
    "SEV-Milan": (
        "67d303bd3905fd38db8b20e0793699870e7fa612eaad5dec358293fd8c0bac1b",
        "42491669ccb851d627ea9846cd24eccbeb7de7c2a62740120fff88001d38ebb6",
        "2020-10-22", "2045-10-22",
    ),
    "SEV-Genoa": (
        "5464738c1546aed5f2cecf1dc98c5c960a92e8913238a61711bc90ec6e828521",
        "0324d55bcd48ba877a8fd87c0e1b4934dec8448e3807a24384a34dc6a6c9ebb8",
        "2022-10-31", "2047-10-31",
    ),
    "SEV-Turin": (
        "5b77ef5fe7a7a004fd9032668fba9d0fda22f88c4442069a479636a6ae3b3185",
        "0000ead352025f208bf55297c4192c34cd1b878002107366d8f2065a9ae7d3a9",
        "2023-05-15", "2048-05-15",
    ),
    "SEV-VLEK-Milan": (
        "c5e081f59b7efab1fe2f8b505e159704e72f29cab7ef7cf628a05a42439082f5",
        "66450a123ea5876206df67f2514a4fea224c0f63b18313423078b0edc4535e33",
        "2022-11-16", "2047-11-16",
    ),
    "SEV-VLEK-Genoa": (
        "197e610743a917d6b9bb982a5a9226ccc0a15b611be0619e626aca9151457372",
        "7d1633252ebbadaa75f96e9b4e6f7d43a90ceb3f843937482630f8da2459264e",
        "2022-11-18", "2047-11-18",
    ),
    "SEV-VLEK-Turin": (
        "104e10a8bd060a3c20a434261a57d0588fd65a88915b4f65b08bdecaf8df1a3c",
        "bfc441408b2f806c5dbf180bd8920e6e60dd404d82141780d85dbf962954d386",
        "2023-05-15", "2048-05-15",
    ),
}  # fmt: skip
ROLES = {"ARK": "ark", "SEV": "ask", "SEV-VLEK": "asvk"}


@pytest.fixture(scope="module")
def snp_vectors():
    folder = Path(os.environ.get("ATTESTED_VECTORS", str(Path(__file__).resolve().parents[4] / "shared" / "vectors"))) / "snp"
    if not folder.is_dir():
        pytest.skip("no test vectors at %s: set ATTESTED_VECTORS" % folder)
    return folder


def test_shipped_certificates_match_the_pins():
    cas = amd.load_amd_cas()
    assert {ca.name for ca in cas} == set(PINS) and len(cas) == 9
    for ca in cas:
        der_digest, spki_digest, start, end = PINS[ca.name]
        certificate = ca.certificate
        assert hashlib.sha256(certificate.der).hexdigest() == ca.sha256 == der_digest
        assert hashlib.sha256(certificate.spki).hexdigest() == ca.spki_sha256 == spki_digest
        assert str(certificate.not_before.date()) == start and str(certificate.not_after.date()) == end
        family, _dash, product = ca.name.rpartition("-")
        assert (ca.role, ca.product) == (ROLES[family], product.lower())


def test_each_shipped_certificate_is_signed_by_its_root():
    arks = {ca.product: ca.certificate for ca in amd.load_amd_cas() if ca.role == "ark"}
    for ca in amd.load_amd_cas():
        for product, ark in arks.items():
            assert signed_by(ca.certificate, ark.spki) is (product == ca.product)
        assert rsa_key(ca.certificate.spki).key_size == 4096


def test_shipped_certificates_are_those_of_the_vectors(snp_vectors):
    for ca in amd.load_amd_cas():
        path = snp_vectors / ("amd-%s-%s.pem" % (ca.role, ca.product))
        assert pem_to_der(path.read_text()) == [ca.certificate.der]


@pytest.mark.parametrize("change", [{"sha256": "0" * 64}, {"spki_sha256": "0" * 64}, {"name": "ARK-Other"}])
def test_a_damaged_entry_is_noticed(change):
    ca = amd.load_amd_cas()[0]
    entry = {"name": ca.name, "role": ca.role, "product": ca.product, "sha256": ca.sha256, "spki_sha256": ca.spki_sha256}
    entry["certificate"] = base64.b64encode(ca.certificate.der).decode()
    assert amd._read(dict(entry)).name == ca.name
    with pytest.raises(EndorsementError):
        amd._read(dict(entry, **change))


def test_vendor_roots():
    found = roots.trust_roots()
    assert [root.name for root in found.roots] == ["ARK-Milan", "ARK-Genoa", "ARK-Turin"]
    assert {root.anchor for root in found.roots} == {"vendor"} and len(found.intermediates) == 6
    assert roots.load_roots().identity == found.identity
    assert found.is_pinned(found.roots[0].certificate) and not found.is_pinned(found.intermediates[0])


def soft_root(snp_vectors, product="milan"):
    return (snp_vectors / ("synth-ark-%s.pem" % product)).read_text()


def test_other_roots_need_the_explicit_word(snp_vectors):
    with pytest.raises(PolicyError) as caught:
        roots.trust_roots([soft_root(snp_vectors)])
    assert caught.value.code == "nonvendor-root" and "allow_nonvendor_roots" in str(caught.value)
    policy = SimpleNamespace(roots=(soft_root(snp_vectors),), allow_nonvendor_roots=False)
    with pytest.raises(PolicyError):
        roots.load_roots(policy)
    policy.allow_nonvendor_roots = True
    found = roots.load_roots(policy)
    assert [(root.name, root.anchor) for root in found.roots][-1] == ("ARK-Milan", "nonvendor") and len(found.roots) == 4


def test_without_the_vendor_nothing_of_it_is_left(snp_vectors):
    found = roots.trust_roots([soft_root(snp_vectors)], True, vendor=False)
    assert [root.anchor for root in found.roots] == ["nonvendor"] and found.intermediates == ()


def test_identity_tells_sets_of_roots_apart(snp_vectors):
    sets = [roots.trust_roots(), roots.trust_roots(vendor=False), roots.trust_roots([soft_root(snp_vectors)], True)]
    sets.append(roots.trust_roots([soft_root(snp_vectors)], True, vendor=False))
    assert len({found.identity for found in sets}) == len(sets)


def test_the_vendors_own_root_is_no_stranger(snp_vectors):
    text = (snp_vectors / "amd-ark-milan.pem").read_text()
    assert len(roots.trust_roots([text]).roots) == 3
    found = roots.trust_roots([text, text], vendor=False)
    assert [(root.name, root.anchor) for root in found.roots] == [("ARK-Milan", "vendor")]


def test_a_root_is_taken_once(snp_vectors):
    assert len(roots.trust_roots([soft_root(snp_vectors)] * 2, True).roots) == 4


def test_an_intermediate_is_no_root(snp_vectors):
    with pytest.raises(EndorsementError):
        roots.trust_roots([(snp_vectors / "synth-ask-milan.pem").read_text()], True)


@pytest.mark.parametrize("text", ["", "no root", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_unreadable_roots(text):
    with pytest.raises(EndorsementError):
        roots.trust_roots([text], True)


def test_keys_of_other_kinds_verify_nothing():
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ARK-Milan")])
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(start).not_valid_after(start + timedelta(days=9))
    builder = builder.add_extension(x509.BasicConstraints(True, None), True)
    text = builder.sign(key, hashes.SHA384()).public_bytes(serialization.Encoding.PEM).decode()
    found = roots.trust_roots([text], True, vendor=False)
    assert rsa_key(found.roots[0].certificate.spki) is None
    assert signed_by(amd.load_amd_cas()[0].certificate, found.roots[0].certificate.spki) is False


def test_floors_have_sources_and_say_that_nobody_verified_them():
    table = floors.load_floors()
    assert {(floor.product, floor.family, floor.models, tuple(floor.minimum.items())) for floor in table} == {
        ("milan", 0x19, (0x00, 0x0F), (("snp", 0x18),)),
        ("genoa", 0x19, (0x10, 0x1F), (("snp", 0x17),)),
    }
    for floor in table:
        assert floor.source and floor.unverified is True
        assert set(floor.minimum) <= set(floors.COMPONENTS) and all(0 < value < 256 for value in floor.minimum.values())


@pytest.mark.parametrize(
    "family,model,product",
    [(0x19, 0, "milan"), (0x19, 0x0F, "milan"), (0x19, 0x10, "genoa"), (0x19, 0x1F, "genoa"), (0x19, 0x20, None), (0x19, 0xA0, None), (0x1A, 2, None)],
)  # fmt: skip
def test_floor_by_silicon(family, model, product):
    found = floors.floor_for(family, model)
    assert (found.product if found else None) == product
