# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
"""What a file tells about a model to somebody without the key: figures for the plain and for the encrypted file, as JSON.

    python ciphertext.py PLAIN_FILE ENCRYPTED_FILE
"""

from __future__ import annotations

import argparse
import json
import re
import struct
import sys
import typing as t
import zlib
from pathlib import Path

import numpy as np

SAMPLE = 8 << 20
FIGURES = {
    "bytes": "Size in bytes",
    "entropy": "Entropy, of 8 bits per byte",
    "compresses_to": "Size after compression, of 1",
    "tensor_names": "Names of tensors that can be read",
    "longest_text": "Longest readable text, in characters",
}
HEADER_LIMIT = 100_000_000


def entropy(data: bytes | np.ndarray) -> float:
    """Shannon entropy of the bytes, 0 to 8 bits per byte."""
    counts = np.bincount(np.frombuffer(data, dtype=np.uint8), minlength=256)
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def compressed_share(data: bytes) -> float:
    """Size after zlib, as a share of the size before: about 1 for random bytes."""
    return len(zlib.compress(data, 1)) / len(data) if data else 1.0


def tensor_names(data: bytes) -> list[str]:
    """Names in a safetensors header at the start of ``data``; none if there is no such header."""
    if len(data) < 8:
        return []
    length = struct.unpack("<Q", data[:8])[0]
    if not 2 <= length <= min(HEADER_LIMIT, len(data) - 8):
        return []
    try:
        header = json.loads(data[8 : 8 + length])
    except ValueError:
        return []
    return sorted(name for name in header if name != "__metadata__") if isinstance(header, dict) else []


def figures(path: Path) -> dict[str, t.Any]:
    """Entropy of the whole file; the other figures from its first 8 MiB."""
    whole = np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else np.empty(0, np.uint8)
    sample = whole[:SAMPLE].tobytes()
    return {
        "bytes": int(whole.size),
        "entropy": round(entropy(whole), 4),
        "compresses_to": round(compressed_share(sample), 3),
        "tensor_names": len(tensor_names(sample)),
        "longest_text": max((len(run) for run in re.findall(rb"[\x20-\x7e]{4,}", sample)), default=0),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare what a plain and an encrypted file tell.")
    parser.add_argument("plain", type=Path)
    parser.add_argument("encrypted", type=Path)
    options = parser.parse_args()
    try:
        plain, encrypted = figures(options.plain), figures(options.encrypted)
    except OSError as error:
        print(f"ciphertext: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    rows = [{"figure": text, "plain": plain[name], "encrypted": encrypted[name]} for name, text in FIGURES.items()]
    print(json.dumps({"plain": plain, "encrypted": encrypted, "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
