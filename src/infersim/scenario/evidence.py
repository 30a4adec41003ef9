"""What a report draws beside an answer, as plain numbers, so that a results folder holds all that its report shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from infersim.errors import InferSimError
from infersim.predict.estimate import Estimate

if TYPE_CHECKING:
    from infersim.planning.service import ServiceCurve
    from infersim.serving.result import ServingResult

METRICS = ("tpot", "ttft", "e2e")
SERIES_POINTS = 400


def evidence(answer: Any) -> dict[str, Any]:
    """The closed form behind an answer and its curve over load; for a simulated run also its distributions and its course in time.

    Keys: ``estimate`` (``to_dict()`` of the deployment behind a run or of a plan's best option), ``prefill_estimate`` (of the pool for
    prompts, where there is one), ``load`` (``curve_columns``),
    ``distribution`` (``quantiles``), ``series`` (``series_columns``). Answers of other kinds have none of them.

    >>> from infersim import estimate
    >>> sorted(evidence(estimate("meta-llama/Llama-3.1-8B", "H100-SXM")))
    ['load']
    """
    from infersim.planning.options import Plan
    from infersim.serving.result import ServingResult

    if isinstance(answer, Estimate):
        return _load(answer)
    if isinstance(answer, Plan):
        return _behind(answer.best.deployment, answer.best.prefill)
    if isinstance(answer, ServingResult):
        front = answer.prefill.deployment if answer.prefill is not None else None
        return _behind(answer.deployment, front) | {"distribution": quantiles(answer), "series": series_columns(answer)}
    return {}


def _behind(deployment: Estimate, prefill: Estimate | None) -> dict[str, Any]:
    """The closed form of a deployment, or of its two pools, which have no curve in common."""
    found: dict[str, Any] = {"estimate": deployment.to_dict()}
    return found | (_load(deployment) if prefill is None else {"prefill_estimate": prefill.to_dict()})


def _load(deployment: Estimate) -> dict[str, Any]:
    from infersim.planning.service import service_curve

    if not deployment.fits:
        return {}
    try:
        return {"load": curve_columns(service_curve(deployment))}
    except InferSimError as error:
        return {"load_refused": str(error)}


def curve_columns(curve: ServiceCurve) -> dict[str, list[float]]:
    """A curve of one case as plain lists under names with units.

    >>> from infersim import estimate
    >>> from infersim.planning.service import service_curve
    >>> list(curve_columns(service_curve(estimate("meta-llama/Llama-3.1-8B", "H100-SXM"))))[:3]
    ['users', 'requests_per_s', 'ttft_s']
    """
    columns = {"users": curve.users, "requests_per_s": curve.rate, "ttft_s": curve.ttft, "tpot_s": curve.tpot, "e2e_s": curve.e2e,
               "running_sequences": curve.running, "prefill_time_share": curve.prefill_share}  # fmt: skip
    return {name: np.asarray(values, dtype=float).ravel().tolist() for name, values in columns.items()}


def quantiles(run: ServingResult) -> dict[str, list[float]]:
    """Percentiles 0 to 100 of each latency of the counted requests, at half steps; empty where none has it."""
    percents = np.linspace(0, 100, 201)
    found = {}
    for metric in METRICS:
        values = run.values(metric)
        found[f"{metric}_s"] = np.percentile(values, percents).tolist() if len(values) else []
    return found


def series_columns(run: ServingResult) -> dict[str, list[float]]:
    """State of the first replica over time, thinned to at most SERIES_POINTS points."""
    series = run.series[0].points if run.series else []
    kept = np.unique(np.linspace(0, max(len(series) - 1, 0), min(SERIES_POINTS, len(series))).astype(int))
    columns = np.array([series[place] for place in kept.tolist()], dtype=float).reshape(-1, 5)
    return {
        "time_s": columns[:, 0].tolist(), "running": (columns[:, 1] + columns[:, 2]).tolist(), "waiting": columns[:, 3].tolist(),
        "kv_share": (columns[:, 4] / run.policy.num_blocks).tolist(),
    }  # fmt: skip
