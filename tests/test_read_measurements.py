"""Files of other tools: load generators, nccl-tests, and plain CSV of kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infersim.calibrate.kernel_csv import read_kernels, write_kernels
from infersim.calibrate.load_tests import read_load_test
from infersim.calibrate.measurements import KernelTable
from infersim.calibrate.nccl_tests import read_nccl_tests
from infersim.calibrate.serving_csv import read_serving_points, write_serving_points
from infersim.errors import SpecError
from infersim.specs.deployment import Parallelism
from infersim.validate.serving import compare_serving

DATA = Path(__file__).parent / "data" / "load_tests"


def test_vllm_bench_serve() -> None:
    (point,) = read_load_test(DATA / "vllm_bench_serve.json", device="H100-SXM", engine="vllm", precision="fp8").points
    assert (point.model, point.concurrency, point.request_rate, point.num_requests) == (
        "meta-llama/Llama-3.1-8B-Instruct",
        32,
        None,
        320,
    )
    assert (point.input_tokens, point.output_tokens, point.measured_on) == (921.6, 230.4, "2026-11-23")
    assert point.metrics["ttft"] == pytest.approx(0.1412)
    assert point.metrics["ttft_p50"] == pytest.approx(0.0989)
    assert point.metrics["e2e"] == pytest.approx(1.998)
    assert "ttft_std" not in point.metrics
    (ttft, tpot) = (one for one in compare_serving([point], naive=False))
    assert tpot.predicted is not None
    assert ttft.measured == pytest.approx(0.0081) or tpot.measured == pytest.approx(0.0081)


def test_sglang_counts_runs_that_finished_nothing() -> None:
    reading = read_load_test(
        DATA / "sglang_bench_serving.jsonl", device="H100-SXM", engine="sglang", model="Qwen/Qwen3-32B"
    )
    (point,) = reading.points
    assert (point.request_rate, point.concurrency) == (4.0, None)
    assert point.metrics["total_throughput"] == 4430.8
    assert reading.left_out == {"no finished request": 1}


def test_aiperf_inter_token_latency_is_tpot() -> None:
    (point,) = read_load_test(
        DATA / "aiperf.json", device="H200-SXM", engine="vllm", parallelism=Parallelism(tensor=2)
    ).points
    assert (point.model, point.concurrency, point.num_requests) == ("Qwen/Qwen3-32B", 16.0, 200)
    assert point.metrics["tpot"] == pytest.approx(0.0081)
    assert point.metrics["e2e_p90"] == pytest.approx(1.19)


def test_guidellm_time_per_output_token_is_not_tpot() -> None:
    reading = read_load_test(DATA / "guidellm.json", device="L40S", engine="vllm")
    (point,) = reading.points
    assert point.metrics["tpot"] == pytest.approx(0.0081)  # 8.44 ms counts the first token too
    assert point.concurrency == 7.9
    assert reading.left_out == {"no finished request": 1}


def test_points_of_a_load_test_become_a_file_of_points(tmp_path: Path) -> None:
    reading = read_load_test(DATA / "vllm_bench_serve.json", device="H100-SXM", engine="vllm")
    write_serving_points(tmp_path / "mine.csv", reading.points)
    (again,) = read_serving_points(tmp_path / "mine.csv")
    assert again.metrics == pytest.approx(dict(reading.points[0].metrics))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", ["is no result", "mean_ttft_ms"]),
        ("[1]", ["int", "object"]),
        ('{"mean_ttft_ms": 1}\nnonsense', ["line 2", "not JSON"]),
        (
            '{"mean_ttft_ms": 1, "completed": 2, "total_input_tokens": 4, "total_output_tokens": 4}',
            ["does not name the model"],
        ),
        ('{"mean_ttft_ms": 1, "completed": 2, "model_id": "m"}', ["input_tokens", "not in the file"]),
        ('{"request_latency": {"avg": 1, "count": 2}, "input_sequence_length": {"avg": 3}}', ["model"]),
    ],
)
def test_unusable_load_tests_say_why(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        read_load_test(path, device="H100-SXM", engine="vllm")
    for word in ["result.json", *words]:
        assert word in str(caught.value)


def test_nccl_tests_text() -> None:
    reading = read_nccl_tests(DATA / "all_reduce_perf.txt", device="H100-SXM", operation="all_reduce")
    (table,) = reading.tables
    assert (table.kind, table.kernel, len(table)) == ("collective", "all_reduce", 3)
    np.testing.assert_allclose(table.seconds, [11.02e-6, 24.31e-6, 652.4e-6])
    assert set(table.shape["devices"]) == {4.0}
    assert reading.left_out == {"no out-of-place time": 1}
    # bus bandwidth of a ring all-reduce: 2 (n - 1) / n P / t; the text says 308.59 GB/s
    assert 1.5 * table.shape["payload"][2] / table.seconds[2] / 1e9 == pytest.approx(308.59, rel=1e-3)


@pytest.mark.parametrize(
    ("text", "operation", "words"),
    [
        ("", None, ["operation="]),
        ("# all_reduce_perf\n", None, ["ranks"]),
        ("# all_reduce_perf nranks 4\n8 2 float\n", None, ["line 2", "3 columns"]),
        ("# all_reduce_perf nranks 4\n8 2 float sum -1 fast 0 0 0\n", None, ["line 2", "'fast'"]),
        ("# nranks 4\n", "all_reduc", ["all_reduc", "all_reduce"]),
    ],
)
def test_unusable_nccl_tests_say_why(tmp_path: Path, text: str, operation: str | None, words: list[str]) -> None:
    path = tmp_path / "nccl.txt"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        read_nccl_tests(path, device="H100-SXM", operation=operation)
    for word in words:
        assert word in str(caught.value)


sizes = st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 10**6), st.floats(1e-7, 10)), min_size=1, max_size=8)


@given(sizes, st.sampled_from(["bf16", "fp8"]))
def test_kernels_survive_the_file(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, float]], weights: str
) -> None:
    path = tmp_path_factory.mktemp("kernels") / "kernels.csv"
    m, n, seconds = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    formats = {"weights": weights, "activations": "bf16"}
    made = [
        KernelTable("gemm", "H100-SXM", "torch", "2.9", formats, "", {"m": m, "n": n, "k": n}, seconds, "ours"),
        KernelTable("stream", "H100-SXM", "torch", "2.9", {}, "copy", {"bytes": m}, seconds, "ours"),
    ]  # fmt: skip
    write_kernels(path, made)
    for mine, again in zip(made, read_kernels(path), strict=True):
        assert (mine.kind, mine.formats, mine.kernel, mine.source) == (
            again.kind,
            again.formats,
            again.kernel,
            again.source,
        )
        assert list(mine.shape) == list(again.shape)
        np.testing.assert_allclose(again.seconds, mine.seconds, rtol=1e-8)
        for axis, column in mine.shape.items():
            np.testing.assert_array_equal(again.shape[axis], column)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind,device,engine,second\n", ["lacks the column seconds", "second"]),
        ("kind,device,engine,seconds\n", ["no timings"]),
        ("kind,device,engine,seconds,m\ngem,H,t,1,2\n", ["line 2", "'gem'", "gemm"]),
        ("kind,device,engine,seconds,m\ngemm,H,t,0,2\n", ["line 2", "more than zero"]),
        ("kind,device,engine,seconds,m\ngemm,H,t,1,two\n", ["line 2", "'two'"]),
        ("kind,device,engine,seconds,m\ngemm,H,t\n", ["line 2", "cells"]),
    ],
)
def test_unusable_kernel_files_say_why(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "kernels.csv"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        read_kernels(path)
    for word in ["kernels.csv", *words]:
        assert word in str(caught.value)
