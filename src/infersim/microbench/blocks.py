"""The kernels of a decoder as eager PyTorch runs them: what the suite times alone and the live models are made of.

Every function is one op of a step, views and allocation of its result included. ``torch`` is imported by whoever calls.
"""

from __future__ import annotations

from typing import Any

Tensor = Any


def norm(residual: Tensor, update: Tensor | None, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Add ``update`` to the residual stream, then its norm: RMS where there is no ``bias``, else LayerNorm."""
    from torch.nn import functional

    if update is not None:
        residual = residual + update
    if bias is None:
        return residual, functional.rms_norm(residual, weight.shape, weight, 1e-6)
    return residual, functional.layer_norm(residual, weight.shape, weight, bias, 1e-5)


def activation(up: Tensor, gated: bool) -> Tensor:
    """silu(gate) x up of a fused product, or GELU (tanh) of a plain one."""
    from torch.nn import functional

    if not gated:
        return functional.gelu(up, approximate="tanh")
    gate, value = up.chunk(2, dim=-1)
    return functional.silu(gate) * value


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary embedding of (batch, heads, tokens, head_dim): x cos + (-second half, first half) sin."""
    import torch

    half = x.shape[-1] // 2
    return x * cosine + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sine


def position_and_append(
    qkv: Tensor,
    keys: Tensor,
    values: Tensor,
    start: int,
    *,
    heads: int,
    angles: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Split (batch, tokens, (heads + 2 kv_heads) head_dim), rotate where there are ``angles``, append to the cache.

    ``keys`` and ``values`` are (batch, kv_heads, length, head_dim). Returns the queries, (batch, heads, tokens, head_dim).
    """
    batch, tokens, _ = qkv.shape
    kv_heads, head_dim = keys.shape[1], keys.shape[3]
    q, k, v = qkv.split((heads * head_dim, kv_heads * head_dim, kv_heads * head_dim), dim=-1)
    q = q.view(batch, tokens, heads, head_dim).transpose(1, 2)
    k = k.view(batch, tokens, kv_heads, head_dim).transpose(1, 2)
    v = v.view(batch, tokens, kv_heads, head_dim).transpose(1, 2)
    if angles is not None:
        cosine, sine = angles[0][start : start + tokens], angles[1][start : start + tokens]
        q, k = rotate(q, cosine, sine), rotate(k, cosine, sine)
    keys[:, :, start : start + tokens] = k
    values[:, :, start : start + tokens] = v
    return q


def attend(q: Tensor, keys: Tensor, values: Tensor, length: int) -> Tensor:
    """Causal attention of the last tokens over the first ``length`` cached ones: (batch, tokens, heads x head_dim).

    Prompts start from nothing, so that the causal mask is the kernel's own; a single token sees everything.
    """
    from torch.nn import functional

    batch, heads, tokens, head_dim = q.shape
    k, v = keys[:, :, :length], values[:, :, :length]
    grouped = heads != k.shape[1]
    out = functional.scaled_dot_product_attention(q, k, v, is_causal=tokens > 1, enable_gqa=grouped)
    return out.transpose(1, 2).reshape(batch, tokens, heads * head_dim)


def embed(table: Tensor, positions: Tensor | None, tokens: Tensor, start: int) -> Tensor:
    """Rows of the token table, plus those of the learned positions where there are some."""
    from torch.nn import functional

    x = functional.embedding(tokens, table)
    return x if positions is None else x + positions[start : start + tokens.shape[-1]]


def angles(length: int, head_dim: int, **kind: Any) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary embedding, base 10,000: (length, head_dim) each.

    Source: Su et al. 2021, arXiv:2104.09864.
    """
    import torch

    frequency = 10000.0 ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    phase = torch.outer(torch.arange(length, dtype=torch.float32), frequency).repeat(1, 2)
    return phase.cos().to(**kind), phase.sin().to(**kind)
