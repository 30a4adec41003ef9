"""Pictures of a simulated run: time series, distributions of latency, latency against load. Colours are safe for colour-blind eyes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from infersim.errors import SpecError
from infersim.serving.export import replace_file
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


def plot_run(result: ServingResult, path: str | Path) -> None:
    """Running and waiting requests and KV use over time, and the distributions of TTFT, TPOT and E2E."""
    figure, axes = _figure(3, result.deployment.describe())
    for number, series in enumerate(result.series):
        points = np.array(series.points, dtype=float).reshape(-1, 5)
        running, waiting = ("running", "waiting") if number == 0 else (None, None)
        axes[0].step(points[:, 0], points[:, 1] + points[:, 2], where="post", color=BLUE, label=running)
        axes[0].step(points[:, 0], points[:, 3], where="post", color=ORANGE, label=waiting)
        axes[1].step(points[:, 0], 100 * points[:, 4] / result.policy.num_blocks, where="post", color=GREEN)
    axes[0].set(ylabel="requests", xlabel="time [s]")
    axes[0].legend(loc="upper left", fontsize=8)
    axes[1].set(ylabel="KV blocks in use [%]", xlabel="time [s]", ylim=(0, None))
    for metric, colour in (("ttft", BLUE), ("tpot", ORANGE), ("e2e", GREEN)):
        values = np.sort(result.values(metric))
        values = values[values > 0]
        if len(values):
            axes[2].step(
                values, np.arange(1, len(values) + 1) / len(values), where="post", color=colour, label=metric.upper()
            )
    axes[2].set(xscale="log", xlabel="latency [s]", ylabel="share of requests", ylim=(0, 1))
    axes[2].legend(loc="lower right", fontsize=8)
    _save(figure, path)


def plot_load(results: Sequence[tuple[float, ServingResult]], path: str | Path) -> None:
    """Median and 95th percentile of TTFT and TPOT against the request rate; unstable runs are marked and have no latency."""
    figure, axes = _figure(2, results[0][1].deployment.describe() if results else "")
    for axis, metric in zip(axes, ("ttft", "tpot"), strict=True):
        stable = [(rate, result.settled()) for rate, result in results if not result.unstable]
        for percent, colour in ((50, BLUE), (95, ORANGE)):
            axis.plot([rate for rate, _ in stable], [result.percentile(metric, percent) for _, result in stable], "o-",
                      color=colour, label=f"p{percent}")  # fmt: skip
        for rate in (rate for rate, result in results if result.unstable):
            axis.axvline(rate, color=PINK, linestyle=":", label="unstable")
        axis.set(xlabel="requests per second", ylabel=f"{metric.upper()} [s]", ylim=(0, None))
        handles, labels = axis.get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))
        axis.legend(unique.values(), unique.keys(), fontsize=8)
    _save(figure, path)
