"""The stages of a retrieval: what each takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from infersim import units
from infersim.report.figures.style import BLUE, house, is_narrow, quantity_axis, short_count, told

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from infersim.retrieval.answer import RetrievalAnswer


def retrieval_stages(answer: RetrievalAnswer | Mapping[str, Any], *, ax: Axes | None = None) -> Axes:
    """The stages of a query one after the other, with the queries a second that one copy of each serves."""
    stages = told(answer)["stages"]
    with house(ax) as axes:
        start = 0.0
        for place, stage in enumerate(stages):
            seconds = stage["latency_s"]
            axes.barh(place, seconds, left=start, color=BLUE, height=0.6)
            start += seconds
            rate = short_count(float(f"{stage['capacity_per_s']:.3g}"))
            text = f"{units.show(seconds, 's')}, {rate}/s"
            axes.annotate(text, (start, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8.5)
        axes.set_yticks(range(len(stages)), [stage["name"] for stage in stages])
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.set(
            xlabel="time of a query; queries/s of one copy", xlim=(0, start * (1.7 if is_narrow(axes) else 1.35) or 1.0)
        )
        axes.grid(visible=False, axis="y")
        quantity_axis(axes.xaxis, "s")
        axes.locator_params(axis="x", nbins=4 if is_narrow(axes) else 8)
    return axes
