"""Time of multi-head latent attention between its projections, absorbed for decode and expanded for prefill."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infersim.machine.kernels.base import Numbers, Rates, padded, parameter, soft_max
from infersim.mechanisms import ABSORBED_NEW_TOKENS, visible_pairs

QUERY_ROWS = 128
"""Rows of a prefill tile: query tokens of one head."""


@dataclass(frozen=True)
class LatentParameters:
    """What a data sheet does not say about a device's latent-attention kernels under one engine and cache format."""

    launch: float = parameter(12e-6, 1e-6, 2e-4, "time of the smallest call", unit="s", log=True)
    compute_efficiency: float = parameter(0.6, 0.03, 1.0, "share of the peak that full tiles reach")
    memory_efficiency: float = parameter(0.8, 0.1, 1.0, "share of the bandwidth that streaming the cache reaches")
    query_passes: float = parameter(
        1.5, 0.05, 20.0, "traffic of queries and outputs over reading and writing each once", log=True
    )
    sequence: float = parameter(2e-8, 1e-11, 5e-6, "added by every sequence", unit="s", log=True)
    head_rows: float = parameter(32.0, 1.0, 128.0, "decode: query rows (heads) that a tile is padded to", log=True)
    ramp: float = parameter(
        8e-6, 1e-8, 1e-3, "decode: added once the cache is split over the device", unit="s", log=True
    )
    ramp_bytes: float = parameter(2e6, 1e4, 1e10, "decode: cache at which half of the ramp is paid", unit="B", log=True)
    walk: float = parameter(3e-9, 1e-10, 3e-7, "decode: added by every key that a tile walks past", unit="s", log=True)
    most_splits: float = parameter(100.0, 1.0, 300.0, "decode: pieces a sequence's cache is cut into at most", log=True)
    combine: float = parameter(1.0, 0.0, 20.0, "decode: traffic of partial results over writing and reading each once")
    tile: float = parameter(3e-6, 1e-8, 1e-4, "prefill: added by every wave of tiles", unit="s", log=True)
    diagonal: float = parameter(128.0, 1.0, 2048.0, "prefill: tokens by which the causal diagonal is padded", log=True)


def latent_attention_time(
    count: Numbers,
    new: Numbers,
    cached: Numbers,
    *,
    heads: Numbers,
    kv_lora_rank: int,
    qk_rope_head_dim: int,
    qk_nope_head_dim: int,
    v_head_dim: int,
    cache_bytes: float = 2.0,
    rates: Rates,
    parameters: LatentParameters,
    absorbed: bool | None = None,
    cache_in_l2: bool = False,
) -> Numbers:
    """Seconds of attention of ``count`` sequences with ``new`` tokens behind ``cached`` latent vectors each.

    Absorbed: 2 H (2 r + rope) FLOP per pair, heads padded to tiles; one latent read for all heads; the cache split over
    the device where sequences are few, which costs partial results written and read once more. Expanded: 2 H (nope +
    rope + v) per pair, in waves of tiles of ``QUERY_ROWS`` queries, and the cached latents are expanded to keys and
    values first. ``absorbed`` None decides by ``new``: absorbed up to ``ABSORBED_NEW_TOKENS``. ``cache_in_l2`` prices a
    benchmark that reads the same small cache over and over. Source: DeepSeek-V2, arXiv:2405.04434.

    >>> h100 = Rates(flops=989e12, bandwidth=3.35e12, compute_units=132)
    >>> shape = dict(heads=128, kv_lora_rank=512, qk_rope_head_dim=64, qk_nope_head_dim=128, v_head_dim=128)
    >>> t = latent_attention_time(32, 1, 16383, **shape, rates=h100, parameters=LatentParameters())
    >>> round(float(t) * 1e6) in range(230, 330)  # measured under SGLang and TensorRT-LLM: 270 and 265 us
    True
    >>> t = latent_attention_time(1, 4096, 0, **shape, rates=h100, parameters=LatentParameters())
    >>> round(float(t) * 1e6) in range(1000, 1400)  # measured under TensorRT-LLM: 1263 us
    True
    """
    B, T, C, H = (np.asarray(value, dtype=float)[()] for value in (count, new, cached, heads))
    pairs = visible_pairs(T, C)
    wide, narrow = 2 * kv_lora_rank + qk_rope_head_dim, qk_nope_head_dim + qk_rope_head_dim + v_head_dim
    latents = (C + T) * (kv_lora_rank + qk_rope_head_dim) * cache_bytes  # of one sequence, as are pairs and expansion
    cache = B * latents
    expand = 2.0 * C * kv_lora_rank * H * (qk_nope_head_dim + v_head_dim)
    expanded = 2.0 * C * H * (qk_nope_head_dim + v_head_dim) * 2.0

    def decode() -> Numbers:
        p = parameters
        rows = np.maximum(T * H, 1.0)
        compute = B * (2.0 * padded(rows, p.head_rows) * wide * pairs / T / (rates.flops * p.compute_efficiency))
        tiles = B * np.ceil(rows / 64.0)
        pieces = np.minimum(np.maximum((C + T) / 256.0, 1.0), p.most_splits)
        splits = np.minimum(np.maximum(rates.compute_units / tiles, 1.0), pieces)
        walk = p.walk * (C + T) / splits * np.maximum(tiles * splits / rates.compute_units, 1.0)
        partial = p.combine * 8.0 * rows * kv_lora_rank * (splits - 1.0)
        ends = p.query_passes * rows * wide * 2.0
        memory = cache / (rates.bandwidth * p.memory_efficiency)
        ramp = p.ramp * cache / (cache + p.ramp_bytes)
        seconds = (
            p.launch
            + B * (p.sequence + (partial + ends) / rates.bandwidth)
            + ramp
            + soft_max(compute, soft_max(memory, walk))
        )
        floor = B * np.maximum(2.0 * H * wide * pairs / rates.flops, latents / rates.bandwidth)
        return seconds if cache_in_l2 else np.maximum(seconds, floor)

    def prefill() -> Numbers:
        p = parameters
        tiles = B * (H * np.ceil(T / QUERY_ROWS))
        waves = np.ceil(tiles / rates.compute_units)
        flops = 2.0 * H * narrow * (T * C + T * (T + p.diagonal) / 2) + expand
        idle = 1.0 + 0.5 * (waves * rates.compute_units / tiles - 1.0)
        compute = B * (flops / (rates.flops * p.compute_efficiency)) * np.minimum(idle, 20.0)
        ends = p.query_passes * T * H * (2 * narrow - v_head_dim) * 2.0
        memory = B * ((latents + ends + expanded) / (rates.bandwidth * p.memory_efficiency))
        seconds = p.launch + p.sequence * B + p.tile * waves + soft_max(compute, memory)
        floor = B * np.maximum((2.0 * H * narrow * pairs + expand) / rates.flops, latents / rates.bandwidth)
        return seconds if cache_in_l2 else np.maximum(seconds, floor)

    if absorbed is None:
        short = T <= ABSORBED_NEW_TOKENS
        if short.all():
            return decode()
        return np.where(short, decode(), prefill()) if short.any() else prefill()
    return decode() if absorbed else prefill()


def latent_axes(count: Numbers, new: Numbers, cached: Numbers, heads: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Where a residual surface is read: sequences, keys each sees, heads."""
    return count, np.asarray(new) + cached, heads


LATENT_AXES = ("sequences", "keys", "heads")
"""Names of what ``latent_axes`` gives."""
