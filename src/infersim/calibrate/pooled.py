"""Parameters that stand in where nothing was measured: one set per engine and key, fitted to several devices at once.

The physical form divides by each device's own data-sheet rates, so what the devices share are efficiencies and fixed times.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from infersim.calibrate.fit import fit_parameters, sample, spread
from infersim.calibrate.measurements import KernelTable, fit_rows
from infersim.calibrate.sections import Problem, Section, problem, section_key
from infersim.machine.calibration import pooled_name
from infersim.specs.library import load_accelerator

Array = npt.NDArray[np.float64]
Shape = Mapping[str, Array]

ROWS_EACH = 400
"""Rows of each table that a pooled fit sees, and as many that judge it: every device counts alike."""


def pooled_sections(tables: Sequence[KernelTable]) -> Iterator[Section]:
    """One section for each kind, key and class of memory that an engine was measured on, from NVIDIA's devices alone."""
    together: dict[tuple[str, str, str], list[KernelTable]] = defaultdict(list)
    for table in tables:
        accelerator = load_accelerator(table.device)
        if accelerator.vendor == "NVIDIA":
            together[pooled_name(accelerator.memory.kind or ""), table.kind, section_key(table)].append(table)
    for (name, _, _), members in sorted(together.items()):
        yield replace(fit_pooled(members), device=name)


def fit_pooled(tables: Sequence[KernelTable]) -> Section:
    """One set of parameters for tables of one kind and key on several devices; errors on rows the fit did not see."""
    first = tables[0]
    found = [problem(table, load_accelerator(table.device)) for table in tables]
    seen, judged = ([_few(table, wanted) for table in tables] for wanted in (True, False))
    fit_shape, fit_seconds = _joined(seen)
    test_shape, test_seconds = _joined(judged)
    model = _model(found)
    fits = [
        fit_parameters(model.time, start, fit_shape, fit_seconds, hold=model.hold, rows=len(fit_seconds))
        for start in model.starts
    ]
    parameters = min(fits, key=lambda one: one.cost).parameters
    error = spread(model.time(test_shape, parameters), test_seconds)
    devices = ", ".join(table.device for table in tables)
    return Section(
        first.device, first.engine, first.kind, section_key(first), parameters, None, len(fit_seconds), error, error,
        f"aiconfigurator-core systems/data, {first.engine}, fitted to {devices} together",
    )  # fmt: skip


def _few(table: KernelTable, fitted: bool) -> KernelTable:
    part = table.take(fit_rows(table) == fitted)
    rows = np.zeros(len(part), dtype=bool)
    rows[sample(part.shape, ROWS_EACH)] = True
    return part.take(rows)


def _joined(tables: Sequence[KernelTable]) -> tuple[dict[str, Array], Array]:
    """The rows of all tables, with the number of the table they come from."""
    shape = {name: np.concatenate([table.shape[name] for table in tables]) for name in tables[0].shape}
    number = np.concatenate([np.full(len(table), float(index)) for index, table in enumerate(tables)])
    return shape | {"table": number}, np.concatenate([table.seconds for table in tables])


def _model(found: Sequence[Problem]) -> Problem:
    """The first table's problem, with every row priced on its own device."""

    def time(shape: Shape, parameters: object) -> Array:
        seconds = np.zeros(len(shape["table"]))
        for index, one in enumerate(found):
            rows = shape["table"] == index
            seconds[rows] = one.time({name: column[rows] for name, column in shape.items()}, parameters)
        return seconds

    return replace(found[0], time=time)
