"""Sweeps: designs addressed by point, array passes that equal single answers, folders that can be taken up again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import infersim
from infersim.cli.app import main
from infersim.errors import InferSimError, SpecError
from infersim.report.results import read_results
from infersim.scenario.places import Fields
from infersim.scenario.sweeps.axes import Drawn
from infersim.scenario.sweeps.design import SweepSpec
from infersim.scenario.sweeps.result import read_result
from infersim.scenario.sweeps.solve import solve
from infersim.specs.reading import validate

SMALL: dict[str, Any] = {
    "model": "openai-community/gpt2",
    "hardware": "L4",
    "workload": {"input_tokens": 64, "output_tokens": 32},
}
USERS = {"grid": {"workload.concurrency": [1, 2, 4, 8]}}
FIELDS: dict[str, Any] = {
    "hardware": ["H100-SXM", "L40S"],
    "deployment.tensor_parallel": {"integers": [1, 3]},
    "workload.input_tokens": {"log_uniform": [64, 200_000], "whole": True},
    "workload.concurrency": {"log_uniform": [1, 512]},
    "workload.prefix_hit": {"uniform": [0, 0.9]},
    "cost.gpu_hour": {"normal": {"mean": "2.5 USD", "sd": "0.5 USD"}, "low": "1 USD"},
}


def spec(design: dict[str, Any]) -> SweepSpec:
    return validate(SweepSpec, design)


# Designs


def test_a_grid_counts_its_last_field_fastest() -> None:
    grid = spec({"grid": {"a": [1, 2], "b": ["x", None], "c": {"from": "1 s", "to": "3 s", "points": 3}}})
    assert grid.size == 12
    assert [grid.point(i) for i in (0, 1, 3, 11)] == [
        {"a": 1, "b": "x", "c": "1 s"}, {"a": 1, "b": "x", "c": "2 s"}, {"a": 1, "b": None, "c": "1 s"}, {"a": 2, "b": None, "c": "3 s"},
    ]  # fmt: skip
    assert spec({"grid": {"a": {"from": 1, "to": 10, "points": 50, "whole": True}}}).size == 10


def test_a_list_has_its_points_as_they_are_written() -> None:
    rows = [{"hardware": "L4", "n": {"rate": 1}}, {"hardware": "L40S", "n": 2}, {"hardware": "L4", "n": {"rate": 1}}]
    assert [spec({"list": rows}).point(i) for i in range(3)] == rows


@settings(max_examples=25)
@given(
    kind=st.sampled_from(["random", "latin_hypercube", "sobol"]), points=st.integers(1, 300), seed=st.integers(0, 2**40), data=st.data()
)  # fmt: skip
def test_any_point_is_made_without_the_others(kind: str, points: int, seed: int, data: st.DataObject) -> None:
    design = spec({kind: FIELDS, "points": points, "seed": seed})
    start = data.draw(st.integers(0, points - 1))
    stop = data.draw(st.integers(start + 1, points))
    whole, part = design.columns(0, points), design.columns(start, stop)
    row = data.draw(st.integers(start, stop - 1))
    for field in FIELDS:
        assert np.array_equal(whole[field].keys[start:stop], part[field].keys)
        assert design.point(row)[field] == part[field].at(row - start)


def test_drawn_points_stay_what_they_are() -> None:
    """A change of these numbers changes the points of every sweep that is under way."""
    design = spec({"random": {"a": {"uniform": [0, 1]}, "b": {"uniform": [0, 1]}}, "points": 10**12, "seed": 1})
    found = [design.point(i)[field] for i in (0, 1, 10**11 + 1) for field in "ab"]
    assert found == pytest.approx(DRAWN, rel=1e-15)
    stream = np.random.Generator(np.random.Philox(key=np.array([1, 0], dtype=np.uint64)))
    assert np.array_equal(design.columns(3, 9)["a"].numbers, stream.random(9)[3:])  # type: ignore[arg-type]


DRAWN = [
    0.3035680343067586,
    0.0751511510959112,
    0.8487087496857769,
    0.9837951334859096,
    0.37523638791837655,
    0.9094566051056567,
]


@given(points=st.integers(1, 400), seed=st.integers(0, 2**40))
def test_a_latin_hypercube_has_one_point_in_every_stratum(points: int, seed: int) -> None:
    design = spec(
        {"latin_hypercube": {"a": {"uniform": [0, 1]}, "b": {"uniform": [0, 1]}}, "points": points, "seed": seed}
    )
    for column in design.columns(0, points).values():
        assert sorted(np.floor(column.keys * points).astype(int)) == list(range(points))


def test_a_sobol_sequence_is_balanced() -> None:
    column = spec({"sobol": {"a": {"uniform": [0, 1]}}, "points": 256, "seed": 3}).columns(0, 256)["a"]
    assert sorted(np.floor(column.keys * 256).astype(int)) == list(range(256))


@pytest.mark.parametrize(
    ("given_", "share", "value"),
    [
        ({"uniform": [2, 4]}, 0.25, 2.5),
        ({"log_uniform": [1, 16]}, 0.5, 4.0),
        ({"integers": [1, 3]}, 0.9999, 3.0),
        ({"integers": [1, 3]}, 0.0, 1.0),
        ({"normal": {"mean": 10, "sd": 2}}, 0.975, 10 + 2 * 1.959963985),
        ({"normal": {"mean": 0, "sd": 1}, "low": 0}, 0.5, 0.674489750),  # the upper half's median is the third quartile
        ({"log_normal": {"p5": 1, "p95": 100}}, 0.5, 10.0),
        ({"triangular": {"low": 0, "mode": 0, "high": 1}}, 0.75, 0.5),
        ({"quantiles": {5: 1, 50: 2, 95: 8}}, 0.5, 2.0),
        ({"choice": [5, 7], "weights": [1, 3]}, 0.3, 7.0),
    ],
)
def test_quantiles_of_distributions(given_: dict[str, Any], share: float, value: float) -> None:
    assert validate(Drawn, given_).column(np.array([share])).at(0) == pytest.approx(value, rel=1e-8)


# Array passes


MODELS = [
    "meta-llama/Llama-3.1-8B",
    "Qwen/Qwen3-30B-A3B",
    "deepseek-ai/DeepSeek-V2-Lite",
    "BAAI/bge-m3",
    "openai-community/gpt2",
]


@settings(max_examples=40)
@given(data=st.data())
def test_array_passes_equal_single_estimates(data: st.DataObject) -> None:
    """The same figures to 1e-9, and the same sentence where there are none."""
    draw = data.draw
    model, gpu, engine = (
        draw(st.sampled_from(MODELS)),
        draw(st.sampled_from(["L4", "H100-SXM"])),
        draw(st.sampled_from(["vllm", "trtllm"])),
    )
    place = {
        "tensor_parallel": draw(st.sampled_from([1, 2, 3])),
        "replicas": draw(st.sampled_from([1, 2])),
        "engine": engine,
    }
    requests, fixed, priced = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    rows = []
    for _ in range(draw(st.integers(1, 5))):
        row = {
            "workload.input_tokens": draw(st.floats(1, 2e5)), "workload.output_tokens": draw(st.floats(1, 3e3)),
            "workload.concurrency": draw(st.floats(1, 2e3)), "workload.prefix_hit": draw(st.floats(0, 1.02)),
        }  # fmt: skip
        if requests:
            row["workload.num_requests"] = draw(st.integers(1, 5000))
        if priced:
            row["cost.gpu_hour"] = f"{draw(st.floats(0.1, 9))!r} USD"
        rows.append(row)
    base = Fields({"model": model, "hardware": gpu, "deployment": place, "workload": {"fixed_lengths": fixed}})
    figures, errors = solve(base, spec({"list": rows}).columns(0, len(rows)), len(rows))
    for number, row in enumerate(rows):
        load = {name.removeprefix("workload."): value for name, value in row.items() if name.startswith("workload.")}
        price = float(row["cost.gpu_hour"].split()[0]) if priced else None
        expected, refused = {}, None
        try:
            one = infersim.estimate(model, gpu, **place, **load, fixed_lengths=fixed, price_per_hour=price)  # type: ignore[arg-type]
            expected = one.figures.to_dict()
        except InferSimError as error:
            refused = str(error)
        if refused is not None:
            assert errors[number]
            if load["prefix_hit"] < 1:  # else the scenario's own words
                assert errors[number].rsplit(": ", 1)[-1] == refused.rsplit(": ", 1)[-1]
            assert all(np.isnan(values[number]) for values in figures.values())
            continue
        assert errors[number] is None
        for name, value in expected.items():
            if value is None or not np.isfinite(value):
                assert name not in figures or np.isnan(figures[name][number])
            else:
                assert figures[name][number] == pytest.approx(value, rel=1e-9), name


def test_sentences_are_those_of_single_answers() -> None:
    """Points that do not fit, are too long, or are no workload say what ``infersim run`` says of them."""
    from infersim.scenario.answers import answer
    from infersim.scenario.scenario import resolve

    base = Fields({"model": "meta-llama/Llama-3.1-70B", "hardware": "H100-SXM"})
    grid = spec({"grid": {
        "deployment.tensor_parallel": [1, 3, 4], "deployment.precision": ["bf16", "fp8", "fp9"],
        "workload.input_tokens": [1000, 120_000, 200_000], "workload.prefix_hit": [0.5, 1.0],
    }})  # fmt: skip
    _, errors = solve(base, grid.columns(0, grid.size), grid.size)
    told = set()
    for number, found in enumerate(errors):
        try:
            answer(resolve(base, grid.point(number))).figures  # noqa: B018
            expected = None
        except InferSimError as error:
            expected = str(error)
        assert found == expected
        told.add(found)
    assert len(told) > 5


def test_what_is_no_closed_form_is_answered_point_by_point(tmp_path: Path) -> None:
    """Simulations of arrivals, and prefixes whose share depends on the prompt's length."""
    base = SMALL | {"workload": {**SMALL["workload"], "num_requests": 50}}
    runs = infersim.run_sweep(
        base, {"grid": {"workload.arrivals.poisson": ["1 /s", "400 /s", "-1 /s"]}}, tmp_path / "a", backend="serial"
    )
    frame = runs.to_frame()
    assert list(frame["workload.arrivals.poisson"]) == [1, 400, -1]
    assert frame["ttft_p95_s"][1] > frame["ttft_p95_s"][0] > 0
    assert np.isnan(frame["ttft_p95_s"][2])
    assert "arrivals" in frame["error"][2]
    shared = SMALL | {"workload": {"prefix": {"shared_tokens": 100}}}
    found = infersim.run_sweep(
        shared, {"grid": {"workload.input_tokens": [100, 300]}}, tmp_path / "b", backend="serial"
    ).to_frame()
    for row, prompt in enumerate((100, 300)):
        one = infersim.estimate("gpt2", "L4", input_tokens=prompt + 100, prefix_hit=100 / (prompt + 100))
        assert found["ttft_s"][row] == pytest.approx(one.ttft, rel=1e-9)


