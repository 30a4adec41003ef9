"""Which assumption moves the answer most: a tornado of one at a time, and shares of the variance from a Monte Carlo sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from infersim.errors import SpecError
from infersim.ops.base import Numbers
from infersim.planning.assumptions import Assumptions
from infersim.planning.distributions import Array
from infersim.planning.options import frame

Metric = Callable[[Mapping[str, Numbers]], Numbers]
"""A figure of a plan as a function of its assumptions; takes arrays."""
BINS = 20
"""Classes of an assumption that the variance of a figure is compared between."""
NEEDED = 10 * BINS
"""Samples from which on shares of the variance say anything."""
BAR = 26


@dataclass(frozen=True)
class Bar:
    """A figure with one assumption at the ends of its 90% range and all others at their base values."""

    name: str
    unit: str
    status: str
    at_low: float
    """The assumption's low end."""
    at_high: float
    low: float
    """The figure there."""
    base: float
    high: float
    variance_share: float | None = None
    """Share of the figure's variance that the assumption explains by itself; None where no sample was given."""

    @property
    def least(self) -> float:
        return min(self.low, self.base, self.high)

    @property
    def most(self) -> float:
        return max(self.low, self.base, self.high)

    @property
    def swing(self) -> float:
        """How far the figure moves; infinite where an end is out of reach."""
        return self.most - self.least


@dataclass(frozen=True)
class Tornado:
    """Bars of one figure, the widest first.

    >>> from infersim.planning.assumptions import Assumption
    >>> known = Assumptions(tuple(Assumption.around(n, 2.0, 1.0, 4.0) for n in ("a", "b")))
    >>> print(tornado(lambda v: v["a"] + 3 * v["b"], known, "cost", "USD"))
    cost, base 8 USD
                at low  at high
    b                5       14 ########|#################
    a                7       10       ##|######
    """

    figure: str
    unit: str
    bars: tuple[Bar, ...]

    @property
    def base(self) -> float:
        return self.bars[0].base

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, infinite ones as None."""
        bars = [
            {"assumption": bar.name, "unit": bar.unit, "status": bar.status, "assumption_low": bar.at_low,
             "assumption_high": bar.at_high, "figure_at_low": _finite(bar.low), "figure_at_high": _finite(bar.high),
             "variance_share": bar.variance_share}
            for bar in self.bars
        ]  # fmt: skip
        return {"figure": self.figure, "unit": self.unit, "base": _finite(self.base), "bars": bars}

    def to_frame(self) -> Any:
        """One row per assumption, as a pandas frame."""
        return frame(self.to_dict()["bars"])

    def __str__(self) -> str:
        width = max(9, *(len(bar.name) for bar in self.bars))
        told = any(bar.variance_share is not None for bar in self.bars)
        lines = [f"{self.figure}, base {_short(self.base)} {self.unit}",
                 f"{'':<{width}} {'at low':>8} {'at high':>8} {'':<{BAR}}{' variance' if told else ''}".rstrip()]  # fmt: skip
        finite = [v for bar in self.bars for v in (bar.least, bar.most) if math.isfinite(v)]
        least, most = (min(finite), max(finite)) if finite else (0.0, 1.0)
        for bar in self.bars:
            share = "" if bar.variance_share is None else f"{bar.variance_share:8.0%}"
            ends = f"{_short(bar.low):>8} {_short(bar.high):>8}"
            lines.append(f"{bar.name:<{width}} {ends} {_drawn(bar, least, most)}{share}".rstrip())
        return "\n".join(lines)


def tornado(
    metric: Metric, assumptions: Assumptions, figure: str = "figure", unit: str = "", *,
    sample: tuple[Mapping[str, Array], Array] | None = None,
) -> Tornado:  # fmt: skip
    """Every uncertain assumption at the ends of its 90% range with the others at their base values, in one array pass.

    ``sample``: assumptions drawn and the figures they lead to; it adds the shares of the variance. SpecError where nothing is
    uncertain.
    """
    items = assumptions.uncertain
    if not items:
        raise SpecError("has no uncertain assumption to vary; give one a range", field="assumptions")
    base = assumptions.base()
    cases = {name: np.full(2 * len(items) + 1, value) for name, value in base.items()}
    for place, item in enumerate(items):
        cases[item.name][2 * place + 1], cases[item.name][2 * place + 2] = item.low, item.high
    found = np.broadcast_to(np.asarray(metric(cases), dtype=float), (2 * len(items) + 1,))
    shares = {} if sample is None else variance_shares(*sample)
    bars = [
        Bar(item.name, item.unit, item.status, item.low, item.high, float(found[2 * place + 1]), float(found[0]),
            float(found[2 * place + 2]), shares.get(item.name))
        for place, item in enumerate(items)
    ]  # fmt: skip
    ranked = sorted(
        bars, key=lambda bar: (-bar.swing if not math.isnan(bar.swing) else 0.0, -(bar.variance_share or 0.0))
    )
    return Tornado(figure, unit, tuple(ranked))


def variance_shares(drawn: Mapping[str, Array], figures: Array) -> dict[str, float]:
    """First-order share of the variance of ``figures`` that each assumption explains alone: Var(E[Y|X]) / Var(Y), Sobol's index.

    From a given sample: analysis of variance between classes of equal probability, the epsilon squared of Kelley (1935), which is
    free of the bias of small classes. Correlated assumptions share what they explain, so the sum may exceed one. Samples without a
    finite figure are left out; none is returned where fewer than NEEDED are left or the figure does not vary.

    >>> generator = np.random.default_rng(0)
    >>> a, b = generator.normal(size=(2, 20000))
    >>> {name: round(share, 1) for name, share in variance_shares({"a": a, "b": b}, 3 * a + b).items()}
    {'a': 0.9, 'b': 0.1}
    """
    kept = np.isfinite(figures)
    values = figures[kept]
    if len(values) < NEEDED or values.var() == 0:
        return {}
    total = values.var(ddof=1)
    found = {}
    for name, given in drawn.items():
        column = np.broadcast_to(given, figures.shape)[kept]
        if column.min() == column.max():
            continue
        order = np.argsort(column, kind="stable")
        classes = np.array_split(values[order], BINS)
        within = sum(float(((part - part.mean()) ** 2).sum()) for part in classes) / (len(values) - BINS)
        found[name] = float(np.clip(1 - within / total, 0.0, 1.0))
    return found


def _drawn(bar: Bar, least: float, most: float) -> str:
    """The bar between the least and the most of all bars, its base marked."""
    width = most - least or 1.0

    def place(value: float) -> int:
        return round((min(max(value, least), most) - least) / width * (BAR - 1))

    start, end, middle = place(bar.least), place(bar.most), place(bar.base)
    return "".join("|" if at == middle else "#" if start <= at <= end else " " for at in range(BAR))


def _short(value: float) -> str:
    if not math.isfinite(value):
        return "none" if math.isinf(value) else "-"
    if abs(value) >= 1e6:
        return f"{value / 1e6:.4g}M"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
