"""What would have to be true for option B to beat option A: one assumption at a time, and the likeliest change of several together."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from infersim.errors import SpecError
from infersim.planning.assumptions import Assumption, Assumptions
from infersim.planning.distributions import Array, chance_below
from infersim.planning.options import frame
from infersim.planning.sensitivity import Metric
from infersim.planning.uncertainty import show_chance

GRID = 33
"""Values of an assumption at which the two options are compared before a crossing is pinned down."""
REACH = 8.0
"""Factor to both sides of the base value up to which a crossing of a positive assumption is looked for."""
FARTHEST = 5.0
"""Standard scores up to which several assumptions are moved together."""
Gap = Callable[[Mapping[str, Any]], tuple[Array, Array, Array]]
"""Figures of A and B, and B's less A's."""
CLOSE = 1e-5
"""Relative width to which a crossing is narrowed."""
STEEP = 1e-3
"""Share of the figures by which they differ ten such widths beside a crossing where they step past each other there."""
TOLD = 0.9
"""Share of the squared slope that the assumptions moved together hold at least."""


@dataclass(frozen=True)
class Crossing:
    """A value of an assumption at which the cheaper option changes.

    ``jump``: the figures do not meet there but step past each other, as whole replicas do. ``chance``: probability that the
    assumption lies on the far side of the value as seen from its base; None where it is not uncertain but chosen.
    """

    value: float
    a: float
    """Figure of A at the value, or just past it where there is a jump."""
    b: float
    jump: bool
    b_wins_above: bool
    chance: float | None


@dataclass(frozen=True)
class Flip:
    """All crossings that one assumption brings about by itself within the range searched."""

    name: str
    unit: str
    base: float
    searched: tuple[float, float]
    crossings: tuple[Crossing, ...]

    @property
    def nearest(self) -> Crossing | None:
        """The crossing that is most likely to lie within reach; None where no value in the range does it."""
        return max(self.crossings, key=lambda c: (c.chance or 0.0, -abs(c.value - self.base)), default=None)


@dataclass(frozen=True)
class Combined:
    """The fewest assumptions that matter, moved together until the choice flips, in the direction that gains most per standard score.

    ``distance``: how far in standard scores, the reliability index of Hasofer and Lind (1974) by one linear step, taking assumptions as
    independent. ``values`` of those moved, the one moved farthest first.
    """

    distance: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class Flips:
    """What would change the choice between A and B.

    >>> known = Assumptions((Assumption.around("price", 2.0, 1.5, 3.0),))
    >>> found = flips(lambda v: 10 * v["price"], lambda v: 25.0 + 0 * v["price"], known)
    >>> round(found.each[0].crossings[0].value, 6), found.cheaper
    (2.5, 'A')
    """

    names: tuple[str, str]
    figure: str
    a: float
    """The figure of A with all assumptions at their base values."""
    b: float
    each: tuple[Flip, ...]
    combined: Combined | None

    @property
    def cheaper(self) -> str | None:
        """The option that is better now; None where neither is."""
        if not (self.a < self.b or self.b < self.a):
            return None
        return self.names[0] if self.a < self.b else self.names[1]

    def sentences(self) -> list[str]:
        """A sentence per assumption that flips the choice, the likeliest first, and one for those that do not."""
        cheaper = self.cheaper
        other = self.names[1] if cheaper == self.names[0] else self.names[0]
        found = sorted((flip for flip in self.each if flip.crossings), key=_likely)
        told = [f"{other} wins if {_sentence(flip)}" for flip in found] if cheaper else []
        if not cheaper:
            told = [f"the choice changes if {_sentence(flip)}" for flip in found]
        silent = [flip.name for flip in self.each if not flip.crossings]
        if silent:
            told.append(f"no value in the range searched does it alone: {', '.join(silent)}")
        if self.combined is not None:
            moved = ", ".join(f"{name} {value:.4g}" for name, value in self.combined.values.items())
            told.append(f"together, {self.combined.distance:.1f} standard scores away: {moved}")
        return told

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, infinite ones as None."""
        return {
            "a": self.names[0], "b": self.names[1], "figure": self.figure, "figure_of_a": _finite(self.a), "figure_of_b": _finite(self.b),
            "better_now": self.cheaper,
            "alone": [
                {"assumption": flip.name, "unit": flip.unit, "base": flip.base, "searched": list(flip.searched),
                 "crossings": [{"value": c.value, "figure_of_a": _finite(c.a), "figure_of_b": _finite(c.b), "jump": c.jump,
                                "b_wins_above": c.b_wins_above, "chance": c.chance} for c in flip.crossings]}
                for flip in self.each
            ],
            "together": self.combined and {"standard_scores": self.combined.distance, "values": dict(self.combined.values)},
        }  # fmt: skip

    def to_frame(self) -> Any:
        """One row per crossing, as a pandas frame."""
        return frame([{"assumption": flip["assumption"], "unit": flip["unit"], "base": flip["base"], **crossing}
                      for flip in self.to_dict()["alone"] for crossing in flip["crossings"]])  # fmt: skip

    def __str__(self) -> str:
        return "\n".join(self.sentences())


