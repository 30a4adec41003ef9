"""What a plan takes for granted: named values, how far each may be off, and what it rests on."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from infersim.errors import SpecError, UnknownNameError, did_you_mean
from infersim.planning.distributions import HIGH, LOW, Array, Distribution, Quantiles, Scale, score_of

Status = Literal["fact", "fit", "guess"]
MOST_SAMPLES = 1_000_000


@dataclass(frozen=True)
class Assumption:
    """One value that a plan rests on: ``base`` is what is planned with, ``distribution`` what it may turn out to be.

    ``low`` and ``high`` are the ends of its 90% range. ``status``: a fact (a document says so), a fit (to measurements) or a guess.

    >>> rent = Assumption.around("price.per_hour", 2.0, 1.5, 3.0, unit="USD/h", source="quotes")
    >>> round(rent.low, 6), rent.base, round(rent.high, 6)
    (1.5, 2.0, 3.0)
    """

    name: str
    base: float
    distribution: Distribution
    unit: str = ""
    source: str = "given by the user"
    status: Status = "guess"

    @classmethod
    def around(
        cls, name: str, base: float, low: float, high: float, *, scale: Scale = "log", unit: str = "",
        source: str = "given by the user", status: Status = "guess",
    ) -> Assumption:  # fmt: skip
        """A base value that is the median, and a 90% range around it."""
        if not low <= base <= high:
            raise SpecError(f"the 90% range {low:g} to {high:g} does not hold the base value {base:g}", field=name)
        if low == high:
            return cls.certain(name, base, unit=unit, source=source, status=status)
        if not low < base < high:
            percents, values = (LOW, HIGH), (low, high)
        else:
            percents, values = (LOW, 50.0, HIGH), (low, base, high)  # type: ignore[assignment]
        try:
            return cls(name, base, Quantiles(percents, values, scale), unit, source, status)
        except SpecError as error:
            raise SpecError(str(error), field=name) from None

    @classmethod
    def certain(
        cls, name: str, base: float, *, unit: str = "", source: str = "given by the user", status: Status = "guess"
    ) -> Assumption:
        """A value without doubt."""
        if not math.isfinite(base):
            raise SpecError(f"is a finite number, got {base!r}", field=name)
        return cls(name, base, Quantiles((50.0,), (base,), "linear"), unit, source, status)

    @property
    def uncertain(self) -> bool:
        return not self.distribution.certain

    @property
    def low(self) -> float:
        return self.quantile(LOW)

    @property
    def high(self) -> float:
        return self.quantile(HIGH)

    @property
    def scale(self) -> Scale:
        """The scale on which the value is best varied."""
        return self.distribution.scale if isinstance(self.distribution, Quantiles) else "linear"

    def quantile(self, percent: float) -> float:
        """The value that the truth stays below with so many percent."""
        return float(self.distribution.value(score_of(percent)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"name": self.name, "base": self.base, "low": self.low, "high": self.high, "unit": self.unit, "status": self.status,
                "source": self.source}  # fmt: skip


@dataclass(frozen=True)
class Assumptions:
    """A set of assumptions by name, and which of them go together.

    ``correlations`` are of the normal scores, by pair of names; pairs that are not named are independent.

    >>> known = Assumptions((Assumption.around("price.per_hour", 2.0, 1.5, 3.0), Assumption.certain("years", 4.0)))
    >>> known.base()
    {'price.per_hour': 2.0, 'years': 4.0}
    >>> sorted(known.draw(512, seed=1)) == known.names
    True
    """

    items: tuple[Assumption, ...]
    correlations: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.items):
            double = sorted({name for name in self.names if self.names.count(name) > 1})
            raise SpecError(f"named twice: {', '.join(double)}", field="assumptions")
        for pair in self.correlations:
            for name in pair:
                self[name]
            if not -1 <= self.correlations[pair] <= 1:
                raise SpecError(
                    f"is from -1 to 1, got {self.correlations[pair]!r} for {' and '.join(pair)}", field="correlations"
                )

    def __iter__(self) -> Iterator[Assumption]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, name: str) -> Assumption:
        for item in self.items:
            if item.name == name:
                return item
        raise UnknownNameError(
            f"no assumption is called {name!r}; {did_you_mean(name, self.names)}", field="assumptions"
        )

    @property
    def names(self) -> list[str]:
        return [item.name for item in self.items]

    @property
    def uncertain(self) -> list[Assumption]:
        return [item for item in self.items if item.uncertain]

    def base(self) -> dict[str, float]:
        """What is planned with."""
        return {item.name: item.base for item in self.items}

    def draw(self, samples: int, seed: int = 0) -> dict[str, Array]:
        """Values by name, ``samples`` of each: a Latin hypercube (McKay et al. 1979) in normal scores, then correlated.

        Depends on the names and the seed, not on the order of the assumptions. SpecError where the correlations contradict each
        other.
        """
        if isinstance(samples, bool) or not isinstance(samples, int) or not 2 <= samples <= MOST_SAMPLES:
            raise SpecError(f"is a whole number from 2 to {MOST_SAMPLES:,}, got {samples!r}", field="samples")
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise SpecError(f"is a whole number from zero on, got {seed!r}", field="seed")
        names = sorted(item.name for item in self.uncertain)
        drawn = {item.name: np.full(samples, item.base) for item in self.items if not item.uncertain}
        if names:
            scores = self._scores(names, samples, seed)
            drawn |= {name: self[name].distribution.value(scores[:, place]) for place, name in enumerate(names)}
        return {name: drawn[name] for name in self.names}

    def _scores(self, names: list[str], samples: int, seed: int) -> Array:
        from scipy.special import ndtri
        from scipy.stats.qmc import LatinHypercube

        uniform = LatinHypercube(len(names), rng=np.random.default_rng(seed)).random(samples)
        scores = ndtri(np.clip(uniform, 1e-12, 1 - 1e-12))
        matrix = np.eye(len(names))
        for (one, other), value in self.correlations.items():
            if one in names and other in names and one != other:
                i, j = names.index(one), names.index(other)
                matrix[i, j] = matrix[j, i] = value
        sizes, axes = np.linalg.eigh(matrix)
        if sizes[0] < -1e-9:
            raise SpecError(f"contradict each other: {dict(self.correlations)}", field="correlations")
        # the symmetric root leaves independent columns as they are, stratified
        return np.asarray(scores @ (axes * np.sqrt(np.maximum(sizes, 0.0))) @ axes.T)

    def changed(self, given: Mapping[str, Any]) -> Assumptions:
        """The set with other values: a number (certain), ``(low, high)`` or ``(low, base, high)`` as a 90% range, a distribution or
        an Assumption. Names must exist.

        >>> known = Assumptions((Assumption.around("price.per_hour", 2.0, 1.5, 3.0),))
        >>> known.changed({"price.per_hour": (2.0, 2.5, 4.0)})["price.per_hour"].base
        2.5
        """
        items = {item.name: item for item in self.items}
        for name, value in given.items():
            items[name] = _changed(self[name], value)
        return Assumptions(tuple(items.values()), self.correlations)

    def joined(self, other: Assumptions) -> Assumptions:
        """Both sets; an assumption that both have is shared, and the first set's counts."""
        mine = set(self.names)
        return Assumptions((*self.items, *(item for item in other if item.name not in mine)),
                           {**other.correlations, **self.correlations})  # fmt: skip

    def to_dict(self) -> list[dict[str, Any]]:
        """One object per assumption."""
        return [item.to_dict() for item in self.items]

    def __str__(self) -> str:
        width = max((len(item.name) for item in self.items), default=0) + 1
        lines = [f"{'assumption':<{width}}{'low':>9}{'base':>9}{'high':>9}  status  unit"]
        for item in self.items:
            shown = "".join(f"{value:>9.4g}" for value in (item.low, item.base, item.high))
            line = f"{item.name:<{width}}{shown}  {item.status:<6}  {item.unit}".rstrip()
            lines += textwrap.wrap(line, 80, subsequent_indent=" " * (width + 37))
        return "\n".join(lines)


