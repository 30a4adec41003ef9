"""Long and short prompts in pools of their own: how many GPUs each takes, the best length to part them at, and against one pool.

A pool of its own keeps long prompts from holding up short ones (the scatter of TTFT falls with that of lengths), and may have another
layout or GPU. Against that, two pools round up twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from infersim.errors import NoPlanError, SpecError
from infersim.planning.demand import Array
from infersim.planning.service import Scatter, capacity_of, service_curve
from infersim.predict.estimate import Estimate
from infersim.serving.lengths import Empirical, Fixed, LogNormal, Uniform
from infersim.serving.target import Limit

Capacities = Callable[[Array, Array, Array], Array]
"""Requests per second of one replica for prompts of given mean, coefficient of variation and greatest length (one of each a case)."""
DRAWS = 20_000
THRESHOLDS = 49


@dataclass(frozen=True)
class Pool:
    """One kind of replica: what serves so many requests per second with prompts of these lengths, and its devices."""

    capacities: Capacities
    devices_per_replica: int
    name: str = ""


@dataclass(frozen=True)
class Share:
    """What a pool takes: ``share`` of the requests, with prompts of ``mean_tokens`` on average."""

    name: str
    share: float
    mean_tokens: float
    replica_capacity: float
    replicas: int
    devices: int


@dataclass(frozen=True)
class SplitPlan:
    """Two pools parted at ``threshold`` tokens (prompts up to it are short) against one; None where a way does not serve the load."""

    threshold: float | None
    short: Share | None
    long: Share | None
    one: Share | None
    thresholds: Array
    devices_by_threshold: Array
    """Infinite where a pool cannot serve its prompts."""

    @property
    def devices(self) -> int | None:
        """Of both pools."""
        return None if self.short is None or self.long is None else self.short.devices + self.long.devices

    @property
    def best(self) -> str:
        """``two pools`` or ``one pool``: fewer devices; one where both take as many."""
        if self.devices is None:
            return "one pool"
        return "two pools" if self.one is None or self.devices < self.one.devices else "one pool"

    @property
    def rows(self) -> list[Share]:
        """Every pool looked at."""
        return [share for share in (self.short, self.long, self.one) if share is not None]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers; keys carry units."""
        told = [
            {"pool": s.name, "share_of_requests": s.share, "mean_prompt_tokens": s.mean_tokens,
             "replica_capacity_requests_per_s": s.replica_capacity, "replicas": s.replicas, "devices": s.devices}
            for s in self.rows
        ]  # fmt: skip
        return {"threshold_tokens": self.threshold, "best": self.best, "pools": told}

    def to_frame(self) -> Any:
        """The pools as a pandas frame."""
        from infersim.planning.options import frame

        return frame(self.to_dict()["pools"])

    def __str__(self) -> str:
        lines = [f"{'pool':<26}{'requests':>9}{'prompt':>9}{'requests/s':>12}{'replicas':>10}{'GPUs':>7}"]
        lines += [
            f"{s.name:<26.26}{s.share:>9.1%}{s.mean_tokens:>9,.0f}{s.replica_capacity:>12.3g}{s.replicas:>10,}{s.devices:>7,}"
            for s in self.rows
        ]
        if self.devices is None:
            lines.append("no length parts the prompts so that both pools serve theirs")
        elif self.one is None:
            lines.append(f"parted at {self.threshold:,.0f} tokens; one pool cannot serve every prompt")
        else:
            lines.append(
                f"parted at {self.threshold:,.0f} tokens: {self.devices:,} GPUs, {self.one.devices:,} in one pool"
            )
        return "\n".join(lines)


def deployment_pool(
    deployment: Estimate, limits: tuple[Limit, ...], *, ttft_seconds_per_token: float | None = None, name: str = ""
) -> Pool:
    """Replicas of ``deployment`` within ``limits``; outputs, and the share of prompts found in the cache, are those of its workload.

    The TTFT of a pool scatters with the lengths of its prompts. ``ttft_seconds_per_token`` allows a prompt of the mean length so much
    more than the limit says, as those who part long prompts off do. Prompts that its cache cannot hold make its capacity zero.
    """
    if not deployment.fits:
        raise NoPlanError(f"{deployment.describe()} does not fit into memory; {deployment.remedies}")
    workload = deployment.workload
    hits = workload.cached_tokens / workload.input_tokens

    def capacities(mean: Array, variation: Array, greatest: Array) -> Array:
        curve = service_curve(deployment, input_tokens=mean, cached_tokens=mean * hits)
        found = np.empty(len(mean))
        for row, cv in enumerate(variation):
            more = (ttft_seconds_per_token or 0.0) * float(mean[row])
            own = tuple(
                Limit(one.metric, one.percentile, one.seconds + (more if one.metric == "ttft" else 0.0))
                for one in limits
            )
            scatter = Scatter().with_lengths(float(cv), 0.0)
            found[row] = float(capacity_of(curve.row(row), own, scatter=scatter).rate)
        room = np.asarray(deployment.memory.max_sequences(greatest + workload.output_tokens))
        longest = deployment.knobs.max_model_len
        holds = (room >= 1) & (longest is None or greatest + workload.output_tokens <= longest)
        return np.where(holds, found, 0.0)

    label = name or f"{deployment.machine.accelerator.name} {deployment.parallelism}"
    return Pool(capacities, deployment.parallelism.devices_per_replica, label)


