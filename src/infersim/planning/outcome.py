"""What one deployment comes to under given assumptions: capacity, GPUs needed, money, latency. Everything broadcasts."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from infersim.errors import DoesNotFitError, SpecError, UnsupportedError, did_you_mean
from infersim.ops.base import Numbers
from infersim.planning.assumptions import Assumption
from infersim.planning.disaggregated import transfer_seconds
from infersim.planning.distributions import Array
from infersim.planning.lattice import NODES, Cases, Tables, curve_tables, interpolated
from infersim.planning.service import Scatter, tail_factor
from infersim.planning.sustained import Factors, pool_latency, pool_rates, pool_tables, replica_latency, replica_rate
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
    """Arrays over the cases. Money in USD, ``capacity`` in requests/s of one replica; of two pools, that of the fleet for each decode
    replica.

    ``gpus`` serve the request rate within the limits, in whole replicas or whole nodes; infinite where no number does. Tokens are
    output tokens, or prompt tokens of a model that generates none; all of the money is over them. ``ttft`` and ``tpot`` are means
    [s] at the load of one of the replicas, infinite where they are overloaded.
    """

    capacity: Array
    gpus: Array
    usd_per_hour: Array
    usd_per_year: Array
    usd_per_million_tokens: Array
    ttft: Array
    tpot: Array
    replicas: tuple[Array, ...]
    """Of the decode or only pool, and of the prefill pool where there is one."""
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

    With ``prefill`` it is two pools, and ``deployment`` one replica of the decode pool. Assumptions are looked up under
    ``name.assumption`` first, then under the assumption's own name, which choices share.
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
    prefill: Estimate | None = None
    """One replica of a pool for prompts; rented or owned on the same terms."""

    def __post_init__(self) -> None:
        for one in self.pools:
            if not one.fits:
                raise DoesNotFitError(str(one), shortfall=one.memory.shortfall)
            if one.parallelism.replicas != 1:
                raise UnsupportedError(f"{one.describe()}: a choice is one replica; how many are needed is the answer")
        if self.prefill is not None and not np.isfinite(transfer_seconds([self.prefill], [self.deployment])).all():
            raise UnsupportedError(f"{self.describe()}: no cache can be handed over between these")

    @property
    def pools(self) -> tuple[Estimate, ...]:
        """One replica of every pool, the decode pool first."""
        return (self.deployment,) if self.prefill is None else (self.deployment, self.prefill)

    def describe(self) -> str:
        """The choice in a line."""
        if self.prefill is None:
            return self.deployment.describe()
        one = self.deployment
        scheme, gpu = one.precision.name or one.precision.weights, one.machine.accelerator.name
        pools = f"{self.prefill.parallelism} prefill + {one.parallelism} decode"
        return f"{one.model.name} {scheme}, {pools} on {gpu} ({one.machine.engine.name})"

    def value(self, values: Values, name: str, default: Numbers | None = None) -> Numbers:
        """An assumption of the choice."""
        found = values.get(f"{self.name}.{name}", values.get(name, default))
        if found is None:
            raise SpecError(f"no value for {name!r}", field=self.name or None)
        return found

    def outcome(self, values: Values, *, replicas: tuple[Numbers, ...] | None = None) -> Outcome:
        """What the choice comes to; ``replicas`` fixes how many there are of each pool, and latencies are then of that fleet."""
        shape = np.broadcast_shapes(*(np.shape(value) for value in values.values()))
        tables, error = self._tables(values)
        factors, tokens = self._factors(values, shape), self._tokens(values)
        load = np.broadcast_to(np.asarray(self.value(values, "workload.request_rate"), dtype=float), shape)
        rates = self._rates(tables, values, factors)
        with np.errstate(divide="ignore", invalid="ignore"):
            # a hair below a whole number is that number
            needed = [np.where(rate > 0, np.maximum(np.ceil(load / rate * (1 - 1e-9)), 1.0), np.inf) for rate in rates]
            counts = (
                needed if replicas is None else [np.broadcast_to(np.asarray(n, dtype=float), shape) for n in replicas]
            )
            each = tuple(load / count for count in counts)
            served = np.min([rate * count for rate, count in zip(rates, counts, strict=True)], axis=0)
            capacity = np.where(np.isfinite(counts[0]), served / counts[0], 0.0)
        gpus = sum(gpus_for(count, one, self.whole_nodes) for count, one in zip(counts, self.pools, strict=True))
        ttft, tpot = (replica_latency if self.prefill is None else pool_latency)(tables, factors, each)
        hour = self.device_hour(values) * gpus
        sold = load * np.asarray(self.value(values, "workload.mean_share", 1.0)) * tokens
        figures = {
            "capacity": capacity, "gpus": gpus, "usd_per_hour": hour, "usd_per_year": hour * HOURS_PER_YEAR,
            "usd_per_million_tokens": hour / 3600 / sold * 1e6, "ttft": ttft, "tpot": tpot,
        }  # fmt: skip
        return Outcome(
            replicas=tuple(counts), interpolation_error=error,
            **{name: np.broadcast_to(found, shape) for name, found in figures.items()},
        )  # fmt: skip

    def device_hour(self, values: Values) -> Any:
        """USD per device and hour; not a number where no price is known."""
        if self.hourly is None:
            return np.asarray(self.value(values, "price.per_hour", math.nan), dtype=float)
        return np.asarray(self.hourly(self.seen(values)), dtype=float)

    def seen(self, values: Values) -> dict[str, Numbers]:
        """The assumptions under the names that the choice reads: its own in place of shared ones."""
        mark = f"{self.name}."
        own = {name.removeprefix(mark): value for name, value in values.items() if self.name and name.startswith(mark)}
        return {**values, **own}

    def _rates(self, tables: Tables, values: Values, factors: Factors) -> tuple[Array, ...]:
        """Requests/s of one replica of every pool within the limits."""
        limits = self._limits(values)
        if self.prefill is None:
            return replica_rate(tables, limits, factors)
        return pool_rates(tables, limits, factors, self._tokens(values))

    def _limits(self, values: Values) -> tuple[Limit, ...]:
        """The limits as limits on means, arrays where cases differ in ``target.<name>`` [s] or in how latencies scatter."""
        found = []
        for limit in self.limits:
            metric = "tpot" if limit.metric == "itl" else limit.metric
            variation = self.value(values, f"scatter.{metric}", getattr(self.scatter, metric))
            seconds: Any = self.value(values, f"target.{limit.name}", limit.seconds)
            found.append(Limit(limit.metric, None, seconds / tail_factor(limit.percentile, variation)))
        return tuple(found)

    def _tokens(self, values: Values) -> Any:
        """Tokens of a request that money is counted over."""
        name = "output_tokens" if self.deployment.model.task == "generate" else "input_tokens"
        return np.asarray(self.value(values, f"workload.{name}", getattr(self.deployment.workload, name)), dtype=float)

    def _factors(self, values: Values, shape: tuple[int, ...]) -> Factors:
        first, each = (
            np.broadcast_to(np.asarray(self.value(values, f"prediction.{name}", 1.0), dtype=float), shape)
            for name in ("ttft", "tpot")
        )
        return first, each

    def _tables(self, values: Values) -> tuple[Tables, float]:
        """Curves of the cases, and the mean error of their capacities where they are interpolated."""
        workload, drafter = self.deployment.workload, self.deployment.drafter
        reached = drafter.reached[0] if drafter is not None and drafter.reached else 0.0
        given = (
            np.maximum(self.value(values, "workload.input_tokens", workload.input_tokens), 1.0),
            np.maximum(self.value(values, "workload.output_tokens", workload.output_tokens), 1.0),
            np.clip(self.value(values, "workload.prefix_hit", workload.prefix_hit), 0.0, 0.999),
            np.clip(self.value(values, "speculation.acceptance", reached), 0.0, 1.0),
        )
        cases = dict(zip(NODES, np.broadcast_arrays(*given), strict=True))
        if cases["input_tokens"].size <= EXACT_CASES or _alike(cases):
            return self._computed(cases), 0.0
        found = interpolated(self._compute, cases)
        some = np.linspace(0, cases["input_tokens"].size - 1, CHECKED_CASES).astype(int)
        near = {name: values[some] for name, values in found.items()}
        true = self._compute({name: values[some] for name, values in cases.items()})
        base: Values = {name: float(np.ravel(value)[0]) for name, value in values.items()}
        plain = self._factors({}, (CHECKED_CASES,))
        pairs = [self._rates(tables, base, plain) for tables in (near, true)]
        error = max(
            float(np.mean(np.abs(one - two)) / np.maximum(np.mean(two), 1e-30)) for one, two in zip(*pairs, strict=True)
        )
        return (found, error) if error <= TOLERATED else (self._compute(cases), 0.0)

    def _compute(self, cases: Cases) -> Tables:
        if self.prefill is None:
            return curve_tables(self.deployment, cases)
        return pool_tables(self.deployment, self.prefill, cases)

    def _computed(self, cases: Cases) -> Tables:
        if not _alike(cases):
            return self._compute(cases)
        key = tuple(float(case.flat[0]) for case in cases.values())
        if key not in self._known:
            self._known[key] = self._compute({name: np.array(value) for name, value in zip(cases, key, strict=True)})
        return self._known[key]

    @functools.cached_property
    def _known(self) -> dict[tuple[float, ...], Tables]:
        """Curves of single workloads, which stay while prices and errors vary."""
        return {}


def _alike(cases: Cases) -> bool:
    return all(case.min() == case.max() for case in cases.values())


def gpus_for(replicas: Numbers, deployment: Estimate, whole_nodes: bool = False) -> Any:
    """GPUs of so many replicas; in whole nodes, one holds as many whole replicas as fit, and larger replicas take whole nodes.

    >>> from infersim import estimate
    >>> one = estimate("meta-llama/Llama-3.1-70B", "H100-SXM", tensor_parallel=2, precision="fp8")
    >>> float(gpus_for(5, one)), float(gpus_for(5, one, whole_nodes=True))
    (10.0, 16.0)
    """
    each, system = deployment.parallelism.devices_per_replica, deployment.machine.system
    node = system.devices_per_node if whole_nodes and system is not None else 1
    count = np.asarray(replicas, dtype=float)
    if each >= node:
        return count * -(-each // node) * node
    return np.ceil(count / (node // each)) * node
