"""How long prompts and outputs are: distributions of token counts, drawn with a seeded generator."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from infersim.errors import SpecError
from infersim.specs.quantity import Spec

Integers = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]
Tokens = Annotated[float, Field(ge=1, le=1e8)]
MAX_TOKENS = 10**8
"""A drawn length is clipped to 1 .. this many tokens."""


def whole(values: Any) -> Integers:
    """Lengths as whole tokens, at least one and at most MAX_TOKENS."""
    return np.asarray(np.clip(np.rint(values), 1, MAX_TOKENS), dtype=np.int64)


class Fixed(Spec):
    """Every length the same.

    >>> Fixed(tokens=128).sample(np.random.default_rng(0), 3).tolist()
    [128, 128, 128]
    """

    kind: Literal["fixed"] = "fixed"
    """Always the same length."""
    tokens: Tokens
    """The length."""

    @property
    def mean(self) -> float:
        return self.tokens

    def sample(self, generator: np.random.Generator, count: int) -> Integers:
        return np.full(count, whole(self.tokens))

    def quantile(self, shares: Shares) -> Integers:
        """The lengths below which such ``shares`` of all lie."""
        return np.full(np.shape(shares), whole(self.tokens))


class Uniform(Spec):
    """Whole numbers from ``low`` to ``high``, both included, all equally likely.

    >>> uniform_by_ratio(1000, 0.8)  # as random_range_ratio 0.8 of the InferenceX client
    Uniform(kind='uniform', low=800.0, high=1000.0)
    """

    kind: Literal["uniform"] = "uniform"
    """All equally likely."""
    low: Tokens
    """Shortest."""
    high: Tokens
    """Longest."""

    @model_validator(mode="after")
    def _ordered(self) -> Uniform:
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        return self

    @property
    def mean(self) -> float:
        return (math.floor(self.low) + math.floor(self.high)) / 2

    def sample(self, generator: np.random.Generator, count: int) -> Integers:
        return generator.integers(math.floor(self.low), math.floor(self.high), size=count, endpoint=True)

    def quantile(self, shares: Shares) -> Integers:
        """The lengths below which such ``shares`` of all lie."""
        low, high = math.floor(self.low), math.floor(self.high)
        return np.asarray(np.minimum(low + np.floor(shares * (high - low + 1)), high), dtype=np.int64)


def uniform_by_ratio(tokens: float, ratio: float) -> Uniform:
    """Uniform in [ratio x L, L], as benchmark clients with ``--random-range-ratio`` draw around a nominal length.

    This is the older meaning of the flag; newer clients draw in [L (1 - r), L (1 + r)]: use Uniform for that.
    """
    if not 0 < ratio <= 1:
        raise SpecError(f"must be above 0 and at most 1, got {ratio!r}", field="random_range_ratio")
    return Uniform(low=max(1.0, math.floor(tokens * ratio)), high=tokens)


def log_normal_sigma(mean: float, cv: float | None, p99: float | None) -> float:
    """Standard deviation of the logarithm, from the coefficient of variation or the 99th percentile (see ``LogNormal``).

    >>> round(log_normal_sigma(1000.0, None, 6000.0), 3), round(log_normal_sigma(1000.0, 1.0, None), 3)
    (0.974, 0.833)
    """
    if cv is not None:
        return math.sqrt(math.log1p(cv**2))
    assert p99 is not None
    return Z99 - math.sqrt(Z99**2 - 2 * math.log(p99 / mean))


class LogNormal(Spec):
    """Log-normal with a mean and either its 99th percentile or its coefficient of variation.

    With ``p99`` the spread follows from mean = exp(mu + s^2/2) and p99 = exp(mu + 2.3263 s): s^2/2 - 2.3263 s +
    ln(p99 / mean) = 0, the smaller root; no log-normal has p99 / mean above exp(2.3263^2 / 2) = 14.97.

    >>> chat = LogNormal(mean=1000, p99=6000)
    >>> round(chat.sigma, 3), round(math.exp(chat.mu + 2.3263 * chat.sigma))
    (0.974, 6000)
    """

    kind: Literal["lognormal"] = "lognormal"
    """A long tail."""
    mean: Tokens
    """Mean length."""
    p99: Tokens | None = None
    """99th percentile, or give cv."""
    cv: Annotated[float, Field(gt=0, le=20)] | None = None
    """Standard deviation over the mean."""

    @model_validator(mode="after")
    def _one_spread(self) -> LogNormal:
        if (self.p99 is None) == (self.cv is None):
            raise ValueError("give either p99 or cv (standard deviation / mean)")
        if self.p99 is not None and not 1 < self.p99 / self.mean < math.exp(Z99**2 / 2):
            raise ValueError(f"p99 must lie between the mean and {math.exp(Z99**2 / 2):.4g} times it, got {self.p99:g}")
        return self

    @functools.cached_property
    def sigma(self) -> float:
        """Standard deviation of the logarithm."""
        return log_normal_sigma(self.mean, self.cv, self.p99)

    @property
    def mu(self) -> float:
        """Mean of the logarithm."""
        return math.log(self.mean) - self.sigma**2 / 2

    def sample(self, generator: np.random.Generator, count: int) -> Integers:
        return whole(generator.lognormal(self.mu, self.sigma, count))

    def quantile(self, shares: Shares) -> Integers:
        """The lengths below which such ``shares`` of all lie."""
        from scipy.special import ndtri

        return whole(np.exp(self.mu + self.sigma * ndtri(shares)))


Z99 = 2.3263478740408408
"""99th percentile of the standard normal distribution."""


def check_weights(weights: tuple[float, ...] | None, values: int) -> None:
    """ValueError unless there are as many weights as values, or none."""
    if weights is not None and (len(weights) != values or sum(weights) <= 0):
        raise ValueError("needs one weight per value, not all zero")


class Empirical(Spec):
    """Drawn from observed values, all equally likely, or by ``weights``."""

    kind: Literal["empirical"] = "empirical"
    """Observed lengths."""
    values: Annotated[tuple[Tokens, ...], Field(min_length=1)]
    """The lengths."""
    weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    """Of each; by default all alike."""

    @model_validator(mode="after")
    def _weights_fit(self) -> Empirical:
        check_weights(self.weights, len(self.values))
        return self

    @property
    def mean(self) -> float:
        return float(np.average(self.values, weights=self.weights))

    def sample(self, generator: np.random.Generator, count: int) -> Integers:
        chances = None if self.weights is None else np.asarray(self.weights) / sum(self.weights)
        return whole(generator.choice(np.asarray(self.values), size=count, p=chances))

    def quantile(self, shares: Shares) -> Integers:
        """The lengths below which such ``shares`` of all lie."""
        order = np.argsort(self.values)
        weights = np.ones(len(self.values)) if self.weights is None else np.asarray(self.weights)
        reached = np.cumsum(weights[order]) / weights.sum()
        return whole(np.asarray(self.values)[order][np.minimum(np.searchsorted(reached, shares), len(order) - 1)])


Lengths = Annotated[Fixed | Uniform | LogNormal | Empirical, Field(discriminator="kind")]


class Pairs(Spec):
    """Observed (input, output) pairs, drawn together, so that their correlation stays.

    >>> Pairs(pairs=((10, 1), (1000, 500))).mean
    (505.0, 250.5)
    """

    kind: Literal["pairs"] = "pairs"
    """Prompts and outputs drawn together."""
    pairs: Annotated[tuple[tuple[Tokens, Tokens], ...], Field(min_length=1)]
    """Prompt and output lengths."""

    @property
    def mean(self) -> tuple[float, float]:
        means = np.mean(self.pairs, axis=0)
        return float(means[0]), float(means[1])

    def sample(self, generator: np.random.Generator, count: int) -> tuple[Integers, Integers]:
        rows = whole(np.asarray(self.pairs))[generator.integers(0, len(self.pairs), count)]
        return rows[:, 0], rows[:, 1]


def as_lengths(given: Any, field: str, file: str | Path | None = None) -> Fixed | Uniform | LogNormal | Empirical:
    """A number or a mapping such as ``{"lognormal": {"mean": 1200, "p99": 8000}}`` as a distribution.

    >>> as_lengths({"uniform": {"low": 1, "high": 3}}, "input_tokens").mean
    2.0
    """
    from infersim.errors import did_you_mean
    from infersim.specs.library import validate

    kinds: dict[str, Any] = {"fixed": Fixed, "uniform": Uniform, "lognormal": LogNormal, "empirical": Empirical}
    if isinstance(given, tuple(kinds.values())):
        return cast("Fixed | Uniform | LogNormal | Empirical", given)
    if isinstance(given, int | float) and not isinstance(given, bool):
        return validate(Fixed, {"tokens": given}, file=file)
    if isinstance(given, dict) and len(given) == 1:
        kind, fields = next(iter(given.items()))
        if kind not in kinds:
            raise SpecError(f"unknown distribution {kind!r}; {did_you_mean(str(kind), kinds)}", field=field, file=file)
        return validate(kinds[kind], fields, file=file)  # type: ignore[no-any-return]
    raise SpecError(
        f"a number of tokens or one of {', '.join(kinds)} with its parameters is needed, got {given!r}",
        field=field, file=file,
    )  # fmt: skip
