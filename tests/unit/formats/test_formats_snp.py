# SPDX-License-Identifier: GPL-3.0-or-later
"""SEV-SNP report, TCB versions, bit fields, VEK extensions and the certificate table."""

from __future__ import annotations

import json
import struct
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import der, snp_certtable, snp_report, snp_tcb, snp_vek
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_certtable import CertificateTable, build_certtable, parse_certtable

# Offsets as in the table of the ABI, written down a second time on purpose.
FIELDS = [
    ("version", 0x000, 4), ("guest_svn", 0x004, 4), ("family_id", 0x010, 16), ("image_id", 0x020, 16), ("vmpl", 0x030, 4),
    ("signature_algorithm", 0x034, 4), ("current_tcb", 0x038, 8), ("report_data", 0x050, 64), ("measurement", 0x090, 48),
    ("host_data", 0x0C0, 32), ("id_key_digest", 0x0E0, 48), ("author_key_digest", 0x110, 48), ("report_id", 0x140, 32),
    ("report_id_ma", 0x160, 32), ("reported_tcb", 0x180, 8), ("chip_id", 0x1A0, 64), ("committed_tcb", 0x1E0, 8), ("launch_tcb", 0x1F0, 8),
    ("launch_mit_vector", 0x1F8, 8), ("current_mit_vector", 0x200, 8), ("signature_r", 0x2A0, 72), ("signature_s", 0x2E8, 72),
]  # fmt: skip


@pytest.fixture(scope="module")
def turin(snp_vectors):
    return (snp_vectors / "real-turin-v5-oak.report.bin").read_bytes()


@pytest.fixture(scope="module")
def milan_v2(snp_vectors):
    return (snp_vectors / "real-milan-v2-virtee.report.bin").read_bytes()


@pytest.mark.parametrize("name,offset,size", FIELDS)
def test_each_field_comes_from_its_place(turin, name, offset, size):
    data = bytearray(turin)
    value = bytes(range(1, size + 1))
    if name in ("version", "vmpl", "guest_svn", "signature_algorithm"):
        value = (5).to_bytes(4, "little")
    elif name.endswith("_tcb"):
        value = bytes([1, 2, 3, 4, 0, 0, 0, 8])
    elif name.startswith("signature_"):
        value = bytes(range(1, 49)) + bytes(24)
    data[offset:offset + size] = value
    found = getattr(snp_report.parse_report(bytes(data)), name)
    assert found == (int.from_bytes(value, "little") if isinstance(found, int) else value)


def test_small_fields(turin):
    data = bytearray(turin)
    data[0x48] = 0b11111
    data[0x1E8:0x1EB] = bytes([61, 55, 1])
    data[0x1EC:0x1EF] = bytes([60, 54, 2])
    data[0x08:0x10] = struct.pack("<Q", 1 << 17 | 1 << 19 | 0x0102)
    data[0x40:0x48] = struct.pack("<Q", 1 << 63 | 1 << 5)
    report = snp_report.parse_report(bytes(data))
    assert (report.author_key_en, report.mask_chip_key, report.signing_key) == (True, True, 7)
    assert report.current_abi == (1, 55, 61) and report.committed_abi == (2, 54, 60) and report.provisional_firmware
    assert report.policy.debug and not report.policy.migrate_ma and (report.policy.abi_major, report.policy.abi_minor) == (1, 2)
    assert report.platform_info.alias_check_complete and report.platform_info.unknown_bits == 1 << 63
    assert report.cpuid == (0x1A, 0x02, 0x01) and report.silicon == (0x1A, 0x02) and report.product == "turin"
    assert report.signed_region == bytes(data[:0x2A0])


def test_unknown_policy_and_platform_bits_parse(turin):
    data = bytearray(turin)
    data[0x0B] |= 0x84
    data[0x40:0x48] = b"\xff" * 8
    report = snp_report.parse_report(bytes(data))
    assert report.policy.unknown_bits == 0x84000000 & ~0x3FFFFFF
    assert report.platform_info.unknown_bits == (1 << 64) - 1 - 0xBF


@pytest.mark.parametrize("version,has", [(2, False), (3, False), (4, False), (5, True)])
def test_mitigation_vectors_came_with_version_5(turin, version, has):
    data = bytearray(turin)
    data[0] = version
    if version == 2:
        data[0x188:0x18B] = bytes(3)
    report = snp_report.parse_report(bytes(data))
    assert (report.launch_mit_vector is not None) is has and (report.current_mit_vector is not None) is has
    assert (report.cpuid is None) is (version == 2)


