"""What a fleet costs at a load: a year, a request, a token of each kind, in money, energy and carbon; and against the alternatives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from infersim.errors import SpecError
from infersim.planning.allocation import TokenPrices, token_prices
from infersim.planning.assumptions import Assumption
from infersim.planning.break_even import (
    api_cost,
    break_even_month,
    break_even_tokens,
    owned_by_month,
    rented_by_month,
)
from infersim.planning.loads import Load, loads_of
from infersim.planning.options import Option, frame
from infersim.planning.ownership import HOURS_PER_MONTH, HOURS_PER_YEAR
from infersim.planning.power import carbon, embodied_per_second, energy_per_token, kwh
from infersim.planning.terms import STATUS, DeviceHour, device_hour
from infersim.predict.estimate import Estimate
from infersim.specs.economics import Ownership, PowerTerms, Rental, Site, load_site, ownership, power_terms, rental

CACHED_SHARE = 0.1
"""What a cached prompt token bears of the money that a fresh one bears: the usual discount of API price lists for cache reads. Assumed."""
ALLOCATION = (
    "money goes to prompts and outputs by the share of device time that prefill takes; of the prompts' money a cached token bears "
    "{share:.0%} of what a fresh one bears"
)


@dataclass(frozen=True)
class Ledger:
    """Rent against purchase, month by month [USD, all devices]; owning is net of what the hardware then sells for."""

    owned: np.ndarray[Any, np.dtype[np.float64]]
    rented: np.ndarray[Any, np.dtype[np.float64]]
    break_even: int | None
    """The first month after which owning has cost no more; None where it never has within the years of ownership."""
    equal_rent: float
    """Rent per device and hour at which both cost the same over the years of ownership."""
    rent: float


@dataclass(frozen=True)
class ApiComparison:
    """An API for the same load: ``per_hour`` USD, and where both cost the same."""

    prices: tuple[float, float, float]
    per_hour: float
    break_even_rate: float
    """Requests per second from which on these devices are cheaper; infinite where they never are."""
    price_factor: float
    """The API's prices would have to be so many times theirs for both to cost the same at this load."""


