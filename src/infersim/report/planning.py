"""A comparison as a picture: the chance of each number of GPUs, and a tornado of every option."""

from __future__ import annotations

from pathlib import Path

from infersim.planning.comparison import Comparison
from infersim.report.figures.doubt import chance_of_target
from infersim.report.figures.style import RC, SERIES
from infersim.report.figures.tornado import tornado
from infersim.report.serving import _save

COLOURS = (*SERIES, "#8c564b", "#000000")


def plot_comparison(comparison: Comparison, path: str | Path, figure: str | None = None) -> None:
    """Chances of all options in one panel, the tornado of each below it. Raises SpecError for a file that is no picture."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows = 1 + len(comparison.sides)
    picture = Figure(figsize=(8, 2.8 * rows), layout="constrained")
    with rc_context(RC):  # type: ignore[arg-type]
        panels = picture.subplots(rows, 1, squeeze=False)[:, 0]
    for side, colour, panel in zip(comparison.sides, COLOURS, panels[1:], strict=False):
        if side.uncertain.chances:
            chance_of_target(
                side.uncertain, colour=colour, label=f"{side.letter}  {side.choice.describe()}", ax=panels[0]
            )
        tornado(comparison.tornado(side.letter, figure), ax=panel)
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