def test_version_2_names_no_product(milan_v2):
    report = snp_report.parse_report(milan_v2)
    assert report.cpuid is None and report.product is None and report.silicon is None
    assert report.tcb("milan").reported.to_dict() == {"bootloader": 3, "tee": 0, "snp": 8, "microcode": 115}
    with pytest.raises(FormatError):
        report.tcb("turin")
    with pytest.raises(FormatError):
        report.tcb("rome")


@pytest.mark.parametrize("version", [0, 1, 6, 255])
def test_versions(turin, version):
    with pytest.raises(FormatError) as caught:
        snp_report.parse_report(bytes([version]) + turin[1:])
    assert caught.value.code == "version-unsupported"


def test_to_dict_is_json(turin):
    report = snp_report.parse_report(turin)
    again = json.loads(json.dumps(report.to_dict()))
    assert again["measurement"] == report.measurement.hex() and again["policy"]["debug"] is False
    assert set(again) == set(report.__dataclass_fields__) - {"raw", "signature_r", "signature_s"}


@pytest.mark.parametrize("name,bit", snp_tcb.GuestPolicy.FLAGS)
def test_policy_flags(name, bit):
    assert [flag for flag, _b in snp_tcb.GuestPolicy.FLAGS if getattr(snp_tcb.GuestPolicy(1 << bit), flag)] == [name]
    assert snp_tcb.GuestPolicy(1 << bit).to_dict()[name] is True


@pytest.mark.parametrize("name,bit", snp_tcb.PlatformInfo.FLAGS)
def test_platform_flags(name, bit):
    assert [flag for flag, _b in snp_tcb.PlatformInfo.FLAGS if getattr(snp_tcb.PlatformInfo(1 << bit), flag)] == [name]
    assert snp_tcb.PlatformInfo(1 << bit).to_dict()[name] is True


def test_policy_bit_numbers():
    numbers = {"smt_allowed": 16, "migrate_ma": 18, "debug": 19, "single_socket": 20, "cxl_allowed": 21, "mem_aes_256_xts": 22,
               "rapl_dis": 23, "ciphertext_hiding_dram": 24, "page_swap_disable": 25}  # fmt: skip
    assert dict(snp_tcb.GuestPolicy.FLAGS) == numbers


def test_tcb_layouts():
    raw = bytes([1, 2, 3, 4, 0, 0, 0, 8])
    turin = snp_tcb.TcbVersion.parse(raw, snp_tcb.LAYOUT_TURIN)
    assert turin.to_dict() == {"fmc": 1, "bootloader": 2, "tee": 3, "snp": 4, "microcode": 8}
    with pytest.raises(FormatError):
        snp_tcb.TcbVersion.parse(raw, snp_tcb.LAYOUT_MILAN)
    milan = snp_tcb.TcbVersion.parse(bytes([1, 2, 0, 0, 0, 0, 7, 8]), snp_tcb.LAYOUT_MILAN)
    assert milan.to_dict() == {"bootloader": 1, "tee": 2, "snp": 7, "microcode": 8}
    with pytest.raises(FormatError):
        snp_tcb.TcbVersion.parse(raw[:7], snp_tcb.LAYOUT_TURIN)
    assert milan.below(snp_tcb.TcbVersion(None, 1, 3, 7, 9)) == ("tee", "microcode")
    assert str(turin) == "fmc=1 bootloader=2 tee=3 snp=4 microcode=8"


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_reports_only_raise_our_exception(turin, data):
    changed = bytearray(turin)
    for _change in range(data.draw(st.integers(1, 5))):
        changed[data.draw(st.integers(0, 1183))] = data.draw(st.integers(0, 255))
    try:
        report = snp_report.parse_report(bytes(changed))
    except FormatError:
        return
    json.dumps(report.to_dict())
    assert report.raw == bytes(changed)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=1200))
def test_arbitrary_bytes_are_no_report(data):
    with pytest.raises(FormatError):
        snp_report.parse_report(data)


# --- VEK extensions -------------------------------------------------------------------------------------------------------


