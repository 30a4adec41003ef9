"""Time of attention between its projections: prompts, chunks behind a cached prefix, decode and encoders in one formula."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infersim.machine.kernels.base import Numbers, Rates, cache_speed_up, parameter, soft_max, wave_padding
from infersim.mechanisms import keys_read, visible_pairs

QUERY_TILE = 128.0
"""Queries that one tile of a prefill kernel holds (FlashAttention-2 and -3)."""


@dataclass(frozen=True)
class AttentionParameters:
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


def attention_time(
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
    parameters: AttentionParameters,
    cache_in_l2: bool = False,
) -> Numbers:
    """Seconds of attention of ``count`` sequences with ``new`` tokens behind ``cached`` ones each.

    A prompt is (1, T, 0), decode (B, 1, C), a chunk (1, T, C), an encoder ``causal=False`` with nothing cached. ``window``
    None (or 0) sees everything. ``q_bytes`` and ``kv_bytes`` are bytes per element of queries (and outputs) and of the
    cache. Compute: pairs padded to tiles along the diagonal, at least ``rows`` query rows per key-value head, in waves over
    the compute units. Memory: keys, values, queries and outputs once; a lone stream is bound by its own latency.
    ``cache_in_l2`` prices a benchmark that reads the same cache again and again.

    >>> h100 = Rates(flops=989e12, bandwidth=3.35e12, compute_units=132, l2_bytes=50e6)
    >>> t = attention_time(64, 1, 4096, heads=32, kv_heads=8, key_dim=128, value_dim=128, rates=h100,
    ...     parameters=AttentionParameters())
    >>> bool(3.2e-4 < t < 5e-4)  # 1.07 GB of keys and values: 0.32 ms at the data-sheet rate
    True
    """
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


def _window(window: Numbers) -> Numbers:
    """The window as a number of tokens that any sequence fits into where there is none (0)."""
    return np.where(np.asarray(window) > 0, np.asarray(window, dtype=float), 1e18)


def attention_axes(
    count: Numbers, new: Numbers, cached: Numbers, heads: Numbers, kv_heads: Numbers, window: Numbers = None
) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Where a residual surface is read: sequences, keys each sees, query heads per key-value head, key-value heads."""
    keys = np.asarray(new, dtype=float) + cached
    if window is not None:
        keys = np.minimum(keys, _window(window) + new - 1)
    return count, keys, heads / kv_heads, kv_heads


ATTENTION_AXES = ("sequences", "keys", "group", "kv_heads")
"""Names of what ``attention_axes`` gives."""
