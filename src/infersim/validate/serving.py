"""Predict measured serving points with the closed form and set the figures side by side.

A point is predicted from what its source states: lengths, load, parallelism, formats, engine knobs. Where a benchmark's start is
known (``num_requests``) the burst at its start is part of the prediction. What the model cannot answer is refused with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from infersim.calibrate.measurements import ServingPoint
from infersim.calibrate.serving_csv import read_serving_points
from infersim.errors import InferSimError, UnsupportedError
from infersim.predict.estimate import Estimate, estimate
from infersim.specs.library import measurement_file
from infersim.validate.comparison import Comparison

if TYPE_CHECKING:
    from infersim.machine.machine import Mode
    from infersim.specs.engine import EngineSpec

METRICS = ("tpot", "ttft")
LOADS = ((8, "1-8"), (32, "9-32"), (128, "33-128"), (512, "129-512"))


def shipped_serving_points() -> list[ServingPoint]:
    """The measured serving points that come with infersim (``measurements/README.md`` says where they are from)."""
    return read_serving_points(measurement_file("serving_points.csv.gz"))


def predict_point(point: ServingPoint, mode: Mode = "calibrated", engine: EngineSpec | None = None) -> Estimate:
    """The closed form's answer for a measured point, under its engine or one given in its place.

    Raises InferSimError where it cannot be answered: speculative decoding, disaggregation, open arrivals, unknown names,
    what does not fit.
    """
    if point.disaggregated:
        raise UnsupportedError("disaggregated deployments need the event simulation")
    if point.concurrency is None:
        raise UnsupportedError("open arrivals need the event simulation")
    if point.speculative is None:
        raise UnsupportedError("the source does not tell whether decoding was speculative")
    if point.speculative != "none":
        raise UnsupportedError(f"speculative decoding ({point.speculative}) is not part of the closed form")
    ways = point.parallelism
    answer = estimate(
        point.model, point.device, tensor_parallel=ways.tensor, pipeline_parallel=ways.pipeline,
        attention_data_parallel=ways.attention_data, expert_parallel=ways.expert, context_parallel=ways.context,
        replicas=ways.replicas, precision=point.precision, kv_cache=point.kv_cache, engine=engine or point.engine, mode=mode,
        input_tokens=point.input_tokens, output_tokens=point.output_tokens, concurrency=point.concurrency,
        prefix_hit=point.prefix_hit or 0.0, num_requests=point.num_requests,
        fixed_lengths=point.range_ratio == 1, knobs=point.knobs,
    )  # fmt: skip
    if not answer.fits:
        raise UnsupportedError("does not fit by our account of memory")
    return answer


def labels_of(point: ServingPoint, metric: str) -> dict[str, str]:
    """What a serving comparison can be grouped by."""
    users = point.concurrency or 0
    load = next((name for most, name in LOADS if users <= most), "513-")
    return {
        "metric": metric, "model": point.model.rpartition("/")[2], "device": point.device, "engine": point.engine,
        "parallelism": str(point.parallelism), "load": load, "format": point.precision or "checkpoint",
        "protocol": "stated" if point.prefix_hit is not None else "inferred", "name": point.name,
    }  # fmt: skip


def compare_serving(
    points: Iterable[ServingPoint], *, naive: bool = True, progress: Callable[[], None] = lambda: None
) -> list[Comparison]:
    """TTFT and TPOT of every point, measured and predicted; ``naive`` adds the roofline's answer."""
    found = []
    for point in points:
        progress()
        refusal, answer, bound = "", None, None
        try:
            answer = predict_point(point)
            bound = predict_point(point, "bound") if naive else None
        except InferSimError as error:
            refusal = str(error)
        for metric in METRICS:
            if metric not in point.metrics:
                continue
            labels = labels_of(point, metric)
            if answer is None:
                found.append(Comparison(labels, point.metrics[metric], None, refusal=refusal))
                continue
            labels["kind"] = "MoE" if answer.model.is_moe else "dense"
            intervals = {percent: answer.interval(metric, percent) for percent in (50, 90)}
            found.append(
                Comparison(
                    labels, point.metrics[metric], float(getattr(answer, metric)),
                    float(getattr(bound, metric)) if bound else None,
                    intervals={percent: (one.low, one.high) for percent, one in intervals.items() if one},
                )
            )  # fmt: skip
    return found
