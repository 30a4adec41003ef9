"""Time of multi-head latent attention between its projections, absorbed for decode and expanded for prefill."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infersim.machine.kernels.base import Numbers, Rates, parameter, soft_max

ABSORBED_NEW_TOKENS = 16
"""Up to this many new tokens a sequence, engines work on the latent vectors themselves."""


@dataclass(frozen=True)
class LatentParameters:
    """What a data sheet does not say about a device's latent-attention kernels under one engine and cache format."""

    launch: float = parameter(8e-6, 1e-6, 1e-4, "time of the smallest call", unit="s", log=True)
    compute_efficiency: float = parameter(0.5, 0.05, 1.0, "share of the peak that full tiles reach")
    memory_efficiency: float = parameter(0.75, 0.1, 1.0, "share of the bandwidth that streaming the cache reaches")


def latent_attention_time(
    count: Numbers,
    new: Numbers,
    cached: Numbers,
    *,
    heads: float,
    kv_lora_rank: int,
    qk_rope_head_dim: int,
    qk_nope_head_dim: int,
    v_head_dim: int,
    cache_bytes: float = 2.0,
    rates: Rates,
    parameters: LatentParameters,
) -> Numbers:
    """Seconds of attention of ``count`` sequences with ``new`` tokens behind ``cached`` latent vectors each.

    Absorbed: 2 H (2 r + rope) FLOP per pair, one latent read for all heads; expanded: 2 H (nope + rope + v) per pair, and
    the cached latents are expanded to keys and values first. Source: DeepSeek-V2, arXiv:2405.04434.

    >>> h100 = Rates(flops=989e12, bandwidth=3.35e12, compute_units=132)
    >>> t = latent_attention_time(64, 1, 4096, heads=128, kv_lora_rank=512, qk_rope_head_dim=64, qk_nope_head_dim=128,
    ...     v_head_dim=128, rates=h100, parameters=LatentParameters())
    >>> bool(9e-5 < t < 4e-4)
    True
    """
    p, T, C = parameters, np.asarray(new, dtype=float), np.asarray(cached, dtype=float)
    pairs = T * C + T * (T + 1) / 2
    absorbed = T <= ABSORBED_NEW_TOKENS
    wide, narrow = 2 * kv_lora_rank + qk_rope_head_dim, qk_nope_head_dim + qk_rope_head_dim + v_head_dim
    expand = 2 * C * kv_lora_rank * heads * (qk_nope_head_dim + v_head_dim)
    flops = count * np.where(absorbed, 2 * heads * wide * pairs, 2 * heads * narrow * pairs + expand)
    latent = (C + T) * (kv_lora_rank + qk_rope_head_dim) * cache_bytes
    expanded = C * heads * (qk_nope_head_dim + v_head_dim) * 4.0
    moved = count * (latent + np.where(absorbed, 2.0 * T * heads * wide, 2.0 * T * heads * narrow + expanded))
    compute = flops / (rates.flops * p.compute_efficiency)
    return p.launch + soft_max(compute, moved / (rates.bandwidth * p.memory_efficiency))
