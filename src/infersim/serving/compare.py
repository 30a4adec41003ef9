"""A replayed trace against what was measured when it was recorded."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from infersim import units
from infersim.errors import SpecError
from infersim.serving.result import ServingResult
from infersim.serving.traces import Trace

STATISTICS = ("mean", "p50", "p90", "p95", "p99")


@dataclass(frozen=True)
class Compared:
    """One statistic of one latency [s], over the requests that both sides completed."""

    metric: str
    statistic: str
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """predicted / measured - 1."""
        return self.predicted / self.measured - 1 if self.measured else math.nan


@dataclass(frozen=True)
class Comparison:
    """All of them, and the median error of single requests."""

    rows: tuple[Compared, ...]
    requests: int
    each: dict[str, float]
    """By latency: the median of |predicted / measured - 1| over requests."""

    def to_dict(self) -> list[dict[str, float | str]]:
        """One object per latency and statistic, in seconds."""
        return [{"metric": row.metric, "statistic": row.statistic, "predicted_s": row.predicted, "measured_s": row.measured,
                 "error": row.error} for row in self.rows]  # fmt: skip

    def __str__(self) -> str:
        lines = [f"{'':<10}{'predicted':>12}{'measured':>12}{'error':>9}   {self.requests:,} requests"]
        for row in self.rows:
            shown = (units.show(value, "s") for value in (row.predicted, row.measured))
            lines.append(f"{row.metric + ' ' + row.statistic:<10}{next(shown):>12}{next(shown):>12}{row.error:>+9.1%}")
        return "\n".join(lines)


def compare(result: ServingResult, trace: Trace) -> Comparison:
    """Predicted against measured TTFT, TPOT and E2E of a trace that carries times. SpecError where it carries none."""
    if not trace.measured:
        raise SpecError("carries no measured first-token or finish times to compare with", file=trace.file)
    count = result.columns.rows
    if trace.num_requests != count and not result.interrupted:
        raise SpecError(
            f"has {trace.num_requests} requests, the result {count}: not the trace it replayed", file=trace.file
        )
    unknown = np.full(count, math.nan)
    arrival, first, finish = (
        unknown if times is None else times[:count] for times in (trace.arrival, trace.first_token, trace.finish)
    )
    output = trace.output[:count]
    with np.errstate(invalid="ignore", divide="ignore"):
        measured = {
            "ttft": first - arrival, "tpot": np.where(output > 1, (finish - first) / (output - 1), math.nan), "e2e": finish - arrival,
        }  # fmt: skip
    rows, each, most = [], {}, 0
    for metric, values in measured.items():
        predicted = result.columns[f"{metric}_s"]
        both = ~np.isnan(values) & ~np.isnan(predicted) & (values > 0)
        if not both.any():
            continue
        most = max(most, int(np.count_nonzero(both)))
        for statistic in STATISTICS:
            figures = [
                float(found.mean() if statistic == "mean" else np.percentile(found, float(statistic[1:])))
                for found in (predicted[both], values[both])
            ]
            rows.append(Compared(metric, statistic, *figures))
        each[metric] = float(np.median(np.abs(predicted[both] / values[both] - 1)))
    return Comparison(tuple(rows), most, each)
