"""The roofline of one device with the ops of a step on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from infersim import units
from infersim.report.figures.steps import step_of
from infersim.report.figures.style import (
    INK,
    MUTED,
    RESOURCES,
    WORDS,
    count_axis,
    house,
    is_narrow,
    label_points,
    quantity_axis,
    told,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from infersim.predict.estimate import Estimate

LABELLED = 0.06
"""Ops that take at least this share of the step are named, and have their roofs drawn."""
SAME_UNIT = 0.01


def roofline(answer: Estimate | Mapping[str, Any], *, step: str = "decode", ax: Axes | None = None) -> Axes:
    """FLOP/s that each op of a step reaches over its arithmetic intensity, under the peaks and the memory bandwidth of one device.

    ``answer`` is an Estimate or its ``to_dict()``, ``step`` is ``decode`` or ``prefill``. The area of a dot is the op's share of the
    step's time, its colour what bounds it. Ops without arithmetic (communication, copies, gaps) have no place here; the title tells
    their share. Roofs are drawn for the matrix units that the named ops use. Williams, Waterman, Patterson, Roofline (CACM 2009).
    """
    answer = told(answer)
    ops, seconds = step_of(answer, step)
    shown = [op for op in ops if op["flop"] > 0 and op["bytes"] > 0 and op["seconds"] > 0]
    bandwidth = answer["memory_bandwidth_bytes_per_s"]
    with house(ax) as axes:
        x = np.array([op["flop"] / op["bytes"] for op in shown])
        y = np.array([op["flop"] / op["seconds"] for op in shown])
        large = [index for index, op in enumerate(shown) if op["seconds"] / seconds >= LABELLED]
        roofs = _roofs(answer, [shown[index] for index in large])
        ends = np.array(
            [min(0.3, x.min() / 2), max(x.max() * 4, (20 if is_narrow(axes) else 6) * max(roofs.values()) / bandwidth)]
        )
        axes.set(xscale="log", yscale="log", xlim=ends, ylim=(y.min() / 3, max(roofs.values()) * 2.2))
        axes.grid(visible=False)
        for name, peak in roofs.items():
            ridge = peak / bandwidth
            axes.plot([ridge, ends[1]], [peak, peak], color=MUTED, linewidth=1.4)
            axes.annotate(f"{name} {units.show(peak, 'FLOP/s')}", (ends[1], peak), xytext=(0, 3), textcoords="offset points", ha="right",
                          color=MUTED, fontsize=8)  # fmt: skip
        ridge = max(roofs.values()) / bandwidth
        axes.plot([ends[0], ridge], [ends[0] * bandwidth, ridge * bandwidth], color=MUTED, linewidth=1.4)
        low = max(ends[0], axes.get_ylim()[0] / bandwidth)
        middle = low * (ridge / low) ** (0.62 if is_narrow(axes) else 0.5)
        axes.annotate(f"memory {units.show(bandwidth, 'B/s')}", (middle, middle * bandwidth), xytext=(-6, 5), textcoords="offset points",
                      ha="right", color=MUTED, fontsize=8)  # fmt: skip
        for op, intensity, reached in zip(shown, x, y, strict=True):
            share = op["seconds"] / seconds
            axes.scatter(
                intensity, reached, s=16 + 900 * share, color=RESOURCES[op["bound"]], alpha=0.75, linewidths=0, zorder=3
            )
        axes.set(xlabel="arithmetic intensity [FLOP/byte]", ylabel="reached by the op [FLOP/s]")
        quantity_axis(axes.yaxis, "FLOP/s")
        count_axis(axes.xaxis)
        labels = [(x[i], y[i], f"{shown[i]['name']} {shown[i]['seconds'] / seconds:.0%}", INK) for i in large]
        crowded = bool(large) and float(np.median(x[large])) > ridge / 2
        label_points(
            axes, labels, centred=crowded, below=float(y[x > ridge / 20].min()) if crowded else min(roofs.values())
        )
        _resource_key(axes, [op["bound"] for op in shown])
        rest = 1 - sum(op["seconds"] for op in shown) / seconds
        gap = ",\n" if is_narrow(axes) else ", "
        axes.set_title(
            f"{step} step, {units.show(seconds, 's')}"
            + (f"{gap}{rest:.0%} of it without arithmetic" if rest >= 0.005 else "")
        )
    return axes


def _roofs(answer: Mapping[str, Any], ops: list[Mapping[str, Any]]) -> dict[str, float]:
    """Peaks of the matrix units that the ops run on, by name; all of the device's where they run on none."""
    used = {op["flop"] / op["compute_floor_s"] for op in ops if op["compute_floor_s"] > 0}
    peaks: dict[str, float] = answer["peak_flop_per_s"]
    found: dict[str, float] = {}
    for name, peak in peaks.items():
        if any(abs(peak / one - 1) < SAME_UNIT for one in used):
            twin = next((known for known, value in found.items() if value == peak), None)
            if twin is not None:
                del found[twin]
                name = f"{twin}, {name}"
            found[name] = peak
    return found or dict(peaks)


def _resource_key(axes: Axes, bounds: list[str]) -> None:
    """What the colours mean, for the bounds that occur."""
    for bound, colour in RESOURCES.items():
        if bound in bounds:
            axes.scatter([], [], s=30, color=colour, label=WORDS[bound])
    axes.legend(title="bound by", title_fontsize=8.5, loc="lower right", handletextpad=0.2, alignment="left")
