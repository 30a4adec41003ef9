"""Time of one matrix product on one device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infersim.machine.kernels.base import Numbers, Rates, parameter


@dataclass(frozen=True)
class GemmParameters:
    """What a data sheet does not say about a device's matrix products under one engine and number format."""

    launch: float = parameter(2.5e-6, 5e-7, 4e-5, "time of the smallest product", unit="s", log=True)
    compute_efficiency: float = parameter(0.8, 0.1, 1.0, "share of the peak that whole waves of tiles reach")
    memory_efficiency: float = parameter(0.85, 0.2, 1.0, "share of the bandwidth that streaming the weights reaches")
    depth: float = parameter(300.0, 1.0, 8000.0, "k of a tile that costs as much as starting and storing it", log=True)
    waves: float = parameter(0.5, 0.0, 1.0, "how much of the last wave's idle share is lost (1: all, 0: none)")


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
    """Seconds of an (m x k) by (k x n) product.

    ``weight_bytes``, ``activation_bytes`` and ``output_bytes`` are bytes per element, scales included.

    >>> h100 = Rates(flops=989e12, bandwidth=3.35e12, compute_units=132, l2_bytes=50e6)
    >>> t = gemm_time(4096, 8192, 8192, weight_bytes=2, activation_bytes=2, output_bytes=2, rates=h100, parameters=GemmParameters())
    >>> bool(2 * 4096 * 8192 * 8192 / 989e12 < t < 1e-3)  # measured under vLLM: 0.698 ms
    True
    """
    p = parameters
    flops = 2.0 * m * n * k
    moved = weight_bytes * n * k + activation_bytes * m * k + output_bytes * m * n
    tiles = np.ceil(np.asarray(m) / 128.0) * np.ceil(np.asarray(n) / 128.0)
    padding = tiles * (128.0 * 128.0) / (np.asarray(m, dtype=float) * n)
    idle = np.ceil(tiles / rates.compute_units) * rates.compute_units / tiles
    compute = (
        flops * padding / (rates.flops * p.compute_efficiency) * (1.0 - p.waves + p.waves * idle) * (1.0 + p.depth / k)
    )
    memory = moved / (rates.bandwidth * p.memory_efficiency)
    a, b = compute * compute, memory * memory
    both = np.sqrt(np.sqrt(a * a + b * b))
    return np.maximum(p.launch + both, np.maximum(flops / rates.flops, moved / rates.bandwidth))
