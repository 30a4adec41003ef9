"""Are stated chances of meeting a target true? Measured serving points against the chance that was predicted for each.

For every point, targets are set at multiples of what is predicted for it; the chance of keeping both limits is drawn as a plan draws it
(quantiles of measured over predicted, correlated), and compared with how often measurements keep them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from infersim.calibrate.measurements import ServingPoint, judges
from infersim.errors import InferSimError
from infersim.planning.assumptions import Assumptions
from infersim.planning.outcome import Choice
from infersim.planning.usual import own_assumptions
from infersim.validate.serving import METRICS, predict_point

MULTIPLES = (0.7, 0.85, 1.0, 1.2, 1.5, 2.0)
"""Limits over predicted times."""
CLASSES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
DRAWS = 1000


@dataclass(frozen=True)
class Reliability:
    """Cases whose stated chance lies in one class: the mean chance, and the share in which both limits were kept."""

    cases: int
    stated: float
    kept: float


def stated_and_kept(points: Iterable[ServingPoint], *, judging: bool) -> npt.NDArray[np.float64]:
    """Rows of stated chance and whether the measurement kept both limits, for the points of one side of the split."""
    rows = []
    for point in points:
        if judges(point) != judging or not all(metric in point.metrics for metric in METRICS):
            continue
        try:
            answer = predict_point(point)
        except InferSimError:
            continue
        if answer.model.task != "generate" or answer.parallelism.replicas != 1:
            continue
        known = own_assumptions(Choice(answer, name="this"))
        errors = Assumptions(tuple(item for item in known if ".prediction." in item.name), known.correlations)
        drawn = errors.draw(DRAWS)
        measured = {metric: point.metrics[metric] / getattr(answer, metric) for metric in METRICS}
        factors = np.array([drawn[f"this.prediction.{metric}"] for metric in METRICS])
        truth = np.array([measured[metric] for metric in METRICS])
        for first in MULTIPLES:
            for each in MULTIPLES:
                limits = np.array([first, each])
                rows.append((float((factors <= limits[:, None]).all(axis=0).mean()), float((truth <= limits).all())))
    return np.array(rows).reshape(-1, 2)


def reliability(rows: npt.NDArray[np.float64]) -> list[Reliability]:
    """By class of stated chance.

    >>> reliability(np.array([[0.95, 1.0], [0.97, 1.0], [0.2, 0.0]]))[-1]
    Reliability(cases=2, stated=0.96, kept=1.0)
    """
    found = []
    for low, high in pairwise(CLASSES):
        part = rows[(rows[:, 0] >= low) & (rows[:, 0] < high + (high == 1.0))]
        if len(part):
            found.append(Reliability(len(part), float(part[:, 0].mean()), float(part[:, 1].mean())))
    return found
