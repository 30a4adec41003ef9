"""What a data sheet says: accelerators, and the systems they are built into. No efficiency enters here.

Peaks are dense, with fp32 accumulation; link bandwidth is per device and direction. Fields a vendor does not publish
stay empty, and whatever needs them says so. Prices are facts with a date: the shipped ones are in tables of their own
(``hardware_specs/prices``), and a user's spec may state some itself.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from infersim.specs.quantity import (
    Bandwidth,
    Bytes,
    FlopRate,
    Hertz,
    Kilograms,
    Money,
    MoneyRate,
    Seconds,
    Source,
    Spec,
    Watts,
)  # fmt: skip

MatrixUnit = Literal["fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp6", "fp4", "int4"]
"""What a device multiplies natively: the key of ``Accelerator.peak_flops``."""


class Memory(Spec):
    """Device memory. ``capacity`` is the nominal one; ``usable`` what a driver reports, where it is known."""

    kind: str | None = None
    capacity: Bytes
    bandwidth: Bandwidth
    usable: Bytes | None = None


class Link(Spec):
    """A connection as one device sees it: bandwidth per direction, one hop's latency, devices it joins."""

    name: str
    bandwidth: Bandwidth
    latency: Seconds | None = None
    devices: Annotated[int, Field(ge=1)] = 1
    topology: Literal["switch", "mesh", "ring", "torus", "pcie", "none"] = "switch"
    pair_bandwidth: Bandwidth | None = None
    """Of a mesh: what one device can send to one other, per direction. ``bandwidth`` is that of all its links together."""

    def among(self, ranks: int) -> Link:
        """The link as ``ranks`` devices see it that talk to each other alone.

        >>> mesh = Link(name="xGMI", bandwidth="448 GB/s", pair_bandwidth="64 GB/s", devices=8, topology="mesh")
        >>> mesh.among(2).bandwidth, mesh.among(8).bandwidth
        (64000000000.0, 448000000000.0)
        """
        if self.pair_bandwidth is None or (ranks - 1) * self.pair_bandwidth >= self.bandwidth:
            return self
        return _narrowed(self, (ranks - 1) * self.pair_bandwidth)


@functools.lru_cache(maxsize=256)
def _narrowed(link: Link, bandwidth: float) -> Link:
    return link.model_copy(update={"bandwidth": bandwidth})


PriceKind = Literal["on_demand", "reserved_1y", "reserved_3y", "spot", "purchase"]
"""``reserved_*`` are rents under a commitment of one or three years; ``spot`` may be taken away at short notice."""


OLD_DAYS = 365
"""A price read longer ago than this is shown as old."""


class Price(Spec):
    """One price with its origin. ``per_hour`` is rent of one device, ``purchase`` buys one device (or one whole system).

    ``devices`` is how many are rented together at least, ``instance`` what the provider calls them. ``date`` is the day
    the price was read, as far as it is known (2026-09-20, 2026-09 or 2026). ``status``: ``stated`` by a price list or a
    copy of one; ``estimate``: a rounded or second-hand figure, not an offer anybody can take.
    """

    kind: PriceKind
    per_hour: MoneyRate | None = None
    purchase: Money | None = None
    provider: str
    region: str | None = None
    date: Annotated[str, Field(pattern=r"^20\d\d(-[01]\d(-[0-3]\d)?)?$")] | None = None
    instance: str | None = None
    devices: Annotated[int, Field(ge=1)] = 1
    status: Literal["stated", "estimate"] = "stated"
    source: str
    note: str = ""

    @model_validator(mode="after")
    def _one_amount(self) -> Price:
        wanted, other = ("purchase", "per_hour") if self.kind == "purchase" else ("per_hour", "purchase")
        if getattr(self, wanted) is None or getattr(self, other) is not None:
            raise ValueError(f"a {self.kind} price needs {wanted} and no {other}")
        return self

    @field_validator("date")
    @classmethod
    def _a_day_there_is(cls, date: str | None) -> str | None:
        if date is not None:
            _day(date)
        return date

    @property
    def amount(self) -> float:
        """USD per device and hour of a rent, USD of a purchase."""
        return float(self.purchase if self.kind == "purchase" else self.per_hour)  # type: ignore[arg-type]

    def is_old(self, today: datetime.date | None = None) -> bool:
        """Whether it was read more than a year ago; one without a date is of unknown age and counts as old.

        >>> spot = Price(kind="spot", per_hour="1 USD/h", provider="A", date="2026-05", source="list")
        >>> spot.is_old(datetime.date(2026, 11, 24)), spot.is_old(datetime.date(2027, 7, 1))
        (False, True)
        """
        if self.date is None:
            return True
        known = [int(part) for part in self.date.split("-")]
        read = datetime.date(
            *known, *(12, 28)[len(known) - 1 :]
        )  # where the day is not known, late in its month or year
        return ((today or datetime.datetime.now(datetime.UTC).date()) - read).days > OLD_DAYS

    def origin(self, today: datetime.date | None = None) -> str:
        """Who asks it, when it was read, how far to trust it and where it stands, in one line.

        >>> spot = Price(kind="spot", per_hour="1 USD/h", provider="A", region="us", date="2024-05", source="a list")
        >>> spot.origin()
        'A in us, spot, 2024-05, more than a year old (a list)'
        """
        place = f"{self.provider} in {self.region}" if self.region else self.provider
        age = (
            "without a date"
            if self.date is None
            else f"{self.date}, more than a year old"
            if self.is_old(today)
            else self.date
        )
        kind = self.kind.replace("_", " ")
        return f"{place}, {kind}, {age}{', an estimate' if self.status == 'estimate' else ''} ({self.source})"