def test_any_field_may_be_swept(tmp_path: Path) -> None:
    grid = {
        "hardware.memory.bandwidth": ["0.3 TB/s", "0.6 TB/s"],
        "deployment.enforce_eager": [True, False],
        "target.tpot": ["10 us", "1 s"],
    }
    frame = infersim.run_sweep(SMALL, {"grid": grid}, tmp_path, backend="serial").to_frame()
    assert frame["error"].isna().all()
    assert frame["tpot_s"].nunique() == 4
    assert list(frame["target_met"]) == [0, 1] * 4
    assert list(frame["deployment.enforce_eager"][:4]) == ["true", "true", "false", "false"]
    assert frame["hardware.memory.bandwidth"].tolist()[::4] == [0.3, 0.6]


# Folders


def test_a_sweep_reads_as_a_result_and_in_a_report(tmp_path: Path) -> None:
    found = infersim.run_sweep(
        SMALL | {"target": {"tpot": "4 ms"}}, {"grid": {"hardware": ["L4", "L40S"], "workload.input_tokens": [64, 512, 2048]}},
        tmp_path / "sweep",
    )  # fmt: skip
    assert (found.rows, found.failed, found.answered_now) == (6, 2, 6)
    (reason,) = found.reasons
    assert (
        reason
        == "workload.input_tokens: input 2048 + output 32 tokens is more than the 1,024 that openai-community/gpt2 takes"
    )
    best = found.best("ttft_s")
    assert (best["hardware"], best["workload.input_tokens"], best["point"]) == ("L40S", 64, 3)
    assert found.best("output_tokens_per_s", highest=True)["hardware"] == "L40S"
    least, most = found.range("ttft_s") or (0, 0)
    assert 0 < least == best["ttft_s"] < most
    *told, folder = str(found).splitlines()  # a path is as long as it is
    assert max(map(len, told)) <= 80
    assert folder == f"in {tmp_path / 'sweep'}"
    assert "6 points" in str(found)
    assert json.loads(json.dumps(found.to_dict()))["failed"] == 2
    assert str(read_result(tmp_path / "sweep").to_frame()["error"].dropna().iloc[0]) == reason
    swept = read_results(tmp_path).sweep
    assert swept is not None
    assert swept.fields == ("hardware", "workload.input_tokens")
    assert (swept.asked, swept.rows) == (6, 6)
    assert swept.reasons == {reason: 2}
    assert set(swept.figures) >= {"ttft_s", "tpot_s", "devices", "cost_per_million_output_tokens_usd"}
    with pytest.raises(SpecError, match=r"no figure is called 'tft_s'; did you mean 'ttft_s'"):
        found.best("tft_s")


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("part-*"))}


