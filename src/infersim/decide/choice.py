"""A choice between ways of doing the same: what each costs and takes as a function of named assumptions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from infersim.errors import SpecError, UnknownNameError, did_you_mean
from infersim.planning.assumptions import Assumption, Assumptions
from infersim.planning.distributions import Array
from infersim.planning.known import with_given

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Figures:
    """A query of one way: USD with its share of what is paid by the month, and its mean latencies [s]; infinite: out of reach."""

    usd: Any
    ttft: Any
    e2e: Any


@dataclass(frozen=True)
class Way:
    """One of the ways, by name, and its figures as a function of the values of all assumptions, which are numbers or arrays."""

    name: str
    figures: Callable[[Values], Figures]


@dataclass(frozen=True)
class Choice:
    """The ways, what they rest on, and the assumption ``over`` which they are drawn.

    ``ttft_limit`` [s] puts a way out of reach where its mean is above it. ``knots`` are values of ``over`` at which costs step.
    ``queries``: the assumption that a month's cost is taken from.

    >>> pay = Choice("rent or buy", "n", Assumptions((Assumption.around("n", 10.0, 1.0, 100.0),)), (
    ...     Way("rent", lambda v: Figures(1.0 + 0 * v["n"], 0.1, 1.0)), Way("buy", lambda v: Figures(20.0 / v["n"], 0.1, 1.0))))
    >>> pay.costs(pay.assumptions.base()).tolist()
    [1.0, 2.0]
    """

    title: str
    over: str
    assumptions: Assumptions
    ways: tuple[Way, ...]
    quality: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    ttft_limit: float | None = None
    success: Mapping[str, float] = field(default_factory=dict)
    knots: Callable[[Values], Array] | None = None
    queries: str = "queries_per_month"

    @property
    def names(self) -> list[str]:
        return [way.name for way in self.ways]

    @property
    def shared(self) -> bool:
        """Whether costs are of a successful answer, since chances of success are given."""
        return bool(self.success)

    def figures(self, values: Values) -> list[Figures]:
        """The figures of every way, broadcast to one shape, with the cost per successful answer and the limit taken into account."""
        shape = np.broadcast_shapes(*(np.shape(value) for value in values.values()))
        found = []
        for way in self.ways:
            one = way.figures(values)
            usd, ttft, e2e = (
                np.broadcast_to(np.asarray(part, dtype=float), shape) for part in (one.usd, one.ttft, one.e2e)
            )
            if self.shared:
                chance = np.asarray(values[chance_of(way.name)], dtype=float)
                with np.errstate(divide="ignore"):
                    usd = np.where(chance > 0, usd / chance, np.inf)
            if self.ttft_limit is not None:
                usd = np.where(ttft > self.ttft_limit, np.inf, usd)
            found.append(Figures(usd, ttft, e2e))
        return found

    def costs(self, values: Values) -> Array:
        """USD of a query: a row for every way."""
        return np.stack([one.usd for one in self.figures(values)])

    def given(self, values: Mapping[str, Any]) -> Choice:
        """The same choice with what a user says of its assumptions."""
        return replace(self, assumptions=with_given(self.assumptions, values))

    def drawn_over(self, name: str) -> Choice:
        """The same choice over another of its assumptions; UnknownNameError where it has no such one."""
        if name not in self.assumptions.names:
            raise UnknownNameError(
                f"no assumption is called {name!r}; {did_you_mean(name, self.assumptions.names)}", field="over"
            )
        return replace(self, over=name)

    def with_success(self, chances: Mapping[str, Any]) -> Choice:
        """The same choice per successful answer: the chance that an answer is right, by way, as a number or a range.

        All ways need one, or none has one. Raises SpecError for a way that is missing, UnknownNameError for one that there is not.
        """
        if not chances:
            return self
        by_key = {key(name): name for name in self.names}
        named = {}
        for given, chance in chances.items():
            if key(given) not in by_key:
                raise UnknownNameError(
                    f"no way is called {given!r}; {did_you_mean(given, self.names)}", field="success"
                )
            ends = chance if isinstance(chance, (tuple, list)) and len(chance) == 2 else None
            named[by_key[key(given)]] = (ends[0], sum(ends) / 2, ends[1]) if ends else chance
        missing = [name for name in self.names if name not in named]
        if missing:
            raise SpecError(f"needs the chance of every way; missing: {', '.join(missing)}", field="success")
        items = tuple(Assumption.certain(chance_of(name), 0.5, unit="share") for name in self.names)
        known = with_given(Assumptions(items), {chance_of(name): chance for name, chance in named.items()})
        bases = {name: known[chance_of(name)].base for name in self.names}
        return replace(self, assumptions=self.assumptions.joined(known), success=bases)


def key(name: str) -> str:
    """A name of a way as files and options may write it.

    >>> key("long context, cached"), key("long-context_cached")
    ('long context cached', 'long context cached')
    """
    return " ".join(name.lower().replace(",", " ").replace("_", " ").replace("-", " ").split())


def chance_of(name: str) -> str:
    """The assumption that holds a way's chance of success."""
    return "success." + key(name).replace(" ", "_")