def _changed(item: Assumption, value: Any) -> Assumption:
    """An assumption with what a user says of it in place of its own."""
    if isinstance(value, Assumption):
        return replace(value, name=item.name)
    told: dict[str, Any] = {"unit": item.unit, "source": "given by the user"}
    if isinstance(value, Distribution):
        base = float(value.value(0.0))
        return Assumption(item.name, base, value, **told)
    try:
        numbers = [float(v) for v in value] if isinstance(value, (tuple, list)) else [float(value)]
    except (TypeError, ValueError):
        numbers = []
    if not 1 <= len(numbers) <= 3 or not all(map(math.isfinite, numbers)):
        raise SpecError(f"is a number, (low, high) or (low, base, high), got {value!r}", field=item.name)
    if len(numbers) == 1:
        return Assumption.certain(item.name, numbers[0], **told)
    low, high = numbers[0], numbers[-1]
    scale: Scale = item.scale if item.uncertain else "log" if low > 0 else "linear"
    base = numbers[1] if len(numbers) == 3 else item.base if low <= item.base <= high else _middle(low, high, scale)
    return Assumption.around(item.name, base, low, high, scale=scale, **told)


def _middle(low: float, high: float, scale: Scale) -> float:
    return math.sqrt(low * high) if scale == "log" and low > 0 else (low + high) / 2


def read_assumption(text: str) -> tuple[str, Any]:
    """``"price.per_hour=1.8..3"`` as a name and what ``Assumptions.changed`` takes; ``low..base..high`` or one number as well.

    >>> read_assumption("price.per_hour=1.8..3"), read_assumption("years=4")
    (('price.per_hour', (1.8, 3.0)), ('years', 4.0))
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    try:
        numbers = tuple(float(part) for part in value.split(".."))
    except ValueError:
        numbers = ()
    if not equals or not name or not 1 <= len(numbers) <= 3:
        raise SpecError(
            f"write an assumption as price.per_hour=1.8..3, low..base..high or =2, got {text!r}", field="assume"
        )
    return name, numbers[0] if len(numbers) == 1 else numbers


def together(names: Iterable[str], correlation: float) -> dict[tuple[str, str], float]:
    """Every pair of ``names`` with one correlation.

    >>> together(["a", "b"], 0.5)
    {('a', 'b'): 0.5}
    """
    listed = list(names)
    return {(one, other): correlation for place, one in enumerate(listed) for other in listed[place + 1 :]}
