"""Files a simulation leaves, read back by our own readers; what a big run costs in memory."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infersim.calibrate.load_tests import read_load_test
from infersim.errors import InferSimError, SpecError
from infersim.report.serving import plot_load, plot_run
from infersim.serving.arrivals import Burst, ClosedLoop, Profile, poisson
from infersim.serving.columns import COLUMNS, Columns
from infersim.serving.export import SERIES
from infersim.serving.lengths import LogNormal
from infersim.serving.records import Records
from infersim.serving.result import ServingResult
from infersim.serving.simulate import simulate
from infersim.serving.steady import most_at_once
from infersim.serving.traces import read_trace
from infersim.serving.traffic import Traffic

MODEL, GPU = "meta-llama/Llama-3.1-8B", "H100-SXM"
DATE = "20260105-101500"

SUMMARY = {
    "date", "endpoint_type", "backend", "label", "model_id", "tokenizer_id", "num_prompts", "request_rate", "burstiness",
    "max_concurrency", "duration", "completed", "failed", "total_input_tokens", "total_output_tokens", "request_throughput",
    "request_goodput", "output_throughput", "total_token_throughput", "max_concurrent_requests",
}  # fmt: skip
"""Keys that vllm/benchmarks/serve.py writes beside those of the latencies."""


def run(arrivals: Any, count: int = 300, **options: Any) -> ServingResult:
    traffic = Traffic(input_tokens=LogNormal(mean=300, cv=1), output_tokens=LogNormal(mean=40, cv=1), arrivals=arrivals,
                      num_requests=count)  # fmt: skip
    return simulate(MODEL, GPU, traffic, **options)


@pytest.fixture(scope="module")
def result() -> ServingResult:
    return run(poisson(20), replicas=2, target="ttft_p95=800ms")


def test_csv_and_parquet_hold_the_records(tmp_path: Path, result: ServingResult) -> None:
    import pyarrow.parquet

    result.write_csv(tmp_path / "r.csv")
    result.write_parquet(tmp_path / "r.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "r.parquet")
    assert tuple(table.column_names) == COLUMNS
    with (tmp_path / "r.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name in COLUMNS:
        wanted = result.columns[name]
        assert np.array_equal(table[name].to_numpy(), wanted, equal_nan=True)
        assert [float(row[name] or "nan") for row in rows] == pytest.approx(wanted.tolist(), abs=0, rel=0, nan_ok=True)
    assert table.schema.metadata == {b"interrupted": b"false"}


def test_series_hold_every_replica(tmp_path: Path, result: ServingResult) -> None:
    import pyarrow.parquet

    result.write_series(tmp_path / "s.csv")
    result.write_series(tmp_path / "s.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "s.parquet").to_pydict()
    assert tuple(table) == SERIES
    assert set(table["replica"]) == {0, 1}
    with (tmp_path / "s.csv").open() as file:
        rows = [tuple(map(float, row.values())) for row in csv.DictReader(file)]
    assert rows == list(zip(*table.values(), strict=True))
    assert max(table["kv_blocks"]) <= result.policy.num_blocks
    assert all(
        b >= a
        for a, b, c in zip(table["time_s"], table["time_s"][1:], np.diff(table["replica"]), strict=False)
        if not c
    )


def test_many_rows_come_in_pieces() -> None:
    records = Records()
    count = 3 * 65536 + 17
    records.extend(np.arange(count) + 1.0, np.full(count, 5), np.full(count, 1))
    records.finish[7] = 9.0
    pieces = list(Columns(records).pieces())
    assert [piece.rows for piece in pieces] == [65536] * 3 + [17]
    assert np.array_equal(np.concatenate([piece["arrival_s"] for piece in pieces]), np.arange(count) + 1.0)
    assert int(np.count_nonzero(~np.isnan(np.concatenate([piece["e2e_s"] for piece in pieces])))) == 1


@pytest.mark.parametrize(
    ("arrivals", "rate", "users"),
    [(poisson(20), 20.0, None), (ClosedLoop(concurrency=16), "inf", 16), (Burst(), "inf", None),
     (Profile(at=(0.0, 10.0), rates=(5.0, 25.0)), 18.75, None)],
)  # fmt: skip
def test_a_benchmark_file_is_a_serving_point_and_a_trace(
    tmp_path: Path, arrivals: Any, rate: float | str, users: int | None
) -> None:
    result = run(arrivals)
    path = tmp_path / "bench.json"
    result.write_benchmark(path, date=DATE, detailed=True)
    written = json.loads(path.read_text(), parse_constant=pytest.fail)
    latencies = {f"{figure}_{name}_ms" for figure in ("mean", "median", "std", "p90", "p95", "p99")
                 for name in ("ttft", "tpot", "itl", "e2el")}  # fmt: skip
    lists = {"input_lens", "output_lens", "ttfts", "latencies", "start_times"}
    assert set(written) == SUMMARY | latencies | lists
    assert written["request_rate"] == (rate if rate == "inf" else pytest.approx(rate, rel=0.12))
    reading = read_load_test(path, device=GPU, engine="vllm")
    (point,) = reading.points
    assert point.model == MODEL
    assert point.measured_on == "2026-01-05"
    assert point.request_rate == (None if rate == "inf" else pytest.approx(rate, rel=0.12))
    assert point.concurrency == (float(users or 300) if rate == "inf" else None)
    assert point.num_requests == 300
    assert point.input_tokens == pytest.approx(result.columns["prompt_tokens"].mean())
    for metric in ("ttft", "tpot", "e2e"):
        assert point.metrics[metric] == pytest.approx(result.mean(metric))
        assert point.metrics[f"{metric}_p99"] == pytest.approx(result.percentile(metric, 99))
    trace = read_trace(path)
    assert trace.num_requests == 300
    assert trace.finish is not None and trace.arrival is not None  # noqa: PT018
    assert np.sort(trace.finish - trace.arrival) == pytest.approx(np.sort(result.values("e2e")))


def test_short_benchmark_files_have_no_lists(tmp_path: Path, result: ServingResult) -> None:
    result.write_benchmark(tmp_path / "b.json", date=DATE)
    assert not any(isinstance(value, list) for value in json.loads((tmp_path / "b.json").read_text()).values())
    with pytest.raises(SpecError, match="--save-detailed"):
        read_trace(tmp_path / "b.json")


def test_nothing_half_written(tmp_path: Path, result: ServingResult, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "r.csv"
    target.write_text("old")

    def full(self: Columns) -> Any:
        yield self
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Columns, "pieces", full)
    with pytest.raises(InferSimError, match="cannot be written: No space left on device"):
        result.write_csv(target)
    assert [path.name for path in tmp_path.iterdir()] == ["r.csv"]
    assert target.read_text() == "old"
    with pytest.raises(SpecError, match="no such folder"):
        result.write_csv(tmp_path / "nowhere" / "r.csv")


def test_percentiles_are_those_of_numpy(result: ServingResult) -> None:
    for metric in ("ttft", "tpot", "e2e"):
        values = result.columns[f"{metric}_s"]
        for percent in (50, 99, 12.5, 99.9):
            assert result.percentile(metric, percent) == np.nanpercentile(values, percent)
    with pytest.raises(SpecError, match="per request there are"):
        result.values("itl")


def test_most_at_once_counts_overlaps() -> None:
    generator = np.random.default_rng(0)
    start = generator.random(300).round(2)
    end = start + generator.random(300).round(2)
    counted = max(sum(a <= moment < b for a, b in zip(start, end, strict=True)) for moment in start)
    assert most_at_once(start, end) == counted
    assert most_at_once([], []) == 0
    assert most_at_once([1.0], [1.0]) == 0


@pytest.mark.parametrize(("ending", "mark"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_pictures_of_runs_and_loads(tmp_path: Path, result: ServingResult, ending: str, mark: bytes) -> None:
    plot_run(result, tmp_path / f"run{ending}")
    plot_load([(20.0, result), (400.0, run(poisson(400), 2000))], tmp_path / f"load{ending}")
    for name in ("run", "load"):
        assert (tmp_path / f"{name}{ending}").read_bytes().startswith(mark)


def test_pictures_refuse_what_they_cannot_show(tmp_path: Path, result: ServingResult) -> None:
    with pytest.raises(SpecError, match=r"ends in .png, .svg, .pdf, got"):
        plot_run(result, tmp_path / "a.gif")
    with pytest.raises(SpecError, match="finite rate"):
        plot_load([(float("inf"), result)], tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


MEMORY = """
from pathlib import Path
from infersim.serving.arrivals import poisson
from infersim.serving.simulate import simulate
from infersim.serving.traffic import Traffic

def peak(count):
    traffic = Traffic(input_tokens=16, output_tokens=2, arrivals=poisson(100), num_requests=count)
    result = simulate("meta-llama/Llama-3.1-8B", "H100-SXM", traffic, target="ttft_p95=1s")
    str(result), result.settled().to_dict(), result.benchmark_dict()
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

small = peak(60_000)
print((peak(260_000) - small) / 200_000)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
def test_memory_grows_by_less_than_two_hundred_bytes_a_request() -> None:
    """A run, its figures, the settled part and the summary: ten million requests stay below 2 GB."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, env=environment, check=True)
    assert 45 < float(found.stdout) < 190