def replicas_for(rate: Array, capacity: Array) -> Array:
    """Whole replicas for a rate; infinite where one serves nothing, and at least one.

    >>> replicas_for(np.array([10.0, 9.0, 1.0]), np.array([3.0, 3.0, 0.0])).tolist()
    [4.0, 3.0, inf]
    """
    with np.errstate(divide="ignore"):
        return np.asarray(np.where(capacity > 0, np.maximum(np.ceil(rate / capacity - 1e-9), 1.0), np.inf))


def split_pools(
    lengths: Fixed | Uniform | LogNormal | Empirical | Array,
    request_rate: float,
    short: Pool,
    long: Pool | None = None,
    *,
    one: Pool | None = None,
    thresholds: Array | None = None,
    seed: int = 0,
) -> SplitPlan:
    """The prompt length to part two pools at so that both together take the fewest devices.

    ``lengths``: a distribution (drawn ``DRAWS`` times with ``seed``) or prompts seen. ``long`` is ``short``'s kind where it is not given,
    ``one`` (the single pool) is ``long``'s: it has to hold every prompt. Thresholds default to quantiles of the lengths, up to the
    longest but one.

    Raises NoPlanError where neither two pools nor one serve the load, SpecError for bad input.
    """
    if not (isinstance(request_rate, (int, float)) and 0 < request_rate < math.inf):
        raise SpecError(f"must be above 0, got {request_rate!r}", field="request_rate")
    long = long or short
    one = one or long
    drawn = lengths if isinstance(lengths, np.ndarray) else lengths.sample(np.random.default_rng(seed), DRAWS)
    prompts = np.sort(np.asarray(drawn, dtype=float))
    if prompts.ndim != 1 or len(prompts) == 0 or not prompts[0] >= 1:
        raise SpecError("is a list of prompt lengths from 1 token on", field="lengths")
    if thresholds is None:
        thresholds = np.quantile(prompts, np.arange(1, THRESHOLDS + 1) / (THRESHOLDS + 1), method="lower")
    cuts = np.unique(np.asarray(thresholds, dtype=float))
    cuts = cuts[(cuts >= prompts[0]) & (cuts < prompts[-1])]
    whole = _share(one, one.name or "one pool", prompts, request_rate)
    if not len(cuts):
        if whole is None:
            raise _nothing_serves(one, prompts)
        return SplitPlan(None, None, None, whole, cuts, cuts)
    first = np.searchsorted(prompts, cuts, side="right")
    below, above = _moments(prompts, first)
    portion = first / len(prompts)
    near = short.capacities(*below)
    far = long.capacities(*above)
    counts = [replicas_for(request_rate * p, c) for p, c in ((portion, near), (1 - portion, far))]
    devices = counts[0] * short.devices_per_replica + counts[1] * long.devices_per_replica
    best = int(np.argmin(devices))
    if not math.isfinite(devices[best]):
        if whole is None:
            raise _nothing_serves(one, prompts)
        return SplitPlan(None, None, None, whole, cuts, devices)
    shares = [
        Share(f"{word}: {pool.name}" if pool.name else word, float(part), float(mean), float(capacity), int(count),
              int(count) * pool.devices_per_replica)
        for word, pool, part, mean, capacity, count in (
            ("short", short, portion[best], below[0][best], near[best], counts[0][best]),
            ("long", long, 1 - portion[best], above[0][best], far[best], counts[1][best]),
        )
    ]  # fmt: skip
    return SplitPlan(float(cuts[best]), shares[0], shares[1], whole, cuts, devices)


def _moments(
    prompts: Array, first: np.ndarray[Any, Any]
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array]]:
    """Mean, coefficient of variation and greatest of the sorted prompts before each place, and of those from it on."""
    sums, squares = (np.concatenate([[0.0], np.cumsum(values)]) for values in (prompts, prompts**2))
    sides = []
    for count, total, square, greatest in (
        (first, sums[first], squares[first], prompts[first - 1]),
        (len(prompts) - first, sums[-1] - sums[first], squares[-1] - squares[first], np.full(len(first), prompts[-1])),
    ):
        mean = total / count
        variance = np.maximum(square / count - mean**2, 0.0)
        sides.append((mean, np.sqrt(variance) / mean, greatest))
    return sides[0], sides[1]


def _share(pool: Pool, name: str, prompts: Array, rate: float) -> Share | None:
    mean = prompts.mean()
    capacity = float(pool.capacities(np.array([mean]), np.array([prompts.std() / mean]), prompts[-1:])[0])
    if capacity <= 0:
        return None
    count = int(replicas_for(np.array(rate), np.array(capacity)))
    return Share(f"one: {name}", 1.0, float(mean), capacity, count, count * pool.devices_per_replica)


def _nothing_serves(pool: Pool, prompts: Array) -> NoPlanError:
    """Nothing serves every prompt: says up to which length the pool would."""
    cuts = np.unique(np.quantile(prompts, np.arange(1, THRESHOLDS + 1) / (THRESHOLDS + 1), method="lower"))
    cuts = cuts[cuts < prompts[-1]]
    served = cuts
    if len(cuts):
        below, _ = _moments(prompts, np.searchsorted(prompts, cuts, side="right"))
        served = cuts[pool.capacities(*below) > 0]
    told = f"it serves prompts up to {served[-1]:,.0f} tokens" if len(served) else "not even the shortest"
    return NoPlanError(
        f"no pool serves prompts up to {prompts[-1]:,.0f} tokens within the target: {told}; use more memory or a looser target"
    )
