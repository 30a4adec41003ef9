"""Files a simulation leaves: per-request records and time series as CSV or Parquet, a summary as ``vllm bench serve`` has it."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from infersim.errors import UnsupportedError
from infersim.files import replace_file
from infersim.serving.columns import COLUMNS, Columns
from infersim.serving.steady import most_at_once

if TYPE_CHECKING:
    from infersim.serving.result import ServingResult

SERIES = ("replica", "time_s", "decoding", "prefilling", "waiting", "kv_blocks")

Pieces = Iterable[dict[str, Any]]
"""Parts of one table, with equal columns."""


def write_table(
    path: str | Path, kind: Literal["csv", "parquet"], names: tuple[str, ...], pieces: Pieces, note: dict[str, str] | None = None,
) -> None:  # fmt: skip
    """One CSV or Parquet file; ``note`` goes into the Parquet metadata. UnsupportedError where pyarrow is not installed."""

    def write(temporary: Path) -> None:
        if kind == "csv":
            _csv(temporary, names, pieces)
        else:
            _parquet(temporary, names, pieces, note or {})

    replace_file(path, write)


def _csv(path: Path, names: tuple[str, ...], pieces: Pieces) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for piece in pieces:
            for row in zip(*(piece[name].tolist() for name in names), strict=True):
                writer.writerow(["" if value != value else value for value in row])


def _parquet(path: Path, names: tuple[str, ...], pieces: Pieces, note: dict[str, str]) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UnsupportedError("Parquet needs pyarrow: pip install 'infersim[data]', or write CSV") from error
    writer = None
    try:
        for piece in pieces:
            table = pyarrow.table({name: piece[name] for name in names}).replace_schema_metadata(note)
            writer = writer or pyarrow.parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def record_pieces(columns: Columns) -> Iterator[dict[str, Any]]:
    """Per-request records, a few at a time; one empty piece where there are none."""
    for piece in columns.pieces() if columns.rows else (columns,):
        yield {name: piece[name] for name in COLUMNS}


def series_pieces(result: ServingResult) -> Iterator[dict[str, Any]]:
    """The state of every replica over time, in sequences, requests and KV blocks."""
    for number, series in enumerate(result.series):
        points = list(zip(*series.points, strict=True)) or [()] * 5
        values = [np.full(len(points[0]), number, dtype=np.int64), np.array(points[0], dtype=np.float64)]
        values += [np.array(column, dtype=np.int64) for column in points[1:]]
        yield dict(zip(SERIES, values, strict=True))


def request_rate(result: ServingResult) -> float | str:
    """Requests per second as sent: the process's rate, "inf" where they are all sent at once or by users who wait, and the
    mean over the arrivals of a profile or a trace."""
    arrivals: Any = result.traffic.arrivals
    if hasattr(arrivals, "rate"):
        return float(arrivals.rate)
    times = result.columns["arrival_s"]
    if getattr(arrivals, "kind", None) in ("closed", "burst") or not len(times) or times[-1] <= times[0]:
        return "inf"
    return float((len(times) - 1) / (times[-1] - times[0]))


def benchmark_dict(result: ServingResult, *, date: str | None = None, detailed: bool = False) -> dict[str, Any]:
    """The summary under the field names of ``vllm bench serve`` (vllm/benchmarks/serve.py), latencies in ms.

    None where there is no such figure. ``detailed`` adds lists of ``--save-detailed``, in seconds: lengths, start times, TTFT
    and latency of every counted request; not ``itls``, for single gaps are not kept.
    """
    from datetime import UTC, datetime

    arrivals, kept = result.traffic.arrivals, result.counted
    columns = result.columns
    found: dict[str, Any] = {
        "date": date or datetime.now(UTC).strftime("%Y%m%d-%H%M%S"),
        "endpoint_type": "infersim", "backend": result.deployment.machine.engine.name, "label": "infersim simulate",
        "model_id": result.deployment.model.name, "tokenizer_id": result.deployment.model.name,
        "num_prompts": result.traffic.num_requests, "request_rate": request_rate(result),
        "burstiness": getattr(arrivals, "burstiness", 1.0), "max_concurrency": getattr(arrivals, "concurrency", None),
        "duration": result.duration, "completed": result.completed, "failed": result.failed,
        "total_input_tokens": result.tokens("prompt_tokens"), "total_output_tokens": result.tokens("output_tokens"),
        "request_throughput": result.requests_per_second, "request_goodput": result.goodput,
        "output_throughput": result.output_tokens_per_second, "total_token_throughput": result.total_tokens_per_second,
        "max_concurrent_requests": most_at_once(columns["arrival_s"][kept], columns["finish_s"][kept]),
    }  # fmt: skip
    if result.interrupted:
        found["interrupted"] = True
    for name, metric in (("ttft", "ttft"), ("tpot", "tpot"), ("itl", "itl"), ("e2el", "e2e")):
        figures = {
            "mean": result.mean(metric),
            "median": result.percentile(metric, 50),
            "std": result.deviation(metric),
        }
        figures |= {f"p{percent}": result.percentile(metric, percent) for percent in (90, 95, 99)}
        for figure, value in figures.items():
            found[f"{figure}_{name}_ms"] = None if result.unstable or not math.isfinite(value) else value * 1e3
    if detailed:
        lists = {"input_lens": "prompt_tokens", "output_lens": "output_tokens", "ttfts": "ttft_s", "latencies": "e2e_s",
                 "start_times": "arrival_s"}  # fmt: skip
        found |= {name: columns[column][kept].tolist() for name, column in lists.items()}
    return found


def write_json(path: str | Path, value: dict[str, Any]) -> None:
    """One JSON object as a file; NaN is refused."""
    text = json.dumps(value, indent=2, allow_nan=False)
    replace_file(path, lambda temporary: temporary.write_text(text + "\n", encoding="utf-8"))
