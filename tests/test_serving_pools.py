"""Prefill and decode in pools of their own: by hand, conserved, and as users know it from disaggregated engines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import infersim
from infersim.errors import DoesNotFitError, SpecError
from infersim.serving.arrivals import ClosedLoop, poisson
from infersim.serving.lengths import LogNormal
from infersim.serving.rate_matching import prefill_per_decode
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


def test_one_request_by_hand() -> None:
    """Host, prefill step, transfer, then decode steps that start from the whole prompt."""
    prompt, output = 2000, 5
    result = run(Traffic(input_tokens=prompt, output_tokens=output, num_requests=1), prefill=1)
    estimate = result.deployment
    _, cost, _ = scheduler_of(estimate)
    host = estimate.machine.engine.host
    assert result.prefill is not None
    reach = host.request + host.token * prompt
    prefill = cost.step(1, prompt, prompt * (prompt + 1) / 2, 0, 0)
    first = reach + prefill + result.prefill.transfer.seconds(prompt)
    assert result.columns["first_token_s"][0] == pytest.approx(first, rel=1e-9)
    second = cost.step(1, 1, prompt + 1, 0, 0)
    rest = cost.decode_run(1, prompt + 1, output - 2)
    assert result.columns["finish_s"][0] == pytest.approx(first + second + rest, rel=1e-9)


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
    assert transfer_between(e, e, overlap=1.0).seconds(8192) == pytest.approx(across.latency)


def test_published_fleet_of_deepseek() -> None:
    """608e9 prompt and 168e9 output tokens a day at 73,700 and 14,800 tokens/s a node: 95.5 and 131.4 nodes (DeepSeek-V3/R1
    inference system overview, 2025)."""
    ratio = prefill_per_decode(608 / 73_700, 1.0, 14_800, 168)
    assert ratio == pytest.approx(95.5 / 131.4, rel=1e-3)


def test_matched_pools_are_both_busy() -> None:
    """As many prefill replicas as the match says keep up with the decode pool, within the rounding to whole ones."""
    e = infersim.estimate(MODEL, GPU, input_tokens=4000, output_tokens=250, concurrency=48, **ONE)
    p = infersim.estimate(MODEL, GPU, input_tokens=4000, output_tokens=1, concurrency=1, **ONE)
    ratio = matched_pools(p, e)
    loop = CHAT.model_copy(update={"arrivals": ClosedLoop(concurrency=48), "num_requests": 800})
    fewer, more = (run(loop, prefill=max(1, round(share * ratio)), replicas=1) for share in (0.5, 1.5))
    assert more.requests_per_second > 1.3 * fewer.requests_per_second
    assert more.requests_per_second == pytest.approx(
        e.decode_step and e.state.running / (249 * float(e.decode_step.seconds)), rel=0.25
    )  # type: ignore[union-attr]


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
    assert pool.transfers == np.count_nonzero(served)
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
