"""Measured closed-loop points through the serving simulator: TTFT and TPOT beside the closed form's, on points that no fit saw.

Run with ``python benchmarks/simulated_points.py``; about two minutes on two cores. Bars: TTFT 15%, TPOT 6% in the median.
"""

from __future__ import annotations

from collections.abc import Iterable

from joblib import Parallel, delayed

from infersim.calibrate.measurements import ServingPoint, judges
from infersim.errors import InferSimError
from infersim.validate.comparison import Comparison, error_table
from infersim.validate.serving import METRICS, labels_of, predict_point, shipped_serving_points
from infersim.validate.simulated import simulate_point


def answers(point: ServingPoint) -> list[Comparison]:
    """Both predictions of a point; none where it is refused."""
    try:
        closed, simulated = predict_point(point), simulate_point(point)
    except InferSimError:
        return []
    kind = "MoE" if closed.model.is_moe else "dense"
    found = []
    for metric in METRICS:
        labels = labels_of(point, metric) | {"kind": kind}
        for way, seconds in (("closed form", float(getattr(closed, metric))), ("simulator", simulated.mean(metric))):
            found.append(Comparison(labels | {"way": way}, point.metrics[metric], seconds))
    return found


def show(title: str, rows: Iterable[Comparison], by: list[str]) -> None:
    """Print an error table."""
    print(title)
    for line in error_table(list(rows), by):
        figures = f"median {line.median:6.1%}   mean {line.mean:6.1%}   bias {line.bias:+6.1%}"
        print(f"  {' '.join(line.group):<34} {line.rows:>5} points   {figures}")


def main() -> None:
    """Print the tables."""
    points = [point for point in shipped_serving_points() if judges(point) and set(METRICS) <= set(point.metrics)]
    rows = [row for found in Parallel(n_jobs=-1)(delayed(answers)(point) for point in points) for row in found]
    show("all points that no fit saw", rows, ["metric", "way"])
    show("by kind of model", rows, ["metric", "kind", "way"])
    show("by engine", rows, ["metric", "engine", "way"])
    stated = [row for row in rows if row.labels["protocol"] == "stated"]
    show("runs whose protocol is public", stated, ["metric", "way"])
    show("... by kind of model", stated, ["metric", "kind", "way"])


if __name__ == "__main__":
    main()