@dataclass(frozen=True)
class CostReport:
    """The cost of a fleet that serves a mean load. Money in USD unless the site has another currency (``in_currency``).

    >>> from infersim import estimate
    >>> one = estimate("meta-llama/Llama-3.1-8B", "H100-SXM", input_tokens=1000, output_tokens=250)
    >>> report = cost(one, request_rate=10, terms=rental(per_hour=2.5))
    >>> report.per_hour, round(report.per_request * 1e6, 1)
    (2.5, 69.4)
    """

    loads: tuple[Load, ...]
    request_rate: float
    hour: DeviceHour
    site: Site
    terms: Ownership | Rental
    power: PowerTerms
    cached_share: float
    requests_per_user_month: float | None
    ledger: Ledger | None = None
    api: ApiComparison | None = None

    @property
    def deployment(self) -> Estimate:
        """The replica that answers: of two pools the decode one."""
        return self.loads[-1].deployment

    @property
    def devices(self) -> int:
        return sum(load.devices for load in self.loads)

    @property
    def parts(self) -> dict[str, float]:
        """USD a year of all devices, part by part."""
        return {name: usd * self.devices for name, usd in self.hour.parts.items()}

    @property
    def per_hour(self) -> float:
        return self.hour.usd * self.devices

    @property
    def per_year(self) -> float:
        """Total cost of ownership (or of renting) a year."""
        return self.per_hour * HOURS_PER_YEAR

    @property
    def per_request(self) -> float:
        return self.per_hour / 3600 / self.request_rate

    @property
    def per_user_month(self) -> float | None:
        """USD per user and month; None where the requests of a user are not given."""
        return None if self.requests_per_user_month is None else self.per_request * self.requests_per_user_month

    @property
    def token_prices(self) -> TokenPrices:
        """USD per million fresh prompt, cached prompt and output tokens (``ALLOCATION``)."""
        workload, generates = self.deployment.workload, self.deployment.model.task == "generate"
        cached = workload.cached_tokens
        share = sum(load.devices * load.prefill_share for load in self.loads) / self.devices if generates else 1.0
        found = token_prices(
            self.per_hour / 3600, self.request_rate, workload.input_tokens - cached, cached,
            workload.output_tokens if generates else 0.0, share, self.cached_share,
        )  # fmt: skip
        return TokenPrices(*(float(price) for price in found))

    @property
    def watts(self) -> float:
        """Mean power of devices and hosts [W], without cooling and conversion."""
        return sum(load.watts for load in self.loads)

    @property
    def energy_per_token(self) -> float:
        """Energy of an output token [J] (of a prompt token where nothing is generated): all of the energy, PUE included."""
        return float(energy_per_token(self.watts * self.site.pue.value, self._tokens_per_second))

    @property
    def carbon_per_token(self) -> float:
        """g CO2 equivalent of such a token: of its electricity and its part of making the hardware."""
        return self._carbon_per_second / self._tokens_per_second

    @property
    def _tokens_per_second(self) -> float:
        workload = self.deployment.workload
        return self.request_rate * (
            workload.output_tokens if self.deployment.model.task == "generate" else workload.input_tokens
        )

    @property
    def _carbon_per_second(self) -> float:
        joules = self.watts * self.site.pue.value
        return float(carbon(joules, self.site.grid_intensity.value)) + self.embodied_per_second

    @property
    def embodied_per_second(self) -> float:
        """g CO2 equivalent a second of making devices and hosts, over the years of ownership."""
        years = self.terms.years.value if isinstance(self.terms, Ownership) else ownership().years.value
        found = 0.0
        for load in self.loads:
            accelerator, system = load.deployment.machine.accelerator, load.deployment.machine.system
            made = accelerator.embodied_carbon or self.power.device_embodied_carbon.value
            host = (system.host_embodied_carbon if system else None) or self.power.host_embodied_carbon.value
            per_node = system.devices_per_node if system else 8
            found += load.devices * float(embodied_per_second(made + host / per_node, years))
        return found

    @property
    def kwh_per_year(self) -> float:
        return float(kwh(self.watts * self.site.pue.value * HOURS_PER_YEAR * 3600))

    @property
    def carbon_per_year(self) -> float:
        """Tonnes of CO2 equivalent."""
        return self._carbon_per_second * HOURS_PER_YEAR * 3600 / 1e6

    @property
    def assumptions(self) -> tuple[Assumption, ...]:
        """Every figure the money rests on, with its range."""
        return self.hour.assumptions

    @property
    def sources(self) -> list[str]:
        """What the figures rest on."""
        found = [f"{item.name} {item.base:g} ({item.status}): {item.source}" for item in self.assumptions]
        found += [f"{name} {f.value:g} ({STATUS[f.status]}): {f.source}" for name, f in self.power.figures().items()]
        found.append(f"grid intensity {self.site.grid_intensity.value:g} g/kWh: {self.site.grid_intensity.source}")
        return [*found, "allocation: " + ALLOCATION.format(share=self.cached_share), *self.loads[0].assumed]

    def in_currency(self, usd: float) -> float:
        """An amount of USD in the site's currency."""
        return usd / self.site.usd_per_currency.value

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings; keys carry units."""
        prices, generates = self.token_prices, self.deployment.model.task == "generate"
        found: dict[str, Any] = {
            "deployment": self.deployment.describe(), "devices": self.devices, "requests_per_s": self.request_rate,
            "site": self.site.name, "terms": "owned" if isinstance(self.terms, Ownership) else self.terms.kind,
            "per_device_hour_usd": self.hour.usd, "per_hour_usd": self.per_hour, "per_year_usd": self.per_year,
            "parts_per_year_usd": self.parts, "per_request_usd": self.per_request, "per_user_month_usd": self.per_user_month,
            "per_million_input_tokens_usd": prices.input, "per_million_cached_input_tokens_usd": prices.cached_input,
            "per_million_output_tokens_usd": prices.output if generates else None,
            "allocation": ALLOCATION.format(share=self.cached_share), "busy_share": [load.busy for load in self.loads],
            "mean_power_w": self.watts, "energy_kwh_per_year": self.kwh_per_year, "energy_per_token_j": self.energy_per_token,
            "carbon_t_per_year": self.carbon_per_year, "carbon_per_token_g": self.carbon_per_token,
            "embodied_share_of_carbon": self.embodied_per_second / self._carbon_per_second,
            "currency": self.site.currency, "usd_per_currency": self.site.usd_per_currency.value,
            "assumptions": [item.to_dict() for item in self.assumptions], "sources": self.sources,
        }  # fmt: skip
        if self.ledger is not None:
            found["buy_or_rent"] = {
                "break_even_month": self.ledger.break_even, "rent_per_device_hour_usd": self.ledger.rent,
                "break_even_rent_per_device_hour_usd": self.ledger.equal_rent,
                "owned_by_month_usd": self.ledger.owned.tolist(), "rented_by_month_usd": self.ledger.rented.tolist(),
            }  # fmt: skip
        if self.api is not None:
            rate = self.api.break_even_rate
            found["api"] = {
                "per_million_tokens_usd": list(self.api.prices), "per_hour_usd": self.api.per_hour,
                "break_even_requests_per_s": rate if math.isfinite(rate) else None, "break_even_price_factor": self.api.price_factor,
            }  # fmt: skip
        return found

    def to_frame(self) -> Any:
        """The parts of a year's cost as a pandas frame."""
        return frame(
            [{"part": name, "usd_per_year": usd, "share": usd / self.per_year} for name, usd in self.parts.items()]
        )

    def __str__(self) -> str:
        from infersim.planning.cost_text import cost_text

        return cost_text(self)


