"""The search: laws it obeys, the best of every configuration, plans that hold when they are simulated, kind refusals."""

from __future__ import annotations

import functools
import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infersim import plan
from infersim.cli.app import main
from infersim.errors import DoesNotFitError, NoPlanError, SpecError
from infersim.planning.market import Market, Offer, Question, build_market
from infersim.planning.options import Plan
from infersim.planning.pareto import pareto_front
from infersim.planning.search import accelerators, scatter_of, traffic_of
from infersim.planning.service import Scatter, capacity_of, service_curve
from infersim.planning.space import SLOTS, TOKEN_BUDGETS, Setting, Tried, candidates, layouts, schemes
from infersim.planning.verify import missed, simulate_option
from infersim.predict.estimate import estimate
from infersim.serving.target import Limit, read_limits
from infersim.specs.deployment import EngineKnobs
from infersim.specs.huggingface import load_model

SMALL, LARGE, EXPERTS = "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-70B-Instruct", "Qwen/Qwen3-30B-A3B"
CHAT = {"input_tokens": 1000, "output_tokens": 300}
TARGET = "ttft_p95=800ms,tpot_p95=40ms"


@functools.lru_cache
def market(model: str = LARGE, gpus: str = "H100-SXM,L40S", max_devices: int = 32) -> Market:
    spec, setting, tried = load_model(model), Setting(1000.0, 300.0, 0.0, None, "calibrated", None), Tried()
    found = []
    for device in accelerators(gpus):
        found += candidates(
            spec,
            device,
            setting=setting,
            precisions=schemes(spec, device),
            engines=["vllm"],
            most=max_devices,
            tried=tried,
        )
    return build_market(found, pools=True)


def question(rate: float | None = 20.0, ttft: float = 0.8, tpot: float = 0.04, devices: int = 256) -> Question:
    return Question((Limit("ttft", 95.0, ttft), Limit("tpot", 95.0, tpot)), rate, devices, Scatter())


def cost(offer: Offer | None) -> float:
    return math.inf if offer is None else offer.cost


# -- laws ---------------------------------------------------------------------------------------------------------------

RATES, SECONDS = st.floats(0.05, 200), st.floats(0.005, 5)


@settings(max_examples=60, deadline=None)
@given(RATES, SECONDS, SECONDS, st.floats(1, 8))
def test_a_tighter_target_never_needs_fewer_gpus(rate: float, ttft: float, tpot: float, tighter: float) -> None:
    """Of two pools only TTFT is tightened: emptier decode replicas answer sooner, so that a loose TPOT can cost prefill replicas."""
    one = replace(market(gpus="H100-SXM"), pairings=())
    pools = market(gpus="H100-SXM")
    asked = [question(rate, ttft / by, tpot, 10**6) for by in (1.0, tighter)]
    pooled = [min((offer.devices for offer in pools.pooled(q)), default=math.inf) for q in asked]
    assert pooled[1] >= pooled[0]
    loose, tight_ttft, tight_tpot = (
        one.best(question(rate, first, each, 10**6))
        for first, each in ((ttft, tpot), (ttft / tighter, tpot), (ttft, tpot / tighter))
    )
    for tight in (tight_ttft, tight_tpot):
        assert tight is None or (loose is not None and tight.devices >= loose.devices)


@settings(max_examples=60, deadline=None)
@given(RATES, st.floats(1, 10), SECONDS)
def test_a_higher_load_never_needs_fewer_gpus(rate: float, more: float, tpot: float) -> None:
    low, high = (market().best(question(r, 2.0, tpot, 10**6)) for r in (rate, rate * more))
    assert cost(high) >= cost(low) - 1e-9


