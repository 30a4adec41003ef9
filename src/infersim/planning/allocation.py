"""From money per hour to money per token: by device time. Formulas broadcast."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from infersim.ops.base import Numbers


def usd_per_million(usd_per_hour: Numbers, tokens_per_second: Numbers, use: Numbers = 1.0) -> Numbers:
    """USD per million tokens where devices of ``usd_per_hour`` serve so many tokens a second for a share ``use`` of the time.

    >>> round(float(usd_per_million(2.50, 2500.0)), 4), round(float(usd_per_million(2.50, 2500.0, 0.5)), 4)
    (0.2778, 0.5556)
    """
    return np.asarray(usd_per_hour) / 3600.0 / (np.asarray(tokens_per_second) * use) * 1e6


class TokenPrices(NamedTuple):
    """USD per million tokens of each kind."""

    input: Numbers
    cached_input: Numbers
    output: Numbers


def token_prices(
    usd_per_second: Numbers, request_rate: Numbers, fresh: Numbers, cached: Numbers, output: Numbers, prefill_share: Numbers,
    cached_share: Numbers,
) -> TokenPrices:  # fmt: skip
    """What a token of each kind costs: money goes to prompts and outputs by the share of device time that prefill takes.

    Of a request's prompt ``fresh`` tokens are computed and ``cached`` ones found in the cache. Of the prompts' money the cached tokens
    bear ``cached_share`` of what a fresh one bears; they take no prefill time, but the memory that keeps them. The prices times the
    tokens sum up to the money.

    >>> prices = token_prices(1e-3, 1.0, 1000.0, 1000.0, 500.0, 0.4, 0.1)
    >>> [round(float(price), 3) for price in prices]
    [0.364, 0.036, 1.2]
    """
    money = np.asarray(usd_per_second) / np.asarray(request_rate) * 1e6
    weighted = np.asarray(fresh) + np.asarray(cached) * cached_share
    price = money * prefill_share / weighted
    made = np.asarray(output, dtype=float)
    each = np.where(made > 0, money * (1 - np.asarray(prefill_share)) / np.maximum(made, 1e-300), 0.0)
    return TokenPrices(price, price * cached_share, each)
