"""Find the regimes that make intervals hold, from measured serving points on the fitting side of the split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from infersim.calibrate.measurements import ServingPoint, judges
from infersim.errors import InferSimError
from infersim.files import write_text
from infersim.predict.interval import NORMAL, Regime
from infersim.specs.library import load_engine
from infersim.validate.serving import METRICS, predict_point

LEAST_ROWS = 30
"""A regime with fewer points takes the pooled one."""
Scores = dict[tuple[str, str, str], list[tuple[float, float]]]


def conformal(log_ratios: npt.NDArray[np.float64], spreads: npt.NDArray[np.float64], source: str = "") -> Regime:
    """The regime of points with these log(measured / predicted) and kernel spreads.

    What is added is the robust spread of the ratios beyond the kernels' median one; quantiles are those of n + 1 points, the
    outer ones moved outwards, as split conformal prediction asks.

    >>> generator = np.random.default_rng(0)
    >>> found = conformal(generator.normal(0.0, 0.2, 2000), np.full(2000, 0.1))
    >>> round(found.added, 2), round(found.quantiles[95], 1)
    (0.17, 1.6)
    """
    total = 1.4826 * float(np.median(np.abs(log_ratios)))
    added = float(np.sqrt(max(total**2 - float(np.median(spreads)) ** 2, 0.02**2)))
    scores = np.sort(log_ratios / np.hypot(spreads, added))
    n = len(scores)
    places = {q: int(np.ceil((n + 1) * q / 100)) if q > 50 else int(np.floor((n + 1) * q / 100)) for q in NORMAL}
    quantiles = {q: float(scores[min(max(place, 1), n) - 1]) for q, place in places.items()}
    return Regime(n, round(added, 4), {q: round(value, 4) for q, value in quantiles.items()}, source)


def scores_of(points: Iterable[ServingPoint]) -> Scores:
    """log(measured / predicted) and kernel spread of every answered point that a fit may see, by engine, kind and metric."""
    found: Scores = defaultdict(list)
    for point in points:
        if judges(point):
            continue
        try:
            answer = predict_point(point, engine=load_engine(point.engine))
        except InferSimError:
            continue
        kind = "MoE" if answer.model.is_moe else "dense"
        for metric in METRICS:
            if metric in point.metrics:
                ratio = float(np.log(point.metrics[metric] / getattr(answer, metric)))
                for engine in (point.engine, "all"):
                    found[engine, kind, metric].append((ratio, answer.log_spread(metric)))
    return found


def write_intervals(folder: Path, points: Iterable[ServingPoint], *, date: str, source: str) -> list[Path]:
    """One file per engine and one of all together."""
    folder.mkdir(parents=True, exist_ok=True)
    scores, written = scores_of(points), []
    for engine in sorted({key[0] for key in scores}):
        lines = ["# Made by benchmarks/fit_overheads.py; do not edit.", f"date: {date}", f"source: {source}"]
        for metric in METRICS:
            kinds = {kind: pairs for (name, kind, what), pairs in scores.items() if (name, what) == (engine, metric)}
            enough = {kind: pairs for kind, pairs in sorted(kinds.items()) if len(pairs) >= LEAST_ROWS}
            lines += [f"{metric}:"] if enough else []
            for kind, pairs in enough.items():
                found = conformal(*np.array(pairs).T)
                quantiles = ", ".join(f"{q}: {value}" for q, value in sorted(found.quantiles.items()))
                lines.append(f"  {kind}: {{rows: {found.rows}, added: {found.added}, quantiles: {{{quantiles}}}}}")
        path = folder / f"{engine}.yaml"
        write_text(path, "\n".join([*lines, ""]))
        written.append(path)
    return written
