"""How long something takes: warm up, sample for a while, and say the middle and the spread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

LEAST_SAMPLE = 1e-3
"""A sample is made of as many calls as take this long, so that the clock's own cost does not count [s]."""

WARM = 0.15
"""Warm-up ends when a call takes the time of the one before, within this share."""


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: median over samples, the least, and the interquartile range over the median."""

    seconds: float
    least: float
    spread: float
    samples: int
    calls: int
    """Calls in each sample."""


def summarise(seconds: Sequence[float], calls: int = 1) -> Timing:
    """Robust statistics of samples; one wild sample among several moves nothing.

    >>> summarise([1.0, 1.02, 0.98, 1.01, 50.0]).seconds
    1.01
    """
    ordered = sorted(seconds)
    middle = statistics.median(ordered)
    low, _, high = statistics.quantiles(ordered, n=4) if len(ordered) > 2 else (ordered[0], middle, ordered[-1])
    return Timing(middle, ordered[0], (high - low) / middle if middle else 0.0, len(ordered), calls)


def measure(
    sample: Callable[[int], float],
    *,
    target: float = 0.1,
    samples: tuple[int, int] = (5, 30),
    least_calls: int = 1,
    least: float = LEAST_SAMPLE,
    clock: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Time of one call of what ``sample(calls)`` runs that many times and returns the seconds of.

    At least the first of ``samples`` are taken and at most the second, and none beyond the first is begun after ``target``
    seconds. A sample holds ``least_calls`` at least.
    """
    begun = clock()
    before = sample(1)
    for _ in range(4):
        now = sample(1)
        settled = abs(now - before) <= WARM * before
        before = min(now, before)
        if settled or clock() - begun > target:
            break
    calls = max(least_calls, min(10_000, round(least / max(before, 1e-9))))
    if calls > 1:
        calls = max(least_calls, min(10_000, round(least / max(sample(calls) / calls, 1e-9))))
    found: list[float] = []
    begun = clock()
    while len(found) < samples[1] and (len(found) < samples[0] or clock() - begun < target):
        found.append(sample(calls) / calls)
    return summarise(found, calls)
