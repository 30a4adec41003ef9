"""What happens to the logits: choosing the next token, as passes over B x V fp32 numbers."""

from __future__ import annotations

import functools
from typing import NamedTuple

from infersim.errors import SpecError, did_you_mean
from infersim.ops.base import Numbers
from infersim.ops.memory import Elementwise

Sampler = str
"""A way to sample and what is done beside it, joined by ``+``: ``top_p``, ``temperature+penalties+logprobs``."""


class Passes(NamedTuple):
    """What choosing a token costs: ``passes`` over the logits, and ``latency`` [s] that no batch is too small for."""

    passes: float
    latency: float = 0.0


SAMPLING_PASSES: dict[str, Passes] = {
    "greedy": Passes(1.0),
    "temperature": Passes(3.0),
    "top_k": Passes(5.8, 30e-6),
    "top_p": Passes(4.7, 24e-6),
    "top_k_top_p": Passes(12.2, 29e-6),
    "top_k_triton": Passes(13.2, 47e-6),
    "top_p_triton": Passes(23.7, 143e-6),
    "top_k_top_p_triton": Passes(15.1, 84e-6),
    "top_k_sort": Passes(70.2, 185e-6),
    "top_p_sort": Passes(78.3, 249e-6),
    "top_k_top_p_sort": Passes(103.2, 137e-6),
}
"""By method. greedy: arg-max; temperature: scale, soft-max, draw. The others are fitted to the rows of ``measurements/
samplers.csv`` (vLLM pull request 40376), as passes at 3.35 TB/s for the GPU is not stated there: without a suffix FlashInfer's
sort-free rejection sampling, then vLLM's Triton kernel, then sorting with PyTorch. They meet the rows within 34%."""

SAMPLING_EXTRAS: dict[str, Passes] = {
    "penalties": Passes(4.0),
    "logprobs": Passes(3.0),
    "mask": Passes(2.0),
    "beams": Passes(2.0),
}
"""Beside the method, counted and not measured: penalties read the counts of prompt and output tokens and the logits, and write these;
log-probabilities take a log-soft-max and the top n; the mask of a grammar reads and writes the logits; beam search takes the 2w
best of w V."""


@functools.lru_cache(maxsize=256)
def sampling_passes(sampler: Sampler) -> Passes:
    """Passes and latency of a method with what is done beside it. Raises SpecError, with the nearest name, for one that is none.

    >>> sampling_passes("top_p+penalties")
    Passes(passes=8.7, latency=2.4e-05)
    """
    if not isinstance(sampler, str):
        raise SpecError(f"is a name such as temperature or top_p+penalties, got {sampler!r}", field="sampler")
    method, *extras = sampler.split("+")
    if method not in SAMPLING_PASSES:
        raise SpecError(f"no sampler is called {method!r}; {did_you_mean(method, SAMPLING_PASSES)}", field="sampler")
    passes, latency = SAMPLING_PASSES[method]
    for extra in extras:
        if extra not in SAMPLING_EXTRAS:
            raise SpecError(
                f"nothing beside sampling is called {extra!r}; {did_you_mean(extra, SAMPLING_EXTRAS)}", field="sampler"
            )
        passes, latency = passes + SAMPLING_EXTRAS[extra].passes, latency + SAMPLING_EXTRAS[extra].latency
    return Passes(passes, latency)


def sampling(sequences: Numbers, vocab_size: int, *, sampler: Sampler = "greedy") -> Elementwise:
    """The op that samples one token for each of ``sequences``.

    >>> sampling(256, 128256).read  # one fp32 pass: 131 MB
    131334144.0
    """
    passes, latency = sampling_passes(sampler)
    return Elementwise(
        "sampling", 1.0, sequences * (passes * 4.0 * vocab_size), sequences * 4.0, kernels=2, latency=latency
    )
