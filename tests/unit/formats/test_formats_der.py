# SPDX-License-Identifier: GPL-3.0-or-later
"""The DER walker: against an independent parser where there is one, and against everything it must refuse."""

from __future__ import annotations

import base64
import warnings
from datetime import datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import der


def tlv(tag, *parts):
    body = b"".join(parts)
    length = bytes([len(body)]) if len(body) < 128 else b"\x82" + len(body).to_bytes(2, "big") if len(body) > 255 else bytes([0x81, len(body)])
    return bytes([tag]) + length + body


def all_ders(folder):
    found = [path.read_bytes() for path in sorted(folder.glob("*.vek.der")) if "bitflip" not in path.name]
    return found + [der.pem_to_der(path.read_text())[0] for path in sorted(folder.glob("*.pem"))]


def test_agrees_with_an_independent_parser(snp_vectors):
    ders = all_ders(snp_vectors)
    assert len(ders) > 30
    for data in ders:
        ours = der.parse_certificate(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = x509.load_der_x509_certificate(data)
            assert ours.serial == theirs.serial_number
            spki = theirs.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
            names = [name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value for name in (theirs.subject, theirs.issuer)]
            assert ours.issuer == theirs.issuer.public_bytes() and ours.subject == theirs.subject.public_bytes()
        assert ours.tbs == theirs.tbs_certificate_bytes
        assert ours.signature == theirs.signature
        assert (ours.not_before, ours.not_after) == (theirs.not_valid_before_utc, theirs.not_valid_after_utc)
        assert ours.spki == spki == der.spki_of_certificate(data)
        assert [ours.common_name, ours.issuer_common_name] == names
        assert ours.signature_algorithm in der.RSA_PSS_SHA384
        assert len(ours.extensions) == len(theirs.extensions)
        assert len(ours.critical) == sum(extension.critical for extension in theirs.extensions)
        try:
            usage = theirs.extensions.get_extension_for_class(x509.KeyUsage).value
        except x509.ExtensionNotFound:
            assert not ours.is_ca and not ours.may(der.KEY_CERT_SIGN)
            continue
        assert ours.is_ca is theirs.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert (ours.may(der.KEY_CERT_SIGN), ours.may(der.CRL_SIGN)) == (usage.key_cert_sign, usage.crl_sign)


def test_crl_agrees_with_an_independent_parser(snp_vectors):
    paths = sorted(snp_vectors.glob("*.crl"))
    assert len(paths) == 3
    for path in paths:
        ours, theirs = der.parse_crl(path.read_bytes()), x509.load_der_x509_crl(path.read_bytes())
        assert ours.serials == {entry.serial_number for entry in theirs}
        assert (ours.this_update, ours.next_update) == (theirs.last_update_utc, theirs.next_update_utc)
        assert ours.tbs == theirs.tbs_certlist_bytes and ours.signature == theirs.signature
        assert der.common_name(ours.issuer) == "ARK-Milan"


def tls_certificate(version_after_2049=False):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "service.test")])
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)
    end = start + timedelta(days=365 * (40 if version_after_2049 else 1))
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(5)
    builder = builder.not_valid_before(start).not_valid_after(end)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("service.test")]), False)
    certificate = builder.sign(key, hashes.SHA256())
    spki = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return certificate.public_bytes(serialization.Encoding.DER), spki, end


@pytest.mark.parametrize("late", [False, True])
def test_spki_of_a_tls_certificate(late):
    data, spki, end = tls_certificate(late)
    assert der.spki_of_certificate(data) == spki
    assert der.parse_certificate(data).not_after == end


@pytest.mark.parametrize("data", [b"", b"\x30", b"\x30\x00", b"0" * 40])
def test_spki_of_garbage(data):
    with pytest.raises(FormatError):
        der.spki_of_certificate(data)


def test_spki_refuses_bytes_after_the_certificate():
    data, _spki, _end = tls_certificate()
    with pytest.raises(FormatError):
        der.spki_of_certificate(data + b"\0")


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x30", b"\x30\x80\x00\x00", b"\x30\x81\x01\x00", b"\x30\x82\x00\x80" + bytes(128), b"\x30\x84\x00\x00\x00\x01\x00",
        b"\x30\x01", b"\x1f\x01\x00", b"\x3f\x81\x01\x00", b"\x30\xff", b"\x30\x81", b"\x30\x82\x01",
    ],
)  # fmt: skip
def test_refused_lengths_and_tags(data):
    with pytest.raises(FormatError):
        der.read(data, 0, len(data))


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65535])
def test_minimal_lengths_are_read(size):
    data = tlv(0x04, bytes(size))
    tag, start, stop = der.read(data, 0, len(data))
    assert (tag, stop - start, stop) == (0x04, size, len(data))


def test_an_inner_value_must_not_leave_its_frame():
    with pytest.raises(FormatError):
        der.read(b"\x04\x04abcd", 0, 5)


def test_bytes_after_a_whole_value():
    with pytest.raises(FormatError):
        der.whole(b"\x02\x01\x01\x00", der.INTEGER)


