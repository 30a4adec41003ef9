"""The forms of matrix products and attention that the present ones replaced, kept for ``select_forms.py`` to compare with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infersim.machine.kernels.attention import _window
from infersim.machine.kernels.base import Numbers, Rates, cache_speed_up, parameter, soft_max, wave_padding
from infersim.mechanisms import keys_read, visible_pairs

QUERY_TILE, BIG_PRODUCT = 128.0, 1e12


@dataclass(frozen=True)
class FormerGemm:
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


def former_gemm_time(
    m: Numbers,
    n: Numbers,
    k: Numbers,
    *,
    weight_bytes: float,
    activation_bytes: float,
    output_bytes: float,
    rates: Rates,
    parameters: FormerGemm,
    weights_in_l2: bool = False,
) -> Numbers:
    """Seconds of a product whose tiles have 128 columns and 16, 64 or 128 rows, with ``depth`` extra k each."""
    p = parameters
    m, n = np.asarray(m, dtype=float), np.asarray(n, dtype=float)
    flops = 2.0 * m * n * k
    weights = weight_bytes * n * k
    moved = weights + activation_bytes * m * k + output_bytes * m * n
    rows = np.where(m > 64.0, 128.0, np.where(m > 16.0, 64.0, 16.0))
    tiles = np.maximum(np.ceil(m / rows), 1.0) * np.ceil(n / 128.0)
    idle = wave_padding(tiles, rates.compute_units)
    work = 2.0 * 128.0 * rows * tiles * (k + p.depth)
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


@dataclass(frozen=True)
class FormerAttention:
    """What a data sheet does not say about a device's attention kernels under one engine and cache format."""

    launch: float = parameter(5e-6, 5e-7, 2e-4, "time of the smallest call", unit="s", log=True)
    compute_efficiency: float = parameter(0.6, 0.02, 1.0, "share of the peak that full tiles reach")
    memory_efficiency: float = parameter(0.8, 0.1, 1.0, "share of the bandwidth that streaming the cache reaches")
    head_dim: float = parameter(16.0, 0.0, 256.0, "head dimension that costs as much as soft-max and set-up of a tile")
    waves: float = parameter(0.3, 0.0, 1.0, "how much of the last wave's idle share is lost (1: all, 0: none)")
    rows: float = parameter(16.0, 1.0, 128.0, "query rows that share a key-value head's tile at least", log=True)
    key: float = parameter(1e-9, 1e-12, 1e-6, "time a lone stream of keys takes per key", unit="s", log=True)
    sequence: float = parameter(1e-9, 1e-11, 1e-6, "time of one more sequence and key-value head", unit="s", log=True)
    cache_gain: float = parameter(0.5, 0.0, 8.0, "speed-up, less one, of keys that a benchmark left in the cache")


def former_attention_time(
    count: Numbers,
    new: Numbers,
    cached: Numbers,
    *,
    heads: Numbers,
    kv_heads: Numbers,
    key_dim: Numbers,
    value_dim: Numbers,
    window: Numbers = None,
    causal: bool = True,
    q_bytes: float = 2.0,
    kv_bytes: float = 2.0,
    rates: Rates,
    parameters: FormerAttention,
    cache_in_l2: bool = False,
) -> Numbers:
    """Seconds of attention whose compute is pairs padded to tiles, with no keys split and no heads alone."""
    p = parameters
    T, C = np.asarray(new, dtype=float), np.asarray(cached, dtype=float)
    pairs, keys = visible_pairs(T, C, causal=causal), C + T
    if window is not None and np.any(np.asarray(window) > 0):
        w = _window(window)
        pairs = visible_pairs(T, C, window=w) if causal else T * np.minimum(keys, w)
        keys = keys_read(T, C, window=w)
    width = key_dim + value_dim
    flops = 2.0 * count * heads * width * pairs
    moved = count * width * (keys * kv_heads * kv_bytes + T * heads * q_bytes)

    queries = np.maximum(T * heads / kv_heads, 1e-9)
    padded = np.maximum(queries, p.rows) / queries
    tile = np.minimum(T, QUERY_TILE) / 2 if causal else np.zeros_like(T)
    tiles = np.maximum(count * heads * np.ceil(T / QUERY_TILE), 1e-9)
    idle = np.minimum(wave_padding(tiles, rates.compute_units), rates.compute_units)
    spread = np.where(T > 16, 1.0 - p.waves + p.waves * idle, 1.0)
    work = 2.0 * count * heads * (width + 2.0 * p.head_dim) * (pairs + tile * T) * padded
    compute = work / (rates.flops * p.compute_efficiency) * spread
    memory = moved / (rates.bandwidth * p.memory_efficiency)
    if cache_in_l2:
        memory = memory / cache_speed_up(moved, p.cache_gain, rates)
    streams = np.clip(count * kv_heads, 1.0, rates.compute_units)
    alone = p.key * keys / np.sqrt(streams) + p.sequence * count * kv_heads
    time = p.launch + soft_max(compute, memory) + alone
    if cache_in_l2:
        return time
    return np.maximum(time, np.maximum(flops / rates.flops, moved / rates.bandwidth))


def former_attention_axes(
    count: Numbers, new: Numbers, cached: Numbers, heads: Numbers, kv_heads: Numbers, window: Numbers = None
) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Where a residual surface is read: sequences, keys each sees, query heads per key-value head, key-value heads."""
    keys = np.asarray(new, dtype=float) + cached
    if window is not None:
        keys = np.minimum(keys, _window(window) + new - 1)
    return count, keys, heads / kv_heads, kv_heads
