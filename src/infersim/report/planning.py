"""Pictures of a plan's doubts: the chance of each number of GPUs, and tornados."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from infersim.planning.comparison import Comparison
from infersim.planning.sensitivity import Tornado
from infersim.planning.uncertainty import MonteCarlo
from infersim.report.serving import BLUE, GREEN, ORANGE, PINK, _save

COLOURS = (BLUE, ORANGE, GREEN, PINK, "#56B4E9", "#D55E00", "#F0E442", "#000000")


def tornado_plot(tornado: Tornado, axes: Any = None) -> Any:
    """A tornado as horizontal bars about the base value, the widest on top; ends that are out of reach run to the edge and are marked.

    Returns the matplotlib axes, new ones where none are given.
    """
    axes = _axes(axes)
    finite = [v for bar in tornado.bars for v in (bar.low, bar.high, bar.base) if math.isfinite(v)]
    most = max(finite, default=1.0)
    for row, bar in enumerate(reversed(tornado.bars)):
        base = min(bar.base, most)
        for end, colour, label in ((bar.low, BLUE, bar.at_low), (bar.high, ORANGE, bar.at_high)):
            reached = end if math.isfinite(end) else most
            if math.isnan(end):
                continue
            axes.barh(row, reached - base, left=base, color=colour, height=0.7)
            text = f"{label:,.4g}" + ("" if math.isfinite(end) else " (none)")
            right = reached > base or (reached == base and end is bar.high)
            axes.annotate(text, (reached, row), xytext=(3 if right else -3, 0), textcoords="offset points", va="center",
                          ha="left" if right else "right", fontsize=7)  # fmt: skip
    axes.axvline(min(tornado.base, most), color="black", linewidth=0.8)
    axes.set_yticks(range(len(tornado.bars)), [bar.name for bar in reversed(tornado.bars)], fontsize=8)
    axes.set(xlabel=f"{tornado.figure} [{tornado.unit}]")
    axes.margins(x=0.15)
    return axes


def probability_plot(found: MonteCarlo, axes: Any = None, *, colour: str = BLUE, label: str | None = None) -> Any:
    """The chance of meeting the target over the number of GPUs, with the 95% interval of its sampling error.

    Returns the matplotlib axes, new ones where none are given.
    """
    axes = _axes(axes)
    gpus = np.array([0, *found.chances])
    rows = [(0.0, 0.0, 0.0), *((c.value, c.low, c.high) for c in found.chances.values())]
    value, low, high = 100 * np.array(rows).T
    axes.step(gpus, value, where="post", color=colour, label=label or found.choice.describe())
    axes.fill_between(gpus, low, high, step="post", color=colour, alpha=0.2, linewidth=0)
    axes.set(xlabel="GPUs", ylabel="chance of meeting the target [%]", ylim=(0, 102))
    return axes


def plot_comparison(comparison: Comparison, path: str | Path, figure: str | None = None) -> None:
    """Chances of all options in one panel, the tornado of each below it. Raises SpecError for a file that is no picture."""
    from matplotlib.figure import Figure

    rows = 1 + len(comparison.sides)
    picture = Figure(figsize=(8, 2.8 * rows), layout="constrained")
    panels = picture.subplots(rows, 1, squeeze=False)[:, 0]
    for side, colour, panel in zip(comparison.sides, COLOURS, panels[1:], strict=False):
        probability_plot(side.uncertain, panels[0], colour=colour, label=f"{side.letter}  {side.choice.describe()}")
        tornado_plot(comparison.tornado(side.letter, figure), panel)
    # a long tail of one option would hide the others
    shown = [
        gpus
        for side in comparison.sides
        for gpus in (side.uncertain.gpus_for(0.5), side.uncertain.gpus_for(0.95))
        if gpus
    ]
    panels[0].set_xlim(0, 1.1 * max(shown, default=1))
    panels[0].legend(fontsize=7, frameon=False, loc="lower left", bbox_to_anchor=(0, 1))
    _save(picture, path)


def _axes(axes: Any) -> Any:
    if axes is not None:
        return axes
    from matplotlib.figure import Figure

    return Figure(figsize=(8, 4), layout="constrained").subplots()