def test_an_interrupted_sweep_goes_on_where_it_was(tmp_path: Path) -> None:
    design = {"random": FIELDS, "points": 300, "chunk_points": 50, "seed": 4}
    base = {"model": "meta-llama/Llama-3.1-8B", "hardware": "L4"}
    infersim.run_sweep(base, design, tmp_path / "whole", backend="serial")

    def stop(done: int, total: int) -> None:
        if done >= 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        infersim.run_sweep(base, design, tmp_path / "twice", backend="serial", progress=stop)
    assert "100 of 300 points are in" in stopped.value.__notes__[0]
    part = tmp_path / "twice" / "part-00000001.parquet"
    part.write_bytes(part.read_bytes()[:-100])  # half a file is no part
    (tmp_path / "twice" / ".part-00000002.parquet.partial").write_bytes(b"PAR1")
    told: list[tuple[int, int]] = []
    again = infersim.run_sweep(
        base, design, tmp_path / "twice", backend="serial", progress=lambda *two: told.append(two)
    )
    assert again.answered_now == 250
    assert told[0] == (50, 300)
    assert told[-1] == (300, 300)
    assert _bytes(tmp_path / "whole") == _bytes(tmp_path / "twice")
    assert not list((tmp_path / "twice").glob(".*"))
    assert infersim.run_sweep(base, design, tmp_path / "twice", backend="serial").answered_now == 0
    assert infersim.run_sweep(base, design, tmp_path / "twice", backend="serial", resume=False).answered_now == 300


