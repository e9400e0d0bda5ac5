# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Processor and memory, with the standard library; with NumPy too where it is there."""

from __future__ import annotations

import hashlib
import importlib
import mmap
from typing import Any, Callable, Sequence

from ansible_collections.attested.ai.plugins.module_utils.benchmark.measures.measure import Found, label, timed

HASHED = 1 << 20
PAGE = 4096
MATRIX = 256


def cpu(found: Found) -> None:
    block = bytes(HASHED)
    found.measures.append(timed("cpu.hash", lambda: hashlib.sha256(block).digest(), HASHED))
    found.measures.append(timed("cpu.loop", lambda: sum(range(20_000))))
    numpy = optional("numpy")
    if numpy is None:
        found.absent["cpu.matmul"] = "NumPy is not there"
        return
    found.measures.append(timed("cpu.matmul", product(numpy)))


def product(numpy: Any) -> Callable[[], object]:
    matrix = numpy.ones((MATRIX, MATRIX), dtype=numpy.float32)
    return lambda: matrix @ matrix


def memory(found: Found, sizes: Sequence[int]) -> None:
    for size in sizes:
        found.measures.append(timed("memory.copy.%s" % label(size), copy(size), size))
    # Fresh pages cost more in a TEE: the guest has to accept them, and the host its tables.
    found.measures.append(timed("memory.alloc-copy.4k", alloc_copy, PAGE))
    first = max(sizes)
    found.measures.append(timed("memory.first-touch.%s" % label(first), lambda: touch(first), first))


def copy(size: int) -> Callable[[], object]:
    source, target = memoryview(bytearray(size)), memoryview(bytearray(size))

    def work() -> None:
        target[:] = source

    return work


_PAGE_OF_ONES = b"\1" * PAGE


def alloc_copy() -> None:
    with mmap.mmap(-1, PAGE) as area:
        area[:] = _PAGE_OF_ONES


def touch(size: int) -> None:
    with mmap.mmap(-1, size) as area:
        for place in range(0, size, PAGE):
            area[place] = 1


def optional(name: str) -> Any:
    """A library that may be there. One that is broken counts as missing: what it raises is its own affair."""
    try:
        return importlib.import_module(name)
    except Exception:
        return None
