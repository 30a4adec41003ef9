"""Queues along a pipeline: what each stage adds on average and at a percentile, and the percentile of their sum.

A stage is M/M/c: ``servers`` that each take one query at a time. The numbers of queries at stages in a row are independent (Jackson
networks); waits of one query are nearly so, and are taken as independent: their sum is distributed as the convolution.
Sources: J. R. Jackson, Networks of Waiting Lines, Operations Research 5(4), 1957; P. J. Burke, The dependence of delays in tandem
queues, Annals of Mathematical Statistics 35(2), 1964; Kleinrock, Queueing Systems I, 1975, section 3.5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infersim.errors import SpecError
from infersim.serving.queueing import erlang_c

Array = NDArray[np.float64]
POINTS = 2048
"""Steps of time in which sums of waits are told apart."""
TAIL = 1e-6
"""Chance beyond which a time is cut off."""
MOST_SERVERS = 400
"""More servers than these are taken as so many faster ones; their queue is as good as none."""


@dataclass(frozen=True)
class Wait:
    """A wait in queue: none with chance 1 - ``chance``, else exponential with ``mean_if_waiting`` [s].

    >>> one = Wait(0.5, 2.0)
    >>> one.mean, round(one.percentile(95), 3)
    (1.0, 4.605)
    """

    chance: float
    mean_if_waiting: float

    @property
    def mean(self) -> float:
        return self.chance * self.mean_if_waiting

    def percentile(self, percent: float) -> float:
        """The wait that so many percent of queries do not exceed."""
        beyond = 1.0 - percent / 100.0
        return self.mean_if_waiting * math.log(self.chance / beyond) if self.chance > beyond else 0.0

    def below(self, seconds: Array) -> Array:
        """Chance of a wait of at most so many seconds."""
        if self.mean_if_waiting == 0:
            return np.where(seconds >= 0, 1.0, 0.0)
        return np.where(seconds >= 0, 1.0 - self.chance * np.exp(-np.maximum(seconds, 0.0) / self.mean_if_waiting), 0.0)

    @property
    def most(self) -> float:
        return self.percentile(100 * (1 - TAIL))


NONE = Wait(0.0, 0.0)


@dataclass(frozen=True)
class Scattered:
    """A time that is log-normal about its ``mean`` [s] with a coefficient of ``variation``.

    >>> round(Scattered(1.0, 0.35).percentile(95), 2)
    1.65
    """

    mean: float
    variation: float

    def percentile(self, percent: float) -> float:
        """The time that so many percent do not exceed."""
        from infersim.planning.service import tail_factor

        return float(self.mean * tail_factor(percent, self.variation))

    def below(self, seconds: Array) -> Array:
        """Chance of a time of at most so many seconds."""
        from scipy.special import ndtr

        sigma = math.sqrt(math.log1p(self.variation**2))
        if sigma == 0 or self.mean == 0:
            return np.where(seconds >= self.mean, 1.0, 0.0)
        score = (np.log(np.maximum(seconds, 1e-300) / self.mean) + sigma**2 / 2) / sigma
        return np.where(seconds > 0, ndtr(score), 0.0)

    @property
    def most(self) -> float:
        return self.percentile(100 * (1 - TAIL))


def stage_wait(rate: float, seconds: float, capacity: float, copies: int = 1) -> Wait:
    """The wait before a stage of ``copies``, each of which answers ``capacity`` queries per second, ``seconds`` each when alone.

    A copy counts as capacity x seconds servers (Little's law), one at least, that fill its capacity. Raises SpecError where the rate
    outruns the copies.

    >>> round(stage_wait(3.2, 1.0, 1.0, 4).mean, 5)
    0.74554
    """
    servers = max(round(capacity * seconds), 1) * copies
    load = rate / (capacity * copies)
    if load >= 1:
        raise SpecError(
            f"{rate:g} queries/s outrun {copies} cop{'y' if copies == 1 else 'ies'} of {capacity:.3g}/s each",
            field="rate",
        )
    counted = min(servers, MOST_SERVERS)
    chance = erlang_c(counted, load * counted)
    return Wait(chance, 1.0 / (capacity * copies * (1.0 - load)))


def percentile_of_sum(parts: Sequence[Wait | Scattered], percent: float) -> float:
    """The percentile of a sum of independent times [s]: their distributions convolved on a grid of POINTS steps.

    Each step counts at its upper end or its lower end by halves, so the mean is kept to a step. Check: two waits of one rate that always
    wait sum to Erlang-2, whose median is 1.678 means.

    >>> round(percentile_of_sum([Wait(1.0, 1.0), Wait(1.0, 1.0)], 50), 2)
    1.68
    """
    parts = [part for part in parts if part.most > 0]
    if not parts:
        return 0.0
    longest = sum(part.most for part in parts)
    step = longest / POINTS
    edges = np.asarray((np.arange(POINTS + 1) + 0.5) * step, dtype=np.float64)
    size = 2 * POINTS
    spectrum = np.ones(size // 2 + 1, dtype=complex)
    for part in parts:
        mass = np.diff(np.concatenate([[0.0], part.below(edges)]))
        spectrum *= np.fft.rfft(mass, size)
    total = np.cumsum(np.fft.irfft(spectrum, size))
    wanted = percent / 100.0
    place = min(int(np.searchsorted(total, wanted)), size - 1)
    before = total[place - 1] if place else 0.0
    share = (wanted - before) / max(total[place] - before, 1e-300)
    return float(max(place - 0.5 + share, 0.0) * step) if place else 0.0
