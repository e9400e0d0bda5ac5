# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Paired differences, their median, and how sure it is. Pure: randomness comes from a seed, so that the same figures give the same answer."""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import dataclass
from typing import List, Sequence, Tuple

RESAMPLES = 2000
# Tukey's outer fences.
FENCE = 3.0


@dataclass(frozen=True)
class Interval:
    """Of the ratio on/off: 1.02 is 2 % slower. ``low`` and ``high`` hold the true ratio with ``confidence``."""

    middle: float
    low: float
    high: float
    confidence: float
    pairs: int


def log_ratios(on: Sequence[float], off: Sequence[float]) -> List[float]:
    """One for each pair. A ratio, because both sides are times, and noise of times is multiplied rather than added."""
    return [math.log(one / other) for one, other in zip(on, off)]


def quantile(ordered: Sequence[float], part: float) -> float:
    """Of values in order, between neighbours by weight."""
    place = part * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def bootstrap(values: Sequence[float], confidence: float, resamples: int = RESAMPLES, seed: int = 1) -> Tuple[float, float]:
    """Percentile interval of the median. For few values and high confidence it approaches their whole range, and never leaves it."""
    source, count = random.Random(seed), len(values)
    medians = sorted(statistics.median(source.choices(values, k=count)) for _number in range(resamples))
    tail = (1 - confidence) / 2
    return quantile(medians, tail), quantile(medians, 1 - tail)


def least_pairs(confidence: float) -> int:
    """With fewer, even their whole range does not hold the middle so often."""
    return max(2, math.ceil(1 - math.log2(1 - confidence)))


def by_order(values: Sequence[float], confidence: float) -> Tuple[float, float]:
    """The interval that the binomial distribution gives for the median, whatever the distribution of the values. The bootstrap is too sure of few."""
    ordered, count = sorted(values), len(values)
    below, place = 0.0, 0
    for number in range(count // 2):
        below += math.comb(count, number) / 2.0**count
        if 2 * below > 1 - confidence + 1e-12:
            break
        place = number
    return ordered[place], ordered[count - 1 - place]


def interval(on: Sequence[float], off: Sequence[float], confidence: float, resamples: int = RESAMPLES) -> Interval:
    """``on`` and ``off`` are pairs by their place, at least ``least_pairs(confidence)`` of them. The wider of both intervals on each end."""
    ratios = log_ratios(on, off)
    (low, high), (lower, higher) = bootstrap(ratios, confidence, resamples), by_order(ratios, confidence)
    return Interval(math.exp(statistics.median(ratios)), math.exp(min(low, lower)), math.exp(max(high, higher)), confidence, len(ratios))


def outliers(values: Sequence[float]) -> int:
    """How many lie outside the outer fences. They are counted and stay: a rare slow copy may be the very thing."""
    ordered = sorted(values)
    first, third = quantile(ordered, 0.25), quantile(ordered, 0.75)
    reach = FENCE * (third - first)
    return sum(1 for value in values if value < first - reach or value > third + reach)
