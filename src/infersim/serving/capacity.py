"""The highest request rate at which a deployment still meets its service levels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from infersim.errors import SpecError
from infersim.predict.estimate import Estimate, estimate
from infersim.serving.arrivals import Constant, Gamma
from infersim.serving.result import ServingResult
from infersim.serving.simulate import simulate_deployment
from infersim.serving.target import Limit, read_limits
from infersim.serving.traffic import Traffic

MOST_TRIALS = 40


@dataclass(frozen=True)
class Capacity:
    """``rate`` requests per second meet the limits, ``missed_at`` do not; ``at`` is the run at ``rate``.

    Where even one request at a time misses, ``rate`` is zero and ``at`` the run at ``missed_at``. A search that was interrupted
    has the bounds found until then; ``missed_at`` is infinite where no rate had missed yet.
    """

    rate: float
    missed_at: float
    at: ServingResult
    trials: int
    interrupted: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The answer and the run behind it."""
        missed_at = self.missed_at if math.isfinite(self.missed_at) else None
        return {"capacity_requests_per_s": self.rate, "missed_at_requests_per_s": missed_at, "trials": self.trials,
                "interrupted": self.interrupted, "at": self.at.to_dict()}  # fmt: skip

    @property
    def sources(self) -> list[str]:
        """What the figures rest on."""
        return self.at.deployment.sources

    def __str__(self) -> str:
        if not self.rate:
            return "\n".join([f"the target is missed even at {self.missed_at:.3g} requests/s", *self.at.warnings])
        above = f"{self.missed_at:.3g} do not" if self.missed_at < math.inf else "none that misses it was tried"
        return f"{self.rate:.3g} requests/s meet the target, {above} ({self.trials} trials)\n{self.at.settled()}"


def with_rate(traffic: Traffic, rate: float) -> Traffic:
    """The same traffic at another rate. SpecError where its arrivals have none."""
    if not isinstance(traffic.arrivals, Gamma | Constant):
        raise SpecError(
            f"a capacity is a rate: arrivals must be gamma (poisson) or constant, not {traffic.arrivals.kind}",
            field="arrivals",
        )
    return traffic.model_copy(update={"arrivals": traffic.arrivals.model_copy(update={"rate": rate})})


def capacity(
    deployment: Estimate, traffic: Traffic, target: str | tuple[Limit, ...], *, tolerance: float = 0.02, seed: int = 0,
    **options: Any,
) -> Capacity:  # fmt: skip
    """Bisection on the simulator, every trial with the same draws: the rate to within ``tolerance`` (relative).

    Starts from the closed form's throughput under a closed loop that fills every slot, above which no rate is stable.
    Statistics are those of the settled part of each run; an unstable run misses every limit. Ctrl-C ends the search with the
    bounds found so far; KeyboardInterrupt goes on where no trial had ended.

    >>> from infersim import estimate
    >>> from infersim.serving.arrivals import poisson
    >>> e = estimate("meta-llama/Llama-3.1-8B", "H100-SXM")
    >>> found = capacity(e, Traffic(arrivals=poisson(1), num_requests=2000), "ttft_p95=200ms,tpot_p95=15ms", tolerance=0.1)
    >>> found.rate < found.missed_at < found.rate * 1.12
    True
    """
    limits = read_limits(target) if isinstance(target, str) else target
    if not limits:
        raise SpecError("a capacity needs at least one limit", field="target")
    if not 0 < tolerance < 1:
        raise SpecError(f"must lie between 0 and 1, got {tolerance!r}", field="tolerance")
    low, missed, trials, interrupted = 0.0, math.inf, 0, False
    best: ServingResult | None = None
    worst: ServingResult | None = None

    def meets(rate: float) -> bool:
        nonlocal low, missed, trials, best, worst
        result = simulate_deployment(deployment, with_rate(traffic, rate), seed=seed, target=limits, **options)
        if result.interrupted:
            raise KeyboardInterrupt
        trials += 1
        good = not result.unstable and not result.settled().missed_targets
        if good:
            low, best = rate, result
        else:
            missed, worst = rate, result
        return good

    try:
        rate = saturation(deployment, traffic)
        while meets(rate) and trials < MOST_TRIALS:
            rate *= 2
        least = rate / 4096
        while (missed - low > tolerance * missed if low else missed > least) and trials < MOST_TRIALS:
            meets((low + missed) / 2 if low else missed / 2)
    except KeyboardInterrupt:
        interrupted = True
    at = best or worst
    if at is None:
        raise KeyboardInterrupt
    return Capacity(low, missed, at, trials, interrupted)


def saturation(deployment: Estimate, traffic: Traffic) -> float:
    """Requests per second of the closed form with every slot of every replica taken: about the most that can be served."""
    slots = 2.0 * (deployment.knobs.max_num_seqs or deployment.machine.max_num_seqs) * deployment.parallelism.replicas
    p = deployment.parallelism
    full = estimate(
        deployment.model, deployment.machine.accelerator, tensor_parallel=p.tensor, pipeline_parallel=p.pipeline,
        attention_data_parallel=p.attention_data, expert_parallel=p.expert, context_parallel=p.context, replicas=p.replicas,
        precision=deployment.precision, engine=deployment.machine.engine.name, system=deployment.machine.system,
        mode=deployment.machine.mode, input_tokens=traffic.mean_input, output_tokens=traffic.mean_output,
        concurrency=slots * p.attention_data, sampler=deployment.sampler, knobs=deployment.knobs,
    )  # fmt: skip
    return full.requests_per_second
