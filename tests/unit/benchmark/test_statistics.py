# SPDX-License-Identifier: GPL-3.0-or-later
"""Intervals against distributions whose middle is known."""

from __future__ import annotations

import math
import random

import pytest

from ansible_collections.attested.ai.plugins.module_utils.benchmark.statistics import bootstrap, by_order, interval, least_pairs, outliers, quantile

DRAWS = {
    "normal": lambda source: source.gauss(0.0, 1.0),
    "skewed": lambda source: source.expovariate(1.0) - math.log(2),
    "heavy tails": lambda source: math.tan(math.pi * (source.random() - 0.5)),
}


@pytest.mark.parametrize("kind", sorted(DRAWS))
def test_the_interval_holds_the_middle_about_as_often_as_it_says(kind):
    source, trials = random.Random(7), 160
    hits = 0
    for trial in range(trials):
        low, high = bootstrap([DRAWS[kind](source) for _number in range(21)], 0.9, resamples=150, seed=trial)
        hits += low <= 0.0 <= high
    # 0.9 plus or minus three times the deviation of 160 trials; and an interval that is always right would be far too wide.
    assert 0.82 <= hits / trials <= 0.98


@pytest.mark.parametrize("kind", sorted(DRAWS))
def test_few_values_never_make_it_surer_than_it_says(kind):
    source = random.Random(11)
    hits = 0
    for _trial in range(2000):
        low, high = by_order([DRAWS[kind](source) for _number in range(9)], 0.95)
        hits += low <= 0.0 <= high
    assert 0.945 <= hits / 2000 <= 0.99


def test_the_order_gives_the_ranks_of_the_tables():
    # Tables of the sign test: for 10 values and 95 % the second and the ninth, for 6 the first and the last.
    assert by_order(range(1, 11), 0.95) == (2, 9) and by_order(range(1, 7), 0.95) == (1, 6) and by_order(range(1, 26), 0.95) == (8, 18)
    assert [least_pairs(confidence) for confidence in (0.5, 0.95, 0.995)] == [2, 6, 9]


def test_pairs_take_out_what_both_sides_saw():
    source = random.Random(3)
    drift = [source.uniform(1, 4) for _number in range(20)]
    found = interval([value * 1.1 for value in drift], drift, 0.95)
    assert found.low == pytest.approx(1.1) and found.high == pytest.approx(1.1) and found.pairs == 20


def test_it_is_the_same_at_every_call_and_turns_round_with_its_sides():
    on, off = [1.0, 1.3, 1.1, 1.2, 1.4, 1.05, 1.15], [1.0, 1.1, 1.0, 1.1, 1.2, 1.1, 1.0]
    once, again, turned = interval(on, off, 0.95), interval(on, off, 0.95), interval(off, on, 0.95)
    assert once == again
    assert turned.middle == pytest.approx(1 / once.middle)
    assert min(a / b for a, b in zip(on, off, strict=True)) <= once.low <= once.middle <= once.high <= max(a / b for a, b in zip(on, off, strict=True))


def test_outliers_are_those_beyond_the_outer_fences():
    assert outliers([1.0, 1.1, 0.9, 1.0, 1.05, 0.95, 9.0]) == 1
    assert outliers([1.0] * 6) == 0
    assert quantile([1.0, 2.0, 3.0], 0.5) == 2.0 and quantile([5.0], 0.99) == 5.0
