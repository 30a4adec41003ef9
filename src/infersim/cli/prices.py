"""``infersim prices``: what is on file or, with ``--live``, what clouds ask now; with origin, date and age."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infersim.cli import complete
from infersim.cli import options as o
from infersim.cli.output import emit, tell
from infersim.errors import SpecError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from infersim.planning.live_prices import LivePrices
    from infersim.specs.price_tables import PriceRow


def prices(
    gpu: Annotated[
        str | None,
        typer.Argument(
            help="Accelerator or system (H100, DGX-H100, NVL72). Without: a line for each.",
            autocompletion=complete.names_of("accelerators"),
        ),
    ] = None,
    kind: Annotated[
        str | None,
        o.option(
            "on_demand, reserved_1y, reserved_3y, spot, purchase.",
            None,
            values=complete.one_of("on_demand", "reserved_1y", "reserved_3y", "spot", "purchase"),
        ),
    ] = None,
    provider: o.Provider = None,
    region: o.Region = None,
    live: Annotated[bool, o.option("Ask the clouds now (pip install 'infersim[prices]').", None, "--live")] = False,
    out: Annotated[
        Path | None, o.option("Write what is shown as CSV, which `infersim --prices` reads.", o.OUTPUT, shown="FILE")
    ] = None,
    sources: o.Sources = False,
    as_json: o.AsJson = False,
    as_csv: o.AsCsv = False,
) -> None:
    """Show prices: rent per device and hour, purchase per device or system, with provider, region, date and source.

    Examples:

        infersim prices H200 --kind spot

        infersim prices --live --provider aws --out mine.csv

        infersim --prices mine.csv estimate Qwen/Qwen3-8B --gpu H200
    """
    from infersim.planning.prices import check_kind, find_hardware, price_rows
    from infersim.specs.price_tables import write_price_table

    check_kind(kind)
    only = None if gpu is None else find_hardware(gpu).name
    now: LivePrices | None = None
    if live:
        from infersim.planning.live_prices import fetch_live_prices

        now = fetch_live_prices(None if provider is None else [provider])
        rows = [row for row in now.rows if _wanted(row, only, kind, region)]
    else:
        rows = price_rows(None if only is None else [only], kind, provider=provider, region=region)
    if not rows:
        raise SpecError(_nothing(only, kind, provider, region, live=live))
    if out is not None:
        write_price_table(out, rows)
    answer = _as_dict(rows, now)

    def screen() -> RenderableType:
        return _offers(rows, sources=sources) if only is not None or live else _summary(rows)

    emit(answer, screen, as_json=as_json, as_csv=as_csv, rows=answer["prices"])
    if now is not None and now.left_out:
        tell(f"{sum(now.left_out.values()):,} of {now.offers:,} offers are of GPUs that are not clearly one of those here: "
             f"{', '.join(list(now.left_out)[:12])}")  # fmt: skip
    if out is not None:
        tell(f"{len(rows):,} prices written to {out}")


def _wanted(row: PriceRow, only: str | None, kind: str | None, region: str | None) -> bool:
    here = region is None or (row.region or "").lower().startswith(region.lower())
    return here and only in (None, row.hardware) and kind in (None, row.kind)


def _nothing(only: str | None, kind: str | None, provider: str | None, region: str | None, *, live: bool) -> str:
    """The kind sentence where nothing matches; the library says what is on file where one thing was asked for."""
    from infersim.planning.prices import choose_price

    if only is not None and kind is not None and not live:
        try:
            choose_price(only, kind, provider=provider, region=region)
        except SpecError as error:
            return error.message
    asked = {"GPU": only, "--kind": kind, "--provider": provider, "--region": region}
    given = ", ".join(f"{name} {value}" for name, value in asked.items() if value is not None)
    return (
        f"no price {'is offered now' if live else 'is on file'} for {given or 'anything'}; `infersim prices` lists all"
    )


def _as_dict(rows: Sequence[PriceRow], now: LivePrices | None) -> dict[str, Any]:
    from infersim.specs.price_tables import AMOUNTS, COLUMNS

    fields = {column: AMOUNTS.get(column, (column, ""))[0] for column in COLUMNS}
    listed = [
        {name: getattr(row, field) for name, field in fields.items() if getattr(row, field) is not None}
        | {"old": row.is_old()}
        for row in rows
    ]
    extra = {} if now is None else {"offers": now.offers, "left_out": dict(now.left_out), "date": now.date}
    return {"prices": listed, **extra}


def _offers(rows: Sequence[PriceRow], *, sources: bool) -> RenderableType:
    """A line per price."""
    from infersim.cli.listing import Listing

    several = len({row.hardware for row in rows}) > 1
    shown = Listing(*(["hardware"] if several else []), "kind", "USD", "provider", "region", "date", right=(1 + several,),
                    caption="rent per device; 'old': read more than a year ago")  # fmt: skip
    for row in rows:
        amount = f"{row.amount:,.0f}" if row.kind == "purchase" else f"{row.amount:.2f}/h"
        date = f"{row.date or 'no date'}{' old' if row.date and row.is_old() else ''}"
        notes = [row.status if row.status != "stated" else "", row.note, f"[{row.source}]" if sources else ""]
        shown.add(*([row.hardware] if several else []), row.kind, amount, row.provider, row.region or "-", date,
                  below="; ".join(part for part in notes if part))  # fmt: skip
    return shown


def _short(usd: float, kind: str) -> str:
    return f"{usd / 1e3:,.4g}k" if kind == "purchase" else f"{usd:.2f}"


def _summary(rows: Sequence[PriceRow]) -> RenderableType:
    """A line per accelerator or system: the range of the prices to go by."""
    from infersim.cli.listing import Listing
    from infersim.planning.prices import KINDS
    from infersim.specs.hardware import current

    kinds = [kind for kind in KINDS if any(row.kind == kind for row in rows)]
    shown = Listing(
        "hardware", *kinds, right=range(1, len(kinds) + 1),
        caption="USD per device and hour; purchase: USD per device or system. Of the last year on file; ~ estimates only",
    )  # fmt: skip
    for name in dict.fromkeys(row.hardware for row in rows):
        cells = []
        for kind in kinds:
            going = current(row for row in rows if (row.hardware, row.kind) == (name, kind))
            ends = dict.fromkeys(_short(price.amount, kind) for price in (*going[:1], *going[-1:])) or {"-": None}
            cells.append("-".join(ends) + ("~" if going and going[0].status == "estimate" else ""))
        shown.add(name, *cells)
    return shown
