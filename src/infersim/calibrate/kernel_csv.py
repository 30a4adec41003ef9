"""Measured kernels as CSV: one row a timing.

Columns: ``kind`` (gemm, attention, mla, moe, scan, collective, elementwise, copy, stream), ``device``, ``engine``, ``version``,
``kernel``, ``source``; formats ``weights_format, activations_format, kv_cache_format``; ``seconds``; every other column is a size
of the shape (m, n, k; count, new, cached, heads, kv_heads, head_dim, window; tokens, hidden ...), empty where the kind has no such
size. ``kind, device, engine`` and ``seconds`` are needed.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import numpy as np

from infersim.calibrate.measurements import KernelTable, Kind
from infersim.errors import SpecError, did_you_mean
from infersim.files import write_text

KINDS: tuple[str, ...] = get_args(Kind)
TEXT = ("kind", "device", "engine", "version", "kernel", "source")
FORMATS = ("weights", "activations", "kv_cache")
NEEDED = ("kind", "device", "engine", "seconds")


def write_kernels(path: Path, tables: Iterable[KernelTable]) -> None:
    """Write tables; the file appears whole or not at all."""
    kept = list(tables)
    axes = list(dict.fromkeys(axis for table in kept for axis in table.shape))
    columns = [*TEXT, *(f"{name}_format" for name in FORMATS), *axes, "seconds"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    writer.writeheader()
    for table in kept:
        fixed: dict[str, Any] = {name: getattr(table, name) for name in TEXT}
        fixed |= {f"{name}_format": table.formats.get(name, "") for name in FORMATS}
        for row, seconds in enumerate(table.seconds):
            sizes = {axis: f"{column[row]:.15g}" for axis, column in table.shape.items()}
            writer.writerow(fixed | sizes | {"seconds": f"{seconds:.9g}"})
    write_text(path, text.getvalue())


def read_kernels(path: Path) -> list[KernelTable]:
    """The tables of a file, one for each kind, device, engine, version, kernel, formats and set of sizes. Raises SpecError."""
    try:
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig")))
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot be read: {error}", file=path) from error
    columns = list(reader.fieldnames or [])
    for name in NEEDED:
        if name not in columns:
            near = f"; {did_you_mean(name, columns)}" if columns else ""
            raise SpecError(f"lacks the column {name}{near}", file=path)
    known = {*TEXT, *(f"{name}_format" for name in FORMATS), "seconds"}
    axes = [name for name in columns if name not in known]
    grouped: dict[tuple[Any, ...], list[tuple[list[float], float]]] = defaultdict(list)
    for line, row in enumerate(reader, 2):
        if None in row or any(value is None for value in row.values()):
            raise SpecError(f"line {line} has not as many cells as there are columns", file=path)
        kind = row["kind"].strip()
        if kind not in KINDS:
            raise SpecError(
                f"no kind of kernel is called {kind!r}; {did_you_mean(kind, KINDS)}",
                field=f"line {line}, kind",
                file=path,
            )
        filled = tuple(axis for axis in axes if row[axis].strip())
        sizes = [_number(row[axis], path, line, axis) for axis in filled]
        seconds = _number(row["seconds"], path, line, "seconds")
        if seconds <= 0:
            raise SpecError(f"must be more than zero, got {row['seconds']!r}", field=f"line {line}, seconds", file=path)
        formats = tuple((name, row.get(f"{name}_format", "").strip()) for name in FORMATS)
        text = tuple((row.get(name) or "").strip() for name in TEXT)
        grouped[text, formats, filled].append((sizes, seconds))
    if not grouped:
        raise SpecError("holds no timings", file=path)
    tables = []
    for (text, formats, filled), rows in grouped.items():
        kind, device, engine, version, kernel, source = text
        shape = dict(zip(filled, np.array([sizes for sizes, _ in rows], dtype=float).T, strict=True)) if filled else {}
        tables.append(
            KernelTable(kind, device, engine, version, {name: value for name, value in formats if value}, kernel, shape,
                        np.array([seconds for _, seconds in rows]), source or str(path))
        )  # fmt: skip
    return tables


def _number(text: str, path: Path, line: int, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value) or value < 0:
        raise SpecError(f"must be a number of zero or more, got {text!r}", field=f"line {line}, {column}", file=path)
    return value
