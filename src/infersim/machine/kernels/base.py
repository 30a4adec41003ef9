"""What every kernel model shares: the rates of a device, the soft maximum, tiles and waves."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = Any
"""A float or a numpy array: formulas take either and broadcast."""
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rates:
    """Data-sheet rates of one device for one matrix unit, all SI."""

    flops: float
    """Dense peak of the matrix unit [FLOP/s]."""
    bandwidth: float
    """Device memory [B/s]."""
    compute_units: float
    """SMs, CUs, cores [-]."""
    l2_bytes: float = 0.0
    """Last-level cache [B]; 0 where it is not known."""
    clock: float = 0.0
    """[Hz]; 0 where it is not known."""


def parameter(default: float, low: float, high: float, meaning: str, *, unit: str = "-", log: bool = False) -> Any:
    """A dataclass field for a fitted parameter: default, bounds of the fit, meaning and unit.

    ``log`` tells the fitter to search on a logarithmic scale. The default is the family default used where nothing has
    been measured.
    """
    return field(default=default, metadata={"low": low, "high": high, "meaning": meaning, "unit": unit, "log": log})


def soft_max(first: Numbers, second: Numbers) -> Numbers:
    """p-norm with p = 4 of two times: overlap is nearly perfect away from the ridge and imperfect near it.

    >>> float(soft_max(1.0, 0.0)), round(float(soft_max(1.0, 1.0)), 4)
    (1.0, 1.1892)
    """
    a, b = first * first, second * second
    return np.sqrt(np.sqrt(a * a + b * b))


def padded(size: Numbers, tile: float) -> Numbers:
    """``size`` rounded up to whole tiles.

    >>> float(padded(130, 128)), float(padded(128, 128))
    (256.0, 128.0)
    """
    return np.ceil(size / tile) * tile


def wave_padding(tiles: Numbers, slots: float) -> Numbers:
    """Slots paid for over tiles that fill them, when tiles run in whole waves over ``slots``.

    Source: NVIDIA, Matrix Multiplication Background User's Guide (wave quantisation), whose efficiency is the inverse.

    >>> round(1 / float(wave_padding(512, 132)), 4)  # m=2048, n=8192, tile 128x256 on 132 SMs: 4 waves
    0.9697
    """
    return np.ceil(tiles / slots) * slots / tiles


def cache_speed_up(moved: Numbers, gain: float, rates: Rates) -> Numbers:
    """How much faster than memory a benchmark reads ``moved`` bytes that its last call left in the cache, at most 1 + ``gain``.

    >>> h100 = Rates(flops=989e12, bandwidth=3.35e12, compute_units=132, l2_bytes=50e6)
    >>> [round(float(cache_speed_up(moved, 1.0, h100)), 2) for moved in (1e6, 30e6, 300e6)]
    [2.0, 1.5, 1.0]
    """
    if not rates.l2_bytes:
        return 1.0
    return 1.0 + gain / (1.0 + (moved / (0.6 * rates.l2_bytes)) ** 4)


STACKED_SIZE = 2048
"""Up to this many cases, all candidate tiles are tried in one pass over one more axis; beyond it one after the other, which
keeps the arrays in the cache."""


def fastest(time: Callable[..., Numbers], tiles: tuple[tuple[float, ...], ...], cases: Numbers) -> Numbers:
    """The least ``time(*tile)`` over ``tiles``, as a kernel selector chooses; ``cases`` has the shape of one answer.

    >>> float(fastest(lambda rows: np.ceil(100.0 / rows) * (1 + rows), ((16.0,), (64.0,), (128.0,)), 100.0))
    119.0
    """
    if np.size(cases) <= STACKED_SIZE:
        return time(*_in_front(tiles, np.ndim(cases))).min(axis=0)
    best = time(*tiles[0])
    for tile in tiles[1:]:
        best = np.minimum(best, time(*tile))
    return best


@functools.lru_cache(maxsize=1024)
def _in_front(tiles: tuple[tuple[float, ...], ...], dimensions: int) -> list[Array]:
    """Rows, columns and so on of every tile, along one more axis in front of ``dimensions`` others."""
    return [np.array(sizes).reshape((-1,) + (1,) * dimensions) for sizes in zip(*tiles, strict=True)]
