"""Read the points of a sweep."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infersim.errors import SpecError


@dataclass(frozen=True)
class Sweep:
    """The points of a sweep, a numpy array per column."""

    asked: int | None
    """Points that were asked for, where the manifest tells it."""
    columns: Mapping[str, Any]
    fields: tuple[str, ...]
    """What was swept: those that the manifest names, or where it names none the dotted columns."""
    figures: tuple[str, ...]
    """What came out, with units in the names."""
    reasons: Mapping[str, int]
    """Points without an answer, by reason."""
    rows: int
    distinct: Mapping[str, int]
    """Different values of each field."""


def read_sweep(folder: Path) -> Sweep:
    """The manifest and all parts of a sweep. SpecError where they cannot be read or pyarrow is missing."""
    import numpy as np

    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise SpecError("a sweep is read with pyarrow: pip install 'infersim[data]'", file=folder) from error
    file = folder / "_manifest.json"
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SpecError(f"cannot be read: {error}", file=file) from error
    parts = sorted(folder.glob("part-*.parquet"))
    if not parts:
        raise SpecError("holds no part-*.parquet: the sweep has written no points yet", file=folder)
    try:
        rows = pa.concat_tables([pq.read_table(part) for part in parts], promote_options="default")
    except (OSError, pa.ArrowException) as error:
        raise SpecError(f"cannot be read: {error}", file=folder) from error
    reasons: dict[str, int] = {}
    if "error" in rows.column_names:
        counted = rows.column("error").drop_null().value_counts().to_pylist()
        reasons = {str(one["values"]): one["counts"] for one in counted}
    named = manifest.get("fields") if isinstance(manifest, dict) else None
    fields = tuple(n for n in rows.column_names if (n in named if isinstance(named, list) else "." in n))
    kinds = {name: rows.schema.field(name).type for name in rows.column_names}
    plain = {name for name, kind in kinds.items() if pa.types.is_floating(kind) or pa.types.is_integer(kind)}
    numeric = [name for name in rows.column_names if name in plain and name not in (*fields, "point")]
    columns = {name: rows.column(name).to_numpy() for name in (*fields, *numeric)}
    figures = tuple(name for name in numeric if np.isfinite(columns[name].astype(float)).any())
    distinct = {name: len(rows.column(name).unique()) for name in fields}
    asked = manifest.get("points") if isinstance(manifest, dict) else None
    return Sweep(asked if isinstance(asked, int) else None, columns, fields, figures, reasons, rows.num_rows, distinct)
