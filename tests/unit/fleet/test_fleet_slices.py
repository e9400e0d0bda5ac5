# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet watched in slices leaves the same store behind as one run over all of it."""

from __future__ import annotations

import functools
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import fleet_lab as lab
import pytest
from ansible_collections.attested.ai.plugins.module_utils.fleet.reaction import Rules
from ansible_collections.attested.ai.plugins.plugin_utils import fleet_round
from ansible_collections.attested.ai.plugins.plugin_utils.fleet_store import FleetStore

NOW = datetime(2026, 11, 28, 12, 10, tzinfo=timezone.utc)


def watch(root, found):
    store = FleetStore(str(root), dry=False)
    task = fleet_round.Round(store, Rules(), NOW, timedelta(hours=6), None, (), True, {})
    with store.locked():
        memories = store.memories()
        _rows, events, _metrics = fleet_round.observe(task, found, memories)
        store.remember(memories)
        store.tell(events, 1000)


def content(root):
    found = [path for path in sorted(root.rglob("*")) if path.is_file() and path.name not in (".lock", "history.jsonl")]
    files = {str(path.relative_to(root)): path.read_bytes() for path in found}
    history = sorted((root / "history.jsonl").read_text().splitlines()) if (root / "history.jsonl").exists() else []
    return files, history


@pytest.mark.parametrize("order", ["one after the other", "at once"])
def test_slices_merge_into_what_one_run_keeps(tmp_path, order):
    good, bad = lab.result(), lab.result(status="contraindicated")
    rounds = [
        {f"guest{number}": {"result": bad if number % 7 == 3 else good, "evidence": {"of": number}} for number in range(40)},
        # Some are worse now, and one gave no answer.
        {f"guest{number}": {"msg": "no route"} if number == 9 else {"result": bad if number % 5 == 3 else good} for number in range(40)},
    ]
    for registered in rounds:
        found = {host: fleet_round.seen_of(one) for host, one in registered.items()}
        watch(tmp_path / "whole", found)
        # As AWX slices: every n-th host.
        slices = [dict(list(found.items())[number::3]) for number in range(3)]
        if order == "at once":
            with ThreadPoolExecutor(len(slices)) as pool:
                list(pool.map(functools.partial(watch, tmp_path / "sliced"), slices))
        else:
            for part in slices:
                watch(tmp_path / "sliced", part)
    (files, history), (sliced, told) = content(tmp_path / "whole"), content(tmp_path / "sliced")
    assert sliced == files and told == history and len(files) == 81 and len(history) > 5
    assert len(json.loads(files["state.json"])["hosts"]) == 40
