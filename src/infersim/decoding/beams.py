"""KV cache of several sequences that share a prompt: beams, or answers drawn in parallel."""

from __future__ import annotations

from typing import Any

import numpy as np

from infersim.ops.base import Numbers
from infersim.predict.memory import CacheRates


def shared_tokens(prompt: Numbers, sequences: Numbers, output: Numbers) -> Numbers:
    """Tokens in a paged cache where ``sequences`` of ``output`` tokens share their prompt, copied on writing: S + w g.

    Source: PagedAttention, arXiv:2309.06180, section 4.4. Not counted: a block that is copied where sequences part, and what beams
    have in common beyond the prompt, which makes it less.

    >>> shared_tokens(1000, 4, 100), copied_tokens(1000, 4, 100)
    (1400, 4400)
    """
    return prompt + sequences * output


def copied_tokens(prompt: Numbers, sequences: Numbers, output: Numbers) -> Numbers:
    """The same where every sequence has a copy of its own: w (S + g)."""
    return sequences * (prompt + output)


def request_bytes(
    rates: CacheRates, prompt: float, sequences: int, output: float, block_size: int, copied: bool = False
) -> float:
    """KV cache that a request with ``sequences`` takes of one device at this length of output [B], whole blocks each."""
    one = float(rates.bytes(prompt + output, block_size=block_size))
    if copied:
        return sequences * one
    own = one - float(rates.bytes(np.floor(prompt / block_size) * block_size, block_size=block_size))
    return one + (sequences - 1) * own


def reorder_bytes(
    rates: CacheRates, prompt: Numbers, width: Numbers, output: Numbers, block_size: int, copied: bool = False
) -> Any:
    """Bytes read and written in a step to give beams the cache of those they continue [B per request and device].

    A paged cache remaps blocks and copies the last, half full on average; a copied one is gathered whole, as by
    ``reorder_cache`` in transformers.
    """
    each = rates.bytes(np.asarray(prompt) + output) if copied else rates.per_token * block_size / 2.0
    return 2.0 * np.asarray(width) * each
