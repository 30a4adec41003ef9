"""Agents: how long and how costly tasks of a workflow are, and which states take it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from infersim import units
from infersim.errors import SpecError, did_you_mean
from infersim.report.figures.style import BLUE, GREY, INK, ORANGE, SKY, house, is_narrow, quantity_axis, told

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from infersim.agents.answer import AgentAnswer

NAMES = {"latency_s": "time of a task without people", "elapsed_s": "time of a task", "usd": "cost of a task [USD]",
         "calls": "model calls of a task"}  # fmt: skip
KINDS = {"llm": BLUE, "tool": ORANGE, "human": GREY, "parallel": SKY}


def task_distribution(
    answer: AgentAnswer | Mapping[str, Any], *, metric: str = "elapsed_s", ax: Axes | None = None
) -> Axes:
    """Shares of simulated tasks by time (``elapsed_s``, ``latency_s``), cost (``usd``) or calls, with mean, median and 95th percentile.

    ``answer`` is an AgentAnswer or its ``to_dict()``; the longest half percent is left out.
    """
    answer = told(answer)
    known = answer["distribution"]
    if metric not in known:
        raise SpecError(f"no distribution of {metric!r} is kept; {did_you_mean(metric, known)}", field="metric")
    edges, share = np.asarray(known[metric]["edges"]), np.asarray(known[metric]["share"])
    figures = answer[metric]
    with house(ax) as axes:
        axes.bar(edges[:-1], 100 * share, np.diff(edges), align="edge", color=BLUE, alpha=0.55, linewidth=0)
        top = 100 * share.max() * 1.25
        for number, (key, name) in enumerate((("p50", "half"), ("mean", "mean"), ("p95", "95%"))):
            if edges[0] <= figures[key] <= edges[-1]:
                axes.axvline(
                    figures[key],
                    color=ORANGE if key == "mean" else INK,
                    linewidth=1.1,
                    linestyle="-" if key == "mean" else ":",
                )
                value = units.show(figures[key], "s") if metric.endswith("_s") else f"{figures[key]:.3g}"
                axes.annotate(f"{name} {value}", (figures[key], top * (0.97 - 0.08 * number)), xytext=(3, 0), textcoords="offset points",
                              fontsize=8, va="top", color=ORANGE if key == "mean" else INK)  # fmt: skip
        axes.set(
            xlabel=NAMES.get(metric, metric), ylabel="share of tasks [%]", xlim=(edges[0], edges[-1]), ylim=(0, top)
        )
        if metric.endswith("_s"):
            quantity_axis(axes.xaxis, "s")
        axes.locator_params(axis="x", nbins=4 if is_narrow(axes) else 8)
    return axes


def state_times(answer: AgentAnswer | Mapping[str, Any], *, ax: Axes | None = None) -> Axes:
    """What each state adds to a mean task's time, the largest on top, with its visits; the colour is its kind."""
    rows = told(answer)["states"]
    with house(ax) as axes:
        whole = sum(row["elapsed_s"] for row in rows) or 1.0
        most = max((row["elapsed_s"] for row in rows), default=0.0) or 1.0
        seen = []
        for place, row in enumerate(reversed(rows)):
            label = None if row["kind"] in seen else {"llm": "model call"}.get(row["kind"], row["kind"])
            seen.append(row["kind"])
            axes.barh(place, row["elapsed_s"], color=KINDS[row["kind"]], height=0.7, label=label)
            axes.annotate(f"{row['elapsed_s'] / whole:.0%}, {row['visits']:.3g} visits", (row["elapsed_s"], place), xytext=(4, 0),
                          textcoords="offset points", va="center", fontsize=8.5)  # fmt: skip
        axes.set_yticks(range(len(rows)), [row["state"] for row in reversed(rows)])
        axes.tick_params(axis="y", length=0)
        axes.set(xlabel="part of a mean task's time", xlim=(0, most * 1.45))
        axes.grid(visible=False, axis="y")
        quantity_axis(axes.xaxis, "s")
        axes.locator_params(axis="x", nbins=4 if is_narrow(axes) else 7)
        axes.legend(loc="lower right")
    return axes
