"""The two pools against the plain simulator, step by step; conservation for any traffic; blocks that wait for the links."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import infersim
from infersim.serving.arrivals import Burst, ClosedLoop, poisson
from infersim.serving.cost import StepCost, step_cost
from infersim.serving.fleet import Fleet, Inbox
from infersim.serving.lengths import LogNormal
from infersim.serving.policy import Policy
from infersim.serving.pools import Pools
from infersim.serving.records import Records
from infersim.serving.reference import ReferenceReplica
from infersim.serving.replica import Replica, Source
from infersim.serving.sequence import Sequence
from infersim.serving.source import build_source
from infersim.serving.traffic import Sessions, Traffic
from infersim.serving.transfer import Transfer
from test_serving_simulator import policies, traffics

MODEL, GPU = "meta-llama/Llama-3.1-8B", "H100-SXM"


class Line:
    """Requests at given times, one after the other."""

    reacts = False

    def __init__(self, entries: list[tuple[float, Sequence]]) -> None:
        self.entries = sorted(entries, key=lambda entry: (entry[0], entry[1].id))
        self._update()

    def _update(self) -> None:
        self.next_time = self.entries[0][0] if self.entries else math.inf

    def pop(self) -> Sequence:
        sequence = self.entries.pop(0)[1]
        self._update()
        return sequence

    def finished(self, sequence: Sequence, now: float) -> None: ...


@pytest.fixture(scope="module")
def cost() -> StepCost:
    e = infersim.estimate(MODEL, GPU)
    return step_cost(e.model, e.parallelism, e.precision, e.machine, max_sequences=64, max_tokens=512, max_context=4096)


AMPLE = Policy(max_num_seqs=64, max_num_batched_tokens=512, block_size=16, num_blocks=10**6, prefix_caching=True)


def pools(
    cost: StepCost, traffic: Traffic, policy: Policy, *, prompts: Policy = AMPLE, replicas: tuple[int, int] = (1, 1),
    seed: int = 0, wire: float = 1e-5, watched: bool = False, overlap: float = 0.0, first: Any = "decode", request: float = 0.004,
) -> tuple[Records, Pools]:  # fmt: skip
    records = Records()
    source = build_source(traffic, records, seed=seed, request=request, token=2e-6, fits=policy.fits)
    source.reacts = source.reacts or watched
    transfer = Transfer(
        token_bytes=wire, sequence_bytes=0.0, bandwidth=1.0, latency=1e-4, overlap=overlap, last_layer=1 / 32
    )

    def build(requests: Source, number: int) -> Replica:
        return Replica(policy, cost, requests, records, number)

    found = Pools((prompts, cost, replicas[0]), (build, replicas[1]), source, records, transfer, "least_loaded", first)
    found.run()
    return records, found


@settings(max_examples=60, deadline=None)
@given(
    policy=policies(), traffic=traffics(), seed=st.integers(0, 2**32), wire=st.sampled_from([0.0, 1e-5, 1e-3]),
    overlap=st.sampled_from([0.0, 1.0]), first=st.sampled_from(["decode", "prefill"]),
)  # fmt: skip
def test_pools_equal_one_after_the_other(
    cost: StepCost, policy: Policy, traffic: Traffic, seed: int, wire: float, overlap: float, first: str
) -> None:
    """Where answers bring no requests: all prompts first, then the transfers in a queue, then a decode replica step by step."""
    policy = dataclasses.replace(policy, static=False)
    if isinstance(traffic.arrivals, ClosedLoop) or traffic.sessions is not None:
        traffic = traffic.model_copy(update={"arrivals": Burst(), "sessions": None})
    fast, found = pools(cost, traffic, policy, seed=seed, wire=wire, overlap=overlap, first=first)
    plain = Records()
    source = build_source(traffic, plain, seed=seed, request=0.004, token=2e-6, fits=policy.fits)
    asked: list[tuple[float, Sequence]] = []
    while source.next_time < math.inf:
        time, sequence = source.next_time, source.pop()
        if sequence is not None:
            asked.append((time, sequence))
    outputs = {sequence.id: sequence.output for _, sequence in asked}
    for _, sequence in asked:
        sequence.output = 1
    starts: dict[int, float] = {}

    class Watching(Replica):
        def _spend(self, seconds: float, decoding: int) -> None:
            starts.update({s.id: self.clock for s in self.prefilling if s.computed == s.target})
            super()._spend(seconds, decoding)

    Watching(AMPLE, cost, Line(list(asked)), plain).run()
    line, free, last = [], 0.0, 0.0
    order = sorted((plain.first_token[s.id], s.order, s.id, s) for _, s in asked if outputs[s.id] > 1)
    for done, _, number, sequence in order:
        seconds = wire * sequence.prompt
        begin = max(free, done if not overlap else starts[number])
        free = begin + seconds
        last = max(free, max(last, done) + seconds * (1 / 32 if overlap else 1))
        reach = last + 1e-4
        decoded = Sequence(number, reach, sequence.prompt, outputs[number], priority=sequence.priority,
                           prefix=sequence.prefix, own=sequence.own)  # fmt: skip
        decoded.done = int(first == "prefill")
        decoded.target = decoded.prompt + decoded.done
        line.append((reach, decoded))
    reference = ReferenceReplica(policy, cost, Line(line), plain)
    reference.on_host.update({s.id: s.target - 1 for _, s in line})
    if first == "prefill":
        reference.last.update({s.id: plain.first_token[s.id] for _, s in line})
    reference.run()
    np.testing.assert_allclose(fast.finish, plain.finish, rtol=1e-9)
    np.testing.assert_allclose(fast.first_token, plain.first_token, rtol=1e-9)
    assert fast.preemptions == plain.preemptions
    assert fast.cached == plain.cached
    assert fast.gaps.total == pytest.approx(plain.gaps.total, rel=1e-9)
    decode = found.decode.replicas[0]
    for name in ("steps", "busy", "prefill_tokens", "decode_tokens", "swapped_tokens"):
        assert getattr(decode.totals, name) == pytest.approx(getattr(reference.totals, name), rel=1e-9, abs=1e-12), name


# -- laws --------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    policy=policies(), traffic=traffics(), seed=st.integers(0, 2**32), replicas=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    scarce=st.booleans(), wire=st.sampled_from([1e-6, 1e-3]), first=st.sampled_from(["decode", "prefill"]),
)  # fmt: skip
def test_conservation(
    cost: StepCost, policy: Policy, traffic: Traffic, seed: int, replicas: tuple[int, int], scarce: bool, wire: float, first: str
) -> None:  # fmt: skip
    """Any traffic, loops and sessions too, any number of replicas, prefill pools whose blocks wait for the link."""
    policy = dataclasses.replace(policy, static=False)
    prompts = (
        dataclasses.replace(AMPLE, num_blocks=policy.num_blocks * policy.block_size // 16 + 20) if scarce else AMPLE
    )
    records, found = pools(cost, traffic, policy, prompts=prompts, replicas=replicas, seed=seed, wire=wire, first=first)
    arrival, token, finish, prompt, output = (
        np.array(getattr(records, name)) for name in ("arrival", "first_token", "finish", "prompt", "output")
    )
    served = finish > 0
    assert np.count_nonzero(~served) == records.rejected
    assert records.gaps.count == (output[served] - 1).sum(), "every token after the first ends one gap"
    senders, decodes = found.senders, found.decode.replicas
    assert sum(r.totals.prefill_tokens + r.totals.cached_tokens for r in senders) == prompt[served].sum()
    sent = np.flatnonzero(served & (output > 1))
    assert found.times.count == len(sent)
    assert found.times.total >= len(sent) * 1e-4 + wire * prompt[sent].sum() * (1 - 1e-9)
    assert found.bytes == pytest.approx(wire * prompt[sent].sum())
    assert sum(r.port.busy for r in senders) == pytest.approx(wire * prompt[sent].sum())
    way = 1e-4 + wire * prompt
    if first == "decode":
        assert (token[sent] > arrival[sent] + way[sent]).all()
    assert (finish[sent] > arrival[sent] + way[sent]).all()
    for replica in senders + decodes:
        assert replica.used == replica.booked == replica.context == replica.in_flight == 0
        assert replica.totals.peak_blocks <= replica.policy.num_blocks
    if not sum(r.totals.preemptions for r in decodes):
        assert sum(r.totals.prefill_tokens for r in decodes) == len(sent), "each comes with one token to compute"
        assert sum(r.totals.swapped_tokens + r.totals.cached_tokens for r in decodes) == (
            prompt[sent].sum() - (len(sent) if first == "decode" else 0)
        )


@pytest.mark.parametrize("arrivals", [Burst(), poisson(40)])
def test_running_ahead_changes_nothing(cost: StepCost, arrivals: Any) -> None:
    """Pools that go forward in lock-step, as where ends may bring requests, and pools of which one runs ahead."""
    policy = dataclasses.replace(AMPLE, num_blocks=300)
    traffic = Traffic(input_tokens=LogNormal(mean=150, cv=1), output_tokens=LogNormal(mean=60, cv=1), arrivals=arrivals,
                      num_requests=120)  # fmt: skip
    (ahead, _), (locked, _) = (
        pools(cost, traffic, policy, replicas=(2, 3), watched=watched) for watched in (False, True)
    )
    np.testing.assert_allclose(ahead.finish, locked.finish, rtol=1e-12)


def test_a_slow_link_holds_the_prefill_pool_up(cost: StepCost) -> None:
    """Blocks stay until they are sent: the pool fills, stands still, and throughput is what the link carries."""
    policy = dataclasses.replace(AMPLE, num_blocks=200)
    traffic = Traffic(input_tokens=400, output_tokens=10, arrivals=Burst(), num_requests=200)
    records, found = pools(cost, traffic, policy, prompts=policy, wire=1e-3)
    assert max(records.finish) == pytest.approx(200 * 0.4, rel=0.03)
    assert sum(r.stalled for r in found.senders) > 0.5 * max(records.finish)
    assert found.times.percentile(50) < 8.5 * 0.4, "no more wait than the pool holds"


def test_overlap_hides_no_more_than_the_chunk(cost: StepCost) -> None:
    """One user: a slow link hides the time of the last chunk, a fast one all but the last layer."""
    traffic = Traffic(input_tokens=400, output_tokens=2, arrivals=ClosedLoop(concurrency=1), num_requests=10)
    prompt = cost.step(1, 400, 400 * 401 / 2, 0, 0)
    for wire, late in ((1e-3, 0.4 - prompt), (1e-6, 400e-6 / 32)):
        _, found = pools(cost, traffic, dataclasses.replace(AMPLE, prefix_caching=False), wire=wire, overlap=1.0)
        assert found.times.total / found.times.count == pytest.approx(late + 1e-4, rel=1e-6)
        _, found = pools(cost, traffic, AMPLE, wire=wire)
        assert found.times.total / found.times.count == pytest.approx(400 * wire + 1e-4, rel=1e-6)


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("sessions", [None, Sessions(turns=4, think="20 ms")])  # type: ignore[arg-type]
def test_jumps_miss_no_request_that_an_end_brings(
    cost: StepCost, monkeypatch: pytest.MonkeyPatch, pooled: bool, sessions: Sessions | None
) -> None:
    """A closed loop over several replicas, by jumps and by single steps of whoever is farthest behind: the same to the last digit but
    rounding, so no replica runs past a request that its own or another's end would have sent it."""
    policy = dataclasses.replace(
        AMPLE, num_blocks=800, chunked=False
    )  # a step with a prompt lasts as long as many without
    traffic = Traffic(input_tokens=LogNormal(mean=800, cv=1.5), output_tokens=LogNormal(mean=60, cv=1), num_requests=300,
                      arrivals=ClosedLoop(concurrency=12), sessions=sessions)  # fmt: skip

    def finish() -> Any:
        if pooled:
            return pools(cost, traffic, policy, prompts=policy, replicas=(2, 3), wire=1e-6, request=0.0)[0].finish
        records = Records()
        source = build_source(traffic, records, seed=0, request=0.0, token=0.0, fits=policy.fits)
        inboxes = [Inbox(source.finished) for _ in range(3)]
        replicas = [Replica(policy, cost, inbox, records, number) for number, inbox in enumerate(inboxes)]
        Fleet(replicas, inboxes, source, "least_loaded").run()
        return records.finish

    jumped = finish()
    advance = Fleet.advance
    monkeypatch.setattr(
        Fleet, "advance", lambda self, number, due, limit, to_an_end: advance(self, number, due, 0.0, to_an_end=True)
    )
    np.testing.assert_allclose(jumped, finish(), rtol=1e-9)
