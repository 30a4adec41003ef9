"""Answer a chunk of a sweep: what a closed form can take as arrays in array passes, every other point as its own scenario."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from infersim import units
from infersim.errors import InferSimError, SpecError
from infersim.predict.deploy import deploy
from infersim.predict.estimate import Estimate
from infersim.predict.points import price_points
from infersim.scenario.answers import answer, figures
from infersim.scenario.scenario import Scenario, resolve
from infersim.scenario.setup import located
from infersim.scenario.sweeps.axes import Column
from infersim.scenario.sweeps.design import SweepSpec

if TYPE_CHECKING:
    import pyarrow as pa

Array = npt.NDArray[np.float64]

ARRAYS: dict[str, tuple[str, float, float]] = {
    "workload.input_tokens": ("input_tokens", 1.0, 1e8),
    "workload.output_tokens": ("output_tokens", 1.0, 1e8),
    "workload.concurrency": ("concurrency", 1.0, 1e7),
    "workload.prefix_hit": ("prefix_hit", 0.0, 1.0 - 1e-12),
    "workload.num_requests": ("num_requests", 1.0, 1e9),
    "cost.gpu_hour": ("gpu_hour", 0.0, 1e12),
}
"""Fields that a closed form takes as arrays, what it calls them, and between which values none of them is refused: points beyond
are answered on their own, which says what is wrong with them."""


@dataclass(frozen=True)
class Task:
    """Everything that a worker must know to answer any chunk."""

    base: Mapping[str, Any]
    """The scenario's mapping."""
    spec: SweepSpec
    version: str
    """Of infersim; workers of another one refuse."""
    spec_folders: tuple[str, ...] = ()
    price_files: tuple[str, ...] = ()

    def chunk(self, start: int, stop: int) -> pa.Table:
        """The rows of points ``start`` up to but without ``stop``: the point, its fields, ``error`` and its figures."""
        self._settle()
        columns = self.spec.columns(start, stop)
        figures, errors = solve(self.base, columns, stop - start)
        return _table(start, columns, figures, errors)

    def _settle(self) -> None:
        """Make this process look where the one that asks looks."""
        from infersim import __version__
        from infersim.specs import library

        if self.version != __version__:
            raise SpecError(f"a worker has infersim {__version__}, this machine {self.version}: install the same one")
        library.look_into(self.spec_folders, self.price_files)


def solve(
    base: Mapping[str, Any], columns: Mapping[str, Column], count: int
) -> tuple[dict[str, Array], npt.NDArray[Any]]:
    """Figures by name with units, not a number where a point has none, and a sentence for each point without an answer."""
    found = _Answers({}, np.full(count, None, dtype=object))
    plain, arrays = _arrays(columns, count)
    for rows in _groups(columns, [field for field in columns if field not in arrays], count):
        together = rows[plain[rows]] if arrays else rows[:0]
        if len(together) and not _answer_together(base, columns, arrays, together, found):
            together = together[:0]
        for row in np.setdiff1d(rows, together, assume_unique=True).tolist():
            _answer_alone(base, _overrides(columns, row), row, found)
    return found.figures, found.errors


@dataclass(frozen=True)
class _Answers:
    figures: dict[str, Array]
    errors: npt.NDArray[Any]

    def put(self, rows: Any, figures: Mapping[str, Any]) -> None:
        for name, values in figures.items():
            if values is not None:
                if name not in self.figures:
                    self.figures[name] = np.full(len(self.errors), np.nan)
                self.figures[name][rows] = np.where(np.isfinite(values), values, np.nan)


def _answer_alone(base: Mapping[str, Any], overrides: Mapping[str, Any], row: int, found: _Answers) -> None:
    """One point as a scenario of its own."""
    try:
        found.put(row, figures_of(answer(resolve(base, overrides)), overrides))
    except InferSimError as error:
        found.errors[row] = str(error)
    except Exception as error:  # a point must not stop the rest
        found.errors[row] = f"unexpected {type(error).__name__}: {error}"


def figures_of(found: Any, fields: Collection[str] = ()) -> dict[str, Any]:
    """The figures of an answer that a sweep keeps: of a closed form its latencies, rates and costs, of other answers every number that
    is none of the swept ``fields``. Raises DoesNotFitError."""
    if isinstance(found, Estimate):
        return _with_target(found, found.figures.to_dict())
    return {name: value for name, value in figures(found).items() if name not in fields}


def _with_target(deployment: Estimate, figures: Mapping[str, Any]) -> dict[str, Any]:
    told = dict(figures) | {"devices": float(deployment.devices)}
    if deployment.target is not None:
        limits = [figures[f"{name}_s"] <= limit for name, limit in deployment.target if limit is not None]
        told["target_met"] = np.all(limits, axis=0).astype(float)
    return told