def test_chunks_make_no_difference(tmp_path: Path) -> None:
    base = {"model": "meta-llama/Llama-3.1-8B", "hardware": "L4"}
    for size in (1, 7, 100):
        infersim.run_sweep(
            base, {"random": FIELDS, "points": 40, "chunk_points": size}, tmp_path / str(size), backend="serial"
        )
    one, seven, all_ = (read_result(tmp_path / str(size)).to_frame() for size in (1, 7, 100))
    for other in (one, seven):
        assert (other["error"].fillna("") == all_["error"].fillna("")).all()
        for name in all_.columns[len(FIELDS) + 2 :]:
            assert np.allclose(
                other[name].astype(float), all_[name].astype(float), rtol=1e-12, atol=0, equal_nan=True
            ), name


def test_a_killed_sweep_goes_on_where_it_was(tmp_path: Path) -> None:
    """kill -9 in the middle, resume: the same rows, bit for bit."""
    scenario = tmp_path / "killed.yaml"
    scenario.write_text(json.dumps({
        "model": "meta-llama/Llama-3.1-8B", "hardware": "L4", "sweep": {"random": FIELDS, "points": 12_000, "chunk_points": 500},
    }), encoding="utf-8")  # fmt: skip
    command = [sys.executable, "-m", "infersim", "sweep", str(scenario), "-q", "--backend", "serial", "-o"]
    folder = tmp_path / "killed" / "sweep"
    running = subprocess.Popen([*command, str(tmp_path / "killed")])
    end = time.monotonic() + 60
    while len(list(folder.glob("part-*.parquet"))) < 3 and running.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    done = len(list(folder.glob("part-*.parquet")))
    assert 3 <= done < 24
    subprocess.run([*command, str(tmp_path / "killed")], check=True)
    infersim.run_sweep(infersim.load_scenario(scenario), None, tmp_path / "whole", backend="serial")
    assert len(_bytes(folder)) == 24
    assert _bytes(folder) == _bytes(tmp_path / "whole")


