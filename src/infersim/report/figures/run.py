"""A simulated run: how latencies are distributed, and what the engine held over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from infersim.errors import SpecError
from infersim.report.figures.style import BLUE, GREEN, GREY, MUTED, ORANGE, house, quantity_axis
from infersim.scenario.evidence import quantiles, series_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from infersim.serving.result import ServingResult

METRICS = (("tpot", "TPOT", ORANGE), ("ttft", "TTFT", BLUE), ("e2e", "E2E", GREEN))


def latency_distribution(
    run: ServingResult | Mapping[str, Sequence[float]],
    *,
    limits: Mapping[str, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Share of requests whose TTFT, TPOT or E2E is at most so large.

    ``run`` is a ServingResult, or percentiles 0 to 100 by metric (``ttft_s``, ``tpot_s``, ``e2e_s``). ``limits`` draws targets
    (``ttft_p95_s``: 0.8), each at its percentile.
    """
    columns = run if isinstance(run, Mapping) else quantiles(run)
    with house(ax) as axes:
        drawn = False
        for metric, name, colour in METRICS:
            values = np.asarray(columns.get(f"{metric}_s", ()), dtype=float)
            if not len(values) or not (values > 0).any():
                continue
            share = np.linspace(0, 100, len(values))
            axes.plot(values[values > 0], share[values > 0], color=colour)
            middle = float(np.interp(62, share, values))
            axes.annotate(name, (middle, 62), xytext=(6, -4), textcoords="offset points", color=colour, weight="bold")
            drawn = True
        if not drawn:
            raise SpecError("no request was completed: there is no latency to draw", field="run")
        for limit, seconds in (limits or {}).items():
            metric, _, percentile = limit.removesuffix("_s").partition("_p")
            colour = next((colour for known, _, colour in METRICS if known == metric), MUTED)
            axes.plot(
                [seconds],
                [float(percentile or 50)],
                marker="<",
                color=colour,
                markersize=7,
                linestyle="none",
                clip_on=False,
            )
        axes.set(xscale="log", xlabel="latency of a request", ylabel="share of requests [%]", ylim=(0, 101))
        quantity_axis(axes.xaxis, "s")
    return axes


def load_over_time(run: ServingResult | Mapping[str, Any], *, ax: Axes | None = None) -> Axes:
    """Running and waiting requests of the first replica over time, and how full its KV pool is.

    ``run`` is a ServingResult, or columns ``time_s``, ``running``, ``waiting``, ``kv_share``.
    """
    columns = run if isinstance(run, Mapping) else series_columns(run)
    time = np.asarray(columns["time_s"], dtype=float)
    if not len(time):
        raise SpecError("the run kept no series to draw", field="run")
    with house(ax) as axes:
        axes.step(time, columns["running"], where="post", color=BLUE, linewidth=1.2, label="running")
        axes.step(time, columns["waiting"], where="post", color=ORANGE, linewidth=1.2, label="waiting")
        other = axes.twinx()
        other.step(
            time, 100 * np.asarray(columns["kv_share"], dtype=float), where="post", color=GREY, linewidth=0.9, alpha=0.8
        )
        other.set(ylim=(0, 105), ylabel="KV pool in use [%]")
        other.yaxis.label.set_color(GREY)
        other.grid(visible=False)
        other.spines["right"].set_visible(True)
        axes.set(xlabel="time [s]", ylabel="requests", ylim=(0, None), xlim=(0, None))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, handlelength=1.0, borderaxespad=0.2)
    return axes
