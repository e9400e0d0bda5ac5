# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tink's AES-GCM-HKDF streaming format (AES-256, HKDF-SHA256, prefix RAW) between file descriptors.

Threads take one segment after the other with pread and pwrite; each keeps two buffers of one segment, so that memory does not grow
with the file. Every ciphertext byte is read once, into private memory, and a segment is written only after its tag was checked.
"""

from __future__ import annotations

import os
import threading
from typing import Any, Callable, List, Optional

from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.errors import ModelError
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.segments import (
    HEADER_SIZE,
    KEY_SIZE,
    PREFIX_SIZE,
    SALT_SIZE,
    TAG_SIZE,
    Layout,
    Span,
    check_segment_size,
    nonce,
)
from ansible_collections.attested.ai.plugins.module_utils.target.memory import wipe

Progress = Callable[[int], None]


class SegmentCipher:
    """AES-256-GCM over one segment, from buffer to buffer. One object per thread.

    cryptography 48 writes into a buffer directly. Before, Cipher(...).update_into is the fast path: AESGCM.encrypt() of the
    version 38 that Debian 12 ships is seven times slower. It wants 15 bytes more room than it fills.
    """

    def __init__(self, key: Any, prefix: bytes) -> None:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._invalid_tag = InvalidTag
        self._key = key
        self._prefix = prefix
        self._aead = AESGCM(bytes(key)) if hasattr(AESGCM, "encrypt_into") and hasattr(AESGCM, "decrypt_into") else None

    def seal(self, span: Span, plain: memoryview, out: memoryview) -> None:
        """Encrypt ``plain`` to out[: span.cipher_length]. ``out`` has room for 16 bytes more than ``plain``."""
        if self._aead is not None:
            self._aead.encrypt_into(nonce(self._prefix, span), plain, None, out[: span.cipher_length])
            return
        context = self._context(span, None).encryptor()
        context.update_into(plain, out)
        context.finalize()
        out[span.plain_length : span.cipher_length] = context.tag

    def open(self, span: Span, sealed: memoryview, out: memoryview) -> bool:
        """Decrypt ``sealed`` to out[: span.plain_length] and say whether the tag holds. If not, ``out`` holds nothing to be used."""
        try:
            if self._aead is not None:
                self._aead.decrypt_into(nonce(self._prefix, span), sealed, None, out[: span.plain_length])
                return True
            context = self._context(span, bytes(sealed[span.plain_length :])).decryptor()
            context.update_into(sealed[: span.plain_length], out)
            context.finalize()
        except self._invalid_tag:
            return False
        return True

    def _context(self, span: Span, tag: Optional[bytes]) -> Any:
        from cryptography.hazmat.primitives.ciphers import Cipher
        from cryptography.hazmat.primitives.ciphers.algorithms import AES
        from cryptography.hazmat.primitives.ciphers.modes import GCM

        return Cipher(AES(self._key), GCM(nonce(self._prefix, span), tag))


class StreamEngine:
    """Encrypts, decrypts and compares files with ``threads`` threads. Memory: 2 x threads x segment_size bytes, kept between files.

    Use it as a context manager: the buffers are wiped at the end. ``progress`` is called in the caller's thread with the plaintext
    bytes that were finished since the last call. A thread takes ``batch`` segments in a row: a source far away is read in long pieces.
    """

    def __init__(self, segment_size: int, threads: int = 2, progress: Optional[Progress] = None, batch: int = 1) -> None:
        require_cryptography()
        check_segment_size(segment_size)
        if not 1 <= threads <= 64:
            raise ModelError("%d threads are not usable, 1 to 64 are" % threads)
        self.segment_size = segment_size
        self.threads = threads
        self._progress = progress
        self._batch = batch
        self._buffers: List[Any] = []

    def __enter__(self) -> StreamEngine:
        return self

    def __exit__(self, *_ignored: Any) -> None:
        self.wipe()

    def wipe(self) -> None:
        for pair in self._buffers:
            for buffer in pair:
                wipe(buffer)

    def encrypt(self, source: int, dest: int, size: int, key: Any, aad: bytes, where: str = "") -> bytes:
        """Encrypt ``size`` bytes of the descriptor ``source`` to ``dest``, an empty file; return the header, always a fresh one.

        Raises ModelError if ``source`` ends early or goes on after ``size`` bytes.
        """
        layout = Layout(size, self.segment_size)
        header = bytes([HEADER_SIZE]) + os.urandom(SALT_SIZE + PREFIX_SIZE)
        write_exactly(dest, memoryview(header), 0)

        def step(cipher: SegmentCipher, span: Span, inbound: memoryview, outbound: memoryview) -> None:
            read_exactly(source, inbound[: span.plain_length], span.plain_offset, where)
            cipher.seal(span, inbound[: span.plain_length], outbound)
            write_exactly(dest, outbound[: span.cipher_length], span.cipher_offset)

        self._run(layout, key, header, aad, step)
        if os.pread(source, 1, size):
            raise ModelError("the file grew while it was read", where=where, code="model-source-changed")
        return header

    def decrypt(self, source: Any, dest: int, size: int, key: Any, aad: bytes, header: bytes, where: str = "") -> None:
        """Decrypt the stream in ``source`` to ``dest``, ``size`` plaintext bytes. ``header`` was read from it and checked before.

        Raises ModelError(code=model-tag) at the first segment whose tag does not hold; what was written so far is the caller's to remove.
        """

        def step(cipher: SegmentCipher, span: Span, inbound: memoryview, outbound: memoryview) -> None:
            read_exactly(source, inbound[: span.cipher_length], span.cipher_offset, where)
            self._open(cipher, span, inbound, outbound, where)
            write_exactly(dest, outbound[: span.plain_length], span.plain_offset)

        self._run(Layout(size, self.segment_size), key, header, aad, step)

    def same(self, plain: int, sealed: int, size: int, key: Any, aad: bytes, header: bytes, where: str = "") -> bool:
        """Whether the stream in ``sealed`` decrypts to exactly the ``size`` bytes of ``plain``. Writes nothing anywhere."""
        different: List[int] = []

        def step(cipher: SegmentCipher, span: Span, inbound: memoryview, outbound: memoryview) -> None:
            if different:
                return
            read_exactly(sealed, inbound[: span.cipher_length], span.cipher_offset, where)
            self._open(cipher, span, inbound, outbound, where)
            read_exactly(plain, inbound[: span.plain_length], span.plain_offset, where)
            if inbound[: span.plain_length] != outbound[: span.plain_length]:
                different.append(span.index)

        self._run(Layout(size, self.segment_size), key, header, aad, step)
        return not different

    @staticmethod
    def _open(cipher: SegmentCipher, span: Span, inbound: memoryview, outbound: memoryview, where: str) -> None:
        if not cipher.open(span, inbound[: span.cipher_length], outbound):
            raise ModelError(
                "segment %d cannot be decrypted: it is damaged, or key, model, release or path are not those it was encrypted for" % span.index,
                where=where,
                code="model-tag",
            )

    def _run(self, layout: Layout, key: Any, header: bytes, aad: bytes, step: Callable[..., None]) -> None:
        file_key = derive_key(key, header, aad)
        crew = min(self.threads, -(-layout.count // self._batch))
        while len(self._buffers) < crew:
            # Rounded up, with the room that update_into wants behind a full segment.
            self._buffers.append((bytearray(self.segment_size + TAG_SIZE), bytearray(self.segment_size + TAG_SIZE)))
        try:
            _Crew(layout, file_key, header[1 + SALT_SIZE :], step, self._progress, self._batch).run(self._buffers[:crew])
        finally:
            wipe(file_key)


class _Crew:
    """Shares the segments of one file among threads; the first error stops all, and is raised in the caller's thread."""

    def __init__(self, layout: Layout, key: bytearray, prefix: bytes, step: Callable[..., None], progress: Optional[Progress], batch: int) -> None:
        self._layout = layout
        self._count = layout.count
        self._key = key
        self._prefix = prefix
        self._step = step
        self._batch = batch
        self._progress = progress
        self._lock = threading.Lock()
        self._next = 0
        self._done = 0
        self._errors: List[BaseException] = []
        self._stop = False

    def run(self, buffers: List[Any]) -> None:
        helpers = [threading.Thread(target=self._help, args=(pair,), daemon=True) for pair in buffers[1:]]
        started: List[threading.Thread] = []
        try:
            for helper in helpers:
                helper.start()
                started.append(helper)
            # The caller's thread works too: signals and the progress report arrive in it between two segments.
            self._work(buffers[0], self._report)
            for helper in started:
                while helper.is_alive():
                    helper.join(0.5)
                    self._report()
        finally:
            # Also when a signal handler raised: nobody may still write when the caller removes the output.
            self._stop = True
            for helper in started:
                helper.join()
        if self._errors:
            raise self._errors[0]
        self._report()

    def _help(self, pair: Any) -> None:
        try:
            self._work(pair, None)
        except BaseException as error:  # pylint: disable=broad-except
            # Carried to the caller's thread; a thread has nobody else to tell.
            self._errors.append(error)
            self._stop = True

    def _work(self, pair: Any, report: Optional[Callable[[], None]]) -> None:
        cipher = SegmentCipher(self._key, self._prefix)
        inbound, outbound = memoryview(pair[0]), memoryview(pair[1])
        try:
            while not self._stop:
                with self._lock:
                    first = self._next
                    self._next += self._batch
                if first >= self._count:
                    return
                for index in range(first, min(first + self._batch, self._count)):
                    if self._halted():
                        return
                    span = self._layout.span(index)
                    self._step(cipher, span, inbound, outbound)
                    with self._lock:
                        self._done += span.plain_length
                    if report is not None:
                        report()
        finally:
            inbound.release()
            outbound.release()

    def _halted(self) -> bool:
        """Another thread may have said so meanwhile."""
        return self._stop

    def _report(self) -> None:
        with self._lock:
            done, self._done = self._done, 0
        if done and self._progress is not None:
            self._progress(done)


