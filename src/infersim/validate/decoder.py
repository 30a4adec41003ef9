"""Small decoders with random weights that really run: Llama-like and GPT-2-like, with a static KV cache, in eager PyTorch.

A decoder is made from the same ``config.json`` fields that the model reader gets, of the blocks that the suite times.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from infersim.microbench import blocks

LEAST_CACHES = 3.0
"""A decoder's weights fill the last-level cache this many times, so that each layer's come from memory."""

MOST_LAYERS = 32


@dataclass(frozen=True)
class DecoderShape:
    """A decoder but for its depth. ``family`` llama: RMS norms, rotary, gated MLP, no biases; gpt2: layer norms, learned
    positions, plain MLP, biases everywhere."""

    name: str
    family: Literal["llama", "gpt2"]
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int

    @property
    def gated(self) -> bool:
        return self.family == "llama"

    @property
    def qkv(self) -> int:
        """Columns of the fused projection."""
        return (self.heads + 2 * self.kv_heads) * self.head_dim

    @property
    def layer_elements(self) -> int:
        """Weights of one layer's products.

        >>> SHAPES[0].layer_elements
        3162112
        """
        up = self.intermediate * (3 if self.gated else 2)
        return self.hidden * (self.qkv + self.heads * self.head_dim + up)

    def layers(self, cache_bytes: float, element_bytes: float) -> int:
        """Layers that fill the last-level cache ``LEAST_CACHES`` times, at least 2 and at most ``MOST_LAYERS``.

        >>> SHAPES[0].layers(32 * 2**20, 4)
        8
        """
        wanted = LEAST_CACHES * cache_bytes / (self.layer_elements * element_bytes)
        return int(min(max(-(-wanted // 1), 2), MOST_LAYERS))

    def config(self, layers: int, positions: int) -> dict[str, Any]:
        """The fields of a Hugging Face ``config.json``."""
        if self.family == "gpt2":
            return {
                "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": self.hidden, "n_layer": layers,
                "n_head": self.heads, "n_inner": self.intermediate, "n_positions": positions, "n_ctx": positions,
                "vocab_size": self.vocabulary, "activation_function": "gelu_new", "torch_dtype": "float32",
            }  # fmt: skip
        return {
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": self.hidden,
            "num_hidden_layers": layers, "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim, "intermediate_size": self.intermediate, "vocab_size": self.vocabulary,
            "max_position_embeddings": positions, "hidden_act": "silu", "tie_word_embeddings": False,
            "torch_dtype": "float32",
        }  # fmt: skip


SHAPES = (
    DecoderShape("llama-512", "llama", 512, 1376, 8, 8, 64, 8192),
    DecoderShape("llama-768-gqa", "llama", 768, 2048, 12, 4, 64, 16384),
    DecoderShape("llama-1024-gqa", "llama", 1024, 2816, 16, 4, 64, 32000),
    DecoderShape("llama-1024-wide-heads", "llama", 1024, 3584, 8, 2, 128, 16384),
    DecoderShape("gpt2-768", "gpt2", 768, 3072, 12, 12, 64, 16384),
)
"""The decoders of a live validation."""


def write_config(folder: Path, shape: DecoderShape, layers: int, positions: int) -> Path:
    """``config.json`` of a decoder in a folder of its own; returns the folder."""
    home = folder / shape.name
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.json").write_text(json.dumps(shape.config(layers, positions), indent=2), encoding="utf-8")
    return home


class Decoder:
    """Random weights of a shape, and the caches of ``batch`` sequences of up to ``length`` tokens."""

    def __init__(self, shape: DecoderShape, layers: int, batch: int, length: int, *, dtype: Any, device: str) -> None:
        import torch

        self.shape, self.torch = shape, torch
        kind = {"dtype": dtype, "device": device}

        def weight(*size: int) -> Any:
            return torch.empty(size, **kind).uniform_(-0.02, 0.02)

        def bias(size: int) -> Any:
            return None if shape.gated else weight(size)

        d, wide = shape.hidden, shape.heads * shape.head_dim
        up = shape.intermediate * (2 if shape.gated else 1)
        self.layers: list[dict[str, tuple[Any, Any]]] = [
            {
                "norm_1": (torch.ones(d, **kind), bias(d)), "qkv": (weight(shape.qkv, d), bias(shape.qkv)),
                "o": (weight(d, wide), bias(d)), "norm_2": (torch.ones(d, **kind), bias(d)),
                "up": (weight(up, d), bias(up)), "down": (weight(d, shape.intermediate), bias(d)),
            }
            for _ in range(layers)
        ]  # fmt: skip
        self.table, self.head = weight(shape.vocabulary, d), weight(shape.vocabulary, d)
        self.final = (torch.ones(d, **kind), bias(d))
        self.angles = blocks.angles(length, shape.head_dim, **kind) if shape.gated else None
        self.positions = None if shape.gated else weight(length, d)
        size = (batch, shape.kv_heads, length, shape.head_dim)
        self.caches = [(weight(*size), weight(*size)) for _ in range(layers)]

    def step(self, tokens: Any, start: int) -> Any:
        """The next token of every sequence, after (batch, new) ``tokens`` behind ``start`` cached ones."""
        linear = self.torch.nn.functional.linear
        update: Any = None
        x = blocks.embed(self.table, self.positions, tokens, start)
        end = start + tokens.shape[1]
        for layer, (keys, values) in zip(self.layers, self.caches, strict=True):
            x, h = blocks.norm(x, update, *layer["norm_1"])
            q = blocks.position_and_append(
                linear(h, *layer["qkv"]), keys, values, start, heads=self.shape.heads, angles=self.angles
            )
            x, h = blocks.norm(x, linear(blocks.attend(q, keys, values, end), *layer["o"]), *layer["norm_2"])
            update = linear(blocks.activation(linear(h, *layer["up"]), self.shape.gated), *layer["down"])
        _, h = blocks.norm(x[:, -1:], update[:, -1:], *self.final)
        return linear(h, self.head).argmax(dim=-1)

    def of(self, batch: int) -> Decoder:
        """The same weights over the caches of the first ``batch`` sequences."""
        import copy

        fewer = copy.copy(self)
        fewer.caches = [(keys[:batch], values[:batch]) for keys, values in self.caches]
        return fewer