def test_genuine_extensions(snp_vectors):
    found = snp_vek.parse_vek_extensions(der.parse_certificate((snp_vectors / "real-turin-v5-oak.vek.der").read_bytes()).extensions)
    assert (found.struct_version, found.product_name, found.product) == (1, "Turin", "turin")
    assert found.tcb == {"fmc": 0, "bootloader": 1, "tee": 0, "snp": 2, "microcode": 71}
    assert found.hwid.hex() == "3b42092f69c656d3" and found.csp_id is None and found.reserved == ()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_extensions_only_raise_our_exception(data):
    oids = sorted(snp_vek.KNOWN)
    extensions = {
        snp_vek.OID_STRUCT_VERSION: (False, b"\x02\x01\x00"),
        snp_vek.OID_PRODUCT_NAME: (False, b"\x16\x05Milan"),
    }
    extensions.update({oid: (False, data.draw(st.binary(max_size=12))) for oid in data.draw(st.lists(st.sampled_from(oids), max_size=4))})
    try:
        snp_vek.parse_vek_extensions(extensions)
    except FormatError:
        pass


# --- certificate table ----------------------------------------------------------------------------------------------------


def entry(name, offset, length):
    guid = {value: key for key, value in snp_certtable.NAMES.items()}.get(name, name)
    return uuid.UUID(guid).bytes + struct.pack("<II", offset, length)


END = bytes(24)
HEADERS = st.tuples(st.sampled_from(sorted(snp_certtable.NAMES.values())), st.integers(0, 200), st.integers(0, 100))


def test_table_round_trip():
    table = CertificateTable((("vcek", b"leaf"), ("ask", b"issuer"), ("ark", b"root"), ("crl", b"list"), (str(uuid.UUID(int=7)), b"?")))
    raw = build_certtable(table)
    assert parse_certtable(raw) == table == parse_certtable(raw + bytes(4096))
    assert table.get("ask") == b"issuer" and table.get("vlek") is None


def test_the_guids_are_in_the_order_of_their_text():
    """RFC 4122 byte order, as Linux's UUID tables of certificates have it, not the mixed order of GUID_INIT."""
    assert build_certtable(CertificateTable((("vcek", b"x"),)))[:4] == bytes.fromhex("63da758d")


def test_an_entry_must_not_lie_in_the_header():
    """A certificate that is at the same time a list of entries would have two readings."""
    with pytest.raises(FormatError, match="out of bounds"):
        parse_certtable(entry("vcek", 0, 48) + END)


def test_empty_table():
    assert parse_certtable(END).entries == ()


def test_holes_of_zeros_are_fine():
    raw = entry("vlek", 64, 4) + END + bytes(16) + b"leaf" + bytes(3)
    assert parse_certtable(raw).get("vlek") == b"leaf"


@pytest.mark.parametrize(
    "raw",
    [
        b"", bytes(23), entry("vcek", 24, 4), entry("vcek", 24, 4) + b"leaf",
        entry("vcek", 48, 0) + END, entry("vcek", 48, 5) + END + b"leaf", entry("vcek", 49, 4) + END + b"leaf",
        entry("vcek", 0, 4) + END, entry("vcek", 47, 4) + END + b"leaf", entry("vcek", 24, 24) + END,
        entry("vcek", 0xFFFFFFFF, 4) + END + b"leaf", entry("vcek", 48, 0xFFFFFFFF) + END + b"leaf",
        entry("vcek", 72, 4) + entry("vcek", 76, 4) + END + b"leafleaf", entry("vcek", 72, 4) + entry("ask", 75, 4) + END + b"leafask",
        entry("vcek", 72, 4) + entry("ask", 72, 4) + END + b"leaf", entry("vcek", 48, 4) + END + b"leaf" + b"\x01",
        entry("vcek", 50, 4) + END + b"\x00\x01leaf", bytes(16) + struct.pack("<II", 24, 0), bytes(16) + struct.pack("<II", 0, 1),
    ],
)  # fmt: skip
def test_refused_tables(raw):
    with pytest.raises(FormatError):
        parse_certtable(raw)


def test_limits_of_the_table():
    many = b"".join(entry(str(uuid.UUID(int=number + 1)), 0, 1) for number in range(40)) + END
    with pytest.raises(FormatError, match="more than"):
        parse_certtable(many)
    with pytest.raises(FormatError, match="at most"):
        parse_certtable(bytes(snp_certtable.TABLE_MAX + 1))


@settings(max_examples=300, deadline=None)
@given(st.lists(HEADERS, max_size=4), st.binary(max_size=120))
def test_tables_only_raise_our_exception(headers, body):
    raw = b"".join(entry(*header) for header in headers) + END + body
    try:
        table = parse_certtable(raw)
    except FormatError:
        return
    for (name, offset, length), (found, content) in zip(headers, table.entries):
        assert found == name and raw[offset:offset + length] == content
