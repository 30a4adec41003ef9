"""Price tables: files of prices that belong to many devices, as shipped, as a user writes them, as a live query saves them.

One row, one price, in CSV: ``hardware`` (an accelerator, or a system where a whole one is bought), ``kind``, one of
``usd_per_hour`` (per device) and ``usd`` (purchase), and where it is from. The same fields in YAML, as a list under
``prices``, with ``per_hour: 2.10 USD/h`` and ``purchase: 30 kUSD``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from infersim.errors import SpecError, did_you_mean
from infersim.files import replace_file
from infersim.specs.hardware import Price
from infersim.specs.reading import MAX_SPEC_BYTES, read_yaml, validate

AMOUNTS = {"usd_per_hour": ("per_hour", "USD/h"), "usd": ("purchase", "USD")}
"""Columns of amounts: the field of ``Price`` they fill, and its unit."""
COLUMNS = (
    "hardware",
    "kind",
    *AMOUNTS,
    "provider",
    "region",
    "date",
    "instance",
    "devices",
    "status",
    "source",
    "note",
)


class PriceRow(Price):
    """A price and the name of what it buys."""

    hardware: str

    def price(self) -> Price:
        """The price alone."""
        return Price.model_construct(**{name: getattr(self, name) for name in Price.model_fields})


def read_price_table(path: str | Path) -> list[PriceRow]:
    """The rows of a CSV or YAML file. A row without provider is the user's own; one without source has the file's name.

    Raises SpecError naming file, line and column of what cannot be read.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() in (".yaml", ".yml"):
        data = read_yaml(path)
        rows = data.get("prices")
        if not isinstance(rows, list) or set(data) != {"prices"}:
            raise SpecError("should hold one list, `prices`, with a row per price", file=path)
        return [_row(row, path, f"prices.{place}") for place, row in enumerate(rows)]
    return [_row(row, path, f"line {line}") for line, row in _csv_rows(path)]


def write_price_table(path: str | Path, rows: Iterable[PriceRow]) -> None:
    """Write rows as CSV, which ``read_price_table`` reads back. The file appears whole or not at all."""
    path = Path(path).expanduser()
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        cells = {name: getattr(row, name) for name in COLUMNS if name not in AMOUNTS}
        amounts = {column: getattr(row, field) for column, (field, _) in AMOUNTS.items()}
        amounts = {name: f"{value:.12g}" for name, value in amounts.items() if value is not None}
        writer.writerow({name: "" if value is None else value for name, value in (cells | amounts).items()})
    replace_file(path, lambda part: part.write_text(text.getvalue(), encoding="utf-8", newline=""))


def by_hardware(rows: Iterable[PriceRow]) -> dict[str, tuple[Price, ...]]:
    """The prices of each thing that rows name."""
    found: dict[str, list[Price]] = {}
    for row in rows:
        found.setdefault(row.hardware, []).append(row.price())
    return {name: tuple(prices) for name, prices in found.items()}


def layered(*layers: Iterable[Price]) -> tuple[Price, ...]:
    """Prices of one thing from several origins: all those of a kind are taken from the first origin that has any.

    >>> mine = Price(kind="spot", per_hour="1 USD/h", provider="mine", source="offer")
    >>> theirs = Price(kind="spot", per_hour="2 USD/h", provider="theirs", source="list")
    >>> [price.provider for price in layered([mine], [theirs])]
    ['mine']
    """
    found: list[Price] = []
    for layer in layers:
        settled = {price.kind for price in found}
        found += [price for price in layer if price.kind not in settled]
    return tuple(found)


def _csv_rows(path: Path) -> list[tuple[int, Mapping[str, Any]]]:
    if not path.is_file():
        raise SpecError("no such file", file=path)
    if path.stat().st_size > MAX_SPEC_BYTES:
        raise SpecError(
            f"{path.stat().st_size:,} bytes is too large for a price table (at most {MAX_SPEC_BYTES:,})", file=path
        )
    try:
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig")), strict=True)
        columns, rows = list(reader.fieldnames or ()), [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise SpecError(f"not a CSV file in UTF-8: {error}", file=path) from error
    for column in columns:
        if column not in COLUMNS:
            raise SpecError(f"unknown column {column!r}; {did_you_mean(column, COLUMNS)}", file=path)
    for column in ("hardware", "kind"):
        if column not in columns:
            raise SpecError(f"lacks the column {column}; a price table has {', '.join(COLUMNS)}", file=path)
    for line, row in rows:
        if None in row or None in row.values():
            raise SpecError(f"line {line} has not as many cells as there are columns", file=path)
    return [(line, {name: cell.strip() for name, cell in row.items() if cell.strip()}) for line, row in rows]


def _row(row: Any, path: Path, where: str) -> PriceRow:
    if not isinstance(row, Mapping):
        raise SpecError(f"should be a price with its fields, got {row!r}", file=path, field=where)
    fields = {name: value for name, value in row.items() if name not in AMOUNTS}
    for column, (field, unit) in AMOUNTS.items():
        if column in row:
            fields[field] = f"{row[column]} {unit}"
    fields = {"provider": "your own", "source": path.name} | fields
    try:
        return validate(PriceRow, fields)
    except SpecError as error:
        raise SpecError(str(error), file=path, field=where) from error
