"""The cheapest of several ways at every point, and exactly where that changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from infersim.ops.base import Numbers
from infersim.planning.distributions import Array

CUTS = 33
"""Points by which an interval is narrowed at once."""
CLOSE = 1e-12
"""Relative width to which a break-even point is narrowed."""
EQUAL = 1e-13
"""Share by which costs of one size differ by rounding alone."""
STEP = 1e-6
"""Share of the cost by which two ways differ beside a break-even where they step past each other there."""
Costs = Callable[[Array], Array]
"""Costs of every way (rows) at every point."""


def break_even_queries(fixed: Numbers, dearer: Numbers, cheaper: Numbers) -> Numbers:
    """Queries in a period from which on ``fixed`` USD, paid once in it, is earned back: N* = C / (c_dearer - c_cheaper).

    Infinite where the way that is paid for is no cheaper per query.

    >>> float(break_even_queries(3000.0, 0.012, 0.004)), float(break_even_queries(3000.0, 0.004, 0.012))
    (375000.0, inf)
    """
    with np.errstate(invalid="ignore"):
        saved = np.asarray(dearer, dtype=float) - cheaper
    return np.where(saved > 0, np.asarray(fixed) / np.where(saved > 0, saved, 1.0), math.inf)[()]


@dataclass(frozen=True)
class BreakEven:
    """A value of what is varied at which the cheapest way changes from ``below`` to ``above`` (numbers of the ways; -1: none).

    ``usd`` is the lowest cost there. ``jump``: the costs do not meet but step past each other, as whole replicas and limits do.
    """

    value: float
    below: int
    above: int
    usd: float
    jump: bool


def cheapest(costs: Array) -> Array:
    """Number of the cheapest way at every point, the first of equals but for rounding; -1 where none has a finite cost.

    >>> cheapest(np.array([[1.0, 5.0, np.inf], [2.0, 4.0, np.inf]])).tolist()
    [0, 1, -1]
    """
    known = np.where(np.isnan(costs), np.inf, costs)
    equal = known <= known.min(axis=0) * (1 + EQUAL)
    return np.where(np.isfinite(known).any(axis=0), equal.argmax(axis=0), -1)


def break_evens(costs: Costs, grid: Array) -> tuple[BreakEven, ...]:
    """Every change of the cheapest way between the first and the last point of a rising ``grid``, narrowed down to rounding.

    Between two neighbours of the grid at which the same way is cheapest no change is looked for.

    >>> found = break_evens(lambda x: np.array([2.0 + 0 * x, x]), np.geomspace(0.1, 10.0, 9))
    >>> [(round(one.value, 9), one.below, one.above, one.jump) for one in found]
    [(2.0, 1, 0, False)]
    """
    first = cheapest(costs(grid))
    found = []
    for place in np.flatnonzero(np.diff(first)).tolist():
        left, end = float(grid[place]), float(grid[place + 1])
        now = int(first[place])
        while now != first[place + 1]:
            low, high = left, end
            while high - low > CLOSE * max(abs(low), abs(high)):
                points = np.linspace(low, high, CUTS)
                other = np.flatnonzero(cheapest(costs(points)) != now)
                step = int(other[0]) if len(other) else CUTS - 1
                if step == 0:
                    break
                if points[step] >= high and points[step - 1] <= low:
                    break
                low, high = float(points[step - 1]), float(points[step])
            both = costs(np.array([low, high]))
            after = int(cheapest(both)[1])
            found.append(_change(high, now, after, both))
            if high <= left and after == now:
                break
            left, now = high, after
    return tuple(found)


def _change(value: float, below: int, above: int, costs: Array) -> BreakEven:
    at = [costs[way] if way >= 0 else np.full(2, np.inf) for way in (below, above)]
    spread = np.abs(np.array(at)) if np.isfinite(at).all() else None
    jump = spread is None or float(spread.max() - spread.min()) > STEP * float(spread.max())
    finite = costs[:, 1][np.isfinite(costs[:, 1])]
    return BreakEven(value, below, above, float(finite.min()) if len(finite) else math.inf, bool(jump))


def stretches(found: Sequence[BreakEven], first: int, low: float, high: float) -> list[tuple[int, float, float]]:
    """(way, from, to) along the range, in order.

    >>> stretches((BreakEven(2.0, 1, 0, 2.0, False),), 1, 0.1, 10.0)
    [(1, 0.1, 2.0), (0, 2.0, 10.0)]
    """
    edges = [low, *(one.value for one in found), high]
    ways = [first, *(one.above for one in found)]
    return [(way, start, end) for way, (start, end) in zip(ways, pairwise(edges), strict=True)]
