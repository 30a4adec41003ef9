"""How many tokens an answer takes: thinking included, capped by a budget; and the longest of several answers."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from infersim.serving.lengths import Lengths

Array = npt.NDArray[np.float64]
Numbers = Any
POINTS = 128
"""Quantiles by which each distribution is represented; a sum of two has their square."""


def harmonic(n: int) -> float:
    """H_n = 1 + 1/2 + ... + 1/n: the mean of the longest of n exponential times, over the mean of one.

    >>> round(harmonic(8), 3), round(harmonic(32), 3)
    (2.718, 4.058)
    """
    return float((1.0 / np.arange(1, n + 1)).sum())


def longest_of_exponential(mean: Numbers, n: int) -> Numbers:
    """Mean of the longest of ``n`` independent exponential lengths: mean x H_n.

    >>> round(float(longest_of_exponential(400.0, 8)), 1)
    1087.1
    """
    return np.asarray(mean) * harmonic(n)


@dataclass(frozen=True, eq=False)
class Outputs:
    """A distribution of output lengths as equally likely values, rising [tokens]."""

    values: Array

    @functools.cached_property
    def mean(self) -> float:
        return float(self.values.mean())

    def longest_of(self, n: int) -> float:
        """Mean of the longest of ``n`` independent ones: sum of v_i ((i / N)^n - ((i - 1) / N)^n).

        >>> Outputs(np.array([100.0, 200.0])).longest_of(2)
        175.0
        """
        reached = (np.arange(len(self.values) + 1) / len(self.values)) ** n
        return float((self.values * np.diff(reached)).sum())

    def __add__(self, other: Outputs) -> Outputs:
        """The sum of two independent ones."""
        return Outputs(np.sort(np.add.outer(self.values, other.values).ravel()))

    def capped(self, most: float) -> Outputs:
        """Cut at a budget: what would be longer ends there."""
        return Outputs(np.minimum(self.values, most))


def outputs_of(lengths: Lengths, points: int = POINTS) -> Outputs:
    """A distribution by ``points`` of its quantiles.

    >>> from infersim.serving.lengths import Fixed
    >>> outputs_of(Fixed(tokens=300)).longest_of(8)
    300.0
    """
    middles = (np.arange(points) + 0.5) / points
    return Outputs(np.sort(np.asarray(lengths.quantile(middles), dtype=float)))


def answer_tokens(answer: Lengths, thinking: Lengths | None = None, budget: float | None = None) -> Outputs:
    """Tokens of an answer: thinking, cut at ``budget``, and the answer after it, taken as independent.

    >>> from infersim.serving.lengths import Fixed, Uniform
    >>> round(answer_tokens(Fixed(tokens=200), Uniform(low=1, high=4000), budget=1000).mean)  # 200 + 1000 x 3/4 + 500 / 4
    1075
    """
    if thinking is None:
        return outputs_of(answer, POINTS * POINTS)
    thought = outputs_of(thinking)
    return outputs_of(answer) + (thought if budget is None else thought.capped(budget))


def majority_correct(correct: float, answers: int) -> float:
    """Chance that more than half of ``answers`` independent answers are right where each is with chance ``correct``; of an even
    split half the times. Answers of one model are not independent: an upper bound above one half, not a forecast.

    >>> round(majority_correct(0.6, 1), 4), round(majority_correct(0.6, 5), 4), round(majority_correct(0.5, 4), 4)
    (0.6, 0.6826, 0.5)
    """
    from math import comb

    chances = [comb(answers, k) * correct**k * (1 - correct) ** (answers - k) for k in range(answers + 1)]
    return sum(p * (1.0 if 2 * k > answers else 0.5 if 2 * k == answers else 0.0) for k, p in enumerate(chances))


def any_correct(correct: Numbers, answers: Numbers) -> Numbers:
    """Chance that at least one of ``answers`` independent answers is right: what a perfect judge finds, pass@n.

    >>> round(float(any_correct(0.3, 8)), 4)
    0.9424
    """
    return 1.0 - (1.0 - np.asarray(correct, dtype=float)) ** answers
