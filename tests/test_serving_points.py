"""Measured serving points: what ships, the file format, and what is refused."""

from __future__ import annotations

import importlib.util
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infersim.calibrate.measurements import ServingPoint, judges
from infersim.calibrate.serving_csv import COLUMNS, read_serving_points, write_serving_points
from infersim.errors import SpecError
from infersim.specs.deployment import EngineKnobs, Parallelism
from infersim.specs.huggingface import load_model
from infersim.specs.library import load_accelerator, load_engine
from infersim.validate.comparison import error_line
from infersim.validate.overheads import fit_overheads
from infersim.validate.serving import compare_serving, predict_point, shipped_serving_points

POINT = ServingPoint(
    name="run 7", source="ours", model="meta-llama/Llama-3.1-8B", device="H100-SXM", engine="vllm", version="0.19.0",
    parallelism=Parallelism(tensor=2), precision="fp8", kv_cache="fp8", input_tokens=921.6, output_tokens=230.4, concurrency=32.0,
    request_rate=None, num_requests=320, range_ratio=0.8, prefix_hit=0.0, knobs=EngineKnobs(max_num_seqs=64), speculative="none",
    metrics={"ttft": 0.1, "tpot": 0.01, "ttft_p99": 0.5, "output_throughput": 3000.0},
)  # fmt: skip


def test_shipped_points_name_what_exists_and_split_in_halves() -> None:
    points = shipped_serving_points()
    assert len(points) == len({point.name for point in points}) > 2500
    for model in {point.model for point in points}:
        assert load_model(model).total_parameters > 0
    for device in {point.device for point in points}:
        assert load_accelerator(device).name == device
    assert {load_engine(point.engine).name for point in points} == {"vllm", "sglang", "trtllm"}
    assert 0.45 < sum(map(judges, points)) / len(points) < 0.55
    sides: dict[str, set[bool]] = {}
    for point in points:
        sides.setdefault(point.configuration, set()).add(judges(point))
    assert all(len(side) == 1 for side in sides.values())  # runs of one configuration never sit on both sides


def test_protocol_of_public_runs_is_stated_and_theirs_alone() -> None:
    points = shipped_serving_points()
    public = [point for point in points if point.prefix_hit is not None]
    assert len(public) > 1800
    for point in public:
        assert point.num_requests == 10 * (point.concurrency or 0)
        assert point.input_tokens in (921.6, 7372.8)
    assert Counter(point.speculative for point in points)["mtp"] > 100


@given(
    st.floats(1, 1e5), st.floats(1, 1e4), st.one_of(st.none(), st.floats(1, 1e4)), st.sampled_from(["a", 'b, "c"', "ü"]),
    st.dictionaries(st.sampled_from(["ttft", "tpot", "e2e_p99", "total_throughput"]), st.floats(1e-6, 1e6), min_size=1),
)  # fmt: skip
def test_points_survive_the_file(
    tmp_path_factory: pytest.TempPathFactory,
    length: float,
    output: float,
    users: float | None,
    name: str,
    metrics: dict[str, float],
) -> None:
    rate = 2.5 if users is None else None
    point = replace(
        POINT,
        name=name,
        input_tokens=length,
        output_tokens=output,
        concurrency=users,
        request_rate=rate,
        metrics=metrics,
    )
    path = tmp_path_factory.mktemp("points") / "points.csv.gz"
    write_serving_points(path, [point, POINT])
    first, second = read_serving_points(path)
    assert second == POINT
    assert (first.name, first.request_rate) == (name, rate)
    for mine, read in (
        (length, first.input_tokens),
        (output, first.output_tokens),
        *((metrics[k], first.metrics[k]) for k in metrics),
    ):
        assert read == pytest.approx(mine, rel=1e-11)


