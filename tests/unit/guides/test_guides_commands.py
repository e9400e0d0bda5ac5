# SPDX-License-Identifier: GPL-3.0-or-later
"""No command of a page is without a test or a reason, and none is told of that is gone. tests/functional/test_commands.py runs those that can be run."""

from __future__ import annotations

import copy

import pytest

from .guides_commands import commands, counted, drift, pages, register
from .guides_lab import REPO, Guide


@pytest.fixture(scope="module")
def found():
    return {guide.name: commands(guide) for guide in pages()}


def test_every_command_of_every_page_is_run_or_says_why_not(found):
    told = register()
    wrong = list(drift(found, told))
    assert not wrong, "\n".join(wrong)
    count = counted(told)
    assert sum(count.values()) == sum(map(len, found.values())) > 100 and min(count["run"], count["by"]) > 30, count
    # A playbook can always be named to its own parser: a reason is for what is none.
    assert not [entry for page in told.values() for entry in page if "reason" in entry and entry["command"].startswith("ansible-playbook")]


def test_commands_are_found_wherever_they_stand():
    text = (
        "```console\n$ one --a \\\n    b   # why\nits output\n# two\n```\n\n- point\n\n  ```console\n  $ three\n  ```\n\n"
        "```\nmake four\nmake: *** five\nword\n```\n"
        "```sh\nX=1 tar six\n```\n```yaml\n# ansible-doc seven\n```\nType `ansible-doc\neight`, `tar`, ``make no`` and `nine`; `make four` again.\n"
    )
    places = commands(Guide(REPO / "docs" / "quickstart.md", text))
    assert list(places) == ["one --a b", "two", "three", "make four", "X=1 tar six", "ansible-doc eight"]
    assert [place.line for place in places.values()] == [2, 5, 11, 15, 20, 25]


ENTRY = "docs/fleet.md"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda told: told[ENTRY].pop(), "not in the register: PYTHONPATH"),
        (lambda told: told.pop("docs/soft-tee.md"), "docs/soft-tee.md:29: not in the register"),
        (lambda told: told[ENTRY].append({"command": "make coffee", "reason": "there is no machine for it here"}), "no longer there: make coffee"),
        (lambda told: told[ENTRY].append(told[ENTRY][0]), "twice in the register"),
        (lambda told: told[ENTRY][0].update(reason="both, and so neither of them"), "one of run, by, reason is needed"),
        (lambda told: told[ENTRY][0].pop("run"), "one of run, by, reason is needed"),
        (lambda told: told[ENTRY].__setitem__(0, {"command": told[ENTRY][0]["command"], "reason": "no"}), "that is no reason"),
        (lambda told: told[ENTRY].__setitem__(0, {"command": told[ENTRY][0]["command"], "by": []}), "by is empty"),
        (lambda told: told[ENTRY].__setitem__(0, {"command": told[ENTRY][0]["command"], "by": [{"stage": "gone"}]}), "there is no stage gone"),
        (
            lambda told: told[ENTRY].__setitem__(0, {"command": told[ENTRY][0]["command"], "by": [{"file": "tests/functional/gone.py", "holds": "x"}]}),
            "there is no tests/functional/gone.py",
        ),
        (
            lambda told: told[ENTRY].__setitem__(0, {"command": told[ENTRY][0]["command"], "by": [{"file": "tools/dev/stages.py", "holds": "no-such"}]}),
            "does not hold 'no-such'",
        ),
        (
            lambda told: told[ENTRY].__setitem__(0, {"command": told[ENTRY][0]["command"], "by": [{"page": "docs/awx.md"}]}),
            "docs/awx.md does not run it",
        ),
        (lambda told: told[ENTRY][0]["run"].update(sats=1), "unknown keys in run"),
    ],
)
def test_what_is_wrong_in_the_register_is_found(found, change, says):
    told = copy.deepcopy(register())
    change(told)
    wrong = list(drift(found, told))
    assert any(says in one for one in wrong), wrong
