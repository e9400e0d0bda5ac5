# SPDX-License-Identifier: GPL-3.0-or-later
"""Mutation fuzzing of every parser and verifier: whatever the bytes are, only our own exceptions may come out.

    python tests/fuzz/harness.py                      # all targets, 2,000 inputs each
    python tests/fuzz/harness.py -n 1000000 -j 2 tdx-quote cca-token

Deterministic for a given --seed, so that a finding can be had again. An input that escapes is written to --save and ends the run
with status 1. With --atheris the target is driven by coverage instead, one target at a time.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import multiprocessing
import random
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError  # noqa: E402  pylint: disable=wrong-import-position

INTERESTING = (0, 1, 2, 0x10, 0x18, 0x1F, 0x20, 0x30, 0x3F, 0x40, 0x7F, 0x80, 0x81, 0x82, 0x84, 0x9F, 0xA0, 0xBF, 0xD2, 0xFF)
SIZES = (0, 1, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
LARGEST = 1 << 20


@dataclass(frozen=True)
class Target:
    """``seeds`` gives well-formed inputs; ``run`` takes any bytes and may raise AttestedError, nothing else."""

    seeds: Callable[[], list[bytes]]
    run: Callable[[bytes], object]


@dataclass
class Finding:
    target: str
    data: bytes
    error: str


def targets() -> dict[str, Target]:
    """All targets of the targets_*.py beside this file, by name."""
    found: dict[str, Target] = {}
    for path in sorted(HERE.glob("targets_*.py")):
        for name, target in importlib.import_module(path.stem).TARGETS.items():
            if name in found:
                raise ValueError(f"two fuzz targets are called {name}")
            found[name] = target
    return found


def mutate(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One to six changes of a seed: bits, bytes, sizes, pieces cut, doubled, moved, or taken from another seed."""
    data = bytearray(rng.choice(seeds))
    for _change in range(rng.randint(1, 6)):
        if not data:
            return bytes(rng.randrange(256) for _byte in range(rng.randint(0, 64)))
        place = rng.randrange(len(data))
        kind = rng.randrange(9)
        if kind == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[place] = rng.choice(INTERESTING)
        elif kind == 2:
            data[place] = rng.randrange(256)
        elif kind == 3:
            width = rng.choice((2, 3, 4))
            size = rng.choice(SIZES) & (1 << 8 * width) - 1
            data[place : place + width] = size.to_bytes(width, rng.choice(("little", "big")))
        elif kind == 4:
            del data[place : place + rng.choice((1, 1, 2, 4, 16, 64, 1024))]
        elif kind == 5:
            piece = data[place : place + rng.choice((1, 2, 4, 16, 64, 256))]
            data[place:place] = piece * rng.choice((1, 1, 2, 8))
        elif kind == 6:
            del data[place:]
        elif kind == 7:
            other = rng.choice(seeds)
            if other:
                begin = rng.randrange(len(other))
                piece = other[begin : begin + rng.choice((1, 4, 32, 256))]
                data[place : place + len(piece)] = piece
        else:
            data += bytes(rng.randrange(256) for _byte in range(rng.choice((1, 2, 16))))
    return bytes(data[:LARGEST])


def attempt(name: str, target: Target, data: bytes) -> Finding | None:
    try:
        target.run(data)
    except AttestedError:
        return None
    except Exception:  # noqa: BLE001 - exactly what is looked for
        return Finding(name, data, traceback.format_exc(limit=-6))
    return None


def fuzz(name: str, target: Target, count: int, seed: int) -> tuple[int, Finding | None]:
    """Run ``count`` mutated inputs, and before them the seeds as they are. Returns how many ran and the first finding."""
    seeds = target.seeds()
    if not seeds:
        raise ValueError(f"the fuzz target {name} has no seeds")
    rng = random.Random(f"{name}/{seed}")
    for number, data in enumerate(seeds):
        finding = attempt(name, target, data)
        if finding:
            return number + 1, finding
    for number in range(count):
        finding = attempt(name, target, mutate(rng, seeds))
        if finding:
            return number + 1, finding
    return count, None


def _share(job: tuple[str, int, int]) -> tuple[str, int, float, Finding | None]:
    name, count, seed = job
    start = time.monotonic()
    ran, finding = fuzz(name, targets()[name], count, seed)
    return name, ran, time.monotonic() - start, finding


def run_all(names: Iterable[str], count: int, seed: int, jobs: int, save: Path) -> int:
    shares = [(name, count // jobs + (part < count % jobs), seed * 1000 + part) for name in names for part in range(jobs)]
    ran: dict[str, int] = {}
    seconds: dict[str, float] = {}
    status = 0
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for name, number, took, finding in pool.imap_unordered(_share, shares):
            ran[name] = ran.get(name, 0) + number
            seconds[name] = seconds.get(name, 0.0) + took
            if finding is not None:
                save.mkdir(parents=True, exist_ok=True)
                path = save / f"{name}-{hashlib.sha256(finding.data).hexdigest()[:16]}"
                path.write_bytes(finding.data)
                print(f"{name}: escaped, input in {path}\n{finding.error}", flush=True)
                status = 1
    for name, number in ran.items():
        print(f"{name:28} {number:>10,} inputs  {number / max(seconds[name], 1e-9):>9,.0f}/s")
    print(f"{sum(ran.values()):,} inputs over {len(ran)} targets, {'findings above' if status else 'nothing escaped'}")
    return status


def run_atheris(name: str, target: Target, count: int) -> None:
    import atheris

    def one(data: bytes) -> None:
        finding = attempt(name, target, data)
        if finding is not None:
            raise RuntimeError(finding.error)

    corpus = HERE / ".corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for data in target.seeds():
        (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    atheris.Setup([sys.argv[0], f"-runs={count}", "-max_len=65536", str(corpus)], one)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="TARGET")
    parser.add_argument("-n", "--count", type=int, default=2000)
    parser.add_argument("-j", "--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, default=HERE / ".findings")
    parser.add_argument("--atheris", action="store_true")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    known = targets()
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"unknown targets: {', '.join(unknown)}; known are {', '.join(known)}")
    if options.list:
        print("\n".join(known))
        return 0
    if options.atheris:
        if len(options.names) != 1:
            parser.error("--atheris takes exactly one target")
        run_atheris(options.names[0], known[options.names[0]], options.count)
        return 0
    return run_all(options.names or known, options.count, options.seed, options.jobs, options.save)


if __name__ == "__main__":
    sys.exit(main())
