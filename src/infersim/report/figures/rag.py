"""A query of a RAG pipeline: where its time goes, and how that changes with passages and chunks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from infersim import units
from infersim.errors import SpecError
from infersim.report.figures.style import (
    BLUE,
    MUTED,
    ORANGE,
    SERIES,
    SKY,
    count_axis,
    house,
    is_narrow,
    label_points,
    quantity_axis,
    told,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from infersim.rag.answer import RagAnswer
    from infersim.rag.sweep import RagSweep

AXES = {
    "ttft_s": "TTFT",
    "ttft_p95_s": "TTFT, 95th percentile",
    "e2e_s": "E2E",
    "usd_per_query": "USD per thousand queries",
}


def rag_waterfall(answer: RagAnswer | Mapping[str, Any], *, whole: bool = False, ax: Axes | None = None) -> Axes:
    """Stages of a query one after the other until the first token: what each takes alone, what is waited for, and its 95th percentile.

    ``whole`` goes on to the last token. The line is the mean TTFT, the dotted one its 95th percentile.
    """
    known = told(answer)
    stages = [stage for stage in known["stages"] if whole or stage["name"] != "generate"]
    with house(ax) as axes:
        for place, stage in enumerate(stages):
            start, alone, waited = stage["start_s"], stage["latency_s"], stage["waited_s"]
            axes.barh(place, alone, left=start, color=BLUE, height=0.62, label="alone" if place == 0 else None)
            if waited:
                axes.barh(place, waited, left=start + alone, color=SKY, height=0.62)
            beyond = max(start + stage["p95_s"], start + alone + waited)
            axes.plot([start + alone + waited, beyond], [place, place], color=ORANGE, linewidth=1.4, zorder=3)
            axes.annotate(units.show(alone + waited, "s") if alone + waited >= 1e-9 else "0 s", (beyond, place), xytext=(5, 0),
                          textcoords="offset points", va="center", fontsize=8.5)  # fmt: skip
        axes.axvline(known["ttft_s"], color=MUTED, linewidth=0.9, zorder=0.5)
        axes.axvline(known["ttft_p95_s"], color=MUTED, linewidth=0.9, linestyle=":", zorder=0.5)
        names = [
            stage["name"] if stage.get("copies", 1) == 1 else f"{stage['name']} ×{stage['copies']}" for stage in stages
        ]
        axes.set_yticks(range(len(stages)), names)
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        far = known["e2e_p95_s"] if whole else known["ttft_p95_s"]
        axes.set(xlabel="time since the question", xlim=(0, 1.18 * far))
        axes.set_title(f"TTFT {units.show(known['ttft_s'], 's')}, 95% within {units.show(known['ttft_p95_s'], 's')}")
        quantity_axis(axes.xaxis, "s")
        axes.locator_params(axis="x", nbins=4 if is_narrow(axes) else 7)
        _legend(axes)
    return axes


def _legend(axes: Axes) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=BLUE, label="alone"), Patch(color=SKY, label="waited"),
                          Line2D([], [], color=ORANGE, linewidth=1.4, label="to the 95th percentile")]  # fmt: skip
    narrow = is_narrow(axes)
    axes.legend(handles=handles, loc="upper center" if narrow else "lower right", ncols=3, borderaxespad=0.2,
                columnspacing=1.2, handlelength=1.4, bbox_to_anchor=(0.45, -0.2) if narrow else (1.0, 1.0))  # fmt: skip


def rag_passages(
    found: RagSweep | Mapping[str, Any], *, figure: str = "ttft_s", limit: float | None = None, ax: Axes | None = None
) -> Axes:
    """A figure of a pipeline over the number of passages, a line for each chunk size: ``ttft_s``, ``ttft_p95_s``, ``e2e_s`` or
    ``usd_per_query``. ``limit`` draws a target.

    Points of one chunk size are joined; what is refused has none.
    """
    if figure not in AXES:
        from infersim.errors import did_you_mean

        raise SpecError(f"no figure is called {figure!r}; {did_you_mean(figure, AXES)}", field="figure")
    known = told(found)
    money = figure == "usd_per_query"
    with house(ax) as axes:
        ends, drawn = [], 0
        for number, chunk in enumerate(known["chunk_tokens"]):
            points = [p for p in known["points"] if p["chunk_tokens"] == chunk and p[figure] is not None]
            if not points:
                continue
            x = np.array([p["passages"] for p in points], dtype=float)
            y = np.array([p[figure] for p in points], dtype=float) * (1e3 if money else 1.0)
            colour = SERIES[number % len(SERIES)]
            axes.plot(x, y, marker="o", color=colour)
            ends.append((float(x[-1]), float(y[-1]), f"{chunk:,.0f} tokens", colour))
            drawn += 1
        if not drawn:
            raise SpecError("no point of the sweep was answered: there is nothing to draw", field="points")
        if limit is not None:
            axes.axhline(limit * (1e3 if money else 1.0), color=MUTED, linestyle=":", linewidth=1.0)
        axes.set(xscale="log", xlabel="passages in the prompt", ylabel=AXES[figure], ylim=(0, None))
        axes.set_xticks(known["passages"], [f"{count:g}" for count in known["passages"]])
        axes.minorticks_off()
        (count_axis if money else lambda axis: quantity_axis(axis, "s"))(axes.yaxis)
        low, high = axes.get_xlim()
        axes.set_xlim(low, high * (high / low) ** (0.42 if is_narrow(axes) else 0.16))
        label_points(axes, ends)
    return axes