def cost(
    deployment: Estimate | Option,
    *,
    request_rate: float,
    devices: int | None = None,
    terms: Ownership | Rental | str = "on_demand",
    site: Site | str = "us",
    against: Ownership | Rental | None = None,
    api: tuple[float, float, float] | None = None,
    cached_share: float = CACHED_SHARE,
    requests_per_user_month: float | None = None,
    power: PowerTerms | None = None,
) -> CostReport:
    """What ``devices`` that serve a mean of ``request_rate`` requests per second cost, in money, energy and carbon.

    ``terms``: a kind of rent, ``buy``, or terms of one's own (``specs.economics.rental``, ``ownership``); ``against`` the other
    way to pay, for the month in which owning has paid off. ``site`` names a place or is one. ``api``: USD per million input,
    cached input and output tokens of an API for the same load.

    Devices that wait cost as much as busy ones, and draw idle power. Raises NoPlanError where the devices cannot serve the load,
    SpecError for bad input and where no price is on file.

    >>> from infersim import estimate
    >>> report = cost(estimate("meta-llama/Llama-3.1-8B", "H100-SXM"), request_rate=5, devices=2, terms=rental(per_hour=2.5))
    >>> report.per_year, report.parts
    (43800.0, {'rent': 43800.0})
    """
    if not (isinstance(request_rate, (int, float)) and 0 < request_rate < math.inf):
        raise SpecError(f"must be above 0, got {request_rate!r}", field="request_rate")
    if not 0 <= cached_share <= 1:
        raise SpecError(f"is a share from 0 to 1, got {cached_share!r}", field="cached_share")
    place = load_site(site) if isinstance(site, str) else site
    chosen: Ownership | Rental = (
        terms if not isinstance(terms, str) else ownership() if terms == "buy" else rental(kind=terms)
    )
    known = power or power_terms()
    loads = tuple(loads_of(deployment, float(request_rate), devices, known))
    hour = _hour(loads, chosen, place)
    report = CostReport(loads, float(request_rate), hour, place, chosen, known, cached_share, requests_per_user_month)
    ledger = _ledger(report, against) if against is not None else None
    compared = _api(report, api) if api is not None else None
    return CostReport(
        loads, float(request_rate), hour, place, chosen, known, cached_share, requests_per_user_month, ledger, compared
    )