@settings(max_examples=60, deadline=None)
@given(RATES, SECONDS, st.floats(0, 1), st.sampled_from(["H100-SXM", "L40S"]))
def test_a_lower_price_never_raises_the_cost(rate: float, tpot: float, factor: float, cheaper: str) -> None:
    whole = market()
    scale = np.array([factor if one.machine.accelerator.name == cheaper else 1.0 for one in whole.deployments])
    asked = question(rate, 2.0, tpot, 10**6)
    assert cost(replace(whole, prices=whole.prices * scale).best(asked)) <= cost(whole.best(asked)) + 1e-9


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 64), st.integers(0, 64), SECONDS)
def test_more_gpus_never_serve_less(devices: int, more: int, tpot: float) -> None:
    def served(number: int) -> float:
        return max((offer.capacity for offer in market().offers(question(None, 2.0, tpot, number))), default=0.0)

    assert served(devices + more) >= served(devices) * (1 - 1e-9)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_configuration_is_cheaper_than_the_answer(data: st.DataObject) -> None:
    """Any feasible layout, format and setting of the engine, priced on its own, costs at least what the search found."""
    rate, ttft, tpot = data.draw(RATES), data.draw(st.floats(0.1, 3)), data.draw(st.floats(0.01, 0.2))
    gpu = data.draw(st.sampled_from(["H100-SXM", "L40S"]))
    layout = data.draw(st.sampled_from(layouts(load_model(LARGE), 8, 32, slow_links=gpu == "L40S")))
    budget, slots = data.draw(st.sampled_from([None, *TOKEN_BUDGETS])), data.draw(st.sampled_from([None, *SLOTS]))
    if budget is not None and slots is not None:
        slots = None
    knobs = EngineKnobs(max_num_batched_tokens=budget, max_num_seqs=slots)
    one = estimate(
        LARGE, gpu, tensor_parallel=layout.tensor, pipeline_parallel=layout.pipeline, precision=data.draw(st.sampled_from([None, "fp8"])),
        knobs=knobs, **CHAT,
    )  # fmt: skip
    if not one.fits or (budget is not None and budget < one.machine.max_num_seqs):
        return
    asked = question(rate, ttft, tpot, 10**6)
    sustained = float(capacity_of(service_curve(one), asked.limits).rate)
    if sustained > 0:
        assert one.price_per_hour is not None
        paid = math.ceil(rate / sustained * (1 - 1e-9)) * one.parallelism.devices_per_replica * one.price_per_hour
        assert cost(market().best(asked)) <= paid + 1e-6


@settings(max_examples=80, deadline=None)
@given(st.integers(2, 4), st.lists(st.lists(st.integers(0, 6), min_size=4, max_size=4), min_size=1, max_size=40))
def test_pareto_front_is_all_that_is_not_dominated(columns: int, rows: list[list[int]]) -> None:
    points = [tuple(row[:columns]) for row in rows]
    front = pareto_front(np.array(points, dtype=float)).tolist()
    kept = {points[index] for index in front}
    for point in points:
        beaten = any(all(a >= b for a, b in zip(other, point, strict=True)) and other != point for other in points)
        assert (point in kept) != beaten
    assert len(front) == len(kept)


def test_front_of_a_plan_has_no_dominated_point() -> None:
    front = plan(LARGE, "H100-SXM,B200-SXM", request_rate=20, verify=0, target="ttft_p95=1s", **CHAT).front
    assert len(front) > 10
    for one, other in itertools.permutations(front, 2):
        assert not (
            other.tokens_per_second_per_user >= one.tokens_per_second_per_user
            and other.tokens_per_second_per_gpu >= one.tokens_per_second_per_gpu
            and (other.cost_per_million_tokens or 0) <= (one.cost_per_million_tokens or 0)
            and (other.tokens_per_second_per_user, other.tokens_per_second_per_gpu)
            != (one.tokens_per_second_per_user, one.tokens_per_second_per_gpu)
        )


# -- the closed form against one thing at a time --------------------------------------------------------------------------


def test_curves_of_variants_are_the_curves_one_by_one() -> None:
    whole = market(EXPERTS, "H100-SXM", 8)
    for row in range(0, len(whole.deployments), 5):
        alone = service_curve(whole.deployments[row])
        for name in ("rate", "ttft", "tpot"):
            assert np.allclose(getattr(whole.curves, name)[row], getattr(alone, name), rtol=1e-9), (row, name)


