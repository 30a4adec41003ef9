"""Read a recall curve: between its points only, never beyond. Recall is what somebody measured, not what a formula says."""

from __future__ import annotations

import numpy as np

from infersim.errors import SpecError
from infersim.ops.base import Numbers
from infersim.specs.vector_search import RecallCurve


def recall_at(curve: RecallCurve, knob: Numbers) -> Numbers:
    """Recall at a value of the knob, linear in its logarithm between the points. SpecError outside what was measured.

    >>> from infersim.specs.library import load_recall_curve
    >>> round(float(recall_at(load_recall_curve("pgvector-hnsw-550k-1024"), 128)), 3)
    0.887
    """
    return _read(curve, knob, [point.recall for point in curve.points])


def evaluations_at(curve: RecallCurve, knob: Numbers) -> Numbers | None:
    """Distance evaluations of a query at a value of the knob; None where the curve does not tell them."""
    counted = [point.evaluations for point in curve.points]
    if any(count is None for count in counted):
        return None
    return np.exp(_read(curve, knob, [float(np.log(count)) for count in counted if count is not None]))


def knob_for(curve: RecallCurve, recall: float) -> float:
    """The least knob whose recall is at least ``recall``; SpecError naming the best where no point of the curve reaches it.

    >>> from infersim.specs.library import load_recall_curve
    >>> round(knob_for(load_recall_curve("pgvector-hnsw-550k-1024"), 0.9))
    149
    """
    best = max(point.recall for point in curve.points)
    if recall > best:
        raise SpecError(f"{curve.name} was measured up to a recall of {best:g}, not {recall:g}", field="recall")
    before = curve.points[0]
    if before.recall >= recall:
        return before.knob
    for after in curve.points[1:]:
        if after.recall >= recall:
            part = (recall - before.recall) / (after.recall - before.recall)
            return float(before.knob * (after.knob / before.knob) ** part)
        before = after
    raise AssertionError("a curve whose best point reaches the recall has a first one that does")


def affine_latency(knob: Numbers, base: float, slope: float) -> Numbers:
    """Seconds of a query of a graph as its beam grows: base + slope x ef.

    >>> [round(float(affine_latency(ef, 1.18e-3, 24.7e-6)) * 1e3, 2) for ef in (32, 64, 256)]
    [1.97, 2.76, 7.5]
    """
    return base + slope * np.asarray(knob)


def fit_affine(curve: RecallCurve) -> tuple[float, float]:
    """(base, slope) in seconds of the latencies of a curve by least squares. SpecError where fewer than two points tell one.

    >>> from infersim.specs.library import load_recall_curve
    >>> base, slope = fit_affine(load_recall_curve("pgvector-hnsw-550k-1024"))
    >>> round(base * 1e3, 2), round(slope * 1e3, 4)
    (1.18, 0.0247)
    """
    timed = [(point.knob, point.latency) for point in curve.points if point.latency is not None]
    if len(timed) < 2:
        raise SpecError(f"{curve.name} has fewer than two points with a latency", field="points")
    slope, base = np.polyfit([knob for knob, _ in timed], [seconds for _, seconds in timed], 1)
    return float(base), float(slope)


def _read(curve: RecallCurve, knob: Numbers, values: list[float]) -> Numbers:
    knobs = [point.knob for point in curve.points]
    asked = np.asarray(knob, dtype=float)
    if np.any(asked < knobs[0]) or np.any(asked > knobs[-1]):
        raise SpecError(f"{curve.name} was measured from {knobs[0]:g} to {knobs[-1]:g}, not at {knob}", field="knob")
    return np.interp(np.log(asked), np.log(knobs), values)
