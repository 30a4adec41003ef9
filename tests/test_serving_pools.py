"""Prefill and decode in pools of their own: by hand, conserved, and as users know it from disaggregated engines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import infersim
from infersim.errors import DoesNotFitError, SpecError
from infersim.serving.arrivals import Burst, ClosedLoop, poisson
from infersim.serving.lengths import LogNormal
from infersim.serving.rate_matching import match_pools, prefill_per_decode, prompts_per_second, rate_match
from infersim.serving.result import ServingResult
from infersim.serving.simulate import scheduler_of, simulate
from infersim.serving.traffic import Sessions, SharedPrefixes, Traffic
from infersim.serving.transfer import Transfer, transfer_between

MODEL, GPU = "meta-llama/Llama-3.1-70B-Instruct", "H100-SXM"
ONE: dict[str, Any] = {"tensor_parallel": 4, "precision": "fp8"}
CHAT = Traffic(
    input_tokens=LogNormal(mean=4000, cv=1),
    output_tokens=LogNormal(mean=250, cv=1),
    arrivals=poisson(4),
    num_requests=1500,
)


def run(traffic: Traffic, prefill: int | None = None, replicas: int = 1, **options: Any) -> ServingResult:
    pool = {} if prefill is None else {"prefill": {"replicas": prefill}}
    return simulate(MODEL, GPU, traffic, replicas=replicas, **ONE, **pool, **options)


@pytest.mark.parametrize("first_token", ["decode", "prefill"])
def test_one_request_by_hand(first_token: str) -> None:
    """Host, prefill step, transfer, a chunk of one token, then decode steps that start from the whole prompt."""
    prompt, output = 2000, 5
    result = run(Traffic(input_tokens=prompt, output_tokens=output, num_requests=1), prefill=1, first_token=first_token)
    estimate = result.deployment
    _, cost, _ = scheduler_of(estimate)
    host = estimate.machine.engine.host
    assert result.prefill is not None
    reach = host.request + host.token * prompt
    done = reach + cost.step(1, prompt, prompt * (prompt + 1) / 2, 0, 0)
    way = result.prefill.transfer.seconds(prompt) + result.prefill.transfer.latency
    assert result.prefill.mean_transfer == pytest.approx(way, rel=1e-9)
    again = first_token == "decode"  # the last prompt token once more
    chunk = cost.step(1, 1, prompt + 1 - again, 0, 0)
    first = done + way + chunk if again else done
    assert result.columns["first_token_s"][0] == pytest.approx(first, rel=1e-9)
    joined = prompt + 1 - again
    rest = cost.decode_run(1, joined, output - 2 + again)
    assert result.columns["finish_s"][0] == pytest.approx(done + way + chunk + rest, rel=1e-9)


def test_a_cache_takes_its_bytes_over_the_link() -> None:
    """Llama-3.1-70B, 8,192 tokens of 327,680 bytes: 53.7 ms at 50 GB/s, 6.0 ms at 450 GB/s (Splitwise-style arithmetic)."""
    for bandwidth, seconds in ((50e9, 0.0537), (450e9, 0.00597)):
        assert Transfer(327680.0, 0.0, bandwidth, 0.0).seconds(8192) == pytest.approx(seconds, rel=2e-3)
    e = infersim.estimate(MODEL, GPU, tensor_parallel=8)
    across = transfer_between(e, e)  # two nodes of eight
    assert across.token_bytes == 327680
    assert across.bandwidth == pytest.approx(0.73 * 8 * 50e9)
    four = infersim.estimate(MODEL, GPU, tensor_parallel=4)
    assert transfer_between(four, four).bandwidth == pytest.approx(0.88 * 4 * 450e9)  # one node holds both
    two = infersim.estimate(MODEL, GPU, tensor_parallel=4, replicas=2)
    assert transfer_between(four, two).bandwidth == pytest.approx(0.73 * 4 * 50e9)  # one node does not hold both pools
    assert (
        transfer_between(four, e).bandwidth == transfer_between(e, four).bandwidth
    )  # four devices send to eight, or eight to four


def test_every_rank_gets_the_latents() -> None:
    """DeepSeek-V2-Lite: each of eight ranks holds all 576 elements of a token in 27 layers."""
    e = infersim.estimate("deepseek-ai/DeepSeek-V2-Lite", GPU, tensor_parallel=8)
    assert transfer_between(e, e).bytes(1600) == 8 * 1600 * 27 * 576 * 2


def test_published_fleet_of_deepseek() -> None:
    """608e9 prompt and 168e9 output tokens a day at 73,700 and 14,800 tokens/s a node: 95.5 and 131.4 nodes (DeepSeek-V3/R1
    inference system overview, 2025)."""
    ratio = prefill_per_decode(608 / 73_700, 1.0, 14_800, 168)
    assert ratio == pytest.approx(95.5 / 131.4, rel=1e-3)
    prefill, decode = 73_700 * 86_400 / 608e9, 14_800 * 86_400 / 168e9  # days' work a day and node
    assert 1 / prefill + 1 / decode == pytest.approx(226.75, rel=1e-3)  # the published average
    found = rate_match(prefill, decode, 228)
    assert (found.prefill_replicas, found.decode_replicas) == (96, 132)
    assert found.requests_per_second > 1


@given(
    prefill=st.floats(0.1, 100),
    decode=st.floats(0.1, 100),
    p=st.integers(1, 4),
    d=st.integers(1, 4),
    n=st.integers(8, 40),
)
def test_rate_match_is_the_best_of_all(prefill: float, decode: float, p: int, d: int, n: int) -> None:
    found = rate_match(prefill, decode, n, prefill_devices=p, decode_devices=d)
    assert found.devices == found.prefill_replicas * p + found.decode_replicas * d <= n
    best = max(min(x * prefill, (n - x * p) // d * decode) for x in range(1, (n - d) // p + 1))
    assert found.requests_per_second == pytest.approx(best)


def test_matched_pools_serve_most() -> None:
    """Six GPUs, prompts of 4,000, a burst: the ratio of the closed form beats its neighbours, and serves what it says within 12%."""
    model = "meta-llama/Llama-3.1-8B"
    one = infersim.estimate(model, GPU, input_tokens=4000, output_tokens=400)
    found = match_pools(one, one, 6)
    traffic = Traffic(input_tokens=4000, output_tokens=400, arrivals=Burst(), num_requests=1500)
    served = {}
    for prefill in range(1, 6):
        result = simulate(model, GPU, traffic, replicas=6 - prefill, prefill={"replicas": prefill})
        served[prefill] = result.requests_per_second
    assert max(served, key=served.__getitem__) == found.prefill_replicas
    assert served[found.prefill_replicas] == pytest.approx(found.requests_per_second, rel=0.12)
    assert served[1] == pytest.approx(prompts_per_second(one), rel=0.02)


@pytest.mark.parametrize("sessions", [None, Sessions(turns=4, think="200 ms")])  # type: ignore[arg-type]
def test_everything_is_accounted_for(sessions: Sessions | None) -> None:
    arrivals = ClosedLoop(concurrency=16) if sessions else poisson(4)
    traffic = CHAT.model_copy(update={"arrivals": arrivals, "num_requests": 400, "sessions": sessions,
                                      "prefixes": SharedPrefixes(groups=4, tokens=500)})  # fmt: skip
    result, again = (
        run(traffic, prefill=2, replicas=2, knobs=infersim.EngineKnobs(num_gpu_blocks_override=3000)) for _ in range(2)
    )
    records = result.records
    assert records.finish == again.records.finish
    finish, first, arrival, output = (
        np.array(getattr(records, name)) for name in ("finish", "first_token", "arrival", "output")
    )
    served = finish > 0
    assert np.count_nonzero(~served) == records.rejected
    assert (first[served] > arrival[served]).all()
    assert (finish[served] >= first[served]).all()
    assert records.gaps.count == (output[served] - 1).sum()
    pool = result.prefill
    assert pool is not None
    prompts = int(np.array(records.prompt)[served].sum())
    cached = int(np.array(records.cached)[served].sum())
    assert sum(totals.prefill_tokens for totals in pool.totals) == prompts - cached
    assert cached > 0
    assert pool.transfers == np.count_nonzero(output[served] > 1)
    decoded = sum(totals.decode_tokens for totals in result.totals)
    assert decoded <= records.gaps.count
    if not result.preemptions:
        assert sum(totals.prefill_tokens for totals in result.totals) == np.count_nonzero(output[served] > 1)


def test_helps_a_tight_limit_on_every_token() -> None:
    """Four replicas of mixed batches against two and two: a decode no longer waits for a prompt of thousands of tokens, so the
    99th percentile of ITL falls from a prefill's time to a decode step's; TTFT waits for half the prefill power and a transfer."""
    mixed, apart = run(CHAT, replicas=4).settled(), run(CHAT, prefill=2, replicas=2).settled()
    assert apart.devices == mixed.devices == 16
    assert apart.percentile("itl", 99) < 0.2 * mixed.percentile("itl", 99)
    assert apart.percentile("tpot", 95) < 0.75 * mixed.percentile("tpot", 95)
    assert apart.percentile("ttft", 50) > mixed.percentile("ttft", 50)


def test_hurts_a_small_cluster() -> None:
    """Two replicas, outputs as long as prompts: the prefill pool stands idle most of the time while the other does nearly all the
    work with half the KV memory, and throughput falls by a third or more."""
    load = Traffic(input_tokens=1000, output_tokens=1000, arrivals=ClosedLoop(concurrency=512), num_requests=1500)
    mixed, apart = run(load, replicas=2), run(load, prefill=1)
    assert apart.prefill is not None
    assert apart.requests_per_second < 0.67 * mixed.requests_per_second
    assert sum(totals.busy for totals in apart.prefill.totals) < 0.5 * apart.duration


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(DoesNotFitError):
        simulate(MODEL, GPU, CHAT, prefill={"tensor_parallel": 1, "precision": "bf16"}, **ONE)
    with pytest.raises(SpecError, match="transfer_overlap"):
        run(CHAT, prefill=1, transfer_overlap=1.5)
    card = infersim.estimate("meta-llama/Llama-3.1-8B", "L40S", precision="fp8")
    if card.machine.fabric.scale_out is None:
        with pytest.raises(SpecError, match="network"):
            transfer_between(card, card)


def test_a_tight_itl_wants_two_pools_and_a_loose_tpot_one() -> None:
    """Capacity of four GPUs. A tight ITL keeps a mixed replica at a load where a hundredth of its gaps see a prompt: about twice as
    much goes through two pools. A loose one lets every GPU do whatever work there is, while of two pools one always waits."""
    model, rates = "meta-llama/Llama-3.1-8B", {}
    one: dict[str, Any] = {"input_tokens": 4000, "output_tokens": 300}
    traffic = Traffic(
        input_tokens=LogNormal(mean=4000, cv=1), output_tokens=300, arrivals=poisson(1), num_requests=1500
    )
    four, two = (infersim.estimate(model, GPU, replicas=replicas, **one) for replicas in (4, 2))
    for name, target in (("tight", "ttft_p95=1s,itl_p99=15ms"), ("loose", "ttft_p95=2s,tpot_p95=100ms")):
        mixed = infersim.capacity(four, traffic, target, tolerance=0.06)
        rates[name] = infersim.capacity(two, traffic, target, tolerance=0.06, prefill=two).rate / mixed.rate
    assert 1.6 < rates["tight"] < 3.5
    assert 0.65 < rates["loose"] < 0.97


def test_littles_law() -> None:
    """Decoding sequences at once = rate x time from first token to end, from two separate counts."""
    result = run(CHAT, prefill=2, replicas=2)
    columns = result.columns
    residence = float((columns["finish_s"] - columns["first_token_s"])[columns["output_tokens"] > 1].sum())
    assert result.mean_running * columns["finish_s"].max() == pytest.approx(residence, rel=1e-9)


def test_sessions_hit_the_prefill_pool() -> None:
    """What was said before lies in the prefill pool but for its last answer, which only the decode pool has seen."""
    traffic = Traffic(input_tokens=500, output_tokens=100, arrivals=ClosedLoop(concurrency=4), num_requests=200,
                      sessions=Sessions(turns=10))  # fmt: skip
    result = run(traffic, prefill=1)
    turns = result.columns["prompt_tokens"]
    assert turns.max() == 500 + 9 * 600
    assert 0.55 < result.prefix_hit_rate < 1 - 500 / turns.mean()