def _hour(loads: tuple[Load, ...], terms: Ownership | Rental, site: Site) -> DeviceHour:
    machine, devices = loads[-1].deployment.machine, sum(load.devices for load in loads)
    watts = sum(load.watts for load in loads) / devices
    return device_hour(
        machine.accelerator,
        terms,
        site,
        system=machine.system,
        watts=watts,
        provisioned_watts=loads[-1].provisioned_watts,
    )


def _ledger(report: CostReport, against: Ownership | Rental) -> Ledger:
    """Owning and renting the same devices side by side."""
    if isinstance(against, Ownership) == isinstance(report.terms, Ownership):
        raise SpecError("sets renting against owning: one of each is needed", field="against")
    other = _hour(report.loads, against, report.site)
    own_hour, rent_hour = (report.hour, other) if isinstance(report.terms, Ownership) else (other, report.hour)
    own_terms = report.terms if isinstance(report.terms, Ownership) else against
    values = {item.name: item.base for item in own_hour.assumptions}
    assert isinstance(own_terms, Ownership)
    devices, tax = report.devices, 1 + report.site.tax.value
    price = values["own.price"] * devices * tax
    capital = price * (1 + values["own.network_share"] + values["own.installation_share"])
    running = ("maintenance", "staff", "colocation", "electricity")
    opex = sum(own_hour.parts[name] for name in running) * devices * tax / 12
    # hours in repair are rented at nothing: what rented devices would serve in the hours that owned ones are up
    rent_month = rent_hour.usd * devices * HOURS_PER_MONTH * values["own.availability"]
    months = math.ceil(values["own.years"] * 12)
    owned = owned_by_month(
        capital, opex, values["own.residual_after_3_years"], values["own.interest"], months, resale=price
    )
    rented = rented_by_month(rent_month, values["own.interest"], months)
    # the rent that makes the last month equal: both are linear in it
    equal = rent_hour.usd * float(owned[-1] / rented[-1]) if rented[-1] > 0 else math.inf
    return Ledger(owned, rented, break_even_month(owned, rented), equal, rent_hour.usd)


def _api(report: CostReport, prices: tuple[float, float, float]) -> ApiComparison:
    if len(prices) != 3 or not all(isinstance(p, (int, float)) and 0 <= p < math.inf for p in prices):
        raise SpecError(f"needs USD per million input, cached input and output tokens, got {prices!r}", field="api")
    workload, generates = report.deployment.workload, report.deployment.model.task == "generate"
    cached = workload.cached_tokens
    output = workload.output_tokens if generates else 0.0
    paid = float(api_cost(report.request_rate, workload.input_tokens - cached, cached, output, prices))
    per_request = paid / report.request_rate / 3600
    rate = float(break_even_tokens(report.per_hour / 3600, per_request * 1e6))
    return ApiComparison(prices, paid, rate, report.per_hour / paid if paid else math.inf)


def what_if(report: CostReport, changes: Mapping[str, float]) -> float:
    """USD per device and hour with some assumptions changed by name.

    >>> from infersim import estimate
    >>> report = cost(estimate("meta-llama/Llama-3.1-8B", "H100-SXM"), request_rate=1, terms=rental(per_hour=2.0))
    >>> what_if(report, {"rent.per_hour": 3.0})
    3.0
    """
    from infersim.planning.terms import hourly

    values = {item.name: item.base for item in report.assumptions}
    for name in changes:
        if name not in values:
            from infersim.errors import did_you_mean

            raise SpecError(f"no assumption is called {name!r}; {did_you_mean(name, values)}", field="changes")
    load = report.loads[-1]
    watts = report.watts / report.devices
    return float(hourly({**values, **changes}, isinstance(report.terms, Ownership), watts, load.provisioned_watts))
