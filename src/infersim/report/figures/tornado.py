"""Which assumption moves a figure most."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from infersim import units
from infersim.errors import SpecError
from infersim.report.figures.style import (
    BLUE,
    INK,
    ORANGE,
    count_axis,
    house,
    is_narrow,
    quantity_axis,
    short_count,
    told,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 10
"""Bars drawn; the rest move the figure less."""


def tornado(
    bars: Any,
    *,
    base: float | None = None,
    figure: str = "figure",
    unit: str = "",
    most: int = MOST,
    ax: Axes | None = None,
) -> Axes:
    """One bar per assumption from the figure at its low end (blue) to that at its high end (orange), the widest on top.

    ``bars`` is a Tornado, its ``to_dict()``, or rows ``(name, figure at low, figure at high)`` with ``base`` the figure as planned. An end
    out of reach (None or infinite) runs to the edge and says so; assumptions that do not move the figure are left out.
    """
    if isinstance(bars, Sequence):
        rows = [(str(name), "", "", low, high) for name, low, high in bars]
    else:
        found = told(bars)
        base, figure, unit = found["base"], found["figure"], found["unit"]
        rows = [_row(bar) for bar in found["bars"]]
    if not rows or base is None or not math.isfinite(base):
        raise SpecError("needs at least one bar and a base that is a number", field="bars")
    spans = [_span(low, high, base) for *_, low, high in rows]
    order = sorted(range(len(rows)), key=lambda index: -spans[index])[:most]
    order = [index for index in order if spans[index] > 0] or order[:1]
    finite = [value for index in order for value in rows[index][3:] if _known(value)] + [base]
    least, greatest = min(finite), max(finite)
    reach = (greatest - least) or abs(base) or 1.0
    edge = greatest + 0.2 * reach
    with house(ax) as axes:
        for place, index in enumerate(reversed(order)):
            _, at_low, at_high, low, high = rows[index]
            for end, colour, text in ((low, BLUE, at_low), (high, ORANGE, at_high)):
                reached = end if _known(end) else edge
                axes.barh(place, reached - base, left=base, color=colour, height=0.66)
                words = text + ("" if _known(end) else (" " if text else "") + "out of reach")
                right = reached > base or (reached == base and colour == ORANGE)
                axes.annotate(words, (reached, place), xytext=(3 if right else -3, 0), textcoords="offset points", va="center",
                              ha="left" if right else "right", fontsize=8)  # fmt: skip
        axes.axvline(base, color=INK, linewidth=1.0)
        planned = units.show(base, "s") if unit == "s" else short_count(base)
        axes.annotate(f"as planned {planned}", (base, 1), xycoords=("data", "axes fraction"), xytext=(0, 2),
                      textcoords="offset points", ha="center", va="bottom", fontsize=8.5)  # fmt: skip
        axes.set_yticks(range(len(order)), [_wrapped(rows[index][0], is_narrow(axes)) for index in reversed(order)])
        axes.tick_params(axis="y", length=0)
        axes.set(xlabel=figure.replace("_", " ") + (f" [{unit}]" if unit not in ("", "s") else ""))
        (partial(quantity_axis, unit="s") if unit == "s" else count_axis)(axes.xaxis)
        axes.margins(x=0.25 if is_narrow(axes) else 0.14)
        axes.locator_params(axis="x", nbins=4 if is_narrow(axes) else 7)
        axes.grid(visible=False, axis="y")
    return axes


def _row(bar: Mapping[str, Any]) -> tuple[str, str, str, float | None, float | None]:
    ends = (short_count(bar["assumption_low"]), short_count(bar["assumption_high"]))
    return str(bar["assumption"]), *ends, bar["figure_at_low"], bar["figure_at_high"]


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _span(low: float | None, high: float | None, base: float) -> float:
    """How far the figure moves; infinite where an end is out of reach."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return math.inf
    return max(low, high, base) - min(low, high, base)


def spoken(name: str) -> str:
    """An assumption's name as a person reads it.

    >>> spoken("prediction.ttft"), spoken("workload.input_tokens")
    ('prediction: TTFT', 'workload: input tokens')
    """
    words = name.replace("_", " ").replace(".", ": ")
    return re.sub(r"\b(ttft|tpot|itl|e2e)\b", lambda found: found[0].upper(), words)


def _wrapped(name: str, narrow: bool) -> str:
    return "\n".join(textwrap.wrap(spoken(name), 16)) if narrow else spoken(name)
