"""Time of the routed experts of one layer on one device: both products of every expert that a token visits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infersim.machine.kernels.base import Numbers, Rates, parameter, soft_max
from infersim.routing import distinct_experts, rank_imbalance


@dataclass(frozen=True)
class MoeParameters:
    """What a data sheet does not say about a device's fused expert kernels under one engine and format."""

    launch: float = parameter(
        12e-6, 2e-6, 2e-4, "time of the smallest call: sort, two products, combine", unit="s", log=True
    )
    compute_efficiency: float = parameter(0.55, 0.05, 1.0, "share of the peak that full tiles reach")
    memory_efficiency: float = parameter(0.75, 0.1, 1.0, "share of the bandwidth that streaming the experts reaches")
    tile: float = parameter(32.0, 4.0, 256.0, "rows every touched expert is padded to", log=True)
    skew: float = parameter(0.1, 0.0, 0.8, "share of the experts that skewed routing leaves out")


def moe_time(
    tokens: Numbers,
    hidden: float,
    intermediate: float,
    num_experts: int,
    experts_per_token: int,
    *,
    gated: bool = True,
    tensor_parallel: int = 1,
    expert_parallel: int = 1,
    weight_bytes: float,
    activation_bytes: float,
    rates: Rates,
    parameters: MoeParameters,
) -> Numbers:
    """Seconds of the routed experts for ``tokens`` tokens of all ranks that share them.

    Counted: both (gated: all three) products of the experts touched, padded to whole tiles of rows, on the busiest rank;
    sorting, permuting and combining in the floor. Router, dispatch and shared experts are ops of their own.

    >>> h100 = Rates(flops=989e12, bandwidth=3.35e12, compute_units=132)
    >>> few, many = (float(moe_time(t, 4096, 14336, 8, 2, weight_bytes=2, activation_bytes=2, rates=h100,
    ...     parameters=MoeParameters())) for t in (1, 64))
    >>> few < many < 8 * few
    True
    """
    p = parameters
    matrices = 3.0 if gated else 2.0
    d, f = hidden, intermediate / tensor_parallel
    rows = np.asarray(tokens, dtype=float) * experts_per_token / expert_parallel
    imbalance = rank_imbalance(tokens, num_experts, experts_per_token, expert_parallel)
    touched = distinct_experts(tokens, num_experts, experts_per_token) / expert_parallel
    spread = touched * (1 - p.skew * (1 - touched * expert_parallel / num_experts))
    busiest = rows * imbalance
    padded = np.maximum(busiest, np.sqrt(busiest**2 + (touched * p.tile) ** 2))
    compute = 2 * matrices * padded * d * f / (rates.flops * p.compute_efficiency)
    moved = spread * matrices * d * f * weight_bytes + busiest * ((d + f) * activation_bytes + (matrices * f + d) * 2.0)
    memory = moved / (rates.bandwidth * p.memory_efficiency)
    return p.launch + soft_max(compute, memory)
