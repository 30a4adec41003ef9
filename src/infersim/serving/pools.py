"""Prefill and decode in pools of their own: a prompt runs in one, its cache goes over a link, its tokens come from the other.

The prefill pool serves every request as if one token were asked for. Then the cache of the whole prompt is sent to a replica of
the decode pool, each prefill replica sending one after the other; the client gets the first token when it has arrived, as
engines stream from the decode side. There the request is admitted with its prompt in the cache. If it is preempted, the decode
pool computes the prompt again, or brings it back from its own host memory.

Sources: Zhong et al., DistServe, OSDI 2024; Patel et al., Splitwise, ISCA 2024; vLLM and SGLang documentation of disaggregated
prefill.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from infersim.errors import SpecError
from infersim.predict.estimate import Estimate
from infersim.serving.fleet import Fleet, Inbox, Routing, run_together
from infersim.serving.policy import Policy
from infersim.serving.records import Records, Series, Totals
from infersim.serving.replica import Replica, Source
from infersim.serving.sequence import Sequence

CACHE_MESSAGE = 20e-6
"""Time before the first byte of a transfer arrives [s]: assumed, of the order of a few messages over RDMA."""
INSIDE_SHARE, BETWEEN_SHARE = 0.88, 0.73
"""Share of a link's bandwidth that large messages reach: 396 of 450 GB/s between two H200 over NVLink; 73 to 74% of a network card
(published point-to-point measurements)."""


@dataclass(frozen=True)
class Transfer:
    """The way of a prompt's cache from one prefill replica to a decode replica.

    ``token_bytes`` and ``sequence_bytes`` are of the whole model; ``bandwidth`` [B/s] of all links that a replica sends over.
    ``overlap`` of a transfer is hidden behind the prefill, where layers are sent as they are computed.
    """

    token_bytes: float
    sequence_bytes: float
    bandwidth: float
    latency: float
    overlap: float = 0.0

    def seconds(self, tokens: float) -> float:
        """How long the transfer of a prompt's cache takes, from the end of its prefill on.

        >>> round(Transfer(token_bytes=327680.0, sequence_bytes=0.0, bandwidth=50e9, latency=0.0).seconds(8192), 4)  # Llama-3.1-70B
        0.0537
        """
        sent = self.token_bytes * tokens + self.sequence_bytes
        return self.latency + (1 - self.overlap) * sent / self.bandwidth


def transfer_between(prefill: Estimate, decode: Estimate, overlap: float = 0.0) -> Transfer:
    """The transfer that the memory and the links of two deployments make.

    A sequence lies on tensor x pipeline x context devices of a replica, and as many send as the smaller side has.
    They use the links inside a node where one replica of
    each side fits in one, else the network between nodes. Raises SpecError where there is neither.
    """
    if not 0 <= overlap <= 1:
        raise SpecError(f"is a share from 0 to 1, got {overlap!r}", field="transfer_overlap")
    sides = [one.parallelism.tensor * one.parallelism.pipeline * one.parallelism.context for one in (prefill, decode)]
    held = prefill.parallelism.devices_per_replica + decode.parallelism.devices_per_replica
    fabric = prefill.machine.fabric
    same = prefill.machine.accelerator.name == decode.machine.accelerator.name
    if same and fabric.scale_up and held <= fabric.devices_per_node:
        link, share = fabric.scale_up, INSIDE_SHARE
    elif fabric.scale_out is not None:
        link, share = fabric.scale_out, BETWEEN_SHARE
    else:
        raise SpecError(
            f"{fabric.name} states no network between nodes for the cache to travel on; name a system that has one",
            field="system",
        )
    rates = decode.memory.rates
    state = rates.per_sequence + sum(rate * most for rate, most in rates.windows)
    return Transfer(
        token_bytes=rates.per_token * sides[1], sequence_bytes=state * sides[1], bandwidth=share * min(sides) * link.bandwidth,
        latency=(link.latency or 0.0) + CACHE_MESSAGE, overlap=overlap,
    )  # fmt: skip


def prefill_per_decode(prompt_seconds: float, decode_seconds: float, sequences: float, output_tokens: float) -> float:
    """Prefill replicas that keep one decode replica busy: x / t_p = y B / (G tau), so x / y = t_p B / (G tau).

    ``prompt_seconds`` t_p a prompt takes in a prefill replica; ``decode_seconds`` tau a step of ``sequences`` B takes in a
    decode replica; ``output_tokens`` G a request has. Source: rate matching of DistServe and Splitwise.

    >>> prefill_per_decode(0.2, 0.025, 64, 512)
    1.0
    """
    if min(prompt_seconds, decode_seconds, sequences, output_tokens) <= 0:
        raise SpecError("rates match between positive times and counts only")
    return prompt_seconds * sequences / (output_tokens * decode_seconds)


def matched_pools(prefill: Estimate, decode: Estimate) -> float:
    """``prefill_per_decode`` of two deployments: TTFT of the one, which runs a prompt at a time, and the decode step of the
    other's workload."""
    if prefill.state is None or decode.state is None:
        raise SpecError("a deployment that does not fit has no rate to match")
    steps = max(decode.workload.output_tokens - 1, 1)
    return prefill_per_decode(prefill.ttft, float(decode.decode_step.seconds), float(decode.state.running), steps)


