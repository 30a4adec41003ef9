"""Read what load generators measured: ``vllm bench serve``, SGLang's ``bench_serving``, guidellm, aiperf and genai-perf.

Their files say what users saw and under which load, not what ran: GPU, degrees of parallelism and formats are arguments. The
files are told apart by their keys. Metrics get infersim's names; mind that guidellm's ``time_per_output_token_ms`` includes the
first token and is therefore not TPOT, while aiperf's ``inter_token_latency`` is. Keys as of vllm 0.33, sglang 0.5.23,
guidellm 0.8 and aiperf 0.13; older files lack some, which then stay unknown.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from infersim.calibrate.measurements import Reading, ServingPoint
from infersim.errors import SpecError
from infersim.specs.deployment import EngineKnobs, Parallelism

MILLISECONDS = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2el": "e2e", "e2e_latency": "e2e"}
STATISTICS = {"mean": "", "median": "_p50", "p50": "_p50", "p90": "_p90", "p95": "_p95", "p99": "_p99"}
AIPERF = {
    "time_to_first_token": "ttft",
    "inter_token_latency": "tpot",
    "inter_chunk_latency": "itl",
    "request_latency": "e2e",
}
GUIDELLM = {
    "time_to_first_token_ms": ("ttft", 1e-3),
    "inter_token_latency_ms": ("tpot", 1e-3),
    "request_latency": ("e2e", 1.0),
}


def read_load_test(
    path: Path,
    *,
    device: str,
    engine: str,
    model: str | None = None,
    parallelism: Parallelism | None = None,
    precision: str | None = None,
    kv_cache: str | None = None,
    concurrency: float | None = None,
    knobs: EngineKnobs | None = None,
) -> Reading:
    """The serving points of a load generator's result file; runs without a finished request are counted and left out.

    ``model`` and ``concurrency`` are needed where the file does not name them. Raises SpecError naming the file, and the line or
    benchmark, of what cannot be read.
    """
    found: list[ServingPoint] = []
    left: dict[str, int] = {}
    for number, record in enumerate(_records(path)):
        name = f"{path.stem}-{number}"
        parts = list(_runs(record, path))
        for place, run in enumerate(parts):
            run = {**run, "concurrency": concurrency if concurrency is not None else run.get("concurrency")}
            if not run.get("completed"):
                left["no finished request"] = left.get("no finished request", 0) + 1
                continue
            served = model or run.get("model")
            if not served:
                raise SpecError("does not name the model; give it with model=", file=path)
            rate = run.get("request_rate")
            users = run["concurrency"]
            if rate is None and users is None:
                raise SpecError("states neither a concurrency nor a request rate; give concurrency=", file=path)
            for field in ("input_tokens", "output_tokens"):
                if not run.get(field):
                    raise SpecError("is not in the file, so the load is not known", field=field, file=path)
            found.append(
                ServingPoint(
                    name=name if len(parts) == 1 else f"{name}-{place}", source=f"{run['tool']} {path.name}", model=served, device=device,
                    engine=engine, version=None, parallelism=parallelism or Parallelism(), precision=precision, kv_cache=kv_cache,
                    input_tokens=run["input_tokens"], output_tokens=run["output_tokens"],
                    concurrency=None if rate is not None else users, request_rate=rate, num_requests=run["completed"],
                    range_ratio=run.get("range_ratio"), prefix_hit=run.get("prefix_hit"), knobs=knobs or EngineKnobs(),
                    speculative=run.get("speculative", "none"), metrics=run["metrics"], measured_on=run.get("date"),
                )
            )  # fmt: skip
    if not found and not left:
        raise SpecError("holds no run", file=path)
    return Reading(points=tuple(found), left_out=left)


def _records(path: Path) -> Iterator[Mapping[str, Any]]:
    """The JSON objects of a file: one, a list of them, or one per line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot be read: {error}", file=path) from error
    try:
        whole = json.loads(text)
        records = whole if isinstance(whole, list) else [whole]
    except json.JSONDecodeError:
        records = []
        for line, row in enumerate(text.splitlines(), 1):
            if not row.strip():
                continue
            try:
                records.append(json.loads(row))
            except json.JSONDecodeError as error:
                raise SpecError(f"line {line} is not JSON: {error.msg}", file=path) from error
    for record in records:
        if not isinstance(record, dict):
            raise SpecError(f"holds {type(record).__name__} where a result is an object", file=path)
        yield record


def _runs(record: Mapping[str, Any], path: Path) -> Iterator[dict[str, Any]]:
    """What one result says, by the tool that wrote it."""
    if "benchmarks" in record:
        for one in record["benchmarks"]:
            yield _guidellm(one, record)
    elif "mean_ttft_ms" in record:
        yield _bench_serving(record)
    elif "time_to_first_token" in record or "request_latency" in record:
        yield _aiperf(record)
    else:
        raise SpecError(
            "is no result of vllm bench serve, SGLang bench_serving, guidellm, aiperf or genai-perf: none of mean_ttft_ms, "
            "benchmarks, time_to_first_token is in it", file=path,
        )  # fmt: skip


