# SPDX-License-Identifier: GPL-3.0-or-later
"""What a management controller answers: each answer of a whole session in turn is something else than it should be."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

from harness import Target

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "redfish"))

from ansible_collections.attested.ai.plugins.module_utils.redfish.acts import Options  # noqa: E402  pylint: disable=wrong-import-position
from ansible_collections.attested.ai.plugins.module_utils.redfish.client import (
    Client,
    Credentials,
    Patience,
)  # noqa: E402  pylint: disable=wrong-import-position
from ansible_collections.attested.ai.plugins.module_utils.redfish.machine import discover  # noqa: E402  pylint: disable=wrong-import-position
from ansible_collections.attested.ai.plugins.module_utils.redfish.resolve import Desired, resolve  # noqa: E402  pylint: disable=wrong-import-position
from ansible_collections.attested.ai.plugins.module_utils.redfish.staging import look  # noqa: E402  pylint: disable=wrong-import-position
from ansible_collections.attested.ai.plugins.module_utils.redfish.wire import Request, Response  # noqa: E402  pylint: disable=wrong-import-position
from bmc.server import Service  # noqa: E402  pylint: disable=wrong-import-position

WISH = Desired("snp", {}, {}, {})


def ask(opener) -> object:
    client = Client(opener, Credentials("admin", "x"), "bmc", "basic", Patience(attempts=1), sleep=lambda seconds: None)
    target = discover(client)
    return look(client, target, lambda registry, current: resolve(registry, current, target.vendor, WISH), Options())


@functools.lru_cache(maxsize=1)
def answers() -> tuple[bytes, ...]:
    """Those of a whole look at a machine, in order."""
    running = Service("lenovo-snp", password="x")
    kept: list[bytes] = []

    def opener(request: Request) -> Response:
        found = running.answer(request.method, request.path, request.body or b"", {name.lower(): value for name, value in request.headers.items()})
        kept.append(found.data)
        return Response(found.status, {}, found.data)

    ask(opener)
    return tuple(kept)


def seeds() -> list[bytes]:
    """The number of the answer that is exchanged, in one byte, and what it becomes."""
    return [bytes([number]) + data for number, data in enumerate(answers())]


def run(data: bytes) -> object:
    whole = answers()
    place, number = (data[0] if data else 0) % len(whole), -1

    def opener(_request: Request) -> Response:
        nonlocal number
        number += 1
        return Response(200, {}, data[1:] if number == place else whole[number % len(whole)])

    return ask(opener)


def structured(data: bytes) -> object:
    """The same with the bytes taken as a choice of what to leave out, double or turn into another type, so that more of it stays JSON."""
    whole = [json.loads(answer) for answer in answers()]
    place, number = (data[0] if data else 0) % len(whole), -1
    whole[place] = twisted(whole[place], iter(data[1:200]))

    def opener(_request: Request) -> Response:
        nonlocal number
        number += 1
        return Response(200, {}, json.dumps(whole[number % len(whole)]).encode())

    return ask(opener)


def twisted(value: object, choices) -> object:
    kind = next(choices, 255) % 43
    if kind < 8:
        return (None, 7, "text", [], {}, True, -1.5, [value])[kind]
    if isinstance(value, dict):
        return {name: twisted(item, choices) for name, item in value.items() if next(choices, 255) % 31}
    if isinstance(value, list):
        return [twisted(item, choices) for item in value]
    return value


TARGETS = {"redfish-answer": Target(seeds, run), "redfish-structure": Target(seeds, structured)}
