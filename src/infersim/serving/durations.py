"""How long something outside the model takes: distributions of times for think time, tools and people, drawn with a seeded generator.

Beside draws each knows its first two moments, whole and below a limit, which is what a Markov chain needs of it.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, Field, model_validator

from infersim.errors import SpecError, did_you_mean
from infersim.serving.lengths import Z99, check_weights, log_normal_sigma
from infersim.specs.quantity import Seconds, Spec

Times = npt.NDArray[np.float64]
Spread = Annotated[float, Field(gt=0, le=20)]


class Part(NamedTuple):
    """The part of a distribution on one side of a limit: its chance, and the mean [s] and mean square [s^2] of what lies there."""

    chance: float
    mean: float
    square: float


def _part(chance: float, first: float, second: float) -> Part:
    """From a chance and the sums E[t; there] and E[t^2; there]."""
    return Part(chance, first / chance, second / chance) if chance > 0 else Part(0.0, 0.0, 0.0)


class Always(Spec):
    """Always the same time.

    >>> Always(seconds="1.5 s").mean
    1.5
    """

    kind: Literal["fixed"] = "fixed"
    """Always the same time."""
    seconds: Seconds
    """The time."""

    @property
    def mean(self) -> float:
        return self.seconds

    def sums_below(self, limit: float) -> tuple[float, float, float]:
        inside = float(self.seconds < limit)
        return inside, inside * self.seconds, inside * self.seconds**2

    def sample(self, generator: np.random.Generator, count: int) -> Times:
        return np.full(count, self.seconds)


class ExponentialTime(Spec):
    """Exponential with a mean: memoryless, as the think time of textbooks.

    >>> ExponentialTime(mean="2 s").sums_below(float("inf"))
    (1.0, 2.0, 8.0)
    """

    kind: Literal["exponential"] = "exponential"
    """Memoryless."""
    mean: Seconds
    """Mean time."""

    def sums_below(self, limit: float) -> tuple[float, float, float]:
        m = self.mean
        if math.isinf(limit) or m == 0:
            return 1.0, m, 2 * m * m
        a = limit / m
        left = math.exp(-a)
        return 1 - left, m * (1 - left * (1 + a)), m * m * (2 - left * (2 + 2 * a + a * a))

    def sample(self, generator: np.random.Generator, count: int) -> Times:
        return generator.exponential(self.mean, count) if self.mean else np.zeros(count)


class UniformTime(Spec):
    """All times from ``low`` to ``high`` equally likely."""

    kind: Literal["uniform"] = "uniform"
    """All equally likely."""
    low: Seconds
    """Shortest."""
    high: Seconds
    """Longest."""

    @model_validator(mode="after")
    def _ordered(self) -> UniformTime:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} s is not below high {self.high:g} s")
        return self

    @property
    def mean(self) -> float:
        return (self.low + self.high) / 2

    def sums_below(self, limit: float) -> tuple[float, float, float]:
        end, width = min(max(limit, self.low), self.high), self.high - self.low
        low = self.low
        return (end - low) / width, (end**2 - low**2) / (2 * width), (end**3 - low**3) / (3 * width)

    def sample(self, generator: np.random.Generator, count: int) -> Times:
        return generator.uniform(self.low, self.high, count)


class LogNormalTime(Spec):
    """Log-normal with a mean and either its 99th percentile or its coefficient of variation, as lengths in tokens have it.

    >>> tool = LogNormalTime(mean="2 s", cv=1.0)
    >>> [round(value, 6) for value in tool.sums_below(float("inf"))]
    [1.0, 2.0, 8.0]
    """

    kind: Literal["lognormal"] = "lognormal"
    """A long tail."""
    mean: Annotated[Seconds, Field(gt=0)]
    """Mean time."""
    p99: Seconds | None = None
    """99th percentile, or give cv."""
    cv: Spread | None = None
    """Standard deviation over the mean."""

    @model_validator(mode="after")
    def _one_spread(self) -> LogNormalTime:
        if (self.p99 is None) == (self.cv is None):
            raise ValueError("give either p99 or cv (standard deviation / mean)")
        if self.p99 is not None and not 1 < self.p99 / self.mean < math.exp(Z99**2 / 2):
            raise ValueError(f"p99 lies between the mean and {math.exp(Z99**2 / 2):.4g} times it, got {self.p99:g} s")
        return self

    @property
    def sigma(self) -> float:
        """Standard deviation of the logarithm."""
        return log_normal_sigma(self.mean, self.cv, self.p99)

    @property
    def mu(self) -> float:
        """Mean of the logarithm."""
        return math.log(self.mean) - self.sigma**2 / 2

    def sums_below(self, limit: float) -> tuple[float, float, float]:
        if limit <= 0:
            return 0.0, 0.0, 0.0
        mu, s = self.mu, self.sigma
        z = (math.log(limit) - mu) / s if math.isfinite(limit) else math.inf

        def partial(k: int) -> float:  # E[t^k; t < limit]
            return math.exp(k * mu + (k * s) ** 2 / 2) * 0.5 * math.erfc(-(z - k * s) / math.sqrt(2))

        return partial(0), partial(1), partial(2)

    def sample(self, generator: np.random.Generator, count: int) -> Times:
        return generator.lognormal(self.mu, self.sigma, count)


class EmpiricalTime(Spec):
    """Drawn from observed times, all equally likely, or by ``weights``."""

    kind: Literal["empirical"] = "empirical"
    """Observed times."""
    values: Annotated[tuple[Seconds, ...], Field(min_length=1)]
    """The times."""
    weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    """Of each; by default all alike."""

    @model_validator(mode="after")
    def _weights_fit(self) -> EmpiricalTime:
        check_weights(self.weights, len(self.values))
        return self

    @functools.cached_property
    def _table(self) -> tuple[Times, Times]:
        """Values, and the chance of each and of those before it."""
        return np.asarray(self.values), np.cumsum(self._chances)

    @functools.cached_property
    def _chances(self) -> Times:
        weights = np.ones(len(self.values)) if self.weights is None else np.asarray(self.weights)
        return np.asarray(weights / weights.sum())

    @property
    def mean(self) -> float:
        return float(self._chances @ np.asarray(self.values))

    def sums_below(self, limit: float) -> tuple[float, float, float]:
        values = np.asarray(self.values)
        inside = self._chances * (values < limit)
        return float(inside.sum()), float(inside @ values), float(inside @ values**2)

    def sample(self, generator: np.random.Generator, count: int) -> Times:
        values, until = self._table
        return np.asarray(
            values[np.minimum(np.searchsorted(until, generator.random(count), side="right"), len(values) - 1)]
        )


Kind = Always | ExponentialTime | UniformTime | LogNormalTime | EmpiricalTime
KINDS: dict[str, type[Spec]] = {
    "fixed": Always, "exponential": ExponentialTime, "uniform": UniformTime, "lognormal": LogNormalTime, "empirical": EmpiricalTime,
}  # fmt: skip


def split(time: Kind, limit: float) -> tuple[Part, Part]:
    """The parts of a time below ``limit`` and from it on.

    >>> short, long = split(ExponentialTime(mean="10 s"), 10.0)
    >>> round(short.chance, 4), round(long.mean, 6)
    (0.6321, 20.0)
    """
    below, whole = time.sums_below(limit), time.sums_below(math.inf)
    above = tuple(max(all_of - some, 0.0) for all_of, some in zip(whole, below, strict=True))
    return _part(*below), _part(*above)


def as_time(given: Any, field: str = "time", file: str | Path | None = None) -> Kind:
    """A quantity such as ``"800 ms"`` (always so long), or a mapping such as ``{"lognormal": {"mean": "2 s", "cv": 1}}``.

    >>> as_time({"exponential": {"mean": "30 s"}}).mean
    30.0
    """
    from infersim.specs.reading import validate

    if isinstance(given, tuple(KINDS.values())):
        return cast(Kind, given)
    if isinstance(given, dict) and len(given) == 1:
        kind, fields = next(iter(given.items()))
        if kind not in KINDS:
            raise SpecError(f"unknown distribution {kind!r}; {did_you_mean(str(kind), KINDS)}", field=field, file=file)
        return cast(Kind, validate(KINDS[kind], fields, file=file))
    if isinstance(given, dict) and given.get("kind") in KINDS:
        return cast(Kind, validate(KINDS[given["kind"]], given, file=file))
    return validate(Always, {"seconds": given}, file=file)


def _pause(given: Any) -> Any:
    """A pause written as a plain quantity is the mean of an exponential one."""
    if isinstance(given, str | int | float) and not isinstance(given, bool):
        return ExponentialTime(mean=given)
    return as_time(given, "think")


Duration = Annotated[Kind, BeforeValidator(as_time)]
"""A time outside the model; a plain quantity is always so long."""
Pause = Annotated[Kind, BeforeValidator(_pause)]
"""The same, but a plain quantity is the mean of an exponential pause."""
