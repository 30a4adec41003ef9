"""KV caches of passages, reused out of place: what is computed again, what is loaded, what it takes to keep them.

A prompt of reused passages takes r t_prefill + t_load, one after the other: loading by layers while the layer before is computed hides
up to the smaller of the two, which is not counted. Source: Yao et al., CacheBlend, arXiv:2405.16444.
"""

from __future__ import annotations

import numpy as np

from infersim.ops.base import Numbers


def computed_tokens(context: Numbers, stored: Numbers, recompute: Numbers) -> Numbers:
    """Tokens of the passages that are computed: those without a cache, and a share of those with one.

    >>> float(computed_tokens(4000.0, 0.75, 0.15))
    1450.0
    """
    kept = np.asarray(context, dtype=float) * stored
    return np.asarray(context) - kept + kept * recompute


def load_seconds(context: Numbers, stored: Numbers, bytes_per_token: float, bandwidth: float) -> Numbers:
    """Seconds to load the caches of the passages that are kept [s]; bytes and bandwidth of one device.

    >>> round(float(load_seconds(4000.0, 1.0, 131072, 55.4e9)) * 1e3, 2)
    9.46
    """
    return np.asarray(context, dtype=float) * stored * bytes_per_token / bandwidth


def store_bytes(corpus_tokens: Numbers, stored: Numbers, bytes_per_token: float) -> Numbers:
    """Bytes of the caches of all passages that are kept.

    >>> float(store_bytes(1e8, 1.0, 131072)) / 1e12
    13.1072
    """
    return np.asarray(corpus_tokens, dtype=float) * stored * bytes_per_token
