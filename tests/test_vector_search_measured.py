"""Vector search and a real embedding model: the benchmark's file, the calibration, and how far predictions are off on what shipped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infersim.calibrate.own_search import (
    KINDS,
    Search,
    calibrate_search,
    fit_graph,
    fit_search,
    predicted_counts,
    seconds_of,
    write_rates,
)
from infersim.cli.app import main
from infersim.errors import SpecError
from infersim.machine.kernels.vector_search import SearchParameters
from infersim.microbench.cases import Gemm, VectorSearch, read_case
from infersim.microbench.results import Results, Row, begin, read_results
from infersim.microbench.suite import open_backend, run_suite
from infersim.microbench.timing import Timing
from infersim.microbench.vector_cases import calibrating, judging
from infersim.ops.vector_search import GraphWork
from infersim.retrieval.index import parameters_of
from infersim.specs.library import load_search_rates, measurement_file
from infersim.validate import embedding, search

BAR = 0.20
"""Median error that no kind of index and no embedding throughput may exceed."""

TRUE = SearchParameters(near=4e10, shared=2.2e10, memory=9e9, shared_cache=6e7, call=4e-6, list=3e-7, scanned=2e-9, evaluation=2.5e-8,
                        scattered=1.7e10, memory_wait=1.6e-7, candidate=6e-10)  # fmt: skip
GRAPH = GraphWork(0.7, 5.0, 0.4, 0.9, 0.07, 1.2)


def run(*arguments: str) -> int:
    """Exit code of the command."""
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    return int(left.value.code or 0)


def synthetic() -> Results:
    """A file of a machine that is exactly what the kernel models say, with counts that are exactly what the fit can say."""
    cases = calibrating("quick")
    column = [
        np.array([float(getattr(case, name)) for case in cases])
        for name in ("vectors", "dimension", "structure", "knob")
    ]
    blank = np.zeros(len(cases))
    kinds = np.array([float(KINDS.index(case.index)) for case in cases])
    table = predicted_counts(Search(kinds, *column, blank, blank), GRAPH, 1.02)
    seconds = seconds_of(table.columns, TRUE, 2.0**21)
    rows = tuple(
        Row(
            case,
            0,
            Timing(float(t), float(t), 0.0, 5, 1),
            counts={"evaluations": float(n), "hops": float(h), "recall": 0.9},
        )
        for case, t, n, h in zip(cases, seconds, table.evaluations, table.hops, strict=True)
    )
    environment = {"device_name": "Test CPU", "threads": 1, "cache_bytes": {"L2": 2**21}, "date": "2026-01-01"}
    return Results("faiss", "cpu", "1", environment, {"set": "quick"}, rows)


def test_searches_that_calibrate_and_those_that_judge_share_no_index_and_no_knob() -> None:
    seen, unseen = (
        {(case.index, case.vectors, case.dimension) for case in cases} for cases in (calibrating("full"), judging())
    )
    assert not seen & unseen
    settings = [
        {(case.index, case.structure, case.knob) for case in cases if case.knob}
        for cases in (calibrating("full"), judging())
    ]
    assert not settings[0] & settings[1]
    for kind in ("flat", "ivf_flat", "hnsw"):
        assert sum(case.index == kind for case in judging()) >= 12


@pytest.fixture(scope="module")
def shipped() -> search.SearchReport:
    return search.shipped_report()


@pytest.mark.parametrize("kind", ["flat", "ivf_flat", "hnsw"])
def test_predicted_searches_are_within_a_fifth_of_those_measured_in_the_median(
    shipped: search.SearchReport, kind: str
) -> None:
    found = shipped.errors(kind)
    assert found.rows >= 12
    assert found.p50 <= BAR
    assert found.mean <= 1.25 * BAR


def test_predicted_evaluations_are_within_a_tenth_of_those_counted_in_the_median(shipped: search.SearchReport) -> None:
    off = [abs(row.expected_evaluations / row.evaluations - 1) for row in shipped.rows if row.case.index == "hnsw"]
    assert np.median(off) <= 0.1


def test_the_rates_that_ship_are_those_of_the_measurements_that_ship(shipped: search.SearchReport) -> None:
    """The defaults of every other CPU come from the same file."""
    ships, fitted = (rates.model_dump(mode="json") for rates in (load_search_rates("Intel-Xeon-1-core"), shipped.rates))
    for changing in ("errors", "notes"):
        del ships[changing], fitted[changing]
    assert ships == fitted


def test_embedding_throughput_is_within_a_fifth_of_what_was_measured() -> None:
    found = embedding.shipped_report()
    assert found.errors(batches=True).rows >= 5
    assert found.errors(batches=True).p50 <= BAR
    assert "tokens/s" in str(found)
    assert json.loads(json.dumps(found.to_dict()))["errors_of_batches"]["p50"] <= BAR


def test_a_fit_finds_the_machine_it_was_made_of(tmp_path: Path) -> None:
    rates = calibrate_search(synthetic())
    found = parameters_of(rates)
    for name in ("near", "shared", "memory", "evaluation", "scattered", "call", "candidate"):
        assert getattr(found, name) == pytest.approx(getattr(TRUE, name), rel=0.12), name
    work = GraphWork(**rates.graph.model_dump())
    assert float(work.evaluations(1e5, 24, 100)) == pytest.approx(float(GRAPH.evaluations(1e5, 24, 100)), rel=0.02)
    assert rates.imbalance == pytest.approx(1.02, abs=0.005)
    assert all(errors["p50"] < 0.05 for errors in rates.errors.values())
    path = write_rates(tmp_path, rates)
    assert load_search_rates(str(path)).model_dump(mode="json") == rates.model_dump(mode="json")


def test_a_search_and_its_counts_survive_the_file(tmp_path: Path) -> None:
    results = synthetic()
    begin(tmp_path / "r.jsonl", results)
    again = read_results(tmp_path / "r.jsonl")
    assert again.rows == results.rows
    assert again.measured()[0].counts["recall"] == 0.9
    case = VectorSearch("hnsw", 100, 8, 16, 32)
    assert read_case(case.record()) == case


def test_too_little_is_refused() -> None:
    few = synthetic()
    with pytest.raises(SpecError, match="at least 8 are needed"):
        calibrate_search(replace(few, rows=few.rows[:3]))
    flat = tuple(row for row in few.rows if row.case.index != "hnsw")  # type: ignore[attr-defined]
    with pytest.raises(SpecError, match="too few graphs"):
        calibrate_search(replace(few, rows=flat))
    with pytest.raises(SpecError, match="searches that judge"):
        search.split(few)
    with pytest.raises(SpecError, match="no pass of an embedding model"):
        embedding.judge(few, None)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="one thread"):
        open_backend("faiss", threads=4)


def test_the_command_calibrates_from_the_file(tmp_path: Path, capsys: Any) -> None:
    begin(tmp_path / "r.jsonl", synthetic())
    assert run("calibrate", "--from", str(tmp_path / "r.jsonl"), "--out", str(tmp_path / "own")) == 0
    assert "search_rates" in capsys.readouterr().out
    assert (tmp_path / "own" / "search_rates" / "Test-1-core.yaml").is_file()


def test_the_command_shows_what_shipped(capsys: Any) -> None:
    assert run("validate", "retrieval", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["errors"]) == {"flat", "ivf_flat", "hnsw"}
    assert told["embedding"]["errors_of_batches"]["p50"] <= BAR
    assert run("validate", "retrieval", "--by", "kind") == 2


def test_faiss_really_searches(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    outcome = run_suite(open_backend("faiss"), tmp_path / "r.jsonl", which="tiny")
    assert not outcome.results.failed
    entries = {entry.case: entry for entry in outcome.results.measured()}
    graph = entries[VectorSearch("hnsw", 4000, 32, 8, 32)].counts
    assert 32 < graph["evaluations"] < 4000
    assert 0.5 < graph["recall"] <= 1
    lists = entries[VectorSearch("ivf_flat", 4000, 32, 16, 4)].counts
    assert lists["evaluations"] == pytest.approx(1000, rel=0.2)
    failed = run_suite(open_backend("faiss"), chosen=[Gemm("fp32", 1, 8, 8)], which="tiny").results.failed
    assert len(failed) == 1
    table, seconds = _table(outcome.results)
    predicted = seconds_of(table.columns, fit_search(table, seconds, 2.0**21), 2.0**21)
    assert (predicted > 0).all()
    assert fit_graph(table).scale > 0 if (table.kind == 3).sum() >= 8 else True


def _table(results: Results) -> tuple[Search, Any]:
    from infersim.calibrate.own_search import searches

    return searches(results.measured())


def test_the_measurements_say_what_they_were_taken_on() -> None:
    for name in (search.MEASURED, embedding.MEASURED):
        environment = read_results(measurement_file(name)).environment
        assert environment["date"]
        assert environment["cpu"]
        assert environment["threads"] == 1
