# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""All measurements of this machine, in turn, round by round: what drifts with time falls on all of them alike."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence

from ansible_collections.attested.ai.plugins.module_utils.benchmark.document import SCHEMA
from ansible_collections.attested.ai.plugins.module_utils.benchmark.failure import BenchmarkError
from ansible_collections.attested.ai.plugins.module_utils.benchmark.measures import evidence, files, processor
from ansible_collections.attested.ai.plugins.module_utils.benchmark.measures.bounce import DIRECTORY, Swiotlb
from ansible_collections.attested.ai.plugins.module_utils.benchmark.measures.gpu import gpu
from ansible_collections.attested.ai.plugins.module_utils.benchmark.measures.machine import machine
from ansible_collections.attested.ai.plugins.module_utils.benchmark.measures.measure import Found, Measure
from ansible_collections.attested.ai.plugins.module_utils.benchmark.measures.serving import Endpoint, serving
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import Host
from ansible_collections.attested.ai.plugins.module_utils.target.tsm import DEFAULT_PATH

PARTS = ("cpu", "memory", "file", "model", "attestation", "gpu", "serving")
# The code of an error that a signal became, which is no trouble of the measurement that it met.
INTERRUPTED = "interrupted"
LEAST_SIZE, MOST_SIZE = 1024, 4 << 30


@dataclass(frozen=True)
class Wanted:
    """See the module overhead_measure."""

    parts: Sequence[str]
    rounds: int = 3
    warmup: int = 1
    sizes: Sequence[int] = (4096, 1 << 20, 64 << 20)
    gpu_sizes: Sequence[int] = (4096, 1 << 20, 64 << 20, 1 << 30)
    file_size: int = 64 << 20
    directory: str = field(default_factory=tempfile.gettempdir)
    model: Optional[str] = None
    tsm_path: str = DEFAULT_PATH
    swiotlb: str = DIRECTORY
    endpoint: Optional[Endpoint] = None
    concurrency: Sequence[int] = (1, 8, 64)


def measure(wanted: Wanted, host: Host) -> Dict[str, Any]:
    """The document of this side. Raises BenchmarkError."""
    _check(wanted)
    found = Found()
    try:
        about = _prepare(wanted, found)
        bounce = Swiotlb(wanted.swiotlb)
        seconds = _rounds(wanted, found, bounce)
    except MemoryError:
        raise BenchmarkError("there is not enough memory for these sizes", fix="Give smaller ones", code="settings") from None
    finally:
        for one in found.measures:
            one.close()
    if not seconds:
        why = "; ".join("%s: %s" % pair for pair in found.absent.items())
        raise BenchmarkError("nothing could be measured: %s" % why, fix="Choose parts that this machine has", code="nothing-measured")
    sizes = {one.id: one.size for one in found.measures}
    return {
        "schema": SCHEMA,
        "machine": machine(host, about),
        "settings": _settings(wanted),
        "measures": {name: {"seconds": values, "bytes": sizes.get(name)} for name, values in seconds.items()},
        "absent": found.absent,
        "swiotlb": bounce.to_dict(),
    }


def _check(wanted: Wanted) -> None:
    unknown = [part for part in wanted.parts if part not in PARTS]
    if unknown or not wanted.parts:
        what = "%s is no part" % ", ".join(map(ascii, unknown)) if unknown else "there is no part"
        raise BenchmarkError(what, fix="There are %s" % ", ".join(PARTS), code="parts")
    for name, value, least, most in (
        ("rounds", wanted.rounds, 1, 1000),
        ("warmup", wanted.warmup, 1, 100),
        ("file_size", wanted.file_size, 4096, MOST_SIZE),
        ("serving_timeout", wanted.endpoint.timeout if wanted.endpoint else 1, 1, 3600),
    ):
        if not least <= value <= most:
            raise BenchmarkError("%d is not from %d to %d" % (value, least, most), where=name, code="settings")
    for name, values, least, most in (
        ("sizes", wanted.sizes, LEAST_SIZE, MOST_SIZE),
        ("gpu_sizes", wanted.gpu_sizes, LEAST_SIZE, MOST_SIZE),
        ("concurrency", wanted.concurrency, 1, 512),
    ):
        if not values or not all(least <= value <= most for value in values):
            raise BenchmarkError("numbers from %d to %d were expected" % (least, most), where=name, code="settings")


def _prepare(wanted: Wanted, found: Found) -> Dict[str, Any]:
    parts = wanted.parts
    about: Dict[str, Any] = {}
    if "cpu" in parts:
        processor.cpu(found)
    if "memory" in parts:
        processor.memory(found, wanted.sizes)
    if "file" in parts:
        files.scratch(found, wanted.directory, wanted.file_size)
    if "model" in parts:
        if wanted.model:
            files.model(found, wanted.model)
        else:
            found.absent["file.model"] = "no model was named"
    if "attestation" in parts:
        evidence.attestation(found, wanted.tsm_path)
    if "gpu" in parts:
        about = gpu(found, wanted.gpu_sizes)
    if "serving" in parts:
        if wanted.endpoint is not None:
            serving(found, wanted.endpoint, wanted.concurrency)
        else:
            found.absent["serving"] = "no server was named"
    return about


def _rounds(wanted: Wanted, found: Found, bounce: Swiotlb) -> Dict[str, List[float]]:
    seconds: Dict[str, List[float]] = {}
    for number in range(-wanted.warmup, wanted.rounds):
        for one in list(found.measures):
            if one.id in found.absent:
                continue
            try:
                times = one.call()
            except (AttestedError, OSError, RuntimeError, MemoryError) as error:
                if getattr(error, "code", "") == INTERRUPTED:
                    raise
                _drop(one, error, found)
                continue
            bounce.look()
            if number >= 0:
                for name, value in times.items():
                    seconds.setdefault(name, []).append(value)
    return {name: values for name, values in seconds.items() if len(values) == wanted.rounds}


def _drop(one: Measure, error: BaseException, found: Found) -> None:
    """What failed once is left out of all rounds: its other figures would be of a machine in trouble."""
    lines = str(error).splitlines() or [type(error).__name__]
    found.absent[one.id] = lines[0][:200]


def _settings(wanted: Wanted) -> Dict[str, Any]:
    """What must be the same on both sides. The server's address is not, its request is."""
    settings: Dict[str, Any] = {
        "parts": sorted(wanted.parts), "rounds": wanted.rounds, "warmup": wanted.warmup, "sizes": list(wanted.sizes), "gpu_sizes": list(wanted.gpu_sizes),
        "file_size": wanted.file_size, "concurrency": list(wanted.concurrency),
    }  # fmt: skip
    if wanted.endpoint is not None:
        settings["request_sha256"] = hashlib.sha256(wanted.endpoint.body).hexdigest()
    return settings
