"""Decoding algorithms beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from infersim import units
from infersim.report.figures.style import BLUE, SKY, house, is_narrow, quantity_axis, told

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from infersim.decoding.answer import DecodingAnswer


def decoding_methods(answer: DecodingAnswer | Mapping[str, Any], *, ax: Axes | None = None) -> Axes:
    """What a user waits for with each algorithm, to the first token and from there to the last, with what the answer costs."""
    rows = list(reversed(told(answer)["methods"]))
    with house(ax) as axes:
        for place, row in enumerate(rows):
            first, whole, usd = row["ttft_s"], row["e2e_s"], row["usd_per_answer"]
            last = place == len(rows) - 1
            axes.barh(place, first, color=SKY, height=0.66, label="to the first token" if last else None)
            axes.barh(place, whole - first, left=first, color=BLUE, height=0.66, label="to the last" if last else None)
            text = units.show(whole, "s") + ("" if usd is None else f", {1000 * usd:.3g} USD")
            axes.annotate(text, (whole, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8.5)
        axes.set_yticks(range(len(rows)), [row["method"] for row in rows])
        axes.tick_params(axis="y", length=0)
        most = max(row["e2e_s"] for row in rows)
        axes.set(
            xlabel="time of an answer; USD per thousand answers", xlim=(0, most * (1.6 if is_narrow(axes) else 1.3))
        )
        axes.grid(visible=False, axis="y")
        quantity_axis(axes.xaxis, "s")
        axes.locator_params(axis="x", nbins=4 if is_narrow(axes) else 8)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return axes
