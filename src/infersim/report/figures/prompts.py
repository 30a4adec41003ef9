"""What a prefix cache finds of a prompt, by its size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from infersim.report.figures.style import BLUE, MUTED, ORANGE, count_axis, house, told

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from infersim.prompts.answer import PromptAnswer


def prefix_hits(answer: PromptAnswer | Mapping[str, Any], *, ax: Axes | None = None) -> Axes:
    """Share of prompt tokens found over the size of a replica's cache, as the prompt stands and in the best order.

    Dots are what the deployment's caches reach, tiers behind the KV pool included.
    """
    known = told(answer)
    curve = known["figure"]["hit_rate_by_cache_size"]
    lines = (("best order", "best_hit_rate", "best", BLUE), ("as it stands", "hit_rate", "now", ORANGE))
    with house(ax) as axes:
        for name, column, place, colour in lines:
            axes.plot(curve["cache_tokens"], [100 * share for share in curve[column]], color=colour, label=name)
            axes.axhline(100 * known[place]["hit_rate"], color=colour, linewidth=0.9, linestyle=":", zorder=0.5)
        axes.axvline(known["kv_tokens"], color=MUTED, linewidth=0.9)
        axes.annotate(
            "KV pool", (known["kv_tokens"], 1), xytext=(3, 2), textcoords="offset points", fontsize=8, color=MUTED
        )
        axes.set(xscale="log", ylim=(0, 100), xlabel="cache of a replica [tokens]", ylabel="prompt tokens found [%]")
        count_axis(axes.xaxis)
        axes.legend(loc="lower right")
    return axes
