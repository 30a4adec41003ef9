"""Which errors of predictions go together, from measured serving points on the fitting side of the split.

Two figures: how the errors of TTFT and TPOT of one point go together, by engine and kind of model; and how far two deployments of
one model under one engine, lengths and load err alike, on the same device and on different ones. Both are correlations of
normal scores within an engine and kind, so that a common bias, which the intervals hold already, is not counted again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from infersim.calibrate.measurements import ServingPoint, judges
from infersim.errors import InferSimError
from infersim.files import write_text
from infersim.predict.interval import regime
from infersim.validate.intervals import LEAST_ROWS
from infersim.validate.serving import METRICS, predict_point

Array = npt.NDArray[np.float64]
PRECISION = -2
"""Lengths are alike where they round to the same hundred tokens."""


@dataclass(frozen=True)
class Errors:
    """A point's errors of TTFT and TPOT in spreads of its regime, and what it is compared by."""

    regime: tuple[str, str]
    workload: tuple[object, ...]
    device: str
    ways: tuple[str, str]
    scores: tuple[float, ...]


def errors_of(points: Iterable[ServingPoint]) -> list[Errors]:
    """Errors of every answered point that a fit may see and that has both metrics."""
    found = []
    for point in points:
        if judges(point) or not all(metric in point.metrics for metric in METRICS):
            continue
        try:
            answer = predict_point(point)
        except InferSimError:
            continue
        kind = "MoE" if answer.model.is_moe else "dense"
        scores = []
        for metric in METRICS:
            spread = np.hypot(answer.log_spread(metric), regime(point.engine, kind, metric).added)
            scores.append(float(np.log(point.metrics[metric] / getattr(answer, metric)) / spread))
        load = (
            point.model,
            round(point.input_tokens, PRECISION),
            round(point.output_tokens, PRECISION),
            point.concurrency,
        )
        found.append(Errors((point.engine, kind), load, point.device, (str(point.parallelism), str(point.precision)),
                            tuple(scores)))  # fmt: skip
    return found


def normal_scores(values: Array) -> Array:
    """Ranks as normal scores (van der Waerden).

    >>> [round(float(score), 3) for score in normal_scores(np.array([3.0, 1.0, 2.0]))]
    [0.674, -0.674, 0.0]
    """
    from scipy.stats import norm, rankdata

    return np.asarray(norm.ppf(rankdata(values) / (len(values) + 1)))


def correlations(errors: Iterable[Errors]) -> dict[str, dict[str, dict[str, float]]]:
    """``metrics``: TTFT with TPOT, by engine (or all) and kind. ``deployments``: alike under one workload, by device and metric.

    The correlation of pairs is the mean product of their normal scores over the mean square.
    """
    listed = list(errors)
    by_regime: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, error in enumerate(listed):
        by_regime[error.regime].append(row)
    scores = np.zeros((len(listed), len(METRICS)))
    for rows in by_regime.values():
        for column in range(len(METRICS)):
            scores[rows, column] = normal_scores(np.array([listed[row].scores[column] for row in rows]))
    metrics: dict[str, dict[str, float]] = defaultdict(dict)
    for engine in sorted({engine for engine, _ in by_regime} | {"all"}):
        for kind in ("MoE", "dense"):
            rows = [
                row
                for (name, what), rows in by_regime.items()
                if what == kind and engine in (name, "all")
                for row in rows
            ]
            if len(rows) >= LEAST_ROWS:
                table = np.atleast_2d(np.corrcoef(scores[rows].T))
                metrics[engine][kind] = round(float(table[0, 1]), 3)
    pairs: dict[str, list[tuple[int, int]]] = {"same_device": [], "other_device": []}
    for one, other in _pairs(listed):
        a, b = listed[one], listed[other]
        if a.device != b.device:
            pairs["other_device"].append((one, other))
        elif a.ways != b.ways:
            pairs["same_device"].append((one, other))
    deployments: dict[str, dict[str, float]] = {}
    for name, found in pairs.items():
        left, right = ([pair[side] for pair in found] for side in (0, 1))
        first, second = scores[left], scores[right]
        product, size = (first * second).sum(axis=0), (first**2 + second**2).sum(axis=0) / 2
        deployments[name] = {"pairs": len(found)} | {
            metric: round(max(float(product[place] / max(size[place], 1e-30)), 0.0), 3)
            for place, metric in enumerate(METRICS)
        }
    return {"metrics": dict(metrics), "deployments": deployments}


def _pairs(errors: list[Errors]) -> Iterable[tuple[int, int]]:
    """Pairs of points of one engine, model, lengths and load."""
    groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for row, error in enumerate(errors):
        groups[(*error.regime, *error.workload)].append(row)
    for rows in groups.values():
        yield from combinations(rows, 2)


def write_correlations(folder: Path, points: Iterable[ServingPoint], *, date: str, source: str) -> Path:
    """One file, ``errors.yaml``."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = errors_of(points)
    lines = [
        "# Made by benchmarks/fit_overheads.py; do not edit.",
        f"date: {date}",
        f"source: {source}",
        f"points: {len(listed)}",
    ]
    for name, groups in correlations(listed).items():
        lines.append(f"{name}:")
        for group, values in groups.items():
            lines.append(f"  {group}: {{{', '.join(f'{key}: {value}' for key, value in values.items())}}}")
    path = folder / "errors.yaml"
    write_text(path, "\n".join([*lines, ""]))
    return path