def _day(date: str) -> datetime.date:
    """2026-09-20, 2026-09 or 2026 as a day, late in its month or year where that is all one knows."""
    known = [int(part) for part in date.split("-")]
    return datetime.date(*known, *(12, 28)[len(known) - 1 :])


def current(prices: Iterable[Price]) -> list[Price]:
    """Of prices of one kind those to go by, cheapest first: offers before estimates, then dated within a year of the newest.

    Prices without a date count only where none has one. Nothing here asks for today's date, so that an answer stays
    what it was.

    >>> old = Price(kind="spot", per_hour="1 USD/h", provider="A", date="2024-05", source="list")
    >>> new = Price(kind="spot", per_hour="2 USD/h", provider="B", date="2026-05", source="list")
    >>> [price.provider for price in current([old, new])]
    ['B']
    """
    every = list(prices)
    offers = [price for price in every if price.status == "stated"] or every
    newest = max((price.date for price in offers if price.date), default=None)
    if newest is not None:
        year_before = f"{int(newest[:4]) - 1}{newest[4:]}"
        offers = [price for price in offers if price.date and price.date >= year_before[: len(price.date)]]
    return sorted(offers, key=lambda price: price.amount)


class Accelerator(Spec):
    """One device as its data sheet describes it.

    ``architecture`` is the family whose kernel parameters stand in where this device has not been measured.
    ``compute_units`` are SMs (NVIDIA), CUs (AMD), TensorCores (TPU), NeuronCores (AWS), TPCs (Gaudi), GPU cores
    (Apple), Xe cores (Intel), AI cores (Ascend), cores (CPU). ``idle_power`` is drawn with nothing to do;
    ``embodied_carbon`` is the CO2 equivalent of making one device, before it is switched on.
    """

    name: str
    aliases: tuple[str, ...] = ()
    vendor: str
    architecture: str
    kind: Literal["gpu", "tpu", "accelerator", "soc", "cpu"] = "gpu"
    released: str | None = None
    peak_flops: dict[MatrixUnit, FlopRate]
    memory: Memory
    l2_cache: Bytes | None = None
    compute_units: Annotated[int, Field(ge=1)] | None = None
    clock: Hertz | None = None
    tdp: Watts | None = None
    idle_power: Watts | None = None
    embodied_carbon: Kilograms | None = None
    scale_up: Link | None = None
    host_link: Link | None = None
    prices: tuple[Price, ...] = ()
    notes: str = ""
    sources: tuple[Source, ...]

    @model_validator(mode="after")
    def _a_rate_for_every_model(self) -> Accelerator:
        if not {"bf16", "fp16", "fp32"} & set(self.peak_flops):
            raise ValueError("peak_flops needs at least one of bf16, fp16, fp32")
        return self

    @property
    def price_per_hour(self) -> Price | None:
        """The cheapest on-demand price to go by (``current``), or None."""
        return _cheapest_on_demand(self)

    def unsourced(self) -> set[str]:
        """Figures that no source claims; every shipped spec has none."""
        claimed = {field for source in self.sources for field in source.of}
        return {
            field
            for field in figures(self)
            if not any(field == claim or field.startswith(claim + ".") for claim in claimed)
        }


@functools.lru_cache(maxsize=256)
def _cheapest_on_demand(accelerator: Accelerator) -> Price | None:
    return next(iter(current(price for price in accelerator.prices if price.kind == "on_demand")), None)


def figures(spec: Spec, prefix: str = "") -> list[str]:
    """Dotted names of every figure a hardware spec states, except prices, which carry their own source."""
    names: list[str] = []
    for field, value in spec:
        if value is None or field in ("sources", "prices", "notes", "aliases", "name", "vendor", "architecture", "kind",
                                      "topology", "accelerator", "devices_per_node", "default_for"):  # fmt: skip
            continue
        if isinstance(value, Spec):
            names += figures(value, f"{prefix}{field}.")
        elif isinstance(value, dict):
            names += [f"{prefix}{field}.{key}" for key in value]
        else:
            names.append(prefix + field)
    return names


class System(Spec):
    """A node or rack of one accelerator: how many share the scale-up fabric, and how nodes are joined.

    ``scale_up`` defaults to the accelerator's own link. ``max_power`` is what the whole node or rack draws at most,
    ``host_power`` what it draws beside its accelerators; ``host_embodied_carbon`` is the CO2 equivalent of making the rest.
    ``default_for`` lists accelerators that are placed in this system where the user names none.
    """

    name: str
    aliases: tuple[str, ...] = ()
    accelerator: str
    devices_per_node: Annotated[int, Field(ge=1)]
    scale_up: Link | None = None
    scale_out: Link | None = None
    host_link: Link | None = None
    host_memory: Bytes | None = None
    host_power: Watts | None = None
    max_power: Watts | None = None
    host_embodied_carbon: Kilograms | None = None
    default_for: tuple[str, ...] = ()
    prices: tuple[Price, ...] = ()
    notes: str = ""
    sources: tuple[Source, ...]

    def power_beside(self, tdp: float) -> float | None:
        """Power [W] beside the accelerators of ``tdp`` [W] each: ``host_power``, else what ``max_power`` leaves, else None.

        >>> node = System(name="node", accelerator="GPU", devices_per_node=8, max_power="10.2 kW", sources=())
        >>> node.power_beside(700.0)
        4600.0
        """
        if self.host_power is not None:
            return self.host_power
        return None if self.max_power is None else max(self.max_power - self.devices_per_node * tdp, 0.0)
