# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The GPU through PyTorch, where both are at hand: products, transfers by size and kind of memory, small allocations with copies, loading a model."""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, List, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.benchmark.measures.files import CHUNK
from ansible_collections.attested.ai.plugins.module_utils.benchmark.measures.measure import Found, label, timed
from ansible_collections.attested.ai.plugins.module_utils.benchmark.measures.processor import optional

MATRIX = 4096
SMALL = 4096
LOADED = 256 << 20


def gpu(found: Found, sizes: Sequence[int]) -> Dict[str, Any]:
    """Adds what can be measured; returns what the GPU is."""
    torch = optional("torch")
    if torch is None:
        found.absent["gpu"] = "PyTorch is not there"
        return {}
    if not torch.cuda.is_available():
        found.absent["gpu"] = "PyTorch %s sees no CUDA device" % torch.__version__
        return {"torch": str(torch.__version__)}
    parts: Sequence[Tuple[str, Callable[[], None]]] = (
        ("gpu.matmul", lambda: _compute(found, torch)),
        ("gpu.alloc-copy", lambda: _small(found, torch)),
        ("gpu.load", lambda: _load(found, torch)),
        ("gpu.h2d", lambda: _transfers(found, torch, sizes)),
    )
    for name, add in parts:
        try:
            add()
        except RuntimeError as error:
            found.absent[name] = (str(error).splitlines() or ["it failed"])[0][:200]
    major, minor = torch.cuda.get_device_capability(0)
    return {
        "torch": str(torch.__version__),
        "gpu": str(torch.cuda.get_device_name(0)),
        "gpu_capability": "%d.%d" % (major, minor),
    }


def _waited(torch: Any, work: Callable[[], object]) -> Callable[[], object]:
    """Without waiting only the start of the work would be measured."""

    def whole() -> None:
        work()
        torch.cuda.synchronize()

    return whole


def _compute(found: Found, torch: Any) -> None:
    matrix = torch.randn(MATRIX, MATRIX, dtype=torch.bfloat16, device="cuda")
    found.measures.append(timed("gpu.matmul.%d" % MATRIX, _waited(torch, lambda: matrix @ matrix)))


def _transfers(found: Found, torch: Any, sizes: Sequence[int]) -> None:
    for size in sizes:
        device = torch.empty(size, dtype=torch.uint8, device="cuda")
        for kind in ("pageable", "pinned"):
            try:
                host = torch.empty(size, dtype=torch.uint8, pin_memory=kind == "pinned").fill_(1)
            except RuntimeError as error:
                found.absent["gpu.h2d.%s.%s" % (label(size), kind)] = "no such memory: %s" % str(error).splitlines()[0][:100]
                continue
            found.measures.append(timed("gpu.h2d.%s.%s" % (label(size), kind), _copied(torch, device, host), size))
            found.measures.append(timed("gpu.d2h.%s.%s" % (label(size), kind), _copied(torch, host, device), size))


def _copied(torch: Any, target: Any, source: Any) -> Callable[[], object]:
    return _waited(torch, lambda: target.copy_(source))


def _small(found: Found, torch: Any) -> None:
    host = torch.ones(SMALL, dtype=torch.uint8)

    def work() -> None:
        host.to("cuda")
        # Otherwise PyTorch's own allocator would hand out the same piece again.
        torch.cuda.empty_cache()

    found.measures.append(timed("gpu.alloc-copy.4k", _waited(torch, work), SMALL))


def _load(found: Found, torch: Any) -> None:
    """As loaders do: piece after piece from memory of the guest into fresh memory of the GPU. Reading the file is measured apart."""
    pieces: List[Any] = [torch.frombuffer(bytearray(os.urandom(CHUNK)), dtype=torch.uint8) for _number in range(16)]

    def work() -> None:
        loaded = [pieces[number % 16].to("cuda") for number in range(LOADED // CHUNK)]
        del loaded
        torch.cuda.empty_cache()

    found.measures.append(timed("gpu.load", _waited(torch, work), LOADED))
