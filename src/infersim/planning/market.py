"""All candidates of a search as arrays: what each needs for a load within limits, and what that costs.

One pass prices every candidate's curve; after that another load, price or limit is arithmetic on arrays, so that a search can ask
what would change its answer.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from infersim.planning.disaggregated import (
    PairRates,
    PromptTimes,
    decode_curve,
    pair_rates,
    prompt_times,
    stacked,
    transfer_seconds,
)
from infersim.planning.service import Scatter, ServiceCurve, Sustained, capacity_of, variant_curves
from infersim.planning.space import knob_variants
from infersim.predict.estimate import Estimate
from infersim.serving.target import Limit

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Question:
    """What is asked of every candidate: a load or a number of devices, and limits."""

    limits: tuple[Limit, ...]
    request_rate: float | None
    max_devices: int
    scatter: Scatter
    input_cv: float = 0.0


def cost_order(
    cost: float, devices: int, request_rate: float, capacity: float, pools: bool = False, knobs: int = 0
) -> tuple[float, ...]:
    """What offers are ranked by: cost and devices per request, one kind of replica before two pools, capacity (within 5% as equal),
    engine settings that are not the defaults.

    >>> cost_order(10.0, 4, 2.0, 3.0) < cost_order(math.inf, 2, 2.0, 3.0)
    True
    """
    return (cost / request_rate, devices / request_rate, pools, -round(20 * math.log(capacity)), knobs)


@dataclass(frozen=True)
class Offer:
    """Replicas of a candidate that answer a question. ``cost`` in USD per hour, infinite where no price is on file."""

    row: int
    prefill_row: int | None
    replicas: int
    prefill_replicas: int
    devices: int
    capacity: float
    request_rate: float
    cost: float
    knobs: int = 0
    """Engine settings that are not its defaults."""

    @property
    def rank(self) -> tuple[float, ...]:
        """Cheapest per request first, those without a price after all others; of equals the one with fewer devices, then with one
        kind of replica, then with a good deal more capacity, then with fewer knobs."""
        pools = self.prefill_row is not None
        return cost_order(self.cost, self.devices, self.request_rate, self.capacity, pools, self.knobs)


@dataclass(frozen=True)
class Pairing:
    """Candidates of one device, engine and number format that can be pools for each other: rows of the market."""

    rows: tuple[int, ...]
    prompts: tuple[PromptTimes, ...]
    curves: ServiceCurve
    transfers: Array


@dataclass(frozen=True)
class Market:
    """Candidates, their curves as rows of one, and their pairings as pools."""

    deployments: tuple[Estimate, ...]
    curves: ServiceCurve
    pairings: tuple[Pairing, ...]
    devices: npt.NDArray[np.int64]
    prices: Array
    """USD per device and hour; nan where none is on file."""

    @functools.cached_property
    def knobs(self) -> list[int]:
        """How many engine settings of each candidate are not the defaults."""
        return [len(one.knobs.model_dump(exclude_defaults=True)) for one in self.deployments]

    def sustained(self, question: Question) -> Sustained:
        return capacity_of(self.curves, question.limits, scatter=question.scatter)

    def pair_rates(self, pairing: Pairing, question: Question) -> PairRates:
        output = self.deployments[pairing.rows[0]].workload.output_tokens
        return pair_rates(
            pairing.prompts, pairing.curves, pairing.transfers, question.limits, output, scatter=question.scatter,
            input_cv=question.input_cv,
        )  # fmt: skip

    def aggregated(self, question: Question, *, only_best: bool = False) -> list[Offer]:
        """An offer for every candidate that answers the question, in rows' order, or the best of them alone."""
        rate = self.sustained(question).rate
        with np.errstate(divide="ignore"):
            if question.request_rate is None:
                replicas = question.max_devices // self.devices
            else:
                needed = np.where(rate > 0, np.ceil(question.request_rate / rate * (1 - 1e-9)), np.inf)
                replicas = np.where(needed * self.devices <= question.max_devices, needed, 0).astype(np.int64)
        devices, capacity = replicas * self.devices, replicas * rate
        load = capacity if question.request_rate is None else np.full(rate.shape, question.request_rate)
        cost = np.where(np.isnan(self.prices), math.inf, self.prices) * np.maximum(devices, 1)
        rows = np.flatnonzero((replicas > 0) & (rate > 0))
        if only_best and len(rows):
            per_request, fullness = cost[rows] / load[rows], devices[rows] / load[rows]
            room = -np.round(20 * np.log(capacity[rows]))
            rows = rows[np.lexsort((np.array(self.knobs)[rows], room, fullness, per_request))[:1]]
        return [
            Offer(row, None, int(replicas[row]), 0, int(devices[row]), float(capacity[row]), float(load[row]), float(cost[row]),
                  self.knobs[row])
            for row in rows.tolist()
        ]  # fmt: skip

    def pooled(self, question: Question) -> list[Offer]:
        """The best pair of pools of every pairing that answers the question."""
        found = (
            _best_pair(self.pair_rates(pairing, question), self.devices[list(pairing.rows)], question, pairing.rows,
                       float(self.prices[pairing.rows[0]]))
            for pairing in self.pairings
        )  # fmt: skip
        return [offer for offer in found if offer is not None]

    def only(self, names: set[str]) -> Market:
        """The part of the market on accelerators of these names."""
        rows = [i for i, one in enumerate(self.deployments) if one.machine.accelerator.name in names]
        moved = {old: new for new, old in enumerate(rows)}
        pairings = [replace(p, rows=tuple(moved[row] for row in p.rows)) for p in self.pairings if p.rows[0] in moved]
        return Market(
            tuple(self.deployments[row] for row in rows),
            self.curves.row(rows),
            tuple(pairings),
            self.devices[rows],
            self.prices[rows],
        )

    def offers(self, question: Question) -> list[Offer]:
        """All offers, best first."""
        return sorted(self.aggregated(question) + self.pooled(question), key=lambda offer: offer.rank)

    def best(self, question: Question) -> Offer | None:
        """The best offer; None where none answers."""
        return min(
            self.aggregated(question, only_best=True) + self.pooled(question),
            key=lambda offer: offer.rank,
            default=None,
        )


