"""RAG pipelines: worked arithmetic, queues against simulation, sizes against all combinations, laws, kind refusals."""

from __future__ import annotations

import heapq
import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import infersim
from infersim import estimate
from infersim.errors import DoesNotFitError, InferSimError, NoPlanError, SpecError
from infersim.planning.calls import Deployed
from infersim.planning.ownership import HOURS_PER_MONTH
from infersim.rag.answer import RagAnswer, _plan, answer
from infersim.rag.reuse import computed_tokens, load_seconds, store_bytes
from infersim.rag.sizing import candidates, cost
from infersim.rag.spec import Pipeline
from infersim.rag.sweep import sweep
from infersim.rag.waits import NONE, Scattered, Wait, percentile_of_sum, stage_wait
from infersim.retrieval.answer import answer as retrieve
from infersim.serving.arrivals import poisson
from infersim.serving.queueing import mmc_wait

DEPLOYED = estimate("meta-llama/Llama-3.1-8B", "H100-SXM")
RETRIEVAL: dict[str, Any] = {
    "corpus": {"documents": 200_000, "document_tokens": 2000, "changed_per_day": 0.01},
    "embedder": {"model": "BAAI/bge-base-en-v1.5", "hardware": "L4"},
    "index": {"preset": "faiss-hnsw", "host_hour": "1 USD"},
    "reranker": {"model": "BAAI/bge-reranker-v2-m3", "hardware": "L4"},
    "queries_per_second": 20, "top_k": 8,
}  # fmt: skip


def piped(retrieval: dict[str, Any] | None = None, **more: Any) -> RagAnswer:
    return answer({"retrieval": RETRIEVAL | (retrieval or {}), **more}, DEPLOYED)


def by_name(found: RagAnswer) -> dict[str, Any]:
    return {stage.name: stage for stage in found.stages}


# worked arithmetic


def test_reused_passages_are_computed_to_15_percent() -> None:
    """CacheBlend (arXiv:2405.16444) computes about 15% of the tokens again: r t_prefill + load; 131,072 B a token of Llama-3.1-8B."""
    assert float(computed_tokens(4000, 1.0, 0.15)) == pytest.approx(600)
    assert float(load_seconds(4000, 1.0, 131_072, 55.4e9)) == pytest.approx(9.46e-3, rel=1e-3)
    blended = by_name(piped(system_tokens=0, reuse={"recompute": 0.15}))
    hit = 0.85 * 4096 / 4128
    alone = estimate("meta-llama/Llama-3.1-8B", "H100-SXM", input_tokens=4128, output_tokens=300, prefix_hit=hit)
    assert blended["prefill"].seconds == pytest.approx(alone.ttft, rel=1e-6)
    assert blended["load KV"].seconds == pytest.approx(4096 * 131_072 / DEPLOYED.machine.host_copy_bandwidth)
    assert float(store_bytes(400e6, 0.5, 131_072)) == pytest.approx(26.2e12, rel=1e-3)


def test_ttft_is_the_sum_of_network_rewrite_embed_search_fetch_load_rerank_and_prefill() -> None:
    found = piped(rewrite={"searches": 2}, reuse={}, network="30 ms", fetch="7 ms")
    assert [stage.name for stage in found.stages] == [
        "network", "rewrite", "embed query", "search", "fetch", "rerank", "load KV", "prefill", "generate",
    ]  # fmt: skip
    assert found.ttft == pytest.approx(math.fsum(stage.mean for stage in found.stages[:-1]))
    assert found.e2e == pytest.approx(found.ttft + found.stages[-1].mean)
    rows = found.waterfall()
    for before, after in itertools.pairwise(rows):
        assert after["start_s"] == pytest.approx(before["start_s"] + before["latency_s"] + before["waited_s"])
    alone = retrieve(found.spec.retrieval)
    stages = by_name(found)
    for stage in alone.stages:
        assert stages[stage.name].seconds == stage.seconds
    assert stages["network"].mean == 0.03
    assert stages["fetch"].mean == 0.007