def _bench_serving(record: Mapping[str, Any]) -> dict[str, Any]:
    """``vllm bench serve`` and SGLang's ``bench_serving``: milliseconds in ``mean_ttft_ms`` and the like."""
    done = int(record.get("completed") or 0)
    metrics = {}
    for key, value in record.items():
        statistic, _, rest = key.partition("_")
        name = MILLISECONDS.get(rest.removesuffix("_ms"))
        if name and key.endswith("_ms") and statistic in STATISTICS and value:
            metrics[name + STATISTICS[statistic]] = float(value) * 1e-3
    for key, name in (("request_throughput", "request_throughput"), ("output_throughput", "output_throughput"),
                      ("total_token_throughput", "total_throughput"), ("total_throughput", "total_throughput")):  # fmt: skip
        if record.get(key):
            metrics[name] = float(record[key])
    rate = record.get("request_rate")
    limited = rate not in (None, "inf", "trace") and math.isfinite(float(rate)) and not record.get("max_concurrency")
    date = str(record.get("date") or "")[:8]
    lengths = {name: record.get(f"total_{name}", 0) / max(done, 1) for name in ("input_tokens", "output_tokens")}
    drafted = record.get("spec_decode_acceptance_length") or record.get("accept_length")
    return {
        "tool": "vllm bench serve" if "model_id" in record else "sglang bench_serving", "model": record.get("model_id"), "completed": done,
        **lengths,
        "request_rate": float(rate) if limited else None,  # type: ignore[arg-type]
        "concurrency": float(record["max_concurrency"]) if record.get("max_concurrency") else float(done),  # all at once
        "metrics": metrics, "date": f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 and date.isdigit() else None,
        "speculative": "draft" if drafted else "none",
    }  # fmt: skip


def _aiperf(record: Mapping[str, Any]) -> dict[str, Any]:
    """aiperf and genai-perf: one object per metric, with its unit."""

    def average(name: str) -> float | None:
        found = record.get(name)
        return float(found["avg"]) if isinstance(found, dict) and found.get("avg") is not None else None

    metrics = {}
    for key, name in AIPERF.items():
        found = record.get(key)
        if not isinstance(found, dict):
            continue
        scale = {"ms": 1e-3, "sec": 1.0, "s": 1.0, "us": 1e-6, "ns": 1e-9}.get(found.get("unit", "ms"), 1e-3)
        for statistic, suffix in {"avg": "", "p50": "_p50", "p90": "_p90", "p95": "_p95", "p99": "_p99"}.items():
            if found.get(statistic):
                metrics[name + suffix] = float(found[statistic]) * scale
    for key, name in (("request_throughput", "request_throughput"), ("output_token_throughput", "output_throughput")):
        value = average(key)
        if value:
            metrics[name] = value
    count = average("request_count") or (record.get("request_latency") or {}).get("count") or 0
    stated = record.get("input_config") or {}
    users, rate, model = (_stated(stated, name) for name in ("concurrency", "request_rate", "model_names"))
    return {
        "tool": "aiperf" if "aiperf_version" in record else "genai-perf", "completed": int(count),
        "model": model[0] if isinstance(model, list) and model else model, "input_tokens": average("input_sequence_length"),
        "output_tokens": average("output_sequence_length"), "metrics": metrics,
        "concurrency": float(users) if users else None, "request_rate": float(rate) if rate and not users else None,
    }  # fmt: skip


def _stated(config: Any, name: str) -> Any:
    """The first value that a nested configuration gives a key."""
    if isinstance(config, dict):
        if config.get(name) is not None:
            return config[name]
        return next((value for part in config.values() if (value := _stated(part, name)) is not None), None)
    return None


def _guidellm(one: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Any]:
    """One benchmark of a guidellm report; concurrency is the measured mean."""
    metrics_of = one.get("metrics") or {}

    def of(name: str) -> Mapping[str, Any]:
        found = metrics_of.get(name) or {}
        return found.get("successful") or {} if isinstance(found, dict) else {}

    metrics = {}
    for key, (name, scale) in GUIDELLM.items():
        summary = of(key)
        if summary.get("mean"):
            metrics[name] = float(summary["mean"]) * scale
        for percentile, suffix in (("p50", "_p50"), ("p90", "_p90"), ("p95", "_p95"), ("p99", "_p99")):
            if (summary.get("percentiles") or {}).get(percentile):
                metrics[name + suffix] = float(summary["percentiles"][percentile]) * scale
    for key, name in (("requests_per_second", "request_throughput"), ("output_tokens_per_second", "output_throughput")):
        if of(key).get("mean"):
            metrics[name] = float(of(key)["mean"])
    totals = metrics_of.get("request_totals") or {}
    model = _stated(one, "model") or _stated(dict(report.get("config") or report.get("args") or {}), "model")
    return {
        "tool": "guidellm", "completed": int(totals.get("successful") or 0), "model": model if isinstance(model, str) else None,
        "input_tokens": of("prompt_token_count").get("mean"), "output_tokens": of("output_token_count").get("mean"),
        "concurrency": of("request_concurrency").get("mean"), "metrics": metrics,
    }  # fmt: skip
