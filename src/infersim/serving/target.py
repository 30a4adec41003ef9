"""Service levels as users state them: a limit on the mean or a percentile of a latency, such as ``ttft_p95=800ms``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from infersim import units
from infersim.errors import SpecError, UnitError, did_you_mean
from infersim.specs.targets import in_full

METRICS = ("ttft", "tpot", "itl", "e2e")


@dataclass(frozen=True)
class Limit:
    """``metric`` at most ``seconds``: its mean, or the given percentile of it."""

    metric: str
    percentile: float | None
    seconds: float

    @property
    def name(self) -> str:
        """
        >>> Limit("ttft", 95.0, 0.8).name, Limit("tpot", None, 0.04).name
        ('ttft_p95', 'tpot')
        """
        return self.metric if self.percentile is None else f"{self.metric}_p{self.percentile:g}"


def read_limits(text: str) -> tuple[Limit, ...]:
    """``"ttft_p95=800ms,tpot=40ms"`` as limits, or those of a target on file by its name. Raises SpecError with what would be right.

    >>> [limit.name for limit in read_limits("ttft_p99.9=2s, e2e=10s")]
    ['ttft_p99.9', 'e2e']
    >>> read_limits("mlperf/llama-3.1-8b-interactive")[0]
    Limit(metric='ttft', percentile=99.0, seconds=0.5)
    """
    limits = []
    for part in in_full(text).split(","):
        if not part.strip():
            continue
        name, equals, value = (piece.strip() for piece in part.partition("="))
        found = re.fullmatch(r"([a-z0-9]+?)(?:_(?:p([0-9.]+)|(mean|median)))?", name.lower())
        if not equals or not value or found is None:
            raise SpecError(f"write a target as ttft_p95=800ms,tpot=40ms, got {part.strip()!r}", field="target")
        metric, percent, word = found.groups()
        if metric not in METRICS:
            raise SpecError(f"no latency is called {metric!r}; {did_you_mean(metric, METRICS)}", field="target")
        percentile = 50.0 if word == "median" else None
        if percent is not None:
            try:
                percentile = float(percent)
            except ValueError:
                percentile = -1.0
            if not 0 < percentile < 100:
                raise SpecError(f"a percentile lies between 0 and 100, got p{percent}", field="target")
        try:
            seconds = units.parse(value, "s")
        except UnitError as error:
            raise SpecError(f"{name}: {error}", field="target") from error
        if seconds <= 0:
            raise SpecError(f"{name}: no latency is at most {value}", field="target")
        limits.append(Limit(metric, percentile, seconds))
    if not limits:
        raise SpecError("write a target as ttft_p95=800ms,tpot=40ms, got none", field="target")
    return tuple(limits)
