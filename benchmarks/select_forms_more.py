"""Choose the surface of experts, latent attention, scans and collectives by cross-validation inside the fit rows.

Run with ``python benchmarks/select_forms_more.py [KIND ...]``; it needs ``pip install 'infersim[silicon]'``. Whole groups of
rows are kept out in turn: models (hidden, intermediate, number of experts) of experts, blocks of head and sequence counts of
latent attention and scans, octaves of payload of collectives. Beside it, for experts, whole (model, parallelism) shapes are
kept out, which is how a model that was measured meets a deployment that was not. Rows that judge are never looked at.
Prints the mean absolute relative error of the form alone and under each candidate, over all rows kept out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from infersim.calibrate.fit import fit_parameters, sample
from infersim.calibrate.measurements import KernelTable, fit_rows
from infersim.calibrate.sections import Problem, problem
from infersim.calibrate.silicon_more import FOLDERS, more_tables
from infersim.calibrate.surface import fit_surface, knots_for
from infersim.errors import UnsupportedError
from infersim.machine.calibration import ENGINES
from infersim.specs.library import load_accelerator

Array = npt.NDArray[np.float64]

FOLDS = 3
LEAST_ROWS = 15
"""A table with fewer fit rows is left out."""
ROWS = 2000
"""Rows of a table looked at, by hash."""

EVERY = {"moe": 12, "mla": 6, "scan": 2, "collective": 1}
"""One table in so many is tried, to keep the run short."""

KNOTS: dict[str, tuple[tuple[int, ...], ...]] = {
    "moe": ((7, 3, 5, 3), (9, 4, 4, 2), (9, 5, 5, 1), (8, 1, 5, 5)),
    "mla": ((6, 8, 4), (5, 7, 3), (8, 8, 4)),
    "scan": ((6, 9, 5), (6, 9, 3), (5, 7, 3), (8, 9, 4)),
    "collective": ((12, 3), (8, 2), (16, 3), (24, 3)),
}
PENALTIES = ((0.003, 0.003), (0.01, 0.01), (0.03, 0.03), (0.1, 0.1), (0.3, 0.5))
"""Ridge and smoothness."""

GROUPS = {
    "moe": {"model": ("hidden", "intermediate", "num_experts"),
            "deployment": ("hidden", "intermediate", "num_experts", "tensor_parallel", "expert_parallel")},
    "mla": {"block": ("heads", "count")}, "scan": {"block": ("heads", "sequences")}, "collective": {"octave": ("payload", "devices")},
}  # fmt: skip


def tables(kind: str) -> Iterator[tuple[KernelTable, Problem]]:
    """The fit rows of one in ``EVERY`` tables of a kind that get a surface, and how each is fitted."""
    found = [
        table
        for device in FOLDERS
        for engine in ENGINES
        for table in more_tables(device, engine)[0]
        if table.kind == kind
    ]
    for number, table in enumerate(found):
        fit = table.take(fit_rows(table))
        if number % EVERY[kind] or len(fit) < LEAST_ROWS or table.kernel.endswith("convolution"):
            continue
        try:
            model = problem(table, load_accelerator(table.device))
        except UnsupportedError:  # the device lacks the format's matrix unit, so there is no section either
            continue
        if model.axes:
            yield fit.take(np.isin(np.arange(len(fit)), sample(fit.shape, ROWS))), model


def folds(table: KernelTable, names: tuple[str, ...]) -> npt.NDArray[np.intp]:
    """Number of the fold of each row; rows of one group share it."""
    columns = [np.floor(np.log2(table.shape[n])) if n == "payload" else table.shape[n] for n in names]
    _, group = np.unique(np.column_stack(columns), axis=0, return_inverse=True)
    return group.ravel() % FOLDS


def errors(table: KernelTable, found: Problem, fold: npt.NDArray[np.intp]) -> dict[str, Array]:
    """Absolute relative errors on the rows kept out, by candidate."""
    pooled: dict[str, list[Array]] = {}
    for number in range(FOLDS):
        fit, out = table.take(fold != number), table.take(fold == number)
        if not len(fit) or not len(out):
            continue
        fits = [fit_parameters(found.time, start, fit.shape, fit.seconds, hold=found.hold, rows=1500, prior=found.prior,
                               evaluations=30) for start in found.starts]  # fmt: skip
        parameters = min(fits, key=lambda one: one.cost).parameters
        here, there = found.time(fit.shape, parameters), found.time(out.shape, parameters)
        pooled.setdefault("form alone", []).append(np.abs(there / out.seconds - 1))
        for shape in KNOTS[table.kind]:
            axes = [axis for axis, count in enumerate(shape) if count > 1]
            sizes = [found.place(fit.shape)[axis] for axis in axes]
            knots = [knots_for(found.place(table.shape)[axis], shape[axis]) for axis in axes]
            names = [found.axes[axis] for axis in axes]
            for ridge, smooth in PENALTIES:
                surface = fit_surface(names, knots, sizes, np.log(fit.seconds / here), ridge=ridge, smooth=smooth)
                time = there * np.exp(surface.at(*(found.place(out.shape)[axis] for axis in axes)))
                pooled.setdefault(f"{shape} ridge {ridge:g} smooth {smooth:g}", []).append(
                    np.abs(time / out.seconds - 1)
                )
    return {name: np.concatenate(parts) for name, parts in pooled.items()}


def main(kinds: list[str]) -> None:
    """Print the table behind the choice, best first."""
    for kind in kinds or list(KNOTS):
        chosen = list(tables(kind))
        for group, names in GROUPS[kind].items():
            pooled: dict[str, list[Array]] = {}
            for table, model in chosen:
                for name, part in errors(table, model, folds(table, names)).items():
                    pooled.setdefault(name, []).append(part)
            print(f"{kind}: whole {group}s kept out, {len(chosen)} tables")
            lines = [(float(np.concatenate(parts).mean()), float(np.mean([np.median(part) for part in parts])), name)
                     for name, parts in pooled.items()]  # fmt: skip
            for mean, median, name in sorted(lines):
                print(f"  mean {mean:.4f}   median {median:.4f}   {name}")


if __name__ == "__main__":
    main(sys.argv[1:])