def test_money_is_that_of_the_devices_around_the_clock() -> None:
    found = piped()
    devices = {"embed query": "L4", "rerank": "L4", "prefill": "H100-SXM"}
    total = 0.0
    for name, stage in by_name(found).items():
        if stage.devices:
            hour = 1.0 if name == "search" else infersim.load_accelerator(devices[name]).price_per_hour.per_hour  # type: ignore[union-attr]
            assert found.month(stage) == pytest.approx(hour * stage.devices * stage.copies * HOURS_PER_MONTH)
            total += found.month(stage) or 0.0
    assert found.upkeep_per_month == pytest.approx(found.retrieval.ingestion.usd_per_month)
    assert found.usd_per_month == pytest.approx(total + (found.upkeep_per_month or 0.0))
    assert found.usd_per_query == pytest.approx((found.usd_per_month or 0.0) / (20 * HOURS_PER_MONTH * 3600))
    half = piped(mean_load=0.5)
    assert half.usd_per_month == pytest.approx(found.usd_per_month)
    assert half.usd_per_query == pytest.approx(2 * (found.usd_per_query or 0.0))


def test_the_weakest_stage_sets_the_rate() -> None:
    found = piped()
    assert found.capacity == pytest.approx(min(stage.capacity for stage in found.stages if stage.devices))
    assert found.capacity == found.weakest.capacity >= 20
    several = piped(rewrite={"model": {"model": "meta-llama/Llama-3.2-1B", "hardware": "L4"}, "searches": 4})
    assert by_name(several)["search"].load == 80
    assert by_name(several)["rerank"].load == 20


# queues


def test_a_stage_waits_as_m_m_c_does() -> None:
    for copies, rate in ((1, 0.7), (4, 3.2), (8, 6.4)):
        assert stage_wait(rate, 1.0, 1.0, copies).mean == pytest.approx(mmc_wait(copies, rate, 1.0))
    assert stage_wait(100.0, 0.02, 200.0).mean == pytest.approx(
        mmc_wait(4, 100.0, 0.02)
    )  # 200/s of 20 ms: four at once
    assert stage_wait(1e5, 0.01, 1e6, 10).mean < 1e-9
    with pytest.raises(SpecError, match="outrun 2 copies"):
        stage_wait(3.0, 1.0, 1.0, 2)


def test_the_percentile_of_a_sum_is_that_of_the_convolution() -> None:
    from scipy import stats

    for percent in (50, 90, 95, 99):
        erlang = float(stats.gamma(3).ppf(percent / 100))
        assert percentile_of_sum([Wait(1.0, 1.0)] * 3, percent) == pytest.approx(erlang, rel=3e-3)
        one = Wait(0.6, 2.0)
        assert percentile_of_sum([one], percent) == pytest.approx(one.percentile(percent), abs=0.02)
        lone = Scattered(1.0, 0.35)
        assert percentile_of_sum([lone, NONE], percent) == pytest.approx(lone.percentile(percent), rel=5e-3)
    rng = np.random.default_rng(3)
    drawn = rng.exponential(1.0, 400_000) * (rng.random(400_000) < 0.6) + rng.lognormal(
        math.log(2) - math.log1p(0.09) / 2, math.sqrt(math.log1p(0.09)), 400_000
    )
    found = percentile_of_sum([Wait(0.6, 1.0), Scattered(2.0, 0.3)], 95)
    assert found == pytest.approx(float(np.percentile(drawn, 95)), rel=0.01)
    assert percentile_of_sum([], 95) == percentile_of_sum([NONE], 95) == 0.0


def test_queues_in_a_row_are_nearly_independent() -> None:
    """Two stations of two servers at 80%, simulated: the 95th percentile of both waits together is that of independent ones."""
    rng = np.random.default_rng(11)
    count, rate = 120_000, 1.6
    arrival = np.cumsum(rng.exponential(1 / rate, count))
    waited = np.zeros(count)
    for _ in range(2):
        free = [0.0, 0.0]
        left = np.empty(count)
        for place in np.argsort(arrival, kind="stable"):
            start = max(arrival[place], heapq.heappop(free))
            waited[place] += start - arrival[place]
            left[place] = start + rng.exponential(1.0)
            heapq.heappush(free, left[place])
        arrival = left
    one = stage_wait(rate, 1.0, 1.0, 2)
    assert float(waited.mean()) == pytest.approx(2 * one.mean, rel=0.08)
    assert percentile_of_sum([one, one], 95) == pytest.approx(float(np.percentile(waited, 95)), rel=0.08)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(1e-3, 10)), min_size=1, max_size=5), st.floats(50, 99.5))
