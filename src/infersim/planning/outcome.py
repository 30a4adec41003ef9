"""What one deployment comes to under given assumptions: capacity, GPUs needed, money, latency. Everything broadcasts."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from infersim.errors import DoesNotFitError, SpecError, UnsupportedError, did_you_mean
from infersim.ops.base import Numbers
from infersim.planning.assumptions import Assumption
from infersim.planning.distributions import Array
from infersim.planning.lattice import exact_curves, interpolated_curves
from infersim.planning.service import Scatter, ServiceCurve, capacity_of, tail_factor
from infersim.predict.estimate import Estimate
from infersim.serving.target import Limit

HOURS_PER_YEAR = 8760.0
EXACT_CASES = 128
"""So many cases are computed one by one; more are interpolated."""
CHECKED_CASES = 24
"""Cases computed as well as interpolated, to know what interpolation costs."""
TOLERATED = 0.03
"""Mean error of interpolated capacities from which on all are computed."""
FIGURES = {
    "capacity": "requests/s", "gpus": "GPUs", "usd_per_hour": "USD/h", "usd_per_year": "USD/year",
    "usd_per_million_tokens": "USD per M tokens", "ttft": "s", "tpot": "s",
}  # fmt: skip
"""What an outcome tells, with units."""
Values = Mapping[str, Numbers]


@dataclass(frozen=True)
class Outcome:
    """Arrays over the cases. Money in USD, ``capacity`` in requests/s of one replica.

    ``gpus`` serve the request rate within the limits, in whole replicas or whole nodes; infinite where no number does. Tokens are
    output tokens, or prompt tokens of a model that generates none; all of the money is over them. ``ttft`` and ``tpot`` are means
    [s] at the load of one of ``replicas``, infinite where they are overloaded.
    """

    capacity: Array
    replicas: Array
    gpus: Array
    usd_per_hour: Array
    usd_per_year: Array
    usd_per_million_tokens: Array
    ttft: Array
    tpot: Array
    interpolation_error: float = 0.0
    """Mean relative error of interpolated capacities on cases that were computed as well; 0 where all were computed."""

    def figure(self, name: str) -> Array:
        """One of FIGURES; SpecError for another name."""
        if name not in FIGURES:
            raise SpecError(f"no figure is called {name!r}; {did_you_mean(name, FIGURES)}", field="figure")
        return np.asarray(getattr(self, name))


@dataclass(frozen=True)
class Choice:
    """A deployment that may be chosen: one replica of it, the limits it must keep, and how its GPUs are bought.

    Assumptions are looked up under ``name.assumption`` first, then under the assumption's own name, which choices share.
    """

    deployment: Estimate
    limits: tuple[Limit, ...] = ()
    name: str = ""
    whole_nodes: bool = False
    scatter: Scatter = field(default_factory=Scatter)
    hourly: Callable[[Values], Numbers] | None = None
    """USD per device and hour as a function of the choice's assumptions, for owned devices say; ``price.per_hour`` where there is none."""
    terms: tuple[Assumption, ...] = ()
    """The assumptions that ``hourly`` reads."""

    def __post_init__(self) -> None:
        if not self.deployment.fits:
            raise DoesNotFitError(str(self.deployment), shortfall=self.deployment.memory.shortfall)
        if self.deployment.parallelism.replicas != 1:
            raise UnsupportedError(
                f"{self.deployment.describe()}: a choice is one replica; how many are needed is the answer"
            )

    @property
    def step(self) -> int:
        """GPUs that are added at once: those of a replica, or the fewest whole nodes that hold whole replicas."""
        each = self.deployment.parallelism.devices_per_replica
        if not self.whole_nodes:
            return each
        return -(-each // self.node) * self.node

    @property
    def node(self) -> int:
        """Devices of a node; one where the deployment has no system."""
        system = self.deployment.machine.system
        return system.devices_per_node if system is not None else 1

    def value(self, values: Values, name: str, default: Numbers | None = None) -> Numbers:
        """An assumption of the choice."""
        found = values.get(f"{self.name}.{name}", values.get(name, default))
        if found is None:
            raise SpecError(f"no value for {name!r}", field=self.name or None)
        return found

    def gpus_for(self, replicas: Numbers) -> Any:
        """GPUs of so many replicas: whole nodes where that is asked for.

        A node holds as many whole replicas as fit, larger replicas take whole nodes.
        """
        each = self.deployment.parallelism.devices_per_replica
        count = np.asarray(replicas, dtype=float)
        if not self.whole_nodes:
            return count * each
        if each >= self.node:
            return count * self.step
        return np.ceil(count / (self.node // each)) * self.node

    def replicas_in(self, gpus: Numbers) -> Any:
        """Whole replicas that so many GPUs hold."""
        each = self.deployment.parallelism.devices_per_replica
        count = np.asarray(gpus, dtype=float)
        if not self.whole_nodes:
            return np.floor(count / each)
        if each >= self.node:
            return np.floor(count / self.step)
        return np.floor(count / self.node) * (self.node // each)

    def outcome(self, values: Values, *, replicas: Numbers | None = None) -> Outcome:
        """What the choice comes to; ``replicas`` fixes how many there are, and latencies are then of that fleet."""
        curve, error = self._curves(values)
        rate = np.asarray(self.value(values, "workload.request_rate"), dtype=float)
        shape = np.broadcast_shapes(*(np.shape(value) for value in values.values()))
        factors = self._factors(values, shape)
        capacity = capacity_of(curve, self._limits(values), ttft_factor=factors[0], tpot_factor=factors[1]).rate
        with np.errstate(divide="ignore"):
            # a hair below a whole number is that number
            needed = np.where(capacity > 0, np.maximum(np.ceil(rate / capacity * (1 - 1e-9)), 1.0), np.inf)
        count = needed if replicas is None else np.broadcast_to(np.asarray(replicas, dtype=float), needed.shape)
        gpus = self.gpus_for(count)
        ttft, tpot = self._latency(curve, factors, rate / count)
        hour = self.device_hour(values) * gpus
        tokens = self._tokens(values)
        served = rate * np.asarray(self.value(values, "workload.mean_share", 1.0)) * tokens
        figures = {
            "capacity": capacity, "replicas": count, "gpus": gpus, "usd_per_hour": hour, "usd_per_year": hour * HOURS_PER_YEAR,
            "usd_per_million_tokens": hour / 3600 / served * 1e6, "ttft": ttft, "tpot": tpot,
        }  # fmt: skip
        return Outcome(
            interpolation_error=error, **{name: np.broadcast_to(found, shape) for name, found in figures.items()}
        )

    def _limits(self, values: Values) -> tuple[Limit, ...]:
        """The limits as limits on means, arrays where cases differ in ``target.<name>`` [s] or in how latencies scatter."""
        found = []
        for limit in self.limits:
            metric = "tpot" if limit.metric == "itl" else limit.metric
            variation = self.value(values, f"scatter.{metric}", getattr(self.scatter, metric))
            seconds: Any = self.value(values, f"target.{limit.name}", limit.seconds)
            found.append(Limit(limit.metric, None, seconds / tail_factor(limit.percentile, variation)))
        return tuple(found)

    def device_hour(self, values: Values) -> Any:
        """USD per device and hour; not a number where no price is known."""
        if self.hourly is None:
            return np.asarray(self.value(values, "price.per_hour", math.nan), dtype=float)
        return np.asarray(self.hourly(self.seen(values)), dtype=float)

    def seen(self, values: Values) -> dict[str, Numbers]:
        """The assumptions under the names that the choice reads: its own in place of shared ones, those of others left out of account."""
        mark = f"{self.name}."
        own = {name.removeprefix(mark): value for name, value in values.items() if self.name and name.startswith(mark)}
        return {**values, **own}

    def _tokens(self, values: Values) -> Any:
        generates = self.deployment.model.task == "generate"
        workload = self.deployment.workload
        if generates:
            return np.asarray(self.value(values, "workload.output_tokens", workload.output_tokens))
        return np.asarray(self.value(values, "workload.input_tokens", workload.input_tokens))

    def _factors(self, values: Values, shape: tuple[int, ...]) -> tuple[Array, Array]:
        """Measured over predicted TTFT and TPOT, one of each per case."""
        first, each = (
            np.broadcast_to(np.asarray(self.value(values, f"prediction.{name}", 1.0), dtype=float), shape)
            for name in ("ttft", "tpot")
        )
        return first, each

    def _curves(self, values: Values) -> tuple[ServiceCurve, float]:
        """Service curves of the cases, and the mean error of their capacities where they are interpolated."""
        workload, drafter = self.deployment.workload, self.deployment.drafter
        reached = drafter.reached[0] if drafter is not None and drafter.reached else 0.0
        prompt = np.maximum(self.value(values, "workload.input_tokens", workload.input_tokens), 1.0)
        output = np.maximum(self.value(values, "workload.output_tokens", workload.output_tokens), 1.0)
        hit = np.clip(self.value(values, "workload.prefix_hit", workload.prefix_hit), 0.0, 1.0)
        accepted = np.clip(self.value(values, "speculation.acceptance", reached), 0.0, 1.0)
        cases = np.broadcast_arrays(prompt, output, hit, accepted)
        if cases[0].size <= EXACT_CASES or _alike(cases):
            return self._computed(cases), 0.0
        found = interpolated_curves(self.deployment, *cases)
        some = np.linspace(0, cases[0].size - 1, CHECKED_CASES).astype(int)
        computed = exact_curves(self.deployment, *(case.ravel()[some] for case in cases))
        kept = ServiceCurve(**{name: getattr(found, name)[some] for name in ServiceCurve.__dataclass_fields__})
        true, near = (capacity_of(curve, self.limits, scatter=self.scatter).rate for curve in (computed, kept))
        error = float(np.mean(np.abs(near - true)) / np.maximum(np.mean(true), 1e-30))
        return (found, error) if error <= TOLERATED else (exact_curves(self.deployment, *cases), 0.0)

    def _computed(self, cases: Sequence[Array]) -> ServiceCurve:
        if not _alike(cases):
            return exact_curves(self.deployment, *cases)
        key = tuple(float(case.flat[0]) for case in cases)
        if key not in self._known:
            self._known[key] = exact_curves(self.deployment, *key)
        return self._known[key]

    @functools.cached_property
    def _known(self) -> dict[tuple[float, ...], ServiceCurve]:
        """Curves of single workloads, which stay while prices and errors vary."""
        return {}

    def _latency(self, curve: ServiceCurve, factors: tuple[Array, Array], rate: Array) -> tuple[Array, Array]:
        """Means at ``rate`` per replica. A prediction that is off by a factor changes the rate at which a load is met, too."""
        stretched = _stretched(curve, *factors, rate.shape)
        ttft, tpot = stretched.read(rate, "ttft", "tpot")
        over = rate > stretched.rate[..., -1] * (1 + 1e-9)
        return np.where(over, np.inf, ttft), np.where(over, np.inf, tpot)


def _stretched(curve: ServiceCurve, ttft_factor: Array, tpot_factor: Array, cases: tuple[int, ...]) -> ServiceCurve:
    """A curve for every case whose times are multiplied; by Little's law its rates are divided accordingly."""
    first, each = ttft_factor[..., None], tpot_factor[..., None]
    ttft, tpot = curve.ttft * first, curve.tpot * each
    e2e = ttft + (curve.e2e - curve.ttft) * each
    rate = np.maximum.accumulate(curve.rate * curve.e2e / e2e, axis=-1)
    shape = (*cases, rate.shape[-1])
    fields = (curve.users, ttft, tpot, e2e, rate, curve.running, curve.prefill_share)
    return ServiceCurve(*(np.broadcast_to(values, shape) for values in fields))


def _alike(cases: Sequence[Array]) -> bool:
    return all(case.min() == case.max() for case in cases)
