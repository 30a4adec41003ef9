"""Means of functions of uncertain lengths by their tangent plane and curvature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = Any
LEAST_STEP = 1e-6


def tangent(
    function: Callable[..., Array], means: Sequence[Array], variances: Sequence[Array], least: Sequence[float]
) -> tuple[Array, list[Array]]:
    """Mean of f(x1, x2, ...) and its slope in each argument: the delta method to second order, arguments independent.

    Slopes and curvatures are taken over a standard deviation to either side, no lower than ``least``; a function that is a plane is
    exact. An argument without spread has no slope. ``function`` may return several rows, each of the arguments' shape.

    >>> level, slopes = tangent(lambda x, y: 3 * x + y * y, [np.array([2.0]), np.array([5.0])], [1.0, 4.0], [0.0, 0.0])
    >>> level.tolist(), [slope.tolist() for slope in slopes]  # E[3 x + y^2] = 6 + 25 + 4
    ([35.0], [[3.0], [10.0]])
    """
    points = [np.asarray(mean, dtype=float) for mean in np.broadcast_arrays(*means)]
    middle = function(*points)
    curved, slopes = np.zeros_like(middle), []
    for axis, (value, variance, bottom) in enumerate(zip(points, variances, least, strict=True)):
        step = np.minimum(np.sqrt(variance), np.maximum(value - bottom, 0.0))
        varies = step > LEAST_STEP
        far = np.where(varies, step, 1.0)
        above, below = (
            function(*points[:axis], value + sign * far * varies, *points[axis + 1 :]) for sign in (1.0, -1.0)
        )
        slopes.append((above - below) / (2 * far))
        curved += (above - 2 * middle + below) / far**2 * variance / 2
    return middle + curved, slopes
