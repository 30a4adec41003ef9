"""Time of attention between its projections: prompts, chunks behind a cached prefix, decode and encoders in one formula."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infersim.machine.kernels.base import Numbers, Rates, parameter


@dataclass(frozen=True)
class AttentionParameters:
    """What a data sheet does not say about a device's attention kernels under one engine and cache format."""

    launch: float = parameter(5e-6, 5e-7, 1e-4, "time of the smallest call", unit="s", log=True)
    compute_efficiency: float = parameter(0.6, 0.05, 1.0, "share of the peak that full tiles reach")
    memory_efficiency: float = parameter(0.85, 0.2, 1.0, "share of the bandwidth that streaming the cache reaches")


def attention_time(
    count: Numbers,
    new: Numbers,
    cached: Numbers,
    *,
    heads: Numbers,
    kv_heads: Numbers,
    key_dim: float,
    value_dim: float,
    window: float | None = None,
    causal: bool = True,
    q_bytes: float = 2.0,
    kv_bytes: float = 2.0,
    rates: Rates,
    parameters: AttentionParameters,
    cache_in_l2: bool = False,
) -> Numbers:
    """Seconds of attention of ``count`` sequences with ``new`` tokens behind ``cached`` ones each.

    A prompt is (1, T, 0), decode (B, 1, C), a chunk (1, T, C), an encoder ``causal=False`` with nothing cached. ``window``
    None sees everything. ``q_bytes`` and ``kv_bytes`` are bytes per element of queries (and outputs) and of the cache.
    """
    p = parameters
    new, cached = np.asarray(new, dtype=float), np.asarray(cached, dtype=float)
    pairs = new * cached + (new * (new + 1) / 2 if causal else new * new)
    keys = cached + new
    if window:
        growing = np.clip(window - cached, 0.0, new)
        pairs = (
            growing * cached + growing * (growing + 1) / 2 + (new - growing) * window
            if causal
            else new * np.minimum(keys, window)
        )
        keys = np.minimum(keys, window + new - 1)
    flops = 2.0 * count * heads * (key_dim + value_dim) * pairs
    moved = count * (key_dim + value_dim) * (keys * kv_heads * kv_bytes + new * heads * q_bytes)
    compute = flops / (rates.flops * p.compute_efficiency)
    memory = moved / (rates.bandwidth * p.memory_efficiency)
    a, b = compute * compute, memory * memory
    both = np.sqrt(np.sqrt(a * a + b * b))
    return np.maximum(p.launch + both, np.maximum(flops / rates.flops, moved / rates.bandwidth))
