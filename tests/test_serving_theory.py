"""The simulator against queueing theory and against the closed form of the steady state."""

from __future__ import annotations

import math

import numpy as np
import pytest

import infersim
from infersim.serving.arrivals import ClosedLoop, poisson
from infersim.serving.capacity import capacity, saturation
from infersim.serving.fleet import Fleet, Inbox
from infersim.serving.lengths import Empirical, Fixed
from infersim.serving.policy import Policy
from infersim.serving.queueing import batched_decode, erlang_c, mg1_wait, mmc_wait
from infersim.serving.records import Records
from infersim.serving.replica import Replica
from infersim.serving.simulate import simulate, simulate_deployment
from infersim.serving.source import build_source
from infersim.serving.traffic import Traffic, benchmark_traffic


class Affine:
    """Steps that take ``fixed`` + ``each`` x sequences + ``token`` x prompt tokens, whatever the contexts."""

    def __init__(self, fixed: float = 0.0, each: float = 0.0, token: float = 0.0) -> None:
        self.fixed, self.each, self.token = fixed, each, token

    def step(self, count: int, new: int, pairs: float, sequences: int, context: float) -> float:
        return self.fixed + self.each * sequences + self.token * new

    def decode_step(self, sequences: int, context: float) -> float:
        return self.fixed + self.each * sequences

    def decode_run(self, sequences: int, context: float, steps: int) -> float:
        return steps * (self.fixed + self.each * sequences)

    def decode_steps_until(self, sequences: int, context: float, seconds: float, most: int) -> int:
        return min(most, max(1, math.ceil(seconds / self.decode_run(sequences, context, 1))))


AMPLE = Policy(max_num_seqs=10**4, max_num_batched_tokens=10**7, block_size=16, num_blocks=10**9)


def serve(policy: Policy, cost: Affine, traffic: Traffic, seed: int = 1) -> tuple[Records, Replica]:
    records = Records()
    replica = Replica(
        policy, cost, build_source(traffic, records, seed=seed, request=0, token=0, fits=policy.fits), records
    )  # type: ignore[arg-type]
    replica.run()
    return records, replica


@pytest.mark.parametrize("service", ["constant", "exponential"])
@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_prefill_server_is_m_g_1(service: str, load: float) -> None:
    """One prompt at a time, one output token: a single server whose service time is the prompt's."""
    drawn = np.random.default_rng(0).exponential(1000, 200_000)
    lengths = Fixed(tokens=1000) if service == "constant" else Empirical(values=tuple(np.maximum(drawn, 1).tolist()))
    each = np.maximum(np.rint(getattr(lengths, "values", [1000.0])), 1) * 1e-3
    policy = Policy(max_num_seqs=1, max_num_batched_tokens=10**7, block_size=16, num_blocks=10**9)
    traffic = Traffic(input_tokens=lengths, output_tokens=1, arrivals=poisson(load / each.mean()), num_requests=200_000)
    records, _ = serve(policy, Affine(token=1e-3), traffic)
    waited = np.array(records.first_token) - np.array(records.arrival) - np.array(records.prompt) * 1e-3
    assert waited.mean() == pytest.approx(mg1_wait(load / each.mean(), each.mean(), np.square(each).mean()), rel=0.05)


def test_slots_are_m_m_c() -> None:
    """Steps of constant time and exponential lengths: slots are servers."""
    slots, rate, step = 8, 6.4, 0.001
    drawn = np.maximum(np.rint(np.random.default_rng(0).exponential(1000, 200_000)), 1)
    policy = Policy(max_num_seqs=slots, max_num_batched_tokens=10**6, block_size=16, num_blocks=10**9)
    traffic = Traffic(input_tokens=1, output_tokens=Empirical(values=tuple(drawn.tolist())), arrivals=poisson(rate),
                      num_requests=150_000)  # fmt: skip
    records, _ = serve(policy, Affine(fixed=step), traffic)
    # the first token comes a step after the slot, and an arrival waits half a step for the next one to begin
    waited = np.array(records.first_token) - np.array(records.arrival) - 1.5 * step
    service = drawn.mean() * step
    assert waited.mean() == pytest.approx(mmc_wait(slots, rate, service), rel=0.06)
    assert (waited > step).mean() == pytest.approx(erlang_c(slots, rate * service), rel=0.04)


def test_batched_decode_is_the_birth_death_chain() -> None:
    """Number running and TPOT of unlimited continuous batching, insensitive to the distribution of lengths."""
    rate, fixed, each = 50.0, 0.005, 50e-6
    running, tpot = batched_decode(rate, 200, fixed, each)
    for lengths in (Fixed(tokens=200), Empirical(values=(100.0, 300.0))):
        records, replica = serve(AMPLE, Affine(fixed, each),
                                 Traffic(input_tokens=1, output_tokens=lengths, arrivals=poisson(rate), num_requests=100_000))  # fmt: skip
        # the first token of a request is its prompt's, and takes part in no decode step
        assert replica.totals.decode_area / replica.clock == pytest.approx(running, rel=0.03)
        span = np.array(records.finish) - np.array(records.first_token)
        assert (span.sum() / (np.array(records.output) - 1).sum()) == pytest.approx(tpot, rel=0.02)


