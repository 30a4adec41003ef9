"""The event-jumping replica against the plain one, conservation, and same seed same result."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import infersim
from infersim.acceptance import reached_by
from infersim.serving.arrivals import Burst, ClosedLoop, Gamma, poisson
from infersim.serving.cost import StepCost, step_cost
from infersim.serving.drafting import DraftingReplica, Drafts
from infersim.serving.lengths import Fixed, LogNormal, Uniform
from infersim.serving.policy import Policy
from infersim.serving.records import Records
from infersim.serving.reference import ReferenceReplica
from infersim.serving.replica import Replica
from infersim.serving.source import build_source
from infersim.serving.traffic import Sessions, SharedPrefixes, Traffic


@pytest.fixture(scope="module")
def cost() -> StepCost:
    e = infersim.estimate("meta-llama/Llama-3.1-8B", "H100-SXM")
    return step_cost(e.model, e.parallelism, e.precision, e.machine, max_sequences=64, max_tokens=512, max_context=4096)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Any scheduler: the four engines' rules and all between them, static and dynamic batching, scarce and ample pools."""
    size, slots = draw(st.sampled_from([1, 4, 16])), draw(st.sampled_from([1, 2, 4, 16, 64]))
    kind = draw(st.sampled_from(["mixed", "prefill first", "waiting ratio", "static", "dynamic"]))
    return Policy(
        max_num_seqs=slots, max_num_batched_tokens=max(slots, draw(st.sampled_from([64, 128, 512]))), block_size=size,
        num_blocks=draw(st.sampled_from([300, 600, 1500, 100_000])) // size + 1, chunked=draw(st.booleans()),
        mixed=kind == "mixed", output_reserve=draw(st.sampled_from([0.0, 0.1, 1.0])),
        headroom_steps=draw(st.sampled_from([0, 20])), watermark_blocks=draw(st.sampled_from([0, 2])),
        prefix_caching=draw(st.booleans()), priority=draw(st.booleans()),
        waiting_served_ratio=0.3 if kind == "waiting ratio" else 0.0, max_waiting_tokens=draw(st.sampled_from([5, 20])),
        hold_steps=draw(st.sampled_from([0, 0, 7])), hold_tokens=draw(st.sampled_from([100, 512])),
        hold_prompts=draw(st.sampled_from([2, 2**60])),
        poll_steps=draw(st.sampled_from([1, 1, 6])),
        host_blocks=draw(st.sampled_from([0, 0, 100, 2000])) // size, swap_seconds=0.003,
        static=kind in ("static", "dynamic"), batch_delay=0.05 if kind == "dynamic" else math.inf,
        state_blocks=draw(st.sampled_from([0.0, 2.5])), windows=draw(st.sampled_from([(), ((0.01, 64.0),)])),
    )  # fmt: skip


@st.composite
def traffics(draw: st.DrawFn) -> Traffic:
    """Short and long, bursts and loops, shared prefixes and sessions."""
    prefixes = SharedPrefixes(groups=3, tokens=Uniform(low=1, high=100), share=0.7, skew=1)
    sessions = Sessions(turns=Uniform(low=1, high=5), think="20 ms", max_context=500)  # type: ignore[arg-type]
    slow = ClosedLoop(concurrency=5, think="13 ms", ramp="300 ms")  # type: ignore[arg-type]
    return Traffic(
        input_tokens=draw(st.sampled_from([Fixed(tokens=1), Fixed(tokens=50), LogNormal(mean=100, cv=1), Uniform(low=1, high=300)])),
        output_tokens=draw(st.sampled_from([Fixed(tokens=1), Fixed(tokens=20), LogNormal(mean=40, cv=1), Uniform(low=1, high=150)])),
        arrivals=draw(st.sampled_from([ClosedLoop(concurrency=1), ClosedLoop(concurrency=20), slow, poisson(5), poisson(60),
                                       Gamma(rate=30, burstiness=0.3), Burst()])),
        num_requests=draw(st.integers(1, 50)), prefixes=draw(st.sampled_from([None, prefixes])),
        sessions=draw(st.sampled_from([None, None, sessions])), priorities=draw(st.sampled_from([1, 3])),
    )  # fmt: skip