@pytest.mark.parametrize("content,value", [(b"\x00", 0), (b"\x7f", 127), (b"\x00\x80", 128), (b"\x00\xff", 255), (b"\x01\x00", 256)])
def test_integers(content, value):
    assert der.unsigned(content) == value


@pytest.mark.parametrize("content", [b"\x01" * 33, b"\x00" + b"\xff" * 32, b"", b"\x80", b"\xff", b"\x00\x00", b"\x00\x7f", b"\xff\xff"])
def test_refused_integers(content):
    with pytest.raises(FormatError):
        der.unsigned(content)


@pytest.mark.parametrize("value,result", [("3000", (False, None)), ("30030101ff", (True, None)), ("30060101ff020100", (True, 0)), ("3003020105", (False, 5))])
def test_basic_constraints(value, result):
    assert der.basic_constraints(bytes.fromhex(value)) == result


@pytest.mark.parametrize("value", ["", "3003010100", "3003010101", "30040101ff05", "30030101ff00", "30050101ff0500", "3081030101ff", "30040102ffff"])
def test_refused_basic_constraints(value):
    with pytest.raises(FormatError):
        der.basic_constraints(bytes.fromhex(value))


@pytest.mark.parametrize("value,result", [("03020106", (5, 6)), ("03020204", (5,)), ("03020102", (6,)), ("0303070080", (8,)), ("03020780", (0,))])
def test_key_usage(value, result):
    assert der.key_usage(bytes.fromhex(value)) == result


@pytest.mark.parametrize("value", ["", "0300", "030100", "03020806", "03020107", "0305000102030400", "0302010600", "04020106"])
def test_refused_key_usage(value):
    with pytest.raises(FormatError):
        der.key_usage(bytes.fromhex(value))


def attribute(oid, text, tag=0x0C):
    return tlv(0x31, tlv(0x30, tlv(0x06, bytes.fromhex(oid)), tlv(tag, text)))


def test_names():
    country = attribute("550406", b"US", 0x13)
    assert der.common_name(tlv(0x30, country, attribute("550403", b"ARK-Milan"))) == "ARK-Milan"
    assert der.common_name(tlv(0x30, country)) is None
    assert der.common_name(tlv(0x30)) is None
    for refused in (
        tlv(0x30, attribute("550403", b"a"), attribute("550403", b"b")),
        tlv(0x30, attribute("550403", b"\xff")),
        tlv(0x30, attribute("550403", b"\xc3\xa4", 0x13)),
        tlv(0x30, attribute("550403", b"\0A", 0x1E)),
        tlv(0x30, tlv(0x31)),
        tlv(0x30, country) + b"\0",
        tlv(0x31, country),
    ):
        with pytest.raises(FormatError):
            der.common_name(refused)


def test_times():
    def moment(tag, text):
        data = tlv(tag, text)
        value, end = der._time(data, 0, len(data))
        assert end == len(data)
        return value

    assert moment(0x17, b"491231235959Z") == datetime(2049, 12, 31, 23, 59, 59, tzinfo=timezone.utc)
    assert moment(0x17, b"500101000000Z") == datetime(1950, 1, 1, tzinfo=timezone.utc)
    assert moment(0x18, b"20500101000000Z") == datetime(2050, 1, 1, tzinfo=timezone.utc)
    for tag, text in (
        (0x17, b"2601010000Z"), (0x17, b"260101000000"), (0x17, b"260101000000+"), (0x17, b"261301000000Z"), (0x17, b"260230000000Z"),
        (0x17, b"260101240000Z"), (0x17, b"26010100000 Z"), (0x18, b"260101000000Z"), (0x17, b"20260101000000Z"), (0x16, b"260101000000Z"),
        (0x18, b"20260101000000.5Z"), (0x18, b"00000101000000Z"), (0x17, b""), (0x17, b"Z"),
    ):  # fmt: skip
        with pytest.raises(FormatError):
            moment(tag, text)


def test_pss_constants_are_what_the_library_says(snp_vectors):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        certificate = x509.load_der_x509_certificate((snp_vectors / "real-turin-v5-oak.vek.der").read_bytes())
        parameters = certificate.signature_algorithm_parameters
    assert certificate.signature_hash_algorithm.name == "sha384" and parameters._salt_length == 48
    assert parameters._mgf._algorithm.name == "sha384"
    assert len(der.RSA_PSS_SHA384) == 2


@pytest.mark.parametrize("name", ["amd-ark-milan", "amd-ask-turin"])
def test_certificates_cut_short_or_extended(name, snp_vectors):
    data = der.pem_to_der((snp_vectors / (name + ".pem")).read_text())[0]
    for end in range(0, len(data), 7):
        with pytest.raises(FormatError):
            der.parse_certificate(data[:end])
    with pytest.raises(FormatError):
        der.parse_certificate(data + b"\0")


def outer_parts(data):
    start, stop = der.whole(data, der.SEQUENCE)
    parts = []
    while start < stop:
        end = der.read(data, start, stop)[2]
        parts.append(data[start:end])
        start = end
    return parts


