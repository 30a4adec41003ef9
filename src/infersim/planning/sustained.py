"""What replicas sustain within limits on means, and how fast they are at a load, when predicted times are off by factors.

One function of each kind for an aggregated replica and for a pair of pools; tables are those of ``planning.lattice``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from infersim.planning.disaggregated import (
    busy_within,
    decode_curve,
    for_decodes,
    prompt_times,
    prompt_wait,
    transfer_seconds,
)
from infersim.planning.distributions import Array
from infersim.planning.lattice import FIELDS, NODES, Cases, Tables
from infersim.planning.service import ServiceCurve, capacity_of
from infersim.predict.estimate import Estimate
from infersim.serving.target import Limit

Factors = tuple[Array, Array]
"""Measured over predicted TTFT and TPOT, one of each per case."""
PROMPTS = ("alone", "full_rate", "transfer")
"""Of a prefill replica: seconds of a lone prompt, prompts/s at full batches, seconds of a cache on its way."""


def curve_in(tables: Tables) -> ServiceCurve:
    """The service curve among tables."""
    return ServiceCurve(**{name: tables[name] for name in FIELDS})


def stretched(curve: ServiceCurve, factors: Factors) -> ServiceCurve:
    """A curve for every case whose times are multiplied; by Little's law its rates are divided accordingly."""
    first, each = (factor[..., None] for factor in factors)
    ttft, tpot = curve.ttft * first, curve.tpot * each
    e2e = ttft + (curve.e2e - curve.ttft) * each
    rate = np.maximum.accumulate(curve.rate * curve.e2e / e2e, axis=-1)
    fields = (curve.users, ttft, tpot, e2e, rate, curve.running, curve.prefill_share)
    return ServiceCurve(*np.broadcast_arrays(*fields))


def replica_rate(tables: Tables, limits: tuple[Limit, ...], factors: Factors) -> tuple[Array, ...]:
    """Requests/s of an aggregated replica within limits on means."""
    return (capacity_of(curve_in(tables), limits, ttft_factor=factors[0], tpot_factor=factors[1]).rate,)


def replica_latency(tables: Tables, factors: Factors, rates: tuple[Array, ...]) -> tuple[Array, Array]:
    """Mean TTFT and TPOT [s] of an aggregated replica at a rate; infinite beyond what it serves."""
    curve = stretched(curve_in(tables), factors)
    ttft, tpot = curve.read(rates[0], "ttft", "tpot")
    over = rates[0] > curve.rate[..., -1] * (1 + 1e-9)
    return np.where(over, np.inf, ttft), np.where(over, np.inf, tpot)


def pool_tables(decode: Estimate, prefill: Estimate, cases: Cases) -> Tables:
    """Decode curve, prompt times and transfer of every case, computed; equal cases once."""
    shape = cases["input_tokens"].shape
    lengths = np.stack([cases[name].ravel() for name in list(NODES)[:3]], axis=-1)
    unique, place = np.unique(lengths, axis=0, return_inverse=True)
    rows = []
    for prompt, output, hit in unique.tolist():
        workload = decode.workload.model_copy(
            update={"input_tokens": prompt, "output_tokens": output, "prefix_hit": hit}
        )
        one, front = (replace(side, workload=workload) for side in (decode, prefill))
        curve, times = decode_curve(one), prompt_times(front)
        constants = (times.alone, times.rate, float(transfer_seconds([front], [one])[0, 0]))
        rows.append([*curve.columns(), *(np.full(len(curve.rate), value) for value in constants)])
    table = np.array(rows)[place.ravel()]
    return {name: table[:, column].reshape(*shape, -1) for column, name in enumerate((*FIELDS, *PROMPTS))}


def pool_rates(tables: Tables, limits: tuple[Limit, ...], factors: Factors, output_tokens: Array) -> tuple[Array, ...]:
    """Requests/s of one decode replica and of one prefill replica within limits on means, as ``disaggregated.pair_rates`` has them:
    of a limit on E2E the decode pool takes its share. Decode replicas run as full as their limits let them, also where TTFT, which
    holds one of their steps, would gain from emptier ones."""
    first, each = factors
    curve = stretched(curve_in(tables), (each, each))
    decode = capacity_of(curve, for_decodes(limits)).rate
    (tpot,) = curve.read(decode, "tpot")
    alone, full, transfer = _prompts(tables, first)
    budget = np.full(decode.shape, np.inf)
    for limit in limits:
        if limit.metric == "ttft":
            budget = np.minimum(budget, limit.seconds)
        elif limit.metric == "e2e":
            budget = np.minimum(budget, limit.seconds - (output_tokens - 1) * tpot)
    return decode, busy_within(alone, budget - alone - transfer - tpot) * full


def pool_latency(tables: Tables, factors: Factors, rates: tuple[Array, ...]) -> tuple[Array, Array]:
    """Mean TTFT and TPOT [s] of two pools at the rates of a decode and of a prefill replica; infinite beyond what they serve."""
    curve = stretched(curve_in(tables), (factors[1], factors[1]))
    (tpot,) = curve.read(rates[0], "tpot")
    alone, full, transfer = _prompts(tables, factors[0])
    busy = rates[1] / full
    over = (rates[0] > curve.rate[..., -1] * (1 + 1e-9)) | (busy >= 1)
    ttft = alone + transfer + tpot + prompt_wait(alone, np.where(over, 0.0, busy))
    return np.where(over, np.inf, ttft), np.where(over, np.inf, tpot)


def _prompts(tables: Tables, factor: Array) -> tuple[Array, Array, Array]:
    alone, full, transfer = (tables[name][..., 0] for name in PROMPTS)
    return alone * factor, full / factor, transfer