def run(
    kind: type, policy: Policy, cost: StepCost, traffic: Traffic, seed: int, drafts: Drafts | None = None
) -> tuple[Records, Replica]:
    records = Records()
    source = build_source(traffic, records, seed=seed, request=0.004, token=2e-6, fits=policy.fits)
    replica = kind(policy, cost, source, records, **({} if drafts is None else {"drafts": drafts}))
    replica.run()
    return records, replica


STORES = ("arrival", "prompt", "output", "first_token", "finish", "preemptions", "cached")


@settings(max_examples=200, deadline=None)
@given(policy=policies(), traffic=traffics(), seed=st.integers(0, 2**32))
def test_event_jumping_equals_step_by_step(cost: StepCost, policy: Policy, traffic: Traffic, seed: int) -> None:
    fast, replica = run(Replica, policy, cost, traffic, seed)
    plain, reference = run(ReferenceReplica, policy, cost, traffic, seed)
    assert_equal(policy, fast, replica, plain, reference)


@pytest.fixture(scope="module")
def drafted() -> StepCost:
    config = "method=eagle,num_speculative_tokens=3,acceptance=0.7"
    e = infersim.estimate("meta-llama/Llama-3.1-8B", "H100-SXM", speculation=config)
    return step_cost(
        e.model,
        e.parallelism,
        e.precision,
        e.machine,
        max_sequences=64,
        max_tokens=512,
        max_context=4096,
        drafter=e.drafter,
    )


@st.composite
def drafting_policies(draw: st.DrawFn) -> Policy:
    """Any scheduler, with up to seven drafts that rest at any batch, and slots for which the budget is enough."""
    policy, drafts = draw(policies()), draw(st.sampled_from([1, 3, 7]))
    return dataclasses.replace(
        policy, draft_tokens=drafts, drafting_below=draw(st.sampled_from([math.inf, 2, 3, 8])),
        max_num_batched_tokens=max(policy.max_num_batched_tokens, policy.max_num_seqs * (1 + drafts)),
    )  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    policy=drafting_policies(),
    traffic=traffics(),
    seed=st.integers(0, 2**32),
    rate=st.sampled_from([0.0, 0.5, 0.8, 1.0]),
)
def test_event_jumping_equals_step_by_step_with_drafts(
    cost: StepCost, drafted: StepCost, policy: Policy, traffic: Traffic, seed: int, rate: float
) -> None:
    drafts = Drafts(reached_by([rate] * policy.draft_tokens), drafted, seed)
    fast, replica = run(DraftingReplica, policy, cost, traffic, seed, drafts)
    plain, reference = run(ReferenceReplica, policy, cost, traffic, seed, drafts)
    assert_equal(policy, fast, replica, plain, reference)


def assert_equal(policy: Policy, fast: Records, replica: Replica, plain: Records, reference: Replica) -> None:
    assert fast.rejected == plain.rejected
    for name in STORES:
        np.testing.assert_allclose(getattr(fast, name), getattr(plain, name), rtol=1e-9, atol=1e-12, err_msg=name)
    for name in (
        "steps",
        "busy",
        "prefill_tokens",
        "decode_tokens",
        "cached_tokens",
        "preemptions",
        "decode_area",
        "swapped_tokens",
        "swap_time",
    ):
        assert getattr(replica.totals, name) == pytest.approx(getattr(reference.totals, name), rel=1e-9, abs=1e-12), (
            name
        )
    assert fast.gaps.count == plain.gaps.count
    assert fast.gaps.total == pytest.approx(plain.gaps.total, rel=1e-9, abs=1e-12)
    if fast.gaps.count:
        assert fast.gaps.percentile(90) == pytest.approx(plain.gaps.percentile(90), rel=0.045)
    check_conservation(policy, fast, replica)


