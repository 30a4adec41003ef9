"""What owning devices costs: annuity, residual value, energy, colocation. Formulas broadcast.

Method: capital charge plus operating cost a year, as in Koomey et al., A Simple Model for Determining True Total Cost of Ownership for
Data Centers (Uptime Institute, 2008), and Barroso, Hölzle, Ranganathan, The Datacenter as a Computer (3rd ed., 2018), chapter 6.
"""

from __future__ import annotations

import numpy as np

from infersim.ops.base import Numbers

HOURS_PER_YEAR, HOURS_PER_MONTH, MONTHS_PER_YEAR = 8760.0, 730.0, 12.0


def annuity(capital: Numbers, residual: Numbers, interest: Numbers, years: Numbers) -> Numbers:
    """What capital costs a year, paid back in equal parts [USD/year]: (C - R / (1 + i)^N) i / (1 - (1 + i)^-N).

    ``residual`` R is what the hardware sells for after ``years`` N; ``interest`` i a year, zero allowed.

    >>> round(float(annuity(300_000.0, 60_000.0, 0.08, 4.0)))  # a node of 300,000 USD, a fifth of it left after four years
    77261
    """
    i = np.asarray(interest, dtype=float)
    n = np.asarray(years, dtype=float)
    grown = (1.0 + i) ** n
    share = np.where(i > 1e-9, i / np.maximum(1.0 - 1.0 / grown, 1e-12), 1.0 / n)
    return (np.asarray(capital) - np.asarray(residual) / grown) * share


def residual_share(after_3_years: Numbers, years: Numbers) -> Numbers:
    """Share of its price that hardware sells for after ``years``, losing the same share every year: r3^(t / 3).

    >>> round(float(residual_share(0.3, 3.0)), 3), round(float(residual_share(0.3, 4.0)), 3)
    (0.3, 0.201)
    """
    return np.asarray(after_3_years, dtype=float) ** (np.asarray(years, dtype=float) / 3.0)


def energy_per_year(power: Numbers, pue: Numbers, usd_per_kwh: Numbers) -> Numbers:
    """Cost of a mean power [W] over a year, cooling and conversion included [USD/year].

    >>> round(float(energy_per_year(10_200 * 0.75, 1.3, 0.08)))
    6969
    """
    return np.asarray(power) / 1000.0 * np.asarray(pue) * HOURS_PER_YEAR * np.asarray(usd_per_kwh)


def colocation_per_year(power: Numbers, usd_per_kw_month: Numbers) -> Numbers:
    """Rent of space and of provisioned ``power`` [W] over a year [USD/year]; electricity is not in it.

    >>> float(colocation_per_year(10_200.0, 150.0))
    18360.0
    """
    return np.asarray(power) / 1000.0 * np.asarray(usd_per_kw_month) * MONTHS_PER_YEAR


def per_useful_hour(usd_per_year: Numbers, devices: Numbers, share: Numbers) -> Numbers:
    """Cost of an hour of a device in which it is of use: ``share`` of the hours of a year [USD/h].

    >>> round(float(per_useful_hour(99_230.0, 8, 1.0)), 3), round(float(per_useful_hour(99_230.0, 8, 0.6)), 3)
    (1.416, 2.36)
    """
    return np.asarray(usd_per_year) / (np.asarray(devices) * HOURS_PER_YEAR * np.asarray(share))
