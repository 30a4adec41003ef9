"""Predicted against measured."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from infersim.errors import SpecError
from infersim.report.figures.style import FAINT, INK, SERIES, house, quantity_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from infersim.validate.comparison import Comparison

MARKERS = "osD^vP"
NEAR = 0.2


def predicted_against_measured(rows: Iterable[Comparison], *, by: str = "metric", ax: Axes | None = None) -> Axes:
    """Predicted over measured times on equal axes, one colour per label ``by``; the band is 20% off. Rows without a prediction are
    counted in the title.

    ``rows`` as ``infersim.validate`` makes them.
    """
    given = list(rows)
    answered = [row for row in given if row.predicted is not None]
    if not answered:
        raise SpecError("needs at least one row with a prediction", field="rows")
    measured = np.array([row.measured for row in answered])
    predicted = np.array([row.predicted for row in answered], dtype=float)
    labels = np.array([row.labels.get(by, "-") for row in answered])
    ends = np.array([min(measured.min(), predicted.min()) / 1.5, max(measured.max(), predicted.max()) * 1.5])
    with house(ax) as axes:
        axes.fill_between(
            ends, ends * (1 - NEAR), ends * (1 + NEAR), color=FAINT, alpha=0.7, linewidth=0, label="within 20%"
        )
        axes.plot(ends, ends, color=INK, linewidth=0.9)
        for number, name in enumerate(dict.fromkeys(labels.tolist())):
            mine = labels == name
            error = float(np.median(np.abs(predicted[mine] / measured[mine] - 1)))
            axes.scatter(measured[mine], predicted[mine], s=14, alpha=0.7, linewidths=0, color=SERIES[number % len(SERIES)],
                         marker=MARKERS[number % len(MARKERS)], label=f"{_shown(name)}: median error {error:.0%}, {mine.sum()} points",
                         zorder=3)  # fmt: skip
        axes.set(xscale="log", yscale="log", xlabel="measured", ylabel="predicted", xlim=ends, ylim=ends)
        quantity_axis(axes.xaxis, "s")
        quantity_axis(axes.yaxis, "s")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), handletextpad=0.2, borderaxespad=0.2)
    return axes


def _shown(name: str) -> str:
    return name.upper() if name in ("ttft", "tpot", "e2e", "itl") else name
