"""Time of one matrix product on one device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infersim.machine.kernels.base import Numbers, Rates, cache_speed_up, fastest, parameter, soft_max

TILES = ((16.0, 64.0), (64.0, 64.0), (128.0, 128.0), (256.0, 128.0))
"""Rows and columns of the output tiles that a kernel selector chooses among."""


@dataclass(frozen=True)
class GemmParameters:
    """What a data sheet does not say about a device's matrix products under one engine and number format."""

    launch: float = parameter(2.5e-6, 2e-7, 2e-4, "time of the smallest product", unit="s", log=True)
    compute_efficiency: float = parameter(0.8, 0.05, 1.0, "share of the peak that whole waves of large tiles reach")
    memory_efficiency: float = parameter(0.85, 0.2, 1.0, "share of the bandwidth that streaming the operands reaches")
    small_tile: float = parameter(10.0, 0.1, 1000.0, "loss of small tiles: 1 + this (1 / rows + 1 / columns)", log=True)
    depth_step: float = parameter(1e-9, 5e-11, 2e-8, "least time of a tile per element of k", unit="s", log=True)
    tile_start: float = parameter(4e-7, 1e-8, 2e-5, "starting and storing a tile", unit="s", log=True)
    split_depth: float = parameter(500.0, 32.0, 65536.0, "least k of a part where k is split over idle units", log=True)
    split_cost: float = parameter(2e-6, 1e-8, 4e-5, "adding up the parts of a split product", unit="s", log=True)
    waves: float = parameter(0.3, 0.0, 1.0, "how much of the last wave's idle share is lost (1: all, 0: none)")
    input_pass: float = parameter(
        0.0, 0.0, 24.0, "bytes moved per input element in a pass of its own (quantising)", unit="B"
    )
    cache_gain: float = parameter(
        1.0, 0.0, 6.0, "speed-up, less one, of reading weights that a benchmark left in the cache"
    )
    copies: float = parameter(1.0, 1.0, 16.0, "copies of the weights that the benchmark takes turns with", log=True)
    padding: float = parameter(
        1.0, 0.0, 1.0, "how much of the idle rows and columns of tiles is paid (1: all, 0: none)"
    )


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

    Compute: the fastest of several tile sizes, in rounds over the compute units, or with k split over units that would idle.
    Memory: every operand moved once. ``weight_bytes``, ``activation_bytes`` and ``output_bytes`` are bytes per element, scales
    included. ``weights_in_l2`` prices a benchmark that loops over one weight matrix, which a cache may hold; a model's layers
    rarely find theirs there. Never below the data-sheet limit otherwise. Without rows (cross attention after the prompt)
    nothing runs.

    >>> h100 = Rates(flops=989e12, bandwidth=3.35e12, compute_units=132, l2_bytes=50e6)
    >>> t = gemm_time(4096, 8192, 8192, weight_bytes=2, activation_bytes=2, output_bytes=2, rates=h100,
    ...     parameters=GemmParameters())
    >>> bool(2 * 4096 * 8192 * 8192 / 989e12 < t < 1e-3)  # measured under vLLM: 0.698 ms
    True
    """
    p = parameters
    m, n, k = (np.asarray(size, dtype=float)[()] for size in (m, n, k))
    weights = n * k
    moved = weight_bytes * weights + m * (activation_bytes * k + output_bytes * n)
    units = rates.compute_units
    largest_rows, largest_columns = TILES[-1]
    pace = 2.0 * units / (rates.flops * p.compute_efficiency)
    pace = pace / (1.0 + p.small_tile * (1.0 / largest_rows + 1.0 / largest_columns))

    def tiled(rows: Numbers, columns: Numbers) -> Numbers:
        area = rows * columns
        step = soft_max(pace * (area + p.small_tile * (rows + columns)), p.depth_step)
        filled = np.ceil(m / rows) * (np.ceil(n / columns) / units)
        if p.padding < 1.0:
            exact = m * (n / (area * units))
            filled = exact + p.padding * (filled - exact)
        rounds = np.maximum(filled + p.waves * (np.ceil(filled) - filled), 1.0)
        full = np.maximum(filled, 1.0)
        part = np.maximum(np.minimum(full, p.split_depth / k), filled)  # of the depth of one product
        walk = step * k
        return np.minimum(rounds * (p.tile_start + walk), full * p.tile_start + p.split_cost + walk * part)

    compute = fastest(tiled, TILES, moved)
    stream = rates.bandwidth * p.memory_efficiency
    memory = moved / stream
    if weights_in_l2:
        memory = memory / cache_speed_up(moved + (p.copies - 1.0) * weight_bytes * weights, p.cache_gain, rates)
    time = p.launch + soft_max(compute, memory)
    if p.input_pass:
        time = time + m * (p.input_pass / stream * k)
    if not weights_in_l2:
        time = np.maximum(time, np.maximum(m * (2.0 / rates.flops * weights), moved / rates.bandwidth))
    return time * (m > 0)
