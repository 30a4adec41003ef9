"""How likely a number of GPUs meets the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from infersim.errors import SpecError
from infersim.report.figures.style import BLUE, MUTED, house

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from infersim.planning.uncertainty import MonteCarlo

MARKED, SURE = 90.0, 99.0
"""The chance that a line marks, and the one at which it ends [%]."""


def chance_of_target(
    found: MonteCarlo | Sequence[Mapping[str, Any]],
    *,
    colour: str = BLUE,
    label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The chance of meeting the target over the number of GPUs, with the 95% interval of its sampling error.

    ``found`` is a MonteCarlo, or ``gpus_to_chance`` of its ``to_dict()``. Without a ``label``
    the line ends where the chance is 99%.
    """
    rows = found if isinstance(found, Sequence) else found.to_dict()["gpus_to_chance"]
    if not rows:
        raise SpecError("no number of GPUs meets the target: there is no chance to draw", field="found")
    gpus = np.array([0, *(row["gpus"] for row in rows)], dtype=float)
    value, low, high = (
        100 * np.array([0.0, *(row[name] for row in rows)]) for name in ("chance", "chance_low_95", "chance_high_95")
    )
    likely = np.flatnonzero(value >= SURE)
    if label is None and len(likely):  # one line alone ends where nothing more can be seen
        gpus, value, low, high = (column[: likely[0] + 1] for column in (gpus, value, low, high))
    end = 1.15 * gpus[-1]
    with house(ax) as axes:
        axes.step([*gpus, end], [*value, value[-1]], where="post", color=colour, label=label)
        axes.fill_between(gpus, low, high, step="post", color=colour, alpha=0.2, linewidth=0)
        axes.axhline(MARKED, color=MUTED, linewidth=0.8, linestyle=":")
        enough = gpus[value >= MARKED]
        if len(enough) and label is None:
            words = f"{enough[0]:,.0f} GPUs for 90%"
            left = enough[0] > end / 2
            axes.annotate(words, (enough[0], MARKED), xytext=(-5 if left else 5, -12), textcoords="offset points",
                          ha="right" if left else "left")  # fmt: skip
        axes.set(xlabel="GPUs", ylabel="chance of meeting the target [%]", ylim=(0, 102), xlim=(0, end))
    return axes
