"""Agents: closed form against arithmetic and against simulation, guards, caches, parallel branches, crowds, kind errors."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infersim import estimate, load_scenario
from infersim.agents import AgentAnswer, answer, read_workflow
from infersim.agents.closed_loop import knee, mean_value_analysis, response_bound, throughput_bound
from infersim.agents.growth import prefilled_tokens
from infersim.agents.markov import Chain, constant_charges, expected_visits, reward_moments
from infersim.agents.moments import mean_and_variance
from infersim.agents.policies import (
    act_and_retry,
    attempts,
    cascade,
    cascade_break_even,
    clarifying_gain,
    judge_sample_size,
    router,
)
from infersim.agents.residency import residency, survival
from infersim.agents.spec import as_workflow
from infersim.agents.walk import METRICS
from infersim.errors import SpecError
from infersim.planning.calls import Deployed
from infersim.scenario.questions import LAYERS, load
from infersim.serving.durations import as_time, split
from infersim.serving.lengths import as_lengths

API = {
    "prices": {"input": 3.0, "cached_input": 0.3, "output": 15.0},
    "ttft": "0.5 s",
    "tpot": "10 ms",
    "prefill_rate": 10000.0,
}


def tool(seconds: Any, following: Any, **more: Any) -> dict[str, Any]:
    return {"kind": "tool", "time": seconds, "next": following, **more}


def call(new: Any, output: Any, following: Any, **more: Any) -> dict[str, Any]:
    return {"kind": "llm", "model": "api", "input_tokens": new, "output_tokens": output, "next": following, **more}


# -- values that can be checked by hand ------------------------------------------------------------------------------------


def test_kemeny_and_snell_one_state_that_stays_with_chance_four_fifths() -> None:
    """Finite Markov Chains, 1960: five visits, variance q / p^2 = 20."""
    assert expected_visits([[0.8]])[0, 0] == pytest.approx(5)
    mean, variance = reward_moments([[0.8]], [1.0])
    assert (mean[0], variance[0]) == pytest.approx((5, 20))


def test_three_steps_that_each_succeed_with_95_percent_and_are_tried_again_take_3_158_calls() -> None:
    steps = {
        name: tool("1 s", following, success=0.95, retries=100)
        for name, following in (("a", "b"), ("b", "c"), ("c", "success"))
    }
    told = answer({"start": "a", "states": steps}, runs=100)
    assert told.mean("tool_calls") == pytest.approx(3 / 0.95)
    assert told.mean("tool_calls") == pytest.approx(3.158, abs=5e-4)


def test_ten_steps_without_retries_succeed_together_in_59_87_percent() -> None:
    steps = {f"s{n}": tool("1 s", f"s{n + 1}" if n < 9 else "success", success=0.95) for n in range(10)}
    assert answer({"start": "s0", "states": steps}, runs=100).success == pytest.approx(0.5987, abs=5e-5)


def test_context_that_grows_by_500_a_turn_from_2000_costs_42500_prompt_tokens_uncached_and_6500_cached() -> None:
    assert prefilled_tokens(10, 2000, 500, cached=False) == 42_500
    assert prefilled_tokens(10, 2000, 500, cached=True) == 6_500
    assert pytest.approx(0.847, abs=5e-4) == 1 - 6_500 / 42_500


@pytest.mark.parametrize(("cached", "computed"), [(True, 6_500 - 9), (False, 42_500)])
def test_the_same_as_a_workflow(cached: bool, computed: float) -> None:
    """Turns of 499 new tokens and an output of one, which an engine keeps: nine tokens less to compute than the formula counts."""
    states = {"turn": call(499, 1, {"turn": 1.0}, max_visits=10)}
    told = answer(
        {"start": "turn", "states": states, "models": {"api": API}, "task_tokens": 1501, "cache": {"enabled": cached}},
        runs=10,
    )
    assert told.mean("prompt_tokens") == pytest.approx(42_500)
    assert told.mean("prompt_tokens") - told.mean("cached_tokens") == pytest.approx(computed)
    assert told.sd("prompt_tokens") == pytest.approx(0, abs=1e-3)


def test_the_knee_of_a_closed_loop_is_at_50_sessions() -> None:
    """Denning and Buzen 1978: Z = 20 s, R = 5 s, X_max = 2/s."""
    assert knee(5, 20, 2) == 50
    assert throughput_bound(50, 5, 20, 2) == 2
    assert response_bound(50, 5, 20, 2) == 5


def test_mean_value_analysis_is_the_machine_repair_model() -> None:
    """Reiser and Lavenberg 1980 against the closed form: X = (1 - 1 / sum M!/(M-k)! (D/Z)^k) / D."""
    D, Z, M = 1.0, 5.0, 8
    empty = 1 / sum(math.factorial(M) / math.factorial(M - k) * (D / Z) ** k for k in range(M + 1))
    assert mean_value_analysis([D], M, Z)[0][-1] == pytest.approx((1 - empty) / D)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.01, 5), min_size=1, max_size=4), st.integers(1, 60), st.floats(0, 30))
def test_mean_value_analysis_stays_below_the_bounds_and_keeps_littles_law(
    demands: list[float], sessions: int, think: float
) -> None:
    rates, responses = mean_value_analysis(demands, sessions, think)
    counts = np.arange(1, sessions + 1)
    assert (rates <= throughput_bound(counts, sum(demands), think, 1 / max(demands)) * (1 + 1e-9)).all()
    assert rates * (responses + think) == pytest.approx(counts)
    assert (np.diff(rates) >= -1e-9).all()


def test_asking_first_pays_where_it_raises_the_chance_from_60_to_90_percent_at_a_fifth_of_the_cost() -> None:
    assert act_and_retry(1, 0.6) - act_and_retry(1, 0.9) == pytest.approx(0.556, abs=5e-4)
    assert clarifying_gain(0.2, 1.0, unasked=0.6, asked=0.9) > 0


def test_frugalgpt_break_even_of_a_cascade() -> None:
    even = cascade_break_even(1.0, 10.0)
    assert even == 0.1
    assert cascade(even, 1.0, 10.0) == pytest.approx(10.0)
    assert router(1.0, 1.0, 10.0) == 1.0


def test_judging_80_percent_to_two_points_takes_1537_judgements() -> None:
    assert judge_sample_size(0.8, 0.02) == 1537


def test_structured_output_is_tried_one_over_p_times() -> None:
    assert attempts(0.8) == 1.25
    told = answer({"start": "a", "states": {"a": tool("1 s", "success", success=0.8, retries=2)}}, runs=10)
    assert told.mean("tool_calls") == pytest.approx(attempts(0.8, 3))


def test_the_longest_of_eight_exponential_branches_takes_2_718_means() -> None:
    """E[max of n exponentials] = H_n: the eighth harmonic number."""
    branch = {"start": "t", "states": {"t": tool({"exponential": {"mean": "1 s"}}, "success")}}
    told = answer(
        {
            "start": "fan",
            "states": {"fan": {"kind": "parallel", "branches": {f"b{n}": branch for n in range(8)}, "next": "success"}},
        }
    )
    assert told.mean("latency_s") == pytest.approx(2.718, rel=0.02)
    assert told.mean("tool_calls") == 8
    assert sum(told.states[0]["waited_for"].values()) == pytest.approx(1)


def test_a_characteristic_time_of_five_minutes_keeps_what_waits_a_minute() -> None:
    """Che et al. 2002: exponential pauses against T_c, .9933 and .3935."""
    assert survival(as_time({"exponential": {"mean": "60 s"}}), 300) == pytest.approx(0.9933, abs=5e-5)
    assert survival(as_time({"exponential": {"mean": "600 s"}}), 300) == pytest.approx(0.3935, abs=5e-5)


# -- closed form against simulation ------------------------------------------------------------------------------------------

LENGTHS = st.one_of(
    st.integers(1, 2000),
    st.builds(
        lambda low, more: {"uniform": {"low": low, "high": low + more}}, st.integers(1, 500), st.integers(0, 900)
    ),
    st.builds(lambda mean, cv: {"lognormal": {"mean": mean, "cv": cv}}, st.integers(200, 2000), st.floats(0.1, 0.9)),
)
TIMES = st.one_of(
    st.floats(0.1, 5).map(lambda s: f"{s:.3f} s"),
    st.floats(0.1, 5).map(lambda s: {"exponential": {"mean": f"{s:.3f} s"}}),
    st.floats(0.1, 5).map(lambda s: {"lognormal": {"mean": f"{s:.3f} s", "cv": 0.7}}),
)


@st.composite
def workflows(draw: Any) -> dict[str, Any]:
    names = [f"s{n}" for n in range(draw(st.integers(1, 4)))]
    states = {}
    for place, name in enumerate(names):
        out, back = draw(st.floats(0.25, 0.9)), draw(st.sampled_from(names))
        following = {"success": out}
        for name_after, share in ((back, 0.4), (names[min(place + 1, len(names) - 1)], 0.6)):  # every state is reached
            following[name_after] = following.get(name_after, 0.0) + (1 - out) * share
        more: dict[str, Any] = {"success": draw(st.sampled_from([1.0, 0.8])), "retries": draw(st.integers(0, 2)),
                                "duplicates": draw(st.sampled_from([0.0, 0.2]))}  # fmt: skip
        if draw(st.booleans()):
            more["max_visits"] = draw(st.integers(1, 4))
        if draw(st.booleans()):
            states[name] = tool(draw(TIMES), following, price="0.01 USD", **more)
        else:
            more["context"] = draw(st.sampled_from(["conversation", "conversation", "none"]))
            states[name] = call(
                draw(LENGTHS), draw(LENGTHS), following, prefix_tokens=draw(st.sampled_from([0, 1500])), **more
            )
    cache = {
        "enabled": draw(st.booleans()),
        "lifetime": draw(st.sampled_from([None, "1 s"])),
        "shared_prefix": draw(st.booleans()),
    }
    limits = {"max_turns": draw(st.integers(1, 12))} if draw(st.booleans()) else {}
    return {
        "start": "s0",
        "states": states,
        "models": {"api": API},
        "cache": cache,
        "limits": limits,
        "task_tokens": draw(st.integers(0, 3000)),
    }


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(workflows())
def test_the_chain_is_the_mean_of_the_simulation(told: dict[str, Any]) -> None:
    """Means within five standard errors, spreads within what the fourth moment of the sample allows, in workflows of all kinds."""
    found = answer(told, runs=30_000, seed=1)
    assert found.closed_form
    assert sum(found.ends.values()) == pytest.approx(1)
    assert abs(found.walk.success - found.success) < 5 * math.sqrt(0.25 / found.walk.runs)
    for metric in METRICS:
        mean, sd = found.chain[metric]
        sample = found.walk.of(metric)
        error = sd / math.sqrt(len(sample))
        assert abs(sample.mean() - mean) <= 5 * error + 2e-3 * abs(mean) * (metric != "calls"), metric
        squares = (sample - sample.mean()) ** 2
        scatter = float(squares.std()) / math.sqrt(len(sample))
        assert abs(squares.mean() - sd**2) <= 6 * scatter + 0.01 * sd**2 + 1e-12 * mean**2, metric
        assert sum(found.unfolded.spent(metric).values()) == pytest.approx(mean, rel=1e-6, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_the_sparse_chain_equals_kemeny_and_snells_formula(count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    Q = generator.random((count, count))
    Q /= Q.sum(axis=1, keepdims=True) * (1 + generator.random((count, 1)))
    reward, start = generator.random(count), np.eye(count)[0]
    zero = np.zeros_like(Q)
    chain = Chain(zero, Q, 1 - Q.sum(axis=1, keepdims=True), start, 0.0, np.zeros(count), np.zeros(count))
    mean, variance = reward_moments(Q, reward)
    assert chain.moments(constant_charges(reward, reward**2)) == pytest.approx((mean[0], variance[0]))
    assert chain.ending.sum() == pytest.approx(1)
    assert chain.visits == pytest.approx(expected_visits(Q)[0])


@settings(max_examples=40, deadline=None)
@given(TIMES, st.floats(0.05, 20))
def test_parts_of_a_time_make_the_whole(told: Any, limit: float) -> None:
    time = as_time(told)
    short, long = split(time, limit)
    whole = time.sums_below(math.inf)
    assert short.chance + long.chance == pytest.approx(1)
    assert short.chance * short.mean + long.chance * long.mean == pytest.approx(whole[1])
    assert short.chance * short.square + long.chance * long.square == pytest.approx(whole[2])
    sample = time.sample(np.random.default_rng(0), 20_000)
    assert np.mean(sample < limit) == pytest.approx(short.chance, abs=0.02)


@pytest.mark.parametrize("told", [100, {"uniform": {"low": 3, "high": 90}}, {"lognormal": {"mean": 500, "cv": 0.5}},
                                  {"empirical": {"values": [10, 20, 1000], "weights": [1, 2, 1]}}])  # fmt: skip
def test_moments_of_lengths_are_those_of_their_draws(told: Any) -> None:
    lengths = as_lengths(told, "input_tokens")
    mean, variance = mean_and_variance(lengths)
    sample = lengths.sample(np.random.default_rng(0), 200_000)
    assert (sample.mean(), sample.var()) == pytest.approx((mean, variance), rel=0.02)


def test_all_kinds_of_states_together() -> None:
    """Parallel branches enter the chain by simulated moments: twice the sampling error."""
    inner = {
        "start": "t",
        "states": {"t": tool({"exponential": {"mean": "2 s"}}, "success", success=0.9, price="0.02 USD")},
    }
    asking = {"start": "c", "states": {"c": call(2000, 100, "success")}}
    states = {
        "plan": call(
            400,
            {"lognormal": {"mean": 200, "cv": 0.8}},
            {"fan": 0.3, "ask": 0.2, "look": 0.3, "success": 0.2},
            prefix_tokens=1000,
        ),
        "fan": {"kind": "parallel", "branches": {"a": inner, "b": asking}, "next": "plan", "on_failure": "look"},
        "ask": {"kind": "human", "time": {"exponential": {"mean": "60 s"}}, "next": "plan"},
        "look": tool({"lognormal": {"mean": "3 s", "cv": 1}}, "plan", success=0.8, retries=1, on_failure="plan"),
    }
    found = answer({"start": "plan", "states": states, "models": {"api": API}, "cache": {"lifetime": "4 s"}, "limits": {"max_turns": 15}},
                   runs=40_000)  # fmt: skip
    for metric in METRICS:
        mean, sd = found.chain[metric]
        assert abs(found.walk.of(metric).mean() - mean) < 10 * sd / math.sqrt(found.walk.runs), metric
        assert found.walk.of(metric).std() == pytest.approx(sd, rel=0.03), metric


def test_a_hundred_thousand_tasks_take_less_than_a_second() -> None:
    """Some 400,000 tasks a second on one core, of five calls and four tools each; a slow machine may take three times as long."""
    begun = time.process_time()
    answer(LOOP, runs=100_000)
    assert time.process_time() - begun < 3.0


@pytest.mark.parametrize(
    "file", sorted((Path(__file__).parents[1] / "examples" / "workflows").glob("*.yaml")), ids=lambda path: path.stem
)
def test_example_workflows_read_and_run(file: Path) -> None:
    workflow = read_workflow(file).model_copy(update={"crowd": None})
    found = answer(workflow, OWN, runs=500)
    assert found.mean("usd") > 0
    assert 0.5 < found.success <= 1


# -- guards, caches, residency ---------------------------------------------------------------------------------------------

LOOP = {
    "start": "turn",
    "models": {"api": API},
    "states": {"turn": call(500, 100, {"turn": 0.9, "success": 0.1}, prefix_tokens=2000)},
}


def test_guards_end_what_would_go_on() -> None:
    free = answer(LOOP)
    turns = answer(LOOP | {"limits": {"max_turns": 5}})
    money = answer(LOOP | {"limits": {"max_cost": "0.02 USD"}})
    assert turns.mean("calls") == pytest.approx((1 - 0.9**5) / 0.1)
    assert turns.success == pytest.approx(1 - 0.9**5)
    assert turns.walk.stopped_by("max_turns") == pytest.approx(0.9**5, abs=0.02)
    assert not money.closed_form
    assert money.mean("usd") < free.mean("usd")
    assert money.walk.of("usd").max() < 0.02 + 0.01
    assert "a limit on money" in str(money)


def test_a_cache_pays_and_a_lost_one_does_not() -> None:
    kept, short, off = (answer(LOOP | {"cache": cache}) for cache in ({}, {"shared_prefix": False}, {"enabled": False}))
    assert kept.mean("usd") < short.mean("usd") < off.mean("usd")
    assert kept.mean("latency_s") < off.mean("latency_s")
    assert off.cached_share == 0


def test_a_pause_beyond_the_lifetime_empties_the_cache() -> None:
    states = {
        "turn": call(500, 100, {"wait": 0.9, "success": 0.1}),
        "wait": {"kind": "human", "time": "10 min", "next": "turn"},
    }
    told = {"start": "turn", "models": {"api": API}, "states": states}
    gone, there = (answer(told | {"cache": {"lifetime": time}}, runs=100) for time in ("5 min", "15 min"))
    assert gone.cached_share == 0
    assert there.cached_share > 0.5
    assert gone.mean("people_s") == pytest.approx(9 * 600)
    assert gone.mean("latency_s") + gone.mean("people_s") == pytest.approx(gone.mean("elapsed_s"))


def test_duplicates_cost_and_take_no_time() -> None:
    states = {"t": tool("1 s", "success", price="1 USD", duplicates=0.25)}
    told = answer({"start": "t", "states": states})
    assert (told.mean("usd"), told.mean("latency_s"), told.mean("tool_calls")) == pytest.approx((1.25, 1.0, 1.25))
    assert told.sd("usd") == pytest.approx(math.sqrt(0.25 * 0.75))


def test_the_first_branch_that_succeeds_is_enough() -> None:
    def branch(seconds: str, success: float) -> dict[str, Any]:
        return {"start": "t", "states": {"t": tool(seconds, "success", success=success)}}

    fan = {"kind": "parallel", "branches": {"quick": branch("1 s", 0.5), "slow": branch("3 s", 0.5)}, "next": "success"}
    every, first = (answer({"start": "f", "states": {"f": fan | {"join": join}}}) for join in ("all", "first"))
    assert every.success == pytest.approx(0.25, abs=0.02)
    assert first.success == pytest.approx(0.75, abs=0.02)
    assert every.mean("latency_s") == pytest.approx(3.0)
    assert first.mean("latency_s") == pytest.approx(0.5 * 1 + 0.5 * 3, rel=0.02)


def test_holding_pays_for_short_pauses_and_offloading_for_long_ones() -> None:
    """The form of InferCept (arXiv:2402.01869): memory times time."""
    waste = residency(np.geomspace(0.01, 1000, 40), 1e9, 9e9, recompute=0.3, transfer_rate=50e9)
    assert waste.best[0] == "hold"
    assert waste.best[-1] == "offload"
    slow = residency(1000.0, 1e9, 9e9, recompute=0.3, transfer_rate=1e9)
    assert slow.best == "evict"


# -- a deployment of one's own -----------------------------------------------------------------------------------------------

OWN = estimate(
    "meta-llama/Llama-3.1-8B", "H100-SXM", input_tokens=3000, output_tokens=150, concurrency=16, prefix_hit=0.8
)
AGENT = {
    "name": "coder", "start": "think", "task_tokens": 500, "limits": {"max_turns": 20},
    "states": {
        "think": {"kind": "llm", "prefix_tokens": 2000, "input_tokens": 400, "output_tokens": {"lognormal": {"mean": 150, "cv": 0.8}},
                  "next": {"run": 0.8, "success": 0.2}},
        "run": tool({"lognormal": {"mean": "2 s", "cv": 1}}, "think"),
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def crowd() -> AgentAnswer:
    return answer(AGENT | {"crowd": {"sessions": 30, "think": "5 s"}}, OWN)


def test_the_tangent_of_a_deployments_calls_is_near_their_mean(crowd: AgentAnswer) -> None:
    for metric in ("latency_s", "usd", "prompt_tokens"):
        mean, sd = crowd.chain[metric]
        sample = crowd.walk.of(metric)
        assert sample.mean() == pytest.approx(mean, abs=5 * sd / math.sqrt(len(sample)) + 0.01 * mean)
        assert sample.std() == pytest.approx(sd, rel=0.06)


def test_a_single_call_costs_what_the_deployment_says() -> None:
    states = {"ask": {"kind": "llm", "input_tokens": 3000, "output_tokens": 150, "next": "success"}}
    told = answer({"start": "ask", "states": states}, OWN, runs=10)
    exact = Deployed(OWN).call(3000, 150)
    assert told.mean("latency_s") == pytest.approx(exact.e2e, rel=0.01)
    assert told.mean("usd") == pytest.approx(exact.usd, rel=0.01)


def test_a_crowd_keeps_below_the_bounds_and_near_mean_value_analysis(crowd: AgentAnswer) -> None:
    found = crowd.crowd
    assert found is not None
    assert found.tasks_per_second < 1.1 * found.bound
    assert found.tasks_per_second == pytest.approx(found.theory[0], rel=0.2)
    assert found.percentile(95) > found.percentile(50) > 0
    assert 0.6 < found.run.prefix_hit_rate < 1
    # turns of the sessions are the workflow's calls
    prompts = crowd.mean("prompt_tokens") / crowd.mean("calls")
    assert np.mean(found.run.columns["prompt_tokens"]) == pytest.approx(prompts, rel=0.15)
    assert crowd.residency is not None
    assert float(crowd.residency.hold) > 0


def test_the_doubt_of_a_deployment_is_that_of_its_calls(crowd: AgentAnswer) -> None:
    doubt, calls = crowd.interval("latency_s"), OWN.interval("e2e")
    assert doubt is not None
    assert calls is not None
    own = crowd.unfolded.spent("latency_s")["think"]
    assert doubt.low < crowd.mean("latency_s") < doubt.high
    assert doubt.high - doubt.low == pytest.approx(own * (calls.high - calls.low) / OWN.e2e, rel=0.01)
    assert answer(LOOP, runs=10).interval() is None


def test_what_the_pool_keeps_of_conversations_is_what_the_simulator_finds() -> None:
    """A pool that is too small for all that wait: Che's argument for sessions against the block cache of the simulator."""
    slow = AGENT["states"] | {"run": tool({"lognormal": {"mean": "20 s", "cv": 1}}, "think")}
    told = answer(AGENT | {"states": slow, "crowd": {"sessions": 160, "think": "5 s"}}, OWN)
    found = told.crowd
    assert found is not None
    assert 0.2 < found.survival < 0.95
    calls, prefix, new = told.mean("calls"), 2000, 400
    prompt = told.mean("prompt_tokens") / calls
    later = found.survival * (prompt + 100 - new) + (1 - found.survival) * prefix
    assert found.run.prefix_hit_rate == pytest.approx((prefix + (calls - 1) * later) / (calls * prompt), abs=0.1)