def test_capacity_is_where_the_limit_is_met() -> None:
    one = estimate(LARGE, "H100-SXM", tensor_parallel=4, precision="fp8", **CHAT)
    curve = service_curve(one)
    for text in ("ttft_p95=300ms", "tpot=30ms", "e2e_p50=12s", "tpot_p99=25ms"):
        (limit,) = read_limits(text)
        found = capacity_of(curve, (limit,))
        there = curve.at(found.rate)
        assert float(getattr(there, limit.metric)) * Scatter().factor(limit) == pytest.approx(limit.seconds, rel=0.02)
        assert found.bound == 0


def test_closed_form_capacity_is_near_the_simulated_one() -> None:
    """Two dense deployments: the simulator serves the closed form's rate within 15%."""
    from infersim import Traffic, capacity
    from infersim.serving.arrivals import poisson

    for gpu, tensor in (("H100-SXM", 4), ("B200-SXM", 1)):
        one = estimate(LARGE, gpu, tensor_parallel=tensor, precision="fp8", **CHAT)
        limits = read_limits(TARGET)
        closed = float(capacity_of(service_curve(one), limits).rate)
        seen = capacity(one, Traffic(**CHAT, arrivals=poisson(1), num_requests=1500), limits, tolerance=0.05)
        assert closed == pytest.approx(seen.rate, rel=0.15)


# -- plans ----------------------------------------------------------------------------------------------------------------


@functools.lru_cache
def chat_plan() -> Plan:
    return plan(LARGE, "H100-SXM,H200-SXM,B200-SXM", request_rate=20, target=TARGET, verify=2, **CHAT)


def test_the_best_options_hold_under_another_seed() -> None:
    """Their targets are met by a run with other draws, give or take 5%, and replicas are not wasted."""
    best = chat_plan().best
    assert best.verified is not None
    assert missed(best.verified) == []
    stream = traffic_of(None, 1000, 300, 0.0, 20.0)
    again = simulate_option(best, stream, seed=7).settled()
    assert all(again.statistic(limit) <= 1.05 * limit.seconds for limit in best.limits)


def test_options_are_ranked_by_cost_and_fit_with_a_margin() -> None:
    found = chat_plan()
    costs = [option.cost_per_hour for option in found.options if option.cost_per_hour is not None]
    assert costs == sorted(costs)
    for option in found.options:
        assert option.deployment.memory.fits
        assert option.memory_spare > 0
        assert 0 <= option.memory_margin <= 1
        assert option.capacity >= option.request_rate * (1 - 1e-9)


def test_bottlenecks_are_what_bounds() -> None:
    option = next(o for o in chat_plan().options if o.prefill is None and o.bound.startswith("tpot"))
    parts = option.deployment.decode_step.parts()
    assert option.bottleneck in ("memory bandwidth", "compute", "network", "kernel launches", "the host")
    assert max(parts, key=lambda part: float(part.seconds)).bound == option.resource


def test_a_price_flip_flips() -> None:
    """At a price just below the one stated the other option is the best, just above it is not."""
    found = plan(LARGE, "H100-SXM,B200-SXM", request_rate=20, target=TARGET, verify=0, **CHAT)
    winner = found.best.gpu
    (line,) = [f for f in found.flips if f.startswith("price of") and "below" in f]
    rival = line.split()[2]
    value = float(line.split("below ")[1].split()[0])
    for factor, expected in ((0.99, rival), (1.01, winner)):
        prices = {rival: value * factor}
        again = plan(LARGE, "H100-SXM,B200-SXM", request_rate=20, target=TARGET, verify=0, prices=prices, **CHAT)
        assert again.best.gpu == expected