def derive_key(key: Any, header: bytes, aad: bytes) -> bytearray:
    """The key of one file, 32 bytes: HKDF-SHA256 of the data key with the header's salt and the associated data. The caller wipes it."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    if len(key) != KEY_SIZE:
        raise ModelError("the data key is %d bytes long, %d expected" % (len(key), KEY_SIZE))
    return bytearray(HKDF(algorithm=SHA256(), length=KEY_SIZE, salt=header[1 : 1 + SALT_SIZE], info=aad).derive(bytes(key)))


def read_header(source: Any, where: str = "") -> bytes:
    """Read and check the 40 header bytes of a stream. Raises ModelError."""
    header = bytearray(HEADER_SIZE)
    read_exactly(source, memoryview(header), 0, where)
    if header[0] != HEADER_SIZE:
        what = "it does not begin like an encrypted file: the first byte is %d, %d expected" % (header[0], HEADER_SIZE)
        raise ModelError(what, where=where, code="model-header")
    return bytes(header)


def read_exactly(source: Any, buffer: memoryview, offset: int, where: str) -> None:
    """Fill ``buffer`` from a descriptor, or from whatever reads by itself. Raises ModelError at an early end."""
    if not isinstance(source, int):
        source.read_into(buffer, offset)
        return
    done = 0
    while done < len(buffer):
        count = os.preadv(source, [buffer[done:]], offset + done)
        if count == 0:
            raise ModelError("the file ends after %d bytes, more were there before" % (offset + done), where=where, code="model-source-changed")
        done += count


def write_exactly(dest: int, buffer: memoryview, offset: int) -> None:
    """Write all of ``buffer``. Raises OSError."""
    done = 0
    while done < len(buffer):
        done += os.pwrite(dest, buffer[done:], offset + done)
