# SPDX-License-Identifier: GPL-3.0-or-later
"""The stream against Tink itself, against its own arithmetic, and against everything that must not decrypt."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.attested.ai.plugins.module_utils.errors import ModelError
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import segments, tink_stream
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.segments import HEADER_SIZE, TAG_SIZE, Layout, associated_data
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.tink_stream import StreamEngine

KEY = bytes(range(32))
AAD = associated_data("org/model", 7, "weights/model.safetensors")
BLOCK = random.Random(1).randbytes(10_000_000)


def memory_file(data: bytes = b"") -> int:
    descriptor = os.memfd_create("test")
    os.write(descriptor, data) if data else None
    return descriptor


def contents(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size + 1, 0)


def seal(data: bytes, segment: int, threads: int = 2, key: bytes = KEY, aad: bytes = AAD) -> bytes:
    source, dest = memory_file(data), memory_file()
    try:
        with StreamEngine(segment, threads) as engine:
            header = engine.encrypt(source, dest, len(data), key, aad)
        sealed = contents(dest)
        assert sealed[:HEADER_SIZE] == header
        return sealed
    finally:
        os.close(source)
        os.close(dest)


def unseal(sealed: bytes, size: int, segment: int, threads: int = 2, key: bytes = KEY, aad: bytes = AAD) -> bytes:
    source, dest = memory_file(sealed), memory_file()
    try:
        with StreamEngine(segment, threads) as engine:
            engine.decrypt(source, dest, size, key, aad, tink_stream.read_header(source))
        return contents(dest)
    finally:
        os.close(source)
        os.close(dest)


@pytest.fixture(params=["into", "update_into"])
def path(request, monkeypatch):
    """Both code paths, whatever version of cryptography is here: without encrypt_into the portable one is taken."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if request.param == "update_into":
        real = tink_stream.SegmentCipher.__init__

        def portable(self, key, prefix):
            real(self, key, prefix)
            self._aead = None

        monkeypatch.setattr(tink_stream.SegmentCipher, "__init__", portable)
    elif not hasattr(AESGCM, "encrypt_into"):
        pytest.skip("this cryptography has no encrypt_into")
    return request.param


def tink_primitive(segment: int, key: bytes = KEY):
    tink = pytest.importorskip("tink")
    import io

    from tink import cleartext_keyset_handle, streaming_aead
    from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

    streaming_aead.register()
    params = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingParams(
        ciphertext_segment_size=segment, derived_key_size=32, hkdf_hash_type=common_pb2.SHA256
    )
    proto = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(version=0, params=params, key_value=key)
    keyset = tink_pb2.Keyset(primary_key_id=1)
    entry = keyset.key.add()
    entry.key_data.type_url = "type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey"
    entry.key_data.value = proto.SerializeToString()
    entry.key_data.key_material_type = tink_pb2.KeyData.SYMMETRIC
    entry.status = tink_pb2.ENABLED
    entry.key_id = 1
    entry.output_prefix_type = tink_pb2.RAW
    handle = cleartext_keyset_handle.read(tink.BinaryKeysetReader(keyset.SerializeToString()))
    return handle.primitive(streaming_aead.StreamingAead), io


def lengths(segment: int) -> list:
    return [0, 1, segment - 1, segment, segment + 1, segment - HEADER_SIZE - TAG_SIZE, segment - HEADER_SIZE - TAG_SIZE + 1, 2 * segment, 10_000_000]


@pytest.mark.parametrize("segment", [4096, 1 << 20, 4 << 20])
def test_tink_reads_what_we_write_and_we_read_what_tink_writes(segment, path):
    primitive, io = tink_primitive(segment)
    for size in lengths(segment):
        data = BLOCK[:size]
        sealed = seal(data, segment)
        with primitive.new_decrypting_stream(io.BytesIO(sealed), AAD) as stream:
            assert stream.read() == data, size

        class Kept(io.BytesIO):
            def close(self):
                pass

        target = Kept()
        with primitive.new_encrypting_stream(target, AAD) as stream:
            stream.write(data)
        theirs = target.getvalue()
        assert len(theirs) == len(sealed) == Layout(size, segment).cipher_size
        assert unseal(theirs, size, segment) == data, size