def _best_pair(
    rates: PairRates, own: npt.NDArray[np.int64], question: Question, rows: tuple[int, ...], price: float
) -> Offer | None:
    """Of all pairs of a prefill (first axis) and a decode replica (second) the one that answers with fewest devices, or that serves most
    with those there are."""
    r, s = rates.prefill, np.broadcast_to(rates.decode, rates.prefill.shape)
    p, d = np.broadcast_arrays(own[:, None], own[None, :])
    works = (r > 0) & (s > 0)
    if question.request_rate is None:
        works &= p + d <= question.max_devices
        if not works.any():
            return None
        x, y = _fullest(np.where(works, r, 1.0), np.where(works, s, 1.0), p, d, question.max_devices)
        load = np.where(works, np.minimum(x * r, y * s), 0.0)
    else:
        with np.errstate(divide="ignore"):
            x, y = (np.ceil(np.where(works, question.request_rate / rate * (1 - 1e-9), 1.0)) for rate in (r, s))
        load = np.full(r.shape, question.request_rate)
    devices = x * p + y * d
    works &= devices <= question.max_devices
    if not works.any():
        return None
    wanted = -load if question.request_rate is None else devices
    order = np.where(works, wanted, np.inf)
    place = np.unravel_index(
        np.lexsort((devices.ravel(), -np.minimum(x * r, y * s).ravel(), order.ravel()))[0], order.shape
    )
    row, column = (int(index) for index in place)
    total = int(devices[place])
    return Offer(
        rows[column], rows[row], int(y[place]), int(x[place]), total, float(min(x[place] * r[place], y[place] * s[place])),
        float(load[place]), price * total if not math.isnan(price) else math.inf,
    )  # fmt: skip


def _fullest(r: Array, s: Array, p: Array, d: Array, devices: int) -> tuple[Array, Array]:
    """Replicas (x, y) of the pools that serve most with so many devices, for all pairs: x from one on, y the rest."""
    best, x_best, y_best = np.zeros(r.shape), np.ones(r.shape), np.ones(r.shape)
    for x in range(1, devices):
        y = np.floor((devices - x * p) / d)
        y = np.minimum(y, np.ceil(x * r / s * (1 - 1e-12)))
        served = np.where(y >= 1, np.minimum(x * r, y * s), 0.0)
        better = served > best * (1 + 1e-12)
        best, x_best, y_best = np.where(better, served, best), np.where(better, x, x_best), np.where(better, y, y_best)
    return x_best, y_best


def build_market(deployments: Sequence[Estimate], *, pools: bool) -> Market:
    """Price the curves of all ``deployments`` and their knob variants; ``pools`` pairs those that can hand caches over as well."""
    every: list[Estimate] = []
    curves: list[ServiceCurve] = []
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for one in deployments:
        if pools and one.model.task == "generate" and one.parallelism.pipeline == 1 and one.drafter is None:
            scheme = one.precision.name or one.precision.weights
            groups[one.machine.accelerator.name, one.machine.engine.name, scheme].append(len(every))
        variants = knob_variants(one)
        every += variants
        curves.append(variant_curves(variants))
    pairings = []
    for rows in groups.values():
        members = [every[row] for row in rows]
        decodes, transfers = stacked([decode_curve(one) for one in members]), transfer_seconds(members, members)
        pairings.append(Pairing(tuple(rows), tuple(map(prompt_times, members)), decodes, transfers))
    return Market(
        tuple(every), ServiceCurve(*(np.concatenate(columns) for columns in zip(*(c.columns() for c in curves), strict=True))),
        tuple(pairings), np.array([one.parallelism.devices_per_replica for one in every], dtype=np.int64),
        np.array([math.nan if one.price_per_hour is None else one.price_per_hour for one in every]),
    )  # fmt: skip
