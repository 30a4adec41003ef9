"""Serving points as CSV: one row a point, units in the names of the columns, gzip where the name ends in ``.gz``.

Columns: ``name, source, model, device, engine, version``; degrees of parallelism ``tensor, pipeline, attention_data, expert,
context, replicas``; ``precision, kv_cache``; load ``input_tokens, output_tokens, concurrency, request_rate_per_s, num_requests,
range_ratio, prefix_hit``; ``speculative, stream_interval, measured_on``; engine knobs by vLLM's names; and measured figures such
as ``ttft_s``, ``tpot_p99_s`` or ``output_throughput_per_s``. An empty cell means not told. ``name, model, device, engine,
input_tokens, output_tokens``, a load and one figure are needed.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from infersim.calibrate.measurements import ServingPoint
from infersim.errors import SpecError, did_you_mean
from infersim.files import replace_file
from infersim.specs.deployment import EngineKnobs, Parallelism
from infersim.specs.library import validate

TEXT = ("name", "source", "model", "device", "engine", "version", "precision", "kv_cache", "speculative", "measured_on")
NUMBERS = ("input_tokens", "output_tokens", "concurrency", "request_rate_per_s", "num_requests", "range_ratio", "prefix_hit",
           "stream_interval")  # fmt: skip
NEEDED = ("name", "model", "device", "engine", "input_tokens", "output_tokens")
WHOLE = ("num_requests", "stream_interval")
DEGREES, KNOBS = tuple(Parallelism.model_fields), tuple(EngineKnobs.model_fields)
TIMES = ("ttft", "tpot", "itl", "e2e")
RATES = ("request_throughput", "output_throughput", "total_throughput")
STATISTICS = ("", "_p50", "_p90", "_p95", "_p99")
FIGURES = {f"{name}{statistic}_s": f"{name}{statistic}" for name in TIMES for statistic in STATISTICS} | {
    f"{name}_per_s": name for name in RATES
}
"""Columns of measured figures, and what ``ServingPoint.metrics`` calls them."""
COLUMNS = (*TEXT, *DEGREES, *NUMBERS, *KNOBS, *FIGURES)


def write_serving_points(path: Path, points: Iterable[ServingPoint]) -> None:
    """Write points of aggregated deployments; columns that no point fills are left away. The file appears whole or not at all."""
    rows = [_row(point) for point in points]
    used = [name for name in COLUMNS if name in NEEDED or any(row.get(name) not in ("", None) for row in rows)]
    text = io.StringIO()
    writer = csv.DictWriter(text, used, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    data = text.getvalue().encode()
    replace_file(path, lambda part: part.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data))


def read_serving_points(path: Path) -> list[ServingPoint]:
    """The points of a file. Raises SpecError naming file, line and column of what cannot be read."""
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise SpecError(f"cannot be read: {error}", file=path) from error
    reader = csv.DictReader(io.StringIO(text))
    columns = reader.fieldnames or []
    for column in columns:
        if column not in COLUMNS:
            raise SpecError(f"unknown column {column!r}; {did_you_mean(str(column), COLUMNS)}", file=path)
    for column in NEEDED:
        if column not in columns:
            raise SpecError(f"lacks the column {column}", file=path)
    return [_point(row, path, line) for line, row in enumerate(reader, 2)]


def _row(point: ServingPoint) -> dict[str, Any]:
    if point.disaggregated:
        raise SpecError(f"{point.name} is disaggregated, which this format does not hold")
    row: dict[str, Any] = {name: getattr(point, name) for name in (*TEXT, *NUMBERS) if name != "request_rate_per_s"}
    row |= point.parallelism.model_dump() | point.knobs.model_dump(exclude_defaults=True)
    row |= {"request_rate_per_s": point.request_rate}
    row |= {column: point.metrics.get(name) for column, name in FIGURES.items()}
    return {
        name: f"{value:.12g}" if isinstance(value, float) else value for name, value in row.items() if value is not None
    }


def _point(row: Mapping[str, str | None], path: Path, line: int) -> ServingPoint:
    where = f"line {line}"
    cells = {name: (value or "").strip() for name, value in row.items() if name is not None}
    if None in row or any(value is None for value in row.values()):
        raise SpecError(f"{where} has not as many cells as there are columns", file=path)
    for name in NEEDED:
        if not cells[name]:
            raise SpecError("is empty", field=f"{where}, {name}", file=path)

    def number(name: str) -> float | None:
        text = cells.get(name, "")
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value < 1e15:
            raise SpecError(f"must be a number of zero or more, got {text!r}", field=f"{where}, {name}", file=path)
        return value

    numbers = {name: number(name) for name in NUMBERS}
    rate = numbers.pop("request_rate_per_s")
    if (numbers["concurrency"] is None) == (rate is None):
        raise SpecError("needs either a concurrency or a request_rate_per_s", field=where, file=path)
    metrics = {name: value for column, name in FIGURES.items() if (value := number(column)) is not None}
    if not metrics:
        raise SpecError(
            f"has no measured figure; columns for them: {', '.join(list(FIGURES)[:6])} ...", field=where, file=path
        )
    try:
        parallelism = validate(Parallelism, {name: cells[name] for name in DEGREES if cells.get(name)})
        knobs = validate(EngineKnobs, {name: cells[name] for name in KNOBS if cells.get(name)})
    except SpecError as error:
        raise SpecError(str(error), field=where, file=path) from error
    known: dict[str, Any] = {name: cells.get(name) or None for name in TEXT}
    known["source"] = known["source"] or str(path)
    whole = {name: None if numbers[name] is None else int(numbers[name] or 0) for name in WHOLE}
    fields: dict[str, Any] = known | numbers | whole
    return ServingPoint(**fields, request_rate=rate, parallelism=parallelism, knobs=knobs, metrics=metrics)