def _answer_together(
    base: Mapping[str, Any],
    columns: Mapping[str, Column],
    arrays: _Arrays,
    rows: npt.NDArray[np.int64],
    found: _Answers,
) -> bool:
    """Points that differ in arrays only, in array passes; False where their scenario is no closed form that takes arrays."""
    try:
        scenario = resolve(base, _overrides(columns, int(rows[0])))
        if not takes_arrays(scenario):
            return False
        try:
            setup, load = scenario.setup, scenario.setup.workload.steady()
            # lengths come with the points; here only what does not depend on them is refused
            least = load.model_copy(update={"input_tokens": 1.0, "output_tokens": 1.0})
            target = setup.target.means() if setup.target is not None else None
            deployment = deploy(setup.served, least, target=target, sampler=setup.workload.sampler)
        except SpecError as error:
            raise located(error, scenario.tree) from error
    except InferSimError as error:
        found.errors[rows] = str(error)
        return True
    lengths = {"input_tokens": load.input_tokens, "output_tokens": load.output_tokens}
    given = lengths | {name: values[rows] for name, values in arrays.values()}
    price = given.pop("gpu_hour", None)
    points = price_points(deployment, given, price, tell=lambda error: str(located(error, scenario.tree)))
    found.put(rows, _with_target(deployment, points.figures) if points.figures else {})
    failed = np.array([error is not None for error in points.errors], dtype=bool)
    found.errors[rows] = points.errors
    for values in found.figures.values():
        values[rows[failed]] = np.nan
    return True


def takes_arrays(scenario: Scenario) -> bool:
    """Whether a scenario is a closed form whose lengths and load stand for themselves."""
    load = scenario.setup.workload
    shaped = (load.pairs, load.prefix, load.prefixes, load.sessions, load.trace)
    return scenario.question == "estimate" and not load.open and all(one is None for one in shaped)


_Arrays = dict[str, tuple[str, Array]]


def _arrays(columns: Mapping[str, Column], count: int) -> tuple[npt.NDArray[np.bool_], _Arrays]:
    """Which points may be answered in arrays, and the arrays: field -> (what the closed form calls it, values in SI)."""
    plain, found = np.ones(count, dtype=bool), _Arrays()
    for field, column in columns.items():
        if field not in ARRAYS or column.numbers is None:
            continue
        name, least, most = ARRAYS[field]
        values = column.numbers
        if name == "gpu_hour":
            if column.unit not in units.UNITS["USD"]:
                continue
            values = values * units.UNITS["USD"][column.unit]
        elif column.unit:
            continue
        plain &= (values >= least) & (values <= most)
        if name == "num_requests":
            plain &= values == np.floor(values)
        found[field] = name, values
    return plain, found


def _groups(columns: Mapping[str, Column], fields: list[str], count: int) -> list[npt.NDArray[np.int64]]:
    """The points by the values of these fields, in order."""
    if not fields:
        return [np.arange(count)]
    code = np.zeros(count, dtype=np.int64)
    for field in fields:
        values, place = np.unique(columns[field].keys, return_inverse=True)
        _, code = np.unique(code * len(values) + place, return_inverse=True)
    order = np.argsort(code, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(code[order])) + 1)


def _overrides(columns: Mapping[str, Column], row: int) -> dict[str, Any]:
    return {field: column.at(row) for field, column in columns.items()}


def _table(
    start: int, columns: Mapping[str, Column], figures: Mapping[str, Array], errors: npt.NDArray[Any]
) -> pa.Table:
    """The rows of a part: the point, its fields, why it has no answer, and its figures; null where there is none."""
    import pyarrow as pa

    told: dict[str, Any] = {"point": pa.array(np.arange(start, start + len(errors)))}
    for field, column in columns.items():
        numbers = column.numbers if column.numbers is None or not column.whole else column.numbers.astype(np.int64)
        told[field] = pa.array(numbers) if numbers is not None else _words(column)
    told["error"] = pa.array(errors, type=pa.string()).dictionary_encode()
    told |= {name: pa.array(values, from_pandas=True) for name, values in figures.items()}
    return pa.table(told)


def _words(column: Column) -> pa.Array:
    """The column of a field that is no number: texts, and what is written out as JSON."""
    import pyarrow as pa

    texts = [
        None if level is None else level if isinstance(level, str) else json.dumps(level, default=str)
        for level in column.levels
    ]
    return pa.DictionaryArray.from_arrays(pa.array(column.codes, type=pa.int32()), pa.array(texts, type=pa.string()))
