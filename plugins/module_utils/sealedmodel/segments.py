# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where the segments of a Tink AES-GCM-HKDF stream lie: arithmetic only.

The format: a header (one length byte, 32 bytes salt, 7 bytes nonce prefix), then segments of ``segment_size`` ciphertext bytes of
which the last may be shorter. The header counts into the first segment, so segment i begins at i x segment_size in the file.
Source: "Streaming AEAD, AES-GCM-HKDF" of Tink's wire format documentation.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from ansible_collections.attested.ai.plugins.module_utils.errors import ModelError

SALT_SIZE = 32
PREFIX_SIZE = 7
HEADER_SIZE = 1 + SALT_SIZE + PREFIX_SIZE
TAG_SIZE = 16
KEY_SIZE = 32
# Tink refuses segments that could not hold the header, a tag and one byte.
MIN_SEGMENT = HEADER_SIZE + TAG_SIZE + 1
MAX_SEGMENT = 64 << 20
DEFAULT_SEGMENT = 1 << 20
MAX_SEGMENTS = 1 << 32
_DOMAIN = b"attested.ai/model-file/v1\0"


@dataclass(frozen=True)
class Span:
    """One segment: offsets and lengths in bytes, ``cipher_length`` with the tag and without the header."""

    index: int
    last: bool
    plain_offset: int
    plain_length: int
    cipher_offset: int
    cipher_length: int


@dataclass(frozen=True)
class Layout:
    """The segments of a file of ``plain_size`` bytes. Raises ModelError on sizes that the format cannot carry."""

    plain_size: int
    segment_size: int

    def __post_init__(self) -> None:
        check_segment_size(self.segment_size)
        if self.plain_size < 0 or self.count > MAX_SEGMENTS:
            raise ModelError("%d bytes do not fit into 2^32 segments of %d bytes" % (self.plain_size, self.segment_size), fix="Use larger segments")

    @property
    def _first(self) -> int:
        return self.segment_size - HEADER_SIZE - TAG_SIZE

    @property
    def _later(self) -> int:
        return self.segment_size - TAG_SIZE

    @property
    def count(self) -> int:
        """How many segments: at least one, since the empty file has an empty segment."""
        return 1 + max(0, -(-(self.plain_size - self._first) // self._later))

    @property
    def cipher_size(self) -> int:
        return HEADER_SIZE + self.plain_size + TAG_SIZE * self.count

    def span(self, index: int) -> Span:
        last = index == self.count - 1
        start = 0 if index == 0 else self._first + (index - 1) * self._later
        end = self.plain_size if last else self._first + index * self._later
        offset = HEADER_SIZE if index == 0 else index * self.segment_size
        return Span(index, last, start, end - start, offset, end - start + TAG_SIZE)


def check_segment_size(segment_size: int) -> None:
    if not MIN_SEGMENT <= segment_size <= MAX_SEGMENT:
        raise ModelError("a segment size of %d bytes is not usable, %d to %d are" % (segment_size, MIN_SEGMENT, MAX_SEGMENT), code="model-segment-size")


def nonce(prefix: bytes, span: Span) -> bytes:
    """12 bytes: prefix (7), segment index (4, big endian), 1 for the last segment else 0."""
    return prefix + span.index.to_bytes(4, "big") + (b"\x01" if span.last else b"\x00")


def associated_data(model_id: str, release: int, path: str) -> bytes:
    """What a file's key is bound to: domain || len16(model_id) model_id || BE64(release) || len16(path) path.

    ``path`` is relative, with "/" between its parts. Text is UTF-8 in NFC, lengths count bytes and are big endian.
    """
    return bound_name(_DOMAIN, model_id, release) + _text(path)


def bound_name(domain: bytes, model_id: str, release: int) -> bytes:
    """What a key is derived for: domain || len16(model_id) model_id || BE64(release)."""
    if not 0 < release < 1 << 64:
        raise ModelError("the release %d is not a positive number" % release)
    return domain + _text(model_id) + release.to_bytes(8, "big")


def _text(text: str) -> bytes:
    raw = unicodedata.normalize("NFC", text).encode("utf-8")
    if not 0 < len(raw) < 1 << 16:
        raise ModelError("a name of %d bytes cannot be bound, 1 to 65535 can" % len(raw))
    return len(raw).to_bytes(2, "big") + raw