def test_the_answer_is_a_value_with_units_and_a_short_table(crowd: AgentAnswer) -> None:
    told = json.loads(json.dumps(crowd.to_dict()))
    assert told["latency_s"]["p95"] > told["latency_s"]["mean"] > 0
    assert sum(told["distribution"]["usd"]["share"]) == pytest.approx(0.995, abs=0.01)
    assert told["sources"]
    assert all(len(line) <= 80 for line in str(crowd).splitlines())
    assert crowd.critical_path[0] in AGENT["states"]
    assert str(answer(AGENT, OWN, runs=500, seed=3)) == str(answer(AGENT, OWN, runs=500, seed=3))


HUMAN = {"kind": "human", "time": "1 s", "next": "success"}


# -- bad input ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"turn": call(1, 1, {"turn": 0.5, "success": 0.4})}, "chances of what follows must sum to 1, got 0.5 \\+ 0.4 = 0.9"),
        ({"turn": call(1, 1, "sucess")}, "no state is called 'sucess'; did you mean 'success'?"),
        ({"turn": call(1, 1, "turn")}, "never comes to an end"),
        ({"turn": call(1, 1, "success"), "island": tool("1 s", "success")}, "states.island: no way leads to it"),
        ({"turn": call(1, 1, "success", model="apj")}, "no model is called 'apj'; did you mean 'api'?"),
        ({"turn": tool("12", "success")}, "'12' is not a quantity in s"),
        ({"turn": call(0, 1, "success")}, "greater than or equal to 1"),
        ({"turn": tool("1 s", "success", retrys=2)}, "did you mean 'retries'?"),
        ({"turn": {"kind": "parallel", "branches": {"b": {"start": "h", "states": {"h": HUMAN}}},
                   "next": "success"}}, "people are asked before or after"),
    ],
)  # fmt: skip
def test_bad_workflows_get_a_kind_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        answer(LOOP | {"states": change})


