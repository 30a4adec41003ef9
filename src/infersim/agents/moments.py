"""Means and variances of the lengths that calls draw."""

from __future__ import annotations

import math

import numpy as np

from infersim.serving.lengths import Empirical, Fixed, LogNormal, Uniform, whole


def mean_and_variance(lengths: Fixed | Uniform | LogNormal | Empirical) -> tuple[float, float]:
    """Of one draw [tokens, tokens^2]. Rounding to whole tokens adds a twelfth to the variance of a log-normal; its clipping at one
    token is not counted.

    >>> mean_and_variance(Uniform(low=1, high=3))
    (2.0, 0.6666666666666666)
    """
    if isinstance(lengths, Fixed):
        return float(whole(lengths.tokens)), 0.0
    if isinstance(lengths, Uniform):
        count = math.floor(lengths.high) - math.floor(lengths.low) + 1
        return lengths.mean, (count**2 - 1) / 12
    if isinstance(lengths, LogNormal):
        return lengths.mean, lengths.mean**2 * math.expm1(lengths.sigma**2) + 1 / 12
    values, weights = whole(np.asarray(lengths.values)), lengths.weights
    mean = float(np.average(values, weights=weights))
    return mean, float(np.average((values - mean) ** 2, weights=weights))
