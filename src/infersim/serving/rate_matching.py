"""How many prefill replicas go with how many decode replicas: the rates at which the two pools take requests, made equal."""

from __future__ import annotations

import math
from dataclasses import dataclass

from infersim import units
from infersim.errors import DoesNotFitError, SpecError
from infersim.predict.estimate import Estimate
from infersim.serving.simulate import scheduler_of


def prefill_per_decode(prompt_seconds: float, decode_seconds: float, sequences: float, output_tokens: float) -> float:
    """Prefill replicas that keep one decode replica busy: x / t_p = y B / (G tau(B)), so x / y = t_p B / (G tau).

    ``prompt_seconds`` t_p a prompt takes in a prefill replica; ``decode_seconds`` tau a step of ``sequences`` B takes in a decode
    replica; ``output_tokens`` G a request has. Waiting and the links between the pools are not counted. Source: rate matching of
    DistServe (arXiv:2401.09670) and Splitwise (arXiv:2311.18677).

    >>> prefill_per_decode(0.2, 0.025, 64, 512)
    1.0
    """
    if min(prompt_seconds, decode_seconds, sequences, output_tokens) <= 0:
        raise SpecError("rates match between positive times and counts only")
    return prompt_seconds * sequences / (output_tokens * decode_seconds)


@dataclass(frozen=True)
class RateMatch:
    """Replicas of each pool, and the requests per second that each takes."""

    prefill_replicas: int
    decode_replicas: int
    prefill_rate: float
    decode_rate: float
    devices: int

    @property
    def requests_per_second(self) -> float:
        """What both take."""
        return min(self.prefill_rate, self.decode_rate)


def rate_match(
    prefill_rate: float, decode_rate: float, devices: int, *, prefill_devices: int = 1, decode_devices: int = 1
) -> RateMatch:
    """The pools that serve most with ``devices`` devices, of equals the smallest, given the requests per second and the devices of one
    replica of each.

    >>> found = rate_match(1 / 0.1, 64 / (256 * 0.02), 9)
    >>> found.prefill_replicas, found.decode_replicas, found.requests_per_second
    (5, 4, 50.0)
    """
    if not (0 < prefill_rate < math.inf and 0 < decode_rate < math.inf):
        raise SpecError(f"rates must be above zero, got {prefill_rate!r} and {decode_rate!r}", field="rate")
    most = (devices - decode_devices) // prefill_devices
    if most < 1:
        raise SpecError(
            f"{devices} devices hold no prefill replica of {prefill_devices} beside a decode replica of {decode_devices}",
            field="devices",
        )
    found = []
    for prefill in range(1, most + 1):
        decode = (devices - prefill * prefill_devices) // decode_devices
        needed = min(decode, math.ceil(prefill * prefill_rate / decode_rate * (1 - 1e-12)))
        taken = prefill * prefill_devices + needed * decode_devices
        found.append(RateMatch(prefill, needed, prefill * prefill_rate, needed * decode_rate, taken))
    return max(found, key=lambda match: (match.requests_per_second, -match.devices))


def prompts_per_second(prefill: Estimate) -> float:
    """What one replica of a prefill pool computes of its workload's mean prompts: as many in a step as the token budget holds."""
    policy, cost, _ = scheduler_of(prefill)
    tokens = prefill.workload.input_tokens
    together = max(1, min(int(policy.max_num_batched_tokens // tokens), policy.max_num_seqs))
    seconds, cached = 0.0, 0.0
    while cached < tokens:
        new = min(tokens - cached, policy.max_num_batched_tokens)
        seconds += cost.step(together, together * new, together * new * (cached + (new + 1) / 2), 0, 0)  # type: ignore[arg-type]
        cached += new
    return together / seconds


def requests_decoded_per_second(decode: Estimate, tpot: float | None = None) -> tuple[float, int]:
    """(requests of the workload's mean lengths that one replica of a decode pool takes per second, sequences B at once): B is the
    most that slots and KV pool hold at the mean context and whose step takes at most ``tpot``."""
    policy, cost, _ = scheduler_of(decode)
    output = decode.workload.output_tokens
    context = decode.workload.input_tokens + output / 2
    room = policy.num_blocks / (policy.blocks(math.ceil(context)) + policy.fixed_blocks(math.ceil(context)))
    low, high = 0, max(min(policy.max_num_seqs, int(room)), 1)
    limit = math.inf if tpot is None else tpot
    while low < high:
        middle = (low + high + 1) // 2
        if cost.step(0, 0, 0.0, middle, middle * context) <= limit:
            low = middle
        else:
            high = middle - 1
    if not low:
        alone = units.show(cost.step(0, 0, 0.0, 1, context), "s")
        raise SpecError(f"one sequence alone takes {alone} a token", field="tpot")
    return low / (output * cost.step(0, 0, 0.0, low, low * context)), low


def match_pools(prefill: Estimate, decode: Estimate, devices: int, *, tpot: float | None = None) -> RateMatch:
    """The pools of these two kinds of replica that serve most of ``decode``'s workload with ``devices`` devices, at full batches whose
    steps take at most ``tpot`` seconds. A first guess for the simulator, which also knows queues and spread.

    >>> from infersim import estimate
    >>> one = estimate("meta-llama/Llama-3.1-8B", "H100-SXM", input_tokens=4000, output_tokens=300, mode="bound")
    >>> found = match_pools(one, one, 8, tpot=0.012)
    >>> found.prefill_replicas, found.decode_replicas
    (4, 4)
    """
    for pool in (prefill, decode):
        if not pool.memory.fits:
            raise DoesNotFitError(str(pool), shortfall=pool.memory.shortfall)
    return rate_match(
        prompts_per_second(prefill), requests_decoded_per_second(decode, tpot)[0], devices,
        prefill_devices=prefill.parallelism.devices_per_replica, decode_devices=decode.parallelism.devices_per_replica,
    )  # fmt: skip
