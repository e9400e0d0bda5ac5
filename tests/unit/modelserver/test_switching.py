# SPDX-License-Identifier: GPL-3.0-or-later
"""Changing over from one instance to the next, before a systemd that is told how to behave."""

from __future__ import annotations

import json
import os

import pytest

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.modelserver import switching
from ansible_collections.attested.ai.plugins.module_utils.modelserver.failure import ServingError
from ansible_collections.attested.ai.plugins.module_utils.modelserver.switching import Wish

OLD, NEW = "a" * 16, "b" * 16
ORDER = {"command": ["/bin/server", "{path}"], "user": "nobody", "front_user": "nobody"}


class Systemd:
    """Units that start, or do not, and what was asked of it in order."""

    def __init__(self, folder):
        self.folder, self.active, self.asked, self.refuse, self.on_start = folder, [], [], "", None

    def __call__(self, argv):
        assert argv[0] == "systemctl"
        what, unit = argv[1], argv[-1]
        instance = unit.partition("@")[2][:16]
        if what in ("start", "stop"):
            self.asked.append((what, instance))
        if what == "start":
            if self.on_start:
                self.on_start(instance)
            if self.refuse:
                return 1, "", "Job failed"
            self.active.append(instance)
        elif what == "stop" and instance in self.active:
            self.active.remove(instance)
        elif what == "list-units":
            listed = [f"attested-model-m@{one}.service loaded active running x\n" for one in self.active]
            return 0, "".join([*listed, "attested-model-m@bad.service loaded failed\n"]), ""
        elif what == "show":
            name = argv[3].partition("=")[2]
            return 0, {"ActiveState": "active" if instance in self.active else "inactive", "StatusText": self.refuse, "Result": "exit-code"}[name] + "\n", ""
        return 0, "", ""


@pytest.fixture
def machine(tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "m").mkdir()
    return Systemd(tmp_path)


def wish(machine, instance, **more):
    return Wish(**{"name": "m", "instance": instance, "src": "/srv/m", "session": "s", "session_directory": str(machine.folder / "sessions"),
                   "dest": str(machine.folder / "open"), "order": ORDER, "directory": str(machine.folder), **more})  # fmt: skip


def serving(machine):
    try:
        return os.readlink(machine.folder / "m" / "current")
    except OSError:
        return None


def test_first_then_again_then_another(machine):
    seen = []
    machine.on_start = lambda instance: seen.append(json.loads((machine.folder / "m" / "orders" / f"{instance}.json").read_text()))
    assert switching.apply(wish(machine, OLD), machine, True)["changed"] is True and machine.asked == []
    first = switching.apply(wish(machine, OLD), machine, False)
    assert first["changed"] is True and serving(machine) == OLD and seen[0]["session"] == "s" and seen[0]["runtime"].endswith("m/" + OLD)
    # What it was told is gone, and the second run does nothing.
    assert os.listdir(machine.folder / "m" / "orders") == []
    machine.asked.clear()
    assert switching.apply(wish(machine, OLD, session=None), machine, False)["changed"] is False and machine.asked == []
    told = switching.apply(wish(machine, NEW), machine, True)
    assert told["changed"] is True and serving(machine) == OLD and machine.asked == []
    done = switching.apply(wish(machine, NEW), machine, False)
    # The old one ends only when the new one serves.
    assert machine.asked == [("start", NEW), ("stop", OLD)] and serving(machine) == NEW and machine.active == [NEW]
    assert {name: done[name] for name in ("serving", "before", "ended")} == {"serving": NEW, "before": OLD, "ended": [OLD]} == {
        name: told[name] for name in ("serving", "before", "ended")}  # fmt: skip


def test_new_model_that_does_not_open_leaves_the_old_one_serving(machine):
    switching.apply(wish(machine, OLD), machine, False)
    machine.refuse = "the key was released for another model"
    with pytest.raises(ServingError) as caught:
        switching.apply(wish(machine, NEW), machine, False)
    assert caught.value.code == "instance-failed" and "another model" in str(caught.value) and f"{OLD} is served as before" in str(caught.value)
    assert serving(machine) == OLD and machine.active == [OLD] and ("stop", OLD) not in machine.asked
    assert os.listdir(machine.folder / "m" / "orders") == []


def test_plaintext_that_can_be_seen_from_outside_is_not_served(machine):
    switching.apply(wish(machine, OLD), machine, False)
    machine.on_start = lambda instance: (machine.folder / "open" / "model").mkdir()
    with pytest.raises(ServingError) as caught:
        switching.apply(wish(machine, NEW), machine, False)
    assert caught.value.code == "not-private" and serving(machine) == OLD and machine.active == [OLD]


def test_what_an_interrupted_run_left_is_ended(machine):
    switching.apply(wish(machine, OLD), machine, False)
    machine.active.append("c" * 16)
    done = switching.apply(wish(machine, OLD), machine, False)
    assert done["changed"] is True and done["ended"] == ["c" * 16] and machine.active == [OLD]


def test_serving_instance_that_fell_over_is_started_anew(machine):
    switching.apply(wish(machine, OLD), machine, False)
    machine.active.clear()
    done = switching.apply(wish(machine, OLD), machine, False)
    assert done["changed"] is True and done["before"] is None and machine.active == [OLD]


def test_absent_ends_all(machine):
    switching.apply(wish(machine, OLD), machine, False)
    gone = wish(machine, None, state="absent", session=None)
    assert switching.apply(gone, machine, True)["changed"] is True and machine.active == [OLD]
    assert switching.apply(gone, machine, False)["changed"] is True and machine.active == [] and serving(machine) is None
    assert switching.apply(gone, machine, False)["changed"] is False


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"session": None}, "no-session"), ({"order": None}, "no-session"), ({"name": "../x"}, "name"), ({"instance": "x"}, "name"),
        ({"order": {**ORDER, "command": []}}, "order"), ({"order": {**ORDER, "port": 80}}, "order"), ({"order": {**ORDER, "file": "../x"}}, "order"),
        ({"order": {**ORDER, "env": {"A B": "x"}}}, "order"),
    ],
)  # fmt: skip
def test_wrong_words_start_nothing(machine, more, code):
    with pytest.raises(AttestedError) as caught:
        switching.apply(wish(machine, **{"instance": NEW, **more}), machine, False)
    assert caught.value.code == code and machine.asked == [] and machine.active == []
