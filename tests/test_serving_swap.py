"""Preemption by swap to host memory: equal to the plain simulator, nothing computed twice, and what it is worth."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import infersim
from infersim.serving.arrivals import Burst, ClosedLoop
from infersim.serving.cost import StepCost, step_cost
from infersim.serving.lengths import Uniform
from infersim.serving.policy import Policy, policy_of
from infersim.serving.reference import ReferenceReplica
from infersim.serving.replica import Replica
from infersim.serving.result import ServingResult
from infersim.serving.simulate import simulate
from infersim.serving.traffic import SharedPrefixes, Traffic
from infersim.specs.deployment import EngineKnobs
from test_serving_simulator import check_conservation, policies, run

MODEL, GPU = "meta-llama/Llama-3.1-8B", "H100-SXM"


@pytest.fixture(scope="module")
def cost() -> StepCost:
    e = infersim.estimate(MODEL, GPU)
    return step_cost(e.model, e.parallelism, e.precision, e.machine, max_sequences=64, max_tokens=512, max_context=4096)


@settings(max_examples=80, deadline=None)
@given(
    policy=policies(), host=st.sampled_from([5, 60, 10**6]), shared=st.booleans(), seed=st.integers(0, 2**32),
    arrivals=st.sampled_from([Burst(), ClosedLoop(concurrency=12)]),
)  # fmt: skip
def test_swap_equals_step_by_step(
    cost: StepCost, policy: Policy, host: int, shared: bool, seed: int, arrivals: Any
) -> None:
    """Outputs as long as prompts in a pool that holds few of them: most runs preempt."""
    policy = dataclasses.replace(
        policy, num_blocks=400 // policy.block_size + 1, output_reserve=0.0, host_blocks=host, swap_seconds=1e-3
    )
    prefixes = SharedPrefixes(groups=2, tokens=Uniform(low=1, high=60)) if shared else None
    traffic = Traffic(input_tokens=Uniform(low=1, high=150), output_tokens=Uniform(low=20, high=200), arrivals=arrivals,
                      num_requests=25, prefixes=prefixes, priorities=2)  # fmt: skip
    fast, replica = run(Replica, policy, cost, traffic, seed)
    plain, reference = run(ReferenceReplica, policy, cost, traffic, seed)
    assert fast.finish == pytest.approx(plain.finish, rel=1e-9)
    for name in ("steps", "busy", "prefill_tokens", "swapped_tokens", "swap_time", "preemptions"):
        assert getattr(replica.totals, name) == pytest.approx(getattr(reference.totals, name), rel=1e-9), name
    check_conservation(policy, fast, replica)
    if host == 10**6 and replica.cache is None:
        wanted = np.array(fast.prompt) + np.array(fast.output) - 1
        computed = replica.totals.prefill_tokens + replica.totals.decode_tokens
        assert computed == wanted[np.array(fast.finish) > 0].sum(), "what is swapped is not computed twice"


def test_a_block_takes_its_bytes_over_the_host_link() -> None:
    """Llama-3-8B in bf16: 131,072 bytes a token, 16 tokens a block; 88% of PCIe 5's 63 GB/s; of two ranks each copies half."""
    for ranks in (1, 2):
        knobs = EngineKnobs(preemption_mode="swap", swap_space="8 GiB")  # type: ignore[arg-type]
        e = infersim.estimate(MODEL, GPU, tensor_parallel=ranks, knobs=knobs)
        policy = policy_of(e.machine.engine, e.knobs, e.machine, e.memory)
        assert policy.swap_seconds == pytest.approx(131072 * 16 / ranks / (0.88 * 63e9))
        assert policy.host_blocks == ranks * 8 * 2**30 // (131072 * 16)


def served(**knobs: Any) -> ServingResult:
    traffic = Traffic(input_tokens=3000, output_tokens=600, arrivals=ClosedLoop(concurrency=48), num_requests=240)
    scarce = EngineKnobs(num_gpu_blocks_override=4000, enable_prefix_caching=False, **knobs)
    return simulate(MODEL, GPU, traffic, knobs=scarce)


def test_swap_costs_what_the_link_takes_and_saves_the_prefill() -> None:
    """A token costs 2 x 131,072 B / 55 GB/s = 4.7 us to copy there and back, and about 21 us to compute again."""
    recompute, swap = served(), served(preemption_mode="swap", swap_space="64 GiB")
    small = served(preemption_mode="swap", swap_space="400 MiB")
    again, copied = recompute.totals[0].prefill_tokens - 240 * 3000, swap.totals[0].swapped_tokens
    assert again > 100_000 < copied
    assert (
        swap.totals[0].prefill_tokens == 240 * 3000 + swap.preemptions
    )  # each comes back with its next token as a chunk
    assert swap.totals[0].swap_time / copied == pytest.approx(2 * 131072 / (0.88 * 63e9), rel=0.01)
    lost = recompute.totals[0].prefill_time - swap.totals[0].prefill_time
    assert lost / again == pytest.approx(21e-6, rel=0.2)
    assert recompute.duration - swap.duration == pytest.approx(lost, rel=0.35)
    assert recompute.duration > small.duration > swap.duration
    assert 0 < small.totals[0].swapped_tokens < copied
