"""A deployment at a rate of requests as an option, so that its load test and expected figures are of that rate."""

from __future__ import annotations

from dataclasses import replace

from infersim.errors import NoPlanError
from infersim.planning.options import Option
from infersim.planning.search import at_load
from infersim.planning.service import capacity_of, service_curve
from infersim.predict.estimate import Estimate
from infersim.serving.target import Limit


def at_rate(deployment: Estimate, request_rate: float, limits: tuple[Limit, ...] = ()) -> Option:
    """``deployment`` with its replicas under ``request_rate`` requests per second; NoPlanError where they cannot serve it.

    >>> from infersim import estimate
    >>> at_rate(estimate("meta-llama/Llama-3.1-8B", "H100-SXM", replicas=2), 10.0).replicas
    2
    """
    replicas = deployment.parallelism.replicas
    one = replace(deployment, parallelism=deployment.parallelism.model_copy(update={"replicas": 1}))
    curve = service_curve(one)
    capacity = float(capacity_of(curve, limits).rate) * replicas
    most = float(capacity_of(curve, ()).rate) * replicas
    if not 0 < request_rate <= most:
        raise NoPlanError(f"{deployment.describe()} serves at most {most:.3g} requests/s, not {request_rate:g}")
    point = curve.at(request_rate / replicas)
    return Option(
        at_load(one, float(point.users)), None, replicas, 0, request_rate, max(capacity, 1e-9), float(point.ttft), float(point.tpot),
        float(point.e2e), "throughput", float(point.running), limits=limits,
    )  # fmt: skip