def test_a_sum_exceeds_its_parts_and_rises_with_the_percentile(
    parts: list[tuple[float, float]], percent: float
) -> None:
    waits = [Wait(chance, mean) for chance, mean in parts]
    found = percentile_of_sum(waits, percent)
    step = sum(wait.most for wait in waits) / 1000
    assert found >= max(wait.percentile(percent) for wait in waits) - step
    assert percentile_of_sum(waits, percent + 0.4) >= found
    assert percentile_of_sum([*waits, Wait(0.5, 1.0)], percent) >= found - step


def test_the_closed_form_of_the_generator_agrees_with_the_simulator() -> None:
    """Poisson questions to one replica: mean TTFT and decoding within 8%, the 95th percentile within 20%."""
    found = piped()
    stages = by_name(found)
    rate = 20 / stages["prefill"].copies
    traffic = infersim.Traffic(arrivals=poisson(rate), input_tokens=4128,
                               output_tokens=300, num_requests=1500)  # fmt: skip
    run = infersim.simulate("meta-llama/Llama-3.1-8B", "H100-SXM", traffic)
    assert stages["prefill"].mean == pytest.approx(run.mean("ttft"), rel=0.08)
    assert stages["prefill"].percentile(95) == pytest.approx(run.percentile("ttft", 95), rel=0.2)
    assert stages["generate"].mean == pytest.approx(run.mean("e2e") - run.mean("ttft"), rel=0.08)


# sizes


def test_sizes_are_the_cheapest_of_all_combinations() -> None:
    spec = Pipeline.model_validate({"retrieval": RETRIEVAL, "target": "ttft_p95=800ms"})
    found = answer(spec, DEPLOYED)
    assert not found.missed
    plan = _plan(spec, DEPLOYED)[0]
    options = [candidates(station) for station in plan.stations]
    best = math.inf
    for combination in itertools.product(*options):
        stages = plan.in_order(combination)
        one = RagAnswer(spec, found.retrieval, stages, "", 0, 0, 0, plan.tpot(combination[-1].copies), found.limits)
        if not one.missed:
            best = min(best, sum(map(cost, combination)))
    assert sum(cost(stage) for stage in found.stages if stage.devices) == pytest.approx(best)
    assert {stage.name: stage.bound for stage in found.stages if stage.devices}["prefill"] == "target"


def test_a_tighter_target_and_a_higher_rate_take_no_fewer_devices() -> None:
    def devices(**more: Any) -> int:
        found = piped(more.pop("retrieval", None), **more)
        return sum(stage.devices * stage.copies for stage in found.stages)

    assert devices() <= devices(target="ttft_p95=850ms") <= devices(target="ttft_p95=790ms")
    assert devices(retrieval={"queries_per_second": 5}) <= devices() <= devices(retrieval={"queries_per_second": 100})
    loose, tight = (piped(target=f"tpot={limit}ms") for limit in (30, 9))
    assert tight.tpot <= 0.009 < loose.tpot <= 0.03


def test_a_target_that_no_size_meets_says_what_takes_the_time() -> None:
    with pytest.raises(NoPlanError, match=r"ttft is .* not 300 ms; most of TTFT is rerank"):
        piped(target="ttft=300ms")


def test_a_limit_of_the_scenario_holds_where_the_pipeline_has_none() -> None:
    from infersim.serving.target import read_limits

    spec = {"retrieval": RETRIEVAL}
    with pytest.raises(NoPlanError):
        answer(spec, DEPLOYED, limits=read_limits("ttft=300ms"))
    assert not answer({**spec, "target": "ttft=2s"}, DEPLOYED, limits=read_limits("ttft=300ms")).missed


# what a pipeline is made of


