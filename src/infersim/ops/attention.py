"""Attention between its projections. Prefill, chunk and decode are one formula: (new, cached) tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infersim.mechanisms import ABSORBED_NEW_TOKENS, keys_read, scan_multiply_adds, visible_pairs
from infersim.ops.base import Numbers, Op


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
        keys = keys_read(self.new, self.cached, window=self.window, chunk=self.chunk)
        if self.stride > 1:
            keys = keys / self.stride
        return keys if self.top_k is None else np.minimum(keys, self.new * float(self.top_k))

    @property
    def absorbed(self) -> Numbers:
        """Whether latent attention works on the latent vectors themselves."""
        return np.asarray(self.new)[()] <= ABSORBED_NEW_TOKENS

    @property
    def flops(self) -> Numbers:
        if self.latent is None:
            per_sequence = attention_flops(self.pairs, heads=self.heads, key_dim=self.key_dim, value_dim=self.value_dim)
            return self.sequences * per_sequence
        rank, rope, nope, value = self.latent
        absorbed = attention_flops(self.pairs, heads=self.heads, key_dim=rank + rope, value_dim=rank)
        expanded = attention_flops(self.pairs, heads=self.heads, key_dim=nope + rope, value_dim=value)
        expanded = expanded + 2 * np.asarray(self.cached)[()] * rank * self.heads * (nope + value)
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
        expanded = np.asarray(self.cached)[()] * self.heads * (nope + value) * 2 * self.query_bytes
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
        return scan_multiply_adds(self.kind)

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
