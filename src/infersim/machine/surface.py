"""A smooth correction on top of a physical kernel model: what is left over, as a function of the shape.

The correction is the logarithm of (time / physical time), linear between knots on a fixed grid in log2 coordinates.
It is bounded, and it fades to zero outside the measured range, where the physical model stands alone.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = Any
Array = npt.NDArray[np.float64]

FADE = 2.0
"""Doublings beyond the outermost knot over which the correction fades to zero."""

_COUNT = np.arange(64.0)

LIMIT = 1.2
"""Largest correction, in natural logarithm: a factor of 3.3 up or down."""


@dataclass(frozen=True, eq=False)
class Surface:
    """``values`` at the crossings of ``knots``; one array of knots (log2, ascending) per name in ``axes``.

    >>> knots = (np.array([0.0, 4.0, 8.0]), np.array([8.0, 12.0]))
    >>> bump = Surface(("m", "n"), knots, np.array([[0.0, 0.0], [0.2, 0.4], [0.0, 0.0]]))
    >>> float(bump.at(16.0, 4096.0)), float(bump.at(16.0, 1024.0)), float(bump.at(4.0, 4096.0))
    (0.4, 0.3, 0.2)
    >>> float(bump.at(16.0, 8192.0)), float(bump.at(16.0, 16384.0))  # one and two doublings outside
    (0.2, 0.0)
    """

    axes: tuple[str, ...]
    knots: tuple[Array, ...]
    values: Array

    @functools.cached_property
    def faded(self) -> tuple[tuple[Array, ...], Array]:
        """Knots and values with a rim of zeros ``FADE`` doublings outside: linear between these, the correction fades by itself."""
        return tuple(np.array([grid[0] - FADE, *grid, grid[-1] + FADE]) for grid in self.knots), np.pad(self.values, 1)

    def at(self, *sizes: Numbers) -> Numbers:
        """The correction (natural logarithm) at sizes given in the order of ``axes``; they broadcast.

        Axes given as plain numbers are folded away first, so a sweep over one size costs one line of interpolation.
        """
        values: Any
        grids, values = self.faded
        open_axes: list[tuple[Array, Array]] = []
        for knots, size in zip(grids, sizes, strict=True):
            if np.ndim(size) == 0:
                values = _held(values, len(open_axes), size, knots)  # what is in front has been kept open
            else:
                open_axes.append((np.log2(np.maximum(size, 1e-9)), knots))
        if not open_axes:
            return values
        if len(open_axes) == 1:
            return np.interp(open_axes[0][0], open_axes[0][1], values)
        flat = values.ravel()
        corners = _corners([_place(places, knots) for places, knots in open_axes], values.shape)
        return sum(flat.take(index) * weight for index, weight in corners)


@dataclass(frozen=True, eq=False)
class SurfaceSum:
    """Surfaces over some of the same axes each, whose corrections add. Parts share the knots of an axis that they share.

    >>> m, n, k = (np.array([0.0, 4.0]),) * 3
    >>> both = SurfaceSum((Surface(("m", "n"), (m, n), np.full((2, 2), 0.1)), Surface(("m", "k"), (m, k), np.eye(2))))
    >>> both.axes, round(float(both.at(1.0, 1.0, 4.0)), 3)
    (('m', 'n', 'k'), 0.6)
    """

    parts: tuple[Surface, ...]

    @property
    def axes(self) -> tuple[str, ...]:
        """Every axis once, in the order in which the parts name them."""
        return tuple(dict.fromkeys(axis for part in self.parts for axis in part.axes))

    @property
    def knots(self) -> tuple[Array, ...]:
        """The knots of every axis, in the order of ``axes``."""
        known = {axis: knots for part in self.parts for axis, knots in zip(part.axes, part.knots, strict=True)}
        return tuple(known.values())

    def at(self, *sizes: Numbers) -> Numbers:
        """The correction (natural logarithm) at sizes given in the order of ``axes``; they broadcast."""
        given = dict(zip(self.axes, sizes, strict=True))
        total: Any = 0.0
        for part in self.parts:
            total = total + part.at(*(given[axis] for axis in part.axes))
        return total


AnySurface = Surface | SurfaceSum


@functools.lru_cache(maxsize=8192)
def folded(surface: AnySurface, fixed: tuple[tuple[int, float], ...]) -> Surface:
    """The surface with some axes held: (number of the axis, size) each. What stays open keeps its order.

    >>> bump = Surface(("m", "n"), (np.array([0.0, 4.0, 8.0]), np.array([8.0, 12.0])), np.array([[0, 0], [0.2, 0.4], [0, 0.0]]))
    >>> float(folded(bump, ((1, 1024.0),)).at(16.0)), float(bump.at(16.0, 1024.0))
    (0.3, 0.3)
    """
    held = dict(fixed)
    if isinstance(surface, SurfaceSum):
        return _folded_sum(surface, {surface.axes[axis]: size for axis, size in fixed})
    values: Any
    grids, values = surface.faded
    for axis in sorted(held, reverse=True):
        values = _held(values, axis, held[axis], grids[axis])
    rest = [axis for axis in range(len(surface.axes)) if axis not in held]
    return Surface(
        tuple(surface.axes[axis] for axis in rest),
        tuple(surface.knots[axis] for axis in rest),
        values[(slice(1, -1),) * len(rest)],
    )


def _folded_sum(surface: SurfaceSum, held: dict[str, float]) -> Surface:
    """One surface over the axes that stay open, on which the parts' values add up."""
    rest = [axis for axis in surface.axes if axis not in held]
    knots = dict(zip(surface.axes, surface.knots, strict=True))
    total = np.zeros(tuple(len(knots[axis]) for axis in rest))
    for part in surface.parts:
        line = folded(part, tuple((number, held[axis]) for number, axis in enumerate(part.axes) if axis in held))
        total += line.values.reshape([len(knots[axis]) if axis in line.axes else 1 for axis in rest])
    return Surface(tuple(rest), tuple(knots[axis] for axis in rest), total)


