"""Fit a residual surface: ridge regression on hat functions, smooth between knots, robust to outliers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from infersim.machine.surface import LIMIT, AnySurface, Surface, SurfaceSum, hat_weights

Array = npt.NDArray[np.float64]


def knots_for(size: Array, wanted: int | str | Sequence[float]) -> Array:
    """Knots in log2 over the range of ``size``: so many evenly spread, one at every size that occurs (``each``), or the given
    ones that lie within the range and its two ends.

    >>> knots_for(np.array([1.0, 64.0]), 4)
    array([0., 2., 4., 6.])
    >>> knots_for(np.array([64.0, 128.0, 192.0]), "each"), knots_for(np.array([1.0, 16.0]), (1.0, 4.0, 7.0))
    (array([6.   , 7.   , 7.585]), array([0., 1., 4.]))
    """
    start = float(np.log2(size.min()))
    stop = max(float(np.log2(size.max())), start + 1.0)
    if isinstance(wanted, int):
        places = np.linspace(start, stop, wanted)
    elif isinstance(wanted, str):
        places = np.union1d(np.log2(size), [start, stop] if size.min() == size.max() else [])
    else:
        places = np.array([start, *(knot for knot in wanted if start + 0.3 < knot < stop - 0.3), stop])
    return np.unique(np.round(places, 3))


def fit_surface(
    axes: Sequence[str],
    knots: Sequence[Array],
    sizes: Sequence[Array],
    log_error: Array,
    *,
    layers: Sequence[Sequence[str]] = (),
    ridge: float = 1.0,
    smooth: float = 1.0,
    passes: int = 8,
    scale: float = 0.03,
    limit: float = LIMIT,
) -> AnySurface:
    """The surface that best explains ``log_error`` = log(measured / physical) at ``sizes``; ``layers`` name the axes of each
    of several surfaces that add up, fitted together.

    Minimises sum sqrt(scale^2 + (error - surface)^2) + ridge |values|^2 + smooth |second differences|^2 by re-weighted
    least squares; errors beyond a few ``scale`` count by their size, not their square. Values are rounded to 1e-4.
    """
    grid, size = dict(zip(axes, knots, strict=True)), dict(zip(axes, sizes, strict=True))
    names = [tuple(layer) for layer in layers or (axes,)]
    shapes = [tuple(len(grid[axis]) for axis in layer) for layer in names]
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])
    total = int(ends[-1])
    penalty, corners = ridge * np.eye(total), []
    for layer, shape, start, end in zip(names, shapes, ends, ends[1:], strict=False):
        penalty[start:end, start:end] += smooth * _roughness(shape)
        found = hat_weights(tuple(grid[axis] for axis in layer), tuple(size[axis] for axis in layer))
        corners += [(index + start, weight) for index, weight in found]
    values: Array = np.zeros(total)
    for _ in range(passes):
        left: Array = log_error - sum(weight * values[index] for index, weight in corners)
        importance: Array = scale / np.sqrt(scale * scale + left * left)
        normal: Array = penalty.copy()
        right: Array = np.zeros(total)
        for first, (index, weight) in enumerate(corners):
            right += np.bincount(index, importance * weight * log_error, total)
            for other_index, other_weight in corners[first:]:
                both = np.bincount(index * total + other_index, importance * weight * other_weight, total * total)
                block = both.reshape(total, total)
                normal += block if other_index is index else block + block.T
        values = np.asarray(np.linalg.solve(normal, right), dtype=np.float64)
    rounded = np.asarray(np.round(np.clip(values, -limit, limit), 4), dtype=np.float64)
    parts = tuple(
        Surface(layer, tuple(grid[axis] for axis in layer), rounded[start:end].reshape(shape))
        for layer, shape, start, end in zip(names, shapes, ends, ends[1:], strict=False)
    )
    return parts[0] if len(parts) == 1 else SurfaceSum(parts)


def _roughness(shape: tuple[int, ...]) -> Array:
    """Sum over axes of D'D, D the second difference along the axis."""
    total = np.zeros((int(np.prod(shape)),) * 2)
    for axis, length in enumerate(shape):
        if length < 3:
            continue
        second = np.diff(np.eye(length), 2, axis=0)
        before, after = int(np.prod(shape[:axis])), int(np.prod(shape[axis + 1 :]))
        total += np.kron(np.kron(np.eye(before), second.T @ second), np.eye(after))
    return total