@dataclass
class PrefillPool:
    """What the prefill pool of a run did."""

    deployment: Estimate
    policy: Policy
    transfer: Transfer
    totals: tuple[Totals, ...]
    series: tuple[Series, ...]
    transfers: int = 0
    sending: float = 0.0
    """Time of all transfers, one replica's after the other [s]."""
    queueing: float = 0.0
    """Time that caches waited for the one before them to be sent [s]."""
    links_free: list[float] = field(default_factory=list)
    """When each prefill replica has sent what it was given so far."""

    @property
    def mean_transfer(self) -> float:
        """Mean time from the end of a prefill to the arrival of its cache [s]."""
        return (self.sending + self.queueing) / self.transfers if self.transfers else math.nan


class Pools:
    """Both pools, their routers and the links between them; everything goes forward together in time."""

    def __init__(
        self, prefill: list[Replica], prefill_inboxes: list[Inbox], decode: list[Replica], decode_inboxes: list[Inbox],
        source: Source, records: Records, pool: PrefillPool, routing: Routing,
    ) -> None:  # fmt: skip
        self.source, self.records, self.pool = source, records, pool
        self.prefill = Fleet(prefill, prefill_inboxes, source, routing)
        self.decode = Fleet(decode, decode_inboxes, source, "least_loaded")
        self._asked: dict[int, Sequence] = {}
        pool.links_free = [0.0] * len(prefill)
        for number, inbox in enumerate(prefill_inboxes):
            inbox.on_finish(self._hand_over_from(number))
        for inbox in decode_inboxes:
            inbox.on_finish(self._finished)

    def _route(self) -> None:
        """The next request to a prefill replica, as one of a single token."""
        time = self.source.next_time
        asked = self.source.pop()
        if asked is None:
            return
        self._asked[asked.id] = asked
        first = Sequence(
            asked.id, asked.arrival, asked.prompt, 1, priority=asked.priority, prefix=asked.prefix, own=asked.own
        )
        self.prefill.inboxes[self.prefill.choose(first)].send(time, first)

    def _hand_over_from(self, number: int) -> Callable[[Sequence, float], None]:
        def hand_over(sequence: Sequence, now: float) -> None:
            pool, records, asked = self.pool, self.records, self._asked[sequence.id]
            start = max(now, pool.links_free[number])
            reach = start + pool.transfer.seconds(asked.prompt)
            pool.links_free[number] = reach
            pool.transfers += 1
            pool.queueing += start - now
            pool.sending += reach - start
            records.first_token[asked.id] = reach
            if asked.output == 1:
                records.finish[asked.id] = reach
                self._finished(asked, reach)
                return
            records.finish[asked.id] = 0.0
            received = Sequence(asked.id, reach, asked.prompt, asked.output, priority=asked.priority)
            received.done, received.target, received.swapped = 1, asked.prompt + 1, asked.prompt
            self.decode.inboxes[self.decode.choose(received)].send(reach, received)

        return hand_over

    def _finished(self, sequence: Sequence, now: float) -> None:
        asked = self._asked.pop(sequence.id)
        if self.source.reacts:
            self.source.finished(asked, now)

    def run(self) -> None:
        """Until nothing is left to do."""
        replicas = [*self.prefill.replicas, *self.decode.replicas]
        run_together(replicas, [*self.prefill.inboxes, *self.decode.inboxes], self.source, self._route)
