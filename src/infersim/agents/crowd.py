"""Many tasks at once on one deployment: the serving simulator with sessions like the workflow's, and the bounds of theory beside it.

The calls that a workflow makes of the deployment become turns of a session: their number, new and output tokens and the pauses between
them (tools, people, calls of other models) are drawn from the simulated tasks, each independently. Contexts grow turn by turn and stay in
the engine's prefix cache while a tool works, as far as the KV pool has room.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from infersim import units
from infersim.agents.closed_loop import knee, mean_value_analysis, throughput_bound
from infersim.agents.residency import idle_lifetime
from infersim.agents.spec import Crowd
from infersim.agents.walk import Walk
from infersim.errors import SpecError
from infersim.predict.estimate import Estimate
from infersim.serving.arrivals import ClosedLoop
from infersim.serving.durations import EmpiricalTime
from infersim.serving.lengths import Empirical, Fixed
from infersim.serving.result import ServingResult
from infersim.serving.simulate import simulate_deployment
from infersim.serving.traffic import Sessions, SharedPrefixes, Traffic
from infersim.specs.workload import Workload

ROUNDS, TASKS = 5, 500
"""Tasks per session, and in all, that are simulated at least; the first and the last of each session are not counted."""
KEPT = 4000
MOST_REQUESTS = 400_000
PERCENTS = (50, 90, 95, 99)


@dataclass(frozen=True)
class CrowdAnswer:
    """What M sessions at once do to each other."""

    crowd: Crowd
    run: ServingResult = field(repr=False)
    times: Any = field(repr=False)
    """From the first call of a task to its last answer, by counted task [s]."""
    tasks_per_second: float
    """Tasks that begin per second once every session has begun its first."""
    alone: float
    """Mean time of a task's calls on the deployment while nobody else is there [s]."""
    elsewhere: float
    """Mean time of a task outside the deployment, the pause before it included [s]."""
    most: float
    """Tasks per second of the saturated deployment, in closed form."""
    calls: float
    """Mean calls of the deployment per task."""
    lifetime: float
    """How long the KV pool keeps a conversation that waits, in closed form (``residency.idle_lifetime``) [s]."""
    survival: float
    """Share of the pauses that are shorter."""

    @property
    def bound(self) -> float:
        """Most tasks per second that so many sessions can make: min(M / (R + Z), X_max)."""
        return float(throughput_bound(self.crowd.sessions, self.alone, self.elsewhere, self.most))

    @property
    def knee(self) -> float:
        """Sessions from which on tasks must wait for each other."""
        return float(knee(self.alone, self.elsewhere, self.most))

    @property
    def theory(self) -> tuple[float, float]:
        """(tasks per second, seconds on the deployment) by mean value analysis: one queue of 1 / X_max a task, the rest a delay."""
        need = min(1 / self.most, self.alone)
        rates, waits = mean_value_analysis([need], self.crowd.sessions, self.elsewhere + self.alone - need)
        return float(rates[-1]), float(waits[-1]) + self.alone - need

    def percentile(self, percent: float) -> float:
        """Time of a task in the crowd [s]."""
        return float(np.percentile(self.times, percent)) if len(self.times) else math.nan

    @property
    def mean(self) -> float:
        return float(np.mean(self.times)) if len(self.times) else math.nan

    def to_dict(self) -> dict[str, Any]:
        rate, wait = self.theory
        return {
            "sessions": self.crowd.sessions, "think_s": self.crowd.think, "counted_tasks": len(self.times),
            "tasks_per_s": _known(self.tasks_per_second), "bound_tasks_per_s": self.bound, "knee_sessions": self.knee,
            "mva_tasks_per_s": rate, "mva_response_s": wait, "alone_s": self.alone, "elsewhere_s": self.elsewhere,
            "most_tasks_per_s": self.most, "cache_lifetime_s": _known(self.lifetime), "cache_survival": self.survival,
            "prefix_hit_rate": self.run.prefix_hit_rate, "preemptions": self.run.preemptions,
            "task_s": {"mean": _known(self.mean)} | {f"p{p}": _known(self.percentile(p)) for p in PERCENTS},
            "ttft_s": {f"p{p}": _known(self.run.percentile("ttft", p)) for p in PERCENTS}, "warnings": self.run.warnings,
        }  # fmt: skip

    def lines(self) -> list[str]:
        """What is printed of it."""
        shown = [
            units.show(value, "s")
            for value in (self.mean, self.percentile(50), self.percentile(95), self.percentile(99))
        ]
        return [
            f"{self.crowd.sessions:,} at once: task mean {shown[0]}, p50 {shown[1]}, p95 {shown[2]}, p99 {shown[3]}",
            f"  {self.tasks_per_second:.3g} tasks/s (bound {self.bound:.3g}, knee at {self.knee:,.0f} sessions), "
            f"{self.run.prefix_hit_rate:.0%} of prompts cached",
        ]


def _known(value: float) -> float | None:
    """A number, or None where it is none that a file can hold."""
    return value if math.isfinite(value) else None


