"""Time of one matrix product on one device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infersim.machine.kernels.base import Numbers, Rates, cache_speed_up, parameter, soft_max, wave_padding


@dataclass(frozen=True)
class GemmParameters:
    """What a data sheet does not say about a device's matrix products under one engine and number format."""

    launch: float = parameter(2.5e-6, 5e-7, 2e-4, "time of the smallest product", unit="s", log=True)
    compute_efficiency: float = parameter(0.8, 0.1, 1.0, "share of the peak that whole waves of tiles reach")
    memory_efficiency: float = parameter(0.85, 0.2, 1.0, "share of the bandwidth that streaming the weights reaches")
    depth: float = parameter(200.0, 1.0, 8000.0, "k of a tile that costs as much as starting and storing it", log=True)
    waves: float = parameter(0.3, 0.0, 1.0, "how much of the last wave's idle share is lost (1: all, 0: none)")
    input_pass: float = parameter(
        0.0, 0.0, 24.0, "bytes moved per input element in a pass of its own (quantising)", unit="B"
    )
    cache_gain: float = parameter(
        1.0, 0.0, 6.0, "speed-up, less one, of reading weights that a benchmark left in the cache"
    )
    throttle: float = parameter(0.05, 0.0, 0.6, "slow-down of large products at the power limit")
    padding: float = parameter(
        1.0, 0.0, 1.0, "how much of the idle rows and columns of tiles is paid (1: all, 0: none)"
    )


BIG_PRODUCT = 1e12
"""FLOP of a product (on a device of 1e15 FLOP/s) that runs long enough to meet the power limit."""


def gemm_time(
    m: Numbers,
    n: Numbers,
    k: Numbers,
    *,
    weight_bytes: float,
    activation_bytes: float,
    output_bytes: float,
    rates: Rates,
    parameters: GemmParameters,
    weights_in_l2: bool = False,
) -> Numbers:
    """Seconds of an (m x k) by (k x n) product: launch + input pass + p-norm of compute and memory.

    Compute: tiles of 128 columns and 16, 64 or 128 rows in waves over the compute units, each paying for ``depth`` extra k;
    memory: every operand moved once. ``weight_bytes``, ``activation_bytes`` and ``output_bytes`` are bytes per element, scales included.
    ``weights_in_l2`` prices a benchmark that loops over one weight matrix, which a cache may hold; a model's layers rarely
    find theirs there. Never below the data-sheet limit otherwise. Without rows (cross attention after the prompt) nothing runs.

    >>> h100 = Rates(flops=989e12, bandwidth=3.35e12, compute_units=132, l2_bytes=50e6)
    >>> t = gemm_time(4096, 8192, 8192, weight_bytes=2, activation_bytes=2, output_bytes=2, rates=h100,
    ...     parameters=GemmParameters())
    >>> bool(2 * 4096 * 8192 * 8192 / 989e12 < t < 1e-3)  # measured under vLLM: 0.698 ms
    True
    """
    p = parameters
    m, n = np.asarray(m, dtype=float), np.asarray(n, dtype=float)
    flops = 2.0 * m * n * k
    weights = weight_bytes * n * k
    moved = weights + activation_bytes * m * k + output_bytes * m * n
    rows = np.where(m > 64.0, 128.0, np.where(m > 16.0, 64.0, 16.0))
    tiles = np.maximum(np.ceil(m / rows), 1.0) * np.ceil(n / 128.0)
    idle = wave_padding(tiles, rates.compute_units)
    work = 2.0 * (m * n + p.padding * (128.0 * rows * tiles - m * n)) * (k + p.depth)
    size = flops / (BIG_PRODUCT * rates.flops / 1e15)
    slow = 1.0 + p.throttle * size / (1.0 + size)
    compute = work / (rates.flops * p.compute_efficiency) * (1.0 - p.waves + p.waves * idle) * slow
    memory = moved / (rates.bandwidth * p.memory_efficiency)
    if weights_in_l2:
        memory = memory / cache_speed_up(moved, p.cache_gain, rates)
    time = p.launch + p.input_pass * m * k / (rates.bandwidth * p.memory_efficiency) + soft_max(compute, memory)
    if not weights_in_l2:
        time = np.maximum(time, np.maximum(flops / rates.flops, moved / rates.bandwidth))
    return time * (m > 0)