HEAD = "name,model,device,engine,input_tokens,output_tokens,concurrency,ttft_s"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,modell", ["unknown column 'modell'", "model"]),
        ("name,model,device,engine,input_tokens", ["lacks the column output_tokens"]),
        (f"{HEAD}\na,m,g,vllm,many,1,1,1", ["line 2", "input_tokens", "'many'"]),
        (f"{HEAD}\na,m,g,vllm,-4,1,1,1", ["line 2", "zero or more"]),
        (f"{HEAD}\na,m,g,vllm,4,1,,1", ["line 2", "concurrency or a request_rate_per_s"]),
        (f"{HEAD}\na,m,g,vllm,4,1,1,", ["line 2", "no measured figure"]),
        (f"{HEAD}\na,m,g,vllm,4", ["line 2", "cells"]),
        (f"{HEAD},tensor\na,m,g,vllm,4,1,1,1,x", ["line 2", "tensor"]),
    ],
)
def test_bad_files_are_named_by_line_and_column(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text + "\n")
    with pytest.raises(SpecError) as caught:
        read_serving_points(path)
    for word in ["bad.csv", *words]:
        assert word in str(caught.value)


def test_disaggregated_points_are_not_written_as_something_else(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="disaggregated"):
        write_serving_points(tmp_path / "x.csv", [replace(POINT, disaggregated=True)])
    assert not list(tmp_path.iterdir())


def test_a_column_for_every_field() -> None:
    assert len(set(COLUMNS)) == len(COLUMNS)


@pytest.mark.skipif(importlib.util.find_spec("aiconfigurator_core") is None, reason="needs infersim[silicon]")
def test_the_shipped_file_is_what_the_package_gives(tmp_path: Path) -> None:
    from infersim.calibrate.silicon_serving import write_shipped_points

    reading = write_shipped_points(tmp_path / "again.csv.gz")
    assert [point.name for point in read_serving_points(tmp_path / "again.csv.gz")] == [
        p.name for p in shipped_serving_points()
    ]
    assert sum(reading.left_out.values()) + len(reading.points) == 5221  # every row is a point or counted


def test_intervals_hold_on_points_that_no_fit_saw() -> None:
    """Shares of the judging points inside their intervals; kernels, overheads and intervals were fitted without them."""
    points = [point for point in shipped_serving_points() if judges(point)]
    found = [one for one in compare_serving(points, naive=False) if one.predicted is not None]
    for metric in ("ttft", "tpot"):
        line = error_line((metric,), [one for one in found if one.labels["metric"] == metric])
        assert 0.87 < line.covered[90] < 0.93
        assert 0.46 < line.covered[50] < 0.54
        for engine in ("vllm", "sglang", "trtllm"):
            own = [one for one in found if (one.labels["metric"], one.labels["engine"]) == (metric, engine)]
            assert error_line((engine,), own).covered[90] > 0.85


@pytest.mark.slow
def test_overheads_fitted_to_known_ones_come_back() -> None:
    engine = load_engine("vllm")
    host = engine.host.model_copy(update={"sync": 1e-3, "sync_sequence": 4e-5, "request": 2e-2})
    truth = engine.model_copy(update={"host": host})
    made = []
    for point in [
        point for point in shipped_serving_points() if point.engine == "vllm" and "Llama-3.1-70B" in point.model
    ][:60]:
        answer = predict_point(point, engine=truth)
        made.append(replace(point, metrics={"ttft": answer.ttft, "tpot": answer.tpot}))
    found = fit_overheads(engine, made).parameters
    gaps = 967 * (
        found.launch_gap - engine.launch_gap
    )  # kernels of a step: gaps and host time of a step cannot be told apart
    assert found.sync + gaps == pytest.approx(1e-3, rel=0.2)
    assert found.sync_sequence == pytest.approx(4e-5, rel=0.2)
    # with one model, 80 layers, what a request and what its layers cost cannot be told apart either
    assert found.request + 80 * (found.prompt_layer - host.prompt_layer) == pytest.approx(2e-2, rel=0.2)
