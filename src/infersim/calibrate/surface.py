"""Fit a residual surface: ridge regression on hat functions, smooth between knots, robust to outliers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from infersim.machine.surface import LIMIT, Surface, hat_weights

Array = npt.NDArray[np.float64]


def knots_for(size: Array, count: int) -> Array:
    """``count`` knots in log2, spread evenly over the range of ``size``.

    >>> knots_for(np.array([1.0, 64.0]), 4)
    array([0., 2., 4., 6.])
    """
    start, stop = np.log2(size.min()), np.log2(size.max())
    return np.asarray(np.round(np.linspace(start, max(stop, start + 1.0), count), 3), dtype=np.float64)


def fit_surface(
    axes: Sequence[str],
    knots: Sequence[Array],
    sizes: Sequence[Array],
    log_error: Array,
    *,
    ridge: float = 1.0,
    smooth: float = 1.0,
    passes: int = 8,
    scale: float = 0.03,
    limit: float = LIMIT,
) -> Surface:
    """The surface that best explains ``log_error`` = log(measured / physical) at ``sizes``.

    Minimises sum sqrt(scale^2 + (error - surface)^2) + ridge |values|^2 + smooth |second differences|^2 by re-weighted
    least squares; errors beyond a few ``scale`` count by their size, not their square. Values are rounded to 1e-4.
    """
    shape = tuple(len(grid) for grid in knots)
    total = int(np.prod(shape))
    corners = hat_weights(tuple(knots), tuple(sizes))
    penalty = ridge * np.eye(total) + smooth * _roughness(tuple(shape))
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
    rounded = np.asarray(np.round(np.clip(values, -limit, limit), 4), dtype=np.float64).reshape(shape)
    return Surface(tuple(axes), tuple(knots), rounded)


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
