"""Which points a sweep has. Point i is made from i and the seed alone, so any worker can make any part of a sweep of any size."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Discriminator, Field, Tag, model_validator

from infersim.scenario.sweeps.axes import Column, Drawn, Levels, Steps
from infersim.specs.quantity import Spec

Shares = npt.NDArray[np.float64]

MOST_POINTS = 10**12
MOST_HELD = 2 * 10**7
"""Coordinates of a Latin hypercube, which is made whole: some 160 MB."""
MOST_SOBOL = 2**30
DRAWS = ("random", "latin_hypercube", "sobol")
DESIGNS = ("grid", "list", *DRAWS)


Axis = Annotated[
    Annotated[tuple[Any, ...], Field(min_length=1), Tag("values")] | Annotated[Steps, Tag("steps")],
    Discriminator(lambda given: "steps" if isinstance(given, (Mapping, Steps)) else "values"),
]


class SweepSpec(Spec):
    """The ``sweep:`` of a scenario: one design over any of its dotted fields.

    ``grid``: every combination of the values listed or stepped through, the last field fastest. ``list``: points one by one.
    ``random``, ``latin_hypercube`` (McKay, Beckman and Conover 1979) and ``sobol`` (scrambled, Owen 1998): ``points`` drawn from a
    distribution for each field by ``seed``. ``chunk_points`` are answered and stored at a time.

    >>> spec = SweepSpec.model_validate({"grid": {"workload.concurrency": [1, 8], "hardware": ["L4", "L40S", "H100-SXM"]}})
    >>> spec.size, spec.point(4)
    (6, {'workload.concurrency': 8, 'hardware': 'L40S'})
    """

    grid: dict[str, Axis] | None = None
    list: tuple[dict[str, Any], ...] | None = None
    random: dict[str, Drawn] | None = None
    latin_hypercube: dict[str, Drawn] | None = None
    sobol: dict[str, Drawn] | None = None
    points: Annotated[int, Field(ge=1, le=MOST_POINTS)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    chunk_points: Annotated[int, Field(ge=1, le=10**6)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _scalars(cls, given: Any) -> Any:
        """A single value in a grid is a list of one."""
        if isinstance(given, Mapping) and isinstance(given.get("grid"), Mapping):
            wrapped = {name: [v] if isinstance(v, (str, int, float)) else v for name, v in given["grid"].items()}
            return {**given, "grid": wrapped}
        return given

    @model_validator(mode="after")
    def _sound(self) -> SweepSpec:
        given = [name for name in DESIGNS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"is one of {', '.join(DESIGNS)}, got {' and '.join(given) or 'none of them'}")
        design = getattr(self, self.design)
        if not design:
            raise ValueError(f"{self.design}: is empty; name at least one field of the scenario and its values")
        if self.design in DRAWS:
            if self.points is None:
                raise ValueError(f"points: is missing; say how many points {self.design} draws")
            if self.design == "latin_hypercube" and self.points * len(design) > MOST_HELD:
                raise ValueError(
                    f"points: a Latin hypercube is held in memory whole, {MOST_HELD // len(design):,} points at most with so many fields, "
                    f"got {self.points:,}; random takes any number"
                )
            if self.design == "sobol" and self.points > MOST_SOBOL:
                raise ValueError(
                    f"points: a Sobol sequence has {MOST_SOBOL:,} points at most, got {self.points:,}; random takes any number"
                )
        elif self.points is not None:
            raise ValueError(f"points: of a {self.design} are counted, not given; it has {self.size:,}")
        if self.grid is not None:
            most = math.prod(axis.points if isinstance(axis, Steps) else len(axis) for axis in self.grid.values())
            if most > MOST_POINTS:
                raise ValueError(
                    f"grid: has {most:,} points, {MOST_POINTS:,} at most; take fewer values, or draw random points"
                )
        if self.list is not None and len({frozenset(row) for row in self.list}) > 1:
            raise ValueError("list: every point names the same fields")
        if self.list is not None and not self.list[0]:
            raise ValueError("list: is empty; name at least one field of the scenario and its value")
        return self

    @property
    def design(self) -> str:
        """The name of the design."""
        return next(name for name in DESIGNS if getattr(self, name) is not None)

    @property
    def fields(self) -> tuple[str, ...]:
        """The dotted fields that are swept."""
        found = getattr(self, self.design)
        return tuple(found[0] if self.list is not None else found)

    @property
    def size(self) -> int:
        """Points of the sweep."""
        if self.grid is not None:
            return math.prod(len(axis.levels) for axis in self._levels.values())
        return len(self.list) if self.list is not None else int(self.points or 0)

    @functools.cached_property
    def _levels(self) -> dict[str, Levels]:
        """The values of a grid's fields."""
        assert self.grid is not None
        return {
            field: Levels.of(axis.values() if isinstance(axis, Steps) else axis) for field, axis in self.grid.items()
        }

    @functools.cached_property
    def _listed(self) -> dict[str, tuple[Levels, npt.NDArray[np.int64]]]:
        """The different values of each field of a list, and which of them each point has."""
        assert self.list is not None
        found = {}
        for field in self.fields:
            places: dict[str, int] = {}  # by text: a value may be a mapping
            codes = np.array([places.setdefault(repr(row[field]), len(places)) for row in self.list])
            _, first = np.unique(codes, return_index=True)
            found[field] = Levels.of([self.list[row][field] for row in first]), codes
        return found

    def columns(self, start: int, stop: int) -> dict[str, Column]:
        """The values of points ``start`` up to but without ``stop``, by field."""
        if self.grid is not None:
            index, every, found = np.arange(start, stop), 1, {}
            for field, axis in reversed(self._levels.items()):
                found[field] = axis.take(index // every % len(axis.levels))
                every *= len(axis.levels)
            return dict(reversed(found.items()))
        if self.list is not None:
            return {field: axis.take(codes[start:stop]) for field, (axis, codes) in self._listed.items()}
        drawn: dict[str, Drawn] = getattr(self, self.design)
        shares = _SHARES[self.design](len(drawn), self.size, self.seed, start, stop - start)
        return {field: axis.column(shares[:, place]) for place, (field, axis) in enumerate(drawn.items())}

    def point(self, index: int) -> dict[str, Any]:
        """The fields of one point, as a scenario states them."""
        if not 0 <= index < self.size:
            raise IndexError(f"the sweep has points 0 to {self.size - 1:,}, got {index}")
        return {field: column.at(0) for field, column in self.columns(index, index + 1).items()}


def _random(fields: int, points: int, seed: int, start: int, count: int) -> Shares:
    """Independent uniform numbers: field f takes stream f of a counter-based generator (Philox: Salmon et al. 2011), point i its
    i-th number, so that points need not be drawn in order."""
    shares = np.empty((count, fields))
    for field in range(fields):
        stream = np.random.Philox(key=np.array([seed, field], dtype=np.uint64))
        stream.advance(start // 4)  # a count of the generator makes four numbers
        raw = stream.random_raw(start % 4 + count)[start % 4 :]
        shares[:, field] = (raw >> np.uint64(11)) * 2.0**-53
    return shares


def _latin(fields: int, points: int, seed: int, start: int, count: int) -> Shares:
    return _hypercube(fields, points, seed)[start : start + count]


@functools.lru_cache(maxsize=1)
def _hypercube(fields: int, points: int, seed: int) -> Shares:
    from scipy.stats import qmc

    return np.asarray(qmc.LatinHypercube(d=fields, rng=seed).random(points))


def _sobol(fields: int, points: int, seed: int, start: int, count: int) -> Shares:
    """Numbers of low discrepancy; balanced where the points are a power of two."""
    from scipy.stats import qmc

    sequence = qmc.Sobol(d=fields, scramble=True, rng=seed)
    if start:
        sequence.fast_forward(start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the count is no power of two
        return np.asarray(sequence.random(count))


_SHARES: dict[str, Any] = {"random": _random, "latin_hypercube": _latin, "sobol": _sobol}
