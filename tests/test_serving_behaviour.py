"""What users know from real engines, each with its direction and size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from infersim.serving.arrivals import ClosedLoop, poisson
from infersim.serving.lengths import Fixed, LogNormal, Uniform
from infersim.serving.result import ServingResult
from infersim.serving.simulate import simulate
from infersim.serving.traffic import Sessions, SharedPrefixes, Traffic
from infersim.specs.deployment import EngineKnobs

MODEL, GPU = "meta-llama/Llama-3.1-8B", "H100-SXM"


def run(traffic: Traffic, seed: int = 0, knobs: dict[str, Any] | None = None, **options: Any) -> ServingResult:
    return simulate(MODEL, GPU, traffic, seed=seed, knobs=EngineKnobs(**(knobs or {})), **options)


def test_chunked_prefill_trades_ttft_for_itl() -> None:
    """Prompts of 16k: whole, each holds the decodes up for as long as it takes; in chunks of 1k they wait a sixteenth of that
    at a time, and the prompt pays with a longer way."""
    traffic = Traffic(input_tokens=16384, output_tokens=200, arrivals=poisson(0.7), num_requests=300)
    whole = run(traffic, knobs={"max_num_batched_tokens": 32768}).settled()
    chunks = run(traffic, knobs={"max_num_batched_tokens": 1024}).settled()
    assert chunks.percentile("itl", 99) < 0.35 * whole.percentile("itl", 99)
    assert chunks.percentile("ttft", 50) > 1.1 * whole.percentile("ttft", 50)


def test_too_small_a_pool_preempts_and_falls_off_a_cliff() -> None:
    """64 users of 600 tokens need about 2,400 blocks at the end. Half the pool: no more than half of them run at once, and
    what is preempted is computed twice."""
    traffic = Traffic(input_tokens=200, output_tokens=400, arrivals=ClosedLoop(concurrency=64), num_requests=640)
    ample, scarce = (
        run(traffic, knobs={"num_gpu_blocks_override": 4000}),
        run(traffic, knobs={"num_gpu_blocks_override": 800}),
    )
    assert ample.preemptions == 0
    assert scarce.preemptions > 100
    assert scarce.requests_per_second < 0.7 * ample.requests_per_second
    assert scarce.totals[0].prefill_tokens > ample.totals[0].prefill_tokens
    assert scarce.failed == ample.failed == 0


def test_booking_the_output_never_preempts_and_admits_fewer() -> None:
    """TensorRT-LLM's GUARANTEED_NO_EVICT beside its MAX_UTILIZATION: no preemption, a longer wait for a slot."""
    traffic = Traffic(input_tokens=200, output_tokens=400, arrivals=ClosedLoop(concurrency=64), num_requests=640)
    booked, eager = (
        run(traffic, engine="trtllm", knobs={"num_gpu_blocks_override": 600, "output_reserve": share})
        for share in (1.0, 0.0)
    )
    assert booked.preemptions == 0 < eager.preemptions
    assert booked.settled().mean("ttft") > 0
    assert booked.mean_running < eager.mean_running


def test_prefix_caching_cuts_ttft_by_the_hit_share() -> None:
    """A system prompt of 7,000 before 1,000 of one's own: 7/8 of the prefill falls away, and with it most of TTFT."""
    traffic = Traffic(input_tokens=1000, output_tokens=50, arrivals=poisson(1.0), num_requests=300,
                      prefixes=SharedPrefixes(tokens=Fixed(tokens=7000)))  # fmt: skip
    cached, plain = run(traffic), run(traffic, knobs={"enable_prefix_caching": False})
    assert cached.prefix_hit_rate == pytest.approx(7 / 8, abs=0.01)
    assert plain.prefix_hit_rate == 0
    host = plain.deployment.machine.engine.host  # tokenises cached tokens too, and submits every layer
    overhead = host.request + 8000 * host.token + 32 * host.prompt_layer
    share = (cached.settled().percentile("ttft", 50) - overhead) / (plain.settled().percentile("ttft", 50) - overhead)
    assert 0.1 < share < 0.35


