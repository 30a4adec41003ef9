"""Figures: each is drawn from values and from what a file tells of them, says what its axes are, and shows what it is asked to."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import infersim
from infersim import Traffic, agents, estimate, plan, simulate
from infersim.adapters import many, quantisation
from infersim.agents import AgentAnswer
from infersim.errors import SpecError
from infersim.planning.service import service_curve
from infersim.report.figures.style import RESOURCES, apart, quantity_axis
from infersim.report.svg import FORMATS, Picture, figure_of, inline, write_figures
from infersim.scenario.evidence import curve_columns, quantiles, series_columns
from infersim.serving.arrivals import poisson
from infersim.validate.comparison import Comparison

plot = infersim.plot


@pytest.fixture(scope="module")
def answer() -> Any:
    return estimate(
        "meta-llama/Llama-3.1-8B", "H100-SXM", input_tokens=1000, concurrency=16, target="ttft=800ms,tpot=40ms"
    )


@pytest.fixture(scope="module")
def run() -> Any:
    return simulate(
        "meta-llama/Llama-3.1-8B", "L40S", Traffic(arrivals=poisson(4.0), output_tokens=64, num_requests=200)
    )


@pytest.fixture(scope="module")
def found() -> Any:
    return plan("meta-llama/Llama-3.1-8B", ["H100-SXM", "L40S"], request_rate=10, target="tpot=40ms", verify=0)


def _texts(axes: Any) -> str:
    legend = axes.get_legend()
    labels = [text.get_text() for text in axes.texts] + (
        [text.get_text() for text in legend.get_texts()] if legend else []
    )
    return " | ".join([axes.get_title(loc="left"), *labels, *(tick.get_text() for tick in axes.get_yticklabels())])


def test_every_public_figure_is_drawn_and_its_axes_are_labelled(answer: Any, run: Any, found: Any) -> None:
    rows = [
        Comparison({"metric": "tpot"}, 0.01, 0.011),
        Comparison({"metric": "ttft"}, 0.1, 0.09),
        Comparison({"metric": "ttft"}, 1.0, None),
    ]
    curve, ways = service_curve(answer), {"rent": [2, 2], "own": [10, 1]}
    drawn = {
        "roofline": plot.roofline(answer),
        "step_breakdown": plot.step_breakdown(answer, step="prefill"),
        "step_comparison": plot.step_comparison({"a": answer, "b": answer}),
        "latency_against_load": plot.latency_against_load(curve),
        "simulated_latency": plot.simulated_latency([run]),
        "latency_distribution": plot.latency_distribution(run, limits={"ttft_p95_s": 0.8}),
        "load_over_time": plot.load_over_time(run),
        "pareto": plot.pareto(found),
        "kv_memory": plot.kv_memory(answer),
        "memory_parts": plot.memory_parts(answer),
        "cost_against_utilisation": plot.cost_against_utilisation([0.1, 1.0], ways),
        "own_against_rent": plot.own_against_rent([10, 11, 12], [0, 6, 12], break_even=2),
        "cost_parts": plot.cost_parts({"rent": 3.0, "energy": 0.0}),
        "chance_of_target": plot.chance_of_target(
            [{"gpus": 4, "chance": 0.6, "chance_low_95": 0.5, "chance_high_95": 0.7}]
        ),
        "tornado": plot.tornado([("price", 2.0, 4.0)], base=3.0),
        "predicted_against_measured": plot.predicted_against_measured(rows),
        "sweep_points": plot.sweep_points([1, 2], [3, 4], xlabel="workload.concurrency", ylabel="tpot_s"),
        "decoding_methods": plot.decoding_methods({"methods": [
            {"method": name, "ttft_s": 0.1, "e2e_s": 2.0, "usd_per_answer": usd} for name, usd in (("greedy", 1e-4), ("beams", None))]}),
        "prefix_hits": plot.prefix_hits({
            "kv_tokens": 1e5, "now": {"hit_rate": 0.5}, "best": {"hit_rate": 0.7},
            "figure": {"hit_rate_by_cache_size": {"cache_tokens": [1e3, 1e6], "hit_rate": [0.1, 0.5], "best_hit_rate": [0.2, 0.7]}}}),
        "retrieval_stages": plot.retrieval_stages({"stages": [
            {"name": name, "latency_s": 0.005, "capacity_per_s": 3852.1} for name in ("embed query", "search")]}),
        "rag_waterfall": plot.rag_waterfall({"ttft_s": 0.4, "ttft_p95_s": 0.5, "stages": [
            {"name": "prefill", "start_s": 0.1, "latency_s": 0.2, "waited_s": 0.1, "p95_s": 0.4}]}),
        "rag_passages": plot.rag_passages({"passages": [2, 4], "chunk_tokens": [128.0], "points": [
            {"passages": 2, "chunk_tokens": 128.0, "ttft_s": 0.1}, {"passages": 4, "chunk_tokens": 128.0, "ttft_s": 0.2}]}),
        "decision_curve": plot.decision_curve({
            "over": "n", "over_unit": "", "your_value": 3.0, "usd_are_per": "query",
            "break_evens": [{"value": 2.0, "usd_per_query": 1.0}],
            "curve": {"over": [1.0, 4.0], "usd_per_query": {"a": [1.0, 1.0], "b": [2.0, None]}}}),
        "task_distribution": plot.task_distribution(agent_answer(), metric="usd"),
        "state_times": plot.state_times(agent_answer()),
        "scheme_comparison": plot.scheme_comparison(quantisation.answer(None, answer)),
        "adapters_and_room": plot.adapters_and_room(many.answer({"count": 300, "skew": 1.0}, answer)),
    }  # fmt: skip
    assert set(drawn) == set(plot.__all__)
    for name, axes in drawn.items():
        assert axes.get_xlabel(), name
        assert axes.get_ylabel() or len(axes.get_yticklabels()) > 0 or name == "memory_parts", name
        assert axes.has_data(), name


def agent_answer() -> AgentAnswer:
    tool = {
        "kind": "tool",
        "time": {"exponential": {"mean": "2 s"}},
        "price": "0.01 USD",
        "next": {"look": 0.7, "success": 0.3},
    }
    return agents.answer({"start": "look", "states": {"look": tool}}, runs=2000)


def test_figures_of_agents_and_adapters_show_what_is_asked(answer: Any) -> None:
    told = agent_answer()
    axes = plot.task_distribution(told, metric="elapsed_s")
    assert sum(bar.get_height() * 1.0 for bar in axes.patches) == pytest.approx(99.5, abs=0.6)
    assert "mean 6.67 s" in _texts(axes)
    assert _texts(axes) == _texts(plot.task_distribution(told.to_dict()))
    assert "100%, 3.33 visits" in _texts(plot.state_times(told))
    with pytest.raises(SpecError, match="no distribution of 'usdd' is kept; did you mean 'usd'"):
        plot.task_distribution(told, metric="usdd")
    schemes = quantisation.answer({"schemes": ["fp8", "nvfp4"]}, answer)
    axes = plot.scheme_comparison(schemes)
    assert len(axes.patches) == 4  # nvfp4 does not run on an H100
    for bar, most in zip(axes.patches[:2], axes.lines[0].get_xdata(), strict=True):
        assert bar.get_width() <= most * (1 + 1e-9)
    room = plot.adapters_and_room(many.answer({"count": 300}, answer))
    assert np.all(np.diff(room.lines[0].get_ydata()) <= 0)


def test_a_figure_is_drawn_on_the_axes_that_are_given(answer: Any) -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    assert plot.roofline(answer, ax=axes) is axes


def test_a_dictionary_read_back_gives_the_same_figure(answer: Any) -> None:
    import json

    stored = json.loads(json.dumps(answer.to_dict()))
    for draw in (plot.roofline, plot.step_breakdown, plot.kv_memory, plot.memory_parts):
        assert _texts(draw(answer)) == _texts(draw(stored))


def test_roofline_stands_on_the_data_sheet(answer: Any) -> None:
    axes = plot.roofline(answer)
    peak, slope = axes.lines[0], axes.lines[-1]
    assert peak.get_ydata()[0] == answer.machine.accelerator.peak_flops["bf16"]
    assert np.allclose(slope.get_ydata() / slope.get_xdata(), answer.machine.accelerator.memory.bandwidth)
    # no op is above its roof
    for op in answer.to_dict()["decode_step"]["ops"]:
        assert op["seconds"] * (1 + 1e-9) >= op["compute_floor_s"]


def test_bars_add_up_to_the_step(answer: Any) -> None:
    axes = plot.step_breakdown(answer)
    assert sum(bar.get_width() for bar in axes.patches) == pytest.approx(answer.decode_step.seconds)
    stacked = plot.step_comparison({"a": answer})
    assert sum(bar.get_width() for bar in stacked.patches) == pytest.approx(answer.decode_step.seconds)
    assert len(stacked.patches) == len(RESOURCES)


def test_load_shows_targets_and_the_case(answer: Any) -> None:
    told = answer.to_dict()
    axes = plot.latency_against_load(service_curve(answer), target=told["target"], at=told)
    assert "TTFT target 800 ms" in _texts(axes)
    assert "this case, 90% interval" in _texts(axes)
    columns = curve_columns(service_curve(answer))
    assert np.allclose(axes.lines[0].get_ydata(), columns["ttft_s"])
    with pytest.raises(SpecError, match="one case"):
        plot.latency_against_load(service_curve(answer, input_tokens=[100, 200]))


def test_kv_lines_end_at_the_pool(answer: Any) -> None:
    axes = plot.kv_memory(answer, batches=(1,))
    line = next(line for line in axes.lines if len(line.get_xdata()) > 2)
    longest = answer.memory.longest_context()
    assert line.get_xdata()[-1] == pytest.approx(longest, rel=1e-3)
    assert line.get_ydata()[-1] == pytest.approx(answer.memory.kv_pool, rel=1e-3)
    short = estimate("meta-llama/Llama-3.1-70B", "L40S")
    with pytest.raises(SpecError, match="does not fit"):
        plot.kv_memory(short)
    with pytest.raises(SpecError, match="does not fit"):
        plot.roofline(short)


def test_break_even_is_where_the_lines_cross() -> None:
    axes = plot.cost_against_utilisation([0.1, 0.5, 1.0], {"rent": [2, 2, 2], "own": [4, 2, 1]}, at=0.6)
    assert "break-even at 50%" in _texts(axes)
    assert "planned 60%" in _texts(axes)
    apart_ = plot.cost_against_utilisation([0.1, 1.0], {"rent": [2, 2], "own": [9, 3]})
    assert "break-even" not in _texts(apart_)


def test_tornado_puts_the_widest_on_top_and_says_what_is_out_of_reach() -> None:
    axes = plot.tornado([("small", 2.9, 3.2), ("large", 1.0, 6.0), ("lost", 2.0, None)], base=3.0)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["small", "large", "lost"]
    assert "out of reach" in _texts(axes)
    told = {"figure": "usd_per_year", "unit": "USD/year", "base": 3.0, "bars": [
        {"assumption": "price", "assumption_low": 1.0, "assumption_high": 2.0, "figure_at_low": 2.0, "figure_at_high": 4.0}]}  # fmt: skip
    assert plot.tornado(told).get_xlabel() == "usd per year [USD/year]"
    with pytest.raises(SpecError, match="base"):
        plot.tornado([("a", 1, 2)])


def test_a_distribution_reads_as_the_percentiles_do(run: Any) -> None:
    columns = quantiles(run)
    assert columns["ttft_s"][100] == pytest.approx(run.percentile("ttft", 50))
    assert columns["ttft_s"][190] == pytest.approx(run.percentile("ttft", 95))
    series = series_columns(run)
    assert len(series["time_s"]) <= 400
    assert max(series["kv_share"]) <= 1


def test_wrong_sources_are_told_apart() -> None:
    with pytest.raises(SpecError, match="from a result"):
        plot.roofline(3)
    with pytest.raises(SpecError, match="'middle' step; it has decode"):
        plot.step_breakdown({"decode_step": {}}, step="middle")
    with pytest.raises(AttributeError, match="no attribute 'rooflines'"):
        plot.rooflines  # noqa: B018


def test_texts_move_apart_as_little_as_they_must() -> None:
    places = [3.0, 3.0, 3.1, 9.0]
    moved = apart(places, 1.0)
    assert sorted(moved) == moved
    assert min(np.diff(moved)) == pytest.approx(1.0)
    assert moved[-1] == 9.0
    assert np.mean(moved[:3]) == pytest.approx(np.mean(places[:3]))


def test_ticks_read_as_a_person_writes() -> None:
    from matplotlib.figure import Figure

    axis = Figure().subplots().xaxis
    quantity_axis(axis, "s")
    assert axis.get_major_formatter()(0.005, 0) == "5 ms"
    quantity_axis(axis, "GiB")
    assert axis.get_major_formatter()(2**30, 0) == "1 GiB"


def test_a_drawing_in_a_page_follows_its_theme_and_links_nowhere(answer: Any) -> None:
    picture = Picture("fig", "Title <b>", "Alternative & more.", "Caption", lambda ax: plot.roofline(answer, ax=ax))
    found = inline(picture)
    assert "Title &lt;b&gt;" in found
    assert 'aria-label="Alternative &amp; more. Caption"' in found
    assert "http" not in found
    assert "font-family" not in found
    assert not re.search(r"#[0-9a-f]{6}", found)  # every colour is one of the page's
    ids = re.findall(r'\bid="([^"]+)"', found)
    assert len(ids) == len(set(ids))
    assert all(one.startswith("fig") for one in ids)
    assert {link for link in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', found) for link in link if link} <= set(ids)
    assert inline(picture) == found  # the same every time


@pytest.mark.parametrize("kind", FORMATS)
def test_figures_are_files(answer: Any, tmp_path: Any, kind: str) -> None:
    picture = Picture("fig", "Title", "Alt", "Caption", lambda ax: plot.step_breakdown(answer, ax=ax))
    (path,) = write_figures([picture], tmp_path / "new", kind)
    assert path.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")
    assert figure_of(picture).get_figwidth() > figure_of(picture, narrow=True).get_figwidth()
    with pytest.raises(SpecError, match="png or svg"):
        write_figures([picture], tmp_path, "gif")
