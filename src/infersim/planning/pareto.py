"""Which of many points no other point beats in everything."""

from __future__ import annotations

import bisect
from typing import Any

import numpy as np
import numpy.typing as npt


def pareto_front(values: Any) -> npt.NDArray[np.int64]:
    """Indices of the rows of ``values`` that no other row dominates, in order: at least as large in every column, larger in one.

    Larger is better: negate what should be small. Of equal rows the first is kept; rows with a nan are left out. Two or three
    columns take O(n log n) by a sweep along the first (Kung, Luccio, Preparata, 1975); more compare every pair.

    >>> pareto_front([[1.0, 5.0], [2.0, 4.0], [1.5, 3.0], [3.0, 1.0]]).tolist()
    [0, 1, 3]
    >>> pareto_front([[1.0, 1.0, 3.0], [1.0, 2.0, 2.0], [1.0, 1.0, 2.0]]).tolist()
    [0, 1]
    """
    points = np.asarray(values, dtype=float)
    kept = np.flatnonzero(~np.isnan(points).any(axis=1))
    order = kept[np.lexsort([kept, *(-points[kept, column] for column in reversed(range(points.shape[1])))])]
    if points.shape[1] > 3:
        return _by_pairs(points, order)
    stairs: list[tuple[float, float]] = []  # second column rising, third falling: the best seen so far
    front = []
    for index in order.tolist():
        second = float(points[index, 1])
        third = float(points[index, 2]) if points.shape[1] == 3 else 0.0
        place = bisect.bisect_left(stairs, (second, -np.inf))
        if place < len(stairs) and stairs[place][1] >= third:
            continue
        front.append(index)
        end = bisect.bisect_right(stairs, (second, np.inf))
        start = end
        while start and stairs[start - 1][1] <= third:
            start -= 1
        stairs[start:end] = [(second, third)]
    return np.array(sorted(front), dtype=np.int64)


def _by_pairs(points: npt.NDArray[np.float64], order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    front: list[int] = []
    for index in order.tolist():
        if not front or not (points[front] >= points[index]).all(axis=1).any():
            front.append(index)
    return np.array(sorted(front), dtype=np.int64)
