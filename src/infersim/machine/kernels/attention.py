"""Time of attention between its projections: prompts, chunks behind a cached prefix, decode and encoders in one formula."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from infersim.machine.kernels.base import Numbers, Rates, cache_speed_up, fastest, parameter, soft_max
from infersim.mechanisms import keys_read, visible_pairs

LARGE_TILES = ((64.0,), (128.0,))
"""Query rows of the tiles that a kernel selector chooses among beside the smallest; heads that share keys are packed into one tile."""


@dataclass(frozen=True)
class AttentionParameters:
    """What a data sheet does not say about one of a device's attention kernels under one engine and cache format."""

    launch: float = parameter(5e-6, 2e-7, 2e-4, "time of the smallest call", unit="s", log=True)
    compute_efficiency: float = parameter(0.7, 0.02, 1.5, "share of the peak that full tiles reach", log=True)
    memory_efficiency: float = parameter(
        0.85, 0.05, 1.0, "share of the bandwidth that streaming the cache reaches", log=True
    )
    key_step: float = parameter(2e-9, 1e-11, 2e-7, "least time of a tile per key", unit="s", log=True)
    tile_start: float = parameter(1e-6, 1e-8, 3e-5, "starting and storing a tile", unit="s", log=True)
    lone: float = parameter(
        1.5, 0.1, 10.0, "in decode: the same two of a head that shares no keys, over those", log=True
    )
    split_keys: float = parameter(
        256.0, 16.0, 1e6, "least keys of a part where keys are split over idle units", log=True
    )
    split_cost: float = parameter(2e-6, 1e-8, 5e-5, "adding up the parts", unit="s", log=True)
    cache_gain: float = parameter(0.5, 0.0, 8.0, "speed-up, less one, of keys that a benchmark left in the cache")
    packed: float = parameter(
        1e9, 1.0, 1e9, "in decode: most heads of a key-value head in a tile; beyond, each is alone", log=True
    )
    packed_in_window: float = parameter(
        1.0, 0.0, 1.0, "in decode: whether heads that see a window share tiles (1) or not (0)"
    )
    skips_window: float = parameter(1.0, 0.0, 1.0, "whether keys outside the window are left out (1) or masked (0)")
    rows: float = parameter(16.0, 1.0, 64.0, "query rows of the smallest tile: 16 in matrix units, 1 in vector units")