def test_reuse_of_nothing_is_no_reuse_and_of_everything_is_faster() -> None:
    plain, none = piped(), piped(reuse={"stored": 0.0})
    assert none.ttft == pytest.approx(plain.ttft)
    assert none.store_bytes == 0
    again = piped(reuse={"recompute": 1.0})
    assert by_name(again)["prefill"].seconds == pytest.approx(by_name(plain)["prefill"].seconds)
    most = piped(reuse={"recompute": 0.15, "bandwidth": "50 GB/s"})
    assert most.computed_tokens == pytest.approx(4628 - 500 - 0.85 * 4096)
    assert most.ttft < plain.ttft
    assert (most.usd_per_month or 0) <= (plain.usd_per_month or 0)
    assert most.store_bytes == pytest.approx(most.retrieval.ingestion.tokens * 131_072)
    with pytest.raises(SpecError, match="on own devices only"):
        piped(reuse={}, generator="3,0.3,15")


def test_a_rewrite_costs_its_call_and_loads_the_generator() -> None:
    plain, itself = piped(), piped(rewrite={})
    stages = by_name(itself)
    assert (
        stages["prefill"].capacity / stages["prefill"].copies
        < by_name(plain)["prefill"].capacity / by_name(plain)["prefill"].copies
    )
    own = piped(rewrite={"model": {"model": "meta-llama/Llama-3.2-1B", "hardware": "L4"}})
    assert by_name(own)["rewrite"].copies >= 1
    assert by_name(own)["rewrite"].devices == 1
    api = piped(rewrite={"model": "0.15,0.6"})
    assert by_name(api)["rewrite"].charged == pytest.approx((200 * 0.15 + 40 * 0.6) / 1e6)


def test_an_api_generates_at_any_rate_and_is_paid_by_the_token() -> None:
    found = piped(generator="3,0.3,15", system_cached=1.0)
    prefill = by_name(found)["prefill"]
    assert prefill.charged == pytest.approx((4128 * 3 + 500 * 0.3 + 300 * 15) / 1e6)
    assert found.month(prefill) == pytest.approx(prefill.charged * 20 * HOURS_PER_MONTH * 3600)
    assert found.weakest.name != "prefill"
    assert found.tpot == pytest.approx(0.015)


def test_the_generator_is_the_closed_form_at_its_share_of_the_rate() -> None:
    found = piped(system_cached=0.0)
    copies = by_name(found)["prefill"].copies
    placed = estimate(
        "meta-llama/Llama-3.1-8B", "H100-SXM", input_tokens=4628, output_tokens=300, concurrency=20 / copies * 4.4
    )
    assert by_name(found)["prefill"].mean == pytest.approx(placed.ttft, rel=0.15)
    call = Deployed(placed).call(4628, 300)
    assert found.stages[-1].mean == pytest.approx(float(call.e2e - call.ttft), rel=0.15)


def test_an_index_larger_than_its_host_is_refused() -> None:
    with pytest.raises(DoesNotFitError, match="int8 or binary codes"):
        piped({"corpus": {"documents": 5e9, "document_tokens": 2000}})


def test_a_device_without_a_price_leaves_the_cost_open() -> None:
    from dataclasses import replace

    found = answer({"retrieval": RETRIEVAL}, replace(DEPLOYED, price_per_hour=None))
    assert found.usd_per_month is None
    assert found.to_dict()["usd_per_query"] is None
    assert "-" in str(found)


def test_answers_are_plain_values_and_tables_of_80_columns() -> None:
    for more in (
        {},
        {"generator": "3,0.3,15"},
        {"rewrite": {"searches": 3}, "reuse": {}, "target": "ttft_p95=2s,e2e=20s"},
    ):
        found = piped(**more)
        told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert told["ttft_s"] == found.ttft < told["ttft_p95_s"] < told["e2e_p95_s"]
        assert [stage["name"] for stage in told["stages"]] == [stage.name for stage in found.stages]
        assert max(map(len, str(found).splitlines())) <= 80
        assert any("assumed" in line for line in told["sources"])


# over passages and chunks


