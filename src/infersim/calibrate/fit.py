"""Fit a kernel model's parameters to measured times: robust least squares on the logarithm of the error.

Any function ``time(shape, parameters)`` will do, with a frozen dataclass of parameters made by
``infersim.machine.kernels.base.parameter``. The search is deterministic: fixed start, fixed subsample, rounded result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from infersim.calibrate.measurements import shape_hash

Array = npt.NDArray[np.float64]
P = TypeVar("P")

DIGITS = 5
"""Significant digits kept of a fitted parameter, so that a fit reads the same wherever it is repeated."""


@dataclass(frozen=True)
class Spread:
    """How far a model is off on a set of rows; errors are relative, |predicted / measured - 1|."""

    rows: int
    mean: float
    p50: float
    p90: float
    bias: float
    """Median of predicted / measured - 1."""
    log_sd: float
    """Standard deviation of log(predicted / measured), outliers beyond a factor of e^1 cut off."""


@dataclass(frozen=True)
class Fit(Generic[P]):
    """Parameters found, and how many rows they were found on."""

    parameters: P
    rows: int
    cost: float


def spread(predicted: Array, measured: Array) -> Spread:
    """Errors of ``predicted`` against ``measured``.

    >>> spread(np.array([1.1, 0.9, 1.0]), np.ones(3)).mean
    0.0667
    """
    ratio = predicted / measured
    error = np.abs(ratio - 1.0)
    log_sd = np.sqrt(np.mean(np.square(np.clip(np.log(ratio), -1.0, 1.0))))
    figures = (error.mean(), np.median(error), np.quantile(error, 0.9), np.median(ratio) - 1.0, log_sd)
    return Spread(len(ratio), *(round(float(figure), 4) for figure in figures))


DURATIONS = ((20e-6, "under 20 us"), (200e-6, "20 to 200 us"), (np.inf, "over 200 us"))
"""Regimes of a kernel: mostly launch, in between, long enough for the machine's rates."""


def spread_by_duration(predicted: Array, measured: Array) -> dict[str, tuple[int, float, float]]:
    """(rows, mean error, standard deviation of the log error) of kernels by how long they were measured to take.

    >>> spread_by_duration(np.array([1.1e-6, 1.0e-3]), np.array([1.0e-6, 1.0e-3]))
    {'under 20 us': (1, 0.1, 0.0953), 'over 200 us': (1, 0.0, 0.0)}
    """
    found, least = {}, 0.0
    for most, name in DURATIONS:
        rows = (measured >= least) & (measured < most)
        if rows.any():
            one = spread(predicted[rows], measured[rows])
            found[name] = (one.rows, one.mean, one.log_sd)
        least = most
    return found


def sample(shape: Mapping[str, Array], rows: int) -> npt.NDArray[np.intp]:
    """Indices of ``rows`` rows, drawn by the hash of their shape: the same rows every time."""
    order = np.argsort(shape_hash(shape), kind="stable")
    return np.sort(order[:rows])


def fit_parameters(
    time: Callable[[Mapping[str, Array], P], Array],
    start: P,
    shape: Mapping[str, Array],
    seconds: Array,
    *,
    hold: Iterable[str] = (),
    rows: int = 4000,
    scale: float = 0.06,
    prior: float = 0.0,
    evaluations: int = 60,
) -> Fit[P]:
    """Parameters that minimise sum soft_l1(log(time / seconds) / scale), within their bounds, from ``start``.

    Parameters named in ``hold`` keep their value. At most ``rows`` rows are used. ``prior`` pulls towards ``start``: it
    is the number of rows' worth of evidence that a parameter stays, per tenth of its range moved. Bounds and logarithmic
    scales are read from the fields' metadata.
    """
    from scipy.optimize import least_squares

    chosen = sample(shape, rows) if len(seconds) > rows else np.arange(len(seconds))
    part = {name: column[chosen] for name, column in shape.items()}
    target = np.log(seconds[chosen])
    held = set(hold)
    free = [f for f in fields(start) if f.name not in held and "low" in f.metadata]  # type: ignore[arg-type]

    def inward(name: str, value: float) -> float:
        meta = scales[name]
        if meta["log"]:
            return float(np.log(value / meta["low"]) / np.log(meta["high"] / meta["low"]))
        return float((value - meta["low"]) / (meta["high"] - meta["low"]))

    def outward(name: str, place: float) -> float:
        meta = scales[name]
        if meta["log"]:
            return float(meta["low"] * (meta["high"] / meta["low"]) ** place)
        return float(meta["low"] + place * (meta["high"] - meta["low"]))

    scales = {f.name: f.metadata for f in free}
    begin = np.array([np.clip(inward(f.name, getattr(start, f.name)), 0.01, 0.99) for f in free])

    def build(places: Array) -> P:
        return replace(start, **{f.name: outward(f.name, p) for f, p in zip(free, places, strict=True)})  # type: ignore[type-var]

    def residuals(places: Array) -> Array:
        off: Array = np.log(time(part, build(places))) - target
        if not prior:
            return off
        return np.concatenate([off, np.sqrt(prior) * scale * 10 * (places - begin)])

    found = least_squares(
        residuals, begin, bounds=(0.0, 1.0), loss="soft_l1", f_scale=scale, max_nfev=evaluations, diff_step=1e-4,
        xtol=1e-5, ftol=1e-6,
    )  # fmt: skip
    best = build(found.x)
    rounded = {f.name: float(f"{getattr(best, f.name):.{DIGITS}g}") for f in free}
    return Fit(replace(best, **rounded), len(chosen), float(found.cost))  # type: ignore[type-var]
