"""Predict measured closed-loop points with the serving simulator: the benchmark's protocol, request by request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infersim.calibrate.measurements import ServingPoint
from infersim.serving.arrivals import ClosedLoop
from infersim.serving.lengths import Uniform
from infersim.serving.simulate import simulate_deployment
from infersim.serving.traffic import Traffic
from infersim.validate.serving import predict_point

if TYPE_CHECKING:
    from infersim.serving.result import ServingResult

STEADY_ROUNDS = 20
"""Requests of each user where a source does not tell how many were measured: the load is then taken for a steady one."""


def traffic_of(point: ServingPoint) -> Traffic:
    """The closed loop of a measured point: as many requests as were measured, lengths spread as stated, all users at once."""
    users = round(point.concurrency or 0)
    count = point.num_requests or STEADY_ROUNDS * users
    return Traffic(
        input_tokens=_spread(point.input_tokens, point.range_ratio), output_tokens=_spread(point.output_tokens, point.range_ratio),
        arrivals=ClosedLoop(concurrency=users), num_requests=count,
    )  # fmt: skip


def simulate_point(point: ServingPoint, *, seed: int = 0) -> ServingResult:
    """The simulator's answer for a measured point. Raises InferSimError where the closed form would refuse it too."""
    return simulate_deployment(predict_point(point), traffic_of(point), seed=seed)


def _spread(mean: float, ratio: float | None) -> Uniform:
    """Lengths uniform in [ratio x nominal, nominal] about their mean; all alike where no ratio is told.

    >>> _spread(900.0, 0.8)
    Uniform(kind='uniform', low=800.0, high=1000.0)
    """
    nominal = 2 * mean / (1 + (1.0 if ratio is None else ratio))
    low = round((2 * mean) - nominal)
    return Uniform(low=max(1, low), high=max(1, round(nominal)))
