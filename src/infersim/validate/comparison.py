"""A measured figure beside the predicted one, and error tables over many of them.

Errors are |predicted / measured - 1|: median, mean and 90th percentile, with the signed median (bias), the share of figures that
were answered, the naive roofline's errors on the same rows, and how many lie inside their intervals. What was not answered is
counted with its reason.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np

from infersim.files import replace_file

NONE: Mapping[int, tuple[float, float]] = MappingProxyType({})
"""No intervals; one for all rows, which come in millions."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measured figure and what was predicted for it; times in seconds."""

    labels: Mapping[str, str]
    """What it can be grouped by: kind, device, engine, format, model, load ... Shared by rows that agree in all of them."""
    measured: float
    predicted: float | None
    """None where the question was refused."""
    naive: float | None = None
    """The roofline of the data sheet."""
    physical: float | None = None
    """The physical form without its residual surface (kernels)."""
    intervals: Mapping[int, tuple[float, float]] = field(default_factory=lambda: NONE)
    """Low and high by percent."""
    refusal: str = ""

    @property
    def error(self) -> float:
        """Signed relative error of the prediction; NaN where there is none."""
        return float("nan") if self.predicted is None else self.predicted / self.measured - 1


@dataclass(frozen=True)
class ErrorLine:
    """Errors of one group."""

    group: tuple[str, ...]
    rows: int
    answered: float
    """Share of the rows."""
    median: float
    mean: float
    p90: float
    bias: float
    naive_median: float
    naive_mean: float
    physical_mean: float
    covered: Mapping[int, float]
    """Share of answered rows inside the interval, by percent."""

    def to_dict(self) -> dict[str, object]:
        """Plain values; errors are relative."""
        figures = {
            name: getattr(self, name)
            for name in (
                "rows",
                "answered",
                "median",
                "mean",
                "p90",
                "bias",
                "naive_median",
                "naive_mean",
                "physical_mean",
            )
        }
        plain = {
            name: None if isinstance(value, float) and np.isnan(value) else value for name, value in figures.items()
        }
        return {
            "group": list(self.group),
            **plain,
            **{f"covered_{percent}": share for percent, share in self.covered.items()},
        }


def error_table(comparisons: Iterable[Comparison], by: Sequence[str], *, worst_first: bool = True) -> list[ErrorLine]:
    """One line per combination of the labels in ``by``, the largest mean error first.

    >>> rows = [Comparison({"gpu": "A"}, 1.0, 1.1), Comparison({"gpu": "A"}, 2.0, None), Comparison({"gpu": "B"}, 1.0, 1.0)]
    >>> [(line.group, line.rows, line.answered, round(line.mean, 2)) for line in error_table(rows, ["gpu"])]
    [(('A',), 2, 0.5, 0.1), (('B',), 1, 1.0, 0.0)]
    """
    groups: dict[tuple[str, ...], list[Comparison]] = defaultdict(list)
    for one in comparisons:
        groups[tuple(one.labels.get(name, "-") for name in by)].append(one)
    lines = [error_line(group, members) for group, members in groups.items()]
    return sorted(lines, key=lambda line: (-np.nan_to_num(line.mean, nan=-1.0), line.group)) if worst_first else lines


def error_line(group: tuple[str, ...], comparisons: Sequence[Comparison]) -> ErrorLine:
    """The errors of some comparisons; NaN where nothing was answered."""
    found = [one for one in comparisons if one.predicted is not None]
    signed = np.array([one.error for one in found])
    size = np.abs(signed)
    naive = np.array([abs(one.naive / one.measured - 1) for one in found if one.naive is not None])
    physical = np.array([abs(one.physical / one.measured - 1) for one in found if one.physical is not None])
    nan = float("nan")

    def covered(percent: int) -> float:
        inside = [
            one.intervals[percent][0] <= one.measured <= one.intervals[percent][1]
            for one in found
            if percent in one.intervals
        ]
        return float(np.mean(inside)) if inside else nan

    percents = sorted({percent for one in found for percent in one.intervals})
    own = (
        (float(np.median(size)), float(size.mean()), float(np.quantile(size, 0.9)), float(np.median(signed)))
        if found
        else (nan,) * 4
    )
    return ErrorLine(
        group, len(comparisons), len(found) / max(len(comparisons), 1), *own,
        *((float(np.median(naive)), float(naive.mean())) if len(naive) else (nan, nan)),
        float(physical.mean()) if len(physical) else nan, {percent: covered(percent) for percent in percents},
    )  # fmt: skip


def refusals(comparisons: Iterable[Comparison]) -> Counter[str]:
    """How many figures were not answered, by reason."""
    return Counter(one.refusal for one in comparisons if one.predicted is None)


def write_rows(path: Path, comparisons: Iterable[Comparison]) -> None:
    """Write every comparison as a line of CSV, times in seconds; the file appears whole or not at all."""
    rows = list(comparisons)
    kinds = {id(one.labels): one.labels for one in rows}.values()
    labels = list(dict.fromkeys(name for found in kinds for name in found))
    percents = sorted({percent for one in rows for percent in one.intervals})
    ends = [f"{end}_{percent}_s" for percent in percents for end in ("low", "high")]

    def write(part: Path) -> None:
        with part.open("w", newline="", encoding="utf-8") as file:
            out = csv.writer(file)
            out.writerow([*labels, "measured_s", "predicted_s", "naive_s", "form_alone_s", *ends, "refusal"])
            for one in rows:
                bounds = [bound for percent in percents for bound in one.intervals.get(percent, (None, None))]
                times = (one.measured, one.predicted, one.naive, one.physical)
                out.writerow([*(one.labels.get(name, "") for name in labels), *times, *bounds, one.refusal])

    replace_file(path, write)
