"""What a mechanism does, stated once for its work (ops) and for its time (kernel models), which may not import each other."""

from __future__ import annotations

from typing import Any

import numpy as np

Numbers = Any

ABSORBED_NEW_TOKENS = 16
"""Latent attention absorbs the key and value expansion into queries and outputs up to this many new tokens a sequence;
beyond it the latent vectors are expanded to keys and values, as FlashMLA decode and FlashAttention prefill do."""

_MULTIPLY_ADDS = {"gated_delta_net": 3.5, "kda": 3.5, "short_conv": 0.0, "rg_lru": 1.5}


def scan_multiply_adds(kind: str) -> float:
    """Multiply-adds per state element and token: 2.5 (decay, write, read), one more read for the delta rule.

    >>> scan_multiply_adds("mamba2"), scan_multiply_adds("gated_delta_net")
    (2.5, 3.5)
    """
    return _MULTIPLY_ADDS.get(kind, 2.5)


def sent_share(kind: str, ranks: int) -> float:
    """Bytes that one of ``ranks`` must at least send, over the payload of the collective.

    >>> sent_share("all_reduce", 8), sent_share("all_gather", 8), sent_share("all_to_all", 8)
    (1.75, 0.875, 1.0)
    """
    if kind == "all_reduce":
        return 2 * (ranks - 1) / ranks
    return 1.0 if kind in ("all_to_all", "send_recv") else (ranks - 1) / ranks


def visible_pairs(
    new: Numbers, cached: Numbers, *, window: float | None = None, chunk: float | None = None, causal: bool = True
) -> Numbers:
    """Query-key pairs that one sequence computes: sum over its T new tokens of the keys each one sees.

    Causal: T C + T (T + 1) / 2, token t seeing C + t keys. ``window`` w caps what each sees at w; ``chunk`` c lets it see
    its own block of c positions; not causal: every new token sees all C + T.

    >>> float(visible_pairs(4, 0)), float(visible_pairs(1, 8191)), float(visible_pairs(4, 0, window=2))
    (10.0, 8192.0, 7.0)
    >>> float(visible_pairs(4, 0, chunk=2)), float(visible_pairs(4, 0, causal=False))
    (6.0, 16.0)
    """
    T, C = np.asarray(new, dtype=float)[()], np.asarray(cached, dtype=float)[()]
    if not causal:
        return T * (C + T)
    if chunk is not None:
        return _block_pairs(C + T, chunk) - _block_pairs(C, chunk)
    if window is None:
        return T * C + T * (T + 1) / 2
    growing = np.minimum(np.maximum(window - C, 0), T)
    return growing * C + growing * (growing + 1) / 2 + (T - growing) * window


def _block_pairs(positions: Numbers, chunk: float) -> Numbers:
    """Pairs of the first ``positions`` tokens when each sees its own block only."""
    blocks, rest = np.floor(positions / chunk), np.mod(positions, chunk)
    return blocks * chunk * (chunk + 1) / 2 + rest * (rest + 1) / 2


def keys_read(new: Numbers, cached: Numbers, *, window: float | None = None, chunk: float | None = None) -> Numbers:
    """Distinct keys that the new tokens of one sequence see: what must be read from the cache at least.

    >>> float(keys_read(1, 8191)), float(keys_read(1, 8191, window=1024)), float(keys_read(4, 10, chunk=8))
    (8192.0, 1024.0, 6.0)
    """
    T, C = np.asarray(new, dtype=float)[()], np.asarray(cached, dtype=float)[()]
    if chunk is not None:
        return C + T - np.floor(C / chunk) * chunk
    return C + T if window is None else np.minimum(C + T, window + T - 1)