def test_other_bad_input() -> None:
    with pytest.raises(SpecError, match="no deployment to run on"):
        answer(AGENT)
    with pytest.raises(SpecError, match="that a crowd could share"):
        answer(LOOP | {"crowd": {"sessions": 3}})
    with pytest.raises(SpecError, match="runs"):
        answer(LOOP, runs=0)
    states = {f"s{n}": tool("1 s", {f"s{(n + 1) % 6}": 0.9, "success": 0.1}, max_visits=50) for n in range(6)}
    states["s0"]["next"] = {f"s{n}": 1 / 6 for n in range(6)}
    with pytest.raises(SpecError, match="more than 60,000 states"):
        answer({"start": "s0", "states": states}, runs=10)
    with pytest.raises(SpecError, match="no such file"):
        read_workflow("nowhere.yaml")
    assert as_workflow(AGENT).name == "coder"


# -- questions of a scenario ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "section", "figure"),
    [
        ("agents", AGENT, "latency_s.mean"),
        ("quantisation", {"schemes": ["fp8", "w4a16"]}, ""),
        ("adapters", {"count": 50}, "hit_rate"),
    ],
)
def test_a_scenario_asks_and_a_report_shows(
    tmp_path: Path, question: str, section: dict[str, Any], figure: str
) -> None:
    asked = {
        "question": question,
        "model": "meta-llama/Llama-3.1-8B",
        "hardware": "H100-SXM",
        "workload": {"concurrency": 8},
        question: section,
    }
    (file := tmp_path / "asked.yaml").write_text(json.dumps(asked))
    result = load_scenario(file).run()
    (case,) = result.cases
    assert case.told is not None, case
    assert figure in case.figures or not figure
    pictures = load(LAYERS[question].figures)(case.told, "x")
    assert pictures
    assert all(picture.draw(ax=None).has_data() for picture in pictures)
