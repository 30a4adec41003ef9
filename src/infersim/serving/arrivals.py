"""When requests arrive: open processes with a rate, and the closed loop of a fixed number of users.

An open process turns a seeded generator and a count into sorted arrival times in seconds from the start; it can be asked
piece by piece, so that ten million arrivals need no more memory than a piece.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, Field, model_validator

from infersim import units
from infersim.errors import SpecError, did_you_mean
from infersim.specs.quantity import Seconds, Spec

Times = npt.NDArray[np.float64]


def _rate(given: Any) -> Any:
    """``"6 /s"`` as requests per second; what is no text is left to its field."""
    return units.parse(given, "/s") if isinstance(given, str) and not _is_number(given) else given


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


Rate = Annotated[float, BeforeValidator(_rate), Field(gt=0, le=1e9)]
LONGEST_RUN = 1e10
"""Times at most [s]; beyond it a clock in double precision no longer tells microseconds apart."""


class ClosedLoop(Spec):
    """``concurrency`` users: all send a request at the start, and each its next one ``think`` seconds after the answer.

    ``ramp`` spreads the first requests evenly over so many seconds in place of the burst.
    """

    kind: Literal["closed"] = "closed"
    concurrency: Annotated[int, Field(ge=1, le=10**7)]
    think: Seconds = 0.0
    ramp: Seconds = 0.0


class Gamma(Spec):
    """Independent gaps with a Gamma distribution of shape ``burstiness`` and mean 1 / ``rate``.

    burstiness 1 is Poisson, below it bursts, above it more regular, as ``vllm bench serve --burstiness`` has it.

    >>> gaps = np.diff(Gamma(rate=4.0).times(np.random.default_rng(0), 10001))
    >>> round(float(gaps.mean()), 2), round(float(gaps.std() / gaps.mean()), 1)
    (0.25, 1.0)
    """

    kind: Literal["gamma"] = "gamma"
    rate: Rate
    burstiness: Annotated[float, Field(gt=0, le=1e6)] = 1.0

    def times(self, generator: np.random.Generator, count: int, start: float = 0.0) -> Times:
        if self.burstiness == 1.0:
            gaps = generator.exponential(1 / self.rate, count)
        else:
            gaps = generator.gamma(self.burstiness, 1 / (self.rate * self.burstiness), count)
        return start + np.cumsum(gaps)


class Constant(Spec):
    """One request every 1 / ``rate`` seconds."""

    kind: Literal["constant"] = "constant"
    rate: Rate

    def times(self, generator: np.random.Generator, count: int, start: float = 0.0) -> Times:
        return start + np.arange(1, count + 1) / self.rate


class Profile(Spec):
    """Poisson arrivals whose rate follows straight lines through ``rates`` at ``at`` seconds; ``period`` repeats them.

    A ramp is two points; a day is 25 points an hour apart and a period of 86,400 s. Without a period the last rate stays.
    Times come from inverting the integral of the rate at a unit Poisson process, so they are exact.

    >>> ramp = Profile(at=(0.0, 10.0), rates=(0.0, 20.0))
    >>> times = ramp.times(np.random.default_rng(0), 100)
    >>> bool(np.searchsorted(times, 5.0) < 50)  # a quarter of the first ten seconds' arrivals come in the first five
    True
    """

    kind: Literal["profile"] = "profile"
    at: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)]
    rates: tuple[Annotated[float, BeforeValidator(_rate), Field(ge=0, le=1e9)], ...]
    period: Seconds | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Profile:
        if len(self.at) != len(self.rates):
            raise ValueError(f"{len(self.at)} times but {len(self.rates)} rates")
        if self.at[0] != 0 or any(b <= a for a, b in zip(self.at, self.at[1:], strict=False)):
            raise ValueError("times must start at 0 and rise")
        if self.period is not None and self.period < self.at[-1]:
            raise ValueError(f"the period {self.period:g} s ends before the last time {self.at[-1]:g} s")
        if (self.rates[-1] if self.period is None else max(self.rates)) <= 0:
            raise ValueError("the rate must be positive at the end, or somewhere in the period")
        return self

    def times(self, generator: np.random.Generator, count: int, start: float = 0.0) -> Times:
        wanted = self._integral(start) + np.cumsum(generator.exponential(1.0, count))
        return self._inverse(wanted)

    def _knots(self) -> tuple[Times, Times, Times]:
        """Times, rates and expected arrivals up to each knot of one period."""
        at, rates = np.asarray(self.at), np.asarray(self.rates)
        if self.period is not None and self.period > at[-1]:
            at, rates = np.append(at, self.period), np.append(rates, rates[0])
        total = np.concatenate([[0.0], np.cumsum(np.diff(at) * (rates[1:] + rates[:-1]) / 2)])
        return at, rates, total

    def _integral(self, time: float) -> float:
        at, rates, total = self._knots()
        rounds = 0.0
        if self.period:
            rounds, time = divmod(time, self.period)
        row = min(int(np.searchsorted(at, time, side="right")) - 1, len(at) - 1)
        slope = (rates[row + 1] - rates[row]) / (at[row + 1] - at[row]) if row + 1 < len(at) else 0.0
        gone = time - at[row]
        return float(rounds * total[-1] + total[row] + gone * (rates[row] + slope * gone / 2))

    def _inverse(self, wanted: Times) -> Times:
        at, rates, total = self._knots()
        base = np.zeros_like(wanted)
        if self.period:
            rounds = np.floor(wanted / total[-1])
            base, wanted = rounds * self.period, wanted - rounds * total[-1]
        row = np.minimum(np.searchsorted(total, wanted, side="right") - 1, len(at) - 1)
        low = np.append(rates, rates[-1])[row]
        width = np.append(np.diff(at), math.inf)[row]
        slope = np.where(np.isfinite(width), (np.append(rates, rates[-1])[row + 1] - low) / width, 0.0)
        left = wanted - total[row]
        # low g + slope g^2 / 2 = left, in the form that keeps its digits where the slope is small
        root = np.sqrt(np.maximum(low**2 + 2 * slope * left, 0.0))
        return base + at[row] + np.where(low + root > 0, 2 * left / np.maximum(low + root, 1e-300), 0.0)


class Burst(Spec):
    """Everything at once, at time zero: an offline batch, or ``--request-rate inf``."""

    kind: Literal["burst"] = "burst"

    def times(self, generator: np.random.Generator, count: int, start: float = 0.0) -> Times:
        return np.full(count, start)


OpenProcess = Gamma | Constant | Profile | Burst
Arrivals = Annotated[ClosedLoop | Gamma | Constant | Profile | Burst, Field(discriminator="kind")]


def poisson(rate: float) -> Gamma:
    """Poisson arrivals at ``rate`` requests per second.

    >>> poisson(2.0)
    Gamma(kind='gamma', rate=2.0, burstiness=1.0)
    """
    return Gamma(rate=rate)


_SHORT = {"poisson": "rate", "gamma": "rate", "constant": "rate", "closed": "concurrency"}
KINDS = ("poisson", "gamma", "constant", "closed", "profile", "burst")


def as_arrivals(given: Any) -> Any:
    """Arrivals in a few words, as ``Arrivals`` takes them: ``{"poisson": "6 /s"}``, ``{"gamma": {"rate": 6, "burstiness": 0.5}}``,
    ``{"closed": 32}``, ``"burst"``. What names its ``kind`` is left as it is.

    >>> as_arrivals({"poisson": "6 /s"}), as_arrivals({"closed": 32})
    ({'kind': 'gamma', 'rate': '6 /s'}, {'kind': 'closed', 'concurrency': 32})
    """
    if given == "burst":
        return {"kind": "burst"}
    if isinstance(given, Spec) or (isinstance(given, dict) and "kind" in given):
        return given
    if not (isinstance(given, dict) and len(given) == 1):
        raise SpecError(f"is one of {', '.join(KINDS)} with its parameters, such as poisson: 6 /s, got {given!r}")
    kind, fields = next(iter(given.items()))
    if kind not in KINDS:
        raise SpecError(f"unknown arrivals {kind!r}; {did_you_mean(str(kind), KINDS)}")
    if not isinstance(fields, dict):
        fields = {} if fields is None else {_SHORT[kind]: fields} if kind in _SHORT else {"": fields}
    if kind == "poisson" and "burstiness" in fields:
        raise SpecError("poisson has burstiness 1: write gamma for another")
    return {"kind": "gamma" if kind == "poisson" else kind, **fields}
