"""Cost of tokens against how much of the capacity is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from infersim.errors import SpecError
from infersim.report.figures.style import INK, MUTED, SERIES, count_axis, house, is_narrow, label_points, short_count

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def cost_against_utilisation(
    utilisation: Sequence[float],
    costs: Mapping[str, Sequence[float]],
    *,
    at: float | None = None,
    break_even: float | None = None,
    unit: str = "USD per million output tokens",
    ax: Axes | None = None,
) -> Axes:
    """Cost over the share of the capacity that is used, a line for each way to pay; where two lines cross is their break-even.

    ``costs`` by name over ``utilisation`` (shares, 0 to 1); ``at`` marks the planned share; ``break_even`` is found from the first two
    lines where it is not given, and left out where they do not cross.

    >>> cost_against_utilisation([0.1, 0.5, 1.0], {"rent": [2, 2, 2], "own": [10, 2, 1]}).get_xlabel()
    'utilisation [% of capacity]'
    """
    used = np.asarray(utilisation, dtype=float)
    if len(used) < 2 or not costs:
        raise SpecError("needs at least two utilisations and one line of costs", field="utilisation")
    lines = {name: np.asarray(values, dtype=float) for name, values in costs.items()}
    if break_even is None and len(lines) > 1:
        break_even = crossing(used, *list(lines.values())[:2])
    with house(ax) as axes:
        last = []
        for number, (name, values) in enumerate(lines.items()):
            colour = SERIES[number % len(SERIES)]
            axes.plot(100 * used, values, color=colour, label=name)
            last.append((values[-1], name, colour))
        finite = np.concatenate([values[np.isfinite(values)] for values in lines.values()])
        most = min(finite.max(), 12 * finite.min()) if finite.min() > 0 else finite.max()
        axes.set(xlabel="utilisation [% of capacity]", ylabel=unit, xlim=(0, 100 * used[-1]), ylim=(0, 1.08 * most))
        if len(lines) > 1:
            axes.legend(loc="upper right")
        if break_even is not None and used[0] <= break_even <= used[-1]:
            price = float(np.interp(break_even, used, next(iter(lines.values()))))
            axes.plot([100 * break_even], [price], "o", color=INK, zorder=4)
            axes.annotate(
                f"break-even at {break_even:.0%}", (100 * break_even, price), xytext=(8, 10), textcoords="offset points"
            )
        if at is not None:
            axes.axvline(100 * at, color=MUTED, linestyle=":", linewidth=1.0)
            left = at > 0.7
            axes.annotate(f"planned {at:.0%}", (100 * at, 1), xycoords=("data", "axes fraction"), xytext=(-4 if left else 4, -9),
                          textcoords="offset points", ha="right" if left else "left", fontsize=8, color=MUTED)  # fmt: skip
        axes.locator_params(axis="x", nbins=5 if is_narrow(axes) else 10)
    return axes


def own_against_rent(
    owned: Sequence[float], rented: Sequence[float], *, break_even: int | None = None, ax: Axes | None = None
) -> Axes:
    """What owning (net of what the hardware then sells for) and renting have cost after each month, and where owning has paid off.

    ``owned`` and ``rented`` in USD after 0, 1, 2 ... months, as ``buy_or_rent`` of a CostReport's ``to_dict()`` tells them.
    """
    if len(owned) != len(rented) or len(owned) < 2:
        raise SpecError("needs owned and rented for the same months, two at least", field="owned")
    months = np.arange(len(owned))
    with house(ax) as axes:
        ends = []
        for name, values, colour in (("owned", owned, SERIES[1]), ("rented", rented, SERIES[0])):
            axes.plot(months, values, color=colour)
            ends.append((float(months[-1]), float(values[-1]), name, colour))
        axes.set(xlabel="months", ylabel="spent until then [USD]", xlim=(0, months[-1]), ylim=(0, None))
        count_axis(axes.yaxis)
        if break_even is not None:
            axes.plot([break_even], [rented[break_even]], "o", color=INK, zorder=4)
            axes.annotate(
                f"break-even in month {break_even}",
                (break_even, rented[break_even]),
                xytext=(8, -12),
                textcoords="offset points",
            )
        label_points(axes, ends)
    return axes


def cost_parts(parts: Mapping[str, float], *, ax: Axes | None = None) -> Axes:
    """The parts of a year's cost as bars, the largest on top; ``parts`` in USD a year by name."""
    ranked = sorted(((name, usd) for name, usd in parts.items() if usd), key=lambda part: -part[1])
    if not ranked:
        raise SpecError("has no part that costs anything", field="parts")
    total = sum(usd for _, usd in ranked)
    with house(ax) as axes:
        for place, (_, usd) in enumerate(reversed(ranked)):
            axes.barh(place, usd, color=SERIES[0], height=0.7)
            axes.annotate(f"{short_count(usd)}  {usd / total:.0%}", (usd, place), xytext=(4, 0), textcoords="offset points", va="center",
                          fontsize=8.5)  # fmt: skip
        axes.set_yticks(range(len(ranked)), [name for name, _ in reversed(ranked)])
        axes.tick_params(axis="y", length=0)
        axes.set(xlabel="USD a year", xlim=(0, ranked[0][1] * 1.3))
        axes.grid(visible=False, axis="y")
        count_axis(axes.xaxis)
        axes.locator_params(axis="x", nbins=4 if is_narrow(axes) else 7)
    return axes


def crossing(x: np.ndarray, first: np.ndarray, second: np.ndarray) -> float | None:
    """Where two lines first cross, linearly between their points; None where they do not.

    >>> crossing(np.array([0.0, 1.0]), np.array([0.0, 2.0]), np.array([1.0, 1.0]))
    0.5
    """
    gap = first - second
    for place in range(len(x) - 1):
        a, b = gap[place], gap[place + 1]
        if a * b < 0 or (a == 0) != (b == 0):
            return float(x[place] + (x[place + 1] - x[place]) * a / (a - b))
    return None


def rented_cost(
    utilisation: Sequence[float], *, price_per_hour: float, devices: int, tokens_per_second: float
) -> np.ndarray:
    """USD per million tokens of rented devices that are paid by the hour, whatever they do.

    cost = price x devices / 3600 / (utilisation x tokens per second at full use) x 1e6. All of the money over one kind of token.

    >>> rented_cost([0.5, 1.0], price_per_hour=3.6, devices=1, tokens_per_second=1000).tolist()
    [2.0, 1.0]
    """
    return price_per_hour * devices / 3600 / (np.asarray(utilisation, dtype=float) * tokens_per_second) * 1e6
