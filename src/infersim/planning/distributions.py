"""Distributions of what is not known exactly, all as functions of one standard normal score.

A score of -1.645 is the 5% quantile, 0 the median, 1.645 the 95% quantile. Working in scores lets assumptions be correlated
(a Gaussian copula: Nelsen 2006, An Introduction to Copulas, section 2) whatever their own shapes are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from infersim.errors import SpecError

Array = npt.NDArray[np.float64]
Scale = Literal["log", "linear", "logit"]
LOW, HIGH = 5.0, 95.0
"""Percent of the quantiles that make a 90% range."""
LARGEST = 700.0
"""Logarithm beyond which no value is told apart from zero or infinity."""
_NORMAL = NormalDist()


def score_of(percent: float) -> float:
    """The standard normal score of a percentage.

    >>> round(score_of(95.0), 4), score_of(50.0)
    (1.6449, 0.0)
    """
    return _NORMAL.inv_cdf(percent / 100)


def chance_below(score: Any) -> Any:
    """Probability below a standard normal score; broadcasts."""
    from scipy.special import ndtr

    return ndtr(score)


@dataclass(frozen=True)
class Quantiles:
    """Values at known quantiles; between them, and beyond the outer ones at the slope of the outermost piece, the scaled value is
    linear in the normal score.

    Two points of equal slope on the log scale make a log-normal distribution, on the linear scale a normal one; on the logit scale
    values stay between 0 and 1. One point is a certain value. ``percents`` and ``values`` rise.

    >>> rent = Quantiles((5.0, 50.0, 95.0), (1.5, 2.0, 4.0))
    >>> [round(float(rent.value(score_of(p))), 3) for p in (5.0, 50.0, 95.0)]
    [1.5, 2.0, 4.0]
    """

    percents: tuple[float, ...]
    values: tuple[float, ...]
    scale: Scale = "log"

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.percents, self.percents[1:], strict=False))
        ordered = all(a <= b for a, b in zip(self.values, self.values[1:], strict=False))
        if not self.percents or len(self.percents) != len(self.values) or not (rising and ordered):
            raise SpecError(
                f"quantiles rise from the lowest to the highest, got {self.values} at {self.percents} percent"
            )
        if not all(0 < p < 100 for p in self.percents) or not all(map(math.isfinite, self.values)):
            raise SpecError(f"quantiles are finite values at 0 to 100 percent, got {self.values} at {self.percents}")
        least, most = {"log": (0.0, math.inf), "logit": (0.0, 1.0), "linear": (-math.inf, math.inf)}[self.scale]
        if len(self.values) > 1 and not all(least < value < most for value in self.values):
            raise SpecError(f"values on the {self.scale} scale lie between {least:g} and {most:g}, got {self.values}")

    @property
    def certain(self) -> bool:
        return self.values[0] == self.values[-1]

    def value(self, score: Any) -> Any:
        """The value at a normal score; broadcasts."""
        score = np.asarray(score, dtype=float)
        if self.certain:
            return np.full(score.shape, self.values[0])
        x, y = self._knots()
        found = np.interp(score, x, y)
        found = np.where(score < x[0], y[0] + (score - x[0]) * (y[1] - y[0]) / (x[1] - x[0]), found)
        found = np.where(score > x[-1], y[-1] + (score - x[-1]) * (y[-1] - y[-2]) / (x[-1] - x[-2]), found)
        return _from_scale(found, self.scale)

    def score(self, value: float) -> float:
        """The normal score of a value; infinite outside of what the distribution allows.

        >>> round(Quantiles((5.0, 95.0), (1.0, 4.0)).score(2.0), 6)
        0.0
        """
        if self.certain:
            return math.inf if value > self.values[0] else -math.inf if value < self.values[0] else 0.0
        if (self.scale != "linear" and value <= 0) or (self.scale == "logit" and value >= 1):
            return -math.inf if value <= 0 else math.inf
        x, y = self._knots()
        at = float(_to_scale(value, self.scale))
        piece = int(np.clip(np.searchsorted(y, at) - 1, 0, len(y) - 2))
        rise = y[piece + 1] - y[piece]
        if rise == 0:
            return float(x[piece + 1] if at >= y[piece] else x[piece])
        return float(x[piece] + (at - y[piece]) / rise * (x[piece + 1] - x[piece]))

    def _knots(self) -> tuple[Array, Array]:
        scores = np.array([score_of(percent) for percent in self.percents])
        return scores, np.asarray(_to_scale(np.array(self.values), self.scale))


@dataclass(frozen=True)
class Triangular:
    """A triangle from ``low`` over ``mode`` to ``high``: what a person says who knows the limits and the likeliest value.

    >>> share = Triangular(0.0, 0.0, 1.0)
    >>> round(float(share.value(score_of(75.0))), 6)  # 1 - sqrt(1 - 0.75)
    0.5
    """

    low: float
    mode: float
    high: float

    def __post_init__(self) -> None:
        if not (self.low <= self.mode <= self.high and self.low < self.high and math.isfinite(self.high - self.low)):
            raise SpecError(f"a triangle rises from low over mode to high, got {self.low}, {self.mode}, {self.high}")

    certain = False

    def value(self, score: Any) -> Any:
        """The value at a normal score; broadcasts."""
        from scipy.stats import triang

        width = self.high - self.low
        return triang.ppf(chance_below(score), (self.mode - self.low) / width, self.low, width)

    def score(self, value: float) -> float:
        """The normal score of a value; infinite beyond the limits."""
        from scipy.stats import triang

        width = self.high - self.low
        chance = float(triang.cdf(value, (self.mode - self.low) / width, self.low, width))
        return -math.inf if chance <= 0 else math.inf if chance >= 1 else _NORMAL.inv_cdf(chance)


Distribution = Quantiles | Triangular


def measured(values: Sequence[float] | Array, scale: Scale = "log") -> Quantiles:
    """The distribution of measured values, by their 5, 25, 50, 75 and 95% quantiles; twenty values at least.

    >>> measured(np.exp(np.linspace(-1, 1, 1001))).values[2]
    1.0
    """
    found = np.asarray(values, dtype=float)
    if found.ndim != 1 or len(found) < 20 or not np.isfinite(found).all():
        raise SpecError("measured values are a list of twenty finite numbers or more")
    percents = (5.0, 25.0, 50.0, 75.0, 95.0)
    return Quantiles(percents, tuple(float(value) for value in np.percentile(found, percents)), scale)


def scaled(quantiles: Mapping[int, float], spread: float) -> Quantiles:
    """The factor measured / predicted of a prediction, from the quantiles of log(measured / predicted) / ``spread``.

    >>> round(float(scaled({5: -1.0, 95: 2.0}, 0.1).value(score_of(95.0))), 4)
    1.2214
    """
    percents = sorted(quantiles)
    return Quantiles(tuple(map(float, percents)), tuple(math.exp(quantiles[p] * spread) for p in percents))


def _to_scale(values: Any, scale: Scale) -> Any:
    if scale == "log":
        return np.log(values)
    return np.log(values / (1 - values)) if scale == "logit" else values


def _from_scale(values: Any, scale: Scale) -> Any:
    if scale == "linear":
        return values
    from scipy.special import expit

    return expit(values) if scale == "logit" else np.exp(np.clip(values, -LARGEST, LARGEST))