def test_littles_law() -> None:
    """Decoding sequences at once = rate x time from first token to end, from two separate counts."""
    result = simulate("meta-llama/Llama-3.1-8B", "H100-SXM", Traffic(arrivals=poisson(15), num_requests=5000), seed=3)
    columns = result.columns
    residence = float((columns["finish_s"] - columns["first_token_s"]).sum())
    assert result.mean_running * columns["finish_s"].max() == pytest.approx(residence, rel=1e-9)


def test_least_loaded_pools_the_servers() -> None:
    """Two single servers: a common queue waits less than blind turns, and turns no more than chance would."""
    policy = Policy(max_num_seqs=1, max_num_batched_tokens=10**7, block_size=16, num_blocks=10**9)
    drawn = tuple(np.maximum(np.random.default_rng(0).exponential(1000, 50_000), 1).tolist())
    traffic = Traffic(input_tokens=Empirical(values=drawn), output_tokens=1, arrivals=poisson(1.6), num_requests=50_000)
    waited = {}
    for routing in ("round_robin", "least_loaded"):
        records = Records()
        source = build_source(traffic, records, seed=1, request=0, token=0, fits=policy.fits)
        inboxes = [Inbox(None), Inbox(None)]
        replicas = [Replica(policy, Affine(token=1e-3), inbox, records) for inbox in inboxes]  # type: ignore[arg-type]
        Fleet(replicas, inboxes, source, routing).run()  # type: ignore[arg-type]
        waited[routing] = (
            np.array(records.first_token) - np.array(records.arrival) - np.array(records.prompt) * 1e-3
        ).mean()
    assert mmc_wait(2, 1.6, 1.0) * 0.95 < waited["least_loaded"] < 0.8 * waited["round_robin"]
    assert waited["round_robin"] < mg1_wait(0.8, 1.0, 2.0)


GRID = [
    (model, gpu, options, lengths, users)
    for model, gpu, options in (
        ("meta-llama/Llama-3.1-8B", "H100-SXM", {}),
        ("meta-llama/Llama-3.1-70B-Instruct", "H100-SXM", {"tensor_parallel": 8, "precision": "fp8"}),
        ("Qwen/Qwen3-30B-A3B", "H200-SXM", {}),
    )
    for lengths in ((1024, 1024), (8192, 1024), (128, 2048))
    for users in (1, 4, 16, 64, 256)
]


@pytest.mark.parametrize(("model", "gpu", "options", "lengths", "users"), GRID)
def test_closed_form_agrees(
    model: str, gpu: str, options: dict[str, object], lengths: tuple[int, int], users: int
) -> None:
    """Steady closed loop under vLLM's rules: TPOT and throughput within 5%.

    The grid ends where prefill fills most steps (1024 in, 128 out, 64 users and more: up to 6%).
    """
    shape = benchmark_traffic(*lengths, users)
    result = simulate(model, gpu, shape.model_copy(update={"num_requests": 20 * users + 300}), **options).settled()  # type: ignore[arg-type]
    closed = infersim.estimate(
        model, gpu, input_tokens=shape.mean_input, output_tokens=shape.mean_output, concurrency=users, **options,  # type: ignore[arg-type]
    )  # fmt: skip
    assert closed.tpot == pytest.approx(result.mean("tpot"), rel=0.05)
    assert closed.requests_per_second == pytest.approx(result.requests_per_second, rel=0.05)


def test_capacity_is_where_the_target_turns() -> None:
    e = infersim.estimate("meta-llama/Llama-3.1-8B", "H100-SXM", input_tokens=1000, output_tokens=250)
    traffic = Traffic(input_tokens=1000, output_tokens=250, arrivals=poisson(1), num_requests=3000)
    tight, loose = (capacity(e, traffic, f"tpot_p95={limit}ms", tolerance=0.05) for limit in (9, 15))
    assert 0 < tight.rate < loose.rate < saturation(e, traffic) * 1.1
    assert tight.at.settled().percentile("tpot", 95) <= 0.009 < tight.missed_at
    again = simulate_deployment(
        e, traffic.model_copy(update={"arrivals": poisson(tight.missed_at)}), target="tpot_p95=9ms"
    )
    assert again.settled().missed_targets == ["tpot_p95"]
    assert capacity(e, traffic, "ttft_p50=1ms").rate == 0


def test_overload_is_said_and_not_averaged() -> None:
    over = simulate(
        "meta-llama/Llama-3.1-8B", "H100-SXM", Traffic(arrivals=poisson(60), num_requests=3000), target="tpot=1s"
    )
    assert over.unstable
    assert over.missed_targets == ["tpot"]
    assert over.benchmark_dict(date="x")["mean_ttft_ms"] is None
    assert "unstable" in str(over)
    under = simulate("meta-llama/Llama-3.1-8B", "H100-SXM", Traffic(arrivals=poisson(10), num_requests=3000))
    assert not under.unstable


def test_burst_then_steady() -> None:
    """The benchmark's burst: mean TTFT holds a tenth of requests that queue behind the whole first round."""
    result = simulate("meta-llama/Llama-3.1-8B", "H100-SXM", benchmark_traffic(1024, 256, 64))
    assert isinstance(result.traffic.arrivals, ClosedLoop)
    first = result.columns["ttft_s"][:64]
    assert first.mean() > 5 * result.settled().percentile("ttft", 50)
    assert result.settled().mean("ttft") < result.mean("ttft")
