"""Attention between its projections. Prefill, chunk and decode are one formula: (new, cached) tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infersim.ops.base import Numbers, Op

ABSORBED_NEW_TOKENS = 16
"""Latent attention absorbs the key and value expansion into queries and outputs up to this many new tokens a sequence;
beyond it the latent vectors are expanded to keys and values, as FlashMLA decode and FlashAttention prefill do."""


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
    T, C = np.asarray(new, dtype=float), np.asarray(cached, dtype=float)
    if not causal:
        return T * (C + T)
    if chunk is not None:
        return _block_pairs(C + T, chunk) - _block_pairs(C, chunk)
    if window is None:
        return T * C + T * (T + 1) / 2
    growing = np.clip(window - C, 0, T)
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
    T, C = np.asarray(new, dtype=float), np.asarray(cached, dtype=float)
    if chunk is not None:
        return C + T - np.floor(C / chunk) * chunk
    return C + T if window is None else np.minimum(C + T, window + T - 1)


def attention_flops(pairs: Numbers, *, heads: Numbers, key_dim: float, value_dim: float) -> Numbers:
    """FLOP of scores and values: 2 H (d_k + d_v) per visible pair. Softmax, rotary and scaling are not counted.

    >>> attention_flops(2048 * 2049 / 2, heads=32, key_dim=128, value_dim=128) * 32  # Llama-3.1-8B, 32 layers
    1100048498688.0
    """
    return 2 * heads * (key_dim + value_dim) * pairs


@dataclass(frozen=True)
class Attention(Op):
    """Attention of ``sequences`` equal sequences with ``new`` and ``cached`` tokens each, on one device.

    With ``latent`` = (kv_lora_rank, rope, nope, value) the cache holds one latent vector a token for all heads. ``top_k``
    keys at most are read by each query, chosen by an indexer whose scores are an op of their own. ``stride``: one key
    per that many tokens.
    """

    sequences: Numbers
    new: Numbers
    cached: Numbers
    heads: float
    kv_heads: float
    key_dim: float
    value_dim: float
    window: float | None = None
    chunk: float | None = None
    causal: bool = True
    cross: bool = False
    stride: int = 1
    top_k: int | None = None
    latent: tuple[int, int, int, int] | None = None
    shared_kv: bool = False
    """One cached vector serves as key and as value."""
    query_bytes: float = 2.0
    cache_bytes: float = 2.0

    @property
    def pairs(self) -> Numbers:
        """Visible pairs of one sequence."""
        if self.cross:
            return self.new * self.cached
        pairs = visible_pairs(self.new, self.cached, window=self.window, chunk=self.chunk, causal=self.causal)
        if self.stride > 1:
            pairs = pairs / self.stride
        if self.top_k is not None:
            pairs = np.minimum(pairs, visible_pairs(self.new, self.cached, window=self.top_k))
        return pairs

    @property
    def keys(self) -> Numbers:
        """Distinct keys read for one sequence."""
        if self.cross:
            return self.cached
        keys = keys_read(self.new, self.cached, window=self.window, chunk=self.chunk) / self.stride
        return keys if self.top_k is None else np.minimum(keys, self.new * float(self.top_k))

    @property
    def absorbed(self) -> Numbers:
        """Whether latent attention works on the latent vectors themselves."""
        return np.asarray(self.new) <= ABSORBED_NEW_TOKENS

    @property
    def flops(self) -> Numbers:
        if self.latent is None:
            per_sequence = attention_flops(self.pairs, heads=self.heads, key_dim=self.key_dim, value_dim=self.value_dim)
            return self.sequences * per_sequence
        rank, rope, nope, value = self.latent
        absorbed = attention_flops(self.pairs, heads=self.heads, key_dim=rank + rope, value_dim=rank)
        expanded = attention_flops(self.pairs, heads=self.heads, key_dim=nope + rope, value_dim=value)
        expanded = expanded + 2 * np.asarray(self.cached) * rank * self.heads * (nope + value)
        return self.sequences * np.where(self.absorbed, absorbed, expanded)

    @property
    def bytes(self) -> Numbers:
        if self.latent is None:
            width = self.key_dim + (0 if self.shared_kv else self.value_dim)
            cache = self.keys * self.kv_heads * width * self.cache_bytes
            query = self.new * self.heads * (self.key_dim + self.value_dim) * self.query_bytes
            return self.sequences * (cache + query)
        rank, rope, nope, value = self.latent
        cache = self.keys * (rank + rope) * self.cache_bytes
        wide = self.new * self.heads * (2 * rank + rope) * self.query_bytes
        narrow = self.new * self.heads * (nope + rope + value) * self.query_bytes
        expanded = np.asarray(self.cached) * self.heads * (nope + value) * 2 * self.query_bytes
        return self.sequences * (cache + np.where(self.absorbed, wide, narrow + expanded))


@dataclass(frozen=True)
class Scan(Op):
    """A recurrent update of ``heads`` states of ``key_dim`` x ``value_dim`` for every new token, after a short convolution.

    FLOP: the recurrence as written, ``multiply_adds`` per state element and token (decay, write, read; the delta rule reads
    once more), plus the convolution. Chunked kernels do more arithmetic on matrix units to do it faster; that is time, not
    work. Bytes: each sequence's state read and written once, the convolved channels in, the values out.
    """

    sequences: Numbers
    new: Numbers
    kind: str
    heads: float
    key_dim: float
    value_dim: float
    conv_channels: float
    conv_kernel: int
    chunk: int = 64
    state_bytes: float = 4.0

    @property
    def multiply_adds(self) -> float:
        return {"gated_delta_net": 3.5, "kda": 3.5, "short_conv": 0.0, "rg_lru": 1.5}.get(self.kind, 2.5)

    @property
    def flops(self) -> Numbers:
        state = self.heads * self.key_dim * self.value_dim
        return self.sequences * self.new * 2 * (self.multiply_adds * state + self.conv_kernel * self.conv_channels)

    @property
    def bytes(self) -> Numbers:
        state = 2 * self.heads * self.key_dim * self.value_dim * self.state_bytes
        convolution = 2 * self.conv_channels * max(self.conv_kernel - 1, 0) * 2.0
        tokens = self.new * (2 * self.conv_channels + self.heads * self.value_dim) * 2.0
        return self.sequences * (state + convolution + tokens)
