"""A sweep in a report: what was swept, how many points failed and why, the range of every figure, and how the figures go together."""

from __future__ import annotations

from functools import partial

from infersim.report.figures.sweep import shown, sweep_points
from infersim.report.markup import Markup, join, table, tag
from infersim.report.svg import Picture, inline
from infersim.report.swept import Sweep
from infersim.report.words import number, seconds

REASONS = 8
"""Reasons for failed points that are told one by one."""
FEW = 6
"""A swept field of at most so many values colours the points."""
ASKED = ("traffic.", "workload.")
"""Columns that repeat what was asked."""
SPEEDS = ("tpot_s", "ttft_s", "tpot_p95_s", "ttft_p95_s")
"""Figures to look at first: of a closed form, of a simulation."""


def sweep_pictures(sweep: Sweep) -> list[Picture]:
    """TTFT and TPOT against each other or the first figures there are, and TPOT over the field that moves it most."""

    wanted = [name for name in ("output_tokens_per_s_per_gpu", *SPEEDS) if name in sweep.figures]
    found = []
    groups = next((name for name in sweep.fields if 1 < sweep.distinct[name] <= FEW), None)
    if len(wanted) >= 2:
        up, across = wanted[0], wanted[1]
        caption = f"One dot a point of the sweep, {sweep.rows:,} in all" + (
            f", coloured by {groups}." if groups else "."
        )
        found.append(Picture(
            "sweep-points", f"{shown(up)} against {shown(across)}", "Dots: the points of the sweep.", caption,
            partial(sweep_points, sweep.columns[across], sweep.columns[up], xlabel=across, ylabel=up,
                    groups=sweep.columns[groups] if groups else None),
        ))  # fmt: skip
    figure = next((name for name in (*SPEEDS, *sweep.figures) if name in sweep.figures), None)
    field = _strongest(sweep, figure) if figure else None
    if figure and field:
        caption = f"{field} moves {shown(figure)} most of the fields that were swept (by rank correlation)."
        found.append(Picture(
            "sweep-field", f"{shown(figure)} over {field}", f"Dots: {figure} over {field}.", caption,
            partial(sweep_points, sweep.columns[field], sweep.columns[figure], xlabel=field, ylabel=figure),
        ))  # fmt: skip
    return found


def _strongest(sweep: Sweep, figure: str) -> str | None:
    """The numeric field whose ranks go with the figure's most; None where none is numeric or varies."""
    import numpy as np
    from scipy.stats import spearmanr

    target = sweep.columns[figure].astype(float)
    best, strength = None, 0.0
    for name in sweep.fields:
        try:
            values = sweep.columns[name].astype(float)
        except (TypeError, ValueError):
            continue
        kept = np.isfinite(values) & np.isfinite(target)
        if kept.sum() < 3 or np.ptp(values[kept]) == 0 or np.ptp(target[kept]) == 0:
            continue
        found = abs(float(spearmanr(values[kept], target[kept]).statistic))
        if found > strength:
            best, strength = name, found
    return best


def sweep_section(sweep: Sweep, pictures: list[Picture]) -> Markup:
    """What a reader wants to know of a sweep: size, failures, ranges, figures."""
    import numpy as np

    failed = sum(sweep.reasons.values())
    told = f"{sweep.rows:,} points over {', '.join(sweep.fields) or 'no field'}"
    if sweep.asked is not None and sweep.asked != sweep.rows:
        told += f" of {sweep.asked:,} asked for"
    rows = []
    for name in sweep.figures:
        values = sweep.columns[name].astype(float)
        values = values[np.isfinite(values)]
        if name.startswith(ASKED) or (len(values) > 1 and np.ptp(values) == 0):
            continue
        show = seconds if name.endswith("_s") and not name.endswith("per_s") else number
        rows.append(
            [shown(name), *(show(float(v)) for v in np.percentile(values, (0, 5, 50, 95, 100))), f"{len(values):,}"]
        )
    told_of = "Figures that are the same at every point are left out; the Parquet files have all."
    reasons = sorted(sweep.reasons.items(), key=lambda item: -item[1])
    more = sum(count for _, count in reasons[REASONS:])
    listed = [f"{count:,}: {reason}" for reason, count in reasons[:REASONS]] + (
        [f"{more:,}: other reasons"] if more else []
    )
    return join([
        tag("p", f"{told}; {failed:,} have no answer." if failed else f"{told}, all answered."),
        tag("ul", [tag("li", line) for line in listed], class_="plain") if listed else None,
        tag("div", [inline(picture) for picture in pictures], class_="figures") if pictures else None,
        table(["Figure", "Least", "5%", "Median", "95%", "Most", "Points"], rows, numeric=range(1, 7), caption=told_of),
    ])  # fmt: skip