@functools.lru_cache(maxsize=1024)
def _lines(
    surface: AnySurface, fixed: tuple[tuple[tuple[int, float], ...], ...]
) -> tuple[Array, Array, npt.NDArray[np.intp]]:
    """Knots of the open axis, the values along it for each way of holding the others, one line after the other, and where each
    line starts; faded."""
    lines = [folded(surface, held).faded for held in fixed]
    knots = lines[0][0][0]
    return knots, np.concatenate([values for _, values in lines]), np.arange(len(lines)) * len(knots)


def along_first_axis(surface: AnySurface, sizes: Array, fixed: tuple[tuple[tuple[int, float], ...], ...]) -> Any:
    """The correction at ``sizes`` of the first axis, one row (of sizes, or one row for all) for each way of holding the others.

    >>> bump = Surface(("m", "n"), (np.array([0.0, 4.0, 8.0]), np.array([8.0, 12.0])), np.array([[0, 0], [0.2, 0.4], [0, 0.0]]))
    >>> along_first_axis(bump, np.array([[16.0, 1.0], [4.0, 16.0]]), (((1, 4096.0),), ((1, 256.0),))).round(3).tolist()
    [[0.4, 0.0], [0.1, 0.2]]
    """
    knots, lines, starts = _lines(surface, fixed)
    left, share = _place(np.log2(np.maximum(sizes, 1e-9)), knots)
    start = starts.reshape((-1,) + (1,) * (sizes.ndim - 1)) + left
    low, high = lines.take(start), lines.take(start + 1)
    return low + share * (high - low)


def _place(place: Any, knots: Array) -> tuple[Any, Any]:
    """Index of the knot to the left and the share of the way to the next one; the ends beyond the ends."""
    steps = np.interp(place, knots, _COUNT[: len(knots)])
    if isinstance(place, float):
        left = min(int(steps), len(knots) - 2)
        return left, float(steps) - left
    index = np.minimum(steps.astype(np.intp), len(knots) - 2)
    return index, steps - index


def _held(values: Array, axis: int, size: float, knots: Array) -> Array:
    """``values`` at one size on an axis, linear between its knots; the axis is gone."""
    left, share = _place(math.log2(max(size, 1e-9)), knots)
    low, high = values.take(left, axis), values.take(left + 1, axis)
    held: Array = low + share * (high - low)
    return held


def _corners(places: Sequence[tuple[Any, Any]], shape: tuple[int, ...]) -> list[tuple[Any, Any]]:
    """Flat index and weight of each corner of the cells that hold the points."""
    corners: list[tuple[Any, Any]] = [(0, 1.0)]
    step = int(np.prod(shape))
    for (left, share), length in zip(places, shape, strict=True):
        step //= length
        below = left * step
        corners = [
            corner
            for index, weight in corners
            for corner in ((index + below, weight * (1.0 - share)), (index + below + step, weight * share))
        ]
    return corners


def hat_weights(knots: tuple[Array, ...], sizes: tuple[Array, ...]) -> list[tuple[npt.NDArray[np.intp], Array]]:
    """For each corner of each point's cell: flat index into the values, and weight. What a fit needs."""
    places = [_place(np.log2(np.maximum(size, 1e-9)), grid) for grid, size in zip(knots, sizes, strict=True)]
    return _corners(places, tuple(len(grid) for grid in knots))
