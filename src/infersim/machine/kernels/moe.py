"""Time of the routed experts of one layer on one device: every product of every expert that a token visits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infersim.machine.kernels.base import Numbers, Rates, parameter, soft_max, wave_padding
from infersim.routing import distinct_experts, greatest_of_normals

SKEW = 1.01
"""Exponent of the power law of expert popularity that predictions assume: routing as skewed as trained models show it."""

LEAST_SPAN = 25.0
"""The most popular expert draws at least this many times the tokens of the least popular one."""


@dataclass(frozen=True)
class MoeParameters:
    """What a data sheet does not say about a device's fused expert kernels under one engine and format."""

    launch: float = parameter(
        25e-6, 2e-6, 3e-4, "time of the smallest call: sort, products, combine", unit="s", log=True
    )
    per_expert: float = parameter(5e-8, 1e-10, 2e-6, "added by every expert the device holds", unit="s", log=True)
    compute_efficiency: float = parameter(0.6, 0.03, 1.0, "share of the peak that full tiles reach")
    memory_efficiency: float = parameter(0.8, 0.1, 1.0, "share of the bandwidth that streaming the experts reaches")
    tile: float = parameter(32.0, 4.0, 256.0, "rows that a touched expert is padded to", log=True)
    depth: float = parameter(
        100.0, 1.0, 8000.0, "depth of a product that costs as much as starting and storing it", log=True
    )
    waves: float = parameter(0.5, 0.0, 1.0, "how much of the last wave's idle share is lost (1: all, 0: none)")
    occupancy: float = parameter(0.1, 0.02, 4.0, "tiles per compute unit that saturate the memory", log=True)
    passes: float = parameter(2.0, 0.02, 8.0, "traffic of activations over that of fully fused products", log=True)
    remote: float = parameter(
        0.2, 0.0, 1.0, "share of the traffic of other ranks' token-expert pairs that is paid here"
    )
    remote_work: float = parameter(0.0, 0.0, 1.0, "share of the products of those pairs that is computed here")
    l2_rate: float = parameter(1.5, 1.0, 6.0, "rate of the last-level cache over that of the memory")
    l2_share: float = parameter(0.6, 0.1, 1.5, "share of the last-level cache that weights can fill")


def expert_load(
    tokens: Numbers, num_experts: Numbers, experts_per_token: Numbers, ranks: Numbers = 1, skew: Numbers = SKEW
) -> tuple[Numbers, Numbers]:
    """Token-expert pairs and touched experts of the busiest of ``ranks`` that share the experts evenly.

    Popularity follows a power law: density x^-a between 1 and R, R = 0.8 T but at least ``LEAST_SPAN``, as the
    measurements of aiconfigurator draw it. A rank's load then scatters by the law's variance over its E/n experts and
    by the chance of which tokens come, and the busiest of n stands z_n deviations out, more where few experts keep the
    law's long tail (Cornish and Fisher 1938); experts that would get less than half a token go without. ``skew`` 0 deals
    the tokens out perfectly evenly.

    >>> pairs, touched = expert_load(np.array([4.0, 64.0, 1024.0]), 256, 8, 8)
    >>> [round(float(x), 2) for x in pairs / np.array([4.0, 64.0, 1024.0])]  # simulated: 1.53, 1.29, 1.41
    [1.53, 1.29, 1.41]
    >>> [round(float(x)) for x in expert_load(np.array([4.0, 64.0, 1024.0]), 256, 8)[1]]  # simulated: 32, 194, 235
    [26, 189, 232]
    """
    T, n = np.asarray(tokens, dtype=float)[()], np.asarray(ranks, dtype=float)[()]
    E, k = num_experts, experts_per_token
    mean = np.maximum(T * k / E, 1e-12)
    pairs = T * k / n
    even = np.asarray(skew) == 0
    s = np.where(even, SKEW, skew)[()] - 1.0
    span = np.maximum(0.8 * T, LEAST_SPAN)
    rest = span**-s
    cut = 1.0 - rest
    first, second, third = (s / (i - s) * (span**i * rest - 1.0) / cut for i in (1, 2, 3))
    lowest = mean / first
    square = second / first**2
    variance = square - 1.0
    lean = (third / first**3 - 3.0 * square + 2.0) / variance**1.5 * np.sqrt(n / E)
    scatter = variance * n / E + 0.5 * (1.0 - 1.0 / n) / np.maximum(pairs, 1e-9)
    most = np.minimum(n, np.maximum(np.minimum(lowest * span, T) / mean, 1.0))
    out = greatest_of_normals(n)
    out = out + lean * np.maximum(out * out - 1.0, 0.0) / 6.0
    busiest = pairs * np.minimum(1.0 + out * np.sqrt(scatter), most)
    half = np.minimum(np.maximum(0.5 / lowest, 1.0), span)
    reached = E * (half**-s - rest) / cut
    distinct = distinct_experts(T, E, k)
    touched = np.where(
        even, np.ceil(np.minimum(T * k, E) / n), np.minimum(np.maximum(reached, 0.85 * distinct), distinct) / n
    )
    touched = np.minimum(np.maximum(touched, 1.0), np.maximum(E / n, 1.0))
    return np.maximum(np.where(even, pairs, busiest), touched), touched


