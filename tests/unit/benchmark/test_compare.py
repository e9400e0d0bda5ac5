# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparisons: effects, verdicts beside published figures, differences that are named, and what is refused."""

from __future__ import annotations

import math

import pytest

from ansible_collections.attested.ai.plugins.module_utils.benchmark import published, view
from ansible_collections.attested.ai.plugins.module_utils.benchmark.compare import compare
from ansible_collections.attested.ai.plugins.module_utils.benchmark.failure import BenchmarkError
from ansible_collections.attested.ai.plugins.module_utils.planning.tables import table

from .overhead_lab import passes, plain, side


OLD = {"gpu": "Old", "gpu_capability": "8.0"}


def row(on=(), off=(), number=12):
    (found,) = compare(passes(side, number, **dict(on)), passes(plain, number, **dict(off)))["rows"]
    return found


@pytest.mark.parametrize(
    ("slower", "effect", "verdict"),
    [(1.0, "none-seen", "within"), (30, "slower", "within"), (34, "slower", "undecided"), (60, "slower", "more"), (0.5, "faster", "within")],
)
def test_a_ratio_stands_beside_the_published_one(slower, effect, verdict):
    found = row({"slower": slower})
    assert (found["effect"], found["verdict"], found["figure"]) == (effect, verdict, "load")
    assert found["low"] <= found["ratio"] <= found["high"] and found["ratio"] == pytest.approx(slower, rel=0.03)
    assert "arXiv 2606.23969" in found["because"]


@pytest.mark.parametrize(
    ("on", "off", "because"),
    [
        ({"machine": {"kernel": "6.13.0"}}, {}, "the sides differ in more than the TEE: kernel"),
        ({"machine": OLD}, {"machine": OLD}, "of other machines than this one"),
        ({"tee": "none"}, {}, "neither side is known to be a TEE"),
        ({}, {"tee": "tdx"}, "not known to run in no TEE"),
        ({}, {"tee": "unknown"}, "not known to run in no TEE"),
        ({"cc": "off"}, {}, "CC mode of the GPU is off on the side called on, off on the other"),
        ({}, {"cc": "on"}, "on on the side called on, on on the other"),
        ({"cc": None}, {}, "CC mode of the GPU is unknown on the side called on"),
        ({"names": ["serving.itl.1"]}, {"names": ["serving.itl.1"]}, "without an upper end"),
        ({"names": ["cpu.hash"]}, {"names": ["cpu.hash"]}, "of whole inference"),
        ({"names": ["new.thing"]}, {"names": ["new.thing"]}, "no figure for it was published"),
    ],
)
def test_what_cannot_be_held_against_a_figure_says_why(on, off, because):
    found = row(on, off)
    assert found["verdict"] == "not-comparable" and found["because"].startswith("not comparable, because") and because in found["because"]


def test_other_differences_are_named_with_both_values():
    document = compare([side(machine={"driver": "1", "cpu": "Other"})], [plain()])
    assert {one["what"] for one in document["differences"]} == {"driver", "cpu"}
    text = " ".join(view.notes(document))
    assert "differ in driver: 1 on, 590.48.01 off" in text and "7 of 32768 slots" in text


def test_sides_that_are_not_what_they_are_called_are_told():
    text = " ".join(compare([side(tee="none", cc="off")], [plain(tee="tdx")])["warnings"])
    assert "in no TEE" in text and "off says of itself that it runs in a TEE (tdx)" in text and "CC mode: off" in text


def test_one_side_alone_is_shown_with_the_reason():
    off = plain()
    off["absent"] = {"attestation": "no TEE"}
    document = compare([side(names=["gpu.load", "attestation"])], [off])
    assert document["only"][0]["why"] == "no TEE"
    assert any(line["measure"] == "attestation" and "no TEE" in line["found"] for line in view.summary(document))


def test_few_passes_are_no_pairs():
    assert "4 passes are too few, 6 are needed" in row(number=4)["because"] and row(number=4)["effect"] == "unknown"
    (found,) = compare(passes(side, 7), passes(plain, 8))["rows"]
    assert "7 and 8 passes are no pairs" in found["because"]


def test_what_slowed_a_whole_pass_is_one_pair_and_not_many():
    # Each pass has its own luck, which all of its rounds share: ten passes of which five were slow show nothing.
    on = [side(slower=2.0 if number % 2 else 0.5, rounds=50, seed=number) for number in range(10)]
    assert compare(on, passes(plain, 10, rounds=50))["rows"][0]["effect"] == "none-seen"


def test_a_gap_drops_the_measurement_with_its_reason():
    gap = side()
    del gap["measures"]["gpu.load"]
    gap["absent"]["gpu.load"] = "it broke"
    document = compare([side(), gap], [plain(), plain()])
    assert not document["rows"] and document["on"]["absent"]["gpu.load"] == "it broke"


def test_many_rows_share_the_doubt():
    names = ["gpu.load", *(f"x.{number}" for number in range(30))]
    many = compare(passes(side, names=names), passes(plain, names=names))["rows"][0]
    assert many["high"] - many["low"] > row()["high"] - row()["low"]


def broken(**given):
    return {**side(), **given}


@pytest.mark.parametrize(
    ("on", "off", "code"),
    [
        ([], [plain()], "document"),
        (["text"], [plain()], "document"),
        ([broken(schema="attested.ai/overhead/2")], [plain()], "document"),
        ([broken(measures={"gpu.load": {"seconds": [0.1, 0.0]}})], [plain()], "document"),
        ([broken(measures={"gpu.load": {"seconds": [math.inf]}})], [plain()], "document"),
        ([broken(measures={"gpu.load": {"seconds": []}})], [plain()], "document"),
        ([broken(measures={"../x": {"seconds": [1.0]}})], [plain()], "document"),
        ([side(), side(machine={"kernel": "later"})], [plain()], "passes-differ"),
        ([side(rounds=7)], [plain(rounds=8)], "settings-differ"),
    ],
)
def test_what_is_no_pair_of_sides_is_refused(on, off, code):
    with pytest.raises(BenchmarkError) as caught:
        compare(on, off)
    assert caught.value.code == code


@pytest.mark.parametrize("confidence", [0.2, 1, True, "much"])
def test_confidence_is_one(confidence):
    with pytest.raises(BenchmarkError, match="confidence"):
        compare([side()], [plain()], confidence)


def test_every_figure_that_is_named_is_there_and_covers_what_it_claims():
    figures = {one["id"]: one for one in table("performance")["figures"]}
    for one in published.rows()["rows"]:
        assert one["figure"] in figures and one["most"] > 1
    # The ratio follows from the published words: 0.998 of plain, 27 % and 7 % less throughput.
    most = {(one["measure"], one["figure"]): one["most"] for one in published.rows()["rows"]}
    assert most["gpu.matmul.", "serving-bridge"] == pytest.approx(1 / 0.998, abs=1e-4)
    assert most["serving.whole.", "serving-bridge"] == pytest.approx(1 / 0.73, abs=1e-3)
    assert most["serving.whole.", "gpu-llm"] == pytest.approx(1 / 0.93, abs=1e-4)


@pytest.mark.parametrize(("seconds", "size", "text"), [(2.0, None, "2 s"), (0.0021, None, "2.1 ms"), (1e-6, 4096, "1 us (4.10 GB/s)")])
def test_times_read_well(seconds, size, text):
    assert view.amount(seconds, size) == text
