"""When a simulated system has settled, and whether it ever will."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def warm_up(values: Array, *, batch: int = 5) -> int:
    """How many leading observations belong to the warm-up: the MSER rule on means of ``batch`` of them.

    Of all cuts d in the first half, the one with the least variance of the rest over its squared length:
    MSER(d) = sum_{i >= d} (x_i - mean_d)^2 / (n - d)^2. White, Simulation 69(6), 1997.

    >>> settled = np.random.default_rng(0).normal(1.0, 0.1, 400)
    >>> 40 <= warm_up(np.concatenate([np.linspace(9, 1, 50), settled])) <= 60
    True
    """
    count = len(values) // batch
    if count < 4:
        return 0
    means = values[: count * batch].reshape(count, batch).mean(axis=1)
    left = np.arange(count, 0, -1)
    total, squares = np.cumsum(means[::-1])[::-1], np.cumsum(np.square(means)[::-1])[::-1]
    scores = (squares - total**2 / left) / left**2
    return int(np.argmin(scores[: count // 2 + 1])) * batch


def backlog_growth(arrival: Array, finish: Array) -> tuple[float, float]:
    """(requests per second by which the number in the system grows over the second half of the arrivals, its uncertainty).

    The uncertainty is that of Poisson counts of arrivals and ends in that time: sqrt(both) / time. ``finish`` is infinite
    where a request has not ended.
    """
    if len(arrival) < 20:
        return 0.0, np.inf
    end, middle = float(arrival[-1]), float(arrival[len(arrival) // 2])
    span = end - middle
    if span <= 0:
        return 0.0, np.inf
    come = float(np.count_nonzero(arrival > middle))
    gone = float(np.count_nonzero((finish > middle) & (finish <= end)))
    return (come - gone) / span, float(np.sqrt(come + gone)) / span


def is_unstable(arrival: Array, finish: Array, waited: Array) -> bool:
    """Whether arrivals outran service: the number in the system grew beyond chance and by over 3% of the arrivals, and
    requests of the last quarter waited at least twice as long for their first token as those of the second."""
    growth, doubt = backlog_growth(arrival, finish)
    count = len(arrival)
    if not np.isfinite(doubt) or growth < 3 * doubt / np.sqrt(2):
        return False
    rate = count / max(float(arrival[-1] - arrival[0]), 1e-12)
    second, last = waited[count // 4 : count // 2], waited[3 * count // 4 :]
    return growth > 0.03 * rate and float(np.median(last)) > 2 * float(np.median(second))


def most_at_once(start: Any, end: Any) -> int:
    """The largest number of intervals that overlap; one that ends as another starts does not count.

    >>> most_at_once([0.0, 1.0, 2.0], [2.0, 3.0, 4.0])
    2
    """
    starts, ends = np.sort(start), np.sort(end)
    gone = np.searchsorted(ends, starts, side="right")
    return int(np.max(np.arange(1, len(starts) + 1) - gone, initial=0))