def moe_time(
    tokens: Numbers,
    hidden: Numbers,
    intermediate: Numbers,
    num_experts: Numbers,
    experts_per_token: Numbers,
    *,
    gated: Numbers = True,
    tensor_parallel: Numbers = 1,
    expert_parallel: Numbers = 1,
    weight_bytes: float,
    activation_bytes: float,
    rates: Rates,
    parameters: MoeParameters,
    skew: Numbers = SKEW,
    weights_in_l2: bool = False,
) -> Numbers:
    """Seconds of the routed experts on the busiest rank, for ``tokens`` tokens of all ranks that share them.

    Counted: 2 (gated: 3) products per token-expert pair, rows padded to tiles in every touched expert, in waves over
    the compute units; the weights of the touched experts once, at the bandwidth that as many tiles as there are can
    draw; the activations between the kernels, for the pairs of this rank and a share of everybody's; a floor for
    sorting, permuting and combining. Router, dispatch and shared experts are ops of their own. ``weights_in_l2``: the
    same weights were used just before, as in a benchmark's loop, so those that fit the cache come from there.

    >>> h100 = Rates(flops=989e12, bandwidth=3.35e12, compute_units=132)
    >>> few, many = (float(moe_time(t, 4096, 14336, 8, 2, weight_bytes=2, activation_bytes=2, rates=h100,
    ...     parameters=MoeParameters())) for t in (1, 64))
    >>> 2.0e-4 < few < 3.2e-4, 0.9e-3 < many < 1.3e-3  # measured on one H100 under vLLM: 0.26 and 1.0 ms
    (True, True)
    """
    p = parameters
    T, n, gates = (np.asarray(value, dtype=float)[()] for value in (tokens, expert_parallel, gated))
    products = 2.0 + gates
    d, f = hidden, intermediate / tensor_parallel
    columns = (products - 1.0) * f + d
    pairs, touched = expert_load(T, num_experts, experts_per_token, n, skew)

    everyone = np.maximum(T * experts_per_token - pairs, 0.0)
    worked = pairs + p.remote_work * everyone
    padded = np.maximum(worked + touched * (p.tile / 2), touched * p.tile)
    tiles = padded * columns / (p.tile * 256.0)
    idle = np.minimum(wave_padding(tiles, rates.compute_units), 20.0)
    work = padded * (2.0 * products * d * f * (1.0 + p.depth / np.minimum(d, f)))
    compute = work * (1.0 - p.waves + p.waves * idle) / (rates.flops * p.compute_efficiency)

    weights = touched * (products * d * f * weight_bytes)
    drawn = weights
    if weights_in_l2 and rates.l2_bytes:
        other = distinct_experts(5.0 * T, num_experts, experts_per_token) / n  # five routings take turns
        kept = np.where(np.asarray(skew) == 0, touched, np.maximum(np.minimum(other, 1.1 * touched), touched))
        hit = np.clip(1.5 - kept / touched * weights / (rates.l2_bytes * p.l2_share), 0.0, 1.0)
        drawn = weights * (1.0 - hit + hit / p.l2_rate)
    spread = np.minimum(touched * (columns / (256.0 * rates.compute_units * p.occupancy)), 1.0)
    memory = drawn / (rates.bandwidth * p.memory_efficiency * spread)

    between = (pairs + p.remote * everyone) * (2.0 * products * f * 2.0 + d * 4.0) + T * d * 4.0
    activations = p.passes * between / rates.bandwidth

    seconds = p.launch + p.per_expert * num_experts / n + soft_max(compute, memory) + activations
    if weights_in_l2:
        return seconds
    moved = weights + pairs * ((d + f) * activation_bytes)
    return np.maximum(seconds, np.maximum(pairs * (2.0 * products * d * f / rates.flops), moved / rates.bandwidth))


def moe_axes(
    tokens: Numbers,
    hidden: Numbers,
    intermediate: Numbers,
    num_experts: Numbers,
    *,
    tensor_parallel: Numbers = 1,
    expert_parallel: Numbers = 1,
) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Where a residual surface is read: tokens, experts a rank holds, its share of an expert's width, hidden size."""
    return tokens, num_experts / expert_parallel, intermediate / tensor_parallel, hidden


MOE_AXES = ("tokens", "experts", "intermediate", "hidden")
"""Names of what ``moe_axes`` gives."""
