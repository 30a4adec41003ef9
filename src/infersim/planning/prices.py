"""Prices on file: those that match, the one to go by, how far they spread.

The prices themselves are facts of the hardware specs, from the shipped tables or the user's (``library.add_price_file``).
Rents are USD per device and hour; a purchase is USD for one device, or for one whole system.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, cast, get_args

from infersim.errors import SpecError, UnknownNameError, did_you_mean
from infersim.specs.hardware import Accelerator, Price, PriceKind, System, current
from infersim.specs.library import load_accelerator, load_system, names
from infersim.specs.price_tables import PriceRow

KINDS: tuple[PriceKind, ...] = get_args(PriceKind)


@dataclass(frozen=True)
class PriceSpread:
    """How far the prices to go by lie apart: USD per device and hour of a rent, USD of a purchase."""

    hardware: str
    kind: PriceKind
    low: float
    median: float
    high: float
    prices: int
    providers: int
    oldest: str | None
    newest: str | None

    def to_dict(self) -> dict[str, Any]:
        """The spread with units in its keys."""
        unit = "usd" if self.kind == "purchase" else "usd_per_hour"
        amounts = ("low", "median", "high")
        return {f"{name}_{unit}" if name in amounts else name: value for name, value in asdict(self).items()}


def prices_of(
    hardware: Accelerator | System | str,
    kind: str | None = None,
    *,
    provider: str | None = None,
    region: str | None = None,
) -> tuple[Price, ...]:
    """Every price on file that matches, cheapest of each kind first.

    ``provider`` and ``region`` match from their beginning on, whatever the case: ``runpod``, ``us``. Raises SpecError on
    an unknown kind.

    >>> [price.provider for price in prices_of("GH200-96GB", "on_demand")]
    ['Lambda', 'CoreWeave']
    """
    check_kind(kind)

    def matches(price: Price) -> bool:
        return (
            (kind is None or price.kind == kind)
            and _begins(price.provider, provider)
            and (region is None or (price.region is not None and _begins(price.region, region)))
        )

    found = filter(matches, find_hardware(hardware).prices)
    return tuple(sorted(found, key=lambda price: (KINDS.index(price.kind), price.amount)))


def choose_price(
    hardware: Accelerator | System | str,
    kind: str = "on_demand",
    *,
    provider: str | None = None,
    region: str | None = None,
) -> Price:
    """The price to go by: the cheapest rent anybody may take, or the middle one of purchases (the lower of two).

    Of the prices that match, those count that ``current`` lets stand: offers before estimates, dated within a year of the
    newest. Raises SpecError that says what is on file where nothing matches.

    >>> choose_price("H100-SXM", "spot", provider="azure").per_hour
    2.271
    """
    found = _to_go_by(find_hardware(hardware), kind, provider, region)
    return found[(len(found) - 1) // 2] if kind == "purchase" else found[0]


def spread_of(
    hardware: Accelerator | System | str,
    kind: str = "on_demand",
    *,
    provider: str | None = None,
    region: str | None = None,
) -> PriceSpread:
    """Lowest, median and highest of the prices to go by, what a distribution of prices may rest on. Raises as ``choose_price``.

    >>> spread = spread_of("HGX-H200", "purchase")
    >>> spread.low, spread.median, spread.high
    (320000.0, 370000.0, 420000.0)
    """
    hardware = find_hardware(hardware)
    found = _to_go_by(hardware, kind, provider, region)
    amounts, dates = [price.amount for price in found], sorted(price.date for price in found if price.date)
    return PriceSpread(
        hardware.name, found[0].kind, min(amounts), statistics.median(amounts), max(amounts), len(found),
        len({price.provider for price in found}), dates[0] if dates else None, dates[-1] if dates else None,
    )  # fmt: skip


def price_per_device(accelerator: Accelerator, system: System | None = None) -> Price:
    """What buying costs per accelerator [USD]: its share of the system where that has a price, else the device alone.

    A share of a system includes processors, memory and chassis; the price of a device alone does not, and says so in
    ``note``. Raises SpecError where neither has a price.

    >>> price_per_device(load_accelerator("H200-SXM"), load_system("HGX-H200")).purchase
    46250.0
    """
    if system is not None and any(price.kind == "purchase" for price in system.prices):
        whole, share = choose_price(system, "purchase"), system.devices_per_node
        note = "; ".join(part for part in (f"1/{share} of {system.name}", whole.note) if part)
        return whole.model_copy(update={"purchase": whole.amount / share, "note": note, "devices": share})
    alone = choose_price(accelerator, "purchase")
    note = "; ".join(part for part in ("the device alone, without a host", alone.note) if part)
    return alone.model_copy(update={"note": note})


def price_rows(
    hardware: Iterable[str] | None = None,
    kind: str | None = None,
    *,
    provider: str | None = None,
    region: str | None = None,
) -> list[PriceRow]:
    """The prices on file as rows of a price table, of some hardware or of all, accelerators before systems."""
    specs: list[Accelerator | System] = []
    if hardware is None:
        specs += map(load_accelerator, names("accelerators"))
        specs += map(load_system, names("systems"))
    else:
        specs += map(find_hardware, hardware)
    return [
        PriceRow.model_construct(hardware=spec.name, **{name: getattr(price, name) for name in Price.model_fields})
        for spec in specs
        for price in prices_of(spec, kind, provider=provider, region=region)
    ]


def check_kind(kind: str | None) -> None:
    """Raises SpecError with the nearest kind where ``kind`` is none."""
    if kind is not None and kind not in KINDS:
        raise SpecError(f"no kind of price is called {kind!r}; {did_you_mean(kind, KINDS)}", field="kind")


def find_hardware(hardware: Accelerator | System | str) -> Accelerator | System:
    """The accelerator of that name, else the system; UnknownNameError with the nearest name where there is neither."""
    if not isinstance(hardware, str):
        return hardware
    try:
        return load_accelerator(hardware)
    except UnknownNameError as error:
        try:
            return load_system(hardware)
        except UnknownNameError:
            raise error from None


def _begins(text: str, wanted: str | None) -> bool:
    return wanted is None or text.lower().startswith(wanted.lower())


def _to_go_by(hardware: Accelerator | System, kind: str, provider: str | None, region: str | None) -> list[Price]:
    found = current(prices_of(hardware, kind, provider=provider, region=region))
    if not found:
        raise SpecError(_nothing(hardware, kind, provider, region), field="price")
    return found


def _nothing(hardware: Accelerator | System, kind: str, provider: str | None, region: str | None) -> str:
    """What is wrong where no price matches: the narrowest condition that fails, and what there is instead."""
    of_kind = prices_of(hardware, kind)
    here = f"no {kind} price of {hardware.name}"
    if not of_kind:
        there = sorted({price.kind for price in hardware.prices}, key=KINDS.index)
        instead = f"on file are {', '.join(there)}" if there else "nor any other price of it"
        others = _named_like(hardware, lambda spec: any(price.kind == kind for price in spec.prices))
        return f"{here} is on file ({instead}); {others}give your own by --price or in a file (--prices FILE)"
    by_provider = [price for price in of_kind if _begins(price.provider, provider)]
    if not by_provider:
        hint = did_you_mean(cast("str", provider), {price.provider for price in of_kind})
        return f"{here} by {provider!r} is on file; {hint}"
    places = sorted({price.region for price in by_provider if price.region})
    known = f"regions on file: {', '.join(places)}" if places else "those on file name no region"
    return f"{here} in {region!r} is on file; {known}"


def _named_like(hardware: Accelerator | System, has: Callable[[Accelerator | System], bool]) -> str:
    """Hardware of the same family that has what this one lacks, as the beginning of a sentence."""
    if isinstance(hardware, System):
        return ""
    kin: Iterator[Accelerator] = (load_accelerator(name) for name in names("accelerators"))
    found = [spec.name for spec in kin if spec.architecture == hardware.architecture and has(spec)]
    return f"{', '.join(found[:4])} {'has' if len(found) == 1 else 'have'} one; " if found else ""
