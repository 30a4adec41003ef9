"""Where a prefix lies and what fetching it takes: device memory, host, disk, a remote store; reload, or compute it again?"""

from __future__ import annotations

from typing import Any

import numpy as np

Numbers = Any


def reload_seconds(size: Numbers, bandwidth: Numbers, latency: Numbers = 0.0) -> Numbers:
    """Time to copy ``size`` bytes of KV cache into device memory [s].

    Check: 8,192 tokens of Llama-3-70B in 16 bits, 2.684 GB, over PCIe 5 at the 55.4 GB/s it is measured to reach.

    >>> round(float(reload_seconds(8192 * 327680, 55.4e9)) * 1e3, 1)
    48.5
    """
    return np.asarray(latency) + np.asarray(size, dtype=float) / bandwidth


def recompute_seconds(tokens: Numbers, parameters: float, attention_flops: float, flops: float) -> Numbers:
    """Time to prefill ``tokens`` at ``flops`` FLOP/s that are reached: (2 P S + 2 L H h S^2) / flops [s].

    ``attention_flops`` is 4 L H h, of which causal attention does half the pairs. The bound; through a deployment's step use
    ``prompt_times``. Check: the same 8,192 tokens on eight H100 at 60% of peak.

    >>> round(float(recompute_seconds(8192, 68.45e9, 4 * 80 * 64 * 128, 8 * 0.6 * 989e12)) * 1e3)
    255
    """
    S = np.asarray(tokens, dtype=float)
    return (2.0 * parameters * S + attention_flops * S**2 / 2.0) / flops


def holding_usd(size: Numbers, seconds: Numbers, usd_per_hour: float, capacity: float) -> Numbers:
    """What keeping ``size`` bytes in device memory for ``seconds`` is worth [USD]: its share of the device's rent.

    >>> round(float(holding_usd(2.684e9, 3600.0, 3.0, 80e9)), 3)
    0.101
    """
    return np.asarray(size, dtype=float) / capacity * usd_per_hour * np.asarray(seconds) / 3600.0