def test_a_member_too_many(snp_vectors):
    for path, parse in (("real-turin-v5-oak.vek.der", der.parse_certificate), ("synth-crl-milan-ok.crl", der.parse_crl)):
        parts = outer_parts((snp_vectors / path).read_bytes())
        assert len(parts) == 3
        assert parse(tlv(0x30, *parts)).tbs == parts[0]
        for extra in (b"\x05\x00", b"\x00"):
            with pytest.raises(FormatError):
                parse(tlv(0x30, *parts, extra))
        inner = outer_parts(parts[0])
        with pytest.raises(FormatError):
            parse(tlv(0x30, tlv(0x30, *inner, b"\x05\x00"), *parts[1:]))
        with pytest.raises(FormatError):
            parse(tlv(0x30, tlv(0x30, *inner, inner[-1]), *parts[1:]))


@pytest.mark.parametrize(
    "extensions,good",
    [
        ([tlv(0x30, b"\x06\x01\x2a", b"\x04\x01x")], True),
        ([tlv(0x30, b"\x06\x01\x2a", b"\x01\x01\xff", b"\x04\x01x")], True),
        ([tlv(0x30, b"\x06\x01\x2a", b"\x01\x01\x00", b"\x04\x01x")], False),
        ([tlv(0x30, b"\x06\x01\x2a", b"\x01\x01\x01", b"\x04\x01x")], False),
        ([tlv(0x30, b"\x06\x01\x2a", b"\x04\x01x", b"\x05\x00")], False),
        ([tlv(0x30, b"\x06\x01\x2a", b"\x05\x00")], False),
        ([tlv(0x30, b"\x06\x01\x2a", b"\x04\x01x")] * 2, False),
        ([], False),
        ([b"\x05\x00"], False),
    ],
)  # fmt: skip
def test_form_of_extensions(snp_vectors, extensions, good):
    parts = outer_parts((snp_vectors / "real-turin-v5-oak.vek.der").read_bytes())
    inner = outer_parts(parts[0])
    data = tlv(0x30, tlv(0x30, *inner[:-1], tlv(0xA3, tlv(0x30, *extensions))), *parts[1:])
    if good:
        assert der.parse_certificate(data).extensions[b"\x2a"][1] == b"x"
    else:
        with pytest.raises(FormatError):
            der.parse_certificate(data)


def test_too_large_is_not_read():
    with pytest.raises(FormatError):
        der.parse_certificate(tlv(0x30, bytes(20000)))


def test_signature_with_unused_bits(snp_vectors):
    data = bytearray((snp_vectors / "real-turin-v5-oak.vek.der").read_bytes())
    assert data[772:777] == b"\x03\x82\x02\x01\x00"
    data[776] = 1
    with pytest.raises(FormatError):
        der.parse_certificate(bytes(data))


def test_two_signature_algorithms(snp_vectors):
    data = bytearray((snp_vectors / "real-turin-v5-oak.vek.der").read_bytes())
    data[82] = 0x20  # the salt length inside the signed part only
    with pytest.raises(FormatError, match="two different"):
        der.parse_certificate(bytes(data))


PEM = "-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n"


def block(data):
    return PEM % base64.b64encode(data).decode()


def test_pem():
    assert der.pem_to_der(block(b"abc")) == [b"abc"]
    assert der.pem_to_der("# two roots\r\n\n" + block(b"abc").replace("\n", "\r\n") + "\n" + block(b"defg")) == [b"abc", b"defg"]
    crl = block(b"x").replace("CERTIFICATE", "X509 CRL")
    assert der.pem_to_der(crl, "X509 CRL") == [b"x"]


@pytest.mark.parametrize(
    "text",
    [
        "", "abc", block(b"abc") + "stray", block(b"abc")[:-5], PEM % "YWJj=", PEM % "YW Jj", PEM % "", PEM % "YWJ*",
        block(b"x").replace("CERTIFICATE", "PRIVATE KEY"), "-----BEGIN CERTIFICATE-----\n" + block(b"abc"), PEM % "YWK",
    ],
)  # fmt: skip
def test_refused_pem(text):
    with pytest.raises(FormatError):
        der.pem_to_der(text)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_only_our_exception_comes_out(data):
    for parse in (der.parse_certificate, der.parse_crl, der.spki_of_certificate, der.common_name, der.basic_constraints, der.key_usage):
        try:
            parse(data)
        except FormatError:
            pass


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from("-BEGINCRTFADY =\n#é"), max_size=80))
def test_only_our_exception_comes_out_of_pem(text):
    try:
        der.pem_to_der(text)
    except FormatError:
        pass


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_changed_certificates_and_lists(snp_vectors, data):
    for parse, name in ((der.parse_certificate, "real-milan-v3-oak-release.vek.der"), (der.parse_crl, "synth-crl-milan-ask-revoked.crl")):
        raw = bytearray((snp_vectors / name).read_bytes())
        for _change in range(data.draw(st.integers(1, 3))):
            # The head, where the structure is; the rest are keys and signatures.
            raw[data.draw(st.integers(0, 900 if len(raw) > 1000 else 300))] = data.draw(st.integers(0, 255))
        try:
            parse(bytes(raw))
        except FormatError:
            pass
