"""Latency against load: the closed form's curve of a replica, and simulated runs beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from infersim import units
from infersim.errors import SpecError
from infersim.report.figures.style import (
    BLUE,
    GREY,
    INK,
    MUTED,
    ORANGE,
    fine_log_ticks,
    house,
    label_points,
    quantity_axis,
    told,
)
from infersim.scenario.evidence import curve_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from infersim.planning.service import ServiceCurve

Columns = Mapping[str, Sequence[float]]
LINES = (("ttft", "TTFT", BLUE), ("tpot", "TPOT", ORANGE))


def latency_against_load(
    curve: ServiceCurve | Columns,
    *,
    target: Mapping[str, float] | None = None,
    at: Mapping[str, Any] | None = None,
    replicas: int = 1,
    ax: Axes | None = None,
) -> Axes:
    """Mean TTFT and TPOT over requests per second, from one user to as many as fit.

    ``curve`` is a ServiceCurve of one replica, or its columns as plain lists (``users``, ``requests_per_s``, ``ttft_s``, ``tpot_s``);
    ``replicas`` of it share the load. ``target`` draws limits (``ttft_s``, ``tpot_s``), ``at`` a point: an answer's ``requests_per_s``,
    ``ttft_s``, ``tpot_s`` and their 90% intervals.
    """
    columns = curve if isinstance(curve, Mapping) else _columns(curve)
    rate = replicas * np.asarray(columns["requests_per_s"], dtype=float)
    target, at = target or {}, at or {}
    with house(ax) as axes:
        ends = []
        for metric, name, colour in LINES:
            values = np.asarray(columns[f"{metric}_s"], dtype=float)
            if not (values > 0).any():
                continue
            axes.plot(rate, values, color=colour)
            ends.append((rate[-1], values[-1], name, colour))
            limit = target.get(f"{metric}_s")
            if limit:
                axes.axhline(limit, color=colour, linestyle=(0, (4, 3)), linewidth=1.0)
                axes.annotate(f"{name} target {units.show(limit, 's')}", (0, limit), xycoords=("axes fraction", "data"), xytext=(4, 3),
                              textcoords="offset points", color=colour, fontsize=8)  # fmt: skip
            if at.get("requests_per_s") and at.get(f"{metric}_s"):
                point, bounds = at[f"{metric}_s"], at.get(f"{metric}_interval_90_s")
                if bounds:
                    axes.plot(
                        [at["requests_per_s"]] * 2, bounds, color=colour, linewidth=5, alpha=0.3, solid_capstyle="butt"
                    )
                axes.plot([at["requests_per_s"]], [point], "o", color=colour, markersize=7)
        axes.set(yscale="log")
        fine_log_ticks(axes.yaxis)
        axes.set(xlabel="load [requests/s]", ylabel="mean latency", xlim=(0, rate[-1] * 1.02))
        quantity_axis(axes.yaxis, "s")
        for x, y, name, colour in ends:
            axes.annotate(name, (x, y), xytext=(5, 0), textcoords="offset points", va="center", color=colour, fontsize=9, weight="bold",
                          annotation_clip=False)  # fmt: skip
        low, high = axes.get_ylim()
        axes.set_ylim(low / 1.15, high * 1.15)
        if at.get("requests_per_s"):
            text = (
                "this case, 90% interval"
                if at.get("tpot_interval_90_s") or at.get("ttft_interval_90_s")
                else "this case"
            )
            axes.axvline(at["requests_per_s"], color=MUTED, linewidth=0.8, linestyle=":")
            right = at["requests_per_s"] > 0.5 * rate[-1]
            axes.annotate(text, (at["requests_per_s"], 1), xycoords=("data", "axes fraction"), xytext=(-4 if right else 4, 1),
                          textcoords="offset points", ha="right" if right else "left", va="bottom", color=MUTED, fontsize=8)  # fmt: skip
    return axes


def simulated_latency(runs: Sequence[Mapping[str, Any]], *, metric: str = "ttft", ax: Axes | None = None) -> Axes:
    """Median, 95th and 99th percentile of a latency over the rate of requests, one point per simulated run.

    ``runs`` are ``to_dict()`` of ServingResult (results themselves are taken too). Runs whose queue grew without end have no
    latency: a line marks their rate.
    """
    if not runs:
        raise SpecError("latency against load needs at least one run", field="runs")
    found = sorted((told(run) for run in runs), key=lambda run: run["requests_per_s"])
    stable = [run for run in found if not run["unstable"] and run[f"{metric}_p50_s"] is not None]
    rates = [run["requests_per_s"] for run in stable]
    ends: list[tuple[float, float, str, str]] = []
    with house(ax) as axes:
        for percent, colour in ((50, BLUE), (95, ORANGE), (99, GREY)):
            values = [run[f"{metric}_p{percent}_s"] for run in stable]
            axes.plot(rates, values, "o-", color=colour)
            ends += [(rates[-1], values[-1], f"p{percent}", colour)] if values else []
        for run in found:
            if run["unstable"]:
                axes.axvline(run["requests_per_s"], color=INK, linestyle=":", linewidth=1.0)
                axes.annotate("unstable", (run["requests_per_s"], 1), xycoords=("data", "axes fraction"), xytext=(3, -9),
                              textcoords="offset points", fontsize=8, color=MUTED)  # fmt: skip
        axes.set(
            xlabel="served [requests/s]",
            ylabel=metric.upper(),
            ylim=(0, None),
            xlim=(0, 1.03 * max(run["requests_per_s"] for run in found)),
        )
        quantity_axis(axes.yaxis, "s")
        label_points(axes, ends)
    return axes


def _columns(curve: ServiceCurve) -> dict[str, list[float]]:
    if curve.users.ndim != 1:
        raise SpecError("draw one case of the curve at a time: curve.row(0)", field="curve")
    return curve_columns(curve)
