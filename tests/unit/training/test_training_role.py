# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role makes of its sources: an empty variable is none, at both ends of the copy; and what was digested arrives as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLE = Path(__file__).resolve().parents[3] / "roles" / "training_job"
BROKER = {"url": "https://kbs.example.org", "resource": "kbs:///default/training-key/cells-1"}
SOURCES = [
    {"party": "a", "data": "/srv/a", "src": "", **BROKER},
    {"party": "b", "data": "", "src": "/srv/b", **BROKER},
    {"party": "c", "data": "/srv/c", **BROKER},
    {"party": "d", "src": "/srv/d", **BROKER},
]


def _task(file, name):
    tasks = DataLoader().load_from_file(str(ROLE / "tasks" / file), trusted_as_template=True)
    return next(task for task in (*tasks, *(inner for task in tasks for part in ("block", "always") for inner in task.get(part, ()))) if task["name"] == name)


def _templar(**given):
    values = DataLoader().load_from_file(str(ROLE / "vars" / "main.yml"), trusted_as_template=True)
    return Templar(DataLoader(), {**values, "training_job_home": "/h", "__training_job_agreed": {"digest": "ab" * 32}, **given})


def test_empty_is_not_given():
    templar, here = _templar(training_job_sources=SOURCES), "/h/" + "ab" * 8 + "/data/"
    copied = templar.template(_task("present.yml", "Bring the ciphertexts")["loop"])
    assert [one["party"] for one in copied] == ["a", "c"]
    given = templar.template(trust_as_template("{{ __training_job_given }}"))
    assert {one["party"]: one["src"] for one in given} == {"a": here + "a", "b": "/srv/b", "c": here + "c", "d": "/srv/d"}


@pytest.mark.parametrize("source", [*SOURCES, {}, {"data": "", "src": ""}, {"data": "/srv/a", "src": "/srv/a"}])
def test_one_of_both_is_asked_for(source):
    that = _task("assert.yml", "Stop unless it is clear where each ciphertext is")["ansible.builtin.assert"]["that"]
    assert _templar(item=source).evaluate_conditional(that) == (source in SOURCES)


def test_copies_are_not_decrypted():
    for name in ("Bring agreement and program", "Bring the ciphertexts"):
        assert _task("present.yml", name)["ansible.builtin.copy"]["decrypt"] is False


def test_what_a_job_left_is_fetched_however_it_ended():
    (block,) = [task for task in DataLoader().load_from_file(str(ROLE / "tasks" / "present.yml")) if "always" in task]
    assert ["attested.ai.training_run" in task for task in block["block"]] == [True] and len(block["always"]) == 3
    home = "/h/" + "ab" * 8
    names = ("results/log/sealed/job.log.tink", "checkpoints/3/training-result.json", "checkpoints/.new-1/sealed/x.tink", "checkpoints/.old-1/y")
    templar = _templar(__training_job_found={"files": [{"path": f"{home}/{name}"} for name in names]})
    task = _task("present.yml", "Fetch them")
    items = templar.template(task["loop"])
    name = task["vars"]["__training_job_name"]
    found = [_templar(item=item).template(name) for item in items]
    assert found == ["log/sealed/job.log.tink", "checkpoints/3/training-result.json"]
    listed = _task("present.yml", "List the results")["ansible.builtin.find"]["paths"]
    assert templar.template(listed) == [home + "/results"]
    agreed = {"digest": "ab" * 32, "checkpoints": {"keep": 2}}
    assert _templar(__training_job_agreed=agreed).template(listed) == [home + "/results", home + "/checkpoints"]


@pytest.mark.parametrize(
    ("path", "good"),
    [
        ("results/log/sealed/job.log.tink", True), ("checkpoints/3/..x", True), ("results/../../../../etc/cron.d/x", False), ("results/..", False),
        ("data/a/rows.tink", False), ("../other/results/x", False), ("results", False),
    ],
)  # fmt: skip
def test_a_guest_names_no_file_elsewhere(path, good):
    task = _task("present.yml", "Stop where it names a file that lies elsewhere")
    templar = _templar(__training_job_found={"files": [{"path": "/h/" + "ab" * 8 + "/" + path}]}, **task["vars"])
    assert all(templar.evaluate_conditional(that) for that in task["ansible.builtin.assert"]["that"]) == good
