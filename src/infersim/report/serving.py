"""Pictures of a simulated run: time series, distributions of latency, latency against load. Colours are safe for colour-blind eyes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from infersim.errors import SpecError
from infersim.files import replace_file
from infersim.serving.result import ServingResult

BLUE, ORANGE, GREEN, PINK = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
FORMATS = (".png", ".svg", ".pdf")


def _figure(rows: int, title: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.4 * rows + 0.6), layout="constrained")
    figure.suptitle(title, fontsize=10)
    return figure, figure.subplots(rows, 1, squeeze=False)[:, 0]


def _save(figure: Any, path: str | Path) -> None:
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise SpecError(f"a picture ends in {', '.join(FORMATS)}, got {str(path)!r}", field="plot")
    replace_file(path, lambda temporary: figure.savefig(temporary, format=suffix[1:], dpi=150))


def _title(result: ServingResult) -> str:
    state = (
        "interrupted before its end" if result.interrupted else "unstable: latencies grow" if result.unstable else ""
    )
    return result.deployment.describe() + (f"\n{state}" if state else "")


def _seconds(axis: Any) -> None:
    """Ticks as 5 ms, 2 s."""
    from matplotlib.ticker import EngFormatter

    axis.set_major_formatter(EngFormatter(unit="s"))


def plot_run(result: ServingResult, path: str | Path) -> None:
    """Running and waiting requests and KV use over time, by replica, and the distributions of TTFT, TPOT and E2E."""
    figure, axes = _figure(3, _title(result))
    for number, series in enumerate(result.series):
        points = np.array(series.points, dtype=float).reshape(-1, 5)
        running, waiting = ("running", "waiting") if number == 0 else (None, None)
        axes[0].step(points[:, 0], points[:, 1] + points[:, 2], where="post", color=BLUE, label=running)
        axes[0].step(points[:, 0], points[:, 3], where="post", color=ORANGE, label=waiting)
        axes[1].step(points[:, 0], 100 * points[:, 4] / result.policy.num_blocks, where="post", color=GREEN)
    each = " per replica" if len(result.series) > 1 else ""
    axes[0].set(ylabel=f"requests{each}", xlabel="time [s]", ylim=(0, None))
    axes[1].set(ylabel="KV blocks in use [%]", xlabel="time [s]", ylim=(0, None))
    axes[2].set(xscale="log", xlabel="latency", ylabel="share of requests", ylim=(0, 1.02))
    _seconds(axes[2].xaxis)
    for metric, colour in (("ttft", BLUE), ("tpot", ORANGE), ("e2e", GREEN)):
        values = np.sort(result.values(metric))
        values = values[values > 0]
        if len(values):
            # no more steps than the picture has pixels
            kept = np.unique(np.linspace(0, len(values) - 1, 2000).astype(int))
            axes[2].step(values[kept], (kept + 1) / len(values), where="post", color=colour, label=metric.upper())
    for axis in (axes[0], axes[2]):
        if axis.get_legend_handles_labels()[0]:
            axis.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, fontsize=8, frameon=False, borderaxespad=0.2)
    _save(figure, path)


def plot_load(results: Sequence[tuple[float, ServingResult]], path: str | Path) -> None:
    """Median and 95th percentile of TTFT and TPOT against the request rate; unstable runs are marked and have no latency.

    Raises SpecError where no run has a finite rate.
    """
    runs = sorted((pair for pair in results if np.isfinite(pair[0])), key=lambda pair: pair[0])
    if not runs:
        raise SpecError("latency against load needs runs with a finite rate that came to their end", field="plot")
    figure, axes = _figure(2, runs[0][1].deployment.describe())
    stable = [(rate, result.settled()) for rate, result in runs if not result.unstable]
    for axis, metric in zip(axes, ("ttft", "tpot"), strict=True):
        for percent, colour in ((50, BLUE), (95, ORANGE)):
            axis.plot([rate for rate, _ in stable], [result.percentile(metric, percent) for _, result in stable], "o-",
                      color=colour, label=f"p{percent}")  # fmt: skip
        for rate in (rate for rate, result in runs if result.unstable):
            axis.axvline(rate, color=PINK, linestyle=":", label="unstable")
        axis.set(
            xlabel="requests per second", ylabel=metric.upper(), xlim=(0, None), ylim=(0, 1.05 * axis.get_ylim()[1])
        )
        _seconds(axis.yaxis)
        handles, labels = axis.get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))
        axis.legend(unique.values(), unique.keys(), loc="lower right", bbox_to_anchor=(1, 1), ncols=3, fontsize=8,
                    frameon=False, borderaxespad=0.2)  # fmt: skip
    _save(figure, path)
