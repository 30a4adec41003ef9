"""How much one replica serves within its service levels, in closed form: the curve over load, and where the first limit cuts it.

A curve is one array pass of ``predict.latency.steady_state`` over numbers of users, from one to all the slots there are, and over
any number of cases of lengths. Limits on percentiles are met where the mean times a tail factor is: latencies of requests are
taken as log-normal about their mean, which is a first guess for the simulator to confirm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from infersim.errors import DoesNotFitError, SpecError
from infersim.ops.base import Numbers
from infersim.predict.estimate import Estimate
from infersim.predict.latency import steady_state
from infersim.serving.target import Limit

Array = npt.NDArray[np.float64]

LOADS = 20
"""Numbers of users that a curve is computed at."""
BLOCK = 512
"""Cases priced at once, so that they stay in cache."""
STABLE_SHARE = 0.95
"""Of the most that a replica serves: an open stream of requests at the whole of it makes a queue without end. Assumed."""


@dataclass(frozen=True)
class Scatter:
    """How a latency scatters over the requests of one run: coefficients of variation of log-normal distributions.

    Assumed, of the size seen in simulated Poisson traffic with requests of one length; lengths that differ add theirs.

    >>> round(Scatter().factor(Limit("ttft", 95.0, 0.8)), 2), Scatter().factor(Limit("ttft", None, 0.8))
    (1.65, 1.0)
    """

    ttft: float = 0.35
    tpot: float = 0.12
    e2e: float = 0.12

    def with_lengths(self, input_cv: float, output_cv: float) -> Scatter:
        """The same with requests of different lengths: TTFT goes with the prompt, E2E with the output."""
        return Scatter(math.hypot(self.ttft, input_cv), self.tpot, math.hypot(self.e2e, output_cv))

    def factor(self, limit: Limit) -> float:
        """What the limit is on, over the mean. Gaps between tokens scatter as TPOT does."""
        return float(tail_factor(limit.percentile, getattr(self, "tpot" if limit.metric == "itl" else limit.metric)))


def tail_factor(percentile: float | None, variation: Numbers) -> Any:
    """A percentile (None: the mean) over the mean of a log-normal distribution with this coefficient of variation; broadcasts.

    >>> round(float(tail_factor(95.0, 0.35)), 2)
    1.65
    """
    if percentile is None:
        return 1.0
    sigma = np.sqrt(np.log1p(np.square(variation)))
    return np.exp(_normal_quantile(percentile / 100) * sigma - sigma * sigma / 2)


@lru_cache(maxsize=64)
def _normal_quantile(probability: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(probability)


@dataclass(frozen=True)
class ServiceCurve:
    """What one replica does with each number of users in a closed loop: the last axis; cases of lengths come before it.

    Times in seconds, ``rate`` in requests per second, ``prefill_share`` of device time.
    """

    users: Array
    ttft: Array
    tpot: Array
    e2e: Array
    rate: Array
    running: Array
    prefill_share: Array

    def columns(self) -> list[Array]:
        """Every field, in order."""
        return [getattr(self, name) for name in self.__dataclass_fields__]

    def row(self, index: int | list[int]) -> ServiceCurve:
        """The curve of one case, or of some of them."""
        return ServiceCurve(**{name: getattr(self, name)[index] for name in self.__dataclass_fields__})

    def read(self, rate: Numbers, *names: str) -> list[Array]:
        """Some of the fields at the point where so many requests are served per second."""
        place = _locate(self.rate, rate)
        return [_read(getattr(self, name), *place) for name in names]

    def at(self, rate: Numbers) -> ServiceCurve:
        """The point of the curve at which so many requests are served per second, without the last axis; below one user's rate the
        latencies are those of one user."""
        names = [name for name in self.__dataclass_fields__ if name != "rate"]
        return ServiceCurve(
            rate=np.asarray(rate, dtype=float), **dict(zip(names, self.read(rate, *names), strict=True))
        )


def _locate(x: Array, at: Numbers) -> tuple[npt.NDArray[np.int64], Array]:
    """Where ``at`` lies along the last axis of rising ``x``, row by row: the index above it and the share of the way there."""
    wanted = np.broadcast_to(np.asarray(at, dtype=float), x.shape[:-1])
    rows, each = x.reshape(-1, x.shape[-1]), np.arange(wanted.size)
    high = np.minimum(np.maximum((rows < wanted.reshape(-1, 1)).sum(axis=-1), 1), x.shape[-1] - 1)
    low_x = rows[each, high - 1]
    share = (wanted.ravel() - low_x) / np.maximum(rows[each, high] - low_x, 1e-300)
    return high, np.minimum(np.maximum(share, 0.0), 1.0)


def _read(y: Array, high: npt.NDArray[np.int64], share: Array) -> Array:
    """``y`` at a place that ``_locate`` found: linear between its neighbours, flat beyond the ends."""
    rows, each = y.reshape(-1, y.shape[-1]), np.arange(high.size)
    low_y = rows[each, high - 1]
    return np.asarray((low_y + share * (rows[each, high] - low_y)).reshape(y.shape[:-1]))


def service_curve(
    deployment: Estimate,
    users: Any = None,
    *,
    input_tokens: Any = None,
    output_tokens: Any = None,
    cached_tokens: Any = None,
) -> ServiceCurve:
    """One replica of ``deployment`` under ``users`` in a closed loop; by default from one to as many as slots and KV pool hold.

    Lengths default to the deployment's workload and may be arrays of one shape: curves are then of that shape and the users.
    Raises DoesNotFitError where the deployment does not fit.

    >>> from infersim import estimate
    >>> curve = service_curve(estimate("meta-llama/Llama-3.1-8B", "H100-SXM", mode="bound"), users=[1, 8, 64])
    >>> bool((np.diff(curve.rate) > 0).all() and (np.diff(curve.tpot) > 0).all())
    True
    """
    if not deployment.fits:
        raise DoesNotFitError(str(deployment), shortfall=deployment.memory.shortfall)
    workload, model = deployment.workload, deployment.model
    lengths = [
        np.asarray(workload_value if given is None else given, dtype=float)
        for given, workload_value in (
            (input_tokens, workload.input_tokens),
            (output_tokens, workload.output_tokens),
            (cached_tokens, workload.cached_tokens),
        )
    ]
    prompt, output, cached = (value[..., None] for value in np.broadcast_arrays(*lengths))
    if users is None:
        most = slots_of(deployment, prompt + output / 2 if model.task == "generate" else prompt)
        loads = most ** np.linspace(0.0, 1.0, LOADS)
    else:
        loads = np.asarray(users, dtype=float)
        if loads.ndim != 1 or len(loads) < 2 or loads.min() < 1 or (np.diff(loads) <= 0).any():
            raise SpecError("is a rising list of at least two numbers from one on", field="users")
    return _priced(deployment, *np.broadcast_arrays(prompt, output, cached, loads))


def variant_curves(variants: Sequence[Estimate]) -> ServiceCurve:
    """The curves of one deployment under several settings of its engine, one row each, in one pass.

    ``variants`` differ in ``max_num_batched_tokens``, ``max_num_seqs`` and the memory that these leave, in nothing else.

    >>> from infersim import EngineKnobs, estimate
    >>> both = [estimate("meta-llama/Llama-3.1-8B", "L40S", knobs=EngineKnobs(max_num_seqs=n)) for n in (64, 256)]
    >>> bool(np.allclose(variant_curves(both).tpot[1], service_curve(both[1]).tpot))
    True
    """
    first = variants[0]
    workload = first.workload
    context = workload.input_tokens + (workload.output_tokens / 2 if first.model.task == "generate" else 0.0)
    width = first.drafter.speculation.verified if first.drafter is not None else 1
    settings = []
    for one in variants:
        budget = float(one.knobs.max_num_batched_tokens or one.machine.max_num_batched_tokens)
        slots = float(one.knobs.max_num_seqs or min(one.machine.max_num_seqs, budget // width))
        settings.append((budget, slots, float(one.memory.max_sequences(context))))
    most = np.maximum([min(slots * first.parallelism.attention_data, held) for _, slots, held in settings], 2.0)
    loads = most[:, None] ** np.linspace(0.0, 1.0, LOADS)
    columns = np.array(settings).T[:, :, None]
    cases = (workload.input_tokens, workload.output_tokens, workload.cached_tokens, loads, *columns)
    prompt, output, cached, users, *knobs = np.broadcast_arrays(*cases)
    return _priced(first, prompt, output, cached, users, *knobs)


def _priced(
    deployment: Estimate, prompt: Array, output: Array, cached: Array, users: Array, *variants: Array
) -> ServiceCurve:
    """Curves of cases of one shape, a block at a time."""
    cases = [value.ravel() for value in (prompt, output, users, cached, *variants)]
    columns = np.empty((6, users.size))
    for start in range(0, users.size, BLOCK):
        block = slice(start, start + BLOCK)
        prompts, outputs, loops, hits, *knobs = (case[block] for case in cases)
        state = steady_state(
            deployment.model, deployment.parallelism, deployment.precision, deployment.machine, deployment.memory, deployment.knobs,
            input_tokens=prompts, output_tokens=outputs, users=loops, cached_tokens=hits, sampler=deployment.sampler,
            drafter=deployment.drafter, in_rounds=False, variants=tuple(knobs) or None,  # type: ignore[arg-type]
        )  # fmt: skip
        found = (state.ttft, state.tpot, state.e2e, state.requests_per_second, state.running, state.prefill_share)
        for row, values in zip(columns, found, strict=True):
            row[block] = values
    ttft, tpot, e2e, rate, running, share = columns.reshape(6, *users.shape)
    return ServiceCurve(np.array(users), ttft, tpot, e2e, np.maximum.accumulate(rate, axis=-1), running, share)


def slots_of(deployment: Estimate, context: Array) -> Array:
    """Sequences that slots and KV pool of a replica hold at once; two at least, so that a curve has two ends."""
    slots = deployment.knobs.max_num_seqs or deployment.machine.max_num_seqs
    ranks = deployment.parallelism.attention_data
    return np.asarray(np.maximum(np.minimum(float(slots * ranks), deployment.memory.max_sequences(context)), 2.0))


@dataclass(frozen=True)
class Sustained:
    """The highest load of one replica within its limits; arrays over the cases of a curve.

    ``bound`` is the index of the limit that is met first, -1 where none is and the replica's throughput ends it. Where even one user
    alone misses a limit, ``rate`` is zero and ``bound`` that limit.
    """

    rate: Array
    users: Array
    bound: npt.NDArray[np.int64]


def capacity_of(
    curve: ServiceCurve,
    limits: tuple[Limit, ...],
    *,
    ttft_factor: Numbers = 1.0,
    tpot_factor: Numbers = 1.0,
    scatter: Scatter | None = None,
) -> Sustained:
    """The highest rate [requests/s] that one replica serves within ``limits``, every case of the curve for itself.

    The factors multiply predicted times and, by Little's law, divide the rate of the loop (errors of a prediction); they broadcast
    with the cases.

    >>> curve = ServiceCurve(*map(np.array, ([1.0, 2.0, 4.0], [0.1, 0.2, 0.4], [0.01] * 3, [1.0] * 3, [1.0, 2.0, 3.0], [1.0, 2.0, 4.0],
    ...     [0.1] * 3)))
    >>> capacity_of(curve, (Limit("ttft", None, 0.3),)).rate
    array(2.5)
    >>> capacity_of(curve, (Limit("ttft", None, 0.05),)).rate, capacity_of(curve, ()).rate
    (array(0.), array(2.85))
    """
    scatter = scatter or Scatter()
    first, each = (np.asarray(factor, dtype=float)[..., None] for factor in (ttft_factor, tpot_factor))
    ttft, tpot = curve.ttft * first, curve.tpot * each
    e2e = ttft + (curve.e2e - curve.ttft) * each
    rate = curve.rate * curve.e2e / e2e
    shape = rate.shape[:-1]
    best = STABLE_SHARE * rate[..., -1]
    bound = np.full(shape, -1, dtype=np.int64)
    for index, limit in enumerate(limits):
        metric = {"ttft": ttft, "tpot": tpot, "itl": tpot, "e2e": e2e}[limit.metric]
        allowed = limit.seconds / scatter.factor(limit)
        within = np.broadcast_to(np.asarray(allowed), shape)
        rising = np.maximum.accumulate(np.broadcast_to(metric, rate.shape), axis=-1)
        cut = np.where(rising[..., 0] > within, 0.0, _read(rate, *_locate(rising, within)))
        bound = np.where(cut < best, index, bound)
        best = np.minimum(best, cut)
    users = _read(np.broadcast_to(curve.users, rate.shape), *_locate(rate, best))
    return Sustained(np.asarray(best), np.where(best > 0, users, 0.0), bound)
