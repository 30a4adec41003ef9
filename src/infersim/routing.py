"""Where tokens go among experts: how many experts a batch touches, and how uneven the ranks' shares are.

Pure counting, used both for the work of an op and for the time of a kernel. Experts are chosen independently by each
token; real routing is skewed and correlated, which ``skew`` and measured calibrations stand for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Numbers = Any


def distinct_experts(tokens: Numbers, num_experts: Numbers, experts_per_token: Numbers) -> Numbers:
    """Expected number of experts that at least one of ``tokens`` visits: D = E (1 - (1 - k/E)^T).

    T ``tokens`` each choose k ``experts_per_token`` different ones of E ``num_experts``, uniformly. Skewed routing
    touches fewer.

    >>> [round(float(distinct_experts(t, 256, 8)), 2) for t in (1, 2, 4, 8, 16, 32, 64, 128)]
    [8.0, 15.75, 30.53, 57.42, 101.96, 163.31, 222.44, 251.6]
    """
    share = np.minimum(experts_per_token / num_experts, 1 - 1e-12)
    return -num_experts * np.expm1(tokens * np.log1p(-share))


def remote_visits(experts_per_token: Numbers, ranks: Numbers, *, once_a_rank: bool) -> Numbers:
    """How often a token is expected to be sent to another of ``ranks`` that share the experts evenly.

    Once for every expert elsewhere, k (1 - 1/n), or once for every rank that holds one, (n - 1) (1 - (1 - 1/n)^k), as
    high-throughput kernels do. Routing that is limited to groups of ranks sends less.

    >>> [round(float(remote_visits(8, n, once_a_rank=True)), 2) for n in (4, 8, 64)], float(remote_visits(8, 4, once_a_rank=False))
    ([2.7, 4.6, 7.45], 6.0)
    """
    k, n = experts_per_token, ranks
    return (n - 1) * (1 - (1 - 1 / n) ** k) if once_a_rank else k * (1 - 1 / n)


MAX_OF_NORMALS = {1: 0.0, 2: 0.5642, 4: 1.0294, 8: 1.4236, 16: 1.7660, 32: 2.0697, 64: 2.3437, 128: 2.5944, 256: 2.8270}
"""Expected largest of n standard normal values. Source: Harter 1961, Expected values of normal order statistics."""


_LOG_COUNTS = np.log2(list(MAX_OF_NORMALS))
_GREATEST = np.array(list(MAX_OF_NORMALS.values()))


def greatest_of_normals(count: Numbers) -> Numbers:
    """Expected largest of ``count`` standard normal values, between the tabled counts linear in their logarithm.

    >>> float(greatest_of_normals(8))
    1.4236
    """
    return np.interp(np.log2(count), _LOG_COUNTS, _GREATEST)


def rank_imbalance(tokens: Numbers, num_experts: float, experts_per_token: float, ranks: int) -> Numbers:
    """Load of the busiest rank over the mean, when E experts are dealt out to ``ranks``: 1 + z_n sd / mean.

    A rank's load has mean T k / n and the variance of a draw without replacement, T k (1/n)(1 - 1/n)(E - k)/(E - 1).
    Within 1% of Monte Carlo where the mean load is above 10; never more than all tokens on one rank.

    >>> [round(float(rank_imbalance(t, 256, 8, n)), 3) for t, n in ((128, 8), (1024, 8), (128, 32), (512, 64))]
    [1.116, 1.041, 1.354, 1.287]
    """
    if ranks == 1:
        return np.ones_like(np.asarray(tokens, dtype=float))[()]
    n, E, k = ranks, num_experts, experts_per_token
    z = greatest_of_normals(n)
    mean = np.maximum(tokens * k / n, 1e-9)
    variance = mean * (1 - 1 / n) * (E - k) / max(E - 1, 1)
    return np.minimum(1 + z * np.sqrt(variance) / mean, n)