def test_processes_look_where_the_one_that_asks_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Own specs and prices reach the workers, and the rows are those of one process."""
    from infersim.specs import library

    monkeypatch.setattr(library, "_added", [])
    (tmp_path / "specs" / "accelerators").mkdir(parents=True)
    sheet = (library.files("accelerators")["L4"]).read_text(encoding="utf-8").replace("name: L4", "name: L4-of-ours")
    (tmp_path / "specs" / "accelerators" / "L4-of-ours.yaml").write_text(sheet, encoding="utf-8")
    library.add_spec_folder(tmp_path / "specs")
    try:
        design = {"grid": {"hardware": ["L4-of-ours", "L40S"], "workload.concurrency": [1, 2, 3, 4]}, "chunk_points": 3}
        alone = infersim.run_sweep(SMALL, design, tmp_path / "alone", backend="serial")
        many = infersim.run_sweep(SMALL, design, tmp_path / "many", workers=2)
    finally:
        monkeypatch.undo()
        library.clear_cache()
    assert alone.failed == many.failed == 0
    assert _bytes(tmp_path / "alone") == _bytes(tmp_path / "many")


# The command line


def test_run_and_sweep_write_a_results_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario = tmp_path / "chat.yaml"
    scenario.write_text(json.dumps(SMALL | {"sweep": USERS}), encoding="utf-8")
    results = str(tmp_path / "results")
    for arguments, wanted in (
        (["run", str(scenario)], "its sweep runs with -o FOLDER"),
        (["run", str(scenario), "-o", results], "sweep of 4 points over workload.concurrency"),
        (["sweep", str(scenario), "-o", results], "0 answered"),
        (["sweep", str(scenario), "-o", results, "--fresh", "--backend", "serial"], "answered in"),
        (["sweep", str(scenario), "-o", results, "--json"], '"rows": 4'),
        (["sweep", str(scenario), "-o", results, "--csv"], "ttft_s,"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        told = capsys.readouterr()
        assert ended.value.code == 0
        assert wanted in told.out + told.err
    assert (tmp_path / "results" / "results.json").is_file()


# Bad input


@pytest.mark.parametrize(
    ("design", "sentence"),
    [
        ({"grid": {"workload.concurency": [1]}}, r"workload\.concurency: unknown field; did you mean 'concurrency'"),
        ({"grid": {"worklod.concurrency": [1]}}, r"worklod\.concurrency: unknown field; did you mean 'workload'"),
        ({"grid": {"tensor_parallel": [1]}}, r"it belongs under deployment: deployment\.tensor_parallel"),
        ({"grid": {"sweep.grid": [1]}}, "is about the whole file"),
        ({"grid": {}}, "grid: is empty; name at least one field"),
        ({"grid": {"workload.concurrency": []}}, "at least 1 item"),
        ({"list": []}, "list: is empty"),
        ({"list": [{"hardware": "L4"}, {"model": "gpt2"}]}, "every point names the same fields"),
        ({}, "is one of grid, list, random, latin_hypercube, sobol, got none of them"),
        ({"grid": {"a": [1]}, "list": [{"a": 1}]}, "got grid and list"),
        ({"gird": {"a": [1]}}, "gird: unknown field; did you mean 'grid'"),
        ({"grid": {"workload.concurrency": {"from": 9, "to": 1, "points": 3}}}, "swap them"),
        ({"grid": {"workload.concurrency": {"from": 0, "to": 1, "points": 3, "scale": "log"}}}, "begins above zero"),
        ({"random": {"workload.concurrency": {"uniform": [9, 1]}}, "points": 3}, "rises from the lower to the higher bound, got 9 to 1"),
        ({"random": {"workload.concurrency": {"uniform": [1, 9]}}}, "points: is missing"),
        ({"random": {"workload.concurrency": {"unifrom": [1, 9]}}, "points": 3}, "did you mean 'uniform'"),
        ({"random": {"workload.concurrency": {"normal": {"mean": 1}}}, "points": 3}, "takes mean and sd, got mean"),
        ({"random": {"workload.concurrency": {"choice": [1, 2], "weights": [1]}}, "points": 3}, "one for each of the 2 choices"),
        ({"random": {"cost.gpu_hour": {"uniform": ["1 USD", "2 s"]}}, "points": 3}, "in one unit, got '1 USD' and '2 s'"),
        ({"grid": {f"workload.{n}": {"from": 1, "to": 2, "points": 10**5} for n in ("concurrency", "input_tokens", "output_tokens")}},
         "has 1,000,000,000,000,000 points, 1,000,000,000,000 at most; take fewer values, or draw random points"),
        ({"latin_hypercube": {"workload.concurrency": {"uniform": [1, 9]}}, "points": 10**9}, "is held in memory whole"),
        ({"grid": {"workload.concurrency": [1]}, "points": 5}, "are counted, not given"),
    ],
)  # fmt: skip
def test_designs_that_will_not_do(design: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=sentence):
        infersim.run_sweep(SMALL, design, tmp_path / "never")
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"backend": "dusk"}, "no backend is called 'dusk'; did you mean 'dask'"),
        ({"workers": 0}, "is one or more, got 0"),
        ({"backend": "serial", "address": "localhost:1"}, "is of a cluster: write backend dask or ray"),
        ({"folder": "/dev/null/sweep"}, "cannot be made"),
    ],
)
def test_runs_that_will_not_do(options: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=sentence):
        infersim.run_sweep(SMALL, USERS, **{"folder": tmp_path, **options})


def test_a_folder_of_another_sweep_is_refused(tmp_path: Path) -> None:
    infersim.run_sweep(SMALL, USERS, tmp_path, backend="serial")
    for base, design, sentence in (
        (
            SMALL,
            {"grid": {"workload.concurrency": [1, 2, 4, 9]}},
            "holds a sweep over other fields or values: name another folder",
        ),
        (SMALL | {"hardware": "L40S"}, USERS, "holds a sweep of another scenario"),
    ):
        with pytest.raises(SpecError, match=sentence):
            infersim.run_sweep(base, design, tmp_path)
    (tmp_path / "_manifest.json").write_text('{"points": "many"}', encoding="utf-8")
    with pytest.raises(SpecError, match="is not the manifest of a sweep"):
        infersim.run_sweep(SMALL, USERS, tmp_path)
    (tmp_path / "_manifest.json").unlink()
    with pytest.raises(SpecError, match=r"holds part-\*\.parquet without a _manifest\.json"):
        infersim.run_sweep(SMALL, USERS, tmp_path)


def test_a_scenario_without_a_sweep_is_told_what_one_is(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"sweep: is missing: say what is swept, such as grid"):
        infersim.run_sweep(SMALL, None, tmp_path)


def test_a_wrong_sweep_is_told_with_its_line_before_anything_is_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = tmp_path / "wrong.yaml"
    scenario.write_text("model: gpt2\nhardware: L4\nsweep:\n  grid: {workload.concurency: [1, 2]}\n", encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["run", str(scenario), "-o", str(tmp_path / "results")])
    told = capsys.readouterr()
    assert (ended.value.code, told.out) == (2, "")
    assert "workload.concurency: unknown field; did you mean 'concurrency'?" in told.err
    scenario.write_text("model: gpt2\nhardware: L4\nsweep:\n  grid: {}\n", encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["sweep", str(scenario), "-o", str(tmp_path / "results")])
    assert f"{scenario}:3:1: sweep: grid: is empty" in capsys.readouterr().err


def test_prices_given_later_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from infersim.specs import library

    monkeypatch.setattr(library, "_price_files", [])
    before = infersim.estimate("gpt2", "L4", input_tokens=64).price_per_hour
    (tmp_path / "own.csv").write_text(
        f"hardware,kind,usd_per_hour,source\nL4,on_demand,{before / 2},contract\n", encoding="utf-8"
    )  # type: ignore[operator]
    library.add_price_file(tmp_path / "own.csv")
    try:
        found = infersim.run_sweep(SMALL, USERS, tmp_path / "sweep", backend="serial")
        assert found.range("price_per_gpu_hour_usd") == (before / 2, before / 2)  # type: ignore[operator]
    finally:
        monkeypatch.undo()
        library.clear_cache()