CHOICES = ("packed", "packed_in_window", "skips_window", "rows")
"""Parameters that say which kernel runs: a fit tries them, or holds them, and does not search."""


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
    decode: bool = False,
    cache_in_l2: bool = False,
) -> Numbers:
    """Seconds of attention of ``count`` sequences with ``new`` tokens behind ``cached`` ones each.

    A prompt is (1, T, 0), decode (B, 1, C), a chunk (1, T, C), an encoder ``causal=False`` with nothing cached. ``window``
    None (or 0) sees everything. ``q_bytes`` and ``kv_bytes`` are bytes per element of queries (and outputs) and of the
    cache; ``decode`` says that the kernel for few new tokens runs.

    Compute: query heads of one key-value head share tiles of 16, 64 or 128 rows, each walking the keys it sees, in rounds
    over the compute units or with its keys split over idle ones. Memory: keys, values, queries and outputs once.
    ``cache_in_l2`` prices a benchmark that reads the same cache again and again. Never below the data sheet otherwise.

    >>> h100 = Rates(flops=989e12, bandwidth=3.35e12, compute_units=132, l2_bytes=50e6)
    >>> t = attention_time(64, 1, 4096, heads=32, kv_heads=8, key_dim=128, value_dim=128, rates=h100,
    ...     parameters=AttentionParameters(), decode=True)
    >>> bool(3.2e-4 < t < 5e-4)  # 1.07 GB of keys and values: 0.32 ms at the data-sheet rate
    True
    """
    p = parameters
    T, C = np.asarray(new, dtype=float)[()], np.asarray(cached, dtype=float)[()]
    total = C + T
    pairs, keys, limit = visible_pairs(T, C, causal=causal), total, None
    if window is not None and np.any(np.asarray(window) > 0):
        limit = _window(window)
        pairs = visible_pairs(T, C, window=limit) if causal else T * np.minimum(total, limit)
        keys = keys_read(T, C, window=limit)
    width = key_dim + value_dim
    moved = least_moved = width * (keys * kv_heads * kv_bytes + T * heads * q_bytes)  # by one sequence
    least_flops = 2.0 * heads * width * pairs
    packed_heads: Numbers = True
    if limit is not None and not p.packed_in_window:
        packed_heads = limit >= NO_WINDOW
    if limit is not None and not p.skips_window:
        pairs, keys, limit = visible_pairs(T, C, causal=causal), total, None
        moved = width * (keys * kv_heads * kv_bytes + T * heads * q_bytes)

    readers: Numbers = kv_heads
    cost: Numbers = 1.0
    if decode:
        alone: Numbers = (heads == kv_heads) | (heads > p.packed * kv_heads) | np.logical_not(packed_heads)
        chosen: Any = np.where(alone, heads, kv_heads)
        readers = chosen[()]
        cost = np.where(alone, p.lone, 1.0)[()]
    group, streams = heads / readers, count * readers
    start, least = cost * p.tile_start, cost * p.key_step
    units = rates.compute_units
    seen = pairs / np.maximum(T, 1e-9)
    pace = 2.0 * width * units / (rates.flops * p.compute_efficiency)

    def tiled(rows: Numbers) -> Numbers:
        step = soft_max(rows * pace, least)
        reach = seen
        if not decode and causal:  # a tile walks on to the last key that any of its queries sees
            beyond = 0.5 * (np.minimum(rows / group, T) - 1.0)
            reach = seen + beyond
            if limit is not None:
                reach = np.minimum(reach + np.where(limit < total, beyond, 0.0), keys)
        filled = streams * (np.ceil(T * group / rows) / units)
        whole = np.maximum(np.ceil(filled) * (start + step * reach), start + step * keys)
        spread = reach * filled
        part = np.minimum(np.maximum(spread, p.split_keys), np.maximum(keys, spread))
        return np.minimum(whole, np.maximum(filled, 1.0) * start + p.split_cost + step * part)

    compute = fastest(tiled, ((p.rows,), *LARGE_TILES), streams * (keys * T * group))
    memory = count * (moved / (rates.bandwidth * p.memory_efficiency))
    if cache_in_l2:
        memory = memory / cache_speed_up(count * moved, p.cache_gain, rates)
    time = p.launch + soft_max(compute, memory)
    if cache_in_l2:
        return time
    return np.maximum(time, count * np.maximum(least_flops / rates.flops, least_moved / rates.bandwidth))


NO_WINDOW = 1e18
"""A window that any sequence fits into."""


def _window(window: Numbers) -> Numbers:
    """The window as a number of tokens, also where there is none (0)."""
    return np.where(np.asarray(window) > 0, np.asarray(window, dtype=float), NO_WINDOW)


def attention_axes(
    count: Numbers, new: Numbers, cached: Numbers, heads: Numbers, kv_heads: Numbers, key_dim: Numbers,
    window: Numbers = None, *, decode: bool = False,
) -> tuple[Numbers, Numbers, Numbers, Numbers]:  # fmt: skip
    """Where a residual surface is read: keys a decoded token sees (new tokens of a prompt), key-value heads of all sequences,
    query heads per key-value head, head dimension."""
    extent = np.asarray(new, dtype=float)[()]
    if decode:
        extent = extent + cached
        if window is not None:
            extent = np.minimum(extent, _window(window) + new - 1)
    return extent, count * kv_heads, heads / kv_heads, key_dim


ATTENTION_AXES = ("extent", "streams", "group", "head_dim")
"""Names of what ``attention_axes`` gives."""