def check_conservation(policy: Policy, records: Records, replica: Replica) -> None:
    """Every request ends, every token is made once, no block stays behind, and the pool never held more than it can."""
    arrival, first, finish = (np.array(store) for store in (records.arrival, records.first_token, records.finish))
    served = finish > 0
    assert np.count_nonzero(~served) == records.rejected
    assert (first[served] > arrival[served]).all()
    assert (finish[served] >= first[served]).all()
    outputs = int(np.array(records.output)[served].sum())
    firsts = int(np.count_nonzero(served))
    if policy.draft_tokens:
        steps = math.ceil((outputs - firsts) / (1 + policy.draft_tokens))
        assert steps <= records.gaps.count <= outputs - firsts, "every step's tokens end one gap"
    else:
        assert records.gaps.count == outputs - firsts, "every token after the first ends one gap"
    computed, found = replica.totals.prefill_tokens, replica.totals.cached_tokens
    prompts = int(np.array(records.prompt)[served].sum())
    if not replica.totals.preemptions:
        assert computed + found == prompts
        assert replica.totals.decode_tokens == outputs - firsts
    else:
        assert computed + found + replica.totals.swapped_tokens >= prompts
    assert replica.used == replica.booked == replica.context == replica.host_used == 0
    assert replica.totals.peak_host_blocks <= policy.host_blocks
    assert not any(replica.residues)
    if isinstance(replica, DraftingReplica):
        assert replica.decode_blocks == replica.paces == 0
    assert not replica.waiting
    assert replica.totals.peak_blocks <= policy.num_blocks
    if policy.output_reserve == 1:
        assert not replica.totals.preemptions
    if replica.cache is not None:
        assert (
            replica.cache.evictable == sum(node.present for node in replica.cache.nodes.values()) <= policy.num_blocks
        )


def test_same_seed_same_result(cost: StepCost) -> None:
    policy = Policy(max_num_seqs=8, max_num_batched_tokens=128, block_size=16, num_blocks=80, prefix_caching=True)
    traffic = Traffic(input_tokens=LogNormal(mean=100, cv=1), output_tokens=LogNormal(mean=40, cv=1), arrivals=poisson(50),
                      num_requests=300)  # fmt: skip
    first, again, other = (run(Replica, policy, cost, traffic, seed)[0] for seed in (7, 7, 8))
    assert first.finish == again.finish
    assert first.finish != other.finish


def test_nobody_starves_under_preemption(cost: StepCost) -> None:
    """A pool that holds two of sixteen sequences at once: all end, the first come first."""
    policy = Policy(max_num_seqs=16, max_num_batched_tokens=512, block_size=16, num_blocks=20)
    traffic = Traffic(input_tokens=64, output_tokens=100, arrivals=Burst(), num_requests=16)
    records, replica = run(Replica, policy, cost, traffic, 0)
    assert replica.totals.preemptions > 0
    finish = np.array(records.finish)
    assert (finish > 0).all()
    assert (np.diff(finish) >= 0).all()


def test_priorities_go_first(cost: StepCost) -> None:
    policy = Policy(max_num_seqs=2, max_num_batched_tokens=512, block_size=16, num_blocks=1000, priority=True)
    traffic = Traffic(input_tokens=64, output_tokens=50, arrivals=Burst(), num_requests=60, priorities=2)
    waited = []
    for rule in (policy, dataclasses.replace(policy, priority=False)):
        records = Records()
        source = build_source(traffic, records, seed=0, request=0.0, token=0.0, fits=rule.fits)
        urgent = [entry[1] for entry in source._queue if entry[5] == 0]  # type: ignore[union-attr]
        Replica(rule, cost, source, records).run()
        waited.append(np.array(records.first_token)[urgent].mean())
    assert waited[0] < 0.75 * waited[1]


def test_cost_grows_with_requests_not_tokens(cost: StepCost) -> None:
    """Twice the output makes twice the steps, and no more events."""
    policy = Policy(max_num_seqs=4, max_num_batched_tokens=512, block_size=16, num_blocks=100_000)
    counts = []
    for output in (1000, 2000):
        records = Records()
        traffic = Traffic(input_tokens=50, output_tokens=output, arrivals=ClosedLoop(concurrency=1), num_requests=40)
        source = build_source(traffic, records, seed=0, request=0.0, token=0.0, fits=policy.fits)
        replica, priced = Replica(policy, cost, source, records), 0

        class Counting:
            def __getattr__(self, name: str) -> object:
                nonlocal priced
                priced += 1
                return getattr(cost, name)

        replica.cost = Counting()  # type: ignore[assignment]
        replica.run()
        counts.append((replica.totals.steps, priced))
    assert counts[1][0] > 1.9 * counts[0][0]
    assert counts[1][1] == counts[0][1]
