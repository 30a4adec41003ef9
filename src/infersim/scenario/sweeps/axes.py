"""Values that a swept field takes: steps of a grid, or a distribution that points are drawn from. All from shares of 0 to 1.

A distribution gives the value at a share of its probability (its quantile function), whatever made the share: a random number, a
Latin hypercube or a sequence of low discrepancy.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator, model_validator

from infersim import units
from infersim.errors import SpecError
from infersim.planning.distributions import Quantiles, Triangular, chance_below, score_of
from infersim.specs.quantity import Spec

Array = npt.NDArray[Any]
Number = float | str
"""A number, or a quantity with its unit as text."""

_QUANTITY = re.compile(r"\s*([+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\S.*?)?\s*")
_UNITS = {spelling for spellings in units.UNITS.values() for spelling in spellings} | {"%"}


def number_and_unit(given: Any) -> tuple[float, str]:
    """A number and the unit behind it, empty where there is none. ValueError where it is no number.

    >>> number_and_unit("2.5 USD"), number_and_unit(512)
    ((2.5, 'USD'), (512.0, ''))
    """
    if isinstance(given, str):
        match = _QUANTITY.fullmatch(given)
        if match is None or (match[2] and match[2] not in _UNITS):
            raise ValueError(f"{given!r} is not a number, nor a number with a unit")
        return float(match[1].replace("_", "")), match[2] or ""
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not math.isfinite(given):
        raise ValueError(f"{given!r} is not a finite number")
    return float(given), ""


def stated(number: float, unit: str) -> Any:
    """A number as a scenario states it: whole ones without a point, quantities as text.

    >>> stated(8.0, ""), stated(0.25, ""), stated(2.5, "USD")
    (8, 0.25, '2.5 USD')
    """
    plain = int(number) if number == int(number) else number
    return f"{plain!r} {unit}" if unit else plain


@dataclass(frozen=True)
class Column:
    """Values of one field at some points: numbers in one unit, or codes into ``levels``, which may be numbers as well."""

    numbers: Array | None
    """None where the field is not a number everywhere."""
    unit: str = ""
    levels: tuple[Any, ...] = ()
    """The different values as they were written; empty where they are not counted."""
    codes: Array | None = None
    """Which level each point has."""
    whole: bool = False
    """Whether all its numbers are whole ones."""

    def at(self, row: int) -> Any:
        """The value of one point as a scenario states it."""
        if self.codes is not None:
            return self.levels[int(self.codes[row])]
        assert self.numbers is not None
        return stated(float(self.numbers[row]), self.unit)

    @property
    def keys(self) -> Array:
        """What tells the values of points from each other."""
        found = self.numbers if self.codes is None else self.codes
        assert found is not None
        return found


@dataclass(frozen=True)
class Levels:
    """Listed values of one field.

    >>> Levels.of(["1 USD", "3 USD"]).take(np.array([1, 0])).numbers.tolist()
    [3.0, 1.0]
    """

    levels: tuple[Any, ...]
    numbers: Array | None
    unit: str

    @classmethod
    def of(cls, levels: Sequence[Any]) -> Levels:
        """The numbers among them told only where all are numbers in one unit."""
        try:
            pairs = [number_and_unit(level) for level in levels]
        except ValueError:
            pairs = []
        if len({unit for _, unit in pairs}) != 1:
            return cls(tuple(levels), None, "")
        return cls(tuple(levels), np.array([number for number, _ in pairs]), pairs[0][1])

    def take(self, codes: Array) -> Column:
        """The column of points that have these places in the list."""
        whole = not self.unit and all(isinstance(level, int) for level in self.levels)
        return Column(None if self.numbers is None else self.numbers[codes], self.unit, self.levels, codes, whole)


class _Bounded(Spec):
    """Numbers in one unit."""

    def _same_unit(self, *given: Number) -> tuple[list[float], str]:
        pairs = [number_and_unit(one) for one in given]
        units = {unit for _, unit in pairs}
        if len(units) > 1:
            raise ValueError(f"write all of them in one unit, got {' and '.join(repr(one) for one in given)}")
        return [number for number, _ in pairs], units.pop()


class Steps(_Bounded):
    """Evenly spaced values of a grid, both ends included; on a log scale evenly spaced in their logarithms. ``whole``: rounded to
    whole numbers, of which each is taken once.

    >>> Steps.model_validate({"from": 1, "to": 64, "points": 4, "scale": "log"}).values()
    [1, 4, 16, 64]
    """

    start: Annotated[Number, Field(alias="from")]
    to: Number
    points: Annotated[int, Field(ge=2, le=10**6)]
    scale: Literal["linear", "log"] = "linear"
    whole: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Steps:
        (low, high), _ = self._same_unit(self.start, self.to)
        if not low < high:
            raise ValueError(f"rises from 'from' to 'to', got {self.start!r} to {self.to!r}: swap them")
        if self.scale == "log" and low <= 0:
            raise ValueError(f"a log scale begins above zero, got {self.start!r}")
        return self

    def values(self) -> list[Any]:
        """The values, as a scenario states them."""
        (low, high), unit = self._same_unit(self.start, self.to)
        space = np.linspace if self.scale == "linear" else np.geomspace
        found = space(low, high, self.points)
        found = np.array([float(f"{value:.12g}") for value in found])  # 4.0 and not 3.9999999999999996
        if self.whole:
            found = np.unique(np.rint(found))
        return [stated(float(value), unit) for value in found]


class Drawn(_Bounded):
    """A distribution that points are drawn from, named by its one key:

    ``uniform: [low, high]``; ``log_uniform: [low, high]``; ``integers: [low, high]``, both included; ``normal: {mean, sd}``;
    ``log_normal: {p5, p95}``; ``triangular: {low, mode, high}``; ``quantiles: {5: a, 50: b, 95: c}``, log-linear in between; or
    ``choice: [...]`` of anything, with ``weights``. ``low`` and ``high`` cut the tails off those that have some; ``whole`` rounds.

    >>> Drawn.model_validate({"log_uniform": [10, 1000]}).column(np.array([0.0, 0.5])).numbers.round(6).tolist()
    [10.0, 100.0]
    >>> Drawn.model_validate({"normal": {"mean": "2.5 USD", "sd": "0.5 USD"}}).column(np.array([0.5])).at(0)
    '2.5 USD'
    """

    uniform: tuple[Number, Number] | None = None
    log_uniform: tuple[Number, Number] | None = None
    integers: tuple[int, int] | None = None
    normal: dict[Literal["mean", "sd"], Number] | None = None
    log_normal: dict[Literal["p5", "p95"], Number] | None = None
    triangular: dict[Literal["low", "mode", "high"], Number] | None = None
    quantiles: dict[float, Number] | None = None
    choice: Annotated[tuple[Any, ...], Field(min_length=1)] | None = None
    weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    low: Number | None = None
    high: Number | None = None
    whole: bool = False

    @model_validator(mode="before")
    @classmethod
    def _listed(cls, given: Any) -> Any:
        return {"choice": given} if isinstance(given, (list, tuple)) else given

    @field_validator("normal", "log_normal", "triangular")
    @classmethod
    def _complete(cls, given: dict[str, Number] | None, info: Any) -> dict[str, Number] | None:
        wanted = {"normal": ("mean", "sd"), "log_normal": ("p5", "p95"), "triangular": ("low", "mode", "high")}
        if given is not None and set(given) != set(wanted[info.field_name]):
            raise ValueError(f"takes {' and '.join(wanted[info.field_name])}, got {' and '.join(given) or 'none'}")
        return given

    @model_validator(mode="after")
    def _sound(self) -> Drawn:
        given = [name for name in KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"is one of {', '.join(KINDS)}, got {' and '.join(given) or 'none of them'}")
        if self.choice is not None:
            if self.weights is not None and (len(self.weights) != len(self.choice) or not sum(self.weights) > 0):
                raise ValueError(f"weights: one for each of the {len(self.choice)} choices, not all of them zero")
            if self.low is not None or self.high is not None or self.whole:
                raise ValueError("low, high and whole are of numbers that are drawn, not of choices")
            return self
        if self.weights is not None:
            raise ValueError(f"weights are of a choice, not of {self.kind}")
        numbers, _ = self._numbers()
        if self.kind in BOUNDED:
            low, high = numbers
            if not low < high:
                raise ValueError(f"{self.kind}: rises from the lower to the higher bound, got {low:g} to {high:g}")
            if self.kind == "log_uniform" and low <= 0:
                raise ValueError(f"log_uniform: begins above zero, got {low:g}")
            if self.low is not None or self.high is not None:
                raise ValueError(f"low and high cut tails off, and {self.kind} has none")
        else:
            try:
                first, last = self._kept()
            except SpecError as error:
                raise ValueError(f"{self.kind}: {error}") from error
            if not first < last:
                raise ValueError(f"{self.kind}: nothing of it lies from low {self.low!r} to high {self.high!r}")
        return self

    @property
    def kind(self) -> str:
        """The name of the distribution."""
        return next(name for name in KINDS if getattr(self, name) is not None)

    def _numbers(self) -> tuple[list[float], str]:
        """The distribution's own numbers in the order of its definition, and their unit."""
        own = getattr(self, self.kind)
        if self.kind == "quantiles":
            own = dict(sorted(own.items()))
        order = {"normal": ("mean", "sd"), "log_normal": ("p5", "p95"), "triangular": ("low", "mode", "high")}
        listed = [own[name] for name in order.get(self.kind, own)] if isinstance(own, dict) else list(own)
        cuts = [cut for cut in (self.low, self.high) if cut is not None]
        numbers, unit = self._same_unit(*listed, *cuts)
        return numbers[: len(listed)], unit

    def _shape(self) -> Quantiles | Triangular:
        """A distribution with tails, as a function of a normal score."""
        numbers, _ = self._numbers()
        if self.normal is not None:
            mean, sd = numbers
            return Quantiles((5.0, 95.0), (mean - SCORE * sd, mean + SCORE * sd), "linear")
        if self.triangular is not None:
            return Triangular(*numbers)
        percents = (5.0, 95.0) if self.quantiles is None else tuple(sorted(self.quantiles))
        return Quantiles(percents, tuple(numbers))

    def _kept(self) -> tuple[float, float]:
        """Shares of probability at which the tails are cut off."""
        shape = self._shape()
        first, last = (None if cut is None else shape.score(number_and_unit(cut)[0]) for cut in (self.low, self.high))
        return (
            0.0 if first is None else float(chance_below(first)),
            1.0 if last is None else float(chance_below(last)),
        )

    def column(self, shares: npt.NDArray[np.float64]) -> Column:
        """The values at shares of probability, from 0 up to but without 1."""
        if self.choice is not None:
            weights = np.cumsum(self.weights if self.weights is not None else np.ones(len(self.choice)))
            codes = np.searchsorted(weights / weights[-1], shares, side="right")
            return Levels.of(self.choice).take(np.minimum(codes, len(self.choice) - 1))
        numbers, unit = self._numbers()
        if self.kind in BOUNDED:
            low, high = numbers
            if self.kind == "log_uniform":
                values = low * (high / low) ** shares
            elif self.kind == "integers":
                values = np.floor(low + shares * (high - low + 1))
            else:
                values = low + shares * (high - low)
        else:
            from scipy.special import ndtri

            first, last = self._kept()
            values = self._shape().value(ndtri(np.clip(first + shares * (last - first), TINY, 1 - TINY)))
        whole = self.whole or self.kind == "integers"
        return Column(np.rint(values) if self.whole else values, unit, whole=whole and not unit)


BOUNDED = ("uniform", "log_uniform", "integers")
KINDS = (*BOUNDED, "normal", "log_normal", "triangular", "quantiles", "choice")
SCORE = score_of(95.0)
TINY = 2.0**-54
"""A share of probability nearer to 0 or 1 than any that is drawn."""
