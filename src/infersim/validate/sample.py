"""A sample of measured kernels small enough to ship: some test rows of every table, drawn by hash, in one ``.npz``."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from infersim.calibrate.fit import sample
from infersim.calibrate.measurements import KernelTable, fit_rows
from infersim.errors import SpecError
from infersim.files import replace_file
from infersim.specs.library import measurement_file

Array = npt.NDArray[np.float64]
ROWS = 120
"""Rows drawn of a table."""
SAMPLE = "kernels.npz"


def draw(tables: Iterable[KernelTable], rows: int = ROWS) -> list[KernelTable]:
    """At most ``rows`` test rows of each table."""
    drawn = []
    for table in tables:
        test = table.take(~fit_rows(table))
        if not len(test):
            continue
        chosen = np.zeros(len(test), dtype=bool)
        chosen[sample(test.shape, rows)] = True
        drawn.append(test.take(chosen))
    return drawn


def write_sample(path: Path, drawn: Iterable[KernelTable]) -> None:
    """Write drawn tables; seconds keep seven digits, sizes all of theirs, so that a row hashes to the same side of the split
    when it is read again. The file appears whole or not at all."""
    about: list[dict[str, Any]] = []
    columns: dict[str, Any] = {}
    for number, table in enumerate(drawn):
        about.append(
            {"kind": table.kind, "device": table.device, "engine": table.engine, "version": table.version, "formats": dict(table.formats),
             "kernel": table.kernel, "source": table.source, "axes": list(table.shape)}
        )  # fmt: skip
        sizes = np.stack(list(table.shape.values()))
        short = sizes.astype(np.float32)
        columns[f"shape{number}"] = short if np.array_equal(short, sizes) else sizes
        columns[f"seconds{number}"] = table.seconds.astype(np.float32)
    columns["about"] = np.array(json.dumps(about))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **columns)
    replace_file(path, lambda part: part.write_bytes(buffer.getvalue()))


def read_sample(path: Path | None = None) -> list[KernelTable]:
    """The tables of a sample, the shipped one where no path is given. Raises SpecError."""
    file = path or measurement_file(SAMPLE)
    try:
        with np.load(file, allow_pickle=False) as packed:
            about = json.loads(str(packed["about"]))
            found = []
            for number, one in enumerate(about):
                shape = packed[f"shape{number}"].astype(np.float64)
                table = KernelTable(
                    one["kind"], one["device"], one["engine"], one["version"], one["formats"], one["kernel"],
                    dict(zip(one["axes"], shape, strict=True)), packed[f"seconds{number}"].astype(np.float64), one["source"],
                )  # fmt: skip
                found.append(table)
            return found
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise SpecError(f"is not a sample of measured kernels: {error}", file=file) from error