@settings(max_examples=60, deadline=None)
@given(size=st.integers(0, 5000), segment=st.integers(segments.MIN_SEGMENT, 700), threads=st.integers(1, 4))
def test_any_size_and_segment_round_trips(size, segment, threads):
    data = BLOCK[:size]
    sealed = seal(data, segment, threads)
    assert len(sealed) == Layout(size, segment).cipher_size
    assert unseal(sealed, size, segment, threads) == data


@settings(max_examples=200, deadline=None)
@given(size=st.integers(0, 1 << 43), segment=st.integers(4096, segments.MAX_SEGMENT))
def test_spans_cover_the_file_without_gap_or_overlap(size, segment):
    layout = Layout(size, segment)
    assert layout.count <= segments.MAX_SEGMENTS
    first, last = layout.span(0), layout.span(layout.count - 1)
    assert first.plain_offset == 0 and first.cipher_offset == HEADER_SIZE
    assert last.last and last.plain_offset + last.plain_length == size
    assert last.cipher_offset + last.cipher_length == layout.cipher_size
    assert layout.count == 1 or last.plain_length > 0, "no empty segment follows a full one"
    middle = layout.count // 2
    if 0 < middle:
        before, here = layout.span(middle - 1), layout.span(middle)
        assert before.plain_offset + before.plain_length == here.plain_offset
        assert before.cipher_offset + before.cipher_length == here.cipher_offset == middle * segment


def test_more_segments_than_the_counter_has_are_refused():
    with pytest.raises(ModelError, match="2\\^32 segments"):
        Layout(1 << 45, segments.MIN_SEGMENT)


@pytest.mark.parametrize("size", [-1, 0, 56, segments.MAX_SEGMENT + 1])
def test_segment_sizes_outside_the_format_are_refused(size):
    with pytest.raises(ModelError, match="segment size"):
        StreamEngine(size)


def test_two_encryptions_share_neither_salt_nor_prefix():
    one, two = seal(b"same", 4096), seal(b"same", 4096)
    assert one[1:33] != two[1:33] and one[33:40] != two[33:40] and one[40:] != two[40:]


SEALED = seal(BLOCK[:20_000], 4096)


def swapped(sealed: bytes, one: int, two: int, segment: int = 4096) -> bytes:
    parts = [sealed[i : i + segment] for i in range(0, len(sealed), segment)]
    parts[one], parts[two] = parts[two], parts[one]
    return b"".join(parts)


@pytest.mark.parametrize(
    "sealed,change",
    [
        (SEALED, {"key": bytes(32)}),
        (SEALED, {"aad": associated_data("org/other", 7, "weights/model.safetensors")}),
        (SEALED, {"aad": associated_data("org/model", 6, "weights/model.safetensors")}),
        (SEALED, {"aad": associated_data("org/model", 7, "weights/other.safetensors")}),
        (swapped(SEALED, 1, 2), {}),
        (SEALED[:4096] + SEALED[8192:] + SEALED[4096:8192], {}),
        (SEALED[:8192] + SEALED[4096:8192] + SEALED[12288:], {}),
        (SEALED[:-1] + bytes([SEALED[-1] ^ 1]), {}),
        (SEALED[:33] + bytes([SEALED[33] ^ 1]) + SEALED[34:], {}),
        (SEALED[:5] + bytes([SEALED[5] ^ 1]) + SEALED[6:], {}),
    ],
    ids=["key", "model", "release", "path", "reordered", "moved-last", "repeated", "tag", "prefix", "salt"],
)
def test_what_was_changed_does_not_decrypt(sealed, change, path):
    with pytest.raises(ModelError) as caught:
        unseal(sealed, 20_000, 4096, **change)
    assert caught.value.code == "model-tag"


def test_a_whole_segment_cut_off_is_noticed_even_when_the_size_agrees():
    layout = Layout(20_000, 4096)
    shorter = layout.span(layout.count - 1).plain_offset
    with pytest.raises(ModelError) as caught:
        unseal(SEALED[: (layout.count - 1) * 4096], shorter, 4096)
    assert caught.value.code == "model-tag"


def test_a_shorter_file_than_promised_is_an_error():
    with pytest.raises(ModelError) as caught:
        unseal(SEALED[:-1], 20_000, 4096)
    assert caught.value.code == "model-source-changed"