def test_a_load_flip_flips() -> None:
    found = plan(LARGE, "H100-SXM", request_rate=20, target=TARGET, verify=0, max_gpus=512, **CHAT)
    line = next(f for f in found.flips if f.startswith("load above"))
    value = float(line.split("above ")[1].split()[0])
    before, after = (
        plan(LARGE, "H100-SXM", request_rate=value * f, target=TARGET, verify=0, max_gpus=512, **CHAT).best
        for f in (0.98, 1.02)
    )
    assert (before.deployment.parallelism, before.prefill is None, before.deployment.precision) != (
        after.deployment.parallelism, after.prefill is None, after.deployment.precision)  # fmt: skip


def test_acceptance_is_a_flip_where_drafts_win() -> None:
    found = plan(
        SMALL, "H100-SXM", request_rate=30, target="tpot=6ms", verify=0, pools="aggregated", precision="bf16",
        speculation="method=ngram,num_speculative_tokens=3,acceptance=0.8", **CHAT,
    )  # fmt: skip
    assert found.best.deployment.drafter is not None
    line = next(f for f in found.flips if f.startswith("acceptance"))
    value = float(line.split("below ")[1].split("%")[0]) / 100
    assert 0 < value < 0.8


def test_without_a_rate_the_devices_are_filled() -> None:
    found = plan(LARGE, "H100-SXM", max_gpus=16, target=TARGET, verify=1, **CHAT)
    assert found.best.devices <= 16
    assert found.best.verified is not None
    assert missed(found.best.verified) == []


def test_experts_take_expert_parallel_layouts_and_two_pools() -> None:
    found = plan("deepseek-ai/DeepSeek-V3", "H200-SXM", request_rate=10, target="ttft_p95=2s,tpot_p95=50ms", max_gpus=32, verify=0,
                 input_tokens=2000, output_tokens=500)  # fmt: skip
    assert any(option.deployment.parallelism.expert > 1 for option in found.options)
    assert any(option.prefill is not None for option in found.options)


def test_owned_gpus_are_ranked_by_what_owning_costs() -> None:
    """The price of an hour is that of the cost report, give or take the electricity of a device that does not draw all its power."""
    from infersim import cost
    from infersim.specs.economics import ownership

    found = plan(LARGE, "H100-SXM,H200-SXM", request_rate=20, target=TARGET, terms="buy", verify=0, **CHAT).best
    assert found.price_per_hour is not None
    assert "owned in us" in found.deployment.price_source
    report = cost(found, request_rate=20, terms=ownership())
    assert 0.9 < report.hour.usd / found.price_per_hour <= 1


def test_a_limit_on_e2e_leaves_two_pools_time_for_prompts() -> None:
    found = plan(LARGE, "H100-SXM", request_rate=5, target="e2e=12s", pools="disaggregated", verify=0, **CHAT).best
    assert found.prefill is not None
    assert found.e2e <= 12


def test_cards_without_a_network_make_no_pools_across_nodes() -> None:
    """No link joins a prefill node with a decode node: without a target too, only what fits one machine is offered as pools."""
    found = plan(SMALL, "RTX-4090", request_rate=10, precision="fp8", verify=0, **CHAT)
    assert all(option.ttft < 10 for option in found.options)


def test_an_embedding_model_is_planned_in_closed_form() -> None:
    found = plan("BAAI/bge-large-en-v1.5", "L4,L40S", input_tokens=256, request_rate=500, target="e2e_p95=100ms")
    assert found.best.verified is None
    assert found.best.prefill is None
    assert found.best.tokens_per_second == 500 * 256


def test_a_shared_prefix_needs_fewer_gpus() -> None:
    plain, shared = (
        plan(LARGE, "H100-SXM", request_rate=20, input_tokens=8000, output_tokens=300, prefix_hit=hit, target="tpot_p95=50ms", verify=1,
             max_gpus=256).best.devices
        for hit in (0.0, 0.9)
    )  # fmt: skip
    assert shared < plain


