"""What a decision takes for granted, from its data file: named figures with ranges and sources, and the evidence that nobody gave."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from infersim.errors import SpecError
from infersim.planning.assumptions import Assumption, Assumptions
from infersim.planning.terms import STATUS
from infersim.specs.economics import Figure
from infersim.specs.library import find, read_yaml, validate
from infersim.specs.quantity import Spec


class Known(Figure):
    """A figure with its unit.

    >>> Known.model_validate({"value": 2, "low": 1, "high": 3, "unit": "s", "source": "a guess", "status": "assumed"}).unit
    's'
    """

    unit: str = ""

    def assumption(self, name: str) -> Assumption:
        """As a plan's assumption: shares on the logit scale, what is above zero on the log scale."""
        told: dict[str, Any] = {"unit": self.unit, "source": self.source, "status": STATUS[self.status]}
        if self.low == self.high:
            return Assumption.certain(name, self.value, **told)
        share = self.unit == "share" and self.low > 0 and self.high < 1
        return Assumption.around(name, self.value, self.low, self.high, **told,
                                 scale="logit" if share else "log" if self.low > 0 else "linear")  # fmt: skip


class Knowledge(Spec):
    """The data file of a decision: its title, the assumption it is drawn over, all assumptions, and missing evidence of quality."""

    title: str
    over: str = ""
    assumptions: dict[str, Known]
    quality: tuple[str, ...] = ()

    def items(self, *, without: Iterable[str] = ()) -> tuple[Assumption, ...]:
        left_out = set(without)
        return tuple(known.assumption(name) for name, known in self.assumptions.items() if name not in left_out)


@functools.lru_cache(maxsize=16)
def knowledge(name: str) -> Knowledge:
    """The data file called ``name``.

    >>> knowledge("cascade").over
    'acceptance'
    """
    path = find("decisions", name)
    return validate(Knowledge, read_yaml(path), file=path)


LIMITS: Mapping[str, tuple[float, float]] = {
    "share": (0.0, 1.0), "queries/month": (1.0, 1e15), "months": (0.01, 1e6), "tokens/s": (1.0, 1e12), "factor": (1e-3, 1e3),
}  # fmt: skip
"""What values of a unit lie between; of any other from zero to MOST."""
MOST = 1e15


def with_given(known: Assumptions, given: Mapping[str, Any]) -> Assumptions:
    """The assumptions with what a user says of them; nothing is negative, shares are at most one.

    Raises UnknownNameError for a name that the decision does not have, SpecError for a value that cannot be.
    """
    changed = known.changed(given)
    for name in given:
        item = changed[name]
        low, high = LIMITS.get(item.unit, (0.0, MOST))
        for value in (item.base, item.low, item.high) if item.uncertain else (item.base,):
            if not low <= value <= high:
                most = f" to {high:g}" if high < MOST else " on"
                raise SpecError(f"is from {low:g}{most}, got {value:g}", field=name)
    return changed