def flips(
    a: Metric, b: Metric, assumptions: Assumptions, *, names: tuple[str, str] = ("A", "B"), figure: str = "cost",
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> Flips:  # fmt: skip
    """Where B's figure falls below A's, or A's below B's: every uncertain assumption alone over its range with the others at base.

    The lower figure wins; an infinite one is out of reach. Ranges default to a factor of eight to both sides of the base for positive
    assumptions, to 0.1% .. 99.9% for shares, to the 0.1% .. 99.9% quantiles for others. All crossings that a grid of 33 values shows
    are narrowed down by ``scipy.optimize.brentq``, monotone or not. A certain assumption, such as a target, is
    varied where ``ranges`` names it. SpecError where there is nothing to vary.
    """
    base, given = assumptions.base(), dict(ranges or {})
    for name in given:
        assumptions[name]
    items = [item for item in assumptions if item.uncertain or item.name in given]
    if not items:
        raise SpecError("has no uncertain assumption to vary; give one a range", field="assumptions")

    def gap(values: Mapping[str, Any]) -> tuple[Array, Array, Array]:
        shape = np.broadcast_shapes(*(np.shape(value) for value in values.values()))
        one, two = (np.broadcast_to(np.asarray(metric(values), dtype=float), shape) for metric in (a, b))
        with np.errstate(invalid="ignore"):
            return one, two, two - one

    at_a, at_b, _ = (float(value) for value in gap(base))
    each = tuple(_flip(gap, base, item, given.get(item.name)) for item in items)
    return Flips(names, figure, at_a, at_b, each, _combined(gap, assumptions, at_b - at_a))


def _range(item: Assumption) -> tuple[float, float]:
    if item.scale == "log":
        return item.base / REACH, item.base * REACH
    if item.scale == "logit":
        return 0.001, 0.999
    return item.quantile(0.1), item.quantile(99.9)


def _flip(gap: Gap, base: Mapping[str, float], item: Assumption, given: tuple[float, float] | None) -> Flip:
    from scipy.optimize import brentq

    low, high = given or _range(item)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise SpecError(f"is a range from a lower to a higher value, got {low:g} to {high:g}", field=item.name)
    logarithmic = low > 0 and (item.scale == "log" or not item.uncertain)
    grid = np.geomspace(low, high, GRID) if logarithmic else np.linspace(low, high, GRID)
    if low < item.base < high:
        grid = np.union1d(grid, item.base)

    def at(value: Any) -> tuple[Array, Array, Array]:
        return gap({**base, item.name: np.atleast_1d(np.asarray(value, dtype=float))})

    signs = np.sign(at(grid)[2])
    found = []
    for left, right in _changes(signs):
        value = float(
            brentq(lambda x: _clipped(at(x)[2][0]), grid[left], grid[right], rtol=CLOSE, xtol=abs(grid[right]) * CLOSE)
        )
        width = 10 * CLOSE * max(abs(grid[left]), abs(grid[right]))
        one, two, gaps = at(np.array([value - width, value, value + width]))
        finite = bool(np.isfinite(gaps).all())
        jump = not finite or bool(np.abs(gaps).max() > STEEP * max(abs(one[1]), abs(two[1])))
        past = 1 if not jump else 2 if signs[right] < 0 else 0  # the side where B wins
        score = item.distribution.score(value)
        chance = float(chance_below(score if value < item.base else -score)) if item.uncertain else None
        found.append(Crossing(value, float(one[past]), float(two[past]), jump, bool(signs[right] < 0), chance))
    return Flip(item.name, item.unit, item.base, (float(grid[0]), float(grid[-1])), tuple(found))


def _changes(signs: Array) -> list[tuple[int, int]]:
    """Neighbours of the grid between which the sign changes; zeros and what cannot be compared (both out of reach) are skipped."""
    told = [place for place, sign in enumerate(signs) if sign != 0 and not math.isnan(sign)]
    return [(i, j) for i, j in pairwise(told) if signs[i] != signs[j] and not np.isnan(signs[i : j + 1]).any()]


def _clipped(gap: float) -> float:
    """A gap that root finding can work with: infinite ones are large, incomparable ones zero."""
    return float(np.clip(np.nan_to_num(gap, nan=0.0), -1e30, 1e30))


def _combined(gap: Gap, assumptions: Assumptions, now: float) -> Combined | None:
    """One step of the first-order reliability method: the direction of steepest change over one score, walked until the sign flips."""
    if now == 0 or not math.isfinite(now):
        return None
    items = assumptions.uncertain
    start = np.array([item.distribution.score(item.base) for item in items])
    base = {name: np.full(2 * len(items), value) for name, value in assumptions.base().items()}
    for place, item in enumerate(items):
        for side in (0, 1):
            base[item.name][2 * place + side] = item.distribution.value(start[place] + (1.0, -1.0)[side])
    moved = gap(base)[2]
    slope = np.nan_to_num(moved[::2] - moved[1::2], nan=0.0, posinf=0.0, neginf=0.0)
    order = np.argsort(-np.abs(slope))
    squares = np.cumsum(slope[order] ** 2)
    if squares[-1] == 0:
        return None
    moved_most = order[: int(np.searchsorted(squares, TOLD * squares[-1])) + 1]
    direction = np.zeros(len(items))
    direction[moved_most] = -math.copysign(1.0, now) * slope[moved_most] / np.linalg.norm(slope[moved_most])

    def values(distances: Array) -> dict[str, Any]:
        found: dict[str, Any] = {name: np.full(len(distances), value) for name, value in assumptions.base().items()}
        for place in moved_most:
            item = items[place]
            found[item.name] = item.distribution.value(start[place] + distances * direction[place])
        return found

    low, high = 0.0, FARTHEST
    for _ in range(3):  # 50 steps each narrow the distance to 4e-5 scores
        distances = np.linspace(low, high, 51)
        flipped = np.sign(gap(values(distances))[2]) * np.sign(now) < 0
        if not flipped.any():
            return None
        place = int(np.argmax(flipped))
        low, high = float(distances[max(place - 1, 0)]), float(distances[place])
    there = values(np.array([high]))
    return Combined(high, {items[place].name: float(there[items[place].name][0]) for place in moved_most})


def _likely(flip: Flip) -> float:
    """Order of sentences: the likeliest first, choices last."""
    return math.inf if flip.nearest is None or flip.nearest.chance is None else -flip.nearest.chance


def _sentence(flip: Flip) -> str:
    nearest = flip.nearest
    assert nearest is not None
    chance = "a choice" if nearest.chance is None else f"chance {show_chance(nearest.chance)}"
    side = "falls below" if nearest.value < flip.base else "rises above"
    unit = f" {flip.unit}" if flip.unit else ""
    more = f"; {len(flip.crossings)} crossings in all" if len(flip.crossings) > 1 else ""
    return f"{flip.name} {side} {nearest.value:.4g}{unit} (now {flip.base:.4g}; {chance}{more})"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