def test_prefix_hits_are_an_outcome_of_the_pool() -> None:
    """400 documents of 4,000 tokens are 100,000 blocks: a pool of a tenth keeps the popular ones alone."""
    traffic = Traffic(input_tokens=100, output_tokens=10, arrivals=poisson(3.0), num_requests=1500,
                      prefixes=SharedPrefixes(groups=400, tokens=Fixed(tokens=4000), skew=1))  # fmt: skip
    small, large = (
        run(traffic, knobs={"num_gpu_blocks_override": blocks}).prefix_hit_rate for blocks in (10_000, 120_000)
    )
    assert 0.2 < small < large - 0.1


def test_sessions_hit_what_they_said_before() -> None:
    """Turn k's prompt is all said before and 500 tokens more: with everything kept only the new ones are computed."""
    traffic = Traffic(input_tokens=500, output_tokens=100, arrivals=ClosedLoop(concurrency=4), num_requests=200,
                      sessions=Sessions(turns=Fixed(tokens=10)))  # fmt: skip
    result = run(traffic)
    turns = result.columns["prompt_tokens"]
    assert turns.max() == 500 + 9 * 600
    assert result.totals[0].prefill_tokens == pytest.approx(200 * 500, rel=0.05)
    assert result.prefix_hit_rate == pytest.approx(1 - 500 / turns.mean(), abs=0.03)


def test_static_batching_wastes_slots() -> None:
    """A batch lasts as long as its longest output: with exponential-like lengths slots stand empty most of the time."""
    traffic = Traffic(
        input_tokens=100,
        output_tokens=LogNormal(mean=200, cv=1.2),
        arrivals=ClosedLoop(concurrency=32),
        num_requests=640,
    )
    continuous, static = (
        run(traffic, knobs={"max_num_seqs": 32, "batching": kind}) for kind in ("continuous", "static")
    )
    assert continuous.mean_running > 1.8 * static.mean_running
    assert continuous.requests_per_second > 1.5 * static.requests_per_second


def test_dynamic_batching_waits_no_longer_than_its_delay() -> None:
    traffic = Traffic(input_tokens=100, output_tokens=20, arrivals=poisson(2.0), num_requests=300)
    static, dynamic = (run(traffic, knobs={"max_num_seqs": 16, "batching": kind}) for kind in ("static", "dynamic"))
    assert dynamic.percentile("ttft", 95) < 1.0 < static.percentile("ttft", 50)


def test_prefill_first_lowers_ttft_and_raises_itl() -> None:
    """SGLang's order beside mixed chunks: new prompts do not wait, running ones do."""
    traffic = Traffic(
        input_tokens=Uniform(low=500, high=6000), output_tokens=300, arrivals=poisson(3.0), num_requests=600
    )
    first, mixed = (run(traffic, engine="sglang", knobs={"mixed_batches": mixed}).settled() for mixed in (False, True))
    assert first.percentile("itl", 99) > 1.05 * mixed.percentile("itl", 99)
    assert first.percentile("ttft", 50) < 1.1 * mixed.percentile("ttft", 50)


def test_least_loaded_beats_round_robin_at_high_variance() -> None:
    """Outputs with a coefficient of variation of 2: blind turns let long requests pile up on one replica."""
    traffic = Traffic(
        input_tokens=500, output_tokens=LogNormal(mean=300, cv=2), arrivals=poisson(12.0), num_requests=4000
    )
    knobs = {"max_num_seqs": 8}
    waited = {
        routing: run(traffic, replicas=4, routing=routing, knobs=knobs).settled().percentile("ttft", 99)
        for routing in ("round_robin", "least_loaded")
    }
    assert waited["least_loaded"] < 0.7 * waited["round_robin"]


def test_prefix_aware_routing_keeps_documents_together() -> None:
    """Each of four replicas can hold a fourth of the documents: sent to where they lie, they are found."""
    traffic = Traffic(input_tokens=100, output_tokens=50, arrivals=poisson(8.0), num_requests=1200,
                      prefixes=SharedPrefixes(groups=40, tokens=Fixed(tokens=4000)))  # fmt: skip
    hits = {
        routing: run(traffic, replicas=4, routing=routing, knobs={"num_gpu_blocks_override": 4000}).prefix_hit_rate
        for routing in ("least_loaded", "prefix_aware")
    }
    assert hits["prefix_aware"] > hits["least_loaded"] + 0.2


def test_more_load_is_more_latency() -> None:
    found = [
        run(Traffic(input_tokens=1000, output_tokens=200, arrivals=poisson(rate), num_requests=1500)).settled()
        for rate in (2, 6, 12)
    ]
    for metric in ("ttft", "tpot", "e2e"):
        values = [result.percentile(metric, 90) for result in found]
        assert values == sorted(values), metric


