"""Answers as tables: what ``to_dict()`` nests becomes one flat row, and rows become CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

ENDS = ("low", "high")


def flatten(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested record as one row: names of inner fields follow their outer one's and a dot.

    The two ends of an interval are columns of their own; any other list is one cell of JSON, so that equal questions have equal
    columns however long their lists are. An empty inner record is one empty cell.

    >>> flatten({"fits": True, "memory": {"weights_bytes": 5.0}, "tpot_interval_90_s": [0.01, 0.02], "missed": ["ttft"]})
    {'fits': True, 'memory.weights_bytes': 5.0, 'tpot_interval_90_s.low': 0.01, 'tpot_interval_90_s.high': 0.02,
     'missed': '["ttft"]'}
    """
    row: dict[str, Any] = {}
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            row |= flatten(value, f"{name}.") if value else {name: None}
        elif "interval" in str(key) and (value is None or (isinstance(value, list | tuple) and len(value) == 2)):
            row |= {f"{name}.{end}": bound for end, bound in zip(ENDS, value or (None, None), strict=True)}
        elif isinstance(value, list | tuple):
            row[name] = json.dumps(value, allow_nan=False)
        else:
            row[name] = value
    return row


def to_csv(records: Iterable[Mapping[str, Any]]) -> str:
    """Records as CSV, one flat row each, under every column that any has, in the order they first appear.

    No value is an empty cell, truth is ``true`` or ``false``, numbers keep every digit.

    >>> print(to_csv([{"gpu": "L40S", "usd": {"rent": 0.8}}, {"gpu": "B200", "fits": False}]), end="")
    gpu,usd.rent,fits
    L40S,0.8,
    B200,,false
    """
    rows = [flatten(record) for record in records]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    outer = {name[:place] for name in columns for place, letter in enumerate(name) if letter == "."}
    empty = {
        name for name in outer if all(row.get(name) is None for row in rows)
    }  # an inner record that some rows do not have
    columns = [name for name in columns if name not in empty]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([cell(row.get(name)) for name in columns] for row in rows)
    return text.getvalue()


def plain(value: Any) -> Any:
    """An answer as JSON can hold it: no number where there is none to give (infinite, not a number), tuples as lists.

    >>> plain({"ttft_s": float("nan"), "rates": (1, float("inf"))})
    {'ttft_s': None, 'rates': [1, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def cell(value: Any) -> str:
    """A value as CSV says it.

    >>> cell(None), cell(True), cell(0.1), cell("L40S")
    ('', 'true', '0.1', 'L40S')
    """
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
