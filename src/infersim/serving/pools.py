"""Prefill and decode in pools of their own: a prompt runs in one, its cache goes over a link, its tokens come from the other.

The prefill pool serves every request as if one token were asked for; the blocks of a prompt stay taken there until they are sent.
When the prompt is done the router picks a decode replica, whose queue the request joins when its cache has come. There it is
admitted where the blocks of the whole prompt are free, and begins with one token as a chunk beside the decodes. If it is
preempted, the decode pool computes the prompt again, or brings it back from its own host memory. What waits for room in the
decode pool is taken to wait in host memory: a full decode pool does not hold the prefill pool up.

Sources: Zhong et al., DistServe, OSDI 2024; Patel et al., Splitwise, ISCA 2024; vLLM and SGLang documentation of disaggregated
prefill.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from infersim.predict.estimate import Estimate
from infersim.serving.cost import StepCost
from infersim.serving.fleet import Fleet, Inbox, Routing
from infersim.serving.policy import Policy
from infersim.serving.records import GapHistogram, Records, Series, Totals
from infersim.serving.replica import Replica, Source
from infersim.serving.sequence import Sequence
from infersim.serving.transfer import Port, Transfer

FirstToken = Literal["decode", "prefill"]
"""Which pool the client gets the first token from. decode: its replica computes the last prompt token once more and streams what comes
out, as in vLLM, whose proxy drops the prefill pool's token (vllm-project/vllm#25373); SGLang's router waits for the decode stream
as well (sgl-project/sglang#22853). prefill: at once, as in DistServe."""
FIRST_TOKEN: tuple[FirstToken, ...] = ("decode", "prefill")


@dataclass
class PrefillPool:
    """What the prefill pool of a run did."""

    deployment: Estimate
    policy: Policy
    transfer: Transfer
    totals: tuple[Totals, ...]
    series: tuple[Series, ...]
    times: GapHistogram = field(default_factory=GapHistogram)
    """From the end of a prompt to the arrival of its cache, waiting for the links included."""
    bytes: float = 0.0
    """Of all caches sent."""
    sending: float = 0.0
    """Time that the links of prefill replicas were busy, summed over replicas [s]."""
    stalled: float = 0.0
    """Time that prefill replicas stood still because all their blocks waited to be sent, summed over replicas [s]."""

    @property
    def transfers(self) -> int:
        return self.times.count

    @property
    def mean_transfer(self) -> float:
        """Mean time from the end of a prefill to the arrival of its cache [s]."""
        return self.times.total / self.times.count if self.times.count else math.nan


class SendingInbox(Inbox):
    """The inbox of a prefill replica. The end of a transfer, which frees the blocks it held, is an event of it too."""

    def __init__(self, finished: Callable[[Sequence, float], None] | None) -> None:
        super().__init__(finished)
        self._held: list[tuple[float, int, Callable[[], None]]] = []

    def hold(self, until: float, number: int, release: Callable[[], None]) -> None:
        heapq.heappush(self._held, (until, number, release))
        self._update()

    def _update(self) -> None:
        super()._update()
        if self._held and self._held[0][0] < self.next_time:
            self.next_time = self._held[0][0]

    def pop(self) -> Sequence | None:
        if self._held and self._held[0][0] == self.next_time:
            heapq.heappop(self._held)[2]()
            self._update()
            return None
        return super().pop()


Handover = tuple[float, float, int, float, Sequence]
"""A prompt that is done: when, when it is sent, the request's number, how long before its layers could be sent, the prompt."""
AHEAD = 256
"""Prompts that may lie between the pools' times where ends bring no requests."""


class PrefillReplica(Replica):
    """Runs prompts to their first token and puts them in line for the decode pool."""

    def __init__(
        self, policy: Policy, cost: StepCost, inbox: SendingInbox, records: Records, number: int, transfer: Transfer,
        line: list[Handover],
    ) -> None:  # fmt: skip
        super().__init__(policy, cost, inbox, records, number)
        self.inbox, self.transfer, self.line, self.port = inbox, transfer, line, Port()
        self.stalled = self._last_step = 0.0

    def _spend(self, seconds: float, decoding: int) -> None:
        self._last_step = seconds
        super()._spend(seconds, decoding)

    def _finish(self, sequence: Sequence, cached: int, blocks: int) -> None:
        if self.records.output[sequence.id] == 1:
            super()._finish(sequence, cached, blocks)
            return
        transfer, window = self.transfer, self.transfer.overlap * self._last_step
        sent = self.port.send(self.clock, window, transfer.seconds(sequence.prompt), transfer.last_layer)
        self.inbox.hold(sent, sequence.id, lambda: self._release(sequence, cached, blocks))
        heapq.heappush(self.line, (self.clock, sent, sequence.id, window, sequence))
        self.ended = True

    def _decode_steps(self, limit: float, *, single: bool) -> None:
        """Nothing decodes here: whoever waits lacks blocks, until a cache is sent."""
        start, self.clock = self.clock, self.source.next_time
        self.stalled += self.clock - start


class Pools:
    """Both pools, their routers and the links between them, in the order of time.

    Whoever is farthest behind goes on: an arrival, a prompt that is done, a replica. Where ends bring no requests the prefill pool
    does not wait for the decode pool, and runs ahead.
    """

    def __init__(
        self, prefill: tuple[Policy, StepCost, int], decode: tuple[Callable[[Source, int], Replica], int], source: Source, records: Records,
        transfer: Transfer, routing: Routing, first_token: FirstToken = "decode",
    ) -> None:  # fmt: skip
        self.source, self.records, self.transfer, self.first_token = source, records, transfer, first_token
        ended = source.finished if source.reacts else None
        self.times, self.bytes = GapHistogram(), 0.0
        self.line: list[Handover] = []
        build, count = decode
        receiving = [Inbox(ended) for _ in range(count)]
        replicas = [build(inbox, number) for number, inbox in enumerate(receiving)]
        self.decode = Fleet(replicas, receiving, source, "least_loaded")
        self.ports = [Port() for _ in replicas]
        policy, cost, ways = prefill
        sending = [SendingInbox(ended) for _ in range(ways)]
        self.senders = [
            PrefillReplica(policy, cost, inbox, records, count + number, transfer, self.line)
            for number, inbox in enumerate(sending)
        ]
        self.prefill = Fleet(list(self.senders), list(sending), source, routing)

    def summary(self, deployment: Estimate) -> PrefillPool:
        """What the prefill pool did so far."""
        senders = self.senders
        return PrefillPool(
            deployment, senders[0].policy, self.transfer, tuple(r.totals for r in senders), tuple(r.series for r in senders),
            self.times, self.bytes, math.fsum(r.port.busy for r in senders), math.fsum(r.stalled for r in senders),
        )  # fmt: skip

    def _to_prefill(self) -> None:
        """The next request to a prefill replica, as one of a single token."""
        time, sequence = self.source.next_time, self.source.pop()
        if sequence is not None:
            sequence.output = 1
            self.prefill.inboxes[self.prefill.choose(sequence)].send(time, sequence)

    def _to_decode(self) -> None:
        """The prompt that was done first to a decode replica; its cache has come when both sides are through with it."""
        ready, sent, request, window, prompt = heapq.heappop(self.line)
        transfer = self.transfer
        received = Sequence(
            request, sent, prompt.prompt, self.records.output[request], priority=prompt.priority,
            prefix=prompt.prefix, own=prompt.own,
        )  # fmt: skip
        number = self.decode.choose(received)
        through = self.ports[number].send(ready, window, transfer.seconds(prompt.prompt), transfer.last_layer)
        reach = max(sent, through) + transfer.latency
        taken = reach - ready
        self.times.add(taken, 1)
        self.times.count += 1
        self.times.total += taken
        self.bytes += transfer.bytes(prompt.prompt)
        received.arrival = reach
        if self.first_token == "prefill":
            received.done, received.last_token = 1, ready
        else:  # the prefill pool's token is dropped
            self.records.first_token[request] = 0.0
        received.target = received.prompt + received.done
        received.swapped = received.target - 1
        self.decode.inboxes[number].send(reach, received)

    def run(self) -> None:
        """Until nothing is left to do."""
        source, line, reacts = self.source, self.line, self.source.reacts
        while True:
            arrival, done = source.next_time, line[0][0] if line else math.inf
            prompts, next_prompts, prompting = self.prefill.soonest()
            steps, next_steps, stepping = self.decode.soonest()
            front, back = min(arrival, prompts), min(done, steps)
            if front == back == math.inf:
                break
            if front <= back or (front < math.inf and not reacts and len(line) < AHEAD):
                if arrival <= prompts:
                    self._to_prefill()
                else:
                    limit = min(arrival, next_prompts, back) if reacts else arrival
                    self.prefill.advance(prompting, prompts, limit, to_an_end=reacts)
            elif done <= steps:
                self._to_decode()
            else:
                limit = min(front, done, next_steps) if reacts else min(front, done)
                self.decode.advance(stepping, steps, limit, to_an_end=reacts)
