"""Where the KV cache of a conversation is while a tool works: kept, given up and computed again, or moved to host memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from infersim.ops.base import Numbers
from infersim.planning.calls import Deployed
from infersim.serving.durations import Kind, split


@dataclass(frozen=True)
class Residency:
    """Device memory that each way leaves unused, times how long [B s]; the least is the one to take."""

    hold: Numbers
    evict: Numbers
    offload: Numbers

    @property
    def best(self) -> Any:
        """Names of the ways that waste least, of the shape of the pauses."""
        names = np.array(["hold", "evict", "offload"])
        return names[np.argmin(np.broadcast_arrays(self.hold, self.evict, self.offload), axis=0)]

    def to_dict(self) -> Mapping[str, Any]:
        """Plain numbers."""
        return {"hold_byte_s": np.asarray(self.hold).tolist(), "evict_byte_s": np.asarray(self.evict).tolist(),
                "offload_byte_s": np.asarray(self.offload).tolist(), "best": np.asarray(self.best).tolist()}  # fmt: skip


def residency(
    pause: Numbers, own: Numbers, others: Numbers, *, recompute: Numbers, transfer_rate: Numbers
) -> Residency:
    """Waste of a pause of so many seconds, for a conversation whose cache has ``own`` bytes beside ``others`` of running sequences.

    hold: own x pause. evict: recompute x (own + others), for a prompt that is computed again holds the others up, too.
    offload: 2 own / rate x others, for copies out and in hold the batch up unless they are overlapped.
    Form of the waste: InferCept, arXiv:2402.01869. Not counted: host memory, and what the freed memory is worth to waiting requests.

    >>> waste = residency(np.array([0.1, 10.0]), 1e9, 9e9, recompute=0.3, transfer_rate=50e9)
    >>> [round(float(value / 1e9), 3) for value in (*waste.hold, waste.evict, waste.offload)], waste.best.tolist()
    ([0.1, 10.0, 3.0, 0.36], ['hold', 'offload'])
    """
    hold = np.asarray(pause, dtype=float) * own
    evict = np.asarray(recompute, dtype=float) * (np.asarray(own) + others)
    offload = 2 * np.asarray(own, dtype=float) / transfer_rate * others
    return Residency(hold, evict, offload)


def residency_on(deployed: Deployed, pause: Numbers, context: Numbers) -> Residency:
    """The same for a conversation of ``context`` tokens on a deployment at its load. Computing it again takes what its prefill adds to
    the time to first token; offloading takes the host link."""
    one = deployed.deployment
    state, workload = one.state, one.workload
    assert state is not None
    rates, ranks = one.memory.rates, one.memory.attention_ranks
    others = float(state.running) / ranks * float(rates.bytes(workload.input_tokens + workload.output_tokens / 2))
    tokens = np.maximum(np.asarray(context, dtype=float), 2.0)
    recompute = np.asarray(deployed.call(tokens, 1.0).ttft) - deployed.call(tokens, 1.0, tokens - 1).ttft
    return residency(
        pause, rates.bytes(context), others, recompute=recompute, transfer_rate=one.machine.host_copy_bandwidth
    )


def survival(pause: Kind, lifetime: float) -> float:
    """Chance that a conversation is still cached after a pause: that of a pause below the cache's characteristic time.

    >>> from infersim.serving.durations import ExponentialTime
    >>> round(survival(ExponentialTime(mean="60 s"), 300.0), 4)
    0.9933
    """
    return split(pause, lifetime)[0].chance


def idle_lifetime(room: float, pause: Kind, *, tasks: float, turns: float, context: float) -> float:
    """Characteristic time of a KV pool under sessions [s]: how long a conversation stays in it while its tools work.

    Conversations of ``context`` tokens fall idle at the end of each of a task's ``turns``, ``tasks`` tasks end per second, and
    ``room`` tokens are left beside what runs. An idle one takes room until its next turn or until it is given up at T, the last one for
    all of T: tasks x context x ((turns - 1) E[min(pause, T)] + T) = room. Che's argument (Che et
    al. 2002), with pauses of any distribution in place of a Poisson stream of uses.

    >>> from infersim.serving.durations import Always
    >>> idle_lifetime(1e6, Always(seconds="2 s"), tasks=1.0, turns=11.0, context=1e4)  # 20 s of pauses and 80 s after the end
    80.0
    """

    def taken(limit: float) -> float:
        chance, mean, _ = pause.sums_below(limit)
        return tasks * context * ((turns - 1) * (mean + limit * (1 - chance)) + limit)

    if room <= 0:
        return 0.0
    if tasks * context <= 0:
        return float("inf")
    low, high = 0.0, room / (tasks * context)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if taken(middle) < room else (low, middle)
    return (low + high) / 2
