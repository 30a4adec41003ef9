"""Pools for prompts and for decodes in closed form: what one replica of each takes within the limits, every pair at once.

Prompts come at random to a prefill replica that computes as many together as its token budget holds: wait in queue as in M/G/1 with
the service time of one prompt, at the utilisation that full batches leave. A decode replica runs B sequences at D(B) a token. TTFT is
wait + prompt + transfer of the cache + one decode step, in which the last prompt token is computed again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from infersim.ops.base import Numbers
from infersim.ops.transformer import Group
from infersim.planning.service import LOADS, STABLE_SHARE, Scatter, ServiceCurve, capacity_of, slots_of
from infersim.predict.estimate import Estimate
from infersim.predict.step import predict_step
from infersim.serving.target import Limit
from infersim.serving.transfer import transfer_between

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PromptTimes:
    """What one prefill replica does: seconds of a lone prompt, and prompts per second at full batches."""

    alone: float
    rate: float


def prompt_times(prefill: Estimate) -> PromptTimes:
    """Times of the workload's mean prompt on a prefill replica, chunked where it exceeds the token budget, host time included.

    >>> from infersim import estimate
    >>> times = prompt_times(estimate("meta-llama/Llama-3.1-8B", "H100-SXM", input_tokens=2048, mode="bound"))
    >>> round(times.alone, 3), round(times.rate, 1)
    (0.03, 33.0)
    """
    workload, machine = prefill.workload, prefill.machine
    fresh = workload.input_tokens - workload.cached_tokens
    budget = float(prefill.knobs.max_num_batched_tokens or machine.max_num_batched_tokens)
    ranks = prefill.parallelism.attention_data
    chunks = max(1.0, fresh / budget)
    together = max(1.0, math.floor(budget / fresh)) * ranks
    cached = workload.cached_tokens + (fresh - fresh / chunks) / 2
    group = Group(np.array([1.0, together]), fresh / chunks, cached)
    step = predict_step(
        prefill.model, prefill.parallelism, prefill.precision, (group,), machine, sampler=prefill.sampler,
        eager=prefill.knobs.enforce_eager,
    )  # fmt: skip
    alone, full = (float(seconds) * chunks for seconds in np.asarray(step.seconds))
    host = machine.engine.host
    request = host.request + host.token * workload.input_tokens if machine.mode == "calibrated" else 0.0
    return PromptTimes(alone + request, max(together / full, 1.0 / alone))


def decode_curve(decode: Estimate) -> ServiceCurve:
    """A decode replica over the sequences it runs: TPOT is the time of a pure decode step; ``ttft`` holds one step, no prompts."""
    workload, stages = decode.workload, decode.parallelism.pipeline
    context = workload.input_tokens + workload.output_tokens / 2
    running = float(slots_of(decode, np.asarray(context))) ** np.linspace(0.0, 1.0, LOADS)
    group = Group(np.maximum(running / stages, 1.0), 1.0, context)
    step = predict_step(
        decode.model, decode.parallelism, decode.precision, (group,), decode.machine, sampler=decode.sampler,
        eager=decode.knobs.enforce_eager,
    )  # fmt: skip
    tpot = np.asarray(step.seconds, dtype=float) * np.ones(LOADS)
    held = tpot * max(workload.output_tokens - 1, 1.0)
    rate = np.maximum.accumulate(running / held)
    return ServiceCurve(running, tpot, tpot, held, rate, running, np.zeros(LOADS))


@dataclass(frozen=True)
class PairRates:
    """Requests per second of one replica of each pool, prefill rows by decode columns; zero where the limits cannot be met."""

    prefill: Array
    decode: Array
    tpot: Array
    ttft: Array
    """Mean at those rates [s]."""
    sequences: Array
    bound: npt.NDArray[np.int64]
    """Index of the limit that the decode replica meets first, -1 for none."""


DECODE_SHARE = 0.85
"""Of a limit on E2E: what the decode pool may take of it. Assumed."""


def for_decodes(limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
    """The limits that a decode pool must keep, one for one: none on TTFT, its share of those on E2E.

    >>> [limit.seconds for limit in for_decodes((Limit("ttft", None, 1.0), Limit("e2e", None, 10.0)))]
    [inf, 8.5]
    """
    whole = Limit("tpot", None, math.inf)
    return tuple(
        whole
        if limit.metric == "ttft"
        else replace(limit, seconds=limit.seconds * DECODE_SHARE)
        if limit.metric == "e2e"
        else limit
        for limit in limits
    )


def pair_rates(
    prompts: Sequence[PromptTimes],
    curves: ServiceCurve,
    transfers: Array,
    limits: tuple[Limit, ...],
    output_tokens: float,
    *,
    scatter: Scatter,
    input_cv: float = 0.0,
) -> PairRates:
    """What every pair of a prefill and a decode replica takes within ``limits``.

    ``curves`` holds one row for each decode replica, ``transfers`` [s] the time of a prompt's cache on its way, prefill rows by decode
    columns. Of a limit on E2E the decode pool takes DECODE_SHARE at most and leaves the rest to TTFT.
    """
    decode_limits = for_decodes(limits)
    found = capacity_of(curves, decode_limits, scatter=scatter)
    tpot, running = curves.read(found.rate, "tpot", "running")
    alone = np.array([times.alone for times in prompts])[:, None]
    budget = np.full(transfers.shape, math.inf)
    for limit in limits:
        if limit.metric == "ttft":
            budget = np.minimum(budget, limit.seconds / scatter.factor(limit))
        elif limit.metric == "e2e":
            budget = np.minimum(budget, limit.seconds / scatter.factor(limit) - (output_tokens - 1) * tpot[None, :])
    fixed = alone + transfers + tpot[None, :]
    reachable = np.isfinite(fixed)  # where no link joins the pools, no budget is enough
    busy = busy_within(alone, np.where(reachable, budget - np.where(reachable, fixed, 0.0), -1.0), input_cv)
    rates = busy * np.array([times.rate for times in prompts])[:, None]
    return PairRates(rates, found.rate, tpot, fixed + prompt_wait(alone, busy, input_cv), running, found.bound)


def prompt_wait(alone: Numbers, busy: Numbers, input_cv: float = 0.0) -> Any:
    """Mean wait [s] of a prompt that takes ``alone`` seconds where a prefill replica is busy for a share of its time (M/G/1)."""
    return np.asarray(busy) / (1 - np.asarray(busy)) * alone * (1 + input_cv**2) / 2


def busy_within(alone: Numbers, wait: Numbers, input_cv: float = 0.0) -> Any:
    """The share of its time that a prefill replica may be busy for a mean wait within ``wait`` seconds, at most STABLE_SHARE.

    >>> round(float(prompt_wait(0.2, busy_within(0.2, 0.15))), 6)
    0.15
    """
    load = 2 * np.maximum(wait, 0.0) / (np.asarray(alone) * (1 + input_cv**2))
    return np.minimum(1 - 1 / (1 + load), STABLE_SHARE)


def transfer_seconds(prefills: Sequence[Estimate], decodes: Sequence[Estimate]) -> Array:
    """How long the cache of a mean prompt takes from each prefill replica to each decode replica [s]; infinite where there is no way
    or the caches differ in format."""
    from infersim.errors import InferSimError

    found = np.full((len(prefills), len(decodes)), math.inf)
    for row, prefill in enumerate(prefills):
        for column, decode in enumerate(decodes):
            if prefill.precision.kv_cache != decode.precision.kv_cache:
                continue
            try:
                transfer = transfer_between(prefill, decode)
            except InferSimError:
                continue
            found[row, column] = transfer.seconds(decode.workload.input_tokens) + transfer.latency
    return found


def stacked(curves: Sequence[ServiceCurve]) -> ServiceCurve:
    """Curves of several replicas as rows of one."""
    return ServiceCurve(*(np.stack(columns) for columns in zip(*(curve.columns() for curve in curves), strict=True)))
