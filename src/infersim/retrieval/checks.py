"""Refuse numbers that a formula has no answer for."""

from __future__ import annotations

import numpy as np

from infersim.errors import SpecError
from infersim.ops.base import Numbers


def positive(name: str, value: Numbers) -> None:
    """SpecError where any of ``value`` is not a positive finite number.

    >>> positive("chunk", 0)
    Traceback (most recent call last):
    infersim.errors.SpecError: chunk: must be positive, got 0
    """
    if not (np.all(np.isfinite(value)) and np.all(np.asarray(value) > 0)):
        raise SpecError(f"must be positive, got {value}", field=name)


def share(name: str, value: Numbers) -> None:
    """SpecError where any of ``value`` is not above 0 and at most 1.

    >>> share("selectivity", 2.0)
    Traceback (most recent call last):
    infersim.errors.SpecError: selectivity: must be above 0 and at most 1, got 2.0
    """
    given = np.asarray(value)
    if not np.all((given > 0) & (given <= 1)):
        raise SpecError(f"must be above 0 and at most 1, got {value}", field=name)


def np_ceil(value: Numbers, *, least: float = 0.0) -> Numbers:
    """``value`` rounded up, but at least ``least``; a hair above a whole number is taken as that number.

    >>> float(np_ceil(3.0000000001)), float(np_ceil(0.2, least=1.0))
    (3.0, 1.0)
    """
    return np.maximum(np.ceil(np.asarray(value) - 1e-9), least)