def sessions_of(walked: Walk, crowd: Crowd, opening: int, seed: int = 0) -> Traffic:
    """Traffic like the workflow's calls of the deployment. ``opening``: tokens of the conversation before its first call."""
    counts = walked.own_calls[walked.own_calls > 0]
    if not len(counts):
        raise SpecError("no call of the workflow runs on the deployment, in the conversation", field="crowd")
    generator = np.random.default_rng([seed, 11])
    fresh, output, pause = (
        np.concatenate(parts) for parts in (walked.turns.fresh, walked.turns.output, walked.turns.pause)
    )
    first = np.isnan(pause)
    later = ~first if (~first).any() else first
    turns, often = np.unique(counts, return_counts=True)

    def some(values: Any) -> tuple[float, ...]:
        return tuple((generator.choice(values, KEPT) if len(values) > KEPT else values).tolist())

    shared = SharedPrefixes(tokens=Fixed(tokens=round(walked.prefix))) if walked.prefix >= 1 else None
    requests = round(max(crowd.sessions * ROUNDS, TASKS) * float(counts.mean()))
    return Traffic(
        input_tokens=Empirical(values=some(fresh[later])), output_tokens=Empirical(values=some(output)),
        arrivals=ClosedLoop.model_construct(concurrency=crowd.sessions, think=crowd.think, ramp=_ramp(walked, crowd)),
        num_requests=min(max(requests, 100), MOST_REQUESTS), prefixes=shared,
        sessions=Sessions.model_construct(
            turns=Empirical(values=tuple(turns.tolist()), weights=tuple(often.tolist())), think=_pauses(some(pause[~first])),
            first_tokens=Empirical(values=some(fresh[first] + opening)), max_context=None,
        ),
    )  # fmt: skip


def _pauses_of(traffic: Traffic) -> Any:
    assert traffic.sessions is not None
    return traffic.sessions.think


def _pauses(values: tuple[float, ...]) -> Any:
    return EmpiricalTime.model_construct(values=values or (0.0,), weights=None)


def _ramp(walked: Walk, crowd: Crowd) -> float:
    """First tasks are spread over a mean task, so that they do not march in step."""
    return float(walked.of("elapsed_s").mean()) if crowd.sessions > 1 else 0.0


def together(
    deployment: Estimate,
    walked: Walk,
    crowd: Crowd,
    opening: int,
    *,
    own_seconds: float,
    lengths: tuple[float, float, float],
    seed: int = 0,
) -> CrowdAnswer:
    """``crowd`` simulated on the deployment. ``own_seconds``: mean time of a task's calls of it at the load it was asked about;
    ``lengths``: mean prompt, output and cached tokens of such a call."""
    traffic = sessions_of(walked, crowd, opening, seed)
    run = simulate_deployment(deployment, traffic, seed=seed, routing="prefix_aware")
    calls = float(walked.own_calls.mean())
    prompt, output, cached = lengths
    hit = min(cached / prompt, 0.999)

    def at(users: float) -> Estimate:
        load = Workload(
            input_tokens=prompt, output_tokens=max(output, 1.0), concurrency=max(users, 1.0), prefix_hit=hit
        )
        return replace(deployment, workload=load)

    held = float(deployment.memory.max_sequences(prompt + output / 2))
    seats = float(deployment.knobs.max_num_seqs or deployment.machine.max_num_seqs)
    full = at(2 * min(held, seats) * deployment.parallelism.replicas)
    elapsed = float(walked.of("elapsed_s").mean())
    times, rate = _tasks(run, crowd)
    pause = _pauses_of(traffic)
    shared = min(walked.prefix, prompt - 1)
    room = deployment.memory.kv_tokens - run.mean_running / deployment.parallelism.replicas * (prompt + output) - shared
    each = rate / deployment.parallelism.replicas
    lifetime = (
        idle_lifetime(room, pause, tasks=each, turns=calls, context=prompt + output - shared) if rate > 0 else math.inf
    )
    return CrowdAnswer(
        crowd, run, times, rate, calls * at(deployment.parallelism.replicas).e2e, max(elapsed - own_seconds, 0.0) + crowd.think,
        full.requests_per_second / calls, calls, lifetime, pause.sums_below(lifetime)[0],
    )  # fmt: skip


def _tasks(run: ServingResult, crowd: Crowd) -> tuple[Any, float]:
    """Times of the tasks that began neither in the first nor in the last round, and how many begin per second meanwhile."""
    session = np.asarray(run.records.session)
    begun, ended = run.columns["arrival_s"], run.columns["finish_s"]
    count = int(session.max()) + 1 if len(session) else 0
    start, end = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(start, session, begun)
    np.maximum.at(end, session, np.nan_to_num(ended, nan=np.inf))
    first, last = min(crowd.sessions, count // 3), max(count - crowd.sessions, 2 * count // 3, 1)
    times = (end - start)[first:last]
    span = start[last - 1] - start[first] if last - 1 > first else 0.0
    rate = (last - 1 - first) / span if span > 0 else math.nan
    return times[np.isfinite(times)], rate
