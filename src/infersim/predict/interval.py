"""Intervals of end-to-end figures: kernel spreads widened by what measured serving points leave, by regime.

For an engine, a kind of model (dense or with experts) and a metric, the logarithm of measured / predicted on the points that a fit
may see is divided by sqrt(s^2 + t^2), s the spread of the kernel models in the step and t what the regime adds to it. The
quantiles of that quotient make the interval (split conformal prediction: Lei et al. 2018, Distribution-free predictive
inference for regression), so its coverage does not rest on a normal distribution. Files: ``hardware_specs/intervals``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass

from infersim.specs.library import files, read_yaml

CORRELATED = "errors"
"""The file of which errors go together, in ``hardware_specs/correlations``."""
LEVELS = {50: (25, 75), 90: (5, 95)}
"""Lower and upper quantile, in percent, of a central interval."""
NORMAL = {5: -1.6449, 25: -0.6745, 75: 0.6745, 95: 1.6449}


@dataclass(frozen=True)
class Interval:
    """A central interval of a predicted figure, ``percent`` likely to hold the measured one."""

    low: float
    high: float
    percent: int


@dataclass(frozen=True)
class Regime:
    """How measured figures of a regime scatter around predicted ones."""

    rows: int
    added: float
    """Log spread that end-to-end figures have beyond their kernels' (t)."""
    quantiles: Mapping[int, float]
    """Of log(measured / predicted) / sqrt(s^2 + t^2), by percent."""
    source: str

    def interval(self, value: float, spread: float, percent: int) -> Interval:
        """The interval of a predicted ``value`` whose kernels have the log spread ``spread``.

        >>> plain = Regime(0, 0.0, NORMAL, "normal distribution")
        >>> [round(bound, 3) for bound in (plain.interval(1.0, 0.1, 90).low, plain.interval(1.0, 0.1, 90).high)]
        [0.848, 1.179]
        """
        low, high = (math.exp(self.quantiles[q] * math.hypot(spread, self.added)) for q in LEVELS[percent])
        return Interval(value * low, value * high, percent)


@functools.lru_cache(maxsize=64)
def regime(engine: str, kind: str, metric: str) -> Regime:
    """The regime of an engine, a kind of model (dense, MoE) and a metric (ttft, tpot); all engines pooled where it has none.

    >>> regime("vllm", "dense", "tpot").rows > 30
    True
    """
    known = files("intervals")
    for name in (engine, "all"):
        found = read_yaml(known[name]).get(metric, {}).get(kind) if name in known else None
        if found:
            quantiles = {int(percent): float(value) for percent, value in found["quantiles"].items()}
            return Regime(int(found["rows"]), float(found["added"]), quantiles, f"{name}, {kind}, {metric}")
    return Regime(0, 0.3, NORMAL, "assumed: normal, 30% beyond the kernels")


@functools.lru_cache(maxsize=64)
def metric_correlation(engine: str, kind: str) -> float:
    """How the errors of TTFT and TPOT of one deployment go together: a correlation of normal scores, as measured for the engine and
    kind of model; of all engines where it has none, zero where nothing is known.

    >>> -1 < metric_correlation("vllm", "dense") < 1
    True
    """
    found = _correlations().get("metrics", {})
    return float(found.get(engine, {}).get(kind, found.get("all", {}).get(kind, 0.0)))


@functools.lru_cache(maxsize=8)
def shared_error(metric: str, *, same_device: bool) -> float:
    """How far predictions of two deployments of one model under one engine and load err alike, as a correlation of normal scores.

    >>> shared_error("ttft", same_device=True) > shared_error("ttft", same_device=False)
    True
    """
    found = _correlations().get("deployments", {}).get("same_device" if same_device else "other_device", {})
    return float(found.get(metric, 0.0))


def _correlations() -> dict[str, dict[str, dict[str, float]]]:
    known = files("correlations")
    return read_yaml(known[CORRELATED]) if CORRELATED in known else {}
