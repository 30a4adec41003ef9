"""The house style of every figure: colours that colour-blind eyes tell apart, sizes, axes that read as 5 ms and 20 GiB."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from infersim import units
from infersim.errors import SpecError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.text import Annotation

INK, MUTED, FAINT = "#1b1f24", "#5d6570", "#d9dce1"
BLUE, ORANGE, GREEN, PINK, SKY, GREY = "#0072b2", "#d55e00", "#00875f", "#b5508c", "#3d9bd1", "#868d97"
SERIES = (BLUE, ORANGE, GREEN, PINK, SKY, GREY)
"""For things without an order of their own: GPUs, cases, options."""
RESOURCES = {"compute": BLUE, "memory": ORANGE, "network": GREEN, "launch": PINK, "host": GREY}
"""What an op waits for; the same colour in every figure."""
WORDS = {
    "compute": "compute",
    "memory": "memory bandwidth",
    "network": "network",
    "launch": "kernel launches",
    "host": "host",
}
WIDE, NARROW = (7.2, 3.7), (4.2, 3.3)
"""Sizes alone and in a page, where two stand side by side or one fills a phone [inches]."""
RC = {
    "font.size": 9.0, "axes.labelsize": 9.0, "axes.titlesize": 9.5, "xtick.labelsize": 8.5, "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5, "text.color": INK, "axes.labelcolor": INK, "axes.titlecolor": INK, "axes.titlelocation": "left",
    "axes.edgecolor": MUTED, "axes.facecolor": "none", "figure.facecolor": "none", "savefig.facecolor": "none",
    "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.linewidth": 0.8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.grid.which": "major", "axes.axisbelow": True,
    "grid.color": FAINT, "grid.linewidth": 0.6, "lines.linewidth": 1.8, "lines.markersize": 5.0, "legend.frameon": False,
    "svg.fonttype": "none", "svg.hashsalt": "infersim", "text.parse_math": False, "axes.prop_cycle": f"cycler('color', {list(SERIES)})",
}  # fmt: skip


@contextmanager
def house(ax: Axes | None = None) -> Iterator[Axes]:
    """Draw in the house style on ``ax``, or on the axes of a new figure."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(RC):  # type: ignore[arg-type]
        yield ax if ax is not None else Figure(figsize=WIDE, layout="constrained").subplots()


def is_narrow(ax: Axes) -> bool:
    """Whether the figure is drawn for a column or a phone, where fewer labels have room."""
    from matplotlib.figure import Figure

    figure = ax.get_figure(root=True)
    return isinstance(figure, Figure) and figure.get_figwidth() < 5


def told(answer: Any) -> Mapping[str, Any]:
    """A result as the plain dictionary of its ``to_dict()``; such a dictionary, read back from a file, is taken as it is.

    >>> told({"ttft_s": 0.1})["ttft_s"]
    0.1
    """
    if isinstance(answer, Mapping):
        return answer
    if not hasattr(answer, "to_dict"):
        raise SpecError(f"a figure is drawn from a result or its to_dict(), not from a {type(answer).__name__}")
    found: Mapping[str, Any] = answer.to_dict()
    return found


def quantity_axis(axis: Axis, unit: str) -> None:
    """Tick labels with prefixes: 5 ms, 20 GiB, 989 TFLOP/s; ``unit`` is in SI, ``GiB`` stands for bytes in binary units."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    binary, si = unit == "GiB", "B" if unit == "GiB" else unit
    axis.set_major_formatter(
        FuncFormatter(lambda value, _: units.show(value, si, binary=binary) if np.isfinite(value) else "")
    )
    axis.set_minor_formatter(NullFormatter())


def fine_log_ticks(axis: Axis) -> None:
    """Ticks at 1, 2 and 5 of every decade, for a logarithmic axis of a few decades."""
    from matplotlib.ticker import LogLocator

    axis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=16))


def count_axis(axis: Axis) -> None:
    """Tick labels as 1,000 and 32k."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    axis.set_minor_formatter(NullFormatter())


def short_count(value: float) -> str:
    """A number without a unit, in a few characters.

    >>> short_count(32768), short_count(0.25), short_count(900), short_count(2e6)
    ('32.8k', '0.25', '900', '2M')
    """
    for factor, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= factor:
            return f"{value / (1e3 if suffix == 'k' else factor):.3g}{suffix}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def apart(places: Sequence[float], gap: float) -> list[float]:
    """The places moved so little that neighbours are ``gap`` apart, in the same order; the whole stays about its middle.

    >>> apart([1.0, 1.0, 5.0], 1.0)
    [0.5, 1.5, 5.0]
    """
    order = sorted(range(len(places)), key=places.__getitem__)
    groups: list[list[int]] = []
    for index in order:
        groups.append([index])
        while len(groups) > 1 and _first(groups[-1], places, gap) - _last(groups[-2], places, gap) < gap:
            last = groups.pop()
            groups[-1] += last
    found = [0.0] * len(places)
    for group in groups:
        start = _first(group, places, gap)
        for step, index in enumerate(group):
            found[index] = start + step * gap
    return found


def _first(group: list[int], places: Sequence[float], gap: float) -> float:
    middle = sum(places[index] for index in group) / len(group)
    return middle - gap * (len(group) - 1) / 2


def _last(group: list[int], places: Sequence[float], gap: float) -> float:
    return _first(group, places, gap) + gap * (len(group) - 1)


def label_points(
    ax: Axes,
    points: Sequence[tuple[float, float, str, str]],
    *,
    centred: bool = False,
    below: float | None = None,
    size: float = 8.5,
) -> list[Annotation]:
    """Write (x, y, text, colour) beside its point, texts moved apart vertically, each with a thin line to its point.

    ``below``: texts stay under this value of y; ``centred`` then puts them under their points rather than to the right.
    """
    figure = ax.get_figure(root=True)
    assert figure is not None
    scale = figure.dpi / 72
    places = [tuple(ax.transData.transform((x, y))) for x, y, _, _ in points]
    moved = apart([y / scale for _, y in places], size * 1.3)
    if below is not None:
        ceiling = float(ax.transData.transform((points[0][0], below))[1]) / scale - size if points else 0.0
        for index in sorted(range(len(moved)), key=lambda index: -moved[index]):
            moved[index] = min(moved[index], ceiling)
            ceiling = moved[index] - size * 1.3
    found = []
    for (x, y, text, colour), (_, pixel), target in zip(points, places, moved, strict=True):
        away = -18 if centred else 14
        found.append(ax.annotate(
            text, (x, y), xytext=(away, target - pixel / scale), textcoords="offset points", ha="center" if centred else "left",
            va="center", fontsize=size, color=colour, arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkB": 3},
        ))  # fmt: skip
    return found