def test_lengths_that_differ_scatter_more() -> None:
    fixed, spread = (
        scatter_of(traffic_of(None, length, 300, 0.0, 1.0))[0]
        for length in (1000, {"lognormal": {"mean": 1000, "cv": 1.0}})
    )
    assert spread.ttft > 2 * fixed.ttft


# -- refusals -----------------------------------------------------------------------------------------------------------


def test_an_unreachable_target_says_what_is_reached() -> None:
    with pytest.raises(
        NoPlanError, match=r"tpot_p95 5 ms is below what any reaches; the shortest is 1\d\.\d ms, .*one user alone"
    ):
        plan(LARGE, "H100-SXM", request_rate=20, target="tpot_p95=5ms", **CHAT)


def test_too_few_devices_says_how_many() -> None:
    with pytest.raises(NoPlanError, match=r"need \d+ devices .* more than max_gpus 8; 8 serve [\d.]+ requests/s"):
        plan(LARGE, "H100-SXM", request_rate=500, target=TARGET, max_gpus=8, **CHAT)


def test_what_does_not_fit_says_what_would() -> None:
    with pytest.raises(DoesNotFitError, match=r"none of 4 deployments fits; .*short by .* fits with TP 2 or w4a16"):
        plan(LARGE, "L40S", request_rate=2, max_gpus=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"request_rate": 0}, "request_rate: must be above 0, got 0"),
        ({"request_rate": math.nan}, "request_rate: must be above 0, got nan"),
        ({"max_gpus": 0}, "max_gpus: must be above 0"),
        ({"pools": "split"}, "pools: is one of both, aggregated, disaggregated"),
        ({"prefix_hit": 1.0}, "prefix_hit: is a share"),
        ({"gpus": ""}, "gpus: name at least one accelerator"),
        ({"gpus": "H10"}, "no accelerator is called 'H10'"),
        ({"target": "ttft_p95"}, "target: write a target as"),
        ({"engine": "vlm"}, "no engine is called 'vlm'"),
    ],
)
def test_bad_input_is_answered_kindly(change: dict[str, object], message: str) -> None:
    given_values: dict[str, object] = {"gpus": "H100-SXM", "request_rate": 5, **change}
    with pytest.raises((SpecError, NoPlanError), match=message):
        plan(SMALL, **given_values)  # type: ignore[arg-type]


# -- the command line ---------------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


def test_command_prints_answer_reasons_and_flips(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "plan", SMALL, "--gpu", "H100-SXM,L40S", "-r", "10", "--target", TARGET, "--verify", "1", "--front",
                       "--sources")  # fmt: skip
    assert code == 0
    for word in (
        "10 requests/s",
        "GPU",
        "USD/h",
        "What would change the answer",
        "Pareto front",
        "simulated",
        "rests on",
    ):
        assert word in out


def test_command_writes_json_and_csv(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("plan", SMALL, "--gpu", "H100-SXM", "-r", "10", "--verify", "0")
    _, out, _ = run(capsys, *arguments, "--json")
    answer = json.loads(out)
    assert answer["options"][0]["devices"] >= 1
    assert {"ttft_s", "cost_per_hour_usd", "kv_pool_free"} <= set(answer["options"][0])
    _, table, _ = run(capsys, *arguments, "--csv")
    assert len(table.splitlines()) == len(answer["options"]) + 1


def test_command_takes_prices_and_refuses_bad_ones(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(
        capsys, "plan", SMALL, "--gpu", "H100-SXM", "-r", "10", "--verify", "0", "--price", "h100=1.5", "--json"
    )
    assert (code, json.loads(out)["options"][0]["price_per_gpu_hour_usd"]) == (0, 1.5)
    code, _, err = run(capsys, "plan", SMALL, "--gpu", "H100-SXM", "--price", "H100-SXM=cheap")
    assert code == 2
    assert "write USD per GPU and hour as H100-SXM=2.10" in err


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "plan", LARGE, "--gpu", "H100-SXM", "-r", "20", "--target", "tpot=1ms")[0] == 1
    assert run(capsys, "plan", LARGE)[0] == 2
