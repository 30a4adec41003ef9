"""A decision: what each way costs over what decides, the cheapest of them, where that changes, and where you are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from infersim.errors import SpecError
from infersim.report.figures.style import (
    INK,
    MUTED,
    SERIES,
    count_axis,
    fine_log_ticks,
    house,
    is_narrow,
    label_points,
    short_count,
    told,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from infersim.decide.answer import DecisionAnswer

SHOWN = 6
"""Break-even points that are named."""
NEAR = 0.09
"""Share of the axis within which break-even points share a name."""


def decision_curve(answer: DecisionAnswer | Mapping[str, Any], *, ax: Axes | None = None) -> Axes:
    """USD per query of every way over the assumption that decides; the cheapest is drawn broad, break-even points are marked, and so is
    your own value.

    Ways end where they are out of reach, such as a prompt that the model cannot read.
    """
    known = told(answer)
    x = np.asarray(known["curve"]["over"], dtype=float)
    lines = {
        name: np.array([np.nan if usd is None else usd for usd in values], dtype=float)
        for name, values in known["curve"]["usd_per_query"].items()
    }
    every = np.stack(list(lines.values()))
    reached = np.isfinite(every).any(axis=0)
    if not reached.any():
        raise SpecError("no way is within reach anywhere on the curve: there is nothing to draw", field="curve")
    lowest = np.full(len(x), np.nan)
    lowest[reached] = np.nanmin(every[:, reached], axis=0)
    share = known["over_unit"] == "share"
    with house(ax) as axes:
        axes.plot(x, lowest, color=MUTED, linewidth=7.0, alpha=0.25, solid_capstyle="round", label="cheapest")
        ends = []
        for number, (name, values) in enumerate(lines.items()):
            colour = SERIES[number % len(SERIES)]
            axes.plot(x, values, color=colour)
            there = np.flatnonzero(np.isfinite(values))
            if len(there):
                ends.append((float(x[there[-1]]), float(values[there[-1]]), name, colour))
        axes.set(xscale="linear" if share else "log", yscale="log", ylabel=f"USD per {known['usd_are_per']}",
                 xlabel=_axis(known["over"], known["over_unit"]))  # fmt: skip
        finite = every[np.isfinite(every) & (every > 0)]
        axes.set_ylim(finite.min() / 1.6, finite.max() * 1.6)
        axes.margins(x=0.02)
        marks = [
            (one["value"], one["usd_per_query"]) for one in known["break_evens"] if one["usd_per_query"] is not None
        ]
        axes.plot([value for value, _ in marks], [usd for _, usd in marks], "o", color=INK, zorder=4, linestyle="none")
        for group in _groups([value for value, _ in marks], x, share)[:SHOWN]:
            (value, usd), last = marks[group[0]], marks[group[-1]][0]
            label = f"{value:.0%}" if share else short_count(value)
            label += "" if len(group) == 1 else f" to {last:.0%}" if share else f" to {short_count(last)}"
            axes.annotate(label, (value, usd), xytext=(0, -13), textcoords="offset points", ha="center", fontsize=8.5)
        mine = known["your_value"]
        if x[0] <= mine <= x[-1]:
            axes.axvline(mine, color=MUTED, linestyle=":", linewidth=1.0)
            right = (mine > (x[0] + x[-1]) / 2) if share else mine > np.sqrt(x[0] * x[-1])
            shown = f"{mine:.0%}" if share else short_count(mine)
            axes.annotate(f"you: {shown}", (mine, 1), xycoords=("data", "axes fraction"), xytext=(-4 if right else 4, -9),
                          textcoords="offset points", ha="right" if right else "left", fontsize=8, color=MUTED)  # fmt: skip
        if share:
            from matplotlib.ticker import PercentFormatter

            axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        else:
            count_axis(axes.xaxis)
        count_axis(axes.yaxis)
        if finite.max() < 300 * finite.min():
            fine_log_ticks(axes.yaxis)
        low, high = axes.get_xlim()
        room = 0.44 if is_narrow(axes) else 0.26
        axes.set_xlim(low, high + room * (high - low) if share else high * (high / low) ** room)
        if share:
            axes.set_xticks(np.linspace(0, 1, 6))
        label_points(axes, ends)
    return axes


def _axis(name: str, unit: str) -> str:
    """An assumption as the name of an axis, with its unit where the name does not say it.

    >>> _axis("corpus_tokens", "tokens"), _axis("cache_ttl", "s")
    ('corpus tokens', 'cache ttl [s]')
    """
    told_already = unit in ("", "share") or unit.split("/")[0] in name
    return name.replace("_", " ") + ("" if told_already else f" [{unit}]")


def _groups(values: list[float], x: np.ndarray, share: bool) -> list[list[int]]:
    """Places of rising values, those near each other on the axis together.

    >>> _groups([1.0, 50.0, 52.0], np.array([1.0, 1000.0]), False)
    [[0], [1, 2]]
    """
    scaled = [value if share else float(np.log(value)) for value in values]
    width = float(x[-1] - x[0]) if share else float(np.log(x[-1] / x[0]))
    found: list[list[int]] = []
    for place, value in enumerate(scaled):
        if found and value - scaled[found[-1][-1]] < NEAR * width:
            found[-1].append(place)
        else:
            found.append([place])
    return found