def test_a_file_that_does_not_begin_with_a_header_is_refused():
    descriptor = memory_file(b"\x28" * 10)
    with pytest.raises(ModelError):
        tink_stream.read_header(descriptor)
    os.close(descriptor)
    descriptor = memory_file(b"{" + bytes(50))
    with pytest.raises(ModelError, match="does not begin like"):
        tink_stream.read_header(descriptor)
    os.close(descriptor)


@pytest.mark.parametrize("promised,code", [(19_999, "model-source-changed"), (20_001, "model-source-changed")])
def test_a_source_of_another_size_is_an_error(promised, code):
    source, dest = memory_file(BLOCK[:20_000]), memory_file()
    with StreamEngine(4096) as engine, pytest.raises(ModelError) as caught:
        engine.encrypt(source, dest, promised, KEY, AAD)
    assert caught.value.code == code


def test_comparing_tells_the_same_from_another_plaintext(path):
    sealed = memory_file(SEALED)
    header = tink_stream.read_header(sealed)
    other = bytearray(BLOCK[:20_000])
    other[15_000] ^= 1
    with StreamEngine(4096) as engine:
        assert engine.same(memory_file(BLOCK[:20_000]), sealed, 20_000, KEY, AAD, header)
        assert not engine.same(memory_file(bytes(other)), sealed, 20_000, KEY, AAD, header)


def test_buffers_and_the_file_key_are_wiped():
    engine = StreamEngine(4096, 2)
    with engine:
        engine.encrypt(memory_file(BLOCK[:20_000]), memory_file(), 20_000, KEY, AAD)
        assert any(any(buffer) for pair in engine._buffers for buffer in pair)
    assert not any(any(buffer) for pair in engine._buffers for buffer in pair)


def test_progress_adds_up_and_comes_in_the_callers_thread():
    import threading

    seen = []
    with StreamEngine(4096, 3, progress=lambda count: seen.append((count, threading.current_thread()))) as engine:
        engine.encrypt(memory_file(BLOCK[:1_000_000]), memory_file(), 1_000_000, KEY, AAD)
    assert sum(count for count, _thread in seen) == 1_000_000
    assert {thread for _count, thread in seen} == {threading.current_thread()}


def test_every_ciphertext_byte_is_read_once(monkeypatch):
    read = []
    real = os.preadv

    def counting(descriptor, buffers, offset):
        count = real(descriptor, buffers, offset)
        read.extend(range(offset, offset + count))
        return count

    monkeypatch.setattr(os, "preadv", counting)
    assert unseal(SEALED, 20_000, 4096) == BLOCK[:20_000]
    assert sorted(read) == list(range(len(SEALED)))


def test_an_exception_of_the_progress_callback_stops_all_threads():
    import threading

    def stop(_count):
        raise KeyboardInterrupt

    before = threading.active_count()
    with StreamEngine(4096, 3, progress=stop) as engine, pytest.raises(KeyboardInterrupt):
        engine.encrypt(memory_file(BLOCK), memory_file(), len(BLOCK), KEY, AAD)
    assert threading.active_count() == before


def test_associated_data_is_length_prefixed_and_normalized():
    assert AAD == b"attested.ai/model-file/v1\0" + b"\0\x09org/model" + (7).to_bytes(8, "big") + b"\0\x19weights/model.safetensors"
    assert associated_data("ab", 1, "c") != associated_data("a", 1, "bc")
    assert associated_data("caf\u00e9", 1, "x") == associated_data("cafe\u0301", 1, "x")
    with pytest.raises(ModelError):
        associated_data("", 1, "x")
    with pytest.raises(ModelError):
        associated_data("m", 0, "x")


MEMORY = """
import os, resource, sys
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.tink_stream import StreamEngine, read_header
size = int(sys.argv[1])
source, sealed, plain = (os.memfd_create(name) for name in "abc")
os.ftruncate(source, size)
with StreamEngine(1 << 20, 2) as engine:
    engine.encrypt(source, sealed, size, bytes(32), b"x")
    engine.decrypt(sealed, plain, size, bytes(32), b"x", read_header(sealed))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_file():
    peak = [
        int(subprocess.run([sys.executable, "-c", MEMORY, str(size << 20)], check=True, capture_output=True, env=os.environ).stdout)
        for size in (64, 512)
    ]
    assert abs(peak[1] - peak[0]) < 8 * 1024, peak
