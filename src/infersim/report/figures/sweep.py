"""Points of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from infersim.errors import SpecError
from infersim.report.figures.style import BLUE, SERIES, count_axis, fine_log_ticks, house, quantity_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 3000
"""Points drawn at most, evenly spaced through the rows."""
WIDE_RANGE = 20.0
"""Axes whose ends are so far apart are logarithmic."""


def sweep_points(
    x: Sequence[float],
    y: Sequence[float],
    *,
    xlabel: str,
    ylabel: str,
    groups: Sequence[Any] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """One figure of every point over a swept field, or over another figure; ``groups`` colours points by a field of few values.

    A label that ends in ``_s`` is in seconds. Points that are not finite are left out.
    """
    across, up = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    kept = np.isfinite(across) & np.isfinite(up)
    if not kept.any():
        raise SpecError("has no point with both figures", field="sweep")
    rows = np.flatnonzero(kept)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(POINTS, len(rows))).astype(int))]
    with house(ax) as axes:
        if groups is None:
            axes.scatter(across[rows], up[rows], s=9, alpha=0.45, linewidths=0, color=BLUE)
        else:
            kinds = np.array([str(group) for group in groups])
            for number, kind in enumerate(sorted(set(kinds[rows].tolist()), key=_natural)):
                mine = rows[kinds[rows] == kind]
                axes.scatter(
                    across[mine],
                    up[mine],
                    s=9,
                    alpha=0.55,
                    linewidths=0,
                    color=SERIES[number % len(SERIES)],
                    label=kind,
                )
            axes.legend(
                loc="lower left",
                bbox_to_anchor=(0, 1),
                ncols=4,
                handletextpad=0.1,
                columnspacing=0.9,
                borderaxespad=0.2,
            )
        axes.set(xlabel=shown(xlabel), ylabel=shown(ylabel))
        for axis, values, label in ((axes.xaxis, across[rows], xlabel), (axes.yaxis, up[rows], ylabel)):
            if values.min() > 0 and values.max() / values.min() > WIDE_RANGE:
                (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
                fine_log_ticks(axis)
            if label.endswith("_s") and not label.endswith("per_s"):
                quantity_axis(axis, "s")
            else:
                count_axis(axis)
    return axes


def shown(name: str) -> str:
    """A column's name as a person reads it.

    >>> shown("tpot_p95_s"), shown("output_tokens_per_s_per_gpu"), shown("workload.input_tokens")
    ('TPOT p95', 'output tokens/s per GPU', 'workload.input_tokens')
    """
    if "." in name:
        return name
    words = {"ttft": "TTFT", "tpot": "TPOT", "e2e": "E2E", "itl": "ITL"}
    stem = name if name.endswith("per_s") else name.removesuffix("_s")
    text = stem.replace("_per_s", "/s").replace("_", " ")
    first, *more = text.split(" ", 1)
    text = " ".join([words.get(first, first), *more])
    return text.replace(" gpu", " GPU").replace(" usd", " [USD]")


def _natural(text: str) -> tuple[float, str]:
    """Numbers by size, before words."""
    try:
        return float(text), ""
    except ValueError:
        return float("inf"), text
