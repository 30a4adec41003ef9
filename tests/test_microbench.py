"""The microbenchmark suite, its result file, and the calibration made of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infersim.calibrate.own_suite import calibrate_own, tables_of, write_own
from infersim.cli.app import main
from infersim.errors import SpecError, UnsupportedError
from infersim.machine.calibration import Calibration, read_calibration
from infersim.microbench.backends import NumpyBackend
from infersim.microbench.cases import Attention, Gemm, Pass, cases, read_case
from infersim.microbench.results import Results, Row, begin, read_results
from infersim.microbench.suite import BUDGET, open_backend, run_suite, suite_cases
from infersim.microbench.timing import Timing, measure, summarise
from infersim.ops.memory import Elementwise
from infersim.ops.transformer import prefill, step_ops
from infersim.specs.deployment import Parallelism
from infersim.specs.library import clear_cache, load_bundled_model
from infersim.specs.precision import precision

FEW = (Gemm("fp32", 1, 64, 64), Gemm("fp32", 4, 64, 64), Pass("fp32", "sampling", "", 2, 1, 256))


@pytest.fixture(scope="module")
def numpy_backend() -> NumpyBackend:
    return NumpyBackend(2**18)


class Counting:
    """A backend that notes what it prepares, and may be told to stop the run at a case."""

    name, device, version, formats = "numpy", "cpu", "0", ("fp32",)

    def __init__(self, inner: NumpyBackend, stop_at: int | None = None) -> None:
        self.inner, self.prepared, self.stop_at = inner, [], stop_at

    def prepare(self, case: Any) -> Any:
        if len(self.prepared) == self.stop_at:
            raise KeyboardInterrupt
        self.prepared.append(case.key)
        return self.inner.prepare(case)

    def time(self, prepared: Any, calls: int) -> float:
        return self.inner.time(prepared, calls)

    def least_calls(self, prepared: Any) -> int:
        return 1


def synthetic(which: Any = "tiny", rate: float = 1e11, bandwidth: float = 2e10) -> Results:
    """Results of a machine that is exactly a roofline with a launch of 5 us."""
    rows = []
    for case in cases(which, ("fp32",)):
        if isinstance(case, Gemm):
            seconds = 5e-6 + max(case.flops / rate, case.moved / bandwidth)
        elif isinstance(case, Attention):
            keys = case.cached + case.new
            pairs = case.new * case.cached + case.new * (case.new + 1) / 2
            work = 4.0 * case.count * case.heads * case.head_dim * pairs
            moved = 8.0 * case.count * case.head_dim * (keys * case.kv_heads + case.new * case.heads)
            seconds = 5e-6 + max(work / (0.4 * rate), moved / bandwidth)
        else:
            seconds = 5e-6 + getattr(case, "moved", 0.0) / bandwidth
        rows.append(Row(case, 0, Timing(seconds, seconds, 0.0, 5, 1)))
    environment = {"device_name": "Test CPU", "threads": 2, "cache_bytes": {"L3": 2**25}, "date": "2026-01-01"}
    return Results("torch", "cpu", "2.0", environment, {"set": "quick"}, tuple(rows))


@given(st.lists(st.floats(0.9, 1.1), min_size=5, max_size=25), st.floats(10.0, 1e6))
def test_one_outlier_moves_the_statistic_no_further_than_its_neighbours(good: list[float], wild: float) -> None:
    assert min(good) <= summarise([*good, wild]).seconds <= max(good)


def test_samples_are_as_long_as_asked_and_one_call_is_reported() -> None:
    asked = []

    def sample(calls: int) -> float:
        asked.append(calls)
        return calls * 1e-5

    timing = measure(sample, target=0.0, least=1e-3)
    assert timing.seconds == pytest.approx(1e-5)
    assert asked[-1] == 100
    assert timing.samples == 5
    assert measure(sample, target=0.0, least=1e-3, least_calls=300).calls == 300


@pytest.mark.parametrize("which", ["tiny", "quick", "full"])
@pytest.mark.parametrize("large", [False, True])
def test_cases_have_keys_of_their_own_and_survive_a_record(which: Any, large: bool) -> None:
    found = cases(which, ("fp32", "bf16"), large=large, copies=large)
    assert len({case.key for case in found}) == len(found)
    assert all(read_case(json.loads(json.dumps(case.record()))) == case for case in found)


def test_a_pass_moves_the_bytes_that_the_step_counts() -> None:
    model = load_bundled_model("llama-3.1-8b")
    step = step_ops(model, Parallelism(), precision("fp32"), prefill(32.0, count=2.0))
    ops = {
        op.key: op for op in reversed(step) if isinstance(op, Elementwise)
    }  # the last norm is of sampled tokens only
    for case in (
        Pass("fp32", "norm", "rms", 2, 32, model.hidden_size), Pass("fp32", "activation", "gated", 2, 32, 14336),
        Pass("fp32", "rotary and cache write", "rotary", 2, 32, 128, 32, 8), Pass("fp32", "embedding", "", 2, 32, 4096),
        Pass("fp32", "sampling", "", 2, 1, model.vocab_size),
    ):  # fmt: skip
        assert case.moved == pytest.approx(ops[case.op].bytes, rel=1e-4), case.key
        assert case.kernels == ops[case.op].kernels


def test_a_suite_taken_up_again_runs_nothing_twice(tmp_path: Path, numpy_backend: NumpyBackend) -> None:
    file = tmp_path / "bench.jsonl"
    first = Counting(numpy_backend, stop_at=2)
    outcome = run_suite(first, file, which="tiny", chosen=FEW, rounds=2)
    assert outcome.interrupted
    assert outcome.taken == 2
    assert len(read_results(file).rows) == 2
    second = Counting(numpy_backend)
    assert run_suite(second, file, which="tiny", chosen=FEW, rounds=2).taken == 4
    third = Counting(numpy_backend)
    assert run_suite(third, file, which="tiny", chosen=FEW, rounds=2).taken == 0
    assert third.prepared == []
    done = [(row.case.key, row.round) for row in read_results(file).rows]
    assert sorted(done) == sorted((case.key, turn) for case in FEW for turn in range(2))


def test_later_rounds_wait_when_time_is_up(numpy_backend: NumpyBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUDGET, "tiny", 0.0)
    outcome = run_suite(numpy_backend, None, which="tiny", chosen=FEW, rounds=3)
    assert (outcome.taken, outcome.left) == (len(FEW), 2 * len(FEW))
    assert len(outcome.results.measured()) == len(FEW)


def test_a_killed_run_leaves_a_readable_file(tmp_path: Path, numpy_backend: NumpyBackend) -> None:
    file = tmp_path / "bench.jsonl"
    run_suite(numpy_backend, file, which="tiny", chosen=FEW)
    whole = file.read_text()
    file.write_text(whole[:-30])
    assert len(read_results(file).rows) == len(FEW) - 1
    assert run_suite(numpy_backend, file, which="tiny", chosen=FEW).taken == 1
    assert len(read_results(file).rows) == len(FEW)


def test_a_file_round_trips_and_another_machine_is_refused(tmp_path: Path, numpy_backend: NumpyBackend) -> None:
    file = tmp_path / "bench.jsonl"
    found = synthetic()
    begin(file, found)
    assert read_results(file) == found
    with pytest.raises(SpecError, match="--out"):
        run_suite(numpy_backend, file, which="tiny", chosen=FEW)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}\n", "infersim-bench/1"), ("", "infersim-bench/1"), ("no json\n", "line 1"),
        ('{"schema": "infersim-bench/1", "backend": "numpy"}\n', "lacks"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_explained(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bench.jsonl"
    file.write_text(text)
    with pytest.raises(SpecError, match=message):
        read_results(file)


@pytest.mark.parametrize("change", [{"seconds_s": -1}, {"seconds_s": "x"}, {"case": {"kind": "gem"}}, {"round": None}])
def test_a_wrong_line_is_named(tmp_path: Path, change: dict[str, Any]) -> None:
    file = tmp_path / "bench.jsonl"
    begin(file, synthetic())
    lines = file.read_text().splitlines()
    lines[3] = json.dumps(json.loads(lines[3]) | change)
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(SpecError, match="line 4"):
        read_results(file)


def test_numpy_and_torch_answer_in_the_same_schema(numpy_backend: NumpyBackend) -> None:
    torch_backend = pytest.importorskip("torch") and open_backend("torch", "cpu")
    found = [
        run_suite(backend, None, which="tiny", chosen=suite_cases(numpy_backend, "tiny")[::4]).results
        for backend in (numpy_backend, torch_backend)
    ]
    by_numpy, by_torch = ({row.case for row in results.rows} for results in found)
    assert by_numpy == by_torch
    assert not any(results.failed for results in found)
    assert found[0].header().keys() == found[1].header().keys()


def test_a_case_that_cannot_run_is_named_once(numpy_backend: NumpyBackend) -> None:
    outcome = run_suite(numpy_backend, None, which="tiny", chosen=(Gemm("bf16", 1, 64, 64), *FEW), rounds=2)
    assert list(outcome.results.failed) == ["gemm format=bf16 m=1 n=64 k=64"]
    assert len(outcome.results.measured()) == len(FEW)


def test_a_device_that_is_not_there_is_explained() -> None:
    with pytest.raises((SpecError, UnsupportedError), match=r"device|installed"):
        open_backend("auto", "cuda" if not _cuda() else "mps")
    with pytest.raises(SpecError, match="backend"):
        open_backend("jax")


def _cuda() -> bool:
    torch = pytest.importorskip("torch")
    return bool(torch.cuda.is_available())


def test_rows_become_kernel_tables() -> None:
    tables = tables_of(synthetic(), "X", "torch")
    kinds = {(table.kind, table.formats["weights"], table.kernel) for table in tables}
    assert {("gemm", "fp32", ""), ("attention", "fp32", "decode"), ("elementwise", "fp32", "norm.rms")} <= kinds
    assert all(len(column) == len(table) for table in tables for column in table.shape.values())


def test_a_roofline_machine_is_recovered(tmp_path: Path) -> None:
    measured = synthetic("quick")
    wanted = tuple(
        row for row in measured.rows if row.case.kind in ("gemm", "stream") or row.case.key.endswith("new=1")
    )
    own = calibrate_own(replace(measured, rows=wanted))
    assert own.accelerator.peak_flops["fp32"] == pytest.approx(1e11, rel=0.05)
    assert own.accelerator.memory.bandwidth == pytest.approx(2e10, rel=0.05)
    product = next(section for section in own.sections if section.kind == "gemm")
    assert product.final.p90 < 0.12
    written = write_own(tmp_path, own)
    file = read_calibration(written[-1])
    assert {(s.kind, s.key) for s in own.sections} == {
        (kind, key) for kind, keys in file.sections.items() for key in keys
    }
    assert set(file.surfaces) == {(s.kind, s.key) for s in own.sections}
    found = Calibration(own.accelerator.name, "none", "torch", folders=(tmp_path / "calibrations",))
    fitted = found.lookup("gemm", "fp32")
    assert fitted.level == "measured"
    assert fitted.surface is not None
    assert np.allclose(fitted.surface.values, product.surface.values)  # type: ignore[union-attr]


def test_an_own_calibration_is_found_by_estimate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    source, folder = tmp_path / "bench.jsonl", tmp_path / "own"
    begin(source, synthetic())

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            main([*arguments])
        assert not stopped.value.code, capsys.readouterr().err
        return capsys.readouterr().out

    assert "Test-2-core" in run("calibrate", "--from", str(source), "--out", str(folder))
    monkeypatch.setenv("INFERSIM_SPECS", str(folder))
    clear_cache()
    answer = json.loads(
        run(
            "estimate",
            "gpt2",
            "--gpu",
            "Test-2-core",
            "--engine",
            "torch",
            "--precision",
            "fp32",
            "-i",
            "64",
            "-o",
            "8",
            "--json",
        )
    )
    sources = json.dumps(answer["sources"])
    assert "measured: gemm fp32 on Test-2-core under torch" in sources
    weights = 4 * 124e6 / 2e10
    assert weights < answer["tpot_s"] < 1.6 * weights


@pytest.mark.slow
def test_bench_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "b.jsonl"
    arguments = ["bench", "--set", "tiny", "--backend", "numpy", "--out", str(file), "--json"]
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    shown = json.loads(capsys.readouterr().out)
    assert not stopped.value.code
    assert shown["schema"] == "infersim-bench/1"
    assert shown["environment"]["cores"] >= 1
    assert shown["failed"] == {}
    assert len(read_results(file).rows) == shown["cases"]
    with pytest.raises(SystemExit):
        main(arguments)
    assert " 0 timings taken now" in capsys.readouterr().err