def test_a_sweep_has_the_answer_of_every_point() -> None:
    found = sweep({"retrieval": RETRIEVAL}, DEPLOYED, passages=[2, 8, 16], chunks=[128, 448, 1024])
    single = piped({"corpus": RETRIEVAL["corpus"] | {"chunk": 128, "overlap": 16}}, passages=2)
    assert found["ttft"][0, 0] == pytest.approx(single.ttft)
    assert found["usd_per_query"][0, 0] == pytest.approx(single.usd_per_query)
    assert np.isnan(found["ttft"][:, 2]).all()  # longer than the embedder reads
    assert "512" in found.refused[2, 1024.0]
    assert (np.diff(found["prompt_tokens"][:, :2], axis=0) > 0).all()
    assert (np.diff(found["ttft"][:, :2], axis=0) > 0).all()
    assert len(found.rows()) == 9
    assert json.dumps(found.to_dict(), allow_nan=False)
    assert max(map(len, str(found).splitlines())) <= 80


def test_axes_of_a_sweep_rise() -> None:
    with pytest.raises(SpecError, match="rising list"):
        sweep({"retrieval": RETRIEVAL}, DEPLOYED, passages=[8, 2], chunks=[128])
    with pytest.raises(SpecError, match="512"):
        sweep({"retrieval": RETRIEVAL}, DEPLOYED, passages=[8], chunks=[1024])


# bad input


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"passages": 200}, "only 50 are found"),
        ({"target": "ttfd=1s"}, "ttft"),
        ({"rewrite": {"serches": 2}}, "did you mean 'searches'"),
        ({"generator": {"model": "BAAI/bge-base-en-v1.5", "hardware": "L4"}}, "does not generate"),
        ({"generator": {"prices": "3,15", "context": 1000}}, "more than the 1,000"),
        ({"system_tokens": 200_000}, "more than the"),
        ({"system_tokens": 1e8}, "input_tokens"),
        ({"network": "5"}, "quantity in s"),
        ({"system_cached": 1.5}, "less than or equal to 1"),
        ({"mean_load": 0}, "greater than 0"),
    ],
)
def test_refusals_say_what_would_be_right(more: dict[str, Any], said: str) -> None:
    with pytest.raises(InferSimError, match=said):
        piped(**more)


def test_a_generator_is_needed_and_must_fit() -> None:
    with pytest.raises(SpecError, match=r"generator: is needed"):
        answer({"retrieval": RETRIEVAL})
    with pytest.raises(DoesNotFitError):
        answer({"retrieval": RETRIEVAL}, estimate("meta-llama/Llama-3.1-70B", "L4"))


# pictures


def test_figures_say_what_they_show() -> None:
    plot = infersim.plot
    found = piped()
    for drawn in (plot.rag_waterfall(found), plot.rag_waterfall(found.to_dict(), whole=True)):
        assert drawn.get_xlabel() == "time since the question"
        assert any(label.get_text().startswith("rerank") for label in drawn.get_yticklabels())
    swept = sweep({"retrieval": RETRIEVAL}, DEPLOYED, passages=[2, 8], chunks=[128, 448])
    assert plot.rag_passages(swept, limit=0.5).get_ylabel() == "TTFT"
    assert plot.rag_passages(swept.to_dict(), figure="usd_per_query").get_ylabel().startswith("USD")
    with pytest.raises(SpecError, match="did you mean 'ttft_s'"):
        plot.rag_passages(swept, figure="ttft")


def test_decisions_are_drawn_with_their_break_even_points() -> None:
    from infersim.decide.answer import answer as decided

    plot = infersim.plot
    for asked in ({"question": "rag-vs-long-context", "model": "3,0.3,15", "assume": {"hit_rate": 0.9}},
                  {"question": "cascade", "model": "3,0.3,15", "small": "0.15,0.6"}):  # fmt: skip
        found = decided(asked)
        axes = plot.decision_curve(found.to_dict())
        texts = [text.get_text() for text in axes.texts]
        assert {*found.names} <= set(texts)
        assert any(text.startswith("you: ") for text in texts)
        assert axes.get_ylabel() == "USD per query"