def test_held_prompts_wait_their_steps() -> None:
    """TensorRT-LLM with batch_wait_timeout_iters 20 starts a prompt up to 20 steps late; enough waiting tokens release it."""
    traffic = Traffic(
        input_tokens=500, output_tokens=LogNormal(mean=300, cv=0.5), arrivals=poisson(2.0), num_requests=800
    )
    plain, held, released = (
        run(traffic, engine="trtllm", knobs=knobs).settled()
        for knobs in ({}, {"batch_wait_timeout_iters": 20}, {"batch_wait_timeout_iters": 20, "batch_wait_max_tokens_ratio": 0.0})
    )  # fmt: skip
    late = held.mean("ttft") - plain.mean("ttft")
    assert 0.5 * 20 * plain.mean("tpot") < late < 1.3 * 20 * held.mean("tpot")
    assert released.mean("ttft") == pytest.approx(plain.mean("ttft"), rel=0.02)


def test_polled_requests_wait_half_an_interval() -> None:
    """SGLang with scheduler_recv_interval 30 looks for requests every 30 decode steps: 15 steps of waiting on average."""
    traffic = Traffic(
        input_tokens=500, output_tokens=LogNormal(mean=300, cv=0.5), arrivals=poisson(2.0), num_requests=800
    )
    plain, polled = (
        run(traffic, engine="sglang", knobs=knobs).settled() for knobs in ({}, {"scheduler_recv_interval": 30})
    )
    late = polled.mean("ttft") - plain.mean("ttft")
    assert 0.5 * 15 * plain.mean("tpot") < late < 1.5 * 15 * polled.mean("tpot")


def test_swap_saves_the_recomputation() -> None:
    """Long prompts and a scarce pool: over PCIe 5 at 56 GB/s a token's 128 KiB come back in 2.3 us, where a prefill takes some 30 us.
    Without host memory to take them, requests are recomputed as if nothing had been said."""
    traffic = Traffic(input_tokens=4000, output_tokens=600, arrivals=ClosedLoop(concurrency=32), num_requests=320)
    scarce = {"num_gpu_blocks_override": 6000, "enable_prefix_caching": False}
    recomputed, swapped, full = (
        run(traffic, knobs=scarce | extra)
        for extra in (
            {},
            {"preemption_mode": "swap", "swap_space": "32 GiB"},
            {"preemption_mode": "swap", "swap_space": "1 MiB"},
        )
    )
    prompts = 320 * 4000
    assert recomputed.preemptions > 10
    assert recomputed.totals[0].prefill_tokens > 1.05 * prompts
    assert swapped.totals[0].prefill_tokens < 1.01 * prompts
    assert swapped.totals[0].swapped_tokens > 0.05 * prompts
    assert swapped.requests_per_second > 1.02 * recomputed.requests_per_second
    assert full.columns["finish_s"] == pytest.approx(recomputed.columns["finish_s"])


def test_sessions_begin_with_a_prompt_of_their_own_and_pause_as_their_tools_do() -> None:
    """Context growth of an agent: prompt of turn i is S0 + (i - 1) (delta + output), pauses are the tool's time."""
    traffic = Traffic(input_tokens=500, output_tokens=1, num_requests=30, arrivals=ClosedLoop(concurrency=1),
                      sessions=Sessions(turns=10, first_tokens=2000, think={"fixed": {"seconds": "3 s"}}))  # type: ignore[arg-type]  # fmt: skip
    result = run(traffic)
    prompts, sessions = result.columns["prompt_tokens"], np.asarray(result.records.session)
    assert prompts[:10].tolist() == [2000 + 501 * turn for turn in range(10)]
    assert np.bincount(sessions).tolist() == [10, 10, 10]
    gaps = result.columns["arrival_s"][1:10] - result.columns["finish_s"][:9]
    assert gaps == pytest.approx(3.0)


def test_a_shared_prefix_stands_once_in_a_conversation() -> None:
    traffic = Traffic(input_tokens=300, output_tokens=100, num_requests=5, sessions=Sessions(turns=5),
                      prefixes=SharedPrefixes(tokens=2000))  # fmt: skip
    assert run(traffic).columns["prompt_tokens"].tolist() == [2300 + 400 * turn for turn in range(5)]
