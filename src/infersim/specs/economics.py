"""What money figures rest on: each a value with its range, source and standing; terms of owning and renting; a site.

A plain number in place of a figure is one the user gave, taken as certain.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from infersim.errors import SpecError
from infersim.specs.library import find, read_yaml, validate
from infersim.specs.quantity import Spec

Standing = Literal["stated", "checked", "fitted", "assumed", "given"]


class Figure(Spec):
    """A figure with the range it may lie in: nine times in ten, or as far as its source says.

    >>> Figure.model_validate(0.08).high, Figure(value=4, low=3, high=6, source="a list", status="assumed").low
    (0.08, 3.0)
    """

    value: float
    low: float
    high: float
    source: str
    status: Standing

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, given: Any) -> Any:
        if isinstance(given, (int, float)) and not isinstance(given, bool):
            return {"value": given, "low": given, "high": given, "source": "given by the user", "status": "given"}
        return given

    @model_validator(mode="after")
    def _ordered(self) -> Figure:
        if not 0 <= self.low <= self.value <= self.high:
            raise ValueError(f"needs 0 <= low <= value <= high, got {self.low:g}, {self.value:g}, {self.high:g}")
        return self


class Terms(Spec):
    """Figures by name."""

    def figures(self) -> dict[str, Figure]:
        """Every figure that is stated, by field."""
        return {name: value for name, value in self if isinstance(value, Figure)}


class Ownership(Terms):
    """How bought devices are paid for and kept. Shares are of the hardware's price, money in USD, time in years.

    ``price`` is of one device, its share of the system included; None takes the one on file.
    """

    price: Figure | None = None
    years: Figure
    interest: Figure
    residual_after_3_years: Figure
    network_share: Figure
    installation_share: Figure
    maintenance_share: Figure
    staff_per_device_year: Figure
    colocation_per_kw_month: Figure
    provisioned_share: Figure
    availability: Figure


class Rental(Terms):
    """How rented devices are paid for. ``per_hour`` [USD per device] None takes the price on file of this kind, provider and region."""

    kind: Literal["on_demand", "reserved_1y", "reserved_3y", "spot"] = "on_demand"
    provider: str | None = None
    region: str | None = None
    per_hour: Figure | None = None
    storage_and_network_share: Figure
    spot_interruptions_per_month: Figure
    lost_minutes_per_interruption: Figure


class PowerTerms(Terms):
    """Parameters of the power model, and what stands in where hardware specs are silent. Carbon in kg CO2 equivalent."""

    compute: Figure
    memory: Figure
    idle_share: Figure
    host_share: Figure
    device_embodied_carbon: Figure
    host_embodied_carbon: Figure


class Operations(Terms):
    """How devices and nodes fail, are repaired and kept, and how long a replica takes to start. Bandwidths in bytes per second."""

    device_mtbf_hours: Figure
    node_mtbf_hours: Figure
    repair_hours: Figure
    maintenance_hours_per_node_month: Figure
    peak_to_mean: Figure
    rack_power_kw: Figure
    provision_seconds: Figure
    image_bytes: Figure
    image_bandwidth: Figure
    storage_bandwidth: Figure
    network_bandwidth: Figure
    host_link_bandwidth: Figure
    engine_start_seconds: Figure
    scale_down_seconds: Figure

    @model_validator(mode="after")
    def _above_zero(self) -> Operations:
        for name in ("device_mtbf_hours", "node_mtbf_hours", "rack_power_kw", *_BANDWIDTHS):
            if getattr(self, name).low <= 0:
                raise ValueError(f"{name}: must be above zero")
        if self.peak_to_mean.low < 1:
            raise ValueError(f"peak_to_mean: a peak is no lower than the mean, got {self.peak_to_mean.low:g}")
        return self


_BANDWIDTHS = ("image_bandwidth", "storage_bandwidth", "network_bandwidth", "host_link_bandwidth")


class Site(Terms):
    """Where devices stand: electricity per kWh in ``currency``, PUE, g CO2 equivalent per kWh, and tax on all that is paid."""

    name: str
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] = "USD"
    usd_per_currency: Figure = Figure(value=1, low=1, high=1, source="USD", status="stated")
    electricity: Figure
    pue: Figure
    grid_intensity: Figure
    tax: Figure = Figure(value=0, low=0, high=0, source="no tax", status="assumed")

    @model_validator(mode="after")
    def _pue_is_one_at_least(self) -> Site:
        if self.pue.low < 1:
            raise ValueError(f"pue: no site draws less than its devices, got {self.pue.low:g}")
        if self.usd_per_currency.low <= 0:
            raise ValueError(f"usd_per_currency: must be above zero, got {self.usd_per_currency.low:g}")
        return self

    @property
    def usd_per_kwh(self) -> float:
        return self.electricity.value * self.usd_per_currency.value


@functools.lru_cache(maxsize=8)
def _default(name: str) -> dict[str, Any]:
    return read_yaml(find("economics", name))


def ownership(**changed: Any) -> Ownership:
    """The terms of owning on file, with some of them ``changed``.

    >>> ownership(years=5).years.value, ownership().residual_after_3_years.status
    (5.0, 'stated')
    """
    return validate(Ownership, _default("ownership") | {k: v for k, v in changed.items() if v is not None})


def rental(**changed: Any) -> Rental:
    """The terms of renting on file, with some of them ``changed``.

    >>> rental(kind="spot").kind
    'spot'
    """
    return validate(Rental, _default("rental") | {k: v for k, v in changed.items() if v is not None})


def power_terms() -> PowerTerms:
    """The parameters of the power model on file."""
    return validate(PowerTerms, _default("power"))


def operations(**changed: Any) -> Operations:
    """How fleets fail, start and are kept, as on file, with some figures ``changed``.

    >>> operations(repair_hours=4).repair_hours.value, operations().device_mtbf_hours.status
    (4.0, 'stated')
    """
    return validate(Operations, _default("operations") | {k: v for k, v in changed.items() if v is not None})


def load_site(name: str, **changed: Any) -> Site:
    """The site called ``name``, or the one in a YAML file, with some figures ``changed``.

    >>> load_site("germany", tax=0.19).tax.value
    0.19
    """
    if not isinstance(name, str):
        raise SpecError(f"is the name of a site or a YAML file, got {name!r}", field="site")
    path = find("sites", name)
    return validate(Site, read_yaml(path) | {k: v for k, v in changed.items() if v is not None}, file=path)
