"""What happens to the logits: choosing the next token, as passes over B x V fp32 numbers."""

from __future__ import annotations

from typing import Literal

from infersim.ops.base import Numbers
from infersim.ops.memory import Elementwise

Sampler = Literal["greedy", "temperature", "top_k_top_p", "top_k_top_p_triton", "top_k_top_p_sort"]

SAMPLING_PASSES: dict[Sampler, float] = {
    "greedy": 1.0,
    "temperature": 3.0,
    "top_k_top_p": 12.0,
    "top_k_top_p_triton": 25.0,
    "top_k_top_p_sort": 95.0,
}
"""Passes over the logits by method. greedy: arg-max; temperature: scale, soft-max, draw; top-k and top-p measured on
V = 131,072 and B = 64..512, as multiples of one pass at 3.35 TB/s: FlashInfer 5-20, Triton 14-38, sorting 70-120
(vLLM pull requests 40376 and 32558)."""


def sampling(sequences: Numbers, vocab_size: int, *, sampler: Sampler = "greedy", beams: int = 1) -> Elementwise:
    """The op that samples one token for each of ``sequences``; ``beams`` keep the 2w best of w V per sequence.

    >>> sampling(256, 128256).read  # one fp32 pass: 131 MB
    131334144.0
    """
    passes = SAMPLING_PASSES[sampler] + (2.0 if beams > 1 else 0.0)
    read, written = sequences * (passes * beams * 4.0 * vocab_size), sequences * (4.0 * beams)
    return Elementwise("sampling", 1.0, read, written, kernels=2)
