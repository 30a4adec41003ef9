"""What every kernel model shares: the rates of a device, the soft maximum, tiles and waves."""

from __future__ import annotations

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


def wave_efficiency(tiles: Numbers, slots: float) -> Numbers:
    """Share of the slots that work, when tiles run in whole waves over ``slots``.

    Source: NVIDIA, Matrix Multiplication Background User's Guide (wave quantisation).

    >>> round(float(wave_efficiency(512, 132)), 4)  # m=2048, n=8192, tile 128x256 on 132 SMs: 4 waves
    0.9697
    """
    return tiles / (np.ceil(tiles / slots) * slots)
