"""Terms of renting and owning as the cost of a device's hour, in parts, and as assumptions with ranges. Everything broadcasts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from infersim.errors import SpecError
from infersim.ops.base import Numbers
from infersim.planning.assumptions import Assumption, Status
from infersim.planning.ownership import (
    HOURS_PER_MONTH,
    HOURS_PER_YEAR,
    annuity,
    colocation_per_year,
    energy_per_year,
    residual_share,
)
from infersim.planning.prices import choose_price, price_per_device, spread_of
from infersim.specs.economics import Figure, Ownership, Rental, Site, Terms
from infersim.specs.hardware import Accelerator, System

Values = Mapping[str, Numbers]
STATUS: dict[str, Status] = {"stated": "fact", "checked": "fact", "given": "fact", "fitted": "fit", "assumed": "guess"}


def owned_parts(values: Values, watts: Numbers, provisioned_watts: Numbers) -> dict[str, Numbers]:
    """What one owned device costs a year, part by part [USD/year]; ``watts`` is its mean power with its part of the host.

    The hardware's price is paid back with interest, less what the hardware then sells for; network and installation sell for nothing.
    """
    price = np.asarray(values["own.price"], dtype=float)
    extra = np.asarray(values["own.network_share"]) + values["own.installation_share"]
    left = price * residual_share(values["own.residual_after_3_years"], values["own.years"])
    usd_per_kwh = np.asarray(values["site.electricity"]) * values["site.usd_per_currency"]
    return {
        "hardware": annuity(price, left, values["own.interest"], values["own.years"]),
        "network and installation": annuity(price * extra, 0.0, values["own.interest"], values["own.years"]),
        "maintenance": price * values["own.maintenance_share"],
        "staff": np.asarray(values["own.staff_per_device_year"], dtype=float),
        "colocation": colocation_per_year(
            np.asarray(provisioned_watts) * values["own.provisioned_share"], values["own.colocation_per_kw_month"]
        ),
        "electricity": energy_per_year(watts, values["site.pue"], usd_per_kwh),
    }


def rented_parts(values: Values) -> dict[str, Numbers]:
    """What one rented device costs a year of useful hours, part by part [USD/year]: interruptions are paid and serve nothing.

    >>> parts = rented_parts({"rent.per_hour": 2.0, "rent.storage_and_network_share": 0.1})
    >>> [round(float(usd)) for usd in parts.values()]
    [17520, 1752]
    """
    rent = np.asarray(values["rent.per_hour"], dtype=float) * HOURS_PER_YEAR
    found = {"rent": rent, "storage and network": rent * values["rent.storage_and_network_share"]}
    if "rent.spot_interruptions_per_month" in values:
        lost = np.asarray(values["rent.spot_interruptions_per_month"]) * values["rent.lost_minutes_per_interruption"]
        share = lost / 60 / HOURS_PER_MONTH
        found["interruptions"] = (found["rent"] + found["storage and network"]) * share / (1 - share)
    return found


def assumptions_of(
    terms: Ownership | Rental, accelerator: Accelerator, system: System | None, site: Site
) -> tuple[Assumption, ...]:
    """Every figure that the cost of an hour rests on, as an assumption with its range: ``own.years``, ``rent.per_hour``, ``site.pue``.

    Where the terms state no price, it is the one on file, with the spread of those on file; SpecError says so where there is none.
    """
    if isinstance(terms, Ownership):
        found = [_price(terms.price, "own.price", lambda: _purchase(accelerator, system))]
        return (*found, *_each("own", terms), *_each("site", site, skip=("grid_intensity",)))
    found = [_price(terms.per_hour, "rent.per_hour", lambda: _rent(terms, accelerator))]
    spot = ("spot_interruptions_per_month", "lost_minutes_per_interruption")
    return (
        *found,
        *_each("rent", terms, skip=() if terms.kind == "spot" else spot),
        *_each("site", site, only=("tax",)),
    )


def _each(prefix: str, terms: Terms, skip: tuple[str, ...] = (), only: tuple[str, ...] = ()) -> list[Assumption]:
    return [
        _assumption(f"{prefix}.{name}", figure)
        for name, figure in terms.figures().items()
        if name not in (*skip, "price", "per_hour") and (not only or name in only)
    ]


def _assumption(name: str, figure: Figure) -> Assumption:
    told: dict[str, Any] = {"source": figure.source, "status": STATUS[figure.status]}
    if figure.low == figure.high:
        return Assumption.certain(name, figure.value, **told)
    scale: Any = "log" if figure.low > 0 else "linear"
    return Assumption.around(name, figure.value, figure.low, figure.high, scale=scale, **told)


def _price(given: Figure | None, name: str, on_file: Callable[[], Figure]) -> Assumption:
    return _assumption(name, given if given is not None else on_file())


def _purchase(accelerator: Accelerator, system: System | None) -> Figure:
    """What one device costs to buy, its share of the system included where the system has a price."""
    try:
        price = price_per_device(accelerator, system)
    except SpecError as error:
        raise SpecError(
            f"{error}; or state what one device costs, for example --device-price 30000", field="own.price"
        ) from None
    amount = float(price.purchase or 0.0)
    known = system if system is not None and any(p.kind == "purchase" for p in system.prices) else accelerator
    spread, share = (
        spread_of(known, "purchase"),
        (system.devices_per_node if known is system and system is not None else 1),
    )
    low, high = min(spread.low / share, amount), max(spread.high / share, amount)
    if low == high:
        low, high = 0.85 * amount, 1.15 * amount
    return Figure(
        value=amount,
        low=low,
        high=high,
        status="stated",
        source=f"{price.note}: {price.origin()}" if price.note else price.origin(),
    )


def _rent(terms: Rental, accelerator: Accelerator) -> Figure:
    price = choose_price(accelerator, terms.kind, provider=terms.provider, region=terms.region)
    spread = spread_of(accelerator, terms.kind, provider=terms.provider, region=terms.region)
    amount = float(price.per_hour or 0.0)
    low, high = min(amount / 1.2, spread.low), max(spread.median, amount * 1.2)
    return Figure(value=amount, low=low, high=high, status="stated", source=price.origin())


@dataclass(frozen=True)
class DeviceHour:
    """What an hour of one device costs: ``usd`` per hour that it is there to serve, ``parts`` in USD a year."""

    usd: float
    parts: dict[str, float]
    assumptions: tuple[Assumption, ...]


def hourly(values: Values, owned: bool, watts: Numbers, provisioned_watts: Numbers) -> Numbers:
    """USD per device and useful hour, tax included: what ``planning.outcome.Choice`` takes."""
    tax = 1.0 + np.asarray(values["site.tax"])
    if not owned:
        return sum(rented_parts(values).values()) / HOURS_PER_YEAR * tax
    total = sum(owned_parts(values, watts, provisioned_watts).values())
    return total / (HOURS_PER_YEAR * np.asarray(values["own.availability"])) * tax


def device_hour(
    accelerator: Accelerator,
    terms: Ownership | Rental,
    site: Site,
    *,
    system: System | None,
    watts: float,
    provisioned_watts: float,
) -> DeviceHour:
    """The cost of an hour of a device on these terms.

    >>> from infersim.specs.economics import load_site, rental
    >>> from infersim.specs.library import load_accelerator
    >>> hour = device_hour(load_accelerator("H100-SXM"), rental(per_hour=2.5), load_site("us"), system=None, watts=0, provisioned_watts=0)
    >>> hour.usd
    2.5
    """
    known = assumptions_of(terms, accelerator, system, site)
    values = {item.name: item.base for item in known}
    owned = isinstance(terms, Ownership)
    parts = owned_parts(values, watts, provisioned_watts) if owned else rented_parts(values)
    tax = values["site.tax"]
    every = {name: float(usd) for name, usd in parts.items() if float(usd) or name in ("hardware", "rent")}
    if tax:
        every["tax"] = tax * math.fsum(every.values())
    if owned and values["own.availability"] < 1:
        every["repair and maintenance hours"] = math.fsum(every.values()) * (1 / values["own.availability"] - 1)
    return DeviceHour(float(hourly(values, owned, watts, provisioned_watts)), every, known)


def choice_terms(
    accelerator: Accelerator,
    terms: Ownership | Rental,
    site: Site,
    *,
    system: System | None,
    watts: float,
    provisioned_watts: float,
) -> tuple[Callable[[Values], Numbers], tuple[Assumption, ...]]:
    """``hourly`` and ``terms`` of a ``planning.outcome.Choice`` on these terms, at a given mean power of its devices."""
    owned = isinstance(terms, Ownership)
    return (
        lambda values: hourly(values, owned, watts, provisioned_watts),
        assumptions_of(terms, accelerator, system, site),
    )
