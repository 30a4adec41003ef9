"""What a report draws beside an answer, as plain numbers, so that a results folder holds all that its report shows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from infersim.errors import InferSimError
from infersim.planning.ownership import HOURS_PER_YEAR
from infersim.predict.estimate import Estimate

if TYPE_CHECKING:
    from infersim.planning.cost import CostReport
    from infersim.planning.options import Option
    from infersim.planning.service import ServiceCurve
    from infersim.serving.result import ServingResult

METRICS = ("tpot", "ttft", "e2e")
SERIES_POINTS = 400


def evidence(answer: Any) -> dict[str, Any]:
    """The closed form behind an answer and its curve over load; for a simulated run also its distributions and its course in time.

    Keys: ``estimate`` (``to_dict()`` of the deployment behind a run, a cost, or a plan's best option), ``prefill_estimate`` (of the
    pool for prompts, where there is one), ``load`` (``curve_columns``), ``doubt`` (a tornado: of a plan's cost, of a closed form's TPOT,
    of a year's cost; of a plan also the chance of meeting its target by number of GPUs), ``distribution`` (``quantiles``), ``series``
    (``series_columns``), ``capacity_requests_per_s`` (the most that a cost's devices serve). What cannot be had is told by
    ``load_refused`` and ``doubt_refused``. Answers of other kinds have none of them.

    >>> from infersim import estimate
    >>> sorted(evidence(estimate("meta-llama/Llama-3.1-8B", "H100-SXM")))
    ['doubt', 'load']
    """
    from infersim.planning.comparison import Comparison
    from infersim.planning.cost import CostReport
    from infersim.planning.options import Plan
    from infersim.serving.capacity import Capacity
    from infersim.serving.result import ServingResult

    if isinstance(answer, Estimate):
        return _load(answer) | (_speed_doubt(answer) if answer.fits else {})
    if isinstance(answer, Plan):
        return _behind(answer.best.deployment, answer.best.prefill) | _plan_doubt(answer.best)
    if isinstance(answer, CostReport):
        return _cost(answer)
    if isinstance(answer, Capacity):
        return evidence(answer.at)
    if isinstance(answer, Comparison):
        cheapest = answer.cheapest
        return {"doubt": {"tornado": answer.tornado(cheapest.letter).to_dict()}}
    if isinstance(answer, ServingResult):
        front = answer.prefill.deployment if answer.prefill is not None else None
        return _behind(_at_its_mean(answer), front) | {
            "distribution": quantiles(answer),
            "series": series_columns(answer),
        }
    return {}


def _at_its_mean(run: ServingResult) -> Estimate:
    """The deployment with as many users as a run had requests in flight on average: its rate times its mean latency (Little's law)."""
    from infersim.planning.search import at_load

    users = run.requests_per_second * run.mean("e2e")
    apart = run.prefill is not None  # two pools, and the latency is of both
    return run.deployment if apart or not np.isfinite(users) else at_load(run.deployment, users)


def _behind(deployment: Estimate, prefill: Estimate | None) -> dict[str, Any]:
    """The closed form of a deployment, or of its two pools, which have no curve in common."""
    found: dict[str, Any] = {"estimate": deployment.to_dict()}
    return found | (_load(deployment) if prefill is None else {"prefill_estimate": prefill.to_dict()})


def _plan_doubt(option: Option) -> dict[str, Any]:
    """The chance of meeting the target by number of GPUs, and what moves the cost of the option most."""
    from infersim.planning.compare import compare

    try:
        found = compare(option, request_rate=option.request_rate)
    except InferSimError as error:
        return {"doubt_refused": str(error)}
    (side,) = found.sides
    told = side.uncertain.to_dict()
    kept = {name: told[name] for name in ("sentence", "gpus_to_chance", "notes")}
    return {"doubt": kept | {"tornado": found.tornado(side.letter).to_dict()}}


def _speed_doubt(deployment: Estimate) -> dict[str, Any]:
    """What moves the latency of a deployment at its load most; its replicas are alike, so one stands for all."""
    from infersim.planning.compare import compare

    one = replace(deployment, parallelism=deployment.parallelism.model_copy(update={"replicas": 1}))
    figure = "tpot" if deployment.model.task == "generate" else "ttft"
    try:
        rate = deployment.requests_per_second / deployment.parallelism.replicas
        return {"doubt": {"tornado": compare(one, request_rate=rate).tornado("A", figure).to_dict()}}
    except InferSimError as error:
        return {"doubt_refused": str(error)}


def _cost(report: CostReport) -> dict[str, Any]:
    """The closed form behind a cost, the most that the devices serve, and what moves a year's cost most."""
    from infersim.planning.assumptions import Assumptions
    from infersim.planning.sensitivity import tornado
    from infersim.planning.service import STABLE_SHARE
    from infersim.planning.terms import hourly
    from infersim.specs.economics import Ownership

    front = report.loads[0].deployment if len(report.loads) > 1 else None
    found = _behind(report.deployment, front)
    if "load" in found:
        replicas = report.devices // report.deployment.parallelism.devices_per_replica
        found["capacity_requests_per_s"] = found["load"]["requests_per_s"][-1] * STABLE_SHARE * replicas
    owned, last, hours = isinstance(report.terms, Ownership), report.loads[-1], HOURS_PER_YEAR * report.devices
    each = report.watts / report.devices
    try:
        bars = tornado(
            lambda values: np.asarray(hourly(values, owned, each, last.provisioned_watts)) * hours,
            Assumptions(report.assumptions), "usd_per_year", "USD/year",
        )  # fmt: skip
    except InferSimError as error:
        return found | {"doubt_refused": str(error)}
    return found | {"doubt": {"tornado": bars.to_dict()}}


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
