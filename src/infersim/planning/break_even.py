"""Where two ways to pay cost the same: buying against renting, own devices against an API. Formulas broadcast."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from infersim.ops.base import Numbers
from infersim.planning.ownership import residual_share

Array = npt.NDArray[np.float64]


def owned_by_month(
    capital: float,
    opex_per_month: float,
    after_3_years: float,
    interest: float,
    months: int,
    resale: float | None = None,
) -> Array:
    """What owning has cost after 0, 1 ... ``months`` months if the hardware is then sold [USD]: capital with interest, less what it
    sells for, and what keeping it cost until then, with interest too. ``resale`` is what can be sold, by default all the capital."""
    month = np.arange(months + 1)
    grown = (1 + interest) ** (month / 12)
    kept = opex_per_month * accumulated(month, interest)
    return np.asarray(
        capital * grown + kept - (capital if resale is None else resale) * residual_share(after_3_years, month / 12)
    )


def accumulated(month: Numbers, interest: float) -> Numbers:
    """What payments of 1 at the end of every month come to after so many months, with interest.

    >>> float(accumulated(12, 0.0)), round(float(accumulated(12, 0.1)), 3)
    (12.0, 12.541)
    """
    monthly = (1 + interest) ** (1 / 12) - 1
    return np.asarray(month) * 1.0 if monthly < 1e-12 else ((1 + interest) ** (np.asarray(month) / 12) - 1) / monthly


def rented_by_month(rent_per_month: float, interest: float, months: int) -> Array:
    """What renting has cost after 0, 1 ... ``months`` months, with interest [USD]."""
    return np.asarray(rent_per_month * accumulated(np.arange(months + 1), interest))


def break_even_month(owned: Array, rented: Array) -> int | None:
    """The first month after which owning has cost no more than renting; None where it never has.

    >>> break_even_month(np.array([10.0, 12.0, 14.0]), np.array([0.0, 7.0, 14.0]))
    2
    """
    cheaper = np.flatnonzero(owned[1:] <= rented[1:] * (1 + 1e-12))
    return int(cheaper[0]) + 1 if len(cheaper) else None


def break_even_rent(usd_per_year: Numbers, devices: Numbers, availability: Numbers = 1.0) -> Numbers:
    """Rent per device and hour at which renting costs as much as owning, over the years of ownership [USD/h].

    >>> round(float(break_even_rent(99_230.0, 8)), 3)
    1.416
    """
    return np.asarray(usd_per_year) / (np.asarray(devices) * 8760.0 * availability)


def break_even_tokens(
    fixed_per_month: Numbers, api_per_million: Numbers, marginal_per_million: Numbers = 0.0
) -> Numbers:
    """Tokens a month from which on own devices are cheaper than an API: fixed / (price - marginal). Infinite where the API is cheaper
    than the energy of a token.

    >>> float(break_even_tokens(10_000.0, 0.50) / 1e9)
    20.0
    """
    margin = np.asarray(api_per_million, dtype=float) - marginal_per_million
    gains = margin > 0
    return np.where(gains, np.asarray(fixed_per_month) / np.where(gains, margin, 1.0) * 1e6, math.inf)[()]


def api_cost(
    request_rate: Numbers, fresh: Numbers, cached: Numbers, output: Numbers, prices: tuple[float, float, float]
) -> Numbers:
    """USD per hour that an API takes for a load, at (input, cached input, output) USD per million tokens.

    >>> round(float(api_cost(1.0, 1000.0, 0.0, 500.0, (0.5, 0.25, 1.5))), 2)
    4.5
    """
    price_in, price_cached, price_out = prices
    each = np.asarray(fresh) * price_in + np.asarray(cached) * price_cached + np.asarray(output) * price_out
    return np.asarray(request_rate) * 3600.0 * each / 1e6
